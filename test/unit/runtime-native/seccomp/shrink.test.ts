// The shorter filter must answer as the longer one does, whatever is called.

import { DEFAULT_CAPABILITIES } from '../../../../cli/spec/capabilities';
import { defaultSeccomp } from '../../../../cli/spec/seccomp';
import { compileProfile, OPERATORS } from '../../../../runtime-native/seccomp/profile';
import { shrinkFilter } from '../../../../runtime-native/seccomp/shrink';
import type { Seccomp } from '../../../../runtime-native/spec';
import { evaluate } from './evaluate';

const ARCHITECTURES = [0xc000003e, 0x40000003, 0xc00000b7, 0, 1, 0xffffffff];
const NAMES = [
  'read',
  'write',
  'clone',
  'socket',
  'personality',
  'ioctl',
  'mmap',
  'openat2',
  'clone3',
  'futex',
  'prctl',
];
const ACTIONS = ['SCMP_ACT_ALLOW', 'SCMP_ACT_ERRNO', 'SCMP_ACT_KILL_PROCESS', 'SCMP_ACT_LOG', 'SCMP_ACT_TRAP'];

function bothOf(profile: Seccomp): { long: Buffer; short: Buffer } {
  const long = compileProfile(profile);
  return { long, short: shrinkFilter(long) };
}

/** Every number that a comparison of the program could tell from its neighbours, and all small ones. */
function interestingCalls(program: Buffer): number[] {
  const calls = new Set(Array.from({ length: 600 }, (_, number) => number));
  for (let at = 0; at < program.length; at += 8) {
    const value = program.readUInt32LE(at + 4);
    for (const near of [value - 1, value, value + 1, value + 0x40000000]) calls.add(near >>> 0);
  }
  return [...calls, 0x40000000, 0x80000000, 0xc0000000, 0xffffffff];
}

function differences({ long, short }: { long: Buffer; short: Buffer }, args: readonly (number | bigint)[][]): string[] {
  const calls = interestingCalls(long);
  return ARCHITECTURES.flatMap((architecture) =>
    calls.flatMap((call) =>
      args
        .filter((some) => evaluate(long, architecture, call, ...some) !== evaluate(short, architecture, call, ...some))
        .map((some) => `${architecture} ${call} (${some.join(', ')})`),
    ),
  );
}

/** The same numbers in every run. */
function random(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

function randomProfile(seed: number): Seccomp {
  const next = random(seed);
  const pick = <T>(from: readonly T[]) => from[next(from.length)] as T;
  const condition = () => ({
    index: next(3),
    op: pick(Object.keys(OPERATORS)),
    value: next(4) * 0x4000_0001,
    valueTwo: next(4),
  });
  return {
    defaultAction: pick(ACTIONS),
    architectures: ['SCMP_ARCH_X86_64', 'SCMP_ARCH_X86', 'SCMP_ARCH_X32', 'SCMP_ARCH_AARCH64'].slice(0, 1 + next(4)),
    syscalls: NAMES.filter(() => next(3) > 0).map((name) => ({
      names: [name],
      action: pick(ACTIONS),
      args: Array.from({ length: next(3) }, condition),
    })),
  } as Seccomp;
}

const onX64 = process.arch === 'x64' ? describe : describe.skip;
onX64('shrinkFilter()', () => {
  test('leaves a third of the default profile, with the same answers', () => {
    const both = bothOf(defaultSeccomp(DEFAULT_CAPABILITIES) as Seccomp);

    expect(both.short.length).toBeLessThan(both.long.length / 3);
    expect(differences(both, [[], [0xffffffff], [8], [0x20008], [0x7c020000], [40]])).toEqual([]);
  });

  test.each(Array.from({ length: 16 }, (_, seed) => seed))('answers the same for the random profile %i', (seed) => {
    const both = bothOf(randomProfile(seed));
    const next = random(seed + 1000);
    const value = () => BigInt(next(4)) * 0x4000_0001n + BigInt(next(3)) * (BigInt(next(2)) << 32n);
    const args = [[], ...Array.from({ length: 5 }, () => [value(), value(), value()])];

    expect(differences(both, args)).toEqual([]);
  });

  test('reaches beyond 255 instructions', () => {
    const syscalls = Array.from({ length: 300 }, (_, index) => index).map((index) => ({
      names: [NAMES[index % NAMES.length] ?? ''],
      action: 'SCMP_ACT_ERRNO',
      errnoRet: 1 + (index % 100),
      args: [{ index: 0, op: 'SCMP_CMP_EQ', value: index }],
    }));
    const both = bothOf({ defaultAction: 'SCMP_ACT_ALLOW', syscalls } as Seccomp);

    expect(both.long.length).toBeGreaterThan(8 * 400);
    expect(differences(both, [[], [1], [7], [150], [299], [300]])).toEqual([]);
  });

  test('keeps what it does not understand', () => {
    const program = Buffer.from(
      '2000000004000000' + '0400000001000000' + '1500000005000000' + '06000000' + '0000ff7f',
      'hex',
    );

    expect(shrinkFilter(program)).toBe(program);
  });
});
