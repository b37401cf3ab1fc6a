// States of a process and what each of them refuses, in the words of runc's shim: clients (dockerd above all) decide by
// these texts.

import { type ApiError, failedPrecondition, notFound, unknown } from '../proto/errors';
import { Status } from '../proto/generated/containerd.v1.types';

export type State = 'created' | 'running' | 'pausing' | 'paused' | 'stopped' | 'deleted';
export type Action = 'start' | 'pause' | 'resume' | 'delete' | 'kill' | 'exec' | 'update' | 'resize' | 'checkpoint';

const STATUS: Record<State, number> = {
  created: Status.CREATED,
  running: Status.RUNNING,
  pausing: Status.PAUSING,
  paused: Status.PAUSED,
  stopped: Status.STOPPED,
  deleted: Status.STOPPED,
};

type Refusals = Readonly<Partial<Record<Action, Readonly<Partial<Record<State, () => ApiError>>>>>>;

const refusal = (text: string) => () => unknown(text);

const INIT: Refusals = {
  start: {
    running: refusal('cannot start a running process'),
    pausing: refusal('cannot start a running process'),
    paused: refusal('cannot start a paused process'),
    stopped: refusal('cannot start a stopped process'),
    deleted: refusal('cannot start a deleted process'),
  },
  pause: {
    created: refusal('cannot pause task in created state'),
    paused: refusal('cannot pause a paused container'),
    stopped: refusal('cannot pause a stopped container'),
    deleted: refusal('cannot pause a deleted process'),
  },
  resume: {
    created: refusal('cannot resume task in created state'),
    running: refusal('cannot resume a running process'),
    stopped: refusal('cannot resume a stopped container'),
    deleted: refusal('cannot resume a deleted process'),
  },
  delete: {
    running: refusal('cannot delete a running process'),
    pausing: refusal('cannot delete a running process'),
    paused: refusal('cannot delete a paused process'),
    deleted: () => notFound('cannot delete a deleted process'),
  },
  kill: {
    stopped: () => notFound('process already finished'),
    deleted: () => notFound('cannot kill a deleted process'),
  },
  exec: {
    paused: refusal('cannot exec in a paused state'),
    stopped: refusal('cannot exec in a stopped state'),
    deleted: refusal('cannot exec in a deleted state'),
  },
  update: {
    stopped: refusal('cannot update a stopped container'),
    deleted: refusal('cannot update a deleted process'),
  },
  checkpoint: {
    created: refusal('cannot checkpoint a task in created state'),
    stopped: refusal('cannot checkpoint a stopped container'),
    deleted: refusal('cannot checkpoint a deleted process'),
  },
};

const EXEC: Refusals = {
  start: INIT.start!,
  delete: INIT.delete!,
  resize: {
    stopped: refusal('cannot resize a stopped container'),
    deleted: refusal('cannot resize a deleted process'),
  },
  kill: {
    ...INIT.kill,
    created: () => failedPrecondition('process not created'),
  },
};

/** The state as State and Process messages report it. */
export function statusOf(state: State): number {
  return STATUS[state];
}

/** @throws the error of runc's shim when the state does not allow the action. */
export function checkAction(kind: 'init' | 'exec', action: Action, state: State): void {
  const refuse = (kind === 'init' ? INIT : EXEC)[action]?.[state];
  if (refuse !== undefined) throw refuse();
}
