// Ends tasks and removes containers with everything that belongs to them: snapshot, pipes, log.

import { rm } from 'node:fs/promises';
import { constants } from 'node:os';
import { isNotFound } from '../../proto/errors';
import type { Container } from '../../proto/generated/containerd.services.containers.v1';
import { type Process, Status } from '../../proto/generated/containerd.v1.types';
import { CommandError, EXIT } from '../failure';
import { orElsewhere, type Session } from '../session';
import { defaultLogUri, LOG_LABEL, logPath, removeFifos } from '../task/stdio';
import { ignoreNotFound } from './create';

/** The container's record. @throws CommandError (not found) with a hint where it is. */
export async function getContainer(session: Session, id: string): Promise<Container> {
  const { container } = await orElsewhere(session, 'container', id, () => session.connection.containers.get({ id }));
  return container as Container;
}

/** The state of a container's task, or undefined when it has none. */
export async function getTask(session: Session, containerId: string): Promise<Process | undefined> {
  try {
    return (await session.connection.tasks.get({ containerId })).process;
  } catch (error) {
    if (isNotFound(error)) return undefined;
    throw error;
  }
}

/**
 * Deletes a task; with `force` a running one is killed first. Returns its exit status, undefined when there was none.
 * @throws CommandError (conflict) when it runs and `force` is not set.
 */
export async function removeTask(session: Session, id: string, force: boolean): Promise<number | undefined> {
  const { tasks } = session.connection;
  const task = await getTask(session, id);
  if (task === undefined) return undefined;
  const isRunning = [Status.RUNNING, Status.PAUSED, Status.PAUSING].includes(task.status as never);
  if (isRunning && !force) {
    throw new CommandError(
      `task "${id}" is ${task.status === Status.RUNNING ? 'running' : 'paused'}; use --force`,
      EXIT.conflict,
    );
  }
  if (isRunning) {
    const exit = tasks.wait({ containerId: id }, { patient: true });
    exit.catch(() => undefined);
    await tasks.kill({ containerId: id, signal: constants.signals.SIGKILL, all: true }).catch(ignoreNotFound);
    if (task.status !== Status.RUNNING) await tasks.resume({ containerId: id }).catch(() => undefined);
    await exit.catch(ignoreNotFound);
  }
  const { exitStatus } = await tasks.delete({ containerId: id });
  await removeFifos(task);
  return exitStatus;
}

export interface RemoveOptions {
  readonly force: boolean;
  readonly keepSnapshot: boolean;
}

/** Removes a container, its stopped task, its snapshot and its default log. */
export async function removeContainer(session: Session, id: string, options: RemoveOptions): Promise<void> {
  const { containers, snapshots } = session.connection;
  const container = await getContainer(session, id);
  await removeTask(session, id, options.force);
  const { snapshotter, snapshotKey } = container;
  if (!options.keepSnapshot && snapshotKey !== '') {
    await snapshots.remove({ snapshotter, key: snapshotKey }).catch(ignoreNotFound);
  }
  await containers.delete({ id });
  const log = container.labels[LOG_LABEL];
  if (log !== undefined && log === defaultLogUri(session.namespace, id)) await rm(logPath(log), { force: true });
}
