// A launch plan in the binary form that init reads (init/plan.h).

import { capabilityMask } from './capabilities';
import { NAMESPACE_FLAGS } from './native';
import type { MountAttribute, Operation, Plan, Propagation } from './operations';

/** Codes and flags of init/plan.h; a unit test compares them. */
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
  awaitStart: 50,
  keepFiles: 51,
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
} as const;

const MAGIC = 0x4c504e47;
const HEADER_SIZE = 16;
const OPERATION_SIZE = 48;
const FILE_TYPE_ALIGNMENT = 8;

/** Values of a sync operation. */
export const SYNC_POINTS = { hooks: 1, containerHooks: 2, ready: 3 } as const;

/** mount_setattr(2); "strictatime", "noatime" and "relatime" are one field whose zero is relatime. */
export const ATTRIBUTE_BITS: Readonly<Record<MountAttribute, number>> = {
  ro: 0x1,
  nosuid: 0x2,
  nodev: 0x4,
  noexec: 0x8,
  relatime: 0,
  noatime: 0x10,
  strictatime: 0x20,
  nodiratime: 0x80,
  nosymfollow: 0x200000,
};
const ATIME_MASK = 0x70;
const MS_REC = 0x4000;
const PROPAGATION_BITS: Readonly<Record<string, number>> = {
  unbindable: 0x20000,
  private: 0x40000,
  slave: 0x80000,
  shared: 0x100000,
};

interface Encoded {
  flags?: number;
  a?: number | bigint;
  b?: number | bigint;
  c?: number | bigint;
  texts?: readonly (string | Buffer | undefined)[];
}

export function encodePlan(plan: Plan): Buffer {
  const count = plan.operations.length;
  const table = Buffer.alloc(HEADER_SIZE + count * OPERATION_SIZE);
  const texts = new TextArea(table.length);
  plan.operations.forEach((operation, index) => {
    writeOperation(table, HEADER_SIZE + index * OPERATION_SIZE, operation, texts);
  });
  table.writeUInt32LE(MAGIC, 0);
  table.writeUInt32LE(texts.end, 4);
  table.writeUInt32LE(count, 8);
  table.writeUInt32LE(plan.inherited.length, 12);
  return Buffer.concat([table, ...texts.parts], texts.end);
}

/** Flags of mount(2) for a propagation. */
export function propagationFlags(propagation: Propagation | undefined): number {
  if (propagation === undefined) return 0;
  const direct = PROPAGATION_BITS[propagation];
  return direct ?? (PROPAGATION_BITS[propagation.slice(1)] ?? 0) | MS_REC;
}

class TextArea {
  readonly parts: Buffer[] = [];
  end: number;

  constructor(start: number) {
    this.end = start;
  }

  /** The offset of the text in the plan. */
  add(text: string | Buffer | undefined): number {
    if (text === undefined) return 0;
    const bytes = typeof text === 'string' ? Buffer.from(`${text}\0`) : text;
    const padding = (FILE_TYPE_ALIGNMENT - (this.end % FILE_TYPE_ALIGNMENT)) % FILE_TYPE_ALIGNMENT;
    const offset = this.end + padding;
    this.parts.push(Buffer.alloc(padding), bytes);
    this.end = offset + bytes.length;
    return offset;
  }
}

function writeOperation(table: Buffer, at: number, operation: Operation, texts: TextArea): void {
  const { flags = 0, a = 0, b = 0, c = 0, texts: own = [] } = encode(operation);
  table.writeUInt32LE(CODES[operation.op], at);
  table.writeUInt32LE(flags, at + 4);
  table.writeBigUInt64LE(BigInt.asUintN(64, BigInt(a)), at + 8);
  table.writeBigUInt64LE(BigInt.asUintN(64, BigInt(b)), at + 16);
  table.writeBigUInt64LE(BigInt.asUintN(64, BigInt(c)), at + 24);
  own.forEach((text, index) => {
    table.writeUInt32LE(texts.add(text), at + 32 + 4 * index);
  });
}

