// A seccomp profile of a runtime configuration as a BPF program, made by libseccomp (seccomp_rule_add(3)). The library
// is loaded when a profile has to be compiled and not before.

import { closeSync, fstatSync, readSync } from 'node:fs';
import type { LibraryHandle } from 'koffi';
import { unknown } from '../../proto/errors';
import { errnoText } from '../failure';
import { loadLibrary as openLibrary } from '../koffi';
import { createMemfd } from '../native';
import type { Seccomp, SeccompArgument, SeccompRule } from '../spec';
import { unknownSyscallStub } from './stub';

const EPERM = 1;
const EEXIST = 17;
const ATTRIBUTE_NO_NEW_PRIVS = 3;
const ATTRIBUTE_OPTIMIZE = 8;
/** Binary tree instead of a list: quicker to follow when it is made shorter. */
const OPTIMIZE_TREE = 2;
const UNKNOWN_SYSCALL = -1;
const ARGUMENT_SIZE = 24;

export const ACTIONS: Readonly<Record<string, number>> = {
  SCMP_ACT_KILL: 0,
  SCMP_ACT_KILL_THREAD: 0,
  SCMP_ACT_KILL_PROCESS: 0x80000000,
  SCMP_ACT_TRAP: 0x00030000,
  SCMP_ACT_ERRNO: 0x00050000,
  SCMP_ACT_TRACE: 0x7ff00000,
  SCMP_ACT_NOTIFY: 0x7fc00000,
  SCMP_ACT_LOG: 0x7ffc0000,
  SCMP_ACT_ALLOW: 0x7fff0000,
};
const WITH_VALUE = new Set(['SCMP_ACT_ERRNO', 'SCMP_ACT_TRACE']);
export const OPERATORS: Readonly<Record<string, number>> = {
  SCMP_CMP_NE: 1,
  SCMP_CMP_LT: 2,
  SCMP_CMP_LE: 3,
  SCMP_CMP_EQ: 4,
  SCMP_CMP_GE: 5,
  SCMP_CMP_GT: 6,
  SCMP_CMP_MASKED_EQ: 7,
};
/** Tokens of seccomp.h: AUDIT_ARCH values, and one of its own for x32. */
export const ARCHITECTURES: Readonly<Record<string, number>> = {
  SCMP_ARCH_X86: 0x40000003,
  SCMP_ARCH_X86_64: 0xc000003e,
  SCMP_ARCH_X32: 0x4000003e,
  SCMP_ARCH_ARM: 0x40000028,
  SCMP_ARCH_AARCH64: 0xc00000b7,
  SCMP_ARCH_MIPS: 0x00000008,
  SCMP_ARCH_MIPS64: 0x80000008,
  SCMP_ARCH_MIPS64N32: 0xa0000008,
  SCMP_ARCH_MIPSEL: 0x40000008,
  SCMP_ARCH_MIPSEL64: 0xc0000008,
  SCMP_ARCH_MIPSEL64N32: 0xe0000008,
  SCMP_ARCH_PPC: 0x00000014,
  SCMP_ARCH_PPC64: 0x80000015,
  SCMP_ARCH_PPC64LE: 0xc0000015,
  SCMP_ARCH_S390: 0x00000016,
  SCMP_ARCH_S390X: 0x80000016,
  SCMP_ARCH_RISCV64: 0xc00000f3,
  SCMP_ARCH_LOONGARCH64: 0xc0000102,
  SCMP_ARCH_M68K: 0x00000004,
  SCMP_ARCH_PARISC: 0x0000000f,
  SCMP_ARCH_PARISC64: 0x8000000f,
  SCMP_ARCH_SH: 0x4000002a,
  SCMP_ARCH_SHEB: 0x0000002a,
};

interface Library {
  readonly init: (action: number) => unknown;
  readonly release: (context: unknown) => void;
  readonly addArchitecture: (context: unknown, architecture: number) => number;
  readonly setAttribute: (context: unknown, attribute: number, value: number) => number;
  readonly resolve: (name: string) => number;
  readonly resolveFor: (architecture: number, name: string) => number;
  readonly addRule: (context: unknown, action: number, syscall: number, count: number, args: Buffer | null) => number;
  readonly exportBpf: (context: unknown, fd: number) => number;
}

let library: Library | undefined;

