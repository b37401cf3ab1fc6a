// Mounts of a container: the default set, and what --mount, --volume and --tmpfs describe.

import { existsSync } from 'node:fs';
import { posix, resolve } from 'node:path';
import { usageError } from '../failure';
import type { Mount } from './types';

const SHM_SIZE = '65536k';

/** The mounts of every container, as containerd's clients have them. */
export function defaultMounts(): Mount[] {
  const tmpfs = ['nosuid', 'strictatime', 'mode=755', `size=${SHM_SIZE}`];
  return [
    mount('/proc', 'proc', 'proc', ['nosuid', 'noexec', 'nodev']),
    mount('/dev', 'tmpfs', 'tmpfs', tmpfs),
    mount('/dev/pts', 'devpts', 'devpts', ['nosuid', 'noexec', 'newinstance', 'ptmxmode=0666', 'mode=0620', 'gid=5']),
    mount('/dev/shm', 'tmpfs', 'shm', ['nosuid', 'noexec', 'nodev', 'mode=1777', `size=${SHM_SIZE}`]),
    mount('/dev/mqueue', 'mqueue', 'mqueue', ['nosuid', 'noexec', 'nodev']),
    mount('/sys', 'sysfs', 'sysfs', ['nosuid', 'noexec', 'nodev', 'ro']),
    mount('/run', 'tmpfs', 'tmpfs', tmpfs),
  ];
}

/** The host's name resolution, for a container in the host's network. */
export function hostNetworkMounts(): Mount[] {
  return ['/etc/hosts', '/etc/resolv.conf']
    .filter((path) => existsSync(path))
    .map((path) => mount(path, 'bind', path, ['rbind', 'ro']));
}

/** For a privileged container: /sys writable and the cgroup hierarchy visible. */
export function privilegedMounts(mounts: readonly Mount[]): Mount[] {
  const writable = mounts.map((item) =>
    item.type === 'sysfs'
      ? { ...item, options: item.options.map((option) => (option === 'ro' ? 'rw' : option)) }
      : item,
  );
  const cgroup = mount('/sys/fs/cgroup', 'cgroup', 'cgroup', ['nosuid', 'noexec', 'nodev', 'rw']);
  return [...writable.filter((item) => item.destination !== cgroup.destination), cgroup];
}

/**
 * One --mount: comma-separated type=, src= or source=, dst= or destination= or target=, and either
 * options=A:B (ctr's form) or the flags readonly, ro, rw (docker's form). A bind mount is recursive unless told.
 * @throws CommandError (usage)
 */
export function parseMount(text: string): Mount {
  const fields = { type: 'bind', source: '', destination: '' };
  const options: string[] = [];
  for (const part of text.split(',')) {
    const at = part.indexOf('=');
    const key = (at < 0 ? part : part.slice(0, at)).trim();
    const value = at < 0 ? '' : part.slice(at + 1);
    switch (key) {
      case 'type':
        fields.type = value;
        break;
      case 'src':
      case 'source':
        fields.source = value;
        break;
      case 'dst':
      case 'destination':
      case 'target':
        fields.destination = value;
        break;
      case 'options':
        options.push(...value.split(':').filter((option) => option !== ''));
        break;
      case 'readonly':
      case 'ro':
      case 'rw':
        options.push(key === 'rw' || value === 'false' ? 'rw' : 'ro');
        break;
      default:
        throw usageError(`--mount ${text}: unknown field "${key}"; use type, src, dst, options, ro`);
    }
  }
  return complete(`--mount ${text}`, mount(fields.destination, fields.type, fields.source, options));
}

/** One --volume: SOURCE:DESTINATION[:ro|rw]. @throws CommandError (usage) */
export function parseVolume(text: string): Mount {
  const [source = '', destination = '', mode = 'rw', ...rest] = text.split(':');
  if (rest.length > 0 || destination === '') throw usageError(`--volume ${text}: write SOURCE:DESTINATION[:ro]`);
  return complete(`--volume ${text}`, mount(destination, 'bind', source, mode.split(',')));
}

/** One --tmpfs: DESTINATION[:options]. @throws CommandError (usage) */
export function parseTmpfs(text: string): Mount {
  const [destination = '', options = ''] = text.split(':', 2);
  const given = options.split(',').filter((option) => option !== '');
  return complete(`--tmpfs ${text}`, mount(destination, 'tmpfs', 'tmpfs', ['nosuid', 'nodev', 'noexec', ...given]));
}

/** Adds mounts; one at the same place replaces a default one. */
export function addMounts(base: readonly Mount[], more: readonly Mount[]): Mount[] {
  const replaced = new Set(more.map((item) => posix.resolve(item.destination)));
  return [...base.filter((item) => !replaced.has(item.destination)), ...more];
}

function complete(what: string, item: Mount): Mount {
  if (!item.destination.startsWith('/')) throw usageError(`${what}: the destination must be an absolute path`);
  if (item.type !== 'bind') return { ...item, source: item.source === '' ? item.type : item.source };
  if (item.source === '') throw usageError(`${what}: the source is missing`);
  const source = resolve(item.source);
  if (!existsSync(source)) throw usageError(`${what}: ${source} does not exist on this machine`);
  const isBind = item.options.some((option) => option === 'bind' || option === 'rbind');
  return { ...item, source, options: isBind ? item.options : ['rbind', ...item.options] };
}

function mount(destination: string, type: string, source: string, options: string[]): Mount {
  return { destination, type, source, options };
}
