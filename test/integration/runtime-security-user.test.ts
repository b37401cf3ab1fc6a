// Published attacks on container runtimes, where user namespaces and id-mapped mounts open new ways. Each case says what
// the attack is.

import { spawn } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describeUnless } from '../setup/needs';
import { type SpecChange, useRuntime } from '../suites/runtime-bench';
import { missingForContainers, mountsBelow } from '../suites/runtime-bundle';
import { runtimeLibrary } from '../suites/runtime-library';

const FIRST_ID = 300_000;
const MAPPING = [{ containerID: 0, hostID: FIRST_ID, size: 65_536 }];
const RACE_MS = Number(process.env['GANTRY_RACE_MS'] ?? 10_000);
const NOTHING = { bounding: [], effective: [], permitted: [], inheritable: [], ambient: [] };

describeUnless(missingForContainers())('attacks from a user namespace', () => {
  const runtime = useRuntime();
  const withUser =
    (change: SpecChange = () => {}): SpecChange =>
    (spec) => {
      spec.linux.namespaces.push({ type: 'user' } as never);
      Object.assign(spec.linux, { uidMappings: MAPPING, gidMappings: MAPPING });
      chmodSync(runtime.bundle.path, 0o711);
      for (const name of ['.', 'tmp', 'mnt', 'dev', 'root'])
        chownSync(join(runtime.bundle.rootfs, name), FIRST_ID, FIRST_ID);
      change(spec);
    };
  const run = (script: string, change?: SpecChange) =>
    runtimeLibrary(runtime.root).run(runtime.specOf(['sh', '-c', script], withUser(change)));

  test.each([true, false])('CVE-2022-29162: no capability is inheritable (user namespace: %s)', async (isOwn) => {
    const all = ['CAP_CHOWN', 'CAP_KILL', 'CAP_SYS_ADMIN'];
    const asked = { bounding: all, effective: all, permitted: all, inheritable: all };
    const change: SpecChange = (spec) => {
      spec.process.capabilities = asked as never;
    };
    const container = await runtime.running(['sleep', '1000'], isOwn ? withUser(change) : change);
    const added = await runtime.exec(container, ['grep', 'CapInh', '/proc/self/status'], { capabilities: asked });

    expect(readFileSync(`/proc/${container.pid}/status`, 'utf8')).toMatch(/^CapInh:\t0{16}\nCapPrm:\t0*200021\n/m);
    expect(added.stdout).toBe('CapInh:\t0000000000000000\n');
  });

  test('what init needs to set a user namespace up is gone: no set holds a capability', async () => {
    const { stdout } = await run('grep ^Cap /proc/self/status | cut -f2 | sort -u', (spec) => {
      spec.process.capabilities = NOTHING;
      spec.process.user = { uid: 1000, gid: 1000 } as never;
    });

    expect(stdout).toBe('0000000000000000\n');
  });

  test('CVE-2019-5736: the host cannot be reached through /proc/self/exe', async () => {
    const itself = await run('exec /proc/self/exe true');
    const container = await runtime.create(runtime.optionsFor(['sleep', '100'], withUser()));

    // It is the image's busybox by now.
    expect(itself.stderr).toContain('applet not found');
    expect(() => openSync(`/proc/${container.pid}/exe`, 'r+')).toThrow(/ETXTBSY|EPERM|EACCES/);
  });

  test('CVE-2024-21626: trees and listeners that were handed over are not inherited', async () => {
    const source = join(runtime.bundle.path, 'volume');
    mkdirSync(source);
    const { stdout } = await run('ls /proc/self/fd | wc -l; ls -l /proc/self/fd', (spec) => {
      for (let i = 0; i < 20; i++)
        spec.mounts.push({ destination: `/mnt/v${i}`, type: 'bind', source, options: ['bind', 'idmap'] } as never);
    });

    // 0 to 2, and the directory that ls reads.
    expect(stdout).toMatch(/^4\n/);
  });

  test('an id-mapped mount gives nobody the files of the host', async () => {
    const source = join(runtime.bundle.path, 'volume');
    mkdirSync(source);
    writeFileSync(join(source, 'private'), 'secret', { mode: 0o600 });
    chownSync(join(source, 'private'), 0, 0);
    const idmap = [{ containerID: 0, hostID: FIRST_ID + 1, size: 1 }];
    const { stdout, stderr } = await run('cat /v/private; cat /w/private; touch /v/x', (spec) => {
      spec.process.capabilities = NOTHING;
      spec.mounts.push(
        { destination: '/v', type: 'bind', source, options: ['bind'] } as never,
        { destination: '/w', type: 'bind', source, options: ['bind'], uidMappings: idmap, gidMappings: idmap } as never,
      );
    });

    expect(stdout).toBe('');
    expect(stderr.match(/Permission denied/g)).toHaveLength(3);
  });

  test('CVE-2023-25809: neither cgroups nor settings of the host can be written', async () => {
    const result = await run(
      'for f in $(find /sys/fs/cgroup -name tasks -o -name cgroup.procs); do echo tried; echo 0 > $f && echo wrote; done; echo 1 > /proc/sys/kernel/panic && echo wrote; touch /sys/kernel/x && echo wrote',
      (spec) => {
        spec.linux.namespaces = spec.linux.namespaces.filter(({ type }) => type !== 'network');
        spec.linux.readonlyPaths = [];
      },
    );

    expect(result.error).toBeUndefined();
    expect(result.stdout).toContain('tried');
    expect(result.stdout).not.toContain('wrote');
  });

  test(
    'CVE-2021-30465: id-mapped mounts on a target that is swapped for a link all the time stay inside',
    async () => {
      const outside = mkdtempSync(join(tmpdir(), 'gantry-outside-'));
      mkdirSync(join(outside, 'target'));
      chmodSync(outside, 0o777);
      mkdirSync(join(runtime.bundle.rootfs, 'volume/target'), { recursive: true });
      const source = join(runtime.bundle.path, 'source');
      mkdirSync(source);
      const script = `cd ${runtime.bundle.rootfs}; ln -s ../../../../../../..${outside} evil; while true; do mv volume keep 2>/dev/null; mv evil volume; mv volume evil; mv keep volume; done`;
      const swapper = spawn('sh', ['-c', script], { stdio: 'ignore' });
      const end = Date.now() + RACE_MS;
      let rounds = 0;
      try {
        for (; Date.now() < end; rounds++) {
          await run('true', (spec) => {
            const bind = { type: 'bind', source, options: ['rbind', 'ridmap'] };
            spec.mounts.push(
              { destination: '/volume/target', ...bind } as never,
              { destination: '/volume/made/directory', ...bind } as never,
              { destination: '/volume/tmpfs', type: 'tmpfs', source: 'tmpfs', options: [] } as never,
            );
            spec.linux.devices = [{ path: '/volume/null', type: 'c', major: 1, minor: 3 }] as never;
            spec.process.cwd = '/volume/cwd/made';
          });
          expect(mountsBelow(outside)).toEqual([]);
        }
      } finally {
        const done = new Promise((resolve) => swapper.once('exit', resolve));
        swapper.kill('SIGKILL');
        await done;
      }

      expect(rounds).toBeGreaterThan(0);
      expect(readdirSync(outside)).toEqual(['target']);
      expect(readdirSync(join(outside, 'target'))).toEqual([]);
      rmSync(outside, { recursive: true });
    },
    RACE_MS + 240_000,
  );
});
