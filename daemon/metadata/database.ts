// The metadata database: SQLite in WAL mode with durable acknowledgement. Commits happen on the main thread; an answer
// waits for durable(), one fdatasync of the WAL that all requests of that moment share. Nothing here knows a table.

import { closeSync, fdatasync, openSync } from 'node:fs';
import { promisify } from 'node:util';
import BetterSqlite3 from 'better-sqlite3';
import { failedPrecondition } from '../../proto/errors';
import { MIGRATIONS } from './schema';

const fdatasyncAsync = promisify(fdatasync);
/** Before this version two connections could corrupt the WAL. */
const SQLITE_VERSION_MIN = [3, 51, 3] as const;
const BUSY_TIMEOUT_MS = 5000;

/** Any value but a promise: a transaction body never awaits. */
type Sync<T> = T extends PromiseLike<unknown> ? never : T;

export type Statement = BetterSqlite3.Statement<unknown[]>;

export class Database {
  readonly path: string;
  readonly #sql: BetterSqlite3.Database;
  readonly #statements = new Map<string, Statement>();
  readonly #wal: number;
  #hooks: (() => void)[] = [];
  readonly #commitListeners: (() => void)[] = [];
  #depth = 0;
  #committed = 0;
  #synced = 0;
  #sync: Promise<void> | undefined;

  private constructor(path: string, sql: BetterSqlite3.Database) {
    this.path = path;
    this.#sql = sql;
    this.#wal = openSync(`${path}-wal`, 'r+');
  }

  /**
   * Opens or creates the database and brings its schema up to date.
   * @throws FAILED_PRECONDITION when the file is newer than this program or SQLite itself is too old.
   */
  static open(path: string): Database {
    const sql = new BetterSqlite3(path, { timeout: BUSY_TIMEOUT_MS });
    try {
      checkSqliteVersion(sql.prepare('SELECT sqlite_version()').pluck().get() as string);
      sql.pragma('journal_mode = WAL');
      sql.pragma('synchronous = NORMAL');
      sql.pragma('foreign_keys = ON');
      sql.defaultSafeIntegers(true);
      migrate(sql);
      return new Database(path, sql);
    } catch (error) {
      sql.close();
      throw error;
    }
  }

  /** A cached statement. Integers come back as bigint. */
  prepare(source: string): Statement {
    let statement = this.#statements.get(source);
    if (statement === undefined) {
      statement = this.#sql.prepare(source);
      this.#statements.set(source, statement);
    }
    return statement;
  }

  /** Runs the body in BEGIN IMMEDIATE ... COMMIT; a call inside another joins it. Rolls back when the body throws. */
  transaction<T>(body: () => Sync<T>): T {
    if (this.#depth > 0) return body();
    this.#sql.exec('BEGIN IMMEDIATE');
    this.#depth += 1;
    let result: T;
    try {
      result = body();
      this.#sql.exec('COMMIT');
    } catch (error) {
      this.#hooks = [];
      if (this.#sql.inTransaction) this.#sql.exec('ROLLBACK');
      throw error;
    } finally {
      this.#depth -= 1;
    }
    this.#committed += 1;
    const hooks = this.#hooks;
    this.#hooks = [];
    for (const hook of hooks) hook();
    for (const listener of this.#commitListeners) listener();
    return result;
  }

  /** Runs the hook after the transaction at hand has committed, at once when there is none, never when it rolls back. */
  afterCommit(hook: () => void): void {
    if (this.#depth > 0) this.#hooks.push(hook);
    else hook();
  }

  /** Calls the listener after every outermost transaction, following its hooks. */
  onCommit(listener: () => void): void {
    this.#commitListeners.push(listener);
  }

  /** Resolves when everything that is committed at this moment is on disk. Costs nothing when it already is. */
  async durable(): Promise<void> {
    const target = this.#committed;
    while (this.#synced < target) {
      this.#sync ??= this.#syncOnce();
      await this.#sync;
    }
  }

  close(): void {
    closeSync(this.#wal);
    this.#sql.close();
  }

  async #syncOnce(): Promise<void> {
    const upTo = this.#committed;
    try {
      await fdatasyncAsync(this.#wal);
      this.#synced = upTo;
    } finally {
      this.#sync = undefined;
    }
  }
}

function checkSqliteVersion(version: string): void {
  const parts = version.split('.').map(Number);
  for (const [index, min] of SQLITE_VERSION_MIN.entries()) {
    const part = parts[index] ?? 0;
    if (part > min) return;
    if (part < min) throw failedPrecondition(`SQLite ${version} is older than ${SQLITE_VERSION_MIN.join('.')}`);
  }
}

function migrate(sql: BetterSqlite3.Database): void {
  const version = Number(sql.pragma('user_version', { simple: true }));
  if (version > MIGRATIONS.length) {
    throw failedPrecondition(
      `database ${sql.name} has schema version ${version}, this program knows ${MIGRATIONS.length}`,
    );
  }
  for (let next = version; next < MIGRATIONS.length; next += 1) {
    sql
      .transaction(() => {
        sql.exec(MIGRATIONS[next] as string);
        sql.pragma(`user_version = ${next + 1}`);
      })
      .immediate();
  }
}
