// linux.resources in the control files of cgroups, by our library and by Debian's runc, which shows that the table is
// right: the files that result are the same, and so are the words of refusals.

import { execFile } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { hostLayout } from '../../runtime-native/cgroup/layout';
import type { DeviceRule, LinuxResources } from '../../runtime-native/spec';
import { describeUnless, needsFile } from '../setup/needs';
import {
  CGROUP_VERSION,
  LIMITS,
  LIMITS_OF_V1,
  LIMITS_OF_V2,
  type Limits,
  REFUSED,
  readLimits,
  UPDATES,
} from '../suites/resource-limits';
import { useRuntime } from '../suites/runtime-bench';
import { missingForContainers } from '../suites/runtime-bundle';

type Update = (resources: LinuxResources) => Promise<void>;
interface Runtime {
  /** Makes a container with limits, and removes it after the body. @param path - of its cgroup */
  use(resources: LinuxResources, body: (path: string, update: Update) => Promise<void> | void): Promise<void>;
}

const run = promisify(execFile);
const LONG_MS = 300_000;
const SLEEP = ['sleep', '1000'];
const table = [...LIMITS, ...(CGROUP_VERSION === 1 ? LIMITS_OF_V1 : LIMITS_OF_V2)];
const refused = REFUSED.filter((row) => textOf(row) !== undefined);
const filesOf = (limits: Limits) => (CGROUP_VERSION === 1 ? limits.v1 : limits.v2);

function textOf({ v1, v2 }: { v1?: string; v2?: string }): string | undefined {
  return CGROUP_VERSION === 1 ? v1 : v2;
}

describeUnless(missingForContainers() ?? needsFile('/usr/sbin/runc', 'package runc'))('limits', () => {
  const bench = useRuntime();

  const ours: Runtime = {
    async use(resources, body) {
      const options = bench.optionsFor(SLEEP, (spec) => setResources(spec, resources));
      const container = await bench.create(options);
      await body(options.spec.linux?.cgroupsPath ?? '', (changed) => container.update(changed));
      await container.delete();
    },
  };
  const runcOnce: Runtime = {
    async use(resources, body) {
      const { id, bundle, spec } = bench.specOf(SLEEP, (changed) => setResources(changed, resources));
      const directory = join(bundle.path, id);
      const program = ['--root', join(bundle.path, 'runc')];
      mkdirSync(directory);
      writeFileSync(join(directory, 'config.json'), JSON.stringify(spec));
      // Through a file: what waits to be started would keep a pipe open.
      const create = `exec runc ${program.join(' ')} create --bundle ${directory} ${id} </dev/null >${directory}/log 2>&1`;
      try {
        await run('sh', ['-c', create]);
        await body(spec.linux?.cgroupsPath ?? '', async (changed) => {
          writeFileSync(join(directory, 'update.json'), JSON.stringify(changed));
          await run('runc', [...program, 'update', '--resources', join(directory, 'update.json'), id]);
        });
      } catch (error) {
        throw new Error(readFileSync(join(directory, 'log'), 'utf8').replaceAll('\\"', '"'), { cause: error });
      } finally {
        await run('runc', [...program, 'delete', '--force', id]);
      }
    },
  };
  // Debian's runc fails now and then on a busy machine; ours is never tried twice.
  const runc: Runtime = {
    use: (resources, body) => runcOnce.use(resources, body).catch(() => runcOnce.use(resources, body)),
  };

  test.each(table)(
    '$name',
    async (limits) => {
      const files: Record<string, string>[] = [];
      const runtimes = limits.notInRunc === undefined ? [ours, runc] : [ours];
      for (const runtime of runtimes) {
        await runtime.use(limits.resources, (path) => void files.push(readLimits(path)));
      }

      expect(files[0]).toMatchObject(filesOf(limits));
      expect(files.at(-1)).toEqual(files[0]);
    },
    LONG_MS,
  );

  test.each([ours, runc].map((runtime, index) => ({ name: ['gantry', 'runc'][index], runtime })))(
    'update() by $name changes what is given and leaves the rest',
    async ({ runtime }) => {
      await runtime.use({ memory: { limit: 64 * 1024 * 1024, swap: 96 * 1024 * 1024 } }, async (path, update) => {
        let expected: Record<string, string> = {};
        for (const row of UPDATES) {
          await update(row.resources);
          expected = { ...expected, ...filesOf(row) };
          expect([row.name, readLimits(path)]).toEqual([row.name, expect.objectContaining(expected)]);
        }
      });
    },
    LONG_MS,
  );

  test.each(refused)(
    'refused: $name',
    async (row) => {
      const text = textOf(row) ?? '';
      const messages: string[] = [];
      for (const runtime of row.notInRunc === undefined ? [ours, runc] : [ours]) {
        const message = await runtime
          .use(row.resources, () => {})
          .then(
            () => 'made',
            (error: Error) => error.message,
          );
        messages.push(message);
      }

      for (const message of messages) expect(message).toContain(text);
      const field = row.field === undefined ? '' : ` (linux.resources.${row.field})`;
      expect(messages[0]).toMatch(/^runc create failed: /);
      expect(messages[0]?.endsWith(field)).toBe(true);
    },
    LONG_MS,
  );

  const denyAll: DeviceRule = { allow: false, access: 'rwm' };
  const fuse: DeviceRule = { allow: true, type: 'c', major: 10, minor: 229, access: 'rw' };
  (CGROUP_VERSION === 1 ? test.each : test.skip.each)<{ name: string; devices: DeviceRule[] }>([
    { name: 'none', devices: [] },
    { name: 'one more than all have', devices: [denyAll, fuse] },
    { name: 'all', devices: [denyAll, { allow: true, access: 'rwm' }] },
    {
      name: 'all but one',
      devices: [
        { allow: true, access: 'rwm' },
        { ...fuse, allow: false, access: 'w' },
      ],
    },
    { name: 'one less again', devices: [denyAll, fuse, { ...fuse, allow: false, access: 'w' }] },
  ])('devices: $name', async ({ devices }) => {
    const lists: string[][] = [];
    for (const runtime of [ours, runc]) {
      await runtime.use({ devices }, (path) => void lists.push(deviceList(path)));
    }

    expect(lists[0]).toEqual(lists[1]);
  });
});

function setResources(spec: { linux: { resources: unknown } }, resources: LinuxResources): void {
  spec.linux.resources = resources;
}

/** As of runc 1.2: older ones allow /dev/net/tun as well. */
function deviceList(path: string): string[] {
  const layout = hostLayout();
  const mountpoint = layout.version === 1 && layout.hierarchies.find(({ options }) => options.includes('devices'));
  if (!mountpoint) throw new Error('no devices hierarchy');
  const lines = readFileSync(join(mountpoint.mountpoint, path, 'devices.list'), 'utf8')
    .trim()
    .split('\n');
  return lines.filter((line) => line !== 'c 10:200 rwm').sort();
}
