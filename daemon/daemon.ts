// The composition root: builds the parts of the daemon in order and closes them in reverse.

import { join } from 'node:path';
import { errorKind, messageOf } from '../proto/errors';
import { openSnapshotters } from '../snapshotter/index';
import type { Snapshotter } from '../snapshotter/snapshotter';
import type { Config } from './config';
import { ContentStore } from './content/store';
import type { ApplyDeps } from './diff/apply';
import { clearMounts } from './diff/mounts';
import { UnpackPool } from './diff/unpack-pool';
import { freeAddress, lockDirectory, prepareDirectory, privateDirectory } from './directories';
import { EventBus } from './events/bus';
import { Collector, type Sweeper } from './gc/collector';
import type { CallHooks } from './grpc/call';
import { ApiServer } from './grpc/server';
import { IdleCollector } from './idle';
import { ImageRecords } from './images/image-records';
import type { Logger } from './log';
import { Database } from './metadata/database';
import { pluginList, type SkippedPlugin, snapshotterPlugins } from './plugins';
import { Registries } from './registry/registries';
import { buildServices, serviceName } from './services/index';
import { StartError } from './start-error';
import { runtimeInfo } from './tasks/runtime-info';
import { createResolver, createShimEventServer, createTaskManager, ttrpcAddressOf } from './tasks/setup';
import { Trust, type TrustParts } from './trust/trust';
import { readVersion } from './version';

/** How long calls under way may take when the daemon stops. */
const STOP_GRACE_MS = 1000;
/** For what a client asks when it starts; see EventBus. Other clients hear this much later of what they have missed. */
const SUBSCRIBER_SETTLE_MS = 2000;
const CONTENT_DIRECTORY = 'io.containerd.content.v1.content';

export interface Daemon {
  readonly address: string;
  /** Stops serving. Containers and their shims keep running. */
  close(): Promise<void>;
}

/**
 * Starts everything; resolves when the daemon serves.
 * @throws StartError
 */
export async function startDaemon(config: Config, log: Logger, onFatal: (error: unknown) => void): Promise<Daemon> {
  await using parts = new AsyncDisposableStack();
  claimDirectories(config, parts);
  const ttrpcAddress = ttrpcAddressOf(config.address);
  await freeAddress(config.address);
  await freeAddress(ttrpcAddress);

  const db = openDatabase(config.root, onFatal);
  parts.defer(() => db.close());
  const events = new EventBus(db, { settleMs: SUBSCRIBER_SETTLE_MS });
  const content = await ContentStore.open({
    root: join(config.root, CONTENT_DIRECTORY),
    db,
    events,
    sharing: config.content.sharingPolicy,
  });
  const collector = openCollector({ config, db, events, content, log });
  parts.defer(() => collector.stop());
  const { snapshotters, skipped } = await openSweptSnapshotters(config, db, collector);
  parts.defer(() => closeAll(snapshotters));
  const diff = openDiff(config.state, content);
  parts.defer(() => diff.pool.close());
  const { tasks, close: closeTasks } = createTaskManager({ config, db, events, logger: log });
  parts.defer(closeTasks);

  const registries = new Registries(config.registry, process.env);
  parts.defer(() => registries.close());
  const trust = await openTrust(config.trust, { db, content, images: new ImageRecords(db, events), registries, log });

  const { root, address, runtimes } = config;
  const resolver = createResolver(runtimes);
  const services = buildServices({
    db,
    events,
    content,
    collector,
    diff,
    snapshotters,
    tasks,
    registries,
    trust,
    log,
    version: readVersion(),
    introspection: {
      root,
      plugins: () =>
        pluginList({
          contentRoot: content.root,
          databasePath: db.path,
          sharing: content.sharing,
          gc: config.gc,
          snapshotters: snapshotterPlugins(snapshotters.values(), config.proxies),
          skippedSnapshotters: skipped,
          services: services.map(serviceName),
        }),
      runtimeInfo: (request, signal) => runtimeInfo(resolver, request, signal),
    },
  });
  const onError = (error: unknown) => log.warn('connection refused', { error: messageOf(error) });
  const server = new ApiServer(services, callHooks(db, log), { onError, ...config.grpc });
  const shimEvents = createShimEventServer(tasks, log);
  await listen(ttrpcAddress, () => shimEvents.listen(ttrpcAddress));
  parts.defer(() => shimEvents.close());
  // Adopted before the first client is let in, so that none sees a task missing.
  const adopted = tasks.adopt();
  void adopted.done.then(() => log.debug('tasks adopted'));
  await listen(address, () => server.listen(address));
  parts.defer(() => server.close(STOP_GRACE_MS));
  parts.defer(() => events.close());
  collector.start();

  const running = parts.move();
  return { address, close: () => running.disposeAsync() };
}

