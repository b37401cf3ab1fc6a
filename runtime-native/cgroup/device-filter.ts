// Compiles device rules into eBPF instructions. The kernel passes bpf_cgroup_dev_ctx { access_type, major, minor }: the
// low half of access_type is the type (1 block, 2 char), the high half the access (1 mknod, 2 read, 4 write).

import type { DeviceRule } from '../spec';
import { isForAll } from './devices';

const [R0, R1, R2, R3, R4, R5] = [0, 1, 2, 3, 4, 5] as const;
const LOAD_WORD = 0x61;
const AND_32 = 0x54;
const SHIFT_RIGHT_32 = 0x74;
const MOVE_32 = 0xbc;
const MOVE_64_VALUE = 0xb7;
const JUMP_NOT_EQUAL = 0x55;
const JUMP_32_NOT_EQUAL_REGISTER = 0x5e;
const JUMP_EQUAL = 0x15;
const EXIT = 0x95;
const JUMPS = new Set([JUMP_NOT_EQUAL, JUMP_EQUAL, JUMP_32_NOT_EQUAL_REGISTER]);
const INSTRUCTION_SIZE = 8;
const TYPES: Readonly<Record<string, number>> = { b: 1, c: 2, u: 2 };
const ACCESS: Readonly<Record<string, number>> = { m: 1, r: 2, w: 4 };
const ACCESS_ALL = 7;

type Instruction = { code: number; to: number; from?: number; offset?: number; value?: number };

/** The last rule that matches decides, so they are tested backwards; what none matches is denied. */
export function compileDeviceFilter(rules: readonly DeviceRule[]): Buffer {
  const program: Instruction[] = [
    { code: LOAD_WORD, to: R2, from: R1, offset: 0 },
    { code: AND_32, to: R2, value: 0xffff },
    { code: LOAD_WORD, to: R3, from: R1, offset: 0 },
    { code: SHIFT_RIGHT_32, to: R3, value: 16 },
    { code: LOAD_WORD, to: R4, from: R1, offset: 4 },
    { code: LOAD_WORD, to: R5, from: R1, offset: 8 },
  ];
  let decided = false;
  for (const rule of [...rules].reverse()) {
    program.push(...compileRule(rule));
    decided = isForAll(rule);
    if (decided) break;
  }
  if (!decided) program.push(...answer(false));
  return Buffer.concat(program.map(encodeInstruction));
}

/** Tests, each of which jumps behind the answer when it fails. */
function compileRule(rule: DeviceRule): Instruction[] {
  const tests: Instruction[] = [];
  const type = TYPES[rule.type ?? 'a'];
  const letters = rule.access ? [...rule.access] : ['r', 'w', 'm'];
  const access = letters.reduce((bits, letter) => bits | (ACCESS[letter] ?? 0), 0);
  if (type !== undefined) tests.push({ code: JUMP_NOT_EQUAL, to: R2, value: type });
  if (access !== ACCESS_ALL) {
    tests.push({ code: MOVE_32, to: R1, from: R3 }, { code: AND_32, to: R1, value: access });
    // Allowed is what lies within the rule as a whole, denied what it touches.
    if (rule.allow) tests.push({ code: JUMP_32_NOT_EQUAL_REGISTER, to: R1, from: R3 });
    else tests.push({ code: JUMP_EQUAL, to: R1, value: 0 });
  }
  for (const [register, value] of [
    [R4, rule.major],
    [R5, rule.minor],
  ] as const) {
    if (value !== undefined && value >= 0) tests.push({ code: JUMP_NOT_EQUAL, to: register, value });
  }
  const block = [...tests, ...answer(rule.allow)];
  return block.map((instruction, index) =>
    JUMPS.has(instruction.code) ? { ...instruction, offset: block.length - index - 1 } : instruction,
  );
}

function answer(allow: boolean): Instruction[] {
  return [
    { code: MOVE_64_VALUE, to: R0, value: allow ? 1 : 0 },
    { code: EXIT, to: R0 },
  ];
}

function encodeInstruction({ code, to, from = 0, offset = 0, value = 0 }: Instruction): Buffer {
  const bytes = Buffer.alloc(INSTRUCTION_SIZE);
  bytes.writeUInt8(code, 0);
  bytes.writeUInt8(to | (from << 4), 1);
  bytes.writeInt16LE(offset, 2);
  bytes.writeInt32LE(value | 0, 4);
  return bytes;
}
