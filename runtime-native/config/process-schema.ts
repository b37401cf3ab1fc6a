// What `process` of a runtime configuration may hold (runtime-spec config.md, Process and POSIX process).

import { RLIMITS } from '../plan/rlimits';
import { IO_CLASSES, SCHEDULER_FLAGS, SCHEDULER_POLICIES } from '../plan/scheduling';
import {
  absolutePath,
  type Check,
  flag,
  integer,
  listOf,
  numberList,
  object,
  oneOf,
  refuse,
  text,
  uint16,
  uint32,
  uint64,
} from './checks';

const ID_MAX = 2 ** 31 - 1;
const INT32_MAX = 2 ** 31 - 1;
const ID_WORDS = 'unable to start container process: unable to setup user: uids and gids must be in range 0-2147483647';

/** The kernel takes larger ones, but to programs with a signed number they look like -1, or, cut short, like root. */
const userId: Check = (value, path) => {
  if (typeof value === 'number' && value > ID_MAX && value <= 2 ** 32 - 1) refuse(path, ID_WORDS);
  if (typeof value !== 'number' || !Number.isInteger(value) || value < 0 || value > ID_MAX)
    refuse(path, `invalid user or group id ${String(value)}`);
};

export const environmentVariable: Check = (value, path) => {
  if (typeof value !== 'string') refuse(path, 'must be a string');
  const equals = value.indexOf('=');
  if (equals < 0) refuse(path, `invalid environment variable: "${value}"`);
  if (equals === 0) refuse(path, `environment variable name can't be empty: "${value}"`);
  if (value.includes('\0')) refuse(path, `environment variable contains a NUL byte: "${value.slice(0, equals)}"`);
};

const names = listOf(text());
const int32 = integer(-INT32_MAX - 1, INT32_MAX);

export const processSchema = object(
  {
    terminal: flag,
    consoleSize: object({ height: uint16, width: uint16 }, ['height', 'width']),
    user: object({ uid: userId, gid: userId, umask: integer(0, 0o777), additionalGids: listOf(uint32) }, [
      'uid',
      'gid',
    ]),
    args: listOf(text()),
    env: listOf(environmentVariable),
    cwd: text(/^\//, 'Cwd must be an absolute path'),
    capabilities: object({ bounding: names, effective: names, permitted: names, inheritable: names, ambient: names }),
    rlimits: listOf(
      object(
        { type: oneOf(Object.keys(RLIMITS), (name) => `wrong rlimit value: ${name}`), soft: uint64, hard: uint64 },
        ['type', 'soft', 'hard'],
      ),
    ),
    noNewPrivileges: flag,
    apparmorProfile: text(/^[^\n]*$/, 'must be one line'),
    selinuxLabel: text(/^[^\n]*$/, 'must be one line'),
    oomScoreAdj: integer(-1000, 1000),
    ioPriority: object({ class: oneOf(Object.keys(IO_CLASSES)), priority: integer(0, 7) }, ['class']),
    scheduler: object(
      {
        policy: oneOf(Object.keys(SCHEDULER_POLICIES)),
        nice: int32,
        priority: int32,
        flags: listOf(oneOf(Object.keys(SCHEDULER_FLAGS))),
        runtime: uint64,
        deadline: uint64,
        period: uint64,
      },
      ['policy'],
    ),
    execCPUAffinity: object({ initial: numberList, final: numberList }),
  },
  ['cwd'],
);

export const hookSchema = object(
  {
    path: absolutePath,
    args: listOf(text()),
    env: listOf(environmentVariable),
    timeout: integer(1, INT32_MAX),
  },
  ['path'],
);
