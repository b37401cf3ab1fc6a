// Everything that can fail on the way to a container fails once: every operation of its plans, and every call to the
// kernel of the code that makes them. Nothing may be left, and the error must say what it was.

import { closeSync, readdirSync, readlinkSync } from 'node:fs';
import { isDeepStrictEqual } from 'node:util';
import { openCgroup } from '../../runtime-native/cgroup/cgroup';
import { compileLaunch } from '../../runtime-native/create';
import { describeFailure } from '../../runtime-native/failure';
import { Container, type CreateOptions } from '../../runtime-native/index';
import type { Plan } from '../../runtime-native/plan/operations';
import { compileExec } from '../../runtime-native/plan/plan';
import type { Hook, Process } from '../../runtime-native/spec';
import { waitFor } from '../setup/command';
import { describeUnless } from '../setup/needs';
import { childrenOf } from '../setup/processes';
import { FaultyKernel } from '../suites/kernel-faults';
import { type SpecChange, useRuntime } from '../suites/runtime-bench';
import { missingForContainers } from '../suites/runtime-bundle';
import { waitForExit } from '../suites/runtime-library';

const EINVAL = 22;
const ENOSYS = 38;
const STARTING = 'unable to start container process: ';
const SYSTEM_CALLS: Readonly<Record<string, string>> = {
  gantry_launch: 'clone3',
  gantry_listen_at: 'bind',
  gantry_lock: 'flock',
  gantry_memfd: 'memfd_create',
  gantry_pidfd_open: 'pidfd_open',
  gantry_send_byte: 'send',
  gantry_socketpair: 'socketpair',
};
const TIMEOUT_MS = 300_000;
const ALL_HOOKS = ['prestart', 'createRuntime', 'createContainer', 'startContainer', 'poststart'] as const;

/** What dockerd sends, and whatever else makes operations or calls of its own. */
const full: SpecChange = (spec) => {
  const hook: Hook = { path: '/bin/true' };
  spec.hooks = Object.fromEntries(ALL_HOOKS.map((stage) => [stage, [hook]])) as never;
  spec.root.readonly = true;
  spec.domainname = 'domain';
  spec.mounts.push(
    { destination: '/volume', type: 'bind', source: '/etc', options: ['rbind', 'ro', 'rslave'] } as never,
    { destination: '/etc/hostname', type: 'bind', source: '/etc/hostname', options: ['bind', 'rro'] } as never,
    { destination: '/run', type: 'tmpfs', source: 'tmpfs', options: ['ro', 'tmpcopyup'] } as never,
  );
  spec.process.oomScoreAdj = 100;
  spec.process.noNewPrivileges = true;
  spec.process.user = { uid: 1000, gid: 1000, umask: 0o027, additionalGids: [5] };
  spec.process.rlimits = [{ type: 'RLIMIT_NOFILE', soft: 100, hard: 200 }] as never;
  spec.linux.sysctl = { 'net.ipv4.ip_unprivileged_port_start': '77' };
  spec.linux.seccomp = {
    defaultAction: 'SCMP_ACT_ALLOW',
    syscalls: [{ names: ['swapon'], action: 'SCMP_ACT_ERRNO', errnoRet: 1 }],
  } as never;
  spec.linux.devices = [
    { path: '/dev/fuse', type: 'c', major: 10, minor: 229, fileMode: 0o666, uid: 0, gid: 0 },
  ] as never;
  spec.linux.resources = {
    ...spec.linux.resources,
    pids: { limit: 100 },
    memory: { limit: 64 << 20 },
    cpu: { shares: 512 },
  } as never;
};

const shell: Process = {
  args: ['true'],
  cwd: '/',
  env: ['PATH=/bin'],
  user: { uid: 1000, gid: 1000, additionalGids: [5] },
  rlimits: [{ type: 'RLIMIT_NOFILE', soft: 100, hard: 200 }],
  capabilities: { bounding: ['CAP_KILL'], effective: [], permitted: [] },
  noNewPrivileges: true,
};
const kernel = new FaultyKernel();

