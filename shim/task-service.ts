// The Task service: 17 methods, the same for versions 2 and 3, whose messages have the same layout. Finds containers and
// processes, converts messages and publishes events; what may happen to a container is decided in container.ts.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { packAny, unpackJson } from '../proto/any';
import { alreadyExists, messageOf, notFound, notImplemented, unknown } from '../proto/errors';
import {
  TaskCreate,
  TaskDelete,
  TaskExecAdded,
  TaskExecStarted,
  TaskExit,
  TaskOOM,
  TaskPaused,
  TaskResumed,
  TaskStart,
} from '../proto/generated/containerd.events';
import { ProcessDetails } from '../proto/generated/containerd.runc.v1';
import type * as task from '../proto/generated/containerd.task.v3';
import type { TaskService } from '../proto/generated/containerd.task.v3';
import type { Any } from '../proto/generated/google.protobuf';
import { checkIdentifier } from '../proto/ids';
import { GO_ZERO_TIME, toTimestamp } from '../proto/time';
import type { TtrpcHandlers } from '../proto/ttrpc/server';
import { joinCgroup, parseSpec } from '../runtime-native/index';
import { Container, type ContainerContext } from './container';
import type { Exit } from './exit';
import type { IdleCollector } from './idle';
import { checkAction, statusOf } from './lifecycle';
import type { Log } from './log';
import { decodeOptions, saveOptions } from './options';
import type { TaskProcess } from './process';
import type { Publisher } from './publisher';
import type { Runtime, RuntimeSpec } from './runtime';

export interface TaskServiceOptions {
  readonly namespace: string;
  readonly runtime: Runtime;
  readonly publisher: Publisher;
  readonly log: Log;
  readonly idle: Pick<IdleCollector, 'worked'>;
  /** Called when the process may end: Shutdown came and no container is left. */
  readonly onShutdown: () => void;
}

/** How long a daemon that connects may take for the events that it has missed. */
const MISSED_EVENTS_MS = 1000;
const EMPTY = {};

export class Tasks {
  readonly #options: TaskServiceOptions;
  readonly #containers = new Map<string, Container>();
  readonly #creating = new Set<string>();

  constructor(options: TaskServiceOptions) {
    this.#options = options;
  }

  get hasContainers(): boolean {
    return this.#containers.size > 0 || this.#creating.size > 0;
  }

