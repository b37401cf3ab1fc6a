// Tasks of gantryd whose cgroups systemd makes (runtime option SystemdCgroup), from create to delete, on cgroup v2 with all
// controllers. systemd runs in namespaces of its own, and gantryd among its processes.

import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { PROCESS_URL, packAny, packJson, SPEC_URL } from '../../proto/any';
import { Options } from '../../proto/generated/containerd.runc.v1';
import { ContainersService } from '../../proto/generated/containerd.services.containers.v1';
import { TasksService } from '../../proto/generated/containerd.services.tasks.v1';
import { client } from '../integration/grpc-client';
import { PROJECT_ROOT } from '../setup/cache';
import { waitFor } from '../setup/command';
import { describeUnless, needsFile } from '../setup/needs';
import { makeBundle, makeSpec, missingForContainers, type TestBundle } from '../suites/runtime-bundle';
import { missingForSystemd, SystemdMachine } from '../suites/systemd-machine';

const GANTRYD = join(PROJECT_ROOT, 'dist/bin/gantryd');
const RESOURCES_URL = 'types.containerd.io/opencontainers/runtime-spec/1/LinuxResources';
const MIB = 1024 * 1024;
const ID = 'web';
const UNIT = `gantry-${ID}.scope`;
const GROUP = `machine.slice/${UNIT}`;
/** Long enough for an emulated machine. */
const PATIENCE_MS = 60_000;
const LONG_MS = 300_000;
const SLOW = { timeoutMs: PATIENCE_MS };

const missing = missingForContainers() ?? missingForSystemd() ?? needsFile(GANTRYD, 'make build');

describeUnless(missing)('tasks in scopes of systemd', () => {
  let machine: SystemdMachine;
  let bundle: TestBundle;
  let log: string;
  const clients: { close(): void }[] = [];

  beforeAll(async () => {
    machine = new SystemdMachine();
    if (!machine.controllers.includes('memory')) throw new Error('needs cgroup v2 with all controllers');
    bundle = makeBundle(machine.directory);
    await machine.boot();
    const directory = join(machine.directory, 'd');
    mkdirSync(directory);
    log = join(directory, 'log');
    const flags = ['--root', join(directory, 'root'), '--state', join(directory, 'state'), '--address', address()];
    await machine.run('sh', '-c', `exec setsid "$@" >${log} 2>&1 &`, 'sh', GANTRYD, ...flags);
    const told = () => (existsSync(log) ? readFileSync(log, 'utf8') : '');
    await waitFor('gantryd', () => told().includes('is ready at'), PATIENCE_MS).catch((error: Error) => {
      throw new Error(`${error.message}: ${told()}`);
    });
  }, LONG_MS);
  afterAll(async () => {
    for (const each of clients) each.close();
    await machine.end();
  }, LONG_MS);

  const address = () => join(machine.directory, 'd', 'g.sock');
  const connect = <S>(service: S) => {
    const made = client(service, address(), 'test');
    clients.push(made);
    return made;
  };

  test(
    'a task has a delegated scope with its limits, also after systemd has read its units anew, until it is deleted',
    async () => {
      const containers = connect(ContainersService);
      const tasks = connect(TasksService);
      const spec = makeSpec(bundle, ID, ['sleep', '1000']);
      spec.linux.cgroupsPath = `machine.slice:gantry:${ID}`;
      spec.linux.resources = { ...spec.linux.resources, memory: { limit: 64 * MIB }, pids: { limit: 30 } } as never;
      const runtime = { name: 'io.containerd.runc.v2' };
      await containers.create({ container: { id: ID, runtime, spec: packJson(SPEC_URL, spec) } }, SLOW);
      await tasks.create({ containerId: ID, options: packAny(Options, { systemdCgroup: true }) }, SLOW);
      await tasks.start({ containerId: ID }, SLOW);

      const properties = ['Slice', 'Delegate', 'MemoryMax', 'TasksMax', 'ActiveState'];
      const scope = { Slice: 'machine.slice', Delegate: 'yes', ActiveState: 'active' };
      expect(await machine.properties(UNIT, properties)).toEqual({
        ...scope,
        MemoryMax: String(64 * MIB),
        TasksMax: '30',
      });
      expect(machine.control(GROUP, 'memory.max')).toBe(String(64 * MIB));

      const process = { args: ['sleep', '1000'], cwd: '/', env: ['PATH=/bin'], user: { uid: 0, gid: 0 } };
      await tasks.exec({ containerId: ID, execId: 'e', spec: packJson(PROCESS_URL, process) }, SLOW);
      await tasks.start({ containerId: ID, execId: 'e' }, SLOW);
      expect(machine.control(GROUP, 'cgroup.procs').split('\n')).toHaveLength(2);

      const resources = packJson(RESOURCES_URL, { memory: { limit: 80 * MIB }, pids: { limit: 20 } });
      await tasks.update({ containerId: ID, resources }, SLOW);
      expect(await machine.run('systemctl', 'daemon-reload')).toMatchObject({ code: 0 });
      expect(await machine.properties(UNIT, properties)).toEqual({
        ...scope,
        MemoryMax: String(80 * MIB),
        TasksMax: '20',
      });
      expect(machine.control(GROUP, 'memory.max')).toBe(String(80 * MIB));
      expect(machine.control(GROUP, 'pids.max')).toBe('20');

      await tasks.kill({ containerId: ID, signal: 9, all: true }, SLOW);
      expect(await tasks.wait({ containerId: ID }, SLOW)).toMatchObject({ exitStatus: 137 });
      await tasks.delete({ containerId: ID }, SLOW);
      const units = await machine.run('systemctl', 'list-units', '--all', '--plain', '--no-legend', UNIT);
      expect(units.stdout).toBe('');
      expect(machine.exists(GROUP)).toBe(false);
    },
    LONG_MS,
  );
});
