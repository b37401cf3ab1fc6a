// What `linux.resources` of a runtime configuration may hold (runtime-spec config-linux.md, Control groups).

import {
  type Check,
  flag,
  int64,
  integer,
  listOf,
  mapOf,
  numberList,
  object,
  refuse,
  text,
  uint16,
  uint32,
  uint64,
} from './checks';

const UNLIMITED = -1;
const INT64_MAX = 2 ** 63;

const bytes = integer(UNLIMITED, INT64_MAX);
const deviceNumber = integer(-1, 2 ** 32 - 1);
const throttle = listOf(object({ major: deviceNumber, minor: deviceNumber, rate: uint64 }, ['major', 'minor']));

/** Percent; clients that mean "as it is" send -1 through an unsigned field. */
const swappiness: Check = (value, path) => {
  if (value === 2 ** 64) return;
  integer(0, 100)(value, path);
};

/** Zero is "as it is". */
const weight: Check = (value, path) => {
  uint16(value, path);
  const number = value as number;
  if (number !== 0 && (number < 10 || number > 1000)) refuse(path, 'must be 0 or between 10 and 1000');
};

export const resourcesSchema = object({
  devices: listOf(
    object(
      {
        allow: flag,
        type: text(/^[abcu]?$/, 'must be one of "a", "b", "c" and "u"'),
        major: deviceNumber,
        minor: deviceNumber,
        access: text(/^[rwm]*$/, 'must be made of "r", "w" and "m"'),
      },
      ['allow'],
    ),
  ),
  memory: object({
    limit: bytes,
    reservation: bytes,
    swap: bytes,
    kernel: bytes,
    kernelTCP: bytes,
    swappiness,
    disableOOMKiller: flag,
    useHierarchy: flag,
    checkBeforeUpdate: flag,
  }),
  cpu: object({
    shares: uint64,
    quota: int64,
    burst: uint64,
    period: uint64,
    realtimeRuntime: int64,
    realtimePeriod: uint64,
    cpus: numberList,
    mems: numberList,
    idle: integer(0, 1),
  }),
  pids: object({ limit: int64 }, ['limit']),
  blockIO: object({
    weight,
    leafWeight: weight,
    weightDevice: listOf(
      object({ major: deviceNumber, minor: deviceNumber, weight, leafWeight: weight }, ['major', 'minor']),
    ),
    throttleReadBpsDevice: throttle,
    throttleWriteBpsDevice: throttle,
    throttleReadIOPSDevice: throttle,
    throttleWriteIOPSDevice: throttle,
  }),
  hugepageLimits: listOf(
    object({ pageSize: text(/^[1-9][0-9]*[KMG]B$/, 'must be a size such as "2MB"'), limit: uint64 }, [
      'pageSize',
      'limit',
    ]),
  ),
  network: object({
    classID: uint32,
    priorities: listOf(object({ name: text(/./, 'must not be empty'), priority: uint32 }, ['name', 'priority'])),
  }),
  rdma: mapOf(object({ hcaHandles: uint32, hcaObjects: uint32 })),
  unified: mapOf(
    text(/^[^\n]*(\n[^\n]+)*\n?$/, 'must be lines'),
    text(/^[^/.]+\.[^/]+$/, 'must be a file name, such as "memory.high"'),
  ),
});
