// Takes a task apart: after Delete, after a Create that failed, and after the death of its shim. Every step is
// idempotent and tried even when an earlier one failed; what is left is tried again at the next start of the daemon.

import { messageOf } from '../../proto/errors';
import { nowNs } from '../../proto/time';
import { removeDeadSocket } from '../../proto/ttrpc/socket';
import { removeBundle } from './bundle-removal';
import { removeCgroups } from './cgroup-removal';
import { exitOf } from './exit-record';
import type { ShimDeleter, ShimLauncher } from './launcher';
import type { TaskParts } from './parts';
import { initOf } from './process-tracker';
import { ShimClient } from './shim-client';
import { ShimLog } from './shim-log';
import { killBundleProcesses, killShimProcess } from './shim-process';
import type { Task } from './task';
import type { Exit } from './task-store';

/** Status of a process that died with its shim, or of which nothing is known (shim v2 protocol, `delete`). */
const KILLED_STATUS = 137;
const UNKNOWN_STATUS = 255;
const SHUTDOWN_TIMEOUT_MS = 3000;
const SIGKILL = 9;

export interface CleanerParts extends TaskParts {
  readonly deleter: ShimDeleter;
  readonly ownLauncher: ShimLauncher;
}

export class TaskCleaner {
  private readonly parts: CleanerParts;

  constructor(parts: CleanerParts) {
    this.parts = parts;
  }

  /** After Delete: ends the shim and removes bundle and socket. */
  async dismantle(task: Task): Promise<void> {
    task.phase = 'ending';
    const isEnding = await this.askToEnd(task);
    // A shim that ends needs its bundle no more; both take a few milliseconds.
    await this.removeFiles(
      task,
      this.attempt(task, 'end shim', () => this.untilGone(task, isEnding)),
    );
    this.parts.registry.remove(task);
  }

  /**
   * After a failed Create: as if it had not been tried. Nobody was told of the task, so nobody is told now.
   * @param mayHaveCgroups the container may have been half made when nobody was left to undo it
   */
  async abandon(task: Task, { mayHaveCgroups } = { mayHaveCgroups: true }): Promise<void> {
    task.phase = 'ending';
    await this.attempt(task, 'kill container', () => this.killContainer(task));
    await this.attempt(task, 'shut down shim', () => this.shutDown(task));
    await this.attempt(task, 'kill shim', () => killBundleProcesses(task.bundle));
    if (task.shimPath !== '' && task.bundle.exists()) {
      await this.attempt(task, 'delete action', () => this.parts.deleter.delete(task.bundle, task.shimPath));
    }
    if (mayHaveCgroups) await this.attempt(task, 'remove cgroups', () => removeCgroups(task.bundle));
    await this.removeFiles(task);
    this.parts.store.deleteTask(task.key);
    this.parts.registry.remove(task);
  }

  /**
   * After the death of a shim: kills what is left of the container, records how its processes ended (their true status
   * where the shim left a record), publishes exit and delete, removes everything.
   * @returns how init ended.
   */
  async bury(task: Task, options: { hold: boolean }): Promise<Exit> {
    task.phase = 'ending';
    const { store, tracker } = this.parts;
    if (task.isOwnShim) await this.attempt(task, 'kill shim', () => killBundleProcesses(task.bundle));
    task.disconnect();
    const reported = await this.deleteAction(task);
    await this.attempt(task, 'remove cgroups', () => removeCgroups(task.bundle));
    const processes = store.processesOf(task.key);
    const init = processes.find(({ execId }) => execId === '');
    const exit = init === undefined ? reported : exitOf(init, task.bundle, reported);
    await task.transitions.run(async () => {
      for (const process of processes) {
        if (process.execId === '' || process.status === 'created') continue;
        await tracker.exited(
          process,
          exitOf(process, task.bundle, { ...reported, exitStatus: KILLED_STATUS }),
          options,
        );
      }
      await tracker.exited(initOf(task.key), exit, options);
      tracker.deleted(task.key, exit, options);
    });
    await this.removeFiles(task);
    this.parts.registry.remove(task);
    return exit;
  }