function encode(operation: Operation): Encoded {
  switch (operation.op) {
    case 'mount':
    case 'attach':
    case 'remount':
    case 'openTree':
    case 'root':
    case 'currentRoot':
    case 'enterRoot':
    case 'propagation':
    case 'procfs':
    case 'sysctl':
    case 'lsmLabel':
    case 'mask':
    case 'readonly':
    case 'device':
    case 'symlink':
    case 'makeDirectory':
      return encodeFilesystem(operation);
    case 'bounding':
    case 'user':
    case 'capabilities':
    case 'ambient':
    case 'umask':
    case 'stdioOwner':
    case 'noNewPrivileges':
    case 'seccomp':
    case 'rlimit':
    case 'personality':
    case 'ioPriority':
      return encodeCredentials(operation);
    default:
      return encodeProcess(operation);
  }
}

type FilesystemOperation = Extract<
  Operation,
  {
    op:
      | 'mount'
      | 'attach'
      | 'remount'
      | 'openTree'
      | 'root'
      | 'currentRoot'
      | 'enterRoot'
      | 'propagation'
      | 'procfs'
      | 'sysctl'
      | 'lsmLabel'
      | 'mask'
      | 'readonly'
      | 'device'
      | 'symlink'
      | 'makeDirectory';
  }
>;
type CredentialOperation = Extract<
  Operation,
  {
    op:
      | 'bounding'
      | 'user'
      | 'capabilities'
      | 'ambient'
      | 'umask'
      | 'stdioOwner'
      | 'noNewPrivileges'
      | 'seccomp'
      | 'rlimit'
      | 'personality'
      | 'ioPriority';
  }
>;

function encodeFilesystem(operation: FilesystemOperation): Encoded {
  switch (operation.op) {
    case 'mount':
      return {
        flags:
          (operation.modeOfTarget ? FLAGS.MOUNT_MODE_OF_TARGET : 0) |
          (operation.ordinaryDirectory ? FLAGS.MOUNT_ORDINARY_DIRECTORY : 0) |
          (operation.copyUp ? FLAGS.MOUNT_COPY_UP : 0) |
          (operation.onProc ? FLAGS.TARGET_ON_PROC : 0),
        a: operation.options.length,
        b: attributeBits(operation.attributes),
        c: propagationFlags(operation.propagation),
        texts: [operation.type, operation.target, encodeOptions(operation.options), operation.source],
      };
    case 'attach': {
      const change = attributeChange(operation);
      const flags = change.flags | (operation.onProc ? FLAGS.TARGET_ON_PROC : 0);
      return { ...change, flags, a: operation.slot, texts: [operation.target, operation.source] };
    }
    case 'remount':
      return { ...attributeChange(operation), texts: [operation.target] };
    case 'openTree':
      return { flags: operation.recursive ? FLAGS.TREE_RECURSIVE : 0, a: operation.slot, texts: [operation.path] };
    case 'propagation':
      return { a: propagationFlags(operation.propagation), texts: [operation.path] };
    case 'enterRoot':
      return { flags: operation.move ? FLAGS.ROOT_MOVE : 0 };
    case 'sysctl':
      return { texts: [operation.path, operation.value] };
    case 'lsmLabel':
      return { texts: [operation.path, operation.label] };
    case 'device':
      return {
        a: operation.mode,
        b: (BigInt(operation.major) << 32n) | BigInt(operation.minor),
        c: (BigInt(operation.uid) << 32n) | BigInt(operation.gid),
        texts: [operation.path],
      };
    case 'symlink':
      return { flags: operation.replace ? FLAGS.LINK_REPLACE : 0, texts: [operation.target, operation.path] };
    case 'makeDirectory':
      return { a: operation.mode, texts: [operation.path] };
    case 'root':
    case 'mask':
    case 'readonly':
      return { texts: [operation.path] };
    case 'currentRoot':
    case 'procfs':
      return {};
  }
}

