// What `linux` of a runtime configuration may hold (runtime-spec config-linux.md), but for its resources.

import { NAMESPACE_FLAGS } from '../native';
import { MEMORY_FLAGS, MEMORY_MODES } from '../plan/scheduling';
import { ACTIONS, ARCHITECTURES, OPERATORS } from '../seccomp/profile';
import { FLAGS as FILTER_FLAGS } from '../seccomp/seccomp';
import {
  absolutePath,
  type Check,
  flag,
  int64,
  integer,
  listOf,
  mapOf,
  numberList,
  object,
  oneOf,
  refuse,
  text,
  uint32,
} from './checks';
import { resourcesSchema } from './resources-schema';

const DEVICE_NUMBER_MAX = 2 ** 32 - 1;
/** With the type bits that some clients leave in it. */
const FILE_MODE_MAX = 0o177777;
const NANOSECONDS_MAX = 999_999_999;

const mapping = object({ containerID: uint32, hostID: uint32, size: integer(1, 2 ** 32 - 1) }, [
  'containerID',
  'hostID',
  'size',
]);
export const mappings = listOf(mapping);

/** Namespaces are named in errors as runc names them. */
const namespace: Check = (value, path) => {
  object({ type: text(), path: absolutePathOrEmpty }, ['type'])(value, path);
  const { type, path: place = '' } = value as { type: string; path?: string };
  if (NAMESPACE_FLAGS[type] === undefined) refuse(`${path}.type`, `namespace {"${type}" "${place}"} does not exist`);
};

const absolutePathOrEmpty = text(/^(\/|$)/, 'must be an absolute path');

const device = object(
  {
    path: absolutePath,
    type: oneOf(['c', 'u', 'b', 'p'], (type) => `invalid device type "${type}"`),
    major: integer(0, DEVICE_NUMBER_MAX),
    minor: integer(0, DEVICE_NUMBER_MAX),
    fileMode: integer(0, FILE_MODE_MAX),
    uid: uint32,
    gid: uint32,
  },
  ['path', 'type'],
);

const action = oneOf(Object.keys(ACTIONS), (name) => `string ${name} is not a valid action for seccomp`);

/** 64 bits; parseSpec() gives those that a number does not hold exactly as text. */
const filterValue: Check = (value, path) => {
  if (typeof value === 'string' && /^\d{1,20}$/.test(value) && BigInt(value) < 1n << 64n) return;
  if (typeof value !== 'number' || !Number.isInteger(value) || value < 0 || value >= 2 ** 64)
    refuse(path, 'must be between 0 and 18446744073709551615');
};

const seccomp = object(
  {
    defaultAction: action,
    defaultErrnoRet: uint32,
    architectures: listOf(
      oneOf(Object.keys(ARCHITECTURES), (name) => `string ${name} is not a valid arch for seccomp`),
    ),
    flags: listOf(oneOf(Object.keys(FILTER_FLAGS), (name) => `seccomp flag "${name}" is not known to the runtime`)),
    listenerPath: absolutePathOrEmpty,
    listenerMetadata: text(),
    syscalls: listOf(
      object(
        {
          names: listOf(text(/./, 'empty string is not a valid syscall')),
          action,
          errnoRet: uint32,
          args: listOf(
            object(
              {
                index: integer(0, 5),
                value: filterValue,
                valueTwo: filterValue,
                op: oneOf(Object.keys(OPERATORS), (name) => `string ${name} is not a valid operator for seccomp`),
              },
              ['index', 'value', 'op'],
            ),
          ),
        },
        ['names', 'action'],
      ),
    ),
  },
  ['defaultAction'],
);

const timeOffset = object({ secs: int64, nanosecs: integer(0, NANOSECONDS_MAX) });
const timeOffsets: Check = (value, path) => {
  object({ monotonic: timeOffset, boottime: timeOffset })(value, path);
  for (const name of Object.keys(value as object))
    if (name !== 'monotonic' && name !== 'boottime') refuse(`${path}.${name}`, 'is no clock of a time namespace');
};

const rootfsPropagation: Check = (value, path) => {
  text(/^(r?(private|slave|shared|unbindable))?$/, `rootfsPropagation=${value} is not supported`)(value, path);
};

const oneLine = text(/^[^\n]*$/, 'must be one line');
const interfaceName = text(/^(?!\.{1,2}$)[^\s/:]{1,15}$/, 'is no name of a network device');

export const intelRdtSchema = object({
  closID: text(/^(?!\.{1,2}$)[^/\n]*$/, 'must be a name of one directory'),
  schemata: listOf(oneLine),
  l3CacheSchema: oneLine,
  memBwSchema: text(/^MB:[^\n]*$/, 'must be one line that starts with "MB:"'),
  enableMonitoring: flag,
});

export const linuxSchema = object({
  namespaces: listOf(namespace),
  uidMappings: mappings,
  gidMappings: mappings,
  timeOffsets,
  devices: listOf(device),
  cgroupsPath: oneLine,
  resources: resourcesSchema,
  rootfsPropagation,
  seccomp,
  sysctl: mapOf(text(), text(/^[\w-]+([./][\w@:+*-]+)+$/, 'is no name of a setting')),
  maskedPaths: listOf(absolutePath),
  readonlyPaths: listOf(absolutePath),
  mountLabel: oneLine,
  personality: object({ domain: oneOf(['LINUX', 'LINUX32']), flags: listOf(text()) }, ['domain']),
  intelRdt: intelRdtSchema,
  memoryPolicy: object(
    {
      mode: oneOf(Object.keys(MEMORY_MODES)),
      nodes: numberList,
      flags: listOf(oneOf(Object.keys(MEMORY_FLAGS))),
    },
    ['mode'],
  ),
  netDevices: mapOf(object({ name: interfaceName }), interfaceName),
});