  /** The handlers, to be registered once for each version of the service. */
  handlers(): TtrpcHandlers<typeof TaskService> {
    return {
      create: (request) => this.#create(request),
      start: async ({ id, execId }) => ({ pid: (await this.#container(id).start(execId)).pid }),
      delete: (request) => this.#delete(request),
      exec: (request) => this.#exec(request),
      state: (request) => this.#state(request),
      wait: async ({ id, execId }, { signal }) => {
        const process = this.#container(id).process(execId);
        await process.wait(signal);
        return exitOf(process);
      },
      kill: async ({ id, execId, signal, all }) => {
        await this.#container(id).kill(execId, signal, all);
        return EMPTY;
      },
      pause: async ({ id }) => {
        await this.#container(id).pause();
        this.#options.publisher.publish('/tasks/paused', TaskPaused, { containerId: id });
        return EMPTY;
      },
      resume: async ({ id }) => {
        await this.#container(id).resume();
        this.#options.publisher.publish('/tasks/resumed', TaskResumed, { containerId: id });
        return EMPTY;
      },
      resizePty: ({ id, execId, width, height }) => this.#container(id).resize(execId, height, width) ?? EMPTY,
      closeIO: ({ id, execId, stdin }) => {
        const container = this.#container(id);
        if (stdin) container.closeStdin(execId);
        else container.process(execId);
        return EMPTY;
      },
      pids: ({ id }) => this.#pids(id),
      stats: ({ id }) => ({ stats: this.#container(id).stats() }),
      update: (request) => this.#update(request),
      checkpoint: ({ id }) => {
        checkAction('init', 'checkpoint', this.#container(id).init.state);
        throw notImplemented('checkpoint of a container is not supported by this shim');
      },
      connect: async ({ id }) => {
        // What a daemon has missed it hears in order, before it asks for the state.
        await this.#options.publisher.flush(MISSED_EVENTS_MS);
        return { shimPid: process.pid, taskPid: this.#containers.get(id)?.init.pid ?? 0 };
      },
      shutdown: () => {
        if (!this.hasContainers) setImmediate(this.#options.onShutdown); // After the answer is on its way.
        return EMPTY;
      },
    };
  }

  async #create(request: task.CreateTaskRequest): Promise<task.CreateTaskResponse> {
    const { id, bundle, rootfs, checkpoint, terminal, stdin, stdout, stderr } = request;
    const { namespace, publisher } = this.#options;
    if (checkpoint !== '') throw notImplemented('restore from a checkpoint is not supported by this shim');
    if (this.#containers.has(id) || this.#creating.has(id)) throw alreadyExists(`container "${id}"`);
    const options = decodeOptions(request.options);
    const spec = readSpec(bundle);
    const io = { stdin, stdout, stderr, terminal };
    this.#creating.add(id);
    try {
      // The start action has done it before; gantryd has none.
      if (options.shimCgroup !== '') joinCgroup(process.pid, options.shimCgroup);
      saveOptions(bundle, options);
      const container = await Container.create(
        { id, namespace, bundle, rootfs, stdio: io, options, spec },
        this.#observer(),
      );
      this.#containers.set(id, container);
      const { pid } = container.init;
      publisher.publish('/tasks/create', TaskCreate, { containerId: id, bundle, rootfs, io, checkpoint, pid });
      container.watch();
      return { pid };
    } finally {
      this.#creating.delete(id);
    }
  }

  async #delete({ id, execId }: task.DeleteRequest): Promise<task.DeleteResponse> {
    const container = this.#container(id);
    const deleted = await container.delete(execId);
    const response = { pid: deleted.pid, ...exitOf(deleted) };
    if (execId === '') {
      this.#containers.delete(id);
      this.#options.publisher.publish('/tasks/delete', TaskDelete, { containerId: id, ...response });
    }
    return response;
  }

  #exec({ id, execId, terminal, stdin, stdout, stderr, spec }: task.ExecProcessRequest): object {
    const container = this.#container(id);
    checkIdentifier(execId);
    if (spec === undefined) throw unknown('exec without a process specification');
    const document = { ...unpackJson<Record<string, unknown>>('process specification', spec), terminal };
    container.addExec(execId, { stdin, stdout, stderr, terminal }, document);
    this.#options.publisher.publish('/tasks/exec-added', TaskExecAdded, { containerId: id, execId });
    return EMPTY;
  }

  #state({ id, execId }: task.StateRequest): task.StateResponse {
    const container = this.#container(id);
    const process = container.process(execId);
    const { state } = process.execId === undefined ? process : { state: this.#execState(container, process) };
    return {
      id: process.id,
      bundle: container.bundle,
      pid: process.pid,
      status: statusOf(state),
      ...process.stdio,
      ...exitOf(process),
      execId: '', // As runc's shim has it.
    };
  }

  /** A running exec of a paused container is paused as well. */
  #execState(container: Container, process: TaskProcess): TaskProcess['state'] {
    const { state } = container.init;
    return process.state === 'running' && (state === 'paused' || state === 'pausing') ? state : process.state;
  }

  #pids(id: string): { processes: { pid: number; info: Any | undefined }[] } {
    const processes = this.#container(id).pids();
    return {
      processes: processes.map(({ pid, execId }) => ({
        pid,
        info: execId === undefined ? undefined : packAny(ProcessDetails, { execId }),
      })),
    };
  }

  async #update({ id, resources }: task.UpdateTaskRequest): Promise<object> {
    const container = this.#container(id);
    if (resources === undefined) throw unknown('update without resources');
    await container.update(unpackJson('resources', resources));
    return EMPTY;
  }

  #container(id: string): Container {
    const container = this.#containers.get(id);
    if (container === undefined) throw notFound('container not created');
    return container;
  }

  #observer(): ContainerContext {
    const { runtime, log, publisher, idle } = this.#options;
    return {
      runtime,
      log,
      onStart: ({ id }, { pid, execId }) => {
        idle.worked();
        if (execId === undefined) publisher.publish('/tasks/start', TaskStart, { containerId: id, pid });
        else publisher.publish('/tasks/exec-started', TaskExecStarted, { containerId: id, execId, pid });
      },
      onExit: (container, process, exit) => {
        idle.worked();
        const { pid, exitStatus } = exit;
        const exitedAt = toTimestamp(exit.exitedAtNs);
        log.debug('process exited', { id: container.id, process: process.id, pid, status: exitStatus });
        publisher.publish('/tasks/exit', TaskExit, {
          containerId: container.id,
          id: process.id,
          pid,
          exitStatus,
          exitedAt,
        });
      },
      onOom: ({ id }) => publisher.publish('/tasks/oom', TaskOOM, { containerId: id }),
    };
  }
}

function exitOf({ exit }: { exit: Exit | undefined }): { exitStatus: number; exitedAt: typeof GO_ZERO_TIME } {
  if (exit === undefined) return { exitStatus: 0, exitedAt: GO_ZERO_TIME };
  return { exitStatus: exit.exitStatus, exitedAt: toTimestamp(exit.exitedAtNs) };
}

function readSpec(bundle: string): RuntimeSpec {
  try {
    return parseSpec(readFileSync(join(bundle, 'config.json'), 'utf8')) as RuntimeSpec;
  } catch (cause) {
    throw unknown(`OCI runtime create failed: unable to read config.json: ${messageOf(cause)}`, { cause });
  }
}