/** Both are this daemon's alone until it closes. @throws StartError "directory", "locked" */
function claimDirectories(config: Config, parts: AsyncDisposableStack): void {
  for (const what of ['root', 'state'] as const) {
    prepareDirectory(what, config[what]);
    const lock = lockDirectory(what, config[what]);
    parts.defer(() => lock.release());
  }
}

/** @throws StartError "database" */
function openDatabase(root: string, onSyncFailure: (error: unknown) => void): Database {
  try {
    return Database.open(join(privateDirectory(root, 'metadata'), 'gantry.db'), { onSyncFailure });
  } catch (error) {
    const failure = errorKind(error) === 'resource exhausted' ? 'directory' : 'database';
    throw new StartError(failure, `cannot open the metadata database: ${messageOf(error)}`, { cause: error });
  }
}

interface CollectorParts {
  readonly config: Config;
  readonly db: Database;
  readonly events: EventBus;
  readonly content: ContentStore;
  readonly log: Logger;
}

function openCollector({ config, db, events, content, log }: CollectorParts): Collector {
  const collector = new Collector({
    db,
    events,
    options: config.gc,
    onError: (error) => log.error('garbage collection failed', { error: messageOf(error) }),
    onCollected: ({ removed, lost, pauseMs }) => {
      if (removed.length > 0) log.info('garbage collected', { removed: removed.length, pause_ms: round(pauseMs) });
      for (const { namespace, type, key } of lost) log.warn('data is missing', { namespace, type, key });
    },
  });
  collector.addSweeper({ type: 'content', sweep: () => content.sweep(), lost: () => content.lost() });
  collector.addPins(() => content.openIngests());
  return collector;
}

/** Snapshotters whose leftover data goes with every collection. @throws StartError "directory" */
async function openSweptSnapshotters(config: Config, db: Database, collector: Collector) {
  try {
    const { root, overlayfs, erofs, proxies } = config;
    const skipped: SkippedPlugin[] = [];
    const onSkipped = (id: string, reason: string) => void skipped.push({ id, reason });
    const snapshotters = await openSnapshotters({ root, db, overlayfs, erofs, proxies, onSkipped });
    for (const snapshotter of snapshotters.values()) {
      collector.addSweeper(snapshotSweeper(snapshotter));
    }
    return { snapshotters, skipped };
  } catch (error) {
    throw new StartError('directory', `cannot open the snapshots: ${messageOf(error)}`, { cause: error });
  }
}

function snapshotSweeper(snapshotter: Snapshotter): Sweeper {
  const type = `snapshots/${snapshotter.name}`;
  return {
    type,
    sweep: async (isMeasured) => [{ type, ...(await snapshotter.cleanup({ isMeasured })) }],
    lost: async () => (await snapshotter.lost()).map((name) => ({ ...name, type })),
  };
}

function closeAll(snapshotters: ReadonlyMap<string, Snapshotter>): void {
  for (const snapshotter of snapshotters.values()) snapshotter.close?.();
}

function openDiff(state: string, content: ContentStore): ApplyDeps {
  const mountDirectory = privateDirectory(state, 'mounts');
  clearMounts(mountDirectory);
  return { content, pool: new UnpackPool(), mountDirectory };
}

/** @throws StartError "usage" for keys that cannot be read */
async function openTrust(config: Config['trust'], parts: TrustParts): Promise<Trust | undefined> {
  try {
    return await Trust.open(config, parts);
  } catch (error) {
    throw new StartError('usage', `[trust] of the configuration: ${messageOf(error)}`, { cause: error });
  }
}

/** @throws StartError "address" */
async function listen(address: string, start: () => Promise<void>): Promise<void> {
  try {
    await start();
  } catch (error) {
    throw new StartError('address', `cannot listen at "${address}": ${messageOf(error)}`, { cause: error });
  }
}

function callHooks(db: Database, log: Logger): CallHooks {
  const idle = new IdleCollector();
  idle.worked(); // The start leaves garbage as well.
  return {
    durable: () => db.durable(),
    writeCount: () => db.changes,
    onEnd: ({ method, namespace, code, message, durationMs, cause }) => {
      idle.worked();
      // A run of a container makes forty calls; asked for first, because winston formats what nobody wants as well.
      const level = code === 0 ? 'debug' : 'info';
      if (log.isLevelEnabled(level)) {
        const scope = namespace === undefined ? {} : { namespace };
        const error = message === '' ? {} : { error: message };
        log.log(level, 'call', { method, ...scope, code, duration_ms: round(durationMs), ...error });
      }
      if (cause !== undefined) log.error('call failed unexpectedly', { method, stack: (cause as Error).stack });
    },
  };
}

function round(ms: number): number {
  return Math.round(ms * 100) / 100;
}
