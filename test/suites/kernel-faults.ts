// A kernel that fails on request, for tests of what is left behind: the one call of the C library or of node:fs that a test
// names returns an error, everything else is real. It must be installed before the runtime is used for the first time.

import fs from 'node:fs';
import { CODES } from '../../runtime-native/plan/codes';

/** A call by its function, its path without numbers, and how often there was that before: "openSync /proc/N/stat 1". */
type CallName = string;

/** What may fail on the way to a container. Calls that give back (close, unlink, rmdir, kill) only happen later. */
const FILE_CALLS = ['mkdirSync', 'openSync', 'readFileSync', 'readdirSync', 'renameSync', 'writeFileSync'] as const;
const NATIVE_CALLS = new Set([
  'gantry_descriptor_of',
  'gantry_idmap_tree',
  'gantry_launch',
  'gantry_listen_at',
  'gantry_lock',
  'gantry_memfd',
  'gantry_move_device',
  'gantry_open_tree',
  'gantry_pidfd_open',
  'gantry_send_byte',
  'gantry_socketpair',
]);
type NativeFunction = (...args: unknown[]) => unknown;

/** Jest shares node:fs with us. */
const PATHS = /^\/(proc\/\d|sys\/fs\/cgroup|tmp\/gantry-runtime)/;
/** Pids, and the names that mkdtemp and the bench make. */
const NUMBERS = /\d+|(?<=gantry-runtime-test-\d+\/|gantry-runtime-root-\w{6}\/)[\w-]+/g;
const EIO = 5;
const HEADER_SIZE = 16;
const COUNT_OFFSET = 8;
const OPERATION_SIZE = 48;
const FLAGS_OFFSET = 4;
const FIRST_NUMBER_OFFSET = 8;
const NO_OPERATION = 0xffff;

export class FaultyKernel {
  /** Calls since the last arm(), in order. */
  readonly calls: CallName[] = [];
  /** Operations of each plan since the last arm(), in order. */
  readonly plans: number[] = [];
  private readonly counts = new Map<string, number>();
  private isArmed = false;
  private failingCall: CallName | undefined;
  private failingOperation: { readonly plan: number; readonly index: number } | undefined;

  constructor() {
    const files = fs as unknown as Record<string, NativeFunction>;
    for (const name of FILE_CALLS) {
      const real = files[name] as NativeFunction;
      files[name] = (...args) => {
        const path = String(args[0]);
        const isOurs = PATHS.test(path) && this.fails(`${name} ${path.replace(NUMBERS, 'N')}`);
        if (isOurs) throw inputError(name.replace('Sync', ''), path);
        return real(...args);
      };
    }
    const { platform, arch } = process;
    const koffi = require(`@koromix/koffi-${platform}-${arch}/${platform}_${arch}/koffi.node`) as {
      load(path: string): { func(definition: string): NativeFunction };
    };
    const load = koffi.load.bind(koffi);
    koffi.load = (path) => {
      const library = load(path);
      return { func: (definition) => this.wrap(definition, library.func(definition)) };
    };
  }

  /** Counts anew, and lets one call fail with EIO. */
  failCall(name: CallName | undefined): void {
    this.arm();
    this.failingCall = name;
  }

  /** Counts anew, and spoils one operation of one plan: init does not know it, or (seccomp) its filter is empty. */
  failOperation(plan: number, index: number): void {
    this.arm();
    this.failingOperation = { plan, index };
  }

  /** Nothing fails and nothing is counted from here on. */
  disarm(): void {
    this.isArmed = false;
    this.failingCall = undefined;
    this.failingOperation = undefined;
  }

  private arm(): void {
    this.disarm();
    this.isArmed = true;
    this.calls.length = 0;
    this.plans.length = 0;
    this.counts.clear();
  }

  private fails(name: string): boolean {
    if (!this.isArmed) return false;
    const count = this.counts.get(name) ?? 0;
    this.counts.set(name, count + 1);
    const call = `${name} ${count}`;
    this.calls.push(call);
    return call === this.failingCall;
  }

  private wrap(definition: string, real: NativeFunction): NativeFunction {
    const name = /(\w+)\(/.exec(definition)?.[1] ?? '';
    if (!NATIVE_CALLS.has(name)) return real;
    return (...args) => {
      if (this.fails(name)) return -EIO;
      if (this.isArmed && name === 'gantry_memfd' && args[0] === 'gantry-plan') this.spoil(args[1] as Buffer);
      return real(...args);
    };
  }

  /** The layout is that of init/plan.h. */
  private spoil(plan: Buffer): void {
    const number = this.plans.push(plan.readUInt32LE(COUNT_OFFSET)) - 1;
    if (this.failingOperation?.plan !== number) return;
    const at = HEADER_SIZE + this.failingOperation.index * OPERATION_SIZE;
    if (plan.readUInt32LE(at) === CODES.seccomp) plan.writeBigUInt64LE(0n, at + FIRST_NUMBER_OFFSET);
    else plan.writeUInt32LE(NO_OPERATION, at);
    plan.writeUInt32LE(0, at + FLAGS_OFFSET);
  }
}

function inputError(syscall: string, path: string): Error {
  const message = `EIO: i/o error, ${syscall} '${path}'`;
  return Object.assign(new Error(message), { code: 'EIO', errno: -EIO, syscall, path });
}
