// Configuration: documented defaults, a TOML file over them, flags over both. A bad file is one clear sentence.

import { readFileSync } from 'node:fs';
import { isAbsolute, resolve } from 'node:path';
import { parse, stringify, TomlError } from 'smol-toml';
import { invalidArgument, isErrno, messageOf } from '../proto/errors';
import type { ProxyOptions } from '../snapshotter/proxy';
import type { SharingPolicy } from './content/store';
import type { SchedulerOptions } from './gc/scheduler';
import { LOG_FORMATS, LOG_LEVELS, type LogFormat, type LogLevel } from './log';
import { proxyPlugins } from './proxy-plugins';
import type { RegistryConfig } from './registry/registries';
import { SHIM_STARTS, type ShimStart } from './tasks/zygote';
import { printTrust, type TrustConfig, trustConfig } from './trust/config';

export interface Config {
  readonly root: string;
  readonly state: string;
  readonly address: string;
  readonly log: { readonly level: LogLevel; readonly format: LogFormat };
  readonly grpc: { readonly messageBytesMax: number };
  readonly shim: { readonly start: ShimStart; readonly runtime: string };
  /** Runtime name to shim program. */
  readonly runtimes: Readonly<Record<string, string>>;
  readonly content: { readonly sharingPolicy: SharingPolicy };
  readonly gc: SchedulerOptions;
  readonly overlayfs: { readonly mountOptions: readonly string[] };
  readonly erofs: { readonly mountOptions: readonly string[]; readonly mkfsOptions: readonly string[] };
  /** Snapshotters that other programs provide. */
  readonly proxies: readonly ProxyOptions[];
  readonly registry: RegistryConfig;
  readonly trust: TrustConfig;
}

/** What flags may set. */
export interface Overrides {
  readonly root?: string;
  readonly state?: string;
  readonly address?: string;
  readonly logLevel?: string;
}

export const DEFAULT_CONFIG_PATH = '/etc/gantryd/config.toml';

