// gantry snapshots: ls, tree, info, usage, mounts, prepare, view, commit, label, rm.

import type { Command } from 'commander';
import type { Input } from '../../proto/codec';
import { type Info, Kind } from '../../proto/generated/containerd.services.snapshots.v1';
import type { Mount } from '../../proto/generated/containerd.types';
import { namespaceDefaults } from '../container/create';
import { printable } from '../failure';
import { age, bytes, type ListOptions, line, note, printJson, printList } from '../output';
import { orElsewhere, type Session } from '../session';
import { collect, parseLabels } from '../values';
import { action, forEach, group, listOptions } from './shared';

interface SnapshotterFlag extends ListOptions {
  readonly snapshotter?: string;
}

interface MakeFlags extends SnapshotterFlag {
  readonly label?: readonly string[];
  readonly target?: string;
}

const KINDS = Object.fromEntries(Object.entries(Kind).map(([name, value]) => [value, name.toLowerCase()]));

export function registerSnapshots(program: Command): void {
  const snapshots = group(program, 'snapshots', ['snapshot'], 'snapshots: layers of root filesystems');
  const add = (usage: string, description: string): Command =>
    snapshots.command(usage).description(description).option('--snapshotter <name>', 'snapshotter to ask');
  listOptions(add('ls [filters...]', 'list snapshots').alias('list')).action(action(list));
  add('tree', 'show which snapshot is built on which').action(action(tree));
  add('info <key>', 'print a snapshot record as JSON').alias('stat').action(action(info));
  listOptions(add('usage [keys...]', 'disk space that snapshots take by themselves')).action(action(usage));
  listOptions(
    add('mounts <key>', 'mounts of a snapshot').option('--target <directory>', 'print mount commands'),
  ).action(action(mounts));
  for (const kind of ['prepare', 'view'] as const) {
    const what = kind === 'prepare' ? 'make a writable snapshot' : 'make a read-only snapshot';
    add(`${kind} <key> [parent]`, what)
      .option('-l, --label <key=value>', 'label (repeatable)', collect)
      .option('--target <directory>', 'print mount commands')
      .action(
        action((session, flags: MakeFlags, key: string, parent?: string) => make(session, flags, kind, [key, parent])),
      );
  }
  add('commit <name> <key>', 'make a writable snapshot into a committed one')
    .option('-l, --label <key=value>', 'label (repeatable)', collect)
    .action(action(commit));
  add('label <key> <labels...>', 'set labels; KEY= removes one').action(action(label));
  add('rm <keys...>', 'remove snapshots').aliases(['remove', 'delete']).action(action(remove));
}

async function snapshotterOf(session: Session, flags: SnapshotterFlag): Promise<string> {
  return flags.snapshotter ?? (await namespaceDefaults(session)).snapshotter;
}

async function all(session: Session, snapshotter: string, filters: readonly string[]): Promise<Info[]> {
  const rows: Info[] = [];
  for await (const { info: batch } of session.connection.snapshots.list({ snapshotter, filters })) rows.push(...batch);
  return rows;
}

async function list(session: Session, flags: SnapshotterFlag, filters: string[]): Promise<void> {
  printList(flags, {
    rows: await all(session, await snapshotterOf(session, flags), filters),
    columns: [
      ['KEY', ({ name }) => name],
      ['PARENT', ({ parent }) => parent || '-'],
      ['KIND', ({ kind }) => KINDS[kind] ?? 'unknown'],
      ['CREATED', ({ createdAt }) => age(createdAt)],
    ],
    name: ({ name }) => name,
    json: plain,
  });
}

function plain(row: Info): unknown {
  return { ...row, kind: KINDS[row.kind] ?? 'unknown' };
}

async function tree(session: Session, flags: SnapshotterFlag): Promise<void> {
  const rows = await all(session, await snapshotterOf(session, flags), []);
  const names = new Set(rows.map(({ name }) => name));
  const children = Map.groupBy(rows, ({ parent }) => (names.has(parent) ? parent : ''));
  const print = (parent: string, depth: number): void => {
    for (const { name } of children.get(parent) ?? []) {
      line(`${depth === 0 ? '' : `${'  '.repeat(depth - 1)}\\_ `}${printable(name)}`);
      print(name, depth + 1);
    }
  };
  print('', 0);
}

