// Instructions in front of a filter that answer ENOSYS for system calls newer than the profile. Its own answer, EPERM,
// would keep programs from falling back to older calls.

import type { Seccomp } from '../spec';
import { ARCHITECTURES } from './profile';

const ENOSYS = 38;
const LOAD_ABSOLUTE = 0x20;
const JUMP_ALWAYS = 0x05;
const JUMP_EQUAL = 0x15;
const JUMP_GREATER = 0x25;
const JUMP_SET = 0x45;
const RETURN = 0x06;
const RETURN_ENOSYS = 0x00050000 | ENOSYS;
const NUMBER_OFFSET = 0;
const ARCHITECTURE_OFFSET = 4;
const X32_BIT = 0x40000000;
const X86_64 = 'SCMP_ARCH_X86_64';
const X32 = 'SCMP_ARCH_X32';
const NATIVE: Readonly<Record<string, string>> = { x64: X86_64, arm64: 'SCMP_ARCH_AARCH64' };
/** What lets unknown calls through, or leaves them to somebody who knows them. */
const PERMISSIVE = new Set(['SCMP_ACT_ALLOW', 'SCMP_ACT_LOG', 'SCMP_ACT_NOTIFY', 'SCMP_ACT_TRACE']);

type Instruction = readonly [code: number, ifTrue: number, ifFalse: number, value: number];

/** @param resolve - the number of a call on an architecture, negative when it has none */
export function unknownSyscallStub(profile: Seccomp, resolve: (architecture: number, name: string) => number): Buffer {
  if (PERMISSIVE.has(profile.defaultAction) || profile.defaultErrnoRet === ENOSYS) return Buffer.alloc(0);
  const last = lastSyscalls(profile, resolve);
  const blocks = [...last.keys()].filter((name) => name !== X32 || !last.has(X86_64)).map((name) => block(name, last));
  // Behind each block comes the load of the architecture for the next; the filter itself starts with its own load.
  const program: Instruction[] = blocks.flatMap((instructions) => [
    [LOAD_ABSOLUTE, 0, 0, ARCHITECTURE_OFFSET] as const,
    ...instructions,
  ]);
  return Buffer.concat(program.map(encodeInstruction));
}

/** The highest number that the profile names, by architecture. */
function lastSyscalls(profile: Seccomp, resolve: (architecture: number, name: string) => number): Map<string, number> {
  const native = NATIVE[process.arch];
  const names = new Set([...(profile.architectures ?? []), ...(native === undefined ? [] : [native])]);
  const last = new Map<string, number>();
  for (const name of names) {
    const architecture = ARCHITECTURES[name];
    if (architecture === undefined) continue;
    const numbers = (profile.syscalls ?? []).flatMap((rule) => rule.names.map((call) => resolve(architecture, call)));
    // x32 numbers carry the bit that tells them apart.
    const highest = numbers.reduce((max, number) => Math.max(max, number & ~X32_BIT), -1);
    if (highest >= 0) last.set(name, highest);
  }
  return last;
}

/** If the architecture is this one: ENOSYS above the highest number. Falls out at the end otherwise. */
function block(name: string, last: ReadonlyMap<string, number>): Instruction[] {
  const architecture = ARCHITECTURES[name === X32 ? X86_64 : name] ?? 0;
  const highest = last.get(name) ?? 0;
  const x32 = name === X86_64 ? last.get(X32) : undefined;
  if (x32 === undefined) {
    return [
      [JUMP_EQUAL, 0, 3, architecture],
      [LOAD_ABSOLUTE, 0, 0, NUMBER_OFFSET],
      [JUMP_GREATER, 0, 1, name === X32 ? X32_BIT + highest : highest],
      [RETURN, 0, 0, RETURN_ENOSYS],
    ];
  }
  return [
    [JUMP_EQUAL, 0, 6, architecture],
    [LOAD_ABSOLUTE, 0, 0, NUMBER_OFFSET],
    [JUMP_SET, 0, 2, X32_BIT],
    [JUMP_GREATER, 2, 0, X32_BIT + x32],
    [JUMP_ALWAYS, 0, 0, 2],
    [JUMP_GREATER, 0, 1, highest],
    [RETURN, 0, 0, RETURN_ENOSYS],
  ];
}

function encodeInstruction([code, ifTrue, ifFalse, value]: Instruction): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeUInt16LE(code, 0);
  bytes.writeUInt8(ifTrue, 2);
  bytes.writeUInt8(ifFalse, 3);
  bytes.writeUInt32LE(value >>> 0, 4);
  return bytes;
}