/** The default configuration, as `gantryd config default` prints it. It is parsed like any other file. */
export const DEFAULT_CONFIG = `# Configuration of gantryd. All values shown are the defaults.

# What must survive a reboot: metadata, content, snapshots.
root = "/var/lib/gantryd"

# What may go with a reboot: bundles of running containers.
state = "/run/gantryd"

# Socket of the gRPC API, gantryd.sock in the state directory unless set. Events of shims arrive at the same path with
# ".ttrpc" appended.
address = "/run/gantryd/gantryd.sock"

[log]
# error, warn, info or debug.
level = "info"
# text or json, on stderr.
format = "text"

[grpc]
# Largest message that the API takes and sends, in bytes, from 1 MiB to 1 GiB. Clients have a limit of their own, mostly
# of 16 MiB.
max_message_bytes = 16777216

[shim]
# fork: a shim is a fork of a process that is kept ready for it, the quickest and smallest way; when that cannot be done
# here, as spawn. spawn: every shim is started as a program.
start = "fork"
# The OCI runtime of containers whose options name none: a program with runc's command line, such as "/usr/bin/crun".
# Empty: gantry's own, inside the shim.
runtime = ""

# Which shim program a runtime name stands for: a path, a program on the PATH, or another runtime name.
# "io.containerd.runc.v2" is gantry's own shim unless it is mapped here, for example to
# "/usr/bin/containerd-shim-runc-v2".
[runtimes]

[content]
# shared: a blob that any namespace has need not be sent again. isolated: only blobs of namespaces with the label
# containerd.io/namespace.shareable=true are shared.
sharing_policy = "shared"

[gc]
# Largest share of time that collections may take, at most 0.5.
pause_threshold = 0.02
# Deletions that cause a collection at once; 0: after the usual interval.
deletion_threshold = 0
# Changes that cause a collection after the usual interval; 0: never.
mutation_threshold = 100
# Wait before a scheduled collection, in milliseconds.
schedule_delay_ms = 0
# Wait before the first collection after start-up, in milliseconds; 0: none.
startup_delay_ms = 100

[snapshotter.overlayfs]
# Options added to every overlay mount.
mount_options = []

[snapshotter.erofs]
# Options added to every overlay mount over EROFS images.
mount_options = []
# Options of mkfs.erofs with which the image of a layer is made. Without compression it is quicker to make, and larger.
mkfs_options = ["-zlz4"]

# Snapshotters that other programs provide over a Unix socket, each a table of its own, for example
#   [proxy_plugins.stargz]
#   type = "snapshot"
#   address = "/run/containerd-stargz-grpc/containerd-stargz-grpc.sock"
# and, where wanted, snapshotter = "NAME" (what the plug-in calls its snapshotter, the table's name unless set),
# capabilities = ["rebase"] and [proxy_plugins.stargz.exports] with root = "DIRECTORY".
[proxy_plugins]

[registry]
# Directories with HOST/hosts.toml, or HOST/ca.crt, client.cert and client.key. The first that knows a host counts.
hosts_directories = ["/etc/gantryd/hosts.d", "/etc/containerd/certs.d", "/etc/docker/certs.d"]
# A config.json of docker's with credentials for clients that bring none, such as "/root/.docker/config.json".
# Credential helpers that it names are run by the daemon.
docker_config = ""
# Connections to one host at the same time.
connections_per_host = 8
# A download or upload that does not move for this time is begun again where it stopped, in milliseconds.
stall_timeout_ms = 30000
# So is one that is slower than this over half a minute; 0: any speed will do.
min_bytes_per_second = 1024

[trust]
# What becomes of images that no rule names, when they are pulled, imported or run: accept or reject.
default = "accept"
# The first rule that fits an image's full name decides. "*" stands for any text; without tag or digest, all of a
# repository are meant. For example
#   [[trust.rules]]
#   match = "registry.example/team/*"
#   require = "signature"
#   keys = ["/etc/gantryd/keys/team.pem"]
# require is "accept", "reject", "digest" (one of digests = [...]; without, the name has to hold the digest) or "signature":
# of cosign or a sigstore bundle, made with one of the keys (PEM), or by certificate, for which trusted_root names a
# file, and identity (a pattern) and issuer whom it has to name. signed_as: a pattern for the name in the signature.
# predicates: which statements of bundles count, cosign's for signatures unless set.
rules = []

[trust.verifiers]
# Programs that judge images, called as containerd's image verifier plug-in "bindir" calls them; containerd's directory is
# "/opt/containerd/image-verifier/bin". They are asked before a pull, an import and the making of a container. Empty: none.
bin_dir = ""
# Only the first ones by name are asked; -1: all.
max_verifiers = 10
# One that takes longer refuses, in milliseconds.
per_verifier_timeout_ms = 10000
`;

type Table = Record<string, unknown>;
const OPEN_TABLES = ['runtimes.', 'proxy_plugins.'];

/**
 * The configuration of a file with flags on top. Without a path, the default file is used if it is there.
 * @throws INVALID_ARGUMENT naming the file, the place and the cause.
 */
export function loadConfig(path: string | undefined, overrides: Overrides): Config {
  const defaults = parse(DEFAULT_CONFIG) as Table;
  const source = path ?? DEFAULT_CONFIG_PATH;
  const given = readToml(source, path === undefined);
  const merged = merge(defaults, given, '', source);
  const { root, state, address, logLevel } = overrides;
  for (const [key, value] of Object.entries({ root, state, address })) if (value !== undefined) merged[key] = value;
  if (logLevel !== undefined) (merged['log'] as Table)['level'] = logLevel;
  // The socket is in the state directory unless somebody says otherwise.
  if (given['address'] === undefined && address === undefined) merged['address'] = `${merged['state']}/gantryd.sock`;
  return toConfig(merged, source, overrides);
}

