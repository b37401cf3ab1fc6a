// Rows of the tables tasks and processes: what is known about tasks and the processes in them. Everything here is
// synchronous and runs inside the caller's transaction, where there is one. List and Get of the API answer from here.

import { Any } from '../../proto/generated/google.protobuf';
import type { Database } from '../metadata/database';

/**
 * creating: the row is the intent, side effects may exist, nobody was told of the task.
 * ready: its init process exists and Create is answered.
 */
export type TaskState = 'creating' | 'ready';

export type ProcessStatus = 'created' | 'running' | 'stopped' | 'paused' | 'pausing';

export interface TaskKey {
  readonly namespace: string;
  readonly id: string;
}

export interface TaskRecord extends TaskKey {
  readonly bundle: string;
  readonly runtime: string;
  readonly shimPath: string;
  readonly shimPid: number;
  readonly shimAddress: string;
  readonly shimVersion: number;
  readonly state: TaskState;
  readonly createdAt: bigint;
}

export interface ProcessIo {
  readonly stdin: string;
  readonly stdout: string;
  readonly stderr: string;
  readonly terminal: boolean;
}

export interface ProcessKey extends TaskKey {
  /** Empty for the init process. */
  readonly execId: string;
}

/** exitedAt is in nanoseconds since 1970; 0 means that the process has not exited. */
export interface ProcessRecord extends ProcessKey, ProcessIo {
  readonly pid: number;
  readonly status: ProcessStatus;
  readonly exitStatus: number;
  readonly exitedAt: bigint;
}

export interface Exit {
  readonly pid: number;
  readonly exitStatus: number;
  readonly exitedAt: bigint;
}

/** What a task takes from its container. spec is the value of the stored Any, unchanged. */
export interface ContainerParts {
  readonly runtime: string;
  readonly options: Any | undefined;
  readonly spec: Buffer;
}

interface Row {
  readonly [column: string]: unknown;
}

const PROCESS_KEY = 'namespace = @namespace AND container_id = @id AND exec_id = @execId';

export class TaskStore {
  private readonly db: Database;

  constructor(db: Database) {
    this.db = db;
  }

  getContainer(key: TaskKey): ContainerParts | undefined {
    const row = this.db
      .prepare('SELECT runtime_name, runtime_options, spec FROM containers WHERE namespace = ? AND id = ?')
      .get(key.namespace, key.id) as Row | undefined;
    if (row === undefined) return undefined;
    const options = row['runtime_options'] as Buffer | null;
    return {
      runtime: row['runtime_name'] as string,
      options: options === null ? undefined : Any.decode(options),
      spec: Any.decode(row['spec'] as Buffer).value,
    };
  }

  insertTask(record: TaskRecord): void {
    this.write(
      `INSERT INTO tasks (namespace, id, bundle, runtime, shim_path, shim_pid, shim_address, shim_version, state, created_at)
       VALUES (@namespace, @id, @bundle, @runtime, @shimPath, @shimPid, @shimAddress, @shimVersion, @state, @createdAt)`,
      { ...record },
    );
  }

  setShim(key: TaskKey, shim: { pid: number; address: string; version: number }): void {
    this.write(
      `UPDATE tasks SET shim_pid = @pid, shim_address = @address, shim_version = @version
       WHERE namespace = @namespace AND id = @id`,
      { namespace: key.namespace, id: key.id, ...shim },
    );
  }

  setState(key: TaskKey, state: TaskState): void {
    this.write('UPDATE tasks SET state = @state WHERE namespace = @namespace AND id = @id', {
      namespace: key.namespace,
      id: key.id,
      state,
    });
  }

  getTask(key: TaskKey): TaskRecord | undefined {
    const row = this.db.prepare('SELECT * FROM tasks WHERE namespace = ? AND id = ?').get(key.namespace, key.id);
    return row === undefined ? undefined : toTask(row as Row);
  }

  allTasks(): TaskRecord[] {
    const rows = this.db.prepare('SELECT * FROM tasks ORDER BY namespace, id').all();
    return rows.map((row) => toTask(row as Row));
  }

  /** Removes the task and its processes. */
  deleteTask(key: TaskKey): void {
    const { namespace, id } = key;
    this.db.essential(() => {
      this.write('DELETE FROM processes WHERE namespace = @namespace AND container_id = @id', { namespace, id });
      this.write('DELETE FROM tasks WHERE namespace = @namespace AND id = @id', { namespace, id });
    });
  }

  /** @returns false when the process is there already. */
  insertProcess(key: ProcessKey, pid: number, io: ProcessIo): boolean {
    return (
      this.write(
        `INSERT INTO processes (namespace, container_id, exec_id, pid, status, stdin, stdout, stderr, terminal)
         VALUES (@namespace, @id, @execId, @pid, 'created', @stdin, @stdout, @stderr, @terminal)
         ON CONFLICT DO NOTHING`,
        { ...onlyKey(key), pid, ...onlyIo(io) },
      ) > 0
    );
  }

