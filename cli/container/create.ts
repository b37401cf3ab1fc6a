// Makes a container: its root filesystem as a snapshot of the image (or a directory), its OCI spec and its record, in
// the order and with the labels that Go clients use. Whatever was made is undone when a later step fails.

import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { packJson, SPEC_URL } from '../../proto/any';
import type { Input } from '../../proto/codec';
import { isAlreadyExists, isNotFound } from '../../proto/errors';
import type { Mount } from '../../proto/generated/containerd.types';
import { checkIdentifier } from '../../proto/ids';
import { CommandError, EXIT } from '../failure';
import { withLease } from '../image/lease';
import { hostPlatform, parsePlatform, type ResolvedImage } from '../image/platform';
import { chainIds, diffIdsOf, unpack } from '../image/unpack';
import type { Session } from '../session';
import { buildSpec, type SpecOptions } from '../spec/build';
import { layersOf, readFromLayers } from '../spec/layers';
import type { ImageConfig, Spec, User } from '../spec/types';
import { needsFiles, type ReadFile, resolveGroups, resolveUser } from '../spec/user';
import { terminalSize } from '../task/terminal';
import { parseEnvironment, parseLabels } from '../values';
import { findImage, findManifest } from './image';

export interface CreateOptions extends SpecOptions {
  readonly label?: readonly string[];
  readonly user?: string;
  readonly groupAdd?: readonly string[];
  readonly snapshotter?: string;
  readonly runtime?: string;
  readonly rootfs?: boolean;
  readonly platform?: string;
}

export interface Created {
  readonly id: string;
  readonly spec: Spec;
  /** For Tasks.Create. */
  readonly rootfs: readonly Input<Mount>[];
  /** Removes record and snapshot again. */
  readonly undo: () => Promise<void>;
}

export interface CreateInput {
  /** An image's name, or with --rootfs a directory. */
  readonly source: string;
  readonly id: string;
  /** A leading "--" is dropped: it only ends the options. */
  readonly args: readonly string[];
  readonly options: CreateOptions;
  /** Added to those of the image and of --label. */
  readonly labels?: Readonly<Record<string, string>>;
}

const DEFAULT_RUNTIME = 'io.containerd.runc.v2';
const DEFAULT_SNAPSHOTTER = 'overlayfs';
const STOP_SIGNAL_LABEL = 'io.containerd.image.config.stop-signal';
/** An image must not give its container labels that steer a daemon (CVE-2026-53488). */
const RESERVED_LABEL = /^(containerd\.io\/|io\.containerd\.|io\.cri-containerd|gantry\/|nerdctl\/|com\.docker\/)/;
const LABEL_BYTES_MAX = 4096;

/** @throws CommandError for wrong options or a missing image; ALREADY_EXISTS when the id is taken. */
export function createContainer(session: Session, input: CreateInput): Promise<Created> {
  checkIdentifier(input.id);
  return withLease(session, async (lease) => {
    const filesystem = input.options.rootfs === true ? rootOf(input) : await prepare(session, input, lease);
    try {
      const spec = await specOf(session, input, filesystem);
      const { options, id } = input;
      await session.connection.containers.create(
        {
          container: {
            id,
            labels: { ...labelsOf(filesystem.config), ...parseLabels(options.label ?? []), ...input.labels },
            image: filesystem.image,
            runtime: { name: options.runtime ?? (await namespaceDefaults(session)).runtime },
            spec: packJson(SPEC_URL, spec),
            snapshotter: filesystem.snapshotter,
            snapshotKey: filesystem.snapshotKey,
          },
        },
        { lease },
      );
      const undo = async (): Promise<void> => {
        await Promise.all([session.connection.containers.delete({ id }).catch(ignoreNotFound), filesystem.remove()]);
      };
      return { id, spec, rootfs: filesystem.mounts, undo };
    } catch (error) {
      await filesystem.remove().catch(ignoreNotFound);
      throw error;
    }
  });
}

interface Defaults {
  readonly snapshotter: string;
  readonly runtime: string;
}

const defaultsOfSession = new WeakMap<Session, Promise<Defaults>>();

/** Snapshotter and runtime of the namespace, which labels may set. Asked for once a session. */
export function namespaceDefaults(session: Session): Promise<Defaults> {
  const known = defaultsOfSession.get(session) ?? readDefaults(session);
  defaultsOfSession.set(session, known);
  return known;
}

async function readDefaults(session: Session): Promise<Defaults> {
  const { namespace } = await session.connection.namespaces.get({ name: session.namespace });
  const labels = namespace?.labels ?? {};
  return {
    snapshotter: labels['containerd.io/defaults/snapshotter'] ?? DEFAULT_SNAPSHOTTER,
    runtime: labels['containerd.io/defaults/runtime'] ?? DEFAULT_RUNTIME,
  };
}

interface Filesystem {
  readonly image: string;
  readonly config: ImageConfig;
  readonly rootPath: string;
  readonly snapshotter: string;
  readonly snapshotKey: string;
  readonly mounts: readonly Input<Mount>[];
  readonly remove: () => Promise<void>;
}

