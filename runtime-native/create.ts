// OCI create: from a configuration to a process that waits in front of its exec. Every step registers its undo, so that
// a failure leaves nothing behind.

import { closeSync, existsSync, lstatSync, openSync, readFileSync, statSync } from 'node:fs';
import { isAlreadyExists, messageOf, unknown } from '../proto/errors';
import { type Cgroup, openCgroup } from './cgroup/cgroup';
import { NoCgroup } from './cgroup/none';
import { validateSpec } from './config/validate';
import type { CreateOptions, ProcessIo } from './container';
import { errorText } from './failure';
import { type HookState, runHooks } from './hooks';
import { type LaunchedInit, launch } from './launch';
import { openMountSources } from './launcher/mount-sources';
import { MovedDevices } from './launcher/net-devices';
import { ResourceControl } from './launcher/resource-control';
import { deliverListener } from './launcher/seccomp-listener';
import { isPrivileged, mappingsOf, runsInUserNamespace, setOomScore, writeMappings } from './launcher/user-namespace';
import type { CompiledFilter } from './plan/credentials';
import type { CompiledNamespaces } from './plan/namespaces';
import type { Plan, SyncPoint } from './plan/operations';
import { compileCreate } from './plan/plan';
import { compileCached, PlanCache } from './plan/plan-cache';
import { compileSeccomp } from './seccomp/seccomp';
import type { Spec } from './spec';
import {
  claimState,
  listenForStart,
  lockContainer,
  processStartTime,
  removeState,
  type SavedState,
  saveSpec,
  saveState,
} from './state';
import { UndoList } from './undo';

export interface Created {
  readonly init: LaunchedInit;
  readonly cgroup: Cgroup;
  readonly seccomp: CompiledFilter | undefined;
  readonly terminalFd: number | undefined;
}

const plans = new PlanCache();

/** Marks errors after the configuration has been understood, as runc words them. */
const STARTING = 'unable to start container process: ';

/** @throws UNKNOWN (ALREADY_EXISTS for a taken id) `runc create failed: ...` */
export async function createContainer(options: CreateOptions): Promise<Created> {
  const undo = new UndoList();
  try {
    return await createSteps(options, undo);
  } catch (error) {
    const left = await undo.run();
    const message = messageOf(error) + (left.length > 0 ? ` (left behind: ${left.join('; ')})` : '');
    if (isAlreadyExists(error)) throw error;
    throw unknown(`runc create failed: ${message}`, { cause: error });
  }
}

/** Runs the part of create that no spec error can end any more, with runc's words in front of its errors. */
async function starting<T>(body: () => T | Promise<T>): Promise<T> {
  try {
    return await body();
  } catch (error) {
    const message = messageOf(error);
    throw unknown(message.startsWith(STARTING) ? message : STARTING + message, { cause: error });
  }
}

async function createSteps(options: CreateOptions, undo: UndoList): Promise<Created> {
  const { spec, root, id } = options;
  checkRootfs(options.rootfs);
  const compiled = compileLaunch(options);
  checkNamespacePaths(spec);
  claimState(root, id);
  undo.add('state', () => removeState(root, id));
  compiled.cgroup.checkVacant();
  const unlock = options.keepsSpec ? await lockContainer(root, id) : () => {};
  try {
    return await createLocked(options, compiled, undo);
  } finally {
    unlock();
  }
}

type Compiled = ReturnType<typeof compileLaunch>;

async function createLocked(options: CreateOptions, compiled: Compiled, undo: UndoList): Promise<Created> {
  const { spec, root, id } = options;
  const { plan, namespaces, cgroup, seccomp } = compiled;
  if (options.keepsSpec) {
    // So that others can clean up when we are killed half way.
    saveState(root, stateOf(options, cgroup, 0));
    saveSpec(root, id, spec);
  }
  return starting(async () => {
    undo.add('cgroups', () => cgroup.remove());
    await cgroup.create();
    await inInit(() => setLimits(cgroup, spec));
    undo.add('resource control', () => compiled.rdt?.remove());
    compiled.rdt?.create();
    const init = launchFirst(options, cgroup, plan, namespaces);
    undo.add('process', () => init.destroy());
    const devices = new MovedDevices();
    undo.add('network devices', () => devices.restore());
    // While init works, unless others could take it for a container that waits to be started.
    const saved = options.startSocket || options.systemdCgroup ? 0 : init.pid;
    if (saved !== 0) saveState(root, stateOf(options, cgroup, saved));
    const terminalFd = await follow(init, options, undo, devices);
    cgroup.settled();
    if (saved !== init.pid) saveState(root, stateOf(options, cgroup, init.pid));
    // From here on it does not need us: state.json says where it is.
    if (options.startSocket) init.proceed();
    devices.close();
    return { init, cgroup, seccomp, terminalFd };
  });
}

