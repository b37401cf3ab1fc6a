// The systemd cgroup driver: gantry-runtime --systemd-cgroup under a real systemd, and Debian's runc beside it, which
// shows that the units are as its users know them.

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { LinuxResources } from '../../runtime-native/spec';
import { PROJECT_ROOT } from '../setup/cache';
import { describeUnless, needsFile } from '../setup/needs';
import { makeBundle, makeSpec, missingForContainers, type TestBundle } from '../suites/runtime-bundle';
import { type CommandResult, missingForSystemd, SystemdMachine } from '../suites/systemd-machine';

const LONG_MS = 300_000;
const MIB = 1024 * 1024;
const GANTRY = [join(PROJECT_ROOT, 'dist/bin/gantry-runtime')];
const RUNC = ['runc'];
const PROPERTIES =
  'Slice Delegate DefaultDependencies MemoryAccounting TasksAccounting DevicePolicy MemoryMax MemoryLow MemorySwapMax CPUWeight CPUQuotaPerSecUSec CPUQuotaPeriodUSec TasksMax AllowedCPUs AllowedMemoryNodes CollectMode TimeoutStopUSec'.split(
    ' ',
  );

const FILES = ['memory.max', 'memory.low', 'memory.swap.max', 'cpu.max', 'cpu.weight', 'cpuset.cpus', 'pids.max'];

const missing =
  missingForContainers() ??
  missingForSystemd() ??
  needsFile('/usr/sbin/runc', 'package runc') ??
  needsFile(GANTRY[0] ?? '', 'make build');

