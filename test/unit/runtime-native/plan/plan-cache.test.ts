import { type CreateContext, compileCreate } from '../../../../runtime-native/plan/plan';
import { compileCached, PlanCache } from '../../../../runtime-native/plan/plan-cache';
import type { Spec } from '../../../../runtime-native/spec';

const CONTEXT: CreateContext = {
  id: 'c1',
  bundle: '/bundle',
  rootfs: '/bundle/rootfs',
  mounts: { bundle: '/bundle', privateCgroupNamespace: true, cgroup: { version: 2, path: '/sys/fs/cgroup/c1' } },
  cgroupFiles: ['/sys/fs/cgroup/pids/c1/tasks'],
  terminal: false,
  seccomp: undefined,
  noPivotRoot: false,
  noNewKeyring: false,
  sharedParent: undefined,
  hasKcore: false,
};
const specOf = (change: object = {}, cgroupsPath = '/a'): Spec => ({
  ociVersion: '1.3.0',
  process: { args: ['sh'], env: ['A=1'], cwd: '/', user: { uid: 0, gid: 0 }, oomScoreAdj: 5 },
  linux: { namespaces: ['mount', 'pid', 'cgroup'].map((type) => ({ type })), cgroupsPath },
  mounts: [{ destination: '/sys/fs/cgroup', type: 'cgroup' }],
  ...change,
});

describe('compiled plans', () => {
  const cache = () => {
    const plans = new PlanCache();
    const check = jest.fn();
    const compile = jest.fn(compileCreate);
    const get = (spec: Spec, change: Partial<CreateContext> = {}) =>
      compileCached(plans.contextsOf(spec, check), spec, { ...CONTEXT, ...change }, compile);
    return { get, check, compile };
  };

  test('are what the compiler makes', () => {
    const { get } = cache();

    expect(get(specOf())).toMatchObject({ plan: compileCreate(specOf(), CONTEXT).plan });
    expect(get(specOf()).plan).toEqual(compileCreate(specOf(), CONTEXT).plan);
  });

  test('are made once for containers that differ in their names and cgroups', () => {
    const { get, check, compile } = cache();
    get(specOf());
    const other = { id: 'c2', cgroupFiles: ['/x', '/y'] };
    const { plan } = get(specOf({}, '/b'), {
      ...other,
      mounts: { ...CONTEXT.mounts, cgroup: { version: 2, path: '/b' } },
    });

    expect([check.mock.calls.length, compile.mock.calls.length]).toEqual([1, 1]);
    expect(plan).toEqual(compileCreate(specOf(), { ...CONTEXT, ...other }).plan);
  });

  test.each<[string, object, Partial<CreateContext>]>([
    ['another argument', { process: { ...specOf().process, args: ['ls'] } }, {}],
    ['another root', {}, { rootfs: '/other' }],
    ['a terminal', {}, { terminal: true }],
  ])('are made anew for %s', (_what, spec, context) => {
    const { get, compile } = cache();
    get(specOf());
    get(specOf(spec), context);

    expect(compile).toHaveBeenCalledTimes(2);
  });

  test('see the cgroups where they are bound', () => {
    const { get, compile } = cache();
    const bound = (path: string) => ({
      mounts: { ...CONTEXT.mounts, privateCgroupNamespace: false, cgroup: { version: 2, path } as const },
    });
    get(specOf(), bound('/sys/fs/cgroup/a'));
    const { plan } = get(specOf(), bound('/sys/fs/cgroup/b'));

    expect(compile).toHaveBeenCalledTimes(2);
    expect(plan.operations).toContainEqual(expect.objectContaining({ op: 'openTree', path: '/sys/fs/cgroup/b' }));
  });

  test('are few', () => {
    const { get, check } = cache();
    for (let round = 0; round < 2; round++) for (let i = 0; i < 6; i++) get(specOf({ hostname: `h${i}` }));

    expect(check).toHaveBeenCalledTimes(12);
  });
});
