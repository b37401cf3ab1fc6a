// gantry content: ls, info, get, ingest, active, label, rm.

import { open } from 'node:fs/promises';
import type { Command } from 'commander';
import type { Info } from '../../proto/generated/containerd.services.content.v1';
import { checkDigest } from '../../proto/ids';
import { usageError } from '../failure';
import { writeBlob } from '../image/content';
import { age, bytes, type ListOptions, labelText, line, printJson, printList } from '../output';
import { orElsewhere, type Session } from '../session';
import { collect, parseInteger, parseLabels } from '../values';
import { action, forEach, group, listOptions } from './shared';

interface IngestFlags {
  readonly expectedDigest?: string;
  readonly expectedSize?: string;
  readonly label?: readonly string[];
}

export function registerContent(program: Command): void {
  const content = group(program, 'content', [], 'blobs, named by digest');
  listOptions(content.command('ls [filters...]').alias('list').description('list blobs'))
    .addHelpText('after', '\nExample:\n  gantry content ls \'labels."containerd.io/uncompressed"\'')
    .action(action(list));
  content.command('info <digest>').description('print a blob record as JSON').action(action(info));
  content.command('get <digest>').alias('cat').description('write a blob to standard output').action(action(get));
  content
    .command('ingest <ref> [file]')
    .description('store a file (or standard input) and print its digest')
    .option('--expected-digest <digest>', 'refuse anything else')
    .option('--expected-size <bytes>', 'refuse any other size')
    .option('-l, --label <key=value>', 'label (repeatable)', collect)
    .addHelpText('after', '\nExample:\n  gantry content ingest my-file ./file --label containerd.io/gc.root=me')
    .action(action(ingest));
  listOptions(content.command('active').description('list unfinished uploads')).action(action(active));
  content.command('label <digest> <labels...>').description('set labels; KEY= removes one').action(action(label));
  content
    .command('rm <digests...>')
    .aliases(['remove', 'delete', 'del'])
    .description('remove blobs')
    .action(action(remove));
}

async function list(session: Session, options: ListOptions, filters: string[]): Promise<void> {
  const rows: Info[] = [];
  for await (const { info: batch } of session.connection.content.list({ filters })) rows.push(...batch);
  printList(options, {
    rows,
    columns: [
      ['DIGEST', ({ digest }) => digest],
      ['SIZE', ({ size }) => bytes(size)],
      ['CREATED', ({ createdAt }) => age(createdAt)],
      ['LABELS', ({ labels }) => labelText(labels)],
    ],
    name: ({ digest }) => digest,
  });
}

async function info(session: Session, _: object, digest: string): Promise<void> {
  const lookup = () => session.connection.content.info({ digest });
  printJson((await orElsewhere(session, 'blob', digest, lookup)).info);
}

async function get(session: Session, _: object, digest: string): Promise<void> {
  await orElsewhere(session, 'blob', digest, async () => {
    for await (const { data } of session.connection.content.read({ digest })) {
      if (!process.stdout.write(data)) await new Promise((resolve) => process.stdout.once('drain', resolve));
    }
  });
}

async function ingest(session: Session, flags: IngestFlags, ref: string, file: string | undefined): Promise<void> {
  if (file === undefined && process.stdin.isTTY) throw usageError('standard input is a terminal; give a file');
  const handle = file === undefined ? undefined : await open(file);
  const knownSize = handle === undefined ? 0 : (await handle.stat()).size;
  const sizeBytes = flags.expectedSize === undefined ? knownSize : parseInteger('--expected-size', flags.expectedSize);
  const digest = flags.expectedDigest === undefined ? {} : { digest: checkDigest(flags.expectedDigest) };
  const source = handle === undefined ? process.stdin : handle.createReadStream();
  const blob = { ref, sizeBytes, labels: parseLabels(flags.label ?? []), ...digest };
  line(await writeBlob(session, blob, source, undefined));
}

async function active(session: Session, options: ListOptions): Promise<void> {
  const { statuses } = await session.connection.content.listStatuses({});
  printList(options, {
    rows: statuses,
    columns: [
      ['REF', ({ ref }) => ref],
      ['SIZE', ({ offset }) => bytes(offset)],
      ['TOTAL', ({ total }) => (total === 0n ? '-' : bytes(total))],
      ['STARTED', ({ startedAt }) => age(startedAt)],
    ],
    name: ({ ref }) => ref,
  });
}

async function label(session: Session, _: object, digest: string, pairs: string[]): Promise<void> {
  const labels = parseLabels(pairs);
  const paths = Object.keys(labels).map((key) => `labels.${key}`);
  await orElsewhere(session, 'blob', digest, () =>
    session.connection.content.update({ info: { digest, labels }, updateMask: { paths } }),
  );
}

async function remove(session: Session, _: object, digests: string[]): Promise<void> {
  await forEach(digests, async (digest) => {
    await orElsewhere(session, 'blob', digest, () => session.connection.content.delete({ digest }));
    line(digest);
  });
}
