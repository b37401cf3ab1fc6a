// The daemon's one SQLite connection: migrations, transactions and durability. Commits are not synced by SQLite
// (synchronous=NORMAL in WAL mode); durable() does that for all callers of a moment with one fdatasync of the WAL, off
// the event loop. Never open the database file itself a second time in this process: closing that descriptor would
// drop SQLite's POSIX locks. It must not know any table.

import fs, { closeSync, existsSync, fdatasyncSync, fstatSync, fsyncSync, openSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import Sqlite from 'better-sqlite3';
import { dataLoss, errorKind, internal, isErrno, messageOf, resourceExhausted } from '../../proto/errors';
import { Checkpointer } from './checkpointer';
import { Reserve } from './reserve';
import { MIGRATIONS } from './schema';

/** Oldest SQLite in which two connections cannot corrupt the WAL when it is reset (sqlite.org/wal.html). */
export const SQLITE_VERSION_MIN = '3.51.3';
/** The WAL is checkpointed when its file is larger than this. */
export const WAL_BYTES_MAX = 8 * 1024 * 1024;
/** What is left of the WAL file when it starts again. */
const WAL_BYTES_KEPT = 4 * 1024 * 1024;
const BUSY_TIMEOUT_MS = 10_000;
/** Larger databases are not read through at the start; `PRAGMA integrity_check` remains the admin's tool. */
const QUICK_CHECK_BYTES_MAX = 64 * 1024 * 1024;
const PAGE_CACHE_KIB = 4096;

export type Statement = Sqlite.Statement<unknown[], unknown>;
/** Makes a transaction body that returns a promise a compile-time error. */
export type NotPromise<T> = T extends PromiseLike<unknown> ? never : T;

export interface DatabaseOptions {
  /** Called once when the disk refused a sync. What was acknowledged is safe, but nothing more can be. */
  readonly onSyncFailure?: (error: unknown) => void;
  readonly walBytesMax?: number;
}

interface Sync {
  readonly changes: bigint;
  readonly done: Promise<void>;
}

export class Database {
  readonly path: string;
  readonly #connection: Sqlite.Database;
  readonly #options: DatabaseOptions;
  readonly #statements = new Map<string, Statement>();
  readonly #countChanges: Statement;
  readonly #checkpointer: Checkpointer;
  readonly #reserve: Reserve;
  readonly #walFd: number;
  readonly #listeners: (() => void)[] = [];
  #hooks: (() => void)[] = [];
  #isInTransaction = false;
  #isClosed = false;
  #syncedChanges = 0n;
  #running: Sync | undefined;
  #next: Promise<void> | undefined;
  #failure: unknown;
  #syncs = 0;

  private constructor(path: string, connection: Sqlite.Database, walFd: number, options: DatabaseOptions) {
    this.path = path;
    this.#connection = connection;
    this.#walFd = walFd;
    this.#options = options;
    this.#countChanges = this.prepare('SELECT total_changes()').pluck();
    this.#syncedChanges = this.#changes();
    this.#checkpointer = new Checkpointer(path);
    this.#reserve = new Reserve(`${path}-reserve`);
    void this.#reserve.restore(); // Nobody waits for it, and it never rejects.
  }

  /**
   * Opens or creates the database, checks it after a crash and brings its schema up to date.
   * @throws DATA_LOSS when the file is damaged, INTERNAL when SQLite is too old or the schema is from a newer gantryd.
   */
  static open(path: string, options: DatabaseOptions = {}): Database {
    const hasCrashed = existsSync(`${path}-wal`);
    const connection = new Sqlite(path, { timeout: BUSY_TIMEOUT_MS });
    try {
      checkVersion(connection);
      connection.pragma('journal_mode = WAL');
      connection.pragma('synchronous = NORMAL');
      connection.pragma('wal_autocheckpoint = 0');
      connection.pragma(`journal_size_limit = ${WAL_BYTES_KEPT}`);
      connection.pragma(`cache_size = -${PAGE_CACHE_KIB}`);
      connection.pragma('foreign_keys = ON');
      connection.pragma('temp_store = MEMORY');
      connection.defaultSafeIntegers(true);
      if (hasCrashed && statSync(path).size <= QUICK_CHECK_BYTES_MAX) quickCheck(connection, path);
      migrate(connection, path, MIGRATIONS);
      return new Database(path, connection, openWal(path), options);
    } catch (error) {
      connection.close();
      throw explain(error, path);
    }
  }

  /** A cached statement. Integers come back as bigint. */
  prepare(sql: string): Statement {
    let statement = this.#statements.get(sql);
    if (statement === undefined) {
      statement = this.#connection.prepare<unknown[], unknown>(sql);
      this.#statements.set(sql, statement);
    }
    return statement;
  }

  /**
   * Runs `body` in a write transaction; a nested call joins the outer one. Everything is rolled back when it throws.
   * @throws RESOURCE_EXHAUSTED when the disk is full, and what `body` throws
   */
  transaction<T>(body: () => NotPromise<T>): T {
    if (this.#isInTransaction) return body();
    return this.#finish(this.#commit(body));
  }

  /**
   * Like transaction(), for what must succeed on a full disk: exits and deletions. It uses up the reserve then, so the
   * body may run twice.
   */
  essential<T>(body: () => NotPromise<T>): T {
    if (this.#isInTransaction) return body();
    try {
      return this.#finish(this.#commit(body));
    } catch (error) {
      if (errorKind(error) !== 'resource exhausted' || !this.#reserve.release()) throw error;
      return this.#finish(this.#commit(body));
    }
  }

  /** Something large was removed from disk: what essential() has used up is taken back now, before others take it. */
  noteRoom(): void {
    if (!this.#isClosed) this.#reserve.noteRoom();
  }

  #finish<T>(result: T): T {
    const hooks = this.#hooks;
    this.#hooks = [];
    for (const hook of hooks) hook();
    for (const listener of this.#listeners) listener();
    return result;
  }

  /** Runs `hook` once the outermost transaction is committed, never when it is rolled back; at once when none is open. */
  afterCommit(hook: () => void): void {
    if (this.#isInTransaction) this.#hooks.push(hook);
    else hook();
  }

  /** Calls `listener` after every outermost transaction, following its hooks. */
  onCommit(listener: () => void): void {
    this.#listeners.push(listener);
  }

  /** Whether a transaction is open, so that afterCommit() waits. */
  get inTransaction(): boolean {
    return this.#isInTransaction;
  }

  /** Syncs of the WAL so far. */
  get syncCount(): number {
    return this.#syncs;
  }

  /** Counts written rows: two equal values mean that nothing was written in between. */
  get changes(): bigint {
    return this.#changes();
  }

  /**
   * Resolves when everything that is committed now is on disk. All callers of a moment share one fdatasync.
   * @throws INTERNAL when the disk refused it, now and for ever
   */
  durable(): Promise<void> {
    if (this.#failure !== undefined) return Promise.reject(this.#syncError());
    if (this.#isClosed) return Promise.resolve();
    const changes = this.#changes();
    if (changes === this.#syncedChanges) return Promise.resolve();
    if (this.#running?.changes === changes) return this.#running.done;
    // A sync that began before this commit may have missed it: join the one after it.
    this.#next ??= (this.#running?.done.catch(() => {}) ?? Promise.resolve()).then(() => this.#sync());
    return this.#next;
  }

  /** Closes at once; resolves when the sync, checkpoint or reserve under way has ended too. The last one checkpoints. */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    fdatasyncSync(this.#walFd);
    this.#connection.close();
    if (this.#running !== undefined) await this.#running.done.catch(() => {});
    closeSync(this.#walFd);
    await this.#reserve.close();
    await this.#checkpointer.close();
  }

  #commit<T>(body: () => NotPromise<T>): T {
    this.#isInTransaction = true;
    try {
      this.prepare('BEGIN IMMEDIATE').run();
      const result = body();
      this.prepare('COMMIT').run();
      return result;
    } catch (error) {
      this.#hooks = [];
      if (this.#connection.inTransaction) this.prepare('ROLLBACK').run();
      throw explain(error, this.path);
    } finally {
      this.#isInTransaction = false;
    }
  }

  #changes(): bigint {
    return this.#countChanges.get() as bigint;
  }

  #sync(): Promise<void> {
    this.#next = undefined;
    if (this.#isClosed) return Promise.resolve();
    this.#syncs += 1;
    const changes = this.#changes();
    const done = new Promise<void>((resolve, reject) => {
      fs.fdatasync(this.#walFd, (error) => {
        this.#running = undefined;
        if (error !== null) {
          this.#fail(error);
          reject(this.#syncError());
          return;
        }
        this.#syncedChanges = changes;
        if (!this.#isClosed) void this.#reserve.restore();
        if (!this.#isClosed && fstatSync(this.#walFd).size > (this.#options.walBytesMax ?? WAL_BYTES_MAX))
          this.#checkpointer.request();
        resolve();
      });
    });
    this.#running = { changes, done };
    return done;
  }

  /** After a failed sync the kernel may have dropped the pages, so a second one proves nothing: no way back. */
  #fail(error: unknown): void {
    if (this.#failure !== undefined) return;
    this.#failure = error;
    this.#options.onSyncFailure?.(error);
  }

  #syncError(): Error {
    return internal(`metadata database "${this.path}" cannot be synced to disk: ${messageOf(this.#failure)}`, {
      cause: this.#failure,
    });
  }
}

/** Applies the migrations that the database does not have yet, each in a transaction of its own. */
export function migrate(connection: Sqlite.Database, path: string, migrations: readonly string[]): void {
  const version = Number(connection.pragma('user_version', { simple: true }));
  if (version > migrations.length) {
    throw internal(`metadata database "${path}" has schema ${version}, this gantryd knows up to ${migrations.length}`);
  }
  for (const [index, sql] of migrations.entries()) {
    if (index < version) continue;
    connection
      .transaction(() => {
        connection.exec(sql);
        connection.pragma(`user_version = ${index + 1}`);
      })
      .immediate();
  }
}

/** @throws INTERNAL when the library is older than SQLITE_VERSION_MIN */
export function checkSqliteVersion(version: string): void {
  const actual = version.split('.').map(Number);
  const wanted = SQLITE_VERSION_MIN.split('.').map(Number);
  const index = wanted.findIndex((part, at) => part !== (actual[at] ?? 0));
  if (index >= 0 && (actual[index] ?? 0) < (wanted[index] ?? 0)) {
    throw internal(`SQLite ${version} can corrupt a database in WAL mode, ${SQLITE_VERSION_MIN} or newer is needed`);
  }
}

function checkVersion(connection: Sqlite.Database): void {
  checkSqliteVersion(connection.prepare('SELECT sqlite_version()').pluck().get() as string);
}

function quickCheck(connection: Sqlite.Database, path: string): void {
  const result = connection.pragma('quick_check(1)', { simple: true });
  if (result !== 'ok') throw dataLoss(`metadata database "${path}" is damaged: ${String(result)}`);
}

/** Opens the WAL for syncing and makes its directory entry and what the migrations wrote durable. */
function openWal(path: string): number {
  const fd = openSync(`${path}-wal`, 'r+');
  fsyncSync(fd);
  const directory = openSync(dirname(path), 'r');
  fsyncSync(directory);
  closeSync(directory);
  return fd;
}

function explain(error: unknown, path: string): unknown {
  if (isErrno(error, 'SQLITE_FULL', 'SQLITE_IOERR_SHMSIZE')) {
    return resourceExhausted(`metadata database "${path}": no space left on device`, { cause: error });
  }
  if (isErrno(error, 'SQLITE_CORRUPT', 'SQLITE_NOTADB')) {
    return dataLoss(`metadata database "${path}" is damaged: ${messageOf(error)}`, { cause: error });
  }
  return error;
}