  private async deleteAction(task: Task): Promise<Exit> {
    const exit = task.bundle.exists()
      ? await this.attempt(task, 'delete action', () => this.parts.deleter.delete(task.bundle, task.shimPath))
      : undefined;
    const { pid = 0, exitStatus = UNKNOWN_STATUS, exitedAt = 0n } = exit ?? {};
    return { pid, exitStatus, exitedAt: exitedAt === 0n ? nowNs() : exitedAt };
  }

  /** A shim does not end while it has a container: Create may have failed after the shim had made one. */
  private async killContainer(task: Task): Promise<void> {
    const client = task.client ?? (await this.reach(task));
    if (client === undefined) return;
    const { id } = task.key;
    const signal = AbortSignal.timeout(SHUTDOWN_TIMEOUT_MS);
    try {
      await client.call('kill', { id, execId: '', signal: SIGKILL, all: true }, signal);
      await client.call('wait', { id, execId: '' }, signal);
      await client.call('delete', { id, execId: '' }, signal);
    } catch (error) {
      this.parts.logger.debug('no container to kill', { ...task.key, error: messageOf(error) });
    }
  }

  /** Connects to the shim of a bundle that was found without a task. */
  private async reach(task: Task): Promise<ShimClient | undefined> {
    const bootstrap = task.bundle.bootstrap();
    if (bootstrap === undefined) return undefined;
    // A shim may be waiting for somebody to read its log.
    task.log ??= ShimLog.open(task.bundle.logFifo, () => undefined);
    const signal = AbortSignal.timeout(SHUTDOWN_TIMEOUT_MS);
    const options = { namespace: task.key.namespace, signal, onClose: () => undefined };
    task.client = await ShimClient.connect(bootstrap, options);
    return task.client;
  }

  /** Asks the shim to end, waits for it, and kills it when it does not. */
  private async shutDown(task: Task): Promise<void> {
    await this.untilGone(task, await this.askToEnd(task));
  }

  /** @returns whether the shim said that it will. */
  private async askToEnd(task: Task): Promise<boolean> {
    try {
      const signal = AbortSignal.timeout(SHUTDOWN_TIMEOUT_MS);
      await task.client?.call('shutdown', { id: task.key.id, now: false }, signal);
      return task.client !== undefined;
    } catch (error) {
      this.parts.logger.debug('shim did not shut down', { ...task.key, error: messageOf(error) });
      return false;
    }
  }

  private async untilGone(task: Task, isEnding: boolean): Promise<void> {
    try {
      if (isEnding && task.isOwnShim) await task.client?.untilClosed(AbortSignal.timeout(SHUTDOWN_TIMEOUT_MS));
    } catch (error) {
      this.parts.logger.debug('shim did not end', { ...task.key, error: messageOf(error) });
    } finally {
      await killShim(task);
      task.disconnect();
    }
  }

  /** @param end that of the shim, which removes its socket itself if it can. */
  private async removeFiles(task: Task, end: Promise<unknown> = Promise.resolve()): Promise<void> {
    const { bundle } = task;
    const socket = await this.attempt(task, 'find socket', async () => this.socketOf(task));
    await this.attempt(task, 'remove bundle', () => removeBundle(bundle));
    await end;
    if (socket !== undefined) await this.attempt(task, 'remove socket', () => removeDeadSocket(socket));
  }

  /** A shim may have made its socket and died before anybody wrote down where. */
  private socketOf(task: Task): string | undefined {
    const address = task.bundle.bootstrap()?.address;
    if (address?.startsWith('unix:///') === true) return address.slice('unix://'.length);
    return task.isOwnShim ? this.parts.ownLauncher.socketPath(task.bundle) : undefined;
  }

  /** Best-effort: a failing step is logged and the rest goes on. */
  private async attempt<T>(task: Task, step: string, action: () => Promise<T>): Promise<T | undefined> {
    try {
      return await action();
    } catch (error) {
      this.parts.logger.warn('task clean-up step failed', { ...task.key, step, error: messageOf(error) });
      return undefined;
    }
  }
}

/** A foreign shim may serve other tasks as well: it is left to end by itself. */
async function killShim(task: Task): Promise<void> {
  if (task.isOwnShim) await killShimProcess(task.shimPid, task.bundle);
}