/** @throws UNKNOWN in runc's words for what the profile says wrongly, and when libseccomp is missing */
export function compileProfile(profile: Seccomp): Buffer {
  const lib = loadLibrary();
  const defaultAction = actionOf(profile.defaultAction, profile.defaultErrnoRet);
  const context = lib.init(defaultAction);
  if (context === null) throw unknown('error creating filter: seccomp_init failed');
  try {
    for (const name of profile.architectures ?? []) {
      const result = lib.addArchitecture(context, architectureOf(name));
      if (result !== -EEXIST) check(result, `error adding architecture ${name} to seccomp filter`);
    }
    check(lib.setAttribute(context, ATTRIBUTE_NO_NEW_PRIVS, 0), 'error setting no new privileges');
    // Older libraries have no tree: their list does the same.
    lib.setAttribute(context, ATTRIBUTE_OPTIMIZE, OPTIMIZE_TREE);
    for (const rule of profile.syscalls ?? []) addRule(lib, context, rule, defaultAction);
    return Buffer.concat([unknownSyscallStub(profile, lib.resolveFor), exported(lib, context)]);
  } finally {
    lib.release(context);
  }
}

function loadLibrary(): Library {
  if (library !== undefined) return library;
  let handle: LibraryHandle;
  try {
    handle = openLibrary('libseccomp.so.2');
  } catch (error) {
    throw unknown('seccomp profiles need libseccomp.so.2, which cannot be loaded', { cause: error });
  }
  library = {
    init: handle.func('void *seccomp_init(uint32_t action)'),
    release: handle.func('void seccomp_release(void *context)'),
    addArchitecture: handle.func('int seccomp_arch_add(void *context, uint32_t architecture)'),
    setAttribute: handle.func('int seccomp_attr_set(void *context, int attribute, uint32_t value)'),
    resolve: handle.func('int seccomp_syscall_resolve_name(const char *name)'),
    resolveFor: handle.func('int seccomp_syscall_resolve_name_arch(uint32_t architecture, const char *name)'),
    addRule: handle.func(
      'int seccomp_rule_add_array(void *context, uint32_t action, int syscall, uint32_t count, const void *args)',
    ),
    exportBpf: handle.func('int seccomp_export_bpf(void *context, int fd)'),
  };
  return library;
}

function addRule(lib: Library, context: unknown, rule: SeccompRule, defaultAction: number): void {
  const action = actionOf(rule.action, rule.errnoRet);
  if (action === defaultAction) return;
  const sets = conditionSets(rule.args ?? []);
  for (const name of rule.names) {
    if (name === '') throw unknown('empty string is not a valid syscall');
    const syscall = lib.resolve(name);
    // Profiles name the calls of all kernels.
    if (syscall === UNKNOWN_SYSCALL) continue;
    for (const set of sets) {
      const args = set.length === 0 ? null : Buffer.concat(set.map(encodeArgument));
      const result = lib.addRule(context, action, syscall, set.length, args);
      if (result !== -EEXIST) check(result, `error adding seccomp filter rule for syscall ${name}`);
    }
  }
}

/** All conditions together, unless two are on one argument: then each is a rule of its own. */
function conditionSets(args: readonly SeccompArgument[]): SeccompArgument[][] {
  const indexes = new Set(args.map(({ index }) => index));
  return indexes.size === args.length ? [[...args]] : args.map((argument) => [argument]);
}

function encodeArgument({ index, op, value, valueTwo = 0 }: SeccompArgument): Buffer {
  const operator = OPERATORS[op];
  if (operator === undefined) throw unknown(`string ${op} is not a valid operator for seccomp`);
  const bytes = Buffer.alloc(ARGUMENT_SIZE);
  bytes.writeUInt32LE(index, 0);
  bytes.writeUInt32LE(operator, 4);
  bytes.writeBigUInt64LE(BigInt.asUintN(64, BigInt(value)), 8);
  bytes.writeBigUInt64LE(BigInt.asUintN(64, BigInt(valueTwo)), 16);
  return bytes;
}

function actionOf(name: string, value: number | undefined): number {
  const action = ACTIONS[name];
  if (action === undefined) throw unknown(`string ${name} is not a valid action for seccomp`);
  return WITH_VALUE.has(name) ? action | (value ?? EPERM) : action;
}

function architectureOf(name: string): number {
  const architecture = ARCHITECTURES[name];
  if (architecture === undefined) throw unknown(`string ${name} is not a valid arch for seccomp`);
  return architecture;
}

function exported(lib: Library, context: unknown): Buffer {
  const fd = createMemfd('seccomp', Buffer.alloc(0), false);
  try {
    check(lib.exportBpf(context, fd), 'error exporting bpf');
    const program = Buffer.alloc(fstatSync(fd).size);
    readSync(fd, program, 0, program.length, 0);
    return program;
  } finally {
    closeSync(fd);
  }
}

function check(result: number, what: string): void {
  if (result < 0) throw unknown(`${what}: ${errnoText(-result)}`);
}
