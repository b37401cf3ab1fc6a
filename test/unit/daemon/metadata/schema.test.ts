// schema.md describes the tables that the migrations make, and every migration works on the schema before it.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import Sqlite from 'better-sqlite3';
import { migrate } from '../../../../daemon/metadata/database';
import { MIGRATIONS } from '../../../../daemon/metadata/schema';

const DOCUMENT = join(__dirname, '../../../../daemon/metadata/schema.md');

type Tables = Record<string, string[]>;

function tablesOfDatabase(connection: Sqlite.Database): Tables {
  const names = connection
    .prepare("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name")
    .pluck()
    .all() as string[];
  return Object.fromEntries(names.map((name) => [name, columnsOf(connection, name)]));
}

function columnsOf(connection: Sqlite.Database, table: string): string[] {
  return connection.prepare('SELECT name FROM pragma_table_info(?)').pluck().all(table) as string[];
}

/** Headings `## table` and the first cell of each row below them. */
function tablesOfDocument(text: string): Tables {
  const sections = text.split(/^## /m).slice(1);
  const entries = sections.map((section) => {
    const [heading = '', ...lines] = section.split('\n');
    const columns = lines.flatMap((line) => /^\| `([^`]+)` \|/.exec(line)?.[1] ?? []);
    return [heading.trim().replaceAll('`', ''), columns] as const;
  });
  return Object.fromEntries(entries.filter(([, columns]) => columns.length > 0).sort());
}

describe('the schema', () => {
  it('is the one that schema.md describes', () => {
    const connection = new Sqlite(':memory:');
    migrate(connection, 'memory', MIGRATIONS);

    expect(tablesOfDocument(readFileSync(DOCUMENT, 'utf8'))).toEqual(tablesOfDatabase(connection));
    connection.close();
  });

  it.each(MIGRATIONS.map((_, index) => index + 1))(
    'is brought to version %i from the one before, with data',
    (version) => {
      const connection = new Sqlite(':memory:');
      connection.pragma('foreign_keys = ON');
      migrate(connection, 'memory', MIGRATIONS.slice(0, version - 1));
      if (version > 1) connection.exec("INSERT INTO namespaces (name, labels) VALUES ('kept', '{}')");

      migrate(connection, 'memory', MIGRATIONS.slice(0, version));

      expect(connection.pragma('user_version', { simple: true })).toBe(version);
      expect(connection.pragma('integrity_check', { simple: true })).toBe('ok');
      expect(connection.prepare('SELECT name FROM namespaces').pluck().all()).toEqual(version > 1 ? ['kept'] : []);
      connection.close();
    },
  );
});
