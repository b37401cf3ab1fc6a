// gantry containers: ls, create, info, label, rm.

import type { Command } from 'commander';
import { unpackJson } from '../../proto/any';
import type { Container } from '../../proto/generated/containerd.services.containers.v1';
import { type CreateOptions, createContainer } from '../container/create';
import { getContainer, removeContainer } from '../container/remove';
import { age, type ListOptions, line, printJson, printList } from '../output';
import { orElsewhere, type Session } from '../session';
import { parseLabels } from '../values';
import { createOptions } from './create-options';
import { action, forEach, group, listOptions } from './shared';

export function registerContainers(program: Command): void {
  const containers = group(program, 'containers', ['container', 'c'], 'container records');
  listOptions(containers.command('ls [filters...]').alias('list').description('list containers'))
    .addHelpText('after', "\nExample:\n  gantry containers ls 'labels.app==web'")
    .action(action(list));
  createOptions(
    containers.command('create <image> <id> [command...]').description('create a container without running it'),
  )
    .addHelpText('after', '\nExample:\n  gantry containers create busybox job1 sh -c date && gantry tasks start job1')
    .action(action(create));
  containers
    .command('info <id>')
    .alias('inspect')
    .description('print a container record as JSON')
    .option('--spec', 'only its OCI spec')
    .action(action(info));
  containers.command('label <id> <labels...>').description('set labels; KEY= removes one').action(action(label));
  containers
    .command('rm <ids...>')
    .aliases(['remove', 'delete', 'del'])
    .description('remove containers with their snapshots and stopped tasks')
    .option('-f, --force', 'kill running ones first')
    .option('--keep-snapshot', 'leave the root filesystem')
    .action(action(remove));
}

async function list(session: Session, options: ListOptions, filters: string[]): Promise<void> {
  const rows: Container[] = [];
  for await (const { container } of session.connection.containers.listStream({ filters })) {
    if (container !== undefined) rows.push(container);
  }
  printList(options, {
    rows,
    columns: [
      ['ID', ({ id }) => id],
      ['IMAGE', ({ image }) => image || '-'],
      ['RUNTIME', ({ runtime }) => runtime?.name ?? '-'],
      ['CREATED', ({ createdAt }) => age(createdAt)],
    ],
    name: ({ id }) => id,
    json: withSpec,
  });
}

async function create(
  session: Session,
  options: CreateOptions,
  ...[source, id, args]: [string, string, string[]]
): Promise<void> {
  await createContainer(session, { source, id, args, options });
  line(id);
}

async function info(session: Session, options: { spec?: boolean }, id: string): Promise<void> {
  const container = withSpec(await getContainer(session, id));
  printJson(options.spec === true ? container.spec : container);
}

/** The record with its spec as an object instead of bytes. */
function withSpec(container: Container): Omit<Container, 'spec'> & { spec: unknown } {
  const { spec } = container;
  return {
    ...container,
    spec: spec === undefined ? undefined : unpackJson(`spec of container "${container.id}"`, spec),
  };
}

async function label(session: Session, _: object, id: string, pairs: string[]): Promise<void> {
  const labels = parseLabels(pairs);
  const paths = Object.keys(labels).map((key) => `labels.${key}`);
  await orElsewhere(session, 'container', id, () =>
    session.connection.containers.update({ container: { id, labels }, updateMask: { paths } }),
  );
}

async function remove(
  session: Session,
  options: { force?: boolean; keepSnapshot?: boolean },
  ids: string[],
): Promise<void> {
  await forEach(ids, async (id) => {
    await removeContainer(session, id, { force: options.force === true, keepSnapshot: options.keepSnapshot === true });
    line(id);
  });
}
