// A further process in a running container: born into its pid namespace, it joins the other namespaces and the cgroups
// by itself.

import { closeSync, openSync } from 'node:fs';
import { isErrno, messageOf, unknown } from '../proto/errors';
import type { Cgroup } from './cgroup/cgroup';
import type { ExecOptions, StartedProcess } from './container';
import { hookState, stdioOf } from './create';
import { errorText } from './failure';
import { type LaunchedInit, type LaunchOptions, launch } from './launch';
import { ResourceControl } from './launcher/resource-control';
import { deliverListener } from './launcher/seccomp-listener';
import { entryOf } from './launcher/user-namespace';
import type { CompiledFilter } from './plan/credentials';
import { compileExec } from './plan/plan';
import type { IntelRdt, Process, Spec } from './spec';
import { UndoList } from './undo';

export interface ExecTarget {
  readonly id: string;
  readonly bundle: string;
  readonly pid: number;
  readonly pidfd: number;
  readonly cgroup: Cgroup;
  readonly spec: Spec;
  readonly seccomp: CompiledFilter | undefined;
  readonly noNewKeyring: boolean;
  readonly intelRdt?: IntelRdt | null | undefined;
}

/** @throws UNKNOWN `exec failed: unable to start container process: ...` */
export async function execProcess(target: ExecTarget, options: ExecOptions): Promise<StartedProcess> {
  const undo = new UndoList();
  try {
    return await execSteps(target, options, undo);
  } catch (error) {
    await undo.run();
    const message = isErrno(error, 'ESRCH') ? 'cannot exec in a stopped container' : messageOf(error);
    const prefix = message.startsWith('unable to start container process: ')
      ? ''
      : 'unable to start container process: ';
    throw unknown(`exec failed: ${prefix}${message}`, { cause: error });
  }
}

async function execSteps(target: ExecTarget, options: ExecOptions, undo: UndoList): Promise<StartedProcess> {
  const entry = entryOf(target.pid);
  const rdt = target.intelRdt ? new ResourceControl(target.intelRdt, target.id) : undefined;
  const plan = compileExec(withDefaults(options.process, target.spec), {
    id: target.id,
    cgroupFiles: [...target.cgroup.joinFiles(), ...(rdt?.joinFiles ?? [])],
    terminal: options.io === 'terminal',
    seccomp: target.seccomp,
    noNewKeyring: target.noNewKeyring,
    keptFiles: options.files?.length ?? 0,
    entry,
  });
  const init = launchInGroup(target, {
    plan,
    namespaces: 0,
    joins: entry.isOrdinaryUser ? [] : [{ fd: target.pidfd, type: 'pid' }],
    stdio: stdioOf(options.io),
    inherited: [target.pidfd, ...(options.files ?? [])],
    inInit: false,
  });
  undo.add('process', () => init.destroy());
  let terminalFd: number | undefined;
  for (;;) {
    const message = await init.next();
    if (message.kind === 'end') break;
    if (message.kind === 'listener') await deliver(target, init, message.number);
    if (message.kind === 'sync') init.proceed();
    if (message.kind !== 'terminal') continue;
    const { fd } = message;
    terminalFd = fd;
    undo.add('terminal', () => closeSync(fd));
  }
  init.hangUp();
  closeSync(init.pidfd);
  return { pid: init.pid, terminalFd };
}

async function deliver({ spec, ...target }: ExecTarget, init: LaunchedInit, listener: number): Promise<void> {
  const profile = spec.linux?.seccomp;
  const state = hookState(spec, target, target.pid, 'running');
  if (profile) await deliverListener({ pid: init.pid, pidfd: init.pidfd, listener }, profile, state);
}

/** A group that hands controllers to groups below takes no process: then the one that the first process has gone to. */
function launchInGroup({ cgroup, pid }: ExecTarget, options: LaunchOptions): LaunchedInit {
  const directory = cgroup.cloneDirectory();
  if (directory === undefined) return launch(options);
  try {
    return launchInto(directory, options);
  } catch (error) {
    const below = isErrno(error, 'EBUSY') ? cgroup.directoryOf(pid) : undefined;
    if (below === undefined) throw error;
    return launchInto(below, options);
  }
}

function launchInto(directory: string, options: LaunchOptions): LaunchedInit {
  let cgroup: number;
  try {
    cgroup = openSync(directory, 'r');
  } catch (error) {
    throw unknown(`open ${directory}: ${errorText(error)}`, { cause: error });
  }
  try {
    return launch({ ...options, cgroup });
  } finally {
    closeSync(cgroup);
  }
}

/** What an exec does not say is as for the container's first process. */
function withDefaults(process: Process, spec: Spec): Process {
  const first = spec.process;
  if (first === undefined) return process;
  const { capabilities, oomScoreAdj, noNewPrivileges, scheduler, ioPriority, execCPUAffinity } = first;
  const defaults = { capabilities, oomScoreAdj, noNewPrivileges, scheduler, ioPriority, execCPUAffinity };
  const rlimits = process.rlimits && process.rlimits.length > 0 ? process.rlimits : first.rlimits;
  const apparmorProfile = process.apparmorProfile || first.apparmorProfile;
  const selinuxLabel = process.selinuxLabel || first.selinuxLabel;
  return { ...given(defaults), ...given(process), ...given({ rlimits, apparmorProfile, selinuxLabel }) } as Process;
}

/** Without what is undefined or null, which would hide a default. */
function given(fields: object): object {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined && value !== null));
}