  getProcess(key: ProcessKey): ProcessRecord | undefined {
    const row = this.db.prepare(`SELECT * FROM processes WHERE ${PROCESS_KEY}`).get(onlyKey(key));
    return row === undefined ? undefined : toProcess(row as Row);
  }

  /** Init first, then execs by id. */
  processesOf(key: TaskKey): ProcessRecord[] {
    const rows = this.db
      .prepare('SELECT * FROM processes WHERE namespace = ? AND container_id = ? ORDER BY exec_id')
      .all(key.namespace, key.id);
    return rows.map((row) => toProcess(row as Row));
  }

  /** Init processes of all tasks of a namespace that were acknowledged, by id. */
  listInits(namespace: string): ProcessRecord[] {
    const rows = this.db
      .prepare(
        `SELECT p.* FROM processes p JOIN tasks t ON t.namespace = p.namespace AND t.id = p.container_id
         WHERE p.namespace = ? AND p.exec_id = '' AND t.state = 'ready' ORDER BY p.container_id`,
      )
      .all(namespace);
    return rows.map((row) => toProcess(row as Row));
  }

  deleteProcess(key: ProcessKey): void {
    this.write(`DELETE FROM processes WHERE ${PROCESS_KEY}`, onlyKey(key));
  }

  /** created to running. @returns false when the process is not in state created, or is another one by its pid. */
  markStarted(key: ProcessKey, pid: number): boolean {
    const source = `UPDATE processes SET status = 'running', pid = @pid
                    WHERE ${PROCESS_KEY} AND status = 'created' AND pid IN (0, @pid)`;
    return this.write(source, { ...onlyKey(key), pid }) > 0;
  }

  /** @returns false when the process was not in one of the states `from`. */
  moveStatus(key: ProcessKey, from: readonly ProcessStatus[], to: ProcessStatus): boolean {
    const source = `UPDATE processes SET status = @to WHERE ${PROCESS_KEY} AND status IN (SELECT value FROM json_each(@from))`;
    return this.write(source, { ...onlyKey(key), to, from: JSON.stringify(from) }) > 0;
  }

  /** @returns false when the process has exited before, or is unknown. The exit is not announced yet. */
  markExited(key: ProcessKey, exit: Exit): boolean {
    const { pid, exitStatus, exitedAt } = exit;
    const source = `UPDATE processes SET status = 'stopped', pid = @pid, exit_status = @exitStatus, exited_at = @exitedAt,
                    announced = 0 WHERE ${PROCESS_KEY} AND status <> 'stopped'`;
    return this.write(source, { ...onlyKey(key), pid, exitStatus, exitedAt }) > 0;
  }

  /** Notes that the exit's event is in the journal. */
  markAnnounced(key: ProcessKey): void {
    this.write(`UPDATE processes SET announced = 1 WHERE ${PROCESS_KEY}`, onlyKey(key));
  }

  /** Exits that were recorded, but whose event was not published: the daemon died in between. Execs first. */
  unannouncedExits(key: TaskKey): ProcessRecord[] {
    const rows = this.db
      .prepare(
        `SELECT * FROM processes WHERE namespace = ? AND container_id = ? AND status = 'stopped' AND announced = 0
       ORDER BY exec_id DESC`,
      )
      .all(key.namespace, key.id);
    return rows.map((row) => toProcess(row as Row));
  }

  /** @returns the number of rows changed. */
  private write(source: string, parameters: Row): number {
    return this.db.essential(() => this.db.prepare(source).run(parameters).changes);
  }
}

function onlyKey(key: ProcessKey) {
  return { namespace: key.namespace, id: key.id, execId: key.execId };
}

function onlyIo(io: ProcessIo) {
  return { stdin: io.stdin, stdout: io.stdout, stderr: io.stderr, terminal: io.terminal ? 1 : 0 };
}

function toTask(row: Row): TaskRecord {
  return {
    namespace: row['namespace'] as string,
    id: row['id'] as string,
    bundle: row['bundle'] as string,
    runtime: row['runtime'] as string,
    shimPath: row['shim_path'] as string,
    shimPid: Number(row['shim_pid']),
    shimAddress: row['shim_address'] as string,
    shimVersion: Number(row['shim_version']),
    state: row['state'] as TaskState,
    createdAt: BigInt(row['created_at'] as bigint | number),
  };
}

function toProcess(row: Row): ProcessRecord {
  return {
    namespace: row['namespace'] as string,
    id: row['container_id'] as string,
    execId: row['exec_id'] as string,
    pid: Number(row['pid']),
    status: row['status'] as ProcessStatus,
    stdin: row['stdin'] as string,
    stdout: row['stdout'] as string,
    stderr: row['stderr'] as string,
    terminal: Number(row['terminal']) !== 0,
    exitStatus: Number(row['exit_status']),
    exitedAt: row['exited_at'] as bigint,
  };
}
