import { validateSpec } from '../../../../runtime-native/config/validate';
import type { Operation } from '../../../../runtime-native/plan/operations';
import { type CreateContext, compileCreate, compileExec } from '../../../../runtime-native/plan/plan';
import type { Process, Spec } from '../../../../runtime-native/spec';

const PROCESS: Process = { args: ['sh'], env: ['PATH=/bin'], cwd: '/', user: { uid: 0, gid: 0 } };
const CONTEXT: CreateContext = {
  id: 'c1',
  bundle: '/bundle',
  rootfs: '/bundle/rootfs',
  mounts: { bundle: '/bundle', privateCgroupNamespace: false, cgroup: { version: 2, path: '/sys/fs/cgroup/c1' } },
  cgroupFiles: ['/sys/fs/cgroup/memory/c1/tasks'],
  terminal: false,
  seccomp: undefined,
  noPivotRoot: false,
  noNewKeyring: false,
  sharedParent: undefined,
  hasKcore: false,
};
const ALL = ['pid', 'network', 'ipc', 'uts', 'mount'].map((type) => ({ type }));

function compile(change: Partial<Spec> = {}, context: Partial<CreateContext> = {}): Operation[] {
  const spec: Spec = { ociVersion: '1.0.2', process: PROCESS, linux: { namespaces: ALL }, ...change };
  validateSpec(spec);
  return [...compileCreate(spec, { ...CONTEXT, ...context }).plan.operations];
}

const names = (operations: readonly Operation[]) => operations.map(({ op }) => op);