/** @param pid - 0 as long as there is no process */
export function stateOf(options: CreateOptions, cgroup: Cgroup, pid: number): SavedState {
  const { spec } = options;
  return {
    id: options.id,
    pid,
    pidStartTime: pid === 0 ? '' : processStartTime(pid),
    bundle: options.bundle,
    rootfs: options.rootfs,
    cgroupPaths: cgroup.paths,
    poststop: spec.hooks?.poststop ?? [],
    annotations: spec.annotations ?? {},
    created: new Date().toISOString(),
    noNewKeyring: options.noNewKeyring ?? false,
    systemdCgroup: options.systemdCgroup ?? false,
  };
}

function checkNamespacePaths(spec: Spec): void {
  for (const { path } of spec.linux?.namespaces ?? []) {
    if (!path) continue;
    try {
      lstatSync(path);
    } catch (error) {
      const reason = `namespace path: lstat ${path}: ${errorText(error)}`;
      throw unknown(`unable to create new parent process: ${reason}`, { cause: error });
    }
  }
}

/** Everything that create decides before it acts. @throws UNKNOWN in runc's words */
export function compileLaunch(options: CreateOptions) {
  const { spec, id } = options;
  const contexts = plans.contextsOf(spec, validateSpec);
  const cgroup = openCgroup({
    cgroupsPath: spec.linux?.cgroupsPath,
    id,
    systemd: options.systemdCgroup ?? false,
    rootless: options.rootless ?? (!isPrivileged() || runsInUserNamespace()),
    annotations: spec.annotations,
  });
  const seccomp = compileSeccomp(spec.linux?.seccomp, options.cacheDir);
  if (cgroup instanceof NoCgroup) cgroup.apply(spec.linux?.resources ?? {});
  const rdt = spec.linux?.intelRdt ? new ResourceControl(spec.linux.intelRdt, id) : undefined;
  const cgroupFiles = [...cgroup.joinFiles(), ...(rdt?.joinFiles ?? [])];
  const context = { ...contextOf(options, cgroup), seccomp, cgroupFiles };
  return { ...compileCached(contexts, spec, context, compileCreate), cgroup, seccomp, rdt };
}

function launchFirst(options: CreateOptions, cgroup: Cgroup, plan: Plan, namespaces: CompiledNamespaces): LaunchedInit {
  const opened: number[] = [];
  const keep = (fd: number) => {
    opened.push(fd);
    return fd;
  };
  const open = (path: string) => {
    try {
      return keep(openSync(path, 'r'));
    } catch (error) {
      throw unknown(`open ${path}: ${errorText(error)}`, { cause: error });
    }
  };
  try {
    const sources = openMountSources(plan.sources ?? []).map(keep);
    const directory = cgroup.cloneDirectory();
    return launch({
      plan,
      namespaces: namespaces.create,
      joins: namespaces.enter.map(({ type, path }) => ({ type, fd: open(path) })),
      cgroup: directory === undefined ? undefined : open(directory),
      stdio: stdioOf(options.io),
      inherited: [
        ...(options.startSocket ? [keep(listenForStart(options.root, options.id))] : []),
        ...(options.files ?? []),
        ...sources,
      ],
      inInit: true,
    });
  } finally {
    for (const fd of opened) closeSync(fd);
  }
}

/** Goes along with init until it is ready. The terminal's master, if there is one. */
async function follow(
  init: LaunchedInit,
  options: CreateOptions,
  undo: UndoList,
  devices: MovedDevices,
): Promise<number | undefined> {
  let terminalFd: number | undefined;
  for (;;) {
    const message = await init.next();
    if (message.kind === 'end') throw unknown('init died before the container was created');
    if (message.kind === 'terminal') {
      const { fd } = message;
      terminalFd = fd;
      undo.add('terminal', () => closeSync(fd));
      continue;
    }
    if (message.kind === 'listener') {
      await deliver(init, message.number, options);
      continue;
    }
    if (message.point === 'ready') return terminalFd;
    if (message.point === 'network') devices.move(options.spec.linux?.netDevices, init.pid);
    else await answer(message.point, init, options);
    init.proceed();
  }
}

