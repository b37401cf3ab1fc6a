// What this daemon consists of, in the words of containerd's plugin list: clients pick snapshotters, look up their
// directories and capabilities, and find out what is missing. Only parts that are really there are listed, and those
// that were left out with the reason.

import type { Input } from '../proto/codec';
import type { Plugin } from '../proto/generated/containerd.services.introspection.v1';
import type { Platform } from '../proto/generated/containerd.types';
import type { ProxyOptions } from '../snapshotter/proxy';
import type { Snapshotter } from '../snapshotter/snapshotter';
import type { SchedulerOptions } from './gc/scheduler';

export type PluginRecord = Input<Plugin>;

export interface SnapshotterPlugin {
  readonly id: string;
  readonly capabilities: readonly string[];
  readonly exports: Readonly<Record<string, string>>;
}

export interface SkippedPlugin {
  readonly id: string;
  readonly reason: string;
}

export interface PluginSources {
  readonly contentRoot: string;
  readonly databasePath: string;
  readonly sharing: string;
  readonly gc: SchedulerOptions;
  readonly snapshotters: readonly SnapshotterPlugin[];
  readonly skippedSnapshotters: readonly SkippedPlugin[];
  /** Full names of the gRPC services. */
  readonly services: readonly string[];
}

const CONTENT = 'io.containerd.content.v1';
const SNAPSHOTTER = 'io.containerd.snapshotter.v1';
const METADATA = 'io.containerd.metadata.v1';
const EVENT = 'io.containerd.event.v1';
const RUNTIME = 'io.containerd.runtime.v2';
const GRPC = 'io.containerd.grpc.v1';

/** Clients know by these words that a plugin was left out and did not fail; containerd has no better code for it. */
const SKIPPED = 'skip plugin';
const CODE_UNKNOWN = 2;

/** Schemes of stdio URIs that the shim understands. */
const LOG_URI_SCHEMES = 'fifo,binary,file';

/** containerd's plugin id for each gRPC service, by the service's full name. */
const GRPC_IDS: Readonly<Record<string, string>> = {
  'containerd.services.containers.v1.Containers': 'containers',
  'containerd.services.content.v1.Content': 'content',
  'containerd.services.diff.v1.Diff': 'diff',
  'containerd.services.events.v1.Events': 'events',
  'grpc.health.v1.Health': 'healthcheck',
  'containerd.services.images.v1.Images': 'images',
  'containerd.services.introspection.v1.Introspection': 'introspection',
  'containerd.services.leases.v1.Leases': 'leases',
  'containerd.services.namespaces.v1.Namespaces': 'namespaces',
  'containerd.services.snapshots.v1.Snapshots': 'snapshots',
  'containerd.services.streaming.v1.Streaming': 'streaming',
  'containerd.services.tasks.v1.Tasks': 'tasks',
  'containerd.services.transfer.v1.Transfer': 'transfer',
  'containerd.services.version.v1.Version': 'version',
};

/** The machine's platform in Go's words, which image platforms use too. */
export function hostPlatform(): Platform {
  const architecture = process.arch === 'x64' ? 'amd64' : process.arch;
  return { os: 'linux', architecture, variant: architecture === 'arm64' ? 'v8' : '', osVersion: '', osFeatures: [] };
}

/** Proxies with their socket, as containerd lists them. */
export function snapshotterPlugins(
  snapshotters: Iterable<Snapshotter>,
  proxies: readonly ProxyOptions[],
): SnapshotterPlugin[] {
  return [...snapshotters].map(({ name: id, root, capabilities }) => {
    const proxy = proxies.find(({ name }) => name === id);
    return { id, capabilities, exports: proxy === undefined ? { root } : { ...proxy.exports, address: proxy.address } };
  });
}

export function pluginList(sources: PluginSources): PluginRecord[] {
  const platforms = [hostPlatform()];
  return [
    { type: CONTENT, id: 'content', exports: { root: sources.contentRoot } },
    ...sources.snapshotters.map((snapshotter) => ({ type: SNAPSHOTTER, platforms, ...snapshotter })),
    ...sources.skippedSnapshotters.map(({ id, reason }) => ({
      type: SNAPSHOTTER,
      id,
      platforms,
      initErr: { code: CODE_UNKNOWN, message: `${reason}: ${SKIPPED}`, details: [] },
    })),
    {
      type: METADATA,
      id: 'bolt',
      requires: [CONTENT, SNAPSHOTTER, EVENT],
      exports: { policy: sources.sharing, path: sources.databasePath },
    },
    { type: EVENT, id: 'exchange' },
    { type: 'io.containerd.gc.v1', id: 'scheduler', requires: [METADATA], exports: schedulerExports(sources.gc) },
    { type: 'io.containerd.lease.v1', id: 'manager', requires: [METADATA] },
    ...(hasService(sources, 'diff')
      ? [{ type: 'io.containerd.differ.v1', id: 'walking', requires: [METADATA], platforms }]
      : []),
    {
      type: RUNTIME,
      id: 'task',
      requires: [METADATA, EVENT],
      platforms,
      exports: { 'log-uri-schemes': LOG_URI_SCHEMES },
    },
    ...sources.services.flatMap((name) => {
      const id = GRPC_IDS[name];
      return id === undefined ? [] : [{ type: GRPC, id }];
    }),
  ];
}

function hasService(sources: PluginSources, id: string): boolean {
  return sources.services.some((name) => GRPC_IDS[name] === id);
}

/** Durations as Go prints them. */
function schedulerExports(gc: SchedulerOptions): Record<string, string> {
  return {
    PauseThreshold: String(gc.pauseThreshold),
    DeletionThreshold: String(gc.deletionThreshold),
    MutationThreshold: String(gc.mutationThreshold),
    ScheduleDelay: goDuration(gc.scheduleDelayMs),
    StartupDelay: goDuration(gc.startupDelayMs),
  };
}

function goDuration(ms: number): string {
  if (ms === 0) return '0s';
  return ms % 1000 === 0 ? `${ms / 1000}s` : `${ms}ms`;
}
