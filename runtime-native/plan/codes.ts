// The numbers that plans and init agree on (init/plan.h); a unit test compares them.

import type { Operation } from './operations';

export const CODES: Readonly<Record<Operation['op'], number>> = {
  writeFile: 1,
  unshare: 2,
  joinPath: 3,
  joinSlot: 4,
  keyring: 5,
  loopback: 6,
  propagation: 7,
  procfs: 8,
  sysctl: 9,
  openTree: 10,
  root: 11,
  enterRoot: 12,
  mount: 13,
  attach: 14,
  remount: 15,
  device: 16,
  symlink: 17,
  makeDirectory: 18,
  mask: 19,
  readonly: 20,
  hostname: 21,
  domainname: 22,
  rlimit: 23,
  terminal: 24,
  sync: 25,
  noNewPrivileges: 26,
  seccomp: 27,
  bounding: 28,
  user: 29,
  capabilities: 30,
  umask: 31,
  changeDirectory: 32,
  stdioOwner: 33,
  findExecutable: 34,
  home: 35,
  closeFiles: 36,
  execute: 37,
  personality: 38,
  ioPriority: 39,
  lsmLabel: 40,
  ambient: 41,
  currentRoot: 42,
  scheduler: 43,
  cpuAffinity: 44,
  memoryPolicy: 45,
  becomeRoot: 46,
  timeOffsets: 47,
  respawn: 48,
  awaitStart: 50,
  keepFiles: 51,
  fileLabel: 52,
};

export const FLAGS = {
  MOUNT_MODE_OF_TARGET: 1,
  MOUNT_ORDINARY_DIRECTORY: 2,
  MOUNT_COPY_UP: 4,
  TREE_RECURSIVE: 8,
  LINK_REPLACE: 16,
  ROOT_MOVE: 32,
  TERMINAL_CONSOLE: 64,
  EXECUTE_REPORT_STDERR: 128,
  TARGET_ON_PROC: 512,
  DIRECTORY_FIRST_ATTEMPT: 1024,
  OPTIONAL: 256,
  ROOT_AS_IT_IS: 2048,
  SECCOMP_LISTENS: 4096,
} as const;

/** Values of a sync operation. */
export const SYNC_POINTS = { hooks: 1, containerHooks: 2, ready: 3, mapping: 4, network: 5, filtered: 6 } as const;

/** Flags of the plan itself. */
export const OWN_USER_NAMESPACE = 1;