async function info(session: Session, flags: SnapshotterFlag, key: string): Promise<void> {
  const snapshotter = await snapshotterOf(session, flags);
  const lookup = () => session.connection.snapshots.stat({ snapshotter, key });
  const { info: row } = await orElsewhere(session, { snapshotter }, key, lookup);
  printJson(row === undefined ? undefined : plain(row));
}

async function usage(session: Session, flags: SnapshotterFlag, keys: string[]): Promise<void> {
  const snapshotter = await snapshotterOf(session, flags);
  const wanted = keys.length > 0 ? keys : (await all(session, snapshotter, [])).map(({ name }) => name);
  const usageOf = (key: string) =>
    orElsewhere(session, { snapshotter }, key, () => session.connection.snapshots.usage({ snapshotter, key }));
  const rows = await Promise.all(wanted.map(async (key) => ({ key, ...(await usageOf(key)) })));
  printList(flags, {
    rows,
    columns: [
      ['KEY', ({ key }) => key],
      ['SIZE', ({ size }) => bytes(size)],
      ['INODES', ({ inodes }) => `${inodes}`],
    ],
    name: ({ key }) => key,
  });
}

async function mounts(session: Session, flags: MakeFlags, key: string): Promise<void> {
  const snapshotter = await snapshotterOf(session, flags);
  const lookup = () => session.connection.snapshots.mounts({ snapshotter, key });
  const response = await orElsewhere(session, { snapshotter }, key, lookup);
  if (flags.target !== undefined) return printMounts(response.mounts, flags.target);
  printList(flags, {
    rows: response.mounts,
    columns: [
      ['TYPE', ({ type }) => type],
      ['SOURCE', ({ source }) => source],
      ['OPTIONS', ({ options }) => options.join(',')],
    ],
    name: ({ source }) => source,
  });
}

async function make(
  session: Session,
  flags: MakeFlags,
  kind: 'prepare' | 'view',
  [key, parent]: [string, string | undefined],
): Promise<void> {
  const snapshotter = await snapshotterOf(session, flags);
  const labels = parseLabels(flags.label ?? []);
  // Without a label nothing would refer to it, and the next garbage collection would take it.
  labels['containerd.io/gc.root'] ??= new Date().toISOString();
  const response = await orElsewhere(session, { snapshotter }, parent ?? '', () =>
    session.connection.snapshots[kind]({ snapshotter, key, parent: parent ?? '', labels }),
  );
  if (flags.target !== undefined) printMounts(response.mounts, flags.target);
  else note(`made ${kind === 'view' ? 'view' : 'active snapshot'} "${key}"`);
}

function printMounts(list: readonly Input<Mount>[], target: string): void {
  for (const { type, source, options } of list) {
    line(
      ['mount', '-t', type, source, target, '-o', (options ?? []).join(',')].map((word) => quote(word ?? '')).join(' '),
    );
  }
}

function quote(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}

async function commit(session: Session, flags: MakeFlags, name: string, key: string): Promise<void> {
  const snapshotter = await snapshotterOf(session, flags);
  const labels = parseLabels(flags.label ?? []);
  labels['containerd.io/gc.root'] ??= new Date().toISOString();
  await orElsewhere(session, { snapshotter }, key, () =>
    session.connection.snapshots.commit({ snapshotter, name, key, labels }),
  );
  line(name);
}

async function label(session: Session, flags: SnapshotterFlag, name: string, pairs: string[]): Promise<void> {
  const labels = parseLabels(pairs);
  const paths = Object.keys(labels).map((key) => `labels.${key}`);
  const snapshotter = await snapshotterOf(session, flags);
  await orElsewhere(session, { snapshotter }, name, () =>
    session.connection.snapshots.update({ snapshotter, info: { name, labels }, updateMask: { paths } }),
  );
}

async function remove(session: Session, flags: SnapshotterFlag, keys: string[]): Promise<void> {
  const snapshotter = await snapshotterOf(session, flags);
  await forEach(keys, async (key) => {
    await orElsewhere(session, { snapshotter }, key, () => session.connection.snapshots.remove({ snapshotter, key }));
    line(key);
  });
}
