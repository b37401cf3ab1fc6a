// A launch plan in the binary form that init reads (init/plan.h).

import { NAMESPACE_FLAGS } from '../native';
import { capabilityMask } from './capabilities';
import { CODES, FLAGS, OWN_USER_NAMESPACE, SYNC_POINTS } from './codes';
import { labelOptions } from './mount-options';
import type { MountAttribute, Operation, Plan, Propagation } from './operations';

const MAGIC = 0x4c504e47;
const HEADER_SIZE = 16;
const OPERATION_SIZE = 48;
const TEXT_ALIGNMENT = 8;
const SCHEDULER_SIZE = 48;
/** Of the plan of an ordinary container with its filter. */
const INITIAL_SIZE = 32 * 1024;
const UTF8_BYTES_MAX = 3;
const WORD = 2 ** 32;

/** mount_setattr(2); "strictatime", "noatime" and "relatime" are one field whose zero is relatime. */
const ATTRIBUTE_BITS: Readonly<Record<MountAttribute, number>> = {
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
  const output = new Output(HEADER_SIZE + count * OPERATION_SIZE);
  plan.operations.forEach((operation, index) => {
    writeOperation(output, HEADER_SIZE + index * OPERATION_SIZE, operation);
  });
  const { bytes } = output;
  bytes.writeUInt32LE(MAGIC, 0);
  bytes.writeUInt32LE(output.end, 4);
  bytes.writeUInt32LE(count, 8);
  bytes.writeUInt16LE(plan.inherited.length, 12);
  const own = plan.operations.some((operation) => operation.op === 'sync' && operation.point === 'mapping');
  bytes.writeUInt16LE(own ? OWN_USER_NAMESPACE : 0, 14);
  return bytes.subarray(0, output.end);
}

/** Flags of mount(2) for a propagation. */
export function propagationFlags(propagation: Propagation | undefined): number {
  if (propagation === undefined) return 0;
  const direct = PROPAGATION_BITS[propagation];
  return direct ?? (PROPAGATION_BITS[propagation.slice(1)] ?? 0) | MS_REC;
}

/** The table of operations, and behind it their texts. One buffer that grows: every launch waits for this. */
class Output {
  bytes = Buffer.alloc(INITIAL_SIZE);
  end: number;

  constructor(tableSize: number) {
    this.end = tableSize;
    this.reserve(tableSize);
  }

  /** The offset of the text in the plan. */
  add(text: string | Buffer | undefined): number {
    if (text === undefined) return 0;
    const offset = Math.ceil(this.end / TEXT_ALIGNMENT) * TEXT_ALIGNMENT;
    if (typeof text === 'string') {
      this.reserve(offset + UTF8_BYTES_MAX * text.length + 1);
      this.end = offset + this.bytes.write(text, offset) + 1;
    } else {
      this.reserve(offset + text.length);
      this.end = offset + text.copy(this.bytes, offset);
    }
    return offset;
  }

  private reserve(size: number): void {
    if (size <= this.bytes.length) return;
    const larger = Buffer.alloc(Math.max(size, this.bytes.length * 2));
    this.bytes.copy(larger);
    this.bytes = larger;
  }
}

function writeOperation(output: Output, at: number, operation: Operation): void {
  const { flags = 0, a = 0, b = 0, c = 0, texts = [] } = encode(operation);
  // They may move the buffer.
  const offsets = texts.map((text) => output.add(text));
  const { bytes } = output;
  bytes.writeUInt32LE(CODES[operation.op], at);
  bytes.writeUInt32LE(flags, at + 4);
  writeLong(bytes, a, at + 8);
  writeLong(bytes, b, at + 16);
  writeLong(bytes, c, at + 24);
  offsets.forEach((offset, index) => {
    bytes.writeUInt32LE(offset, at + 32 + 4 * index);
  });
}

/** 64 bits; negative numbers as two's complement. */
function writeLong(bytes: Buffer, value: number | bigint, at: number): void {
  if (typeof value === 'number' && value >= 0) {
    bytes.writeUInt32LE(value % WORD, at);
    bytes.writeUInt32LE(Math.floor(value / WORD), at + 4);
  } else {
    bytes.writeBigUInt64LE(BigInt.asUintN(64, BigInt(value)), at);
  }
}

