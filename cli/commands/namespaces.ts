// gantry namespaces: ls, create, label, rm.

import type { Command } from 'commander';
import { type ListOptions, labelText, line, printList } from '../output';
import type { Session } from '../session';
import { parseLabels } from '../values';
import { action, forEach, group, listOptions } from './shared';

export function registerNamespaces(program: Command): void {
  const namespaces = group(program, 'namespaces', ['namespace', 'ns'], 'namespaces, which keep clients apart');
  listOptions(namespaces.command('ls').alias('list').description('list namespaces')).action(action(list));
  namespaces
    .command('create <name> [labels...]')
    .alias('c')
    .description('create a namespace, with labels KEY=VALUE')
    .action(action(create));
  namespaces
    .command('label <name> <labels...>')
    .description('set labels; KEY= removes one')
    .addHelpText('after', '\nExample:\n  gantry namespaces label web containerd.io/defaults/snapshotter=native')
    .action(action(label));
  namespaces
    .command('rm <names...>')
    .aliases(['remove', 'delete'])
    .description('remove empty namespaces')
    .action(action(remove));
}

async function list(session: Session, options: ListOptions): Promise<void> {
  const { namespaces } = await session.connection.namespaces.list({});
  printList(options, {
    rows: namespaces,
    columns: [
      ['NAME', ({ name }) => name],
      ['LABELS', ({ labels }) => labelText(labels)],
    ],
    name: ({ name }) => name,
  });
}

async function create(session: Session, _: object, name: string, labels: string[]): Promise<void> {
  await session.connection.namespaces.create({ namespace: { name, labels: parseLabels(labels) } });
}

async function label(session: Session, _: object, name: string, pairs: string[]): Promise<void> {
  const labels = parseLabels(pairs);
  const paths = Object.keys(labels).map((key) => `labels.${key}`);
  await session.connection.namespaces.update({ namespace: { name, labels }, updateMask: { paths } });
}

async function remove(session: Session, _: object, names: string[]): Promise<void> {
  await forEach(names, async (name) => {
    await session.connection.namespaces.delete({ name });
    line(name);
  });
}
