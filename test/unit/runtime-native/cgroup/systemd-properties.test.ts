import { deviceProperties, resourceProperties } from '../../../../runtime-native/cgroup/systemd-properties';
import type { LinuxResources } from '../../../../runtime-native/spec';

const UNLIMITED = (1n << 64n) - 1n;

/** Name to value. */
function of(version: 1 | 2, resources: LinuxResources): Record<string, unknown> {
  return Object.fromEntries(resourceProperties(version, resources).map(([name, { value }]) => [name, value]));
}

describe('resourceProperties()', () => {
  const resources: LinuxResources = {
    memory: { limit: 100, reservation: 50, swap: 150 },
    cpu: { shares: 1024, quota: 15_050, period: 100_000, cpus: '0-1,9', mems: '0' },
    pids: { limit: -1 },
    blockIO: { weight: 300 },
  };
  const common = {
    CPUQuotaPeriodUSec: 100_000n,
    // In whole percents, rounded up.
    CPUQuotaPerSecUSec: 160_000n,
    TasksMax: UNLIMITED,
    AllowedCPUs: [3, 2],
    AllowedMemoryNodes: [1],
  };

  test('names what v1 has', () => {
    expect(of(1, resources)).toEqual({ MemoryLimit: 100n, CPUShares: 1024n, BlockIOWeight: 300n, ...common });
  });

  test('converts for v2', () => {
    expect(of(2, resources)).toEqual({
      MemoryMax: 100n,
      MemoryLow: 50n,
      MemorySwapMax: 50n,
      CPUWeight: 39n,
      ...common,
    });
  });

  test('says nothing of what is not given', () => {
    expect(resourceProperties(2, {})).toEqual([]);
    expect(of(2, { cpu: { period: 50_000 } })).toEqual({
      CPUQuotaPeriodUSec: 50_000n,
      CPUQuotaPerSecUSec: UNLIMITED,
    });
  });

  test('takes files of v2 by name, an idle group as a weight of zero', () => {
    const unified = { 'memory.high': '7', 'pids.max': 'max', 'cpu.max': 'max 20000', 'cpuset.cpus': '1', 'x.y': '1' };

    expect(of(2, { unified })).toEqual({
      MemoryHigh: 7n,
      TasksMax: UNLIMITED,
      CPUQuotaPeriodUSec: 20_000n,
      CPUQuotaPerSecUSec: UNLIMITED,
      AllowedCPUs: [2],
    });
    expect(of(2, { unified: { 'cpu.idle': '1', 'cpu.weight': '9' } })).toEqual({ CPUWeight: 0n });
    expect(of(2, { cpu: { idle: 1, shares: 512 } })).toEqual({ CPUWeight: 0n });
  });

  test.each<[string, LinuxResources]>([
    ['resources.CPU.Cpus="2-1" conversion error', { cpu: { cpus: '2-1' } }],
    ['resources.CPU.Mems="99999" conversion error', { cpu: { mems: '99999' } }],
    ['unified resource "memory.max" value conversion error', { unified: { 'memory.max': 'much' } }],
    ['memory+swap limit should be >= memory limit', { memory: { limit: 2, swap: 1 } }],
  ])('refuses: %s', (text, refused) => {
    expect(() => resourceProperties(2, refused)).toThrow(text);
  });
});

test('deviceProperties() names nodes, drivers and all devices', () => {
  const properties = deviceProperties([{ allow: true, type: 'b', major: 8, minor: 1, access: 'r' }]);
  const entries = properties.find(([name]) => name === 'DeviceAllow')?.[1].value;

  expect(properties[0]).toEqual(['DevicePolicy', { type: 's', value: 'strict' }]);
  expect(entries).toEqual(
    expect.arrayContaining([
      ['/dev/block/8:1', 'r'],
      ['char-136', 'rwm'],
      ['block-*', 'm'],
    ]),
  );
  expect(deviceProperties([{ allow: true }])).toEqual([
    ['DevicePolicy', { type: 's', value: 'auto' }],
    ['DeviceAllow', { type: 'a(ss)', value: [] }],
  ]);
});
