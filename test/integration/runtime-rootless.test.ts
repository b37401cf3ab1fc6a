// Containers of an ordinary user: the command is run by one who has no rights but a user namespace, and ids that
// newuidmap(1) gives. /etc/subuid and /etc/passwd are the test's own, in a mount namespace of its own.

import { execFileSync, spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Spec } from '../../runtime-native/spec';
import { describeUnless } from '../setup/needs';
import { DelegatedGroup } from '../suites/delegated-group';
import {
  type Mutable,
  makeBundle,
  makeSpec,
  missingForContainers,
  mountsBelow,
  type TestBundle,
} from '../suites/runtime-bundle';

const RUNTIME = join(__dirname, '../../dist/bin/gantry-runtime');
const USER = 12_345;
const FIRST_ID = 200_000;
const SELF = [{ containerID: 0, hostID: USER, size: 1 }];
const MANY = [...SELF, { containerID: 1, hostID: FIRST_ID, size: 65_536 }];
const AS_USER = [
  '{ [ -z "$JOINED_GROUP" ] || echo 0 > "$JOINED_GROUP"; }',
  'mount --bind "$1/ids" /etc/subuid',
  'mount --bind "$1/ids" /etc/subgid',
  'mount --bind "$1/passwd" /etc/passwd',
  'cd "$1"',
  'shift',
  `exec setpriv --reuid ${USER} --regid ${USER} --clear-groups --inh-caps=-all "$@"`,
].join(' && ');

const missing = missingForContainers() ?? (existsSync('/usr/bin/newuidmap') ? undefined : 'newuidmap (package uidmap)');

