// gantry version and gantry info: who answers, and what it is made of.

import type { Command } from 'commander';
import { errorKind } from '../../proto/errors';
import { formatOf, type ListOptions, printJson, printPairs } from '../output';
import type { Session } from '../session';
import { VERSION } from '../version';
import { action, formatOption } from './shared';

export function registerInfo(program: Command): void {
  formatOption(program.command('version').description('versions of this client and of the daemon')).action(
    action(version),
  );
  formatOption(
    program.command('info').description('the daemon: identity, snapshotters, and what is in the namespace'),
  ).action(action(info));
}

async function version(session: Session, options: ListOptions): Promise<void> {
  const { connection } = session;
  const [daemon, server] = await Promise.all([connection.version.version({}), connection.introspection.server({})]);
  const result = {
    client: { version: VERSION, node: process.version },
    server: { version: daemon.version, revision: daemon.revision, uuid: server.uuid },
  };
  if (formatOf(options) === 'json') return printJson(result);
  printPairs([
    ['Client', `${VERSION} (Node ${process.version})`],
    ['Server', daemon.version],
    ['Revision', daemon.revision || '-'],
    ['UUID', server.uuid],
  ]);
}

async function info(session: Session, options: ListOptions): Promise<void> {
  const { connection, namespace } = session;
  const [daemon, server, plugins, namespaces, images, tasks] = await Promise.all([
    connection.version.version({}),
    connection.introspection.server({}),
    connection.introspection.plugins({}),
    connection.namespaces.list({}),
    connection.images.list({}),
    connection.tasks.list({}),
  ]);
  const containers = await countContainers(session);
  const loaded = plugins.plugins.filter((plugin) => plugin.initErr === undefined);
  const snapshotters = loaded.filter(({ type }) => type === 'io.containerd.snapshotter.v1').map(({ id }) => id);
  const result = {
    address: session.address,
    version: daemon.version,
    uuid: server.uuid,
    pid: server.pid,
    namespace,
    namespaces: namespaces.namespaces.map(({ name }) => name),
    containers,
    tasks: tasks.tasks.length,
    images: images.images.length,
    snapshotters,
    plugins: { loaded: loaded.length, other: plugins.plugins.length - loaded.length },
    deprecations: server.deprecations.map(({ message }) => message),
  };
  if (formatOf(options) === 'json') return printJson(result);
  printPairs([
    ['Address', result.address],
    ['Version', result.version],
    ['UUID', result.uuid],
    ['PID', result.pid === 0n ? '-' : result.pid.toString()],
    ['Namespace', namespace],
    ['  Containers', `${containers}`],
    ['  Tasks', `${result.tasks}`],
    ['  Images', `${result.images}`],
    ['Namespaces', result.namespaces.join(', ') || '-'],
    ['Snapshotters', snapshotters.join(', ') || '-'],
    ['Plugins', `${result.plugins.loaded} loaded, ${result.plugins.other} not`],
    ...result.deprecations.map((message) => ['Deprecated', message] as const),
  ]);
}

async function countContainers(session: Session): Promise<number> {
  try {
    return (await session.connection.containers.list({})).containers.length;
  } catch (error) {
    // More records than fit in one message are counted one by one.
    if (errorKind(error) !== 'resource exhausted') throw error;
  }
  let count = 0;
  for await (const _ of session.connection.containers.listStream({})) count += 1;
  return count;
}
