// The references table of garbage collection, kept by triggers so that no writer of a record can forget it. One row
// is one edge of the graph: `from` keeps `to` alive. The labels are containerd's gc.ref labels; structural edges
// (image target, snapshot parent, container snapshot, expected blob of an ingest) come from the records' own columns.

/** The pseudo node that keeps what carries a gc.root label. */
export const ROOT_TYPE = 'root';

interface Source {
  readonly table: string;
  /** Columns whose change changes edges. */
  readonly columns: string;
  /** SQL expressions of the node's type and key; ROW stands for NEW or OLD. */
  readonly type: string;
  readonly key: string;
  /** SELECT of structural edges, as (to_type, to_key, cause). */
  readonly structure?: string;
  readonly labels: boolean;
  /** Whether a gc.root label makes it a root. */
  readonly roots: boolean;
}

const SOURCES: readonly Source[] = [
  { table: 'blobs', columns: 'labels', type: `'content'`, key: 'ROW.digest', labels: true, roots: true },
  {
    table: 'images',
    columns: 'labels, digest',
    type: `'images'`,
    key: 'ROW.name',
    structure: `SELECT 'content' AS to_type, ROW.digest AS to_key, 'target' AS cause`,
    labels: true,
    roots: false,
  },
  {
    table: 'containers',
    columns: 'labels, snapshotter, snapshot_key',
    type: `'containers'`,
    key: 'ROW.id',
    structure: `SELECT 'snapshots/' || ROW.snapshotter AS to_type, ROW.snapshot_key AS to_key, 'snapshot' AS cause
      WHERE ROW.snapshotter != '' AND ROW.snapshot_key != ''`,
    labels: true,
    roots: false,
  },
  {
    table: 'snapshots',
    columns: 'labels, key, parent_id',
    type: `'snapshots/' || ROW.snapshotter`,
    key: 'ROW.key',
    structure: `SELECT 'snapshots/' || snapshotter AS to_type, key AS to_key, 'parent' AS cause
      FROM snapshots WHERE id = ROW.parent_id`,
    labels: true,
    roots: true,
  },
  {
    table: 'ingests',
    columns: 'expected',
    type: `'ingests'`,
    key: 'ROW.ref',
    structure: `SELECT 'content' AS to_type, ROW.expected AS to_key, 'expected' AS cause WHERE ROW.expected != ''`,
    labels: false,
    roots: false,
  },
];

/** The migration: table, indexes and triggers. */
export const REFERENCE_SCHEMA = `
CREATE TABLE gc_edges (
  namespace TEXT NOT NULL,
  from_type TEXT NOT NULL,
  from_key TEXT NOT NULL,
  to_type TEXT NOT NULL,
  to_key TEXT NOT NULL,
  cause TEXT NOT NULL,
  is_label INTEGER NOT NULL,
  is_back INTEGER NOT NULL,
  condition TEXT,
  is_active INTEGER NOT NULL DEFAULT 1,
  PRIMARY KEY (namespace, from_type, from_key, to_type, to_key, cause)
) STRICT, WITHOUT ROWID;
CREATE INDEX gc_edges_to ON gc_edges (namespace, to_type, to_key);
CREATE INDEX gc_edges_condition ON gc_edges (condition) WHERE condition IS NOT NULL;
${SOURCES.map(triggersOf).join('\n')}
`;

function triggersOf(source: Source): string {
  const { table, columns } = source;
  return `
CREATE TRIGGER gc_${table}_insert AFTER INSERT ON ${table} BEGIN
${addEdges(source)}
END;
CREATE TRIGGER gc_${table}_update AFTER UPDATE OF ${columns} ON ${table} BEGIN
${removeEdges(source)}
${addEdges(source)}
END;
CREATE TRIGGER gc_${table}_delete AFTER DELETE ON ${table} BEGIN
${removeEdges(source)}
END;`;
}

