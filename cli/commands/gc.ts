// gantry gc: run, why, df.

import { Argument, type Command } from 'commander';
import type { CollectResponse, Usage } from '../../proto/generated/gantry.admin.v1';
import { askGantryd } from '../admin';
import { findImage } from '../container/image';
import { CommandError } from '../failure';
import { bytes, formatOf, type ListOptions, line, note, printJson, printList, warn } from '../output';
import type { Session } from '../session';
import { action, formatOption, group } from './shared';

interface WhyFlags extends ListOptions {
  readonly snapshotter: string;
}

const NS_PER_MS = 1e6;

/** The API's words for what an object can be. */
const TYPES: Readonly<Record<string, string>> = {
  container: 'containers',
  content: 'content',
  image: 'images',
  ingest: 'ingests',
  snapshot: 'snapshots',
};

export function registerGc(program: Command): void {
  const gc = group(program, 'gc', [], 'garbage collection: what is kept, why, and what it takes');
  formatOption(
    gc.command('run').description('collect now, in all namespaces; look for lost and forgotten data'),
  ).action(action(run));
  formatOption(gc.command('why'))
    .description('show what keeps an object, from a root to it')
    .addArgument(new Argument('<kind>').choices(Object.keys(TYPES)))
    .argument('<object>', 'its digest, name, id, ref or key')
    .option('--snapshotter <name>', 'whose snapshot it is', 'overlayfs')
    .addHelpText('after', '\nExamples:\n  gantry gc why content sha256:0123...\n  gantry gc why image busybox')
    .action(action(why));
  formatOption(gc.command('df').description('show what is on disk, of all namespaces'))
    .addHelpText(
      'after',
      '\nGARBAGE goes with the next collection, UNUSED with the images that no container uses: gantry images prune --all',
    )
    .action(action(diskUsage));
}

async function run(session: Session, options: ListOptions): Promise<void> {
  const result = await askGantryd(session, () => session.connection.admin.collect({}, { patient: true }));
  if (formatOf(options) === 'json') printJson(result);
  else printCollected(result);
  for (const { namespace, type, key } of result.lost) {
    const advice = 'gantry images verify --all --repair brings back what a registry has';
    warn(`${type} "${key}" in namespace "${namespace}" has lost its data; ${advice}`);
  }
  if (result.failures.length > 0) throw new CommandError(result.failures.join('; '));
}

function printCollected({ removed, swept, pauseNs, durationNs }: CollectResponse): void {
  const data = swept.filter(({ count }) => count > 0n);
  const rows = [
    ...removed.map((records) => ({ what: 'records', size: undefined, ...records })),
    ...data.map((files) => ({ what: 'data', namespace: '-', ...files })),
  ];
  if (rows.length === 0) line('nothing to remove');
  else {
    printList(
      {},
      {
        rows,
        columns: [
          ['REMOVED', ({ what }) => what],
          ['NAMESPACE', ({ namespace }) => namespace],
          ['TYPE', ({ type }) => type],
          ['COUNT', ({ count }) => `${count}`],
          ['SIZE', ({ size }) => (size === undefined ? '-' : bytes(size))],
        ],
        name: ({ type }) => type,
      },
    );
  }
  const freed = data.reduce((sum, { size }) => sum + size, 0n);
  line(`freed ${bytes(freed)} in ${milliseconds(durationNs)}, with a pause of ${milliseconds(pauseNs)}`);
}

async function why(session: Session, flags: WhyFlags, ...[kind, given]: [string, string]): Promise<void> {
  const object = await objectOf(session, flags, kind, given);
  const { steps } = await askGantryd(session, () => session.connection.admin.why(object));
  if (steps.length === 0) note(`nothing keeps ${object.type} "${object.key}": the next collection removes it`);
  if (steps.length === 0 && formatOf(flags) === 'table') return;
  printList(flags, {
    rows: steps,
    columns: [
      ['TYPE', ({ type }) => type],
      ['KEY', ({ key }) => key],
      ['BECAUSE', ({ cause }) => cause],
    ],
    name: ({ key }) => key,
  });
}

async function objectOf(session: Session, { snapshotter }: WhyFlags, kind: string, given: string) {
  const type = TYPES[kind] ?? '';
  if (type === 'images') return { type, key: (await findImage(session, given)).name };
  return { type: type === 'snapshots' ? `${type}/${snapshotter}` : type, key: given };
}

async function diskUsage(session: Session, options: ListOptions): Promise<void> {
  const { usages } = await askGantryd(session, () => session.connection.admin.diskUsage({}, { patient: true }));
  printList(options, {
    rows: usages,
    columns: [
      ['NAMESPACE', ({ namespace }) => namespace || '(all)'],
      ['TYPE', ({ type }) => type],
      ['COUNT', ({ count }) => `${count}`],
      ['SIZE', ({ type, size }) => amount(type, size)],
      ['GARBAGE', ({ type, garbageCount, garbageSize }) => part(type, garbageCount, garbageSize)],
      ['UNUSED', ({ type, unusedCount, unusedSize }) => part(type, unusedCount, unusedSize)],
    ],
    name: ({ type }) => type,
  });
  for (const usage of usages) if (usage.namespace !== '') warnUnmeasured(usage);
}

function warnUnmeasured({ namespace, type, unmeasuredCount }: Usage): void {
  if (unmeasuredCount > 0n) warn(`${unmeasuredCount} ${type} in namespace "${namespace}" could not be measured`);
}

/** Images are names: what they take is content and snapshots. */
function amount(type: string, size: bigint): string {
  return type === 'images' ? '-' : bytes(size);
}

function part(type: string, count: bigint, size: bigint): string {
  if (count === 0n) return '-';
  return type === 'images' ? `${count}` : `${count}, ${bytes(size)}`;
}

function milliseconds(ns: bigint): string {
  return `${(Number(ns) / NS_PER_MS).toFixed(1)} ms`;
}