describeUnless(missing)('the systemd cgroup driver', () => {
  let machine: SystemdMachine;
  let bundle: TestBundle;
  let counter = 0;

  beforeAll(async () => {
    machine = new SystemdMachine();
    bundle = makeBundle(machine.directory);
    await machine.boot();
  }, LONG_MS);
  afterAll(() => machine.end(), LONG_MS);

  const runtime = (program: readonly string[], ...args: string[]): Promise<CommandResult> =>
    machine.run(...program, '--root', join(machine.directory, 'state'), '--systemd-cgroup', ...args);
  /** Writes a configuration. @returns its directory and the container's id, unit and cgroup */
  const prepare = (resources: LinuxResources, slice = 'system.slice', args = ['sleep', '1000']) => {
    const id = `c${++counter}`;
    const spec = makeSpec(bundle, id, args);
    spec.linux.cgroupsPath = `${slice}:gantry:${id}`;
    spec.linux.resources = { devices: [{ allow: false, access: 'rwm' }], ...resources } as never;
    spec.annotations = {
      'org.systemd.property.CollectMode': "'inactive-or-failed'",
      'org.systemd.property.TimeoutStopSec': '7',
    };
    const directory = join(machine.directory, id);
    mkdirSync(directory);
    writeFileSync(join(directory, 'config.json'), JSON.stringify(spec));
    return { id, directory, unit: `gantry-${id}.scope`, group: `${slice}/gantry-${id}.scope` };
  };
  const succeed = async (promise: Promise<CommandResult>) => {
    const { code, stdout, stderr } = await promise;
    // runc warns of devices that the kernel does not have.
    const errors = stderr.replaceAll(/^.* level=warning .*\n/gm, '');
    expect({ code, errors }).toEqual({ code: 0, errors: '' });
    return stdout;
  };
  const unitsOf = async (unit: string) =>
    (await machine.run('systemctl', 'list-units', '--all', '--plain', '--no-legend', unit)).stdout;
  /** On a host of v1 the hierarchy has no controllers that limit anything. */
  const canLimit = () => machine.controllers.includes('memory');
  const limits = (): LinuxResources =>
    canLimit()
      ? {
          memory: { limit: 64 * MIB, reservation: 32 * MIB, swap: 96 * MIB },
          cpu: { shares: 512, quota: 150_500, period: 200_000, cpus: '0', mems: '0' },
          pids: { limit: 123 },
        }
      : {};

  test(
    'create() starts a scope as runc does, delete() ends it',
    async () => {
      const shown: Record<string, string>[] = [];
      for (const program of [GANTRY, RUNC]) {
        const { id, directory, unit, group } = prepare(limits(), 'machine-test.slice');
        await succeed(runtime(program, 'create', '--bundle', directory, id));
        shown.push(await machine.properties(unit, PROPERTIES));
        expect(machine.exists(`machine.slice/${group}`)).toBe(true);
        await succeed(runtime(program, 'delete', '--force', id));
        expect(await unitsOf(unit)).toBe('');
        expect(machine.exists(`machine.slice/${group}`)).toBe(false);
      }

      expect(shown[0]).toMatchObject({ Slice: 'machine-test.slice', Delegate: 'yes', TimeoutStopUSec: '7s' });
      expect(shown[0]).toEqual(shown[1]);
      if (canLimit()) expect(shown[0]).toMatchObject({ MemoryMax: String(64 * MIB), TasksMax: '123' });
    },
    LONG_MS,
  );

  test(
    'processes are in the scope, alone, and may use the devices that all may use',
    async () => {
      const { id, directory, group } = prepare(limits());
      await succeed(runtime(GANTRY, 'create', '--bundle', directory, id));
      await succeed(runtime(GANTRY, 'start', id));
      const script =
        'rm -f /dev/x /dev/y; mknod /dev/x c 136 200; mknod /dev/y c 1 2; cat /dev/x; cat /dev/y; echo x >/dev/null; echo $?';
      const before = await runtime(GANTRY, 'exec', id, 'sh', '-c', script);
      await succeed(machine.run('systemctl', 'daemon-reload'));
      const after = await runtime(GANTRY, 'exec', id, 'sh', '-c', script);

      expect(machine.control(group, 'cgroup.procs').split('\n')).toHaveLength(1);
      expect(before.stdout).toBe('0\n');
      expect(before.stderr).toMatch(/\/dev\/x.*(Input\/output error|No such device or address|I\/O error)/);
      expect(before.stderr).toMatch(/\/dev\/y.*Operation not permitted/);
      expect(after).toEqual(before);
      await succeed(runtime(GANTRY, 'delete', '--force', id));
    },
    LONG_MS,
  );

  test(
    'update() tells systemd and the kernel',
    async () => {
      if (!canLimit()) return;
      const { id, directory, unit, group } = prepare(limits());
      await succeed(runtime(GANTRY, 'create', '--bundle', directory, id));
      const update = ['update', '--memory', String(128 * MIB), '--pids-limit', '50', '--cpu-quota', '20000'];
      await succeed(runtime(GANTRY, ...update, id));

      expect(machine.control(group, 'memory.max')).toBe(String(128 * MIB));
      expect(machine.control(group, 'pids.max')).toBe('50');
      expect(await machine.properties(unit, ['MemoryMax', 'TasksMax', 'CPUQuotaPerSecUSec'])).toEqual({
        MemoryMax: String(128 * MIB),
        TasksMax: '50',
        CPUQuotaPerSecUSec: '100ms',
      });
      expect(machine.control(group, 'cpu.max')).toBe('20000 200000');
      await succeed(runtime(GANTRY, 'delete', '--force', id));
    },
    LONG_MS,
  );

  test.each([
    ['gantry-runtime', GANTRY],
    ['runc', RUNC],
  ])(
    'limits outlive that systemd reads its units anew, %s',
    async (_name, program) => {
      if (!canLimit()) return;
      // A quota of whole percents: others systemd rounds.
      const resources = { ...limits(), cpu: { ...limits().cpu, quota: 150_000 } };
      const { id, directory, unit, group } = prepare(resources);
      const state = async () => ({
        ...(await machine.properties(unit, PROPERTIES)),
        ...Object.fromEntries(FILES.map((file) => [file, machine.control(group, file)])),
      });
      await succeed(runtime(program, 'create', '--bundle', directory, id));
      const created = await state();
      await succeed(machine.run('systemctl', 'daemon-reload'));
      const reloaded = await state();
      await succeed(runtime(program, 'update', '--memory', String(80 * MIB), '--pids-limit', '50', id));
      const updated = await state();
      await succeed(machine.run('systemctl', 'daemon-reload'));

      expect(created).toMatchObject({ 'memory.max': String(64 * MIB), MemoryMax: String(64 * MIB), 'pids.max': '123' });
      expect(reloaded).toEqual(created);
      expect(updated).toMatchObject({ 'memory.max': String(80 * MIB), MemoryMax: String(80 * MIB), 'pids.max': '50' });
      expect(await state()).toEqual(updated);
      await succeed(runtime(program, 'delete', '--force', id));
    },
    LONG_MS,
  );

  test(
    'a scope whose processes have ended is gone, and delete() does not mind',
    async () => {
      const { id, directory, unit } = prepare({}, '-.slice', ['true']);
      await succeed(runtime(GANTRY, 'run', '--detach', '--bundle', directory, id));
      while ((await unitsOf(unit)) !== '') expect(unit).toBeDefined();

      await succeed(runtime(GANTRY, 'delete', id));
    },
    LONG_MS,
  );

  test(
    "systemd's own socket does when there is no bus",
    async () => {
      const { id, directory, unit } = prepare({});
      const withoutBus = ['env', 'DBUS_SYSTEM_BUS_ADDRESS=unix:path=/nonexistent', ...GANTRY];
      await succeed(runtime(withoutBus, 'create', '--bundle', directory, id));

      expect(await unitsOf(unit)).toContain('running');
      await succeed(runtime(withoutBus, 'delete', '--force', id));
      expect(await unitsOf(unit)).toBe('');
    },
    LONG_MS,
  );

  test(
    'a refused unit or limit leaves nothing behind',
    async () => {
      const taken = prepare({});
      await succeed(runtime(GANTRY, 'create', '--bundle', taken.directory, taken.id));
      const again = await runtime(GANTRY, 'create', '--bundle', taken.directory, 'other');
      expect(again.code).toBe(1);
      expect(again.stderr).toContain(`1 process(es) found in /sys/fs/cgroup/${taken.group}: `);
      // The same name in another slice is the same unit, of which the cgroup does not tell.
      const config = join(taken.directory, 'config.json');
      writeFileSync(config, readFileSync(config, 'utf8').replace('"system.slice:', '"machine.slice:'));
      const named = await runtime(GANTRY, 'create', '--bundle', taken.directory, 'other');
      expect(named.code).toBe(1);
      expect(named.stderr).toMatch(/unable to start unit \\?"gantry-c\d+\.scope\\?": .*already/);
      expect(await unitsOf(taken.unit)).toContain('running');
      await succeed(runtime(GANTRY, 'delete', '--force', taken.id));

      const limited = prepare({ rdma: { none: { hcaHandles: 1 } } });
      const { stderr } = await runtime(GANTRY, 'create', '--bundle', limited.directory, limited.id);
      expect(stderr).toMatch(/rdma\.max.*\(linux\.resources\.rdma\)/);
      expect(await unitsOf(limited.unit)).toBe('');
      expect(machine.exists(limited.group)).toBe(false);
    },
    LONG_MS,
  );
});