/** Back edges belong to the object they keep, because its labels name them. */
function removeEdges(source: Source): string {
  const type = bind(source.type, 'OLD');
  const key = bind(source.key, 'OLD');
  return `
  DELETE FROM gc_edges WHERE namespace = OLD.namespace AND from_type = ${type} AND from_key = ${key} AND is_back = 0;
  DELETE FROM gc_edges WHERE namespace = OLD.namespace AND to_type = ${type} AND to_key = ${key} AND is_back = 1;`;
}

function addEdges(source: Source): string {
  const type = bind(source.type, 'NEW');
  const key = bind(source.key, 'NEW');
  const statements: string[] = [];
  if (source.structure !== undefined) {
    statements.push(
      insert(`SELECT NEW.namespace, ${type}, ${key}, to_type, to_key, cause, 0, 0, NULL, 1
    FROM (${bind(source.structure, 'NEW')})`),
    );
  }
  if (source.labels) {
    statements.push(
      insert(`SELECT NEW.namespace, ${type}, ${key}, type, target, cause, 1, 0, condition, 1
    FROM (${forwardLabels('NEW.labels')})`),
      insert(`SELECT NEW.namespace, type, target, ${type}, ${key}, cause, 1, 1, NULL, 1
    FROM (${backLabels('NEW.labels', source.roots)})`),
    );
  }
  return statements.join('\n');
}

function insert(select: string): string {
  return `  INSERT OR REPLACE INTO gc_edges ${select};`;
}

function bind(sql: string, row: 'NEW' | 'OLD'): string {
  return sql.replaceAll('ROW.', `${row}.`);
}

/** Labels by which their owner keeps another object: (type, target, cause, condition). */
function forwardLabels(labels: string): string {
  const condition = 'containerd.io/gc.cond.snapshot.';
  return [
    `SELECT 'content' AS type, value AS target, key AS cause, NULL AS condition ${named(labels, 'gc.ref.content')}`,
    `SELECT 'images', value, key, NULL ${named(labels, 'gc.ref.image')}`,
    `SELECT ${snapshotType('containerd.io/gc.ref.snapshot.')}, value, key, NULL ${prefixed(labels, 'gc.ref.snapshot.')}`,
    `SELECT ${snapshotType(condition)}, substr(value, instr(value, '|') + 1), key, substr(value, 1, instr(value, '|') - 1)
      ${prefixed(labels, 'gc.cond.snapshot.')} AND instr(value, '|') > 0`,
  ].join('\n    UNION ALL ');
}

/** Labels by which another object keeps their owner: (type, target, cause). */
function backLabels(labels: string, withRoots: boolean): string {
  const selects = [
    `SELECT 'content' AS type, value AS target, key AS cause ${named(labels, 'gc.bref.content')}`,
    `SELECT 'images', value, key ${named(labels, 'gc.bref.image')}`,
    `SELECT 'containers', value, key ${named(labels, 'gc.bref.container')}`,
    `SELECT ${snapshotType('containerd.io/gc.bref.snapshot.')}, value, key ${prefixed(labels, 'gc.bref.snapshot.')}`,
  ];
  if (withRoots) selects.push(`SELECT '${ROOT_TYPE}', '', key ${prefixed(labels, 'gc.root')}`);
  return selects.join('\n    UNION ALL ');
}

/** The label of exactly this name, or with a suffix after "." or "/". */
function named(labels: string, name: string): string {
  return `FROM json_each(${labels}) WHERE (key = 'containerd.io/${name}' OR key GLOB 'containerd.io/${name}[./]*')`;
}

function prefixed(labels: string, prefix: string): string {
  return `FROM json_each(${labels}) WHERE key GLOB 'containerd.io/${prefix}*'`;
}

/** snapshots/NAME, where NAME is the part of the label's key after the prefix and before the first "/". */
function snapshotType(prefix: string): string {
  const rest = `substr(key, ${prefix.length + 1})`;
  return `'snapshots/' || substr(${rest}, 1, instr(${rest} || '/', '/') - 1)`;
}
