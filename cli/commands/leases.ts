// gantry leases: ls, create, rm, resources.

import type { Command } from 'commander';
import { age, type ListOptions, labelText, line, printList } from '../output';
import { orElsewhere, type Session } from '../session';
import { parseDuration, parseLabels } from '../values';
import { action, forEach, group, listOptions } from './shared';

interface CreateOptions {
  readonly id?: string;
  readonly expires: string;
}

export function registerLeases(program: Command): void {
  const leases = group(program, 'leases', ['lease'], 'leases, which keep objects from garbage collection');
  listOptions(leases.command('ls [filters...]').alias('list').description('list leases')).action(action(list));
  leases
    .command('create [labels...]')
    .description('create a lease and print its id')
    .option('--id <id>', 'id of the lease (default: made by the daemon)')
    .option('-x, --expires <duration>', 'lifetime; 0 for ever', '24h')
    .action(action(create));
  leases
    .command('rm <ids...>')
    .aliases(['remove', 'delete'])
    .description('delete leases')
    .option('--sync', 'wait until what they held is collected')
    .action(action(remove));
  listOptions(leases.command('resources <id>').description('list what a lease holds')).action(action(resources));
}

async function list(session: Session, options: ListOptions, filters: string[]): Promise<void> {
  const { leases } = await session.connection.leases.list({ filters });
  printList(options, {
    rows: leases,
    columns: [
      ['ID', ({ id }) => id],
      ['CREATED', ({ createdAt }) => age(createdAt)],
      ['LABELS', ({ labels }) => labelText(labels)],
    ],
    name: ({ id }) => id,
  });
}

async function create(session: Session, options: CreateOptions, pairs: string[]): Promise<void> {
  const labels = parseLabels(pairs);
  const lifetimeMs = parseDuration(options.expires);
  if (lifetimeMs > 0) labels['containerd.io/gc.expire'] ??= new Date(Date.now() + lifetimeMs).toISOString();
  const { lease } = await session.connection.leases.create({ id: options.id ?? '', labels });
  line(lease?.id ?? '');
}

async function remove(session: Session, options: { sync?: boolean }, ids: string[]): Promise<void> {
  await forEach(ids, async (id) => {
    const sync = options.sync === true && id === ids.at(-1);
    await orElsewhere(session, 'lease', id, () => session.connection.leases.delete({ id, sync }));
    line(id);
  });
}

async function resources(session: Session, options: ListOptions, id: string): Promise<void> {
  const lookup = () => session.connection.leases.listResources({ id });
  const { resources: rows } = await orElsewhere(session, 'lease', id, lookup);
  printList(options, {
    rows,
    columns: [
      ['TYPE', ({ type }) => type],
      ['ID', (resource) => resource.id],
    ],
    name: (resource) => resource.id,
  });
}
