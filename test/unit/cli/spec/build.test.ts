import { argsOf, buildSpec, type SpecOptions } from '../../../../cli/spec/build';
import type { ImageConfig, Spec } from '../../../../cli/spec/types';

const IMAGE: ImageConfig = { Env: ['PATH=/bin', 'A=image'], Cmd: ['sh'], WorkingDir: '/root' };

function build(options: SpecOptions = {}, args: string[] = [], image = IMAGE): Spec {
  const user = { uid: 0, gid: 0, additionalGids: [0] };
  return buildSpec({ namespace: 'default', id: 'web', rootPath: 'rootfs', image, args, env: [], user, options });
}

test('buildSpec() makes the defaults that containerd clients make', () => {
  const spec = build();

  expect(spec.process).toMatchObject({
    args: ['sh'],
    cwd: '/root',
    noNewPrivileges: true,
    env: ['PATH=/bin', 'A=image'],
  });
  expect(spec.process.rlimits).toEqual([{ type: 'RLIMIT_NOFILE', soft: 1024, hard: 1024 }]);
  expect(spec.process.capabilities?.inheritable).toBeUndefined();
  expect(spec.hostname).toBe('web');
  expect(spec.linux.cgroupsPath).toBe('/default/web');
  expect(spec.linux.namespaces.map(({ type }) => type)).toEqual(
    expect.arrayContaining(['pid', 'ipc', 'uts', 'mount', 'network']),
  );
  expect(spec.mounts.map(({ destination }) => destination)).toEqual([
    '/proc',
    '/dev',
    '/dev/pts',
    '/dev/shm',
    '/dev/mqueue',
    '/sys',
    '/run',
  ]);
  expect(spec.linux.maskedPaths).toContain('/proc/kcore');
  expect(spec.linux.readonlyPaths).toContain('/proc/sys');
  expect(spec.linux.resources.devices[0]).toEqual({ allow: false, access: 'rwm' });
  expect(spec.linux.seccomp?.defaultAction).toBe('SCMP_ACT_ERRNO');
  expect(() => JSON.stringify(spec)).not.toThrow();
});

test('buildSpec() gives a path to an image without one, and TERM to a terminal', () => {
  const spec = build({ tty: true }, ['ls'], {});

  expect(spec.process.env).toEqual(['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', 'TERM=xterm']);
  expect(spec.process.terminal).toBe(true);
  expect(spec.process.cwd).toBe('/');
});

test('buildSpec() turns limits into resources', () => {
  const { resources } = build({
    memory: '64m',
    memorySwap: '128m',
    cpus: '1.5',
    pidsLimit: '100',
    cpusetCpus: '0-1',
  }).linux;

  expect(resources.memory).toEqual({ limit: 64 * 2 ** 20, swap: 128 * 2 ** 20 });
  expect(resources.cpu).toEqual({ shares: 1024, quota: 150_000, period: 100_000, cpus: '0-1' });
  expect(resources.pids).toEqual({ limit: 100 });
});

test('buildSpec() drops the network namespace for --net-host and binds name resolution', () => {
  const spec = build({ netHost: true });

  expect(spec.linux.namespaces.map(({ type }) => type)).not.toContain('network');
  expect(spec.mounts.at(-1)).toMatchObject({ type: 'bind', options: ['rbind', 'ro'] });
});

test('buildSpec() joins and leaves namespaces as told', () => {
  const spec = build({ withNs: ['pid:/proc/1/ns/pid', 'uts:host'] });

  expect(spec.linux.namespaces).toContainEqual({ type: 'pid', path: '/proc/1/ns/pid' });
  expect(spec.linux.namespaces.map(({ type }) => type)).not.toContain('uts');
  expect(spec.hostname).toBeUndefined();
  expect(() => build({ withNs: ['pid'] })).toThrow('TYPE:PATH');
});

test('buildSpec() opens everything for --privileged', () => {
  const spec = build({ privileged: true });

  expect(spec.linux.seccomp).toBeUndefined();
  expect(spec.linux.maskedPaths).toEqual([]);
  expect(spec.linux.readonlyPaths).toEqual([]);
  expect(spec.linux.resources.devices).toEqual([{ allow: true, access: 'rwm' }]);
  expect(spec.linux.devices?.map(({ path }) => path)).toContain('/dev/null');
  expect(spec.mounts.find(({ type }) => type === 'sysfs')?.options).toContain('rw');
  expect(spec.process.noNewPrivileges).toBe(false);
});

test('buildSpec() switches seccomp off or takes a profile', () => {
  expect(build({ seccomp: false }).linux.seccomp).toBeUndefined();
  expect(build({ seccomp: 'unconfined' }).linux.seccomp).toBeUndefined();
  expect(build({ seccomp: 'default', privileged: true }).linux.seccomp).toBeDefined();
  expect(() => build({ seccomp: '/nonexistent.json' })).toThrow('cannot use seccomp profile');
});

test.each([
  [{ cpus: 'many' }, '--cpus'],
  [{ cpus: '0' }, '--cpus'],
  [{ memory: 'much' }, 'not a size'],
  [{ cwd: 'relative' }, 'absolute'],
  [{ rlimit: ['nofile'] }, '--rlimit'],
  [{ pidsLimit: 'x' }, '--pids-limit'],
] as [SpecOptions, string][])('buildSpec() refuses %j', (options, words) => {
  expect(() => build(options)).toThrow(words);
});

test('argsOf() combines entrypoint and command as docker does', () => {
  const image = { Entrypoint: ['/entry'], Cmd: ['default'] };

  expect(argsOf(image, [], undefined)).toEqual(['/entry', 'default']);
  expect(argsOf(image, ['x'], undefined)).toEqual(['/entry', 'x']);
  expect(argsOf(image, ['x'], '/other')).toEqual(['/other', 'x']);
  expect(argsOf(image, ['x'], '')).toEqual(['x']);
  expect(() => argsOf(image, [], '')).toThrow('no command');
  expect(() => argsOf({}, [], undefined)).toThrow('no command');
});