function rootOf(input: CreateInput): Filesystem {
  const nothing = { image: '', config: {}, snapshotter: '', snapshotKey: '', mounts: [] };
  return { ...nothing, rootPath: resolve(input.source), remove: () => Promise.resolve() };
}

async function prepare(session: Session, input: CreateInput, lease: string): Promise<Filesystem> {
  const { options, id } = input;
  const { snapshots } = session.connection;
  const [image, defaults] = await Promise.all([findImage(session, input.source), namespaceDefaults(session)]);
  const platform = options.platform === undefined ? hostPlatform() : parsePlatform(options.platform);
  const resolved = await findManifest(session, image, platform);
  const snapshotter = options.snapshotter ?? defaults.snapshotter;
  const mounts = await prepareSnapshot(session, resolved, { id, snapshotter, lease });
  return {
    image: image.name,
    config: resolved.configuration.config ?? {},
    rootPath: 'rootfs',
    snapshotter,
    snapshotKey: id,
    mounts,
    remove: async () => {
      await snapshots.remove({ snapshotter, key: id }).catch(ignoreNotFound);
    },
  };
}

/** The writable snapshot on top of the image, whose layers are unpacked first if they are not there. */
async function prepareSnapshot(
  session: Session,
  image: ResolvedImage,
  { id, snapshotter, lease }: { id: string; snapshotter: string; lease: string },
): Promise<Mount[]> {
  const { snapshots } = session.connection;
  const make = async (parent: string): Promise<Mount[]> => {
    try {
      return (await snapshots.prepare({ snapshotter, key: id, parent }, { lease })).mounts;
    } catch (error) {
      if (!isAlreadyExists(error)) throw error;
      const how = `remove it with: gantry containers rm ${id}`;
      throw new CommandError(`a container or snapshot "${id}" exists already; ${how}`, EXIT.conflict, { cause: error });
    }
  };
  try {
    return await make(chainIds(diffIdsOf(image)).at(-1) ?? '');
  } catch (error) {
    if (!isNotFound(error)) throw error;
  }
  return make(await unpack(session, image, { snapshotter, lease }));
}

async function specOf(session: Session, input: CreateInput, filesystem: Filesystem): Promise<Spec> {
  const { options } = input;
  const user = await userOf(options, filesystem);
  const spec = buildSpec({
    namespace: session.namespace,
    id: input.id,
    rootPath: filesystem.rootPath,
    image: filesystem.config,
    args: input.args[0] === '--' ? input.args.slice(1) : input.args,
    env: parseEnvironment(options.env ?? [], options.envFile ?? []),
    user,
    options,
  });
  const size = options.tty === true ? terminalSize() : undefined;
  if (size !== undefined) spec.process.consoleSize = { height: size.height, width: size.width };
  return spec;
}

/** --user, or the image's user, with names looked up in the root filesystem itself. */
async function userOf(options: CreateOptions, filesystem: Filesystem): Promise<User> {
  const text = options.user ?? filesystem.config.User ?? '';
  const more = options.groupAdd ?? [];
  if (!needsFiles(text) && more.length === 0) return resolveUser(text, () => undefined);
  const layers = filesystem.snapshotKey === '' ? [filesystem.rootPath] : layersOf(filesystem.mounts);
  const resolveWith = (readFile: ReadFile): User => {
    const user = resolveUser(text, readFile);
    const gids = [...new Set([...(user.additionalGids ?? []), ...resolveGroups(more, readFile)])];
    return { ...user, additionalGids: gids };
  };
  if (layers !== undefined) return resolveWith((path) => readFromLayers(layers, path));
  return mounted(filesystem.mounts, (root) => resolveWith((path) => readFromLayers([root], path)));
}

/** For snapshotters whose mounts are not plain directories: mounted with mount(8) for a moment. */
async function mounted<T>(mounts: readonly Input<Mount>[], body: (root: string) => T): Promise<T> {
  const run = promisify(execFile);
  const root = await mkdtemp(join(tmpdir(), 'gantry-root-'));
  let count = 0;
  try {
    for (const mount of mounts) {
      const options = [...(mount.options ?? []), 'ro'].filter((option) => option !== 'rw').join(',');
      await run('mount', ['-t', mount.type ?? '', '-o', options, mount.source ?? 'none', root]);
      count += 1;
    }
    return body(root);
  } finally {
    for (; count > 0; count -= 1) await run('umount', [root]);
    await rm(root, { recursive: true, force: true });
  }
}

/** Labels of the image that a container may inherit, and its stop signal. */
export function labelsOf(config: ImageConfig): Record<string, string> {
  const labels: Record<string, string> = {};
  for (const [key, value] of Object.entries(config.Labels ?? {})) {
    const fits = Buffer.byteLength(key) + Buffer.byteLength(value) <= LABEL_BYTES_MAX;
    if (fits && !RESERVED_LABEL.test(key)) labels[key] = value;
  }
  if (config.StopSignal !== undefined && config.StopSignal !== '') labels[STOP_SIGNAL_LABEL] = config.StopSignal;
  return labels;
}

export function ignoreNotFound(error: unknown): void {
  if (!isNotFound(error)) throw error;
}
