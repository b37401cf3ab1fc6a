// What config.json says of processes, processors, memory nodes and network devices, as a container of the library sees it.

import { execFileSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { cpus } from 'node:os';
import { join } from 'node:path';
import { describeUnless } from '../setup/needs';
import { type SpecChange, useRuntime } from '../suites/runtime-bench';
import { missingForContainers, mountsBelow } from '../suites/runtime-bundle';
import { runtimeLibrary } from '../suites/runtime-library';

describeUnless(missingForContainers())('a process has what its configuration says', () => {
  const runtime = useRuntime();
  const run = (script: string, change?: SpecChange) =>
    runtimeLibrary(runtime.root).run(runtime.specOf(['sh', '-c', script], change));
  const ip = (...args: string[]) => execFileSync('ip', args, { encoding: 'utf8' });

  test.each<[string, object, RegExp]>([
    ['SCHED_OTHER', { nice: 5 }, /^0 5$/],
    ['SCHED_BATCH', { nice: 7 }, /^3 7$/],
    ['SCHED_IDLE', {}, /^5 0$/],
  ])('scheduler %s', async (policy, values, expected) => {
    const { error, stdout } = await run('cut -d" " -f41,19 /proc/1/stat', (spec) => {
      spec.process.scheduler = { policy, ...values } as never;
    });

    expect(error).toBeUndefined();
    const [nice, number] = stdout.trim().split(' ');
    expect(`${number} ${nice}`).toMatch(expected);
  });

  test('personality, umask, groups, out-of-memory score and terminal-less limits', async () => {
    const { stdout } = await run(
      'cat /proc/self/personality; umask; id -G; cat /proc/self/oom_score_adj; ulimit -n',
      (spec) => {
        spec.linux.personality = { domain: 'LINUX32', flags: [] };
        spec.process.user = { uid: 0, gid: 0, umask: 0o027, additionalGids: [7, 8] };
        spec.process.oomScoreAdj = 321;
        spec.process.rlimits = [{ type: 'RLIMIT_NOFILE', soft: 99, hard: 100 }];
      },
    );

    expect(stdout).toBe('00000008\n0027\n0 7 8\n321\n99\n');
  });

  test('ambient capabilities reach the program of an ordinary user', async () => {
    const { stdout } = await run('grep -E "Cap(Inh|Prm|Eff|Amb)" /proc/self/status', (spec) => {
      const kill = ['CAP_KILL'];
      spec.process.user = { uid: 1000, gid: 1000 } as never;
      spec.process.capabilities = {
        bounding: kill,
        effective: kill,
        permitted: kill,
        inheritable: kill,
        ambient: kill,
      };
    });

    expect(
      new Set(
        stdout
          .trim()
          .split('\n')
          .map((line) => line.split('\t')[1]),
      ),
    ).toEqual(new Set(['0000000000000020']));
  });

  test.each(['MPOL_BIND', 'MPOL_INTERLEAVE', 'MPOL_PREFERRED'])('memory policy %s', async (mode) => {
    const { error, stdout } = await run('cat /proc/self/numa_maps | head -1', (spec) => {
      spec.linux.memoryPolicy = { mode, nodes: '0', flags: ['MPOL_F_STATIC_NODES'] };
    });

    expect(error).toBeUndefined();
    const name = { MPOL_BIND: 'bind', MPOL_INTERLEAVE: 'interleave', MPOL_PREFERRED: 'prefer' }[mode];
    expect(stdout).toMatch(new RegExp(` ${name}=static:0 `));
  });

  test('an exec has the CPU affinity that its configuration says in the end', async () => {
    const container = await runtime.running();
    const last = cpus().length - 1;
    const change = { execCPUAffinity: { initial: '0', final: `${last}` } };
    const result = await runtime.exec(container, ['grep', 'Cpus_allowed_list', '/proc/self/status'], change);

    expect(result.stdout).toBe(`Cpus_allowed_list:\t${last}\n`);
  });

  test('I/O priority and the names of host and domain', async () => {
    const { error, stdout } = await run('cat /proc/sys/kernel/domainname; hostname', (spec) => {
      spec.domainname = 'domain.test';
      spec.process.ioPriority = { class: 'IOPRIO_CLASS_IDLE', priority: 0 };
    });

    expect({ error, stdout }).toEqual({ error: undefined, stdout: 'domain.test\nbox\n' });
  });

  test('a network device moves in with its address and a new name', async () => {
    const name = `g${runtime.bundle.name}`;
    ip('link', 'add', name, 'type', 'veth', 'peer', 'name', `${name}p`);
    ip('addr', 'add', '192.0.2.7/24', 'dev', name);
    ip('link', 'set', name, 'up');
    const { error, stdout } = await run('ip -o addr show eth7', (spec) => {
      spec.linux.netDevices = { [name]: { name: 'eth7' } };
    });

    expect(error).toBeUndefined();
    expect(stdout).toMatch(/eth7\s+inet 192\.0\.2\.7\/24/);
    expect(() => ip('link', 'show', name)).toThrow();
  });

  test('a network device comes back when the container cannot be made', async () => {
    const name = `g${runtime.bundle.name}`;
    ip('link', 'add', name, 'type', 'veth', 'peer', 'name', `${name}p`);
    ip('addr', 'add', '192.0.2.8/24', 'dev', name);
    try {
      const { error } = await runtimeLibrary(runtime.root).run(
        runtime.specOf(['/no/such'], (spec) => {
          spec.linux.netDevices = { [name]: {}, 'gantry-none': {} } as never;
        }),
      );
      const second = await runtimeLibrary(runtime.root).run(
        runtime.specOf(['/no/such'], (spec) => {
          spec.linux.netDevices = { [name]: { name: 'other' } };
        }),
      );

      expect(error).toContain('linux.netDevices["gantry-none"]: cannot be moved: no such device');
      expect(second.error).toContain('exec: "/no/such"');
      expect(ip('-o', 'addr', 'show', name)).toContain('192.0.2.8/24');
    } finally {
      ip('link', 'del', name);
    }
  });

  test('Intel RDT is refused where the kernel has none', async () => {
    const { error } = await run('true', (spec) => {
      spec.linux.intelRdt = { closID: 'gold' } as never;
    });

    expect(error).toContain('linux.intelRdt: needs the kernel');
  });

  test.each<[string, string, RegExp]>([
    ['private', 'grep " / / " /proc/self/mountinfo', / - /],
    ['unbindable', 'grep " / " /proc/self/mountinfo', / unbindable /],
    ['shared', 'grep " / " /proc/self/mountinfo', / shared:\d+/],
    ['slave', 'cat /proc/self/mountinfo', / \/ /],
  ])('root propagation %s', async (rootfsPropagation, script, expected) => {
    const { error, stdout } = await run(script, (spec) => {
      spec.linux.rootfsPropagation = rootfsPropagation;
    });

    expect(error).toBeUndefined();
    if (rootfsPropagation !== 'private') expect(stdout).toMatch(expected);
    else expect(stdout).not.toMatch(/shared:|master:|unbindable/);
  });

  test('recursive attributes reach mounts below, and remounts change what is there', async () => {
    const source = join(runtime.bundle.path, 'tree');
    mkdirSync(join(source, 'below'), { recursive: true });
    execFileSync('mount', ['-t', 'tmpfs', 'below', join(source, 'below')]);
    try {
      const { error, stdout } = await run('grep -E " /(t|below|s)" /proc/mounts', (spec) => {
        spec.mounts.push(
          {
            destination: '/t',
            type: 'bind',
            source,
            options: ['rbind', 'rro', 'rnosuid', 'rnoexec', 'rnodev'],
          } as never,
          {
            destination: '/s',
            type: 'tmpfs',
            source: 'tmpfs',
            options: ['sync', 'dirsync', 'noatime', 'iversion'],
          } as never,
          { destination: '/s', options: ['bind', 'remount', 'ro', 'nodev'], source: 'x' } as never,
        );
      });

      expect(error).toBeUndefined();
      expect(stdout).toMatch(/ \/t\/below tmpfs ro,nosuid,nodev,noexec/);
      expect(stdout).toMatch(/ \/s tmpfs ro,sync,dirsync,nodev,noatime/);
    } finally {
      execFileSync('umount', [join(source, 'below')]);
      expect(mountsBelow(source)).toEqual([]);
    }
  });
});
