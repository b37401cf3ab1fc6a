// The counters of a container of Debian's containerd, as its ctr prints them and as we read them: field by field the same.

import { Metrics } from '../../proto/generated/io.containerd.cgroups.v1';
import { Metrics as MetricsV2 } from '../../proto/generated/io.containerd.cgroups.v2';
import { cgroupOfProcess } from '../../runtime-native/index';
import { BUSYBOX_IMAGE, busyboxImage } from '../images/busybox';
import { installedContainerd } from '../setup/clients';
import { mustRun, waitFor } from '../setup/command';
import { startContainerd } from '../setup/daemons';
import { describeUnless, needsRoot } from '../setup/needs';

const TIMEOUT_MS = 300_000;
const COMPARE_MS = 120_000;
const EMPTY = ['0', '', 'undefined'];
/** Uses memory, processor and disk, then rests. */
const SCRIPT = 'head -c 3000000 /dev/zero >/root/file; sync; cat /bin/busybox >/dev/null; echo done; exec sleep 1000';

describeUnless(needsRoot())('stats()', () => {
  test(
    'are those that ctr tasks metrics prints',
    async () => {
      const release = await installedContainerd();
      const daemon = await startContainerd(release);
      const ctr = (...args: string[]) =>
        mustRun([release.ctr, '--address', daemon.address, '--namespace', daemon.namespace, ...args]);
      try {
        await ctr('images', 'import', await busyboxImage());
        const limit = ['--memory-limit', '100000000'];
        await ctr('run', '--detach', ...limit, BUSYBOX_IMAGE, 'counted', 'sh', '-c', SCRIPT);
        const pid = Number(/counted\s+(\d+)/.exec(await ctr('tasks', 'ls'))?.[1]);

        let difference: object | undefined;
        // Counters may change between the two, and change back: until they do not.
        const areEqual = async () => {
          const before = ourFields(pid);
          const theirs = fieldsOf(JSON.parse(await ctr('tasks', 'metrics', '--format', 'json', 'counted')));
          const after = ourFields(pid);
          if (JSON.stringify([...before]) !== JSON.stringify([...after])) return false;
          const other = [...theirs].filter(([name, value]) => before.get(name) !== value);
          // It leaves out what is zero.
          const more = [...before].filter(([name, value]) => !theirs.has(name) && !EMPTY.includes(value));
          difference = { other, more };
          return theirs.size > 0 && other.length === 0 && more.length === 0;
        };
        await waitFor('equal counters', areEqual, COMPARE_MS).catch(() => undefined);
        expect(difference).toEqual({ other: [], more: [] });
        await ctr('tasks', 'kill', '--signal', 'SIGKILL', 'counted');
      } finally {
        await daemon.destroy();
      }
    },
    TIMEOUT_MS,
  );
});

function ourFields(pid: number): Map<string, string> {
  const stats = cgroupOfProcess(pid)?.stats();
  if (stats === undefined) throw new Error('no cgroup of its own');
  return fieldsOf(stats.typeUrl === Metrics.name ? Metrics.decode(stats.value) : MetricsV2.decode(stats.value));
}

/** "memory.usage.limit" to its value, for all that are no objects. */
function fieldsOf(value: unknown, path = ''): Map<string, string> {
  // ctr prints numbers, which JSON.parse() rounds beyond 2^53.
  if (typeof value === 'bigint') return new Map([[path, String(Number(value))]]);
  if (typeof value !== 'object' || value === null) return new Map([[path, String(value)]]);
  return new Map(
    Object.entries(value).flatMap(([name, field]) => {
      const wireName = name.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
      return [...fieldsOf(field, path === '' ? wireName : `${path}.${wireName}`)];
    }),
  );
}
