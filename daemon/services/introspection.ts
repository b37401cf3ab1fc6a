// containerd.services.introspection.v1.Introspection: what the server is made of and who it is. Needs no namespace.

import { randomUUID } from 'node:crypto';
import { mkdirSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { isErrno, notFound, notImplemented } from '../../proto/errors';
import { IntrospectionService } from '../../proto/generated/containerd.services.introspection.v1';
import type { Any } from '../../proto/generated/google.protobuf';
import { defineService, type Service } from '../grpc/handler';
import { type Lookup, parseFilters, present } from '../metadata/filters';
import type { PluginRecord } from '../plugins';

export interface IntrospectionDeps {
  readonly root: string;
  readonly plugins: () => readonly PluginRecord[];
  /** Information about a runtime for a containerd.types.RuntimeRequest. */
  readonly runtimeInfo: (request: Any, signal: AbortSignal) => Promise<Any>;
}

const UUID_DIRECTORY = 'io.containerd.grpc.v1.introspection';
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

export function introspectionService({ root, plugins, runtimeInfo }: IntrospectionDeps): Service {
  const uuid = serverUuid(root);
  const pidns = BigInt(statSync('/proc/self/ns/pid').ino);
  return defineService(IntrospectionService, {
    plugins: ({ filters }) => {
      const filter = parseFilters(filters);
      return { plugins: plugins().filter((plugin) => filter.matches(fieldsOf(plugin))) };
    },
    server: () => ({ uuid, pid: BigInt(process.pid), pidns }),
    async pluginInfo({ type, id, options }, context) {
      const plugin = plugins().find((candidate) => candidate.type === type && candidate.id === id);
      if (plugin === undefined) throw notFound(`plugin "${type}.${id}"`);
      if (options === undefined) return { plugin };
      if (type !== 'io.containerd.runtime.v2' || id !== 'task') {
        throw notImplemented(`plugin "${type}.${id}" does not provide extra information`);
      }
      return { plugin, extra: await runtimeInfo(options, context.signal) };
    },
  });
}

/** The identity of this root directory, kept over restarts. */
export function serverUuid(root: string): string {
  const directory = join(root, UUID_DIRECTORY);
  const path = join(directory, 'uuid');
  try {
    const kept = readFileSync(path, 'utf8').trim();
    if (UUID.test(kept)) return kept;
  } catch (error) {
    if (!isErrno(error, 'ENOENT')) throw error;
  }
  const uuid = randomUUID();
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  writeFileSync(`${path}.tmp`, uuid, { mode: 0o600, flush: true });
  renameSync(`${path}.tmp`, path);
  return uuid;
}

/** platforms and capabilities are accepted as paths and never present, as in containerd. */
function fieldsOf(plugin: PluginRecord): Lookup {
  return ([head, ...rest]) => {
    if (rest.length > 0) return undefined;
    if (head === 'type') return present(plugin.type ?? '');
    return head === 'id' ? present(plugin.id ?? '') : undefined;
  };
}