describeUnless(missing)('an ordinary user', () => {
  let bundle: TestBundle;
  let group: DelegatedGroup | undefined;
  beforeEach(() => {
    bundle = makeBundle();
    chmodSync(bundle.path, 0o755);
    mkdirSync(join(bundle.path, 'state'));
    writeFileSync(join(bundle.path, 'ids'), `tester:${FIRST_ID}:65536\n`);
    const passwd = `${readFileSync('/etc/passwd', 'utf8')}tester:x:${USER}:${USER}::/:/bin/sh\n`;
    writeFileSync(join(bundle.path, 'passwd'), passwd);
  });
  afterEach(() => {
    expect(readdirSync(join(bundle.path, 'state'))).toEqual([]);
    expect(mountsBelow(bundle.path)).toEqual([]);
    bundle.remove();
  });

  const write = (args: readonly string[], mapping: object, change: (spec: Mutable<Spec>) => void = () => {}) => {
    const spec = makeSpec(bundle, 'r', args);
    spec.linux.namespaces.push({ type: 'user' } as never, { type: 'cgroup' } as never);
    Object.assign(spec.linux, { uidMappings: mapping, gidMappings: mapping });
    change(spec);
    writeFileSync(join(bundle.path, 'config.json'), JSON.stringify(spec));
    execFileSync('chown', ['-R', `${USER}:${USER}`, bundle.path]);
  };
  const command = (...args: string[]) => {
    const all = [
      '--mount',
      'sh',
      '-c',
      AS_USER,
      'sh',
      bundle.path,
      RUNTIME,
      '--root',
      join(bundle.path, 'state'),
      ...args,
    ];
    const output = join(bundle.path, 'output');
    const script = 'exec unshare "$@" > "$OUTPUT" 2> "$OUTPUT.err"';
    const { status } = spawnSync('sh', ['-c', script, 'sh', ...all], {
      env: { ...process.env, OUTPUT: output, JOINED_GROUP: group?.joinFile ?? '' },
    });
    const [stdout, stderr] = [readFileSync(output, 'utf8'), readFileSync(`${output}.err`, 'utf8')];
    return { status, stdout, stderr };
  };

  test('runs a container as itself alone', () => {
    write(
      ['sh', '-c', 'id; cat /proc/self/setgroups; cat /sys/fs/cgroup/*/tasks; mknod /tmp/n c 1 3; touch /tmp/f'],
      SELF,
    );
    const { status, stdout, stderr } = command('run', 'one');

    expect({ status, stdout: stdout.slice(0, 17) }).toEqual({ status: 0, stdout: 'uid=0(root) gid=0' });
    expect(stdout).toContain('deny\n');
    expect(stderr).toMatch(/mknod: .*Operation not permitted/);
    expect(execFileSync('stat', ['-c', '%u', join(bundle.rootfs, 'tmp/f')], { encoding: 'utf8' })).toBe(`${USER}\n`);
  });

  test('has the ids that newuidmap gives, and runs hooks and further processes', () => {
    write(['sleep', '1000'], MANY, (spec) => {
      spec.process.user = { uid: 7, gid: 8, umask: 0, additionalGids: [9] };
      spec.process.oomScoreAdj = 50;
      const hook = (file: string) => [{ path: '/bin/sh', args: ['sh', '-c', `cat /proc/self/uid_map > ${file}`] }];
      spec.hooks = { createRuntime: hook(join(bundle.path, 'host')), startContainer: hook('/tmp/inside') } as never;
    });

    expect(command('create', 'two')).toMatchObject({ status: 0, stderr: '' });
    expect(command('start', 'two')).toMatchObject({ status: 0, stderr: '' });
    const { pid } = JSON.parse(command('state', 'two').stdout) as { pid: number };
    const added = command('exec', '--user', '11:12', 'two', 'sh', '-c', 'id -u; echo $$; cat /proc/1/cmdline');
    const status = readFileSync(`/proc/${pid}/status`, 'utf8');
    expect(command('kill', 'two', 'KILL').status).toBe(0);
    expect(command('delete', '--force', 'two')).toMatchObject({ status: 0 });

    expect(added).toMatchObject({ status: 0, stderr: '' });
    expect(added.stdout).toMatch(/^11\n\d+\nsleep/);
    expect(status).toMatch(new RegExp(`^Uid:\\s+${FIRST_ID + 6}\\s`, 'm'));
    expect(status).toMatch(new RegExp(`^Groups:\\s+${FIRST_ID + 8} $`, 'm'));
    expect(readFileSync(join(bundle.path, 'host'), 'utf8')).toMatch(/0\s+0\s+4294967295/);
    expect(readFileSync(join(bundle.rootfs, 'tmp/inside'), 'utf8')).toMatch(new RegExp(`0\\s+${USER}\\s+1\\n`));
  });

  describe('with groups handed to it', () => {
    let handed: DelegatedGroup;
    beforeEach(() => {
      handed = new DelegatedGroup(`gantry-user-${bundle.name}`, USER);
      group = handed;
    });
    afterEach(() => {
      group = undefined;
      handed.remove();
    });

    test('limits a container, its further processes and updates, and leaves nothing', () => {
      write(['sleep', '1000'], MANY, (spec) => {
        spec.linux.cgroupsPath = handed.path('c');
        spec.linux.resources = { devices: [{ allow: false }], pids: { limit: 20 } } as never;
      });
      expect(command('create', 'four')).toMatchObject({ status: 0, stderr: '' });
      expect(command('start', 'four')).toMatchObject({ status: 0, stderr: '' });
      const exec = command('exec', 'four', 'cat', '/proc/self/cgroup');
      const update = command('update', '--pids-limit', '30', 'four');
      const limit = readFileSync(handed.file('pids', 'c/pids.max'), 'utf8');
      const pids = readFileSync(handed.file('pids', 'c/cgroup.procs'), 'utf8');
      const { pid } = JSON.parse(command('state', 'four').stdout) as { pid: number };
      expect(command('delete', '--force', 'four')).toMatchObject({ status: 0, stderr: '' });

      expect(exec).toMatchObject({ status: 0, stderr: '' });
      expect(exec.stdout).toMatch(/:(pids)?:\/$/m);
      expect(update).toMatchObject({ status: 0, stderr: '' });
      expect([limit, pids]).toEqual(['30\n', `${pid}\n`]);
      expect(existsSync(handed.file('pids', 'c'))).toBe(false);
    });

    test('has none beside them, and says so with --rootless=false', () => {
      write(['cat', '/proc/self/cgroup'], SELF, (spec) => {
        spec.linux.cgroupsPath = `${handed.path('')}-other`;
      });

      expect(command('run', 'five')).toMatchObject({ status: 0 });
      const { status, stderr } = command('--rootless=false', 'run', 'six');
      expect(status).toBe(1);
      expect(stderr).toMatch(/unable to apply cgroup configuration: .*permission denied/);
    });
  });

  test.each<[string, (spec: Mutable<Spec>) => void, string]>([
    [
      'limits',
      (spec) => (spec.linux.resources.pids = { limit: 5 }),
      'linux.resources.pids: needs cgroups, on which the caller has no rights',
    ],
    [
      'groups',
      (spec) => (spec.process.user.additionalGids = [0]),
      'process.user.additionalGids[0]: the kernel forbids',
    ],
    [
      'no user namespace',
      (spec) => {
        spec.linux.namespaces = spec.linux.namespaces.filter(({ type }) => type !== 'user');
        Object.assign(spec.linux, { uidMappings: [], gidMappings: [] });
      },
      'linux.namespaces: an ordinary user needs a user namespace',
    ],
    [
      'an id-mapped mount',
      (spec) =>
        spec.mounts.push({ destination: '/m', type: 'bind', source: '/tmp', options: ['bind', 'idmap'] } as never),
      'an ordinary user cannot id-map mounts',
    ],
    [
      'ids of others',
      (spec) => Object.assign(spec.linux, { uidMappings: [{ containerID: 0, hostID: 0, size: 10 }] }),
      'linux.uidMappings: newuidmap refuses: ',
    ],
  ])('is refused %s', (_what, change, words) => {
    write(['true'], SELF, change);
    const { status, stderr } = command('run', 'three');

    expect(status).not.toBe(0);
    expect(stderr).toContain(words);
  });
});
