import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readFilter, writeFilter } from '../../../../runtime-native/seccomp/cache';
import { compileProfile } from '../../../../runtime-native/seccomp/profile';
import type { Seccomp } from '../../../../runtime-native/spec';
import { evaluate } from './evaluate';

const PROFILE: Seccomp = {
  defaultAction: 'SCMP_ACT_ERRNO',
  architectures: ['SCMP_ARCH_X86_64', 'SCMP_ARCH_X86', 'SCMP_ARCH_X32'],
  syscalls: [
    { names: ['read', 'write', 'exit', 'no_such_call'], action: 'SCMP_ACT_ALLOW' },
    { names: ['personality'], action: 'SCMP_ACT_ALLOW', args: [{ index: 0, value: 8, op: 'SCMP_CMP_EQ' }] },
    { names: ['clone3'], action: 'SCMP_ACT_ERRNO', errnoRet: 38 },
  ],
};
const X86_64 = 0xc000003e;
const I386 = 0x40000003;
const [ALLOW, EPERM, ENOSYS] = [0x7fff0000, 0x00050001, 0x00050026];

const onX64 = process.arch === 'x64' ? describe : describe.skip;
onX64('compileProfile()', () => {
  test('allows, refuses with the errno of the rule, and answers ENOSYS for calls newer than the profile', () => {
    const program = compileProfile(PROFILE);
    const results = [1, 135, 2, 435, 436, 1000].map((call) => evaluate(program, X86_64, call, 8));

    expect(results).toEqual([ALLOW, ALLOW, EPERM, ENOSYS, ENOSYS, ENOSYS]);
    expect(evaluate(program, X86_64, 135, 9)).toBe(EPERM);
  });

  test('tells the architectures apart', () => {
    const program = compileProfile(PROFILE);
    const x32 = 0x40000000;

    expect([evaluate(program, I386, 4), evaluate(program, I386, 5), evaluate(program, I386, 500)]).toEqual([
      ALLOW,
      EPERM,
      ENOSYS,
    ]);
    expect([
      evaluate(program, X86_64, x32 + 1),
      evaluate(program, X86_64, x32 + 2),
      evaluate(program, X86_64, x32 + 600),
    ]).toEqual([ALLOW, EPERM, ENOSYS]);
  });

  test('puts nothing in front of a profile that lets unknown calls through', () => {
    const program = compileProfile({
      ...PROFILE,
      defaultAction: 'SCMP_ACT_ALLOW',
      syscalls: [{ names: ['mkdir'], action: 'SCMP_ACT_KILL_PROCESS' }],
    });

    expect([evaluate(program, X86_64, 83), evaluate(program, X86_64, 1000)]).toEqual([0x80000000, ALLOW]);
  });

  test.each<[Partial<Seccomp>, string]>([
    [{ defaultAction: 'X' }, 'string X is not a valid action for seccomp'],
    [{ architectures: ['X'] }, 'string X is not a valid arch for seccomp'],
    [
      { syscalls: [{ names: ['read'], action: 'SCMP_ACT_ALLOW', args: [{ index: 0, value: 0, op: 'X' }] }] },
      'string X is not a valid operator for seccomp',
    ],
  ])('refuses %j', (change, words) => {
    expect(() => compileProfile({ ...PROFILE, ...change })).toThrow(words);
  });
});

describe('the cache of filters', () => {
  let directory: string;
  beforeEach(() => {
    directory = join(mkdtempSync(join(tmpdir(), 'filters-')), 'made');
  });
  afterEach(() => rmSync(join(directory, '..'), { recursive: true }));
  const file = () => join(directory, readdirSync(directory)[0] ?? '');

  test('gives back what was written under the same profile only', () => {
    writeFilter(directory, 'profile a', Buffer.from('12345678'));

    expect(readFilter(directory, 'profile a')?.toString()).toBe('12345678');
    expect(readFilter(directory, 'profile b')).toBeUndefined();
  });

  test('does not believe a file of another profile, or one that others can write', () => {
    writeFilter(directory, 'profile a', Buffer.from('12345678'));
    const content = readFileSync(file());
    chmodSync(file(), 0o666);
    expect(readFilter(directory, 'profile a')).toBeUndefined();

    chmodSync(file(), 0o600);
    writeFileSync(file(), content.toString('latin1').replace('profile a', 'profile x'), 'latin1');
    expect(readFilter(directory, 'profile a')).toBeUndefined();
  });
});