const NOTHING = () => ({});
const PATH = ({ path }: { readonly path: string }) => ({ texts: [path] });
const NAME = ({ name }: { readonly name: string }) => ({ a: Buffer.byteLength(name), texts: [name] });
const CAPABILITIES = ({ capabilities }: { readonly capabilities: readonly string[] }) => ({
  a: capabilityMask(capabilities),
});

type Encoders = { readonly [Name in Operation['op']]: (operation: Extract<Operation, { op: Name }>) => Encoded };

const ENCODERS: Encoders = {
  mount: (operation) => ({
    flags:
      (operation.modeOfTarget ? FLAGS.MOUNT_MODE_OF_TARGET : 0) |
      (operation.ordinaryDirectory ? FLAGS.MOUNT_ORDINARY_DIRECTORY : 0) |
      (operation.copyUp ? FLAGS.MOUNT_COPY_UP : 0) |
      (operation.onProc ? FLAGS.TARGET_ON_PROC : 0),
    a: operation.options.length,
    b:
      attributeBits(operation.attributes) + (operation.fallback === undefined ? 0 : (operation.fallback + 1) * 2 ** 32),
    c: propagationFlags(operation.propagation),
    texts: [operation.type, operation.target, encodeOptions(operation.options), operation.source],
  }),
  attach: (operation) => {
    const change = attributeChange(operation);
    const flags = change.flags | (operation.onProc ? FLAGS.TARGET_ON_PROC : 0);
    return { ...change, flags, a: operation.slot, texts: [operation.target, operation.source] };
  },
  remount: (operation) => ({ ...attributeChange(operation), texts: [operation.target] }),
  openTree: ({ recursive, slot, path }) => ({ flags: recursive ? FLAGS.TREE_RECURSIVE : 0, a: slot, texts: [path] }),
  propagation: ({ propagation, path }) => ({ a: propagationFlags(propagation), texts: [path] }),
  root: ({ path, asItIs }) => ({ flags: asItIs ? FLAGS.ROOT_AS_IT_IS : 0, texts: [path] }),
  currentRoot: NOTHING,
  enterRoot: ({ move, asItIs }) => ({ flags: asItIs ? FLAGS.ROOT_AS_IT_IS : move ? FLAGS.ROOT_MOVE : 0 }),
  procfs: NOTHING,
  sysctl: ({ path, value }) => ({ texts: [path, value] }),
  lsmLabel: ({ path, label }) => ({ texts: [path, label] }),
  device: ({ mode, major, minor, uid, gid, path }) => ({
    a: mode,
    b: (BigInt(major) << 32n) | BigInt(minor),
    c: (BigInt(uid) << 32n) | BigInt(gid),
    texts: [path],
  }),
  symlink: ({ replace, target, path }) => ({ flags: replace ? FLAGS.LINK_REPLACE : 0, texts: [target, path] }),
  makeDirectory: ({ mode, path }) => ({ a: mode, texts: [path] }),
  mask: ({ path, label }) => {
    const options = ['ro', ...labelOptions(label)];
    return { a: options.length, texts: [path, encodeOptions(options)] };
  },
  fileLabel: ({ path, label }) => ({ texts: [path, label] }),
  readonly: PATH,
  bounding: CAPABILITIES,
  ambient: CAPABILITIES,
  user: ({ uid, gid, groups }) => ({ a: uid, b: gid, c: groups.length, texts: [encodeNumbers(groups)] }),
  capabilities: ({ effective, permitted, inheritable }) => ({
    a: capabilityMask(effective),
    b: capabilityMask(permitted),
    c: capabilityMask(inheritable),
  }),
  umask: ({ mask }) => ({ a: mask }),
  stdioOwner: ({ uid }) => ({ a: uid }),
  noNewPrivileges: NOTHING,
  seccomp: ({ filter, flags, listens }) => {
    const program = Buffer.from(filter, 'base64');
    return { flags: listens ? FLAGS.SECCOMP_LISTENS : 0, a: program.length / 8, b: flags, texts: [program] };
  },
  rlimit: ({ type, soft, hard }) => ({ a: type, b: BigInt(soft), c: BigInt(hard) }),
  personality: ({ domain }) => ({ a: domain }),
  ioPriority: ({ value }) => ({ a: value }),
  scheduler: (operation) => ({ texts: [encodeScheduler(operation)] }),
  cpuAffinity: ({ cpus }) => encodeMask(cpus),
  memoryPolicy: ({ mode, nodes }) => ({ ...encodeMask(nodes), b: mode }),
  writeFile: ({ path, data, optional }) => ({
    flags: optional ? FLAGS.OPTIONAL : 0,
    a: Buffer.byteLength(data),
    texts: [path, data],
  }),
  unshare: ({ namespaces }) => ({ a: namespaceBits(namespaces) }),
  joinPath: ({ namespace, path }) => ({ a: NAMESPACE_FLAGS[namespace] ?? 0, texts: [path] }),
  joinSlot: ({ slot, namespaces }) => ({ a: slot, b: namespaceBits(namespaces) }),
  respawn: ({ namespaces }) => ({ a: namespaceBits(namespaces) }),
  becomeRoot: NOTHING,
  timeOffsets: ({ offsets }) => ({ a: Buffer.byteLength(offsets), texts: [offsets] }),
  keyring: ({ name }) => ({ texts: [name] }),
  loopback: NOTHING,
  hostname: NAME,
  domainname: NAME,
  terminal: ({ console, rows, columns }) => ({
    flags: console ? FLAGS.TERMINAL_CONSOLE : 0,
    a: (BigInt(rows) << 32n) | BigInt(columns),
  }),
  sync: ({ point }) => ({ a: SYNC_POINTS[point] }),
  changeDirectory: ({ firstAttempt, path }) => ({
    flags: firstAttempt ? FLAGS.DIRECTORY_FIRST_ATTEMPT : 0,
    texts: [path],
  }),
  findExecutable: ({ name, path }) => ({ texts: [name, path] }),
  home: ({ uid }) => ({ a: uid }),
  closeFiles: NOTHING,
  execute: ({ reportToStderr, args, env }) => ({
    flags: reportToStderr ? FLAGS.EXECUTE_REPORT_STDERR : 0,
    a: args.length,
    b: env.length,
    texts: [encodeList(args), encodeList(env)],
  }),
  awaitStart: ({ slot }) => ({ a: slot }),
  keepFiles: ({ slot, count }) => ({ a: slot, b: count }),
};

