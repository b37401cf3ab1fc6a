import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { STAGES } from '../../../../runtime-native/failure';
import { CODES, FLAGS, SYNC_POINTS } from '../../../../runtime-native/plan/codes';
import { encodePlan, propagationFlags } from '../../../../runtime-native/plan/encode';
import type { Operation } from '../../../../runtime-native/plan/operations';

const header = readFileSync(join(__dirname, '../../../../runtime-native/init/plan.h'), 'utf8');

/** "OP_MAKE_DIRECTORY = 18" as [makeDirectory, 18]. */
function constants(prefix: string): Map<string, number> {
  const found = header.matchAll(new RegExp(`^\\t${prefix}(\\w+) = (\\d+),`, 'gm'));
  return new Map([...found].map(([, name = '', value]) => [name, Number(value)]));
}

const camelCase = (name: string) =>
  name.toLowerCase().replaceAll(/_(\w)/g, (_, letter: string) => letter.toUpperCase());

describe('the binary form of a plan', () => {
  test('has the codes that init has', () => {
    const codes = Object.fromEntries([...constants('OP_')].map(([name, code]) => [camelCase(name), code]));

    expect(codes).toEqual({ ...CODES });
  });

  test('has the flags and stages that init has', () => {
    const flags = new Map([...constants('')].filter(([name]) => name in FLAGS));
    const stages = Object.fromEntries(constants('STAGE_'));

    expect(Object.fromEntries(flags)).toEqual({ ...FLAGS });
    expect(stages).toEqual({ ...STAGES });
  });

  test('is a header, fixed-size operations and aligned texts that they name by offset', () => {
    const plan = encodePlan({
      inherited: ['pidfd'],
      operations: [
        { op: 'hostname', name: 'bóx' },
        { op: 'rlimit', type: 7, soft: '1024', hard: String((1n << 64n) - 1n) },
        { op: 'execute', args: ['sh', ''], env: ['A=1'], reportToStderr: true },
      ],
    });

    expect(plan.toString('latin1', 0, 4)).toBe('GNPL');
    expect([plan.readUInt32LE(4), plan.readUInt32LE(8), plan.readUInt32LE(12)]).toEqual([plan.length, 3, 1]);
    const operation = (index: number) => plan.subarray(16 + 48 * index, 16 + 48 * (index + 1));
    const text = (index: number, which: number, size: number) => {
      const offset = operation(index).readUInt32LE(32 + 4 * which);
      expect(offset % 8).toBe(0);
      return plan.toString('utf8', offset, offset + size);
    };
    expect(operation(0).readBigUInt64LE(8)).toBe(4n);
    expect(text(0, 0, 5)).toBe('bóx\0');
    expect(operation(1).readBigUInt64LE(24)).toBe((1n << 64n) - 1n);
    expect(operation(2).readUInt32LE(4)).toBe(FLAGS.EXECUTE_REPORT_STDERR);
    expect([text(2, 0, 4), text(2, 1, 4)]).toEqual(['sh\0\0', 'A=1\0']);
  });

  test('gives mount options as keys and values', () => {
    const mount: Operation = {
      op: 'mount',
      type: 'tmpfs',
      source: 'tmpfs',
      target: '/t',
      options: ['ro', 'mode=755', 'a=b=c'],
      attributes: ['ro', 'nosuid', 'noatime'],
      propagation: 'rslave',
    };
    const plan = encodePlan({ inherited: [], operations: [mount] });

    const options = plan.readUInt32LE(16 + 32 + 8);
    expect(plan.toString('utf8', options, options + 21)).toBe('fro\0smode\x00755\0sa\0b=c\0');
    expect(plan.readBigUInt64LE(16 + 8)).toBe(3n);
    expect(plan.readBigUInt64LE(16 + 16)).toBe(0x13n);
    expect(plan.readBigUInt64LE(16 + 24)).toBe(0x84000n);
  });

  test('clears the access time field when an option names it', () => {
    const remount: Operation = { op: 'remount', target: '/', set: ['noatime'], clear: ['nosuid'], recursive: true };
    const plan = encodePlan({ inherited: [], operations: [remount] });

    expect(plan.readBigUInt64LE(16 + 16)).toBe((0x72n << 32n) | 0x10n);
    expect(plan.readUInt32LE(16 + 4)).toBe(FLAGS.TREE_RECURSIVE);
  });

  test.each([
    ['private', 0x40000],
    ['rprivate', 0x44000],
    ['rshared', 0x104000],
    ['runbindable', 0x24000],
    [undefined, 0],
  ] as const)('propagationFlags() of %s', (propagation, flags) => {
    expect(propagationFlags(propagation)).toBe(flags);
  });

  test('numbers the points where init waits', () => {
    expect(new Set(Object.values(SYNC_POINTS)).size).toBe(Object.keys(SYNC_POINTS).length);
  });
});