function encodeCredentials(operation: CredentialOperation): Encoded {
  switch (operation.op) {
    case 'bounding':
    case 'ambient':
      return { a: capabilityMask(operation.capabilities) };
    case 'user': {
      const groups = Buffer.alloc(4 * operation.groups.length);
      operation.groups.forEach((gid, index) => {
        groups.writeUInt32LE(gid, 4 * index);
      });
      return { a: operation.uid, b: operation.gid, c: operation.groups.length, texts: [groups] };
    }
    case 'capabilities':
      return {
        a: capabilityMask(operation.effective),
        b: capabilityMask(operation.permitted),
        c: capabilityMask(operation.inheritable),
      };
    case 'umask':
      return { a: operation.mask };
    case 'stdioOwner':
      return { a: operation.uid };
    case 'seccomp': {
      const filter = Buffer.from(operation.filter, 'base64');
      return { a: filter.length / 8, b: operation.flags, texts: [filter] };
    }
    case 'rlimit':
      return { a: operation.type, b: BigInt(operation.soft), c: BigInt(operation.hard) };
    case 'personality':
      return { a: operation.domain };
    case 'ioPriority':
      return { a: operation.value };
    case 'noNewPrivileges':
      return {};
  }
}

function encodeProcess(operation: Exclude<Operation, FilesystemOperation | CredentialOperation>): Encoded {
  switch (operation.op) {
    case 'writeFile':
      return { a: Buffer.byteLength(operation.data), texts: [operation.path, operation.data] };
    case 'unshare':
      return { a: namespaceBits(operation.namespaces) };
    case 'joinPath':
      return { a: NAMESPACE_FLAGS[operation.namespace] ?? 0, texts: [operation.path] };
    case 'joinSlot':
      return { a: operation.slot, b: namespaceBits(operation.namespaces) };
    case 'keyring':
      return { texts: [operation.name] };
    case 'hostname':
    case 'domainname':
      return { a: Buffer.byteLength(operation.name), texts: [operation.name] };
    case 'terminal':
      return {
        flags: operation.console ? FLAGS.TERMINAL_CONSOLE : 0,
        a: (BigInt(operation.rows) << 32n) | BigInt(operation.columns),
      };
    case 'sync':
      return { a: SYNC_POINTS[operation.point] };
    case 'changeDirectory':
      return { flags: operation.firstAttempt ? FLAGS.DIRECTORY_FIRST_ATTEMPT : 0, texts: [operation.path] };
    case 'findExecutable':
      return { texts: [operation.name, operation.path] };
    case 'home':
      return { a: operation.uid };
    case 'execute':
      return {
        flags: operation.reportToStderr ? FLAGS.EXECUTE_REPORT_STDERR : 0,
        a: operation.args.length,
        b: operation.env.length,
        texts: [encodeList(operation.args), encodeList(operation.env)],
      };
    case 'awaitStart':
      return { a: operation.slot };
    case 'keepFiles':
      return { a: operation.slot, b: operation.count };
    case 'loopback':
    case 'closeFiles':
      return {};
  }
}

function attributeChange(operation: Extract<Operation, { op: 'attach' | 'remount' }>) {
  const set = attributeBits(operation.set);
  // Any change of the atime field clears it first, as mount_setattr demands.
  const atime = [...operation.set, ...operation.clear].some((name) => /atime$/.test(name) && name !== 'nodiratime');
  const clear = attributeBits(operation.clear) | (atime ? ATIME_MASK : 0);
  return {
    flags: operation.recursive ? FLAGS.TREE_RECURSIVE : 0,
    b: (BigInt(clear) << 32n) | BigInt(set),
    c: propagationFlags(operation.propagation),
  };
}

function attributeBits(attributes: readonly MountAttribute[]): number {
  return attributes.reduce((bits, name) => bits | ATTRIBUTE_BITS[name], 0);
}

function namespaceBits(namespaces: readonly string[]): number {
  return namespaces.reduce((bits, name) => bits | (NAMESPACE_FLAGS[name] ?? 0), 0);
}

function encodeOptions(options: readonly string[]): Buffer {
  return Buffer.from(
    options
      .map((option) => {
        const equals = option.indexOf('=');
        return equals < 0 ? `f${option}\0` : `s${option.slice(0, equals)}\0${option.slice(equals + 1)}\0`;
      })
      .join(''),
  );
}

function encodeList(texts: readonly string[]): Buffer {
  return Buffer.from(texts.map((text) => `${text}\0`).join(''));
}