function encode(operation: Operation): Encoded {
  return (ENCODERS[operation.op] as (operation: Operation) => Encoded)(operation);
}

/** struct sched_attr, first version (sched_setattr(2)). */
function encodeScheduler(operation: Extract<Operation, { op: 'scheduler' }>): Buffer {
  const bytes = Buffer.alloc(SCHEDULER_SIZE);
  bytes.writeUInt32LE(SCHEDULER_SIZE, 0);
  bytes.writeUInt32LE(operation.policy, 4);
  bytes.writeBigUInt64LE(BigInt(operation.flags), 8);
  bytes.writeInt32LE(operation.nice, 16);
  bytes.writeUInt32LE(operation.priority, 20);
  bytes.writeBigUInt64LE(BigInt(operation.runtime), 24);
  bytes.writeBigUInt64LE(BigInt(operation.deadline), 32);
  bytes.writeBigUInt64LE(BigInt(operation.period), 40);
  return bytes;
}

/** A bit for each number; `a` is the size of the mask in bytes, a multiple of that of a long. */
function encodeMask(numbers: readonly number[]): Encoded {
  const highest = numbers.reduce((max, number) => Math.max(max, number), 0);
  const bytes = Buffer.alloc(8 * Math.floor(highest / 64 + 1));
  for (const number of numbers) {
    const at = Math.floor(number / 8);
    bytes.writeUInt8(bytes.readUInt8(at) | (1 << (number % 8)), at);
  }
  return { a: bytes.length, texts: [bytes] };
}

function encodeNumbers(numbers: readonly number[]): Buffer {
  const bytes = Buffer.alloc(4 * numbers.length);
  numbers.forEach((number, index) => {
    bytes.writeUInt32LE(number, 4 * index);
  });
  return bytes;
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