describeUnless(missingForContainers())('a launch that fails', () => {
  const runtime = useRuntime();

  /** Orphans of other tests. */
  let earlier: ReadonlySet<number>;

  beforeEach(() => {
    earlier = new Set(childrenOf(process.pid));
  });
  afterEach(() => kernel.disarm());

  /** Nothing that a process could have left with us or with the kernel; the bench looks at mounts, cgroups and files. */
  const state = () => ({ processes: childrenOf(process.pid).filter((pid) => !earlier.has(pid)), files: openFiles() });
  const expectState = async (before: object, of?: unknown) => {
    // An orphan may become our child only now; it is reaped within a second, a process left is not.
    let found: object = {};
    const isAsBefore = () => {
      found = state();
      return isDeepStrictEqual(found, before);
    };
    await waitFor('the end of orphans', isAsBefore).catch(() => expect([of, found]).toEqual([of, before]));
  };

  const optionsFor = (kind: 'files' | 'terminal' | 'command'): CreateOptions => {
    const options = runtime.optionsFor(['true'], full);
    if (kind === 'terminal') return { ...options, io: 'terminal' };
    return kind === 'command' ? { ...options, keepsSpec: true, startSocket: true } : options;
  };

  /** Creates, starts and deletes. The first error, or undefined. */
  async function attempt(options: CreateOptions): Promise<string | undefined> {
    let container: Container | undefined;
    try {
      container = await Container.create(options);
      if (container.terminalFd !== undefined) closeSync(container.terminalFd);
      await container.start();
      return undefined;
    } catch (error) {
      return (error as Error).message;
    } finally {
      kernel.disarm();
      const exit = container && waitForExit(container.pid);
      await container?.delete();
      await exit;
    }
  }

  test.each(['terminal', 'command'] as const)(
    'at an operation of the plan of a container (%s)',
    async (kind) => {
      await attempt(optionsFor(kind));
      const before = state();
      const { operations } = compileLaunch(optionsFor(kind)).plan;
      const ready = operations.findIndex((operation) => operation.op === 'sync' && operation.point === 'ready');

      for (const index of operations.keys()) {
        const options = optionsFor(kind);
        const { plan } = compileLaunch(options);
        kernel.failOperation(0, index);
        const error = await attempt(options);
        // Nobody listens between ready and the request to start: it is a container that has ended.
        const isHeard = plan.operations[index]?.op !== 'awaitStart';
        if (isHeard) expect([index, error]).toEqual([index, failureAt(plan, index, ready, kind)]);
        await expectState(before);
      }
    },
    TIMEOUT_MS,
  );

  test(
    'at an operation of the plan of an exec',
    async () => {
      const options = runtime.optionsFor(['sleep', '1000']);
      const container = await runtime.create(options);
      await container.start();
      const plan = compileExec(shell, {
        id: options.id,
        cgroupFiles: openCgroup({
          cgroupsPath: options.spec.linux?.cgroupsPath,
          id: options.id,
          systemd: false,
          rootless: false,
        }).joinFiles(),
        terminal: true,
        seccomp: undefined,
        noNewKeyring: false,
      });
      await execute(container);
      const before = state();

      for (const index of plan.operations.keys()) {
        kernel.failOperation(0, index);
        const error = await execute(container);
        expect([index, error]).toEqual([index, `exec failed: ${STARTING}${reasonAt(plan, index, false)}`]);
        await expectState(before);
      }
      expect(await execute(container)).toBeUndefined();
    },
    TIMEOUT_MS,
  );

  test(
    'at an operation of the plan of a hook',
    async () => {
      await attempt(optionsFor('files'));
      const before = state();
      kernel.failCall(undefined);
      await attempt(optionsFor('files'));
      const plans = [...kernel.plans];
      expect(plans.length).toBe(1 + ALL_HOOKS.length);
      const failedHook = 'error running hook #0: fork/exec /bin/true: ';

      for (const [plan, count] of plans.entries()) {
        for (let index = 0; plan > 0 && index < count; index++) {
          const options = optionsFor('files');
          kernel.failOperation(plan, index);
          const error = await attempt(options);
          expect([plan, index, error]).toEqual([plan, index, expect.stringContaining(failedHook)]);
          await expectState(before);
        }
      }
    },
    TIMEOUT_MS,
  );

  test.each(['terminal', 'command'] as const)(
    'at a call to the kernel (%s)',
    async (kind) => {
      await attempt(optionsFor(kind));
      const before = state();
      kernel.failCall(undefined);
      await attempt(optionsFor(kind));
      const calls = [...kernel.calls];
      for (const call of calls) {
        const options = optionsFor(kind);
        kernel.failCall(call);
        const error = await attempt(options);
        expect([call, error]).toEqual([call, expect.stringMatching(/^runc (create|start) failed: .*(EIO|put error)/)]);
        expect([call, error]).toEqual([call, expect.stringMatching(stepOf(call))]);
        await expectState(before, call);
      }
      expect(calls.length).toBeGreaterThan(50);
    },
    TIMEOUT_MS,
  );

  async function execute(container: Container): Promise<string | undefined> {
    try {
      const { pid, terminalFd } = await container.exec({ execId: 'e', process: shell, io: 'terminal' });
      await waitForExit(pid);
      if (terminalFd !== undefined) closeSync(terminalFd);
      return undefined;
    } catch (error) {
      return (error as Error).message;
    } finally {
      kernel.disarm();
    }
  }
});

/** Words that an error has that tells of a call. */
function stepOf(call: string): RegExp {
  const [name = '', path = ''] = call.split(' ');
  const [file = ''] = path.split('/').at(-1)?.split('.') ?? [];
  return new RegExp(SYSTEM_CALLS[name] ?? file.split('N')[0] ?? '');
}

/** The message for the operation with this index. Behind the one called ready, start fails and not create. */
function failureAt(plan: Plan, index: number, ready: number, kind: string): string {
  // Who starts a container that another process has made does not know its plan, and hears no more than init says.
  if (kind === 'command' && plan.operations[index]?.op === 'execute')
    return 'runc start failed: init: function not implemented';
  const reason = reasonAt(plan, index, true);
  return index > ready ? `runc start failed: ${reason}` : `runc create failed: ${STARTING}${reason}`;
}

function reasonAt({ operations }: Plan, index: number, inInit: boolean): string {
  const operation = operations[index];
  const attach = operations.find(
    (other) => other.op === 'attach' && operation?.op === 'openTree' && other.slot === operation.slot,
  );
  const target = attach?.op === 'attach' ? attach.target : undefined;
  const error = operation?.op === 'seccomp' ? EINVAL : ENOSYS;
  return describeFailure({ operation, error, stage: 0, text: '', target }, inInit);
}

/** Descriptors of the kinds that the runtime opens, without the outputs of the bench. */
function openFiles(): string[] {
  return readdirSync('/proc/self/fd')
    .map((fd) => {
      try {
        return readlinkSync(`/proc/self/fd/${fd}`);
      } catch {
        return '';
      }
    })
    .filter((file) => /^(socket|pipe|anon_inode|\/memfd|\/dev\/pt|\/sys\/fs\/cgroup|\/proc|net:|pid:|mnt:)/.test(file))
    .map((file) => file.replace(/\d+/g, 'N'))
    .sort();
}
