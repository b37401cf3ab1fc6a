// cgroup v2 on a directory of plain files: what is written where, and how counters are read.

import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { Metrics } from '../../../../proto/generated/io.containerd.cgroups.v2';
import { CgroupV2 } from '../../../../runtime-native/cgroup/v2';
import { blkioToIoWeight, sharesToWeight, swapOnly } from '../../../../runtime-native/cgroup/v2-resources';

describe('CgroupV2', () => {
  let path: string;
  beforeEach(() => {
    path = mkdtempSync(join(tmpdir(), 'cgroup2-'));
  });
  afterEach(() => rmSync(path, { recursive: true }));
  const files = (entries: Record<string, string>) => {
    for (const [name, text] of Object.entries(entries)) writeFileSync(join(path, name), text);
  };
  const read = (name: string) => readFileSync(join(path, name), 'utf8');

  test('apply() writes limits in the form of v2', () => {
    const names = [
      'memory.max',
      'memory.swap.max',
      'memory.low',
      'cpu.weight',
      'cpu.max',
      'cpuset.cpus',
      'pids.max',
      'io.weight',
      'io.max',
    ];
    files(Object.fromEntries(names.map((name) => [name, ''])));

    new CgroupV2(path).apply(
      {
        memory: { limit: 1000, swap: 3000, reservation: 500 },
        cpu: { shares: 1024, quota: 50000, period: 100000, cpus: '0-1' },
        pids: { limit: -1 },
        blockIO: { weight: 500, throttleReadBpsDevice: [{ major: 8, minor: 0, rate: 4096 }] },
      },
      true,
    );

    expect(names.map(read)).toEqual([
      '1000',
      '2000',
      '500',
      '39',
      '50000 100000',
      '0-1',
      'max',
      'default 4950',
      '8:0 rbps=4096',
    ]);
  });

  test.each([
    [{ limit: 100 }, 'rejecting memory limit 100 <= usage 100'],
    [{ limit: 200, swap: 90 }, 'rejecting memory+swap limit 90 <= usage 100'],
  ])('apply() looks at the usage first when it is asked to: %j', (limits, words) => {
    files({ 'memory.max': 'max', 'memory.current': '100' });
    const apply = (checkBeforeUpdate: boolean) =>
      new CgroupV2(path).apply({ memory: { limit: limits.limit, checkBeforeUpdate } }, true);
    const memory = { ...limits, checkBeforeUpdate: true };

    expect(() => new CgroupV2(path).apply({ memory }, true)).toThrow(words);
    expect(read('memory.max')).toBe('max');
    apply(false);
    expect(read('memory.max')).toBe(String(limits.limit));
  });

  test('stats() encodes counters', () => {
    files({
      'memory.current': '123\n',
      'memory.max': 'max\n',
      'memory.stat': 'anon 7\nslab_reclaimable 8\nworkingset_refault_anon 1\nworkingset_refault_file 2\n',
      'memory.events': 'low 0\noom 2\noom_kill 1\n',
      'cpu.stat': 'usage_usec 10\nuser_usec 4\nsystem_usec 6\n',
      'cpu.pressure':
        'some avg10=1.50 avg60=0.00 avg300=0.00 total=99\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=1\n',
      'pids.current': '3\n',
      'pids.max': '10\n',
      'rdma.current': 'mlx5_1 hca_handle=2 hca_object=3\n',
      'rdma.max': 'mlx5_1 hca_handle=9 hca_object=max\n',
      'io.stat': '8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n',
    });

    const metrics = Metrics.decode(new CgroupV2(path).stats().value);

    expect(metrics.pids).toEqual({ current: 3n, limit: 10n });
    expect(metrics.memory).toMatchObject({
      usage: 123n,
      usageLimit: (1n << 64n) - 1n,
      anon: 7n,
      slabReclaimable: 8n,
      workingsetRefault: 3n,
    });
    expect(metrics.memoryEvents).toMatchObject({ oom: 2n, oomKill: 1n });
    expect(metrics.cpu).toMatchObject({ usageUsec: 10n, psi: { some: { avg10: 1.5, total: 99n } } });
    expect(metrics.rdma).toEqual({
      current: [{ device: 'mlx5_1', hcaHandles: 2, hcaObjects: 3 }],
      limit: [{ device: 'mlx5_1', hcaHandles: 9, hcaObjects: 2 ** 32 - 1 }],
    });
    expect(metrics.io?.usage).toEqual([{ major: 8n, minor: 0n, rbytes: 1n, wbytes: 2n, rios: 3n, wios: 4n }]);
  });

  test('freeze() and thaw() write cgroup.freeze and wait for the kernel', async () => {
    files({ 'cgroup.freeze': '0', 'cgroup.events': 'populated 1\nfrozen 0\n' });
    const cgroup = new CgroupV2(path);
    const frozen = cgroup.freeze();
    expect(read('cgroup.freeze')).toBe('1');
    files({ 'cgroup.events': 'populated 1\nfrozen 1\n' });
    await frozen;

    cgroup.thaw();

    expect(read('cgroup.freeze')).toBe('0');
  });

  test('pids() are those of the group and of all below', () => {
    mkdirSync(join(path, 'a/b'), { recursive: true });
    files({ 'cgroup.procs': '1\n2\n', 'a/cgroup.procs': '', 'a/b/cgroup.procs': '3\n' });

    expect(new CgroupV2(path).pids()).toEqual([1, 2, 3]);
  });

  test('checkVacant() refuses a group with processes, also below, or frozen', () => {
    const check = () => new CgroupV2(path).checkVacant();
    expect(() => new CgroupV2(join(path, 'none')).checkVacant()).not.toThrow();
    files({ 'cgroup.procs': '', 'cgroup.events': 'populated 0\nfrozen 0\n' });
    expect(check).not.toThrow();
    files({ 'cgroup.events': 'populated 0\nfrozen 1\n' });
    expect(check).toThrow(`container's cgroup unexpectedly frozen: ${path}; `);
    mkdirSync(join(path, 'below'));
    files({ 'below/cgroup.procs': Array.from({ length: 12 }, (_, index) => `${index + 1}\n`).join('') });

    expect(check).toThrow(
      `container's cgroup is not empty: 12 process(es) found in ${path}: 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, ...; end them`,
    );
  });

  test('below() leads to a group in it, and nowhere else', () => {
    const group = new CgroupV2(path);

    expect(group.below(new Map([['', '/a/b']])).cloneDirectory()).toBe(join(path, 'a/b'));
    expect(group.below(new Map([['', 'a/..']])).paths).toEqual(group.paths);
    expect(() => group.below(new Map([['', `../${basename(path)}-other`]]))).toThrow('is not a sub cgroup path');
    expect(() => group.below(new Map([['memory', 'a']]))).toThrow('unknown controller memory in SubCgroupPaths');
  });

  test('signalAll() kills through cgroup.kill', () => {
    files({ 'cgroup.kill': '', 'cgroup.procs': '' });

    new CgroupV2(path).signalAll(9);

    expect(read('cgroup.kill')).toBe('1');
  });

  test('directoryOf() is where a process is, in or below the group', () => {
    const own = /^0::(.*)$/m.exec(readFileSync('/proc/self/cgroup', 'utf8'))?.[1] ?? '/';

    expect(new CgroupV2('/sys/fs/cgroup').directoryOf(process.pid)).toBe(join('/sys/fs/cgroup', own));
    expect(new CgroupV2(path).directoryOf(process.pid)).toBeUndefined();
  });

  test('oomCount() reads memory.events', () => {
    files({ 'memory.events': 'oom 3\noom_kill 2\n' });

    expect(new CgroupV2(path).oomCount()).toBe(2);
  });

  test('apply() names the file and the reason when the kernel refuses', () => {
    expect(() => new CgroupV2(path).apply({ pids: { limit: 3 } }, true)).toThrow(
      `failed to write "3": open ${path}/pids.max: no such file or directory`,
    );
    expect(() => new CgroupV2(path).apply({ unified: { '../x': '1' } }, true)).toThrow('must be a file name');
  });
});

test.each([
  [2, 1],
  [1024, 39],
  [262144, 10000],
])('sharesToWeight(%i)', (shares, weight) => {
  expect(sharesToWeight(shares)).toBe(weight);
});

test.each([
  [10, 1],
  [500, 4950],
  [1000, 10000],
])('blkioToIoWeight(%i)', (weight, converted) => {
  expect(blkioToIoWeight(weight)).toBe(converted);
});

test.each([
  [{ limit: 10, swap: 30 }, 20],
  [{ limit: 10, swap: -1 }, -1],
  [{ limit: -1 }, -1],
  [{ limit: 10 }, undefined],
])('swapOnly(%j)', (memory, swap) => {
  expect(swapOnly(memory)).toBe(swap);
});

test('swapOnly() refuses less than the memory limit', () => {
  expect(() => swapOnly({ limit: 10, swap: 5 })).toThrow('memory+swap limit should be >= memory limit');
});