function readToml(path: string, mayBeMissing: boolean): Table {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    if (mayBeMissing && isErrno(error, 'ENOENT')) return {};
    throw invalidArgument(`config ${path}: ${messageOf(error)}`, { cause: error });
  }
  try {
    return parse(text) as Table;
  } catch (error) {
    const where = error instanceof TomlError ? `:${error.line}:${error.column}` : '';
    throw invalidArgument(`config ${path}${where}: ${messageOf(error).split('\n')[0]}`, { cause: error });
  }
}

/**
 * Values over defaults, table by table. Keys that the defaults do not have are refused, except in [runtimes] and in
 * [proxy_plugins], which checks its own.
 */
function merge(defaults: Table, given: Table, prefix: string, source: string): Table {
  const result: Table = { ...defaults };
  for (const [key, value] of Object.entries(given)) {
    const name = `${prefix}${key}`;
    const standard = defaults[key];
    if (standard === undefined && !OPEN_TABLES.includes(prefix))
      throw invalidArgument(`config ${source}: unknown key "${name}"`);
    if (prefix === 'runtimes.' && (typeof value !== 'string' || value === ''))
      throw wrongType(source, name, 'a string that names a program');
    if (isTable(standard)) {
      if (!isTable(value)) throw wrongType(source, name, 'a table');
      result[key] = merge(standard, value, `${name}.`, source);
    } else if (standard !== undefined && typeof standard !== typeof value) {
      throw wrongType(source, name, `a ${typeof standard}`);
    } else result[key] = value;
  }
  return result;
}