/** What the launcher does while init waits. */
async function answer(point: SyncPoint, init: LaunchedInit, { spec, ...options }: CreateOptions): Promise<void> {
  if (point === 'mapping') return mapIds(init.pid, spec);
  const { hooks } = spec;
  const state = hookState(spec, options, init.pid, 'creating');
  await inInit(async () => {
    if (point === 'hooks') {
      await runHooks(hooks?.prestart, state, undefined);
      await runHooks(hooks?.createRuntime, state, undefined);
    } else {
      await runHooks(hooks?.createContainer, state, init.pid);
    }
  });
}

async function deliver(init: LaunchedInit, listener: number, options: CreateOptions): Promise<void> {
  const profile = options.spec.linux?.seccomp;
  const { pid, pidfd } = init;
  if (profile)
    await deliverListener({ pid, pidfd, listener }, profile, hookState(options.spec, options, pid, 'creating'));
}

function mapIds(pid: number, { linux, process }: Spec): void {
  const mappings = mappingsOf(linux ?? {});
  if (mappings !== undefined) writeMappings(pid, mappings);
  if (process?.oomScoreAdj !== undefined) setOomScore(pid, process.oomScoreAdj);
}

export async function setLimits(cgroup: Cgroup, spec: Spec): Promise<void> {
  try {
    await cgroup.apply(spec.linux?.resources ?? {}, false);
  } catch (error) {
    throw unknown(`error setting cgroup config for procHooks process: ${messageOf(error)}`, { cause: error });
  }
}

async function inInit(body: () => Promise<void>): Promise<void> {
  try {
    await body();
  } catch (error) {
    throw unknown(`error during container init: ${messageOf(error)}`, { cause: error });
  }
}

export function hookState(
  spec: Pick<Spec, 'ociVersion' | 'annotations'>,
  container: { readonly id: string; readonly bundle: string },
  pid: number,
  status: HookState['status'],
): HookState {
  const { annotations } = spec;
  return {
    ociVersion: spec.ociVersion,
    id: container.id,
    status,
    pid,
    bundle: container.bundle,
    ...(annotations && Object.keys(annotations).length > 0 ? { annotations } : {}),
  };
}

export function stdioOf(io: ProcessIo | 'terminal'): [number, number, number] {
  return io === 'terminal' ? [-1, -1, -1] : [io.stdin, io.stdout, io.stderr];
}

export function checkRootfs(rootfs: string): void {
  try {
    if (statSync(rootfs).isDirectory()) return;
  } catch (error) {
    throw unknown(`invalid rootfs: stat ${rootfs}: ${errorText(error)}`, { cause: error });
  }
  throw unknown(`invalid rootfs: ${rootfs}: not a directory`);
}

function contextOf(options: CreateOptions, cgroup: Cgroup) {
  const { spec, id, bundle, rootfs } = options;
  const keepsShared = /shared/.test(spec.linux?.rootfsPropagation ?? '');
  return {
    id,
    bundle,
    rootfs,
    mounts: {
      bundle,
      cgroup: cgroup.mountView(),
      privateCgroupNamespace: (spec.linux?.namespaces ?? []).some(({ type, path }) => type === 'cgroup' && !path),
    },
    terminal: options.io === 'terminal',
    noPivotRoot: options.noPivotRoot ?? false,
    noNewKeyring: options.noNewKeyring ?? false,
    sharedParent: keepsShared ? mountPointOf(rootfs) : undefined,
    hasKcore: existsSync('/proc/kcore'),
    isOrdinaryUser: !isPrivileged(),
    bindsNodes: runsInUserNamespace(),
    startSocket: options.startSocket ?? false,
    keptFiles: options.files?.length ?? 0,
  };
}

/** The mount point that holds a path. Where all mounts are made shared, this one must not be: pivot_root refuses it. */
function mountPointOf(path: string): string {
  let best = '/';
  for (const line of readFileSync('/proc/self/mountinfo', 'utf8').split('\n')) {
    const point = line.split(' ')[4];
    if (point === undefined) continue;
    const holds = path === point || path.startsWith(`${point}/`);
    if (holds && point.length >= best.length) best = point;
  }
  return best;
}
