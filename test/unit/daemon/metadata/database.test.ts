// The database: transactions, hooks, durability, migrations, checkpoints.

import fs, { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Sqlite from 'better-sqlite3';
import { checkSqliteVersion, Database, migrate } from '../../../../daemon/metadata/database';
import { MIGRATIONS } from '../../../../daemon/metadata/schema';
import { errorKind } from '../../../../proto/errors';

const directories: string[] = [];
const databases: Database[] = [];

function temporary(): string {
  const directory = mkdtempSync(join(tmpdir(), 'gantry-database-'));
  directories.push(directory);
  return join(directory, 'db');
}

function open(path = temporary(), options = {}): Database {
  const db = Database.open(path, options);
  databases.push(db);
  return db;
}

function add(db: Database, name: string): void {
  db.prepare('INSERT INTO namespaces (name) VALUES (?)').run(name);
}

function names(db: Database): unknown[] {
  return db.prepare('SELECT name FROM namespaces ORDER BY name').pluck().all();
}

afterEach(async () => {
  await Promise.all(databases.splice(0).map((db) => db.close()));
  for (const directory of directories.splice(0)) rmSync(directory, { recursive: true });
});

describe('Database.transaction()', () => {
  it('commits what the body wrote and returns its result', () => {
    const db = open();

    const result = db.transaction(() => {
      add(db, 'a');
      return 7;
    });

    expect(result).toBe(7);
    expect(names(db)).toEqual(['a']);
  });

  it('rolls everything back when the body throws, nested calls included', () => {
    const db = open();
    const hook = jest.fn();

    const run = () =>
      db.transaction(() => {
        add(db, 'a');
        db.transaction(() => add(db, 'b'));
        db.afterCommit(hook);
        throw new Error('no');
      });

    expect(run).toThrow('no');
    expect(names(db)).toEqual([]);
    expect(hook).not.toHaveBeenCalled();
  });

  it('runs hooks after the outermost commit, in order, then the commit listeners', () => {
    const db = open();
    const calls: string[] = [];
    db.onCommit(() => calls.push(`listener ${names(db).length}`));

    db.transaction(() => {
      db.transaction(() => {
        add(db, 'a');
        db.afterCommit(() => calls.push(`first ${db.inTransaction}`));
      });
      db.afterCommit(() => calls.push('second'));
      calls.push('body');
    });

    expect(calls).toEqual(['body', 'first false', 'second', 'listener 1']);
  });

  it('lets a hook write in a transaction of its own', () => {
    const db = open();

    db.transaction(() => {
      add(db, 'a');
      db.afterCommit(() => db.transaction(() => add(db, 'b')));
    });

    expect(names(db)).toEqual(['a', 'b']);
  });

  it('works again after a failure', () => {
    const db = open();
    expect(() => db.transaction(() => add(db, null as unknown as string))).toThrow(/NOT NULL/);

    db.transaction(() => add(db, 'a'));

    expect(names(db)).toEqual(['a']);
  });
});

describe('Database.afterCommit()', () => {
  it('runs the hook at once when no transaction is open', () => {
    const hook = jest.fn();

    open().afterCommit(hook);

    expect(hook).toHaveBeenCalledTimes(1);
  });
});

describe('Database.durable()', () => {
  it('is settled without a sync when nothing was written', async () => {
    const db = open();
    const before = db.syncCount;

    await db.durable();

    expect(db.syncCount).toBe(before);
  });

  it('syncs once for all that wait at the same moment', async () => {
    const db = open();
    const before = db.syncCount;

    const waits = Array.from({ length: 50 }, (_, index) => {
      db.transaction(() => add(db, `n${index}`));
      return db.durable();
    });
    await Promise.all(waits);

    expect(db.syncCount - before).toBeLessThanOrEqual(2);
    expect(db.syncCount - before).toBeGreaterThanOrEqual(1);
  });

  it('does not count a sync that began before the commit', async () => {
    const db = open();
    db.transaction(() => add(db, 'a'));
    const first = db.durable();
    // The first sync is handed to the thread pool in a microtask; commit after that.
    await Promise.resolve();
    const before = db.syncCount;
    db.transaction(() => add(db, 'b'));

    await db.durable();

    expect(db.syncCount).toBeGreaterThan(before);
    await first;
  });

  it('sees writes made without a transaction', async () => {
    const db = open();
    const before = db.syncCount;

    add(db, 'a');
    await db.durable();

    expect(db.syncCount).toBe(before + 1);
  });

  it('refuses for ever once the disk has refused', async () => {
    const failures: unknown[] = [];
    const db = open(temporary(), { onSyncFailure: (error: unknown) => failures.push(error) });
    const failing = jest
      .spyOn(fs, 'fdatasync')
      .mockImplementation((_fd, callback) => callback(Object.assign(new Error('EIO: i/o error'), { code: 'EIO' })));

    try {
      add(db, 'a');
      await expect(db.durable()).rejects.toThrow(/cannot be synced to disk: EIO/);
    } finally {
      failing.mockRestore();
    }

    await expect(db.durable()).rejects.toThrow(/cannot be synced/);
    expect(failures).toHaveLength(1);
  });
});

describe('Database.open()', () => {
  it('uses WAL, checks foreign keys and never checkpoints by itself', () => {
    const db = open();

    const pragma = (name: string) => String(db.prepare(`PRAGMA ${name}`).pluck().get());

    expect(pragma('journal_mode')).toBe('wal');
    expect(pragma('foreign_keys')).toBe('1');
    expect(pragma('synchronous')).toBe('1');
    expect(pragma('wal_autocheckpoint')).toBe('0');
  });

  it('reads 64-bit integers exactly', () => {
    const db = open();
    const ns = 1_763_729_999_123_456_789n;
    db.prepare("INSERT INTO events (timestamp, namespace, topic, event) VALUES (?, 'n', '/t', x'')").run(ns);

    expect(db.prepare('SELECT timestamp FROM events').pluck().get()).toBe(ns);
  });

  it('keeps what was committed when it is opened again', async () => {
    const path = temporary();
    const db = open(path);
    add(db, 'a');
    await db.close();

    expect(names(open(path))).toEqual(['a']);
  });

  it('refuses a database of a newer program', () => {
    const path = temporary();
    const raw = new Sqlite(path);
    raw.pragma(`user_version = ${MIGRATIONS.length + 1}`);
    raw.close();

    expect(() => open(path)).toThrow(/has schema \d+, this gantryd knows up to/);
  });

  it('refuses a file that is no database', () => {
    const path = temporary();
    writeFileSync(path, 'this is text'.repeat(100));

    expect(() => open(path)).toThrow(/is damaged/);
  });

  it('finds damage after a crash', async () => {
    const path = temporary();
    const db = open(path);
    for (let index = 0; index < 500; index += 1) add(db, `n${index}`.padEnd(200, 'x'));
    await db.close();
    const bytes = fs.readFileSync(path);
    bytes.fill(0xff, 4096, bytes.length - 4096);
    writeFileSync(path, bytes);
    writeFileSync(`${path}-wal`, '');

    let error: unknown;
    try {
      open(path);
    } catch (caught) {
      error = caught;
    }

    expect(errorKind(error)).toBe('data loss');
  });
});

describe('checkSqliteVersion()', () => {
  it.each(['3.51.2', '3.50.9', '2.99.99', '3.9.0'])('refuses %s', (version) => {
    expect(() => checkSqliteVersion(version)).toThrow(/can corrupt/);
  });

  it.each(['3.51.3', '3.51.10', '3.52.0', '4.0.0'])('accepts %s', (version) => {
    expect(() => checkSqliteVersion(version)).not.toThrow();
  });
});

describe('migrate()', () => {
  it('applies each migration once and counts it', () => {
    const raw = new Sqlite(':memory:');

    migrate(raw, 'x', ['CREATE TABLE a (x)']);
    migrate(raw, 'x', ['CREATE TABLE a (x)', 'CREATE TABLE b (x)']);

    expect(raw.pragma('user_version', { simple: true })).toBe(2);
    raw.close();
  });

  it('leaves nothing of a migration that fails', () => {
    const raw = new Sqlite(':memory:');

    expect(() => migrate(raw, 'x', ['CREATE TABLE a (x); SELECT nonsense'])).toThrow(/nonsense/);

    expect(raw.pragma('user_version', { simple: true })).toBe(0);
    expect(raw.prepare("SELECT count(*) FROM sqlite_master WHERE name = 'a'").pluck().get()).toBe(0);
    raw.close();
  });
});

describe('checkpoints', () => {
  it('keep the WAL bounded while writes go on, without losing any', async () => {
    const path = temporary();
    const db = open(path, { walBytesMax: 256 * 1024 });

    for (let index = 0; index < 400; index += 1) {
      add(db, `n${index}`.padEnd(3000, 'x'));
      await db.durable();
    }
    const deadline = Date.now() + 60_000;
    while (!existsSync(path) || statSync(path).size < 400 * 3000) {
      if (Date.now() > deadline) throw new Error('the database file was never written');
      add(db, `more${Date.now()}${Math.random()}`.padEnd(3000, 'x'));
      await db.durable();
    }

    expect(names(db).length).toBeGreaterThanOrEqual(400);
    expect(db.prepare('PRAGMA integrity_check').pluck().get()).toBe('ok');
  });
});
