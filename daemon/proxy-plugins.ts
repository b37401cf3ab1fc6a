// The section [proxy_plugins] of the configuration, as containerd has it: parts that other programs provide over a socket.

import { isAbsolute } from 'node:path';
import { invalidArgument, messageOf } from '../proto/errors';
import { checkIdentifier } from '../proto/ids';
import { OWN_NAMES } from '../snapshotter/index';
import type { ProxyOptions } from '../snapshotter/proxy';

type Table = Readonly<Record<string, unknown>>;

const KEYS = ['type', 'address', 'snapshotter', 'capabilities', 'exports'];
/** sockaddr_un holds no more (unix(7)). */
const ADDRESS_BYTES_MAX = 107;

/** @throws INVALID_ARGUMENT naming the file, the key and what is wrong with it */
export function proxyPlugins(plugins: Table, source: string): ProxyOptions[] {
  return Object.entries(plugins).map(([name, plugin]) => {
    const place = `proxy_plugins.${name}`;
    const wrong = (key: string, what: string) => invalidArgument(`config ${source}: "${place}${key}" ${what}`);
    checkName(name, wrong);
    if (!isTable(plugin)) throw wrong('', 'must be a table');
    const unknownKey = Object.keys(plugin).find((key) => !KEYS.includes(key));
    if (unknownKey !== undefined) throw wrong(`.${unknownKey}`, 'is not known');
    const { type, address, snapshotter = name, capabilities = [], exports = {} } = plugin;
    if (type !== 'snapshot') throw wrong('.type', `must be "snapshot", not ${JSON.stringify(type)}`);
    if (!isString(address) || !isAbsolute(address) || Buffer.byteLength(address) > ADDRESS_BYTES_MAX) {
      throw wrong('.address', `must be the absolute path of a socket, at most ${ADDRESS_BYTES_MAX} bytes long`);
    }
    if (!isString(snapshotter) || snapshotter === '') throw wrong('.snapshotter', 'must be a name');
    if (!areStrings(capabilities)) throw wrong('.capabilities', 'must be a list of strings');
    if (!isTable(exports) || !areStrings(Object.values(exports))) throw wrong('.exports', 'must be a table of strings');
    return { name, address, snapshotter, capabilities, exports: exports as Record<string, string> };
  });
}

function checkName(name: string, wrong: (key: string, what: string) => Error): void {
  if (OWN_NAMES.includes(name)) throw wrong('', "has the name of one of gantry's own snapshotters");
  try {
    checkIdentifier(name);
  } catch (error) {
    throw wrong('', `has a bad name: ${messageOf(error)}`);
  }
}

function isString(value: unknown): value is string {
  return typeof value === 'string';
}

function areStrings(value: unknown): value is string[] {
  return Array.isArray(value) && value.every(isString);
}

function isTable(value: unknown): value is Table {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
