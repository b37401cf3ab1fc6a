/**
 * Runs a filter as the kernel does (linux/filter.h).
 * @param args - the first of the call; the others are zero
 * @returns the answer, SECCOMP_RET_*
 */
export function evaluate(
  program: Buffer,
  architecture: number,
  call: number,
  ...args: readonly (number | bigint)[]
): number {
  const data = Buffer.alloc(64);
  data.writeUInt32LE(call, 0);
  data.writeUInt32LE(architecture, 4);
  for (const [index, argument] of args.entries()) data.writeBigUInt64LE(BigInt(argument), 16 + 8 * index);
  let a = 0;
  for (let at = 0; ; at++) {
    const [code, yes, no, value] = [
      program.readUInt16LE(at * 8),
      program[at * 8 + 2] ?? 0,
      program[at * 8 + 3] ?? 0,
      program.readUInt32LE(at * 8 + 4),
    ];
    if (code === 0x20) a = data.readUInt32LE(value);
    else if (code === 0x54) a = (a & value) >>> 0;
    else if (code === 0x05) at += value;
    else if (code === 0x15) at += a === value ? yes : no;
    else if (code === 0x25) at += a > value ? yes : no;
    else if (code === 0x35) at += a >= value ? yes : no;
    else if (code === 0x45) at += (a & value) !== 0 ? yes : no;
    else if (code === 0x06) return value;
    else throw new Error(`instruction ${code.toString(16)}`);
  }
}