describe('compileCreate()', () => {
  test('sets up, gives up, waits and executes, in this order', () => {
    const operations = compile({
      hostname: 'h',
      root: { path: 'rootfs', readonly: true },
      mounts: [
        { destination: '/proc', type: 'proc' },
        { destination: '/data', type: 'bind', source: 'volume', options: ['rbind', 'ro'] },
      ],
      linux: {
        namespaces: [...ALL, { type: 'cgroup' }],
        sysctl: { 'net.ipv4.ip_forward': '1' },
        maskedPaths: ['/proc/kcore'],
        readonlyPaths: ['/proc/sys'],
      },
    });

    expect(names(operations).filter((name) => name !== 'device' && name !== 'symlink')).toEqual([
      'writeFile',
      'unshare',
      'propagation',
      'openTree',
      'root',
      'loopback',
      'procfs',
      'keyring',
      'enterRoot',
      'umask',
      'mount',
      'attach',
      'makeDirectory',
      'remount',
      'hostname',
      'sysctl',
      'readonly',
      'mask',
      'umask',
      'closeFiles',
      'changeDirectory',
      'bounding',
      'home',
      'stdioOwner',
      'user',
      'capabilities',
      'ambient',
      'changeDirectory',
      'findExecutable',
      'sync',
      'execute',
    ]);
  });

  test('is plain data', () => {
    const operations = compile();

    expect(JSON.parse(JSON.stringify(operations))).toEqual(operations);
  });

  test('enters the root after hooks that may want to mount into it from outside', () => {
    const hook = [{ path: '/bin/true' }];
    const operations = compile({ hooks: { prestart: hook, createContainer: hook } });

    const order = names(operations).filter((name) => ['root', 'device', 'sync', 'enterRoot'].includes(name));
    expect([...new Set(order)]).toEqual(['root', 'device', 'sync', 'enterRoot']);
    expect(operations.filter(({ op }) => op === 'sync')).toEqual([
      { op: 'sync', point: 'hooks' },
      { op: 'sync', point: 'containerHooks' },
      { op: 'sync', point: 'ready' },
    ]);
  });

  test('opens relative bind sources in the bundle', () => {
    const operations = compile({ mounts: [{ destination: 'data', type: 'bind', source: 'volume' }] });

    expect(operations).toContainEqual({ op: 'openTree', slot: 0, path: '/bundle/volume', recursive: false });
    expect(operations).toContainEqual(expect.objectContaining({ op: 'attach', slot: 0, target: '/data' }));
  });

  test('joins namespaces by path and makes the others', () => {
    const spec: Spec = {
      ociVersion: '1.0.2',
      process: PROCESS,
      linux: {
        namespaces: [
          { type: 'mount' },
          { type: 'network', path: '/run/netns/a' },
          { type: 'pid', path: '/proc/7/ns/pid' },
        ],
      },
    };
    const { plan, namespaces } = compileCreate(spec, CONTEXT);

    expect(namespaces.create).toBe(0x20000);
    expect(namespaces.enter).toEqual([{ type: 'pid', path: '/proc/7/ns/pid' }]);
    expect(plan.operations).toContainEqual({ op: 'joinPath', namespace: 'network', path: '/run/netns/a' });
    expect(names(plan.operations)).not.toContain('loopback');
  });

  test('loads a filter last, with a right that is kept only for that', () => {
    const seccomp = { filter: 'AAAAAAAAAAA=', flags: 0 };
    const operations = compile({}, { seccomp });

    const from = operations.findIndex(({ op }) => op === 'sync');
    expect(names(operations.slice(from))).toEqual(['sync', 'capabilities', 'seccomp', 'capabilities', 'execute']);
    expect(operations[from + 1]).toMatchObject({ effective: ['CAP_SYS_ADMIN'], permitted: ['CAP_SYS_ADMIN'] });
    expect(operations[from + 3]).toMatchObject({ effective: [], permitted: [] });
  });

  test('needs no right for a filter under no_new_privs', () => {
    const operations = compile(
      { process: { ...PROCESS, noNewPrivileges: true } },
      { seccomp: { filter: 'AAAAAAAAAAA=', flags: 0 } },
    );

    const from = operations.findIndex(({ op }) => op === 'sync');
    expect(names(operations.slice(from))).toEqual(['sync', 'seccomp', 'execute']);
  });

  test('joins a group once that is named twice', () => {
    const process = { ...PROCESS, user: { uid: 1, gid: 2, additionalGids: [20, 3, 20] } };

    expect(compile({ process })).toContainEqual({ op: 'user', uid: 1, gid: 2, groups: [20, 3] });
  });

  test('never gives inheritable capabilities that ambient does not need', () => {
    const all = ['CAP_CHOWN', 'CAP_KILL', 'CAP_NO_SUCH'];
    const capabilities = { bounding: all, effective: all, permitted: all, inheritable: all, ambient: ['CAP_KILL'] };
    const operations = compile({ process: { ...PROCESS, capabilities } });

    expect(operations).toContainEqual({
      op: 'capabilities',
      effective: ['CAP_CHOWN', 'CAP_KILL'],
      permitted: ['CAP_CHOWN', 'CAP_KILL'],
      inheritable: ['CAP_KILL'],
    });
  });

  test('sets the labels of security modules after everything that they might forbid, through a proc of its own', () => {
    const process = { ...PROCESS, apparmorProfile: 'profile', selinuxLabel: 'u:r:t:s0' };
    const operations = compile({ process, linux: { namespaces: ALL, maskedPaths: ['/proc/kcore'] } });

    expect(operations.filter(({ op }) => op === 'lsmLabel')).toEqual([
      { op: 'lsmLabel', path: 'self/attr/keycreate', label: 'u:r:t:s0' },
      { op: 'lsmLabel', path: 'self/attr/apparmor/exec', label: 'exec profile' },
      { op: 'lsmLabel', path: 'self/attr/exec', label: 'u:r:t:s0' },
    ]);
    const order = names(operations).filter((name) =>
      ['procfs', 'keyring', 'enterRoot', 'mask', 'lsmLabel', 'user'].includes(name),
    );
    expect(order).toEqual(['procfs', 'lsmLabel', 'keyring', 'enterRoot', 'mask', 'lsmLabel', 'lsmLabel', 'user']);
  });

  test('gives the mount label to what covers masked directories', () => {
    const linux = { namespaces: ALL, maskedPaths: ['/proc/scsi'], mountLabel: 'u:object_r:t:s0' };

    expect(compile({ linux })).toContainEqual({ op: 'mask', path: '/proc/scsi', label: 'u:object_r:t:s0' });
  });

  test('makes the shared parent of the root private when the host stays shared', () => {
    const operations = compile(
      { linux: { namespaces: ALL, rootfsPropagation: 'shared' } },
      { sharedParent: '/bundle' },
    );

    expect(operations.filter(({ op }) => op === 'propagation')).toEqual([
      { op: 'propagation', path: '/', propagation: 'rshared' },
      { op: 'propagation', path: '/bundle', propagation: 'private' },
      { op: 'propagation', path: '/', propagation: 'shared' },
    ]);
  });

  test.each<[string, Partial<Spec>, string]>([
    ['no process', { process: undefined as never }, 'process property must not be empty'],
    [
      'user namespace',
      { linux: { namespaces: [...ALL, { type: 'user' }] } },
      'linux.uidMappings: a new user namespace needs mappings',
    ],
    ['no mount namespace', { linux: { namespaces: [{ type: 'pid' }] } }, 'a new mount namespace is required'],
    [
      'hostname of the host',
      { hostname: 'h', linux: { namespaces: [{ type: 'mount' }] } },
      'unable to set hostname without a private UTS namespace',
    ],
    ['a namespace twice', { linux: { namespaces: [...ALL, { type: 'pid' }] } }, 'duplicated ns'],
    ['propagation', { linux: { namespaces: ALL, rootfsPropagation: 'odd' } }, 'rootfsPropagation=odd is not supported'],
    [
      'id out of range',
      { process: { ...PROCESS, user: { uid: 2 ** 32, gid: 0 } } },
      'invalid user or group id 4294967296',
    ],
    ['environment', { process: { ...PROCESS, env: ['=x'] } }, 'environment variable name can\'t be empty: "=x"'],
  ])('refuses: %s', (_what, change, words) => {
    expect(() => compile(change)).toThrow(words);
  });
});

describe('compileExec()', () => {
  const context = { id: 'c1', cgroupFiles: ['/t'], terminal: true, seccomp: undefined, noNewKeyring: true };

  test('joins the cgroups before the namespaces hide them, and does not wait', () => {
    const { operations } = compileExec(PROCESS, context);

    expect(names(operations).slice(0, 4)).toEqual(['writeFile', 'joinSlot', 'currentRoot', 'terminal']);
    expect(names(operations)).not.toContain('sync');
    expect(operations.at(-1)).toMatchObject({ op: 'execute' });
  });
});
