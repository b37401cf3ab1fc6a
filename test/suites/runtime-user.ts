// The runtime's contract: user namespaces, namespaces of others, and what becomes of mounts of the host.

import { execFileSync, spawn } from 'node:child_process';
import { chmodSync, chownSync, mkdirSync, readFileSync, readlinkSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { waitFor } from '../setup/command';
import { childrenOf } from '../setup/processes';
import type { TestBundle } from './runtime-bundle';
import type { Change, Tools } from './runtime-case';

const FIRST_ID = 500_000;
const MAPPING = [{ containerID: 0, hostID: FIRST_ID, size: 65_536 }];

export function userCases({ out, sh }: Tools): void {
  const withUser =
    (change: Change = () => {}): Change =>
    (spec, bundle) => {
      spec.linux.namespaces.push({ type: 'user' } as never);
      Object.assign(spec.linux, { uidMappings: MAPPING, gidMappings: MAPPING });
      chmodSync(bundle.path, 0o711);
      for (const name of ['.', 'bin', 'tmp', 'mnt', 'dev', 'proc', 'sys'])
        chownSync(join(bundle.rootfs, name), FIRST_ID, FIRST_ID);
      change(spec, bundle);
    };

  test('a user namespace maps ids both ways', async () => {
    let bundle: TestBundle | undefined;
    const text = await out(
      'id -u; id -G; tr -s " " < /proc/self/uid_map; touch /tmp/of-user; stat -c %u /tmp/of-user',
      withUser((spec, given) => {
        bundle = given;
        spec.process.user = { uid: 5, gid: 6, additionalGids: [7] } as never;
        chmodSync(join(given.rootfs, 'tmp'), 0o777);
      }),
    );

    expect(text).toBe(`5\n6 7\n 0 ${FIRST_ID} 65536\n5`);
    expect(statSync(join(bundle?.rootfs ?? '', 'tmp/of-user')).uid).toBe(FIRST_ID + 5);
  });

  test('a user namespace has devices, proc and sys', async () => {
    const text = await out(
      'head -c 2 /dev/zero | wc -c; echo x > /dev/null; stat -c %t:%T /dev/null; ls /sys/kernel > /dev/null && echo sys; ls /proc/1 > /dev/null && echo proc',
      withUser(),
    );

    expect(text).toBe('2\n1:3\nsys\nproc');
  });

  test('root of a user namespace is nobody to the files of others', async () => {
    const result = await sh(
      'stat -c %u /v; touch /v/x',
      withUser((spec, bundle) => {
        const source = join(bundle.path, 'of-root');
        mkdirSync(source, { recursive: true });
        spec.mounts.push({ destination: '/v', type: 'bind', source, options: ['bind'] } as never);
      }),
    );

    expect(result.stdout).toBe('65534\n');
    expect(result.stderr).toMatch(/Permission denied/);
  });

  test('namespaces of a process are joined by their paths', async () => {
    const other = spawn('unshare', ['--net', '--ipc', '--uts', 'sleep', '1000'], { stdio: 'ignore' });
    try {
      const path = (file: string) => `/proc/${other.pid}/ns/${file}`;
      while (readlinkSync(path('uts')) === readlinkSync('/proc/self/ns/uts')) execFileSync('sleep', ['0.02']);
      const text = await out('for n in net ipc uts; do readlink /proc/self/ns/$n; done', (spec) => {
        spec.hostname = '';
        for (const namespace of spec.linux.namespaces) {
          const file = { network: 'net', ipc: 'ipc', uts: 'uts' }[namespace.type];
          if (file !== undefined) namespace.path = path(file);
        }
      });

      expect(text.split('\n')).toEqual(['net', 'ipc', 'uts'].map((file) => readlinkSync(path(file))));
    } finally {
      other.kill('SIGKILL');
    }
  });

  test('a pid namespace is joined by its path', async () => {
    const other = spawn('unshare', ['--pid', '--fork', '--kill-child', 'sleep', '987'], { stdio: 'ignore' });
    try {
      const isSleep = (pid: number) => readFileSync(`/proc/${pid}/cmdline`, 'utf8').startsWith('sleep');
      const pid = await waitFor('sleep in a namespace', () => childrenOf(other.pid ?? 0).find(isSleep));
      const text = await out('tr "\\0" " " < /proc/1/cmdline; test $$ -gt 1 && echo later', (spec) => {
        for (const namespace of spec.linux.namespaces)
          if (namespace.type === 'pid') namespace.path = `/proc/${pid}/ns/pid`;
      });

      expect(text).toBe('sleep 987 later');
    } finally {
      other.kill('SIGKILL');
    }
  });

  test('recursive attributes reach the mounts below, plain ones do not', async () => {
    let source = '';
    const text = (option: string) =>
      out('grep " /t" /proc/mounts | cut -d" " -f2,4 | cut -d, -f1', (spec, bundle) => {
        source = join(bundle.path, 'tree');
        mkdirSync(join(source, 'below'), { recursive: true });
        if (!execFileSync('cat', ['/proc/mounts'], { encoding: 'utf8' }).includes(`${source}/below`))
          execFileSync('mount', ['-t', 'tmpfs', 'below', join(source, 'below')]);
        spec.mounts.push({ destination: '/t', type: 'bind', source, options: ['rbind', option] } as never);
      });
    try {
      expect([await text('ro'), await text('rro')]).toEqual(['/t ro\n/t/below rw', '/t ro\n/t/below ro']);
    } finally {
      execFileSync('umount', [join(source, 'below')]);
    }
  });

  test.each([
    ['private', /^ - $/],
    ['slave', /^ (master:\d+ )?- $/],
  ])('the root is %s when asked for', async (rootfsPropagation, expected) => {
    const text = await out('grep " / rw" /proc/self/mountinfo', (spec) => {
      spec.linux.rootfsPropagation = rootfsPropagation;
    });

    expect(text.replace(/^.* \/ rw\S*( .*- ).*$/, '$1')).toMatch(expected);
  });
}
