// The Tasks service (containerd.services.tasks.v1): converts requests and answers; the work is in daemon/tasks.

import { messageOf, notImplemented, unknown } from '../../proto/errors';
import { TasksService } from '../../proto/generated/containerd.services.tasks.v1';
import { type Process, Status } from '../../proto/generated/containerd.v1.types';
import { type CallContext, defineService, type Service } from '../grpc/handler';
import { findContainer } from '../metadata/container-store';
import type { Database } from '../metadata/database';
import { type Filter, parseFilters } from '../metadata/filters';
import { timestampOf } from '../tasks/process-tracker';
import type { TaskManager } from '../tasks/task-manager';
import type { Exit, ProcessKey, ProcessRecord, ProcessStatus, TaskKey } from '../tasks/task-store';
import type { Trust } from '../trust/trust';

const STATUS: Record<ProcessStatus, Process['status']> = {
  created: Status.CREATED,
  running: Status.RUNNING,
  stopped: Status.STOPPED,
  paused: Status.PAUSED,
  pausing: Status.PAUSING,
};

export interface TasksDeps {
  readonly db: Database;
  readonly tasks: TaskManager;
  /** Undefined: every image is accepted. */
  readonly trust: Trust | undefined;
}

export function tasksService({ db, tasks, trust }: TasksDeps): Service {
  return defineService(TasksService, {
    create: async (request, context) => {
      if (request.checkpoint !== undefined) throw notImplemented('create from a checkpoint');
      const key = taskOf(request, context);
      if (trust !== undefined) await checkImage(trust, db, key, context.signal);
      return { containerId: key.id, pid: await tasks.create(key, request, context.signal) };
    },
    start: async (request, context) => ({ pid: await tasks.start(processOf(request, context), context.signal) }),
    delete: async (request, context) => {
      return toDeleted('', await tasks.delete(taskOf(request, context), context.signal));
    },
    deleteProcess: async (request, context) => {
      const exit = await tasks.deleteProcess(processOf(request, context), context.signal);
      return toDeleted(request.execId, exit);
    },
    get: (request, context) => ({ process: toProcess(tasks.get(processOf(request, context))) }),
    list: (_request, context) => ({ tasks: tasks.list(context.requireNamespace()).map(toProcess) }),
    kill: async (request, context) => {
      await tasks.kill(processOf(request, context), { signal: request.signal, all: request.all }, context.signal);
      return {};
    },
    exec: async (request, context) => {
      await tasks.exec(processOf(request, context), request, context.signal);
      return {};
    },
    resizePty: async (request, context) => {
      const { width, height } = request;
      await tasks.resizePty(processOf(request, context), { width, height }, context.signal);
      return {};
    },
    closeIO: async (request, context) => {
      await tasks.closeIo(processOf(request, context), request.stdin, context.signal);
      return {};
    },
    pause: async (request, context) => {
      await tasks.pause(taskOf(request, context), context.signal);
      return {};
    },
    resume: async (request, context) => {
      await tasks.resume(taskOf(request, context), context.signal);
      return {};
    },
    listPids: async (request, context) => ({
      processes: await tasks.pids(taskOf(request, context), context.signal),
    }),
    checkpoint: (request, context) => tasks.checkpoint(taskOf(request, context)),
    update: async (request, context) => {
      const { resources, annotations } = request;
      await tasks.update(taskOf(request, context), { resources, annotations }, context.signal);
      return {};
    },
    metrics: async (request, context) => {
      const filter = toFilter(request.filters);
      const matches = (key: TaskKey) => filter.matches((path) => fieldOf(key, path));
      return { metrics: await tasks.metrics(context.requireNamespace(), matches, context.signal) };
    },
    wait: async (request, context) => {
      const { exitStatus, exitedAt } = await tasks.wait(processOf(request, context), context.signal);
      return { exitStatus, exitedAt: timestampOf({ exitedAt }) };
    },
  });
}

/** Without the container nothing is judged: there will be no task either. */
async function checkImage(trust: Trust, db: Database, { namespace, id }: TaskKey, signal: AbortSignal): Promise<void> {
  const image = findContainer(db, namespace, id)?.image;
  if (image !== undefined) await trust.checkRun(namespace, image, signal);
}

function taskOf(request: { containerId: string }, context: CallContext): TaskKey {
  return { namespace: context.requireNamespace(), id: request.containerId };
}

function processOf(request: { containerId: string; execId: string }, context: CallContext): ProcessKey {
  return { ...taskOf(request, context), execId: request.execId };
}

/** container_id stays empty: id names the container for init and the exec else. */
function toProcess(record: ProcessRecord): Omit<Process, 'containerId'> {
  const { pid, stdin, stdout, stderr, terminal, exitStatus } = record;
  return {
    id: record.execId === '' ? record.id : record.execId,
    pid,
    status: STATUS[record.status],
    stdin,
    stdout,
    stderr,
    terminal,
    exitStatus,
    exitedAt: timestampOf(record),
  };
}

function toDeleted(id: string, exit: Exit) {
  return { id, pid: exit.pid, exitStatus: exit.exitStatus, exitedAt: timestampOf(exit) };
}

/** @throws UNKNOWN for a filter that does not parse, as containerd answers here. */
function toFilter(filters: readonly string[]): Filter {
  try {
    return parseFilters(filters);
  } catch (error) {
    throw unknown(messageOf(error), { cause: error });
  }
}

function fieldOf(key: TaskKey, path: readonly string[]): string | undefined {
  if (path[0] === 'id') return key.id;
  return path[0] === 'namespace' ? key.namespace : undefined;
}
