// Which endpoints serve a host, as containerd's hosts directories say it: HOST/hosts.toml, or the certificates in HOST,
// or the defaults. Read anew for every transfer, so that a change needs no restart.

import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { invalidArgument, isErrno, messageOf } from '../../proto/errors';
import { parseHostsFile } from './hosts-file';
import { type Capability, type Endpoint, NO_TLS_SETTINGS, type TlsSettings } from './http/endpoint';
import { isLoopback } from './http/proxy';

export interface HostOptions {
  /** Directories separated by colons; the first that knows the host counts. */
  readonly hostsDirectory?: string | undefined;
  readonly defaultScheme?: 'http' | 'https' | undefined;
}

export interface HostEndpoint extends Endpoint {
  /** Whether http is to be tried when the host turns out not to speak https. */
  readonly mayBePlain: boolean;
}

const ALL_CAPABILITIES: readonly Capability[] = ['pull', 'resolve', 'push'];
export const CONNECT_TIMEOUT_MS = 10_000;
const DEFAULT_DIRECTORY = '_default';
/** Docker's own names for its registry. */
const HOSTS_RENAMED: Readonly<Record<string, string>> = { 'docker.io': 'registry-1.docker.io' };

/**
 * The endpoints of a host in the order in which they are asked; the host itself comes last.
 * @throws INVALID_ARGUMENT naming file and cause when the configuration cannot be used
 */
export function endpointsOf(host: string, options: HostOptions): readonly HostEndpoint[] {
  const directory = directoryOf(host, options.hostsDirectory);
  const standard = standardEndpoint(host, options.defaultScheme);
  if (directory === undefined) return [standard];
  const text = readIfThere(join(directory, 'hosts.toml'));
  if (text === undefined) {
    const tls = legacyCertificates(directory);
    return [{ ...standard, tls, mayBePlain: standard.mayBePlain && tls === NO_TLS_SETTINGS }];
  }
  return parseHostsFile(text, { directory, host, standard });
}

/** Where a host is asked when nothing is configured (`containerd`: ConfigureHosts). */
function standardEndpoint(host: string, defaultScheme: 'http' | 'https' | undefined): HostEndpoint {
  const { hostname, port } = new URL(`http://${host}`);
  const isLocal = isLoopback(hostname.replace(/^\[|\]$/g, ''));
  const mayBePlain = defaultScheme === undefined && isLocal && port !== '' && port !== '443';
  return {
    host,
    url: `${defaultScheme ?? 'https'}://${HOSTS_RENAMED[host] ?? host}/v2`,
    capabilities: ALL_CAPABILITIES,
    headers: {},
    tls: NO_TLS_SETTINGS,
    connectTimeoutMs: CONNECT_TIMEOUT_MS,
    mirrored: undefined,
    mayBePlain,
  };
}

/** HOST_PORT_ or HOST:PORT or HOST, then _default. */
function directoryOf(host: string, hostsDirectory: string | undefined): string | undefined {
  const colon = host.lastIndexOf(':');
  const hasPort = colon > 0 && !host.endsWith(']');
  const names = [...(hasPort ? [`${host.slice(0, colon)}_${host.slice(colon + 1)}_`] : []), host, DEFAULT_DIRECTORY];
  const roots = (hostsDirectory ?? '').split(':').filter((root) => root !== '');
  return roots.flatMap((root) => names.map((name) => join(root, name))).find(isDirectory);
}

function isDirectory(path: string): boolean {
  try {
    return statSync(path).isDirectory();
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) return false;
    throw invalidArgument(`hosts directory ${path}: ${messageOf(error)}`, { cause: error });
  }
}

function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return undefined;
    throw invalidArgument(`${path}: ${messageOf(error)}`, { cause: error });
  }
}

/** Docker's layout: *.crt are authorities, *.cert with *.key are of the client. */
function legacyCertificates(directory: string): TlsSettings {
  const names = readdirSync(directory).sort();
  const read = (name: string): string => {
    const text = readIfThere(join(directory, name));
    if (text !== undefined) return text;
    throw invalidArgument(`${join(directory, name)}: missing: *.cert and *.key come in pairs`);
  };
  const authorities = names.filter((name) => name.endsWith('.crt')).map(read);
  const clients = names
    .filter((name) => name.endsWith('.cert'))
    .map((name) => ({ certificate: read(name), key: read(name.replace(/\.cert$/, '.key')) }));
  const pairs = new Set(names.filter((name) => name.endsWith('.cert')).map((name) => name.replace(/\.cert$/, '.key')));
  for (const name of names) {
    if (name.endsWith('.key') && !pairs.has(name)) read(name.replace(/\.key$/, '.cert'));
  }
  return authorities.length + clients.length === 0 ? NO_TLS_SETTINGS : { authorities, clients, skipVerify: false };
}