function isTable(value: unknown): value is Table {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function wrongType(source: string, name: string, wanted: string): Error {
  return invalidArgument(`config ${source}: "${name}" must be ${wanted}`);
}

function toConfig(merged: Table, source: string, overrides: Overrides): Config {
  const table = (name: string) => merged[name] as Table;
  const path = (name: 'root' | 'state' | 'address'): string => {
    const value = merged[name] as string;
    if (isAbsolute(value)) return value;
    const where = overrides[name] === undefined ? `config ${source}: "${name}"` : `flag --${name}`;
    throw invalidArgument(`${where} must be an absolute path, not "${value}"`);
  };
  const choice = <T extends string>(name: string, value: unknown, choices: readonly T[]): T => {
    if (!choices.includes(value as T)) {
      const isFlag = name === 'log.level' && overrides.logLevel !== undefined;
      const where = isFlag ? 'flag --log-level' : `config ${source}: "${name}"`;
      throw invalidArgument(`${where} must be one of ${choices.join(', ')}, not "${String(value)}"`);
    }
    return value as T;
  };
  const [root, state] = [path('root'), path('state')];
  if (resolve(root) === resolve(state)) throw invalidArgument(`"root" and "state" must be different directories`);
  const snapshotterStrings = (name: string, key: string): string[] =>
    strings((table('snapshotter')[name] as Table)[key], source, `snapshotter.${name}.${key}`);
  return {
    root,
    state,
    address: path('address'),
    log: {
      level: choice('log.level', table('log')['level'], LOG_LEVELS),
      format: choice('log.format', table('log')['format'], LOG_FORMATS),
    },
    grpc: { messageBytesMax: wholeIn(table('grpc'), 'grpc.max_message_bytes', [1 << 20, 1 << 30], source) },
    shim: {
      start: choice('shim.start', table('shim')['start'], SHIM_STARTS),
      runtime: table('shim')['runtime'] as string,
    },
    runtimes: table('runtimes') as Record<string, string>,
    content: {
      sharingPolicy: choice('content.sharing_policy', table('content')['sharing_policy'], ['shared', 'isolated']),
    },
    gc: gcOptions(table('gc'), source),
    overlayfs: { mountOptions: snapshotterStrings('overlayfs', 'mount_options') },
    erofs: {
      mountOptions: snapshotterStrings('erofs', 'mount_options'),
      mkfsOptions: snapshotterStrings('erofs', 'mkfs_options'),
    },
    proxies: proxyPlugins(table('proxy_plugins'), source),
    registry: registryConfig(table('registry'), source),
    trust: trustConfig(table('trust'), source),
  };
}

function registryConfig(registry: Table, source: string): RegistryConfig {
  const whole = (key: string, range: readonly [number, number]) => wholeIn(registry, `registry.${key}`, range, source);
  const dockerConfig = registry['docker_config'] as string;
  const hostsDirectories = strings(registry['hosts_directories'], source, 'registry.hosts_directories');
  for (const path of [...hostsDirectories, ...(dockerConfig === '' ? [] : [dockerConfig])]) {
    if (!isAbsolute(path)) throw invalidArgument(`config ${source}: "registry": "${path}" must be an absolute path`);
  }
  return {
    hostsDirectories,
    dockerConfig,
    connectionsPerHostMax: whole('connections_per_host', [1, 64]),
    stallMs: whole('stall_timeout_ms', [1000, 3_600_000]),
    bytesPerSecondMin: whole('min_bytes_per_second', [0, 1 << 30]),
  };
}

/** The number in a table under the last part of `name`. */
function numberIn(table: Table, name: string, [min, max]: readonly [number, number], source: string): number {
  const value = table[name.split('.').at(-1) ?? ''] as number;
  if (value >= min && value <= max) return value;
  throw invalidArgument(`config ${source}: "${name}" must be from ${min} to ${max}, not ${value}`);
}

function wholeIn(table: Table, name: string, range: readonly [number, number], source: string): number {
  const value = numberIn(table, name, range, source);
  if (!Number.isInteger(value)) throw wrongType(source, name, 'a whole number');
  return value;
}

function gcOptions(gc: Table, source: string): SchedulerOptions {
  const whole = (key: string, max: number) => wholeIn(gc, `gc.${key}`, [0, max], source);
  return {
    pauseThreshold: numberIn(gc, 'gc.pause_threshold', [0, 0.5], source),
    deletionThreshold: whole('deletion_threshold', 1e9),
    mutationThreshold: whole('mutation_threshold', 1e9),
    scheduleDelayMs: whole('schedule_delay_ms', 86_400_000),
    startupDelayMs: whole('startup_delay_ms', 86_400_000),
  };
}

function strings(value: unknown, source: string, name: string): string[] {
  if (!Array.isArray(value) || value.some((item) => typeof item !== 'string')) {
    throw wrongType(source, name, 'a list of strings');
  }
  return value as string[];
}

/** The configuration as TOML that gives the same configuration when it is read. */
export function printConfig(config: Config): string {
  const { root, state, address, log, grpc, shim, runtimes, content, gc, overlayfs, erofs, proxies, registry } = config;
  return stringify({
    root,
    state,
    address,
    log: { ...log },
    grpc: { max_message_bytes: grpc.messageBytesMax },
    shim: { ...shim },
    runtimes: { ...runtimes },
    content: { sharing_policy: content.sharingPolicy },
    gc: {
      pause_threshold: gc.pauseThreshold,
      deletion_threshold: gc.deletionThreshold,
      mutation_threshold: gc.mutationThreshold,
      schedule_delay_ms: gc.scheduleDelayMs,
      startup_delay_ms: gc.startupDelayMs,
    },
    snapshotter: {
      overlayfs: { mount_options: [...overlayfs.mountOptions] },
      erofs: { mount_options: [...erofs.mountOptions], mkfs_options: [...erofs.mkfsOptions] },
    },
    proxy_plugins: Object.fromEntries(proxies.map(({ name, ...rest }) => [name, { type: 'snapshot', ...rest }])),
    registry: {
      hosts_directories: [...registry.hostsDirectories],
      docker_config: registry.dockerConfig,
      connections_per_host: registry.connectionsPerHostMax,
      stall_timeout_ms: registry.stallMs,
      min_bytes_per_second: registry.bytesPerSecondMin,
    },
    trust: printTrust(config.trust),
  });
}
