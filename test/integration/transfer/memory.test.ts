// The daemon's memory does not depend on the size of images: the most that it has used at once, with all of its threads,
// after each kind of transfer of one that is several times as large.

import fs from 'node:fs';
import path from 'node:path';
import { LARGE_IMAGE, writeLargeImage } from '../../images/large';
import { PROJECT_ROOT } from '../../setup/cache';
import { mustRun } from '../../setup/command';
import { startGantryd, type TestDaemon, temporaryDirectory } from '../../setup/daemons';
import { describeUnless } from '../../setup/needs';
import { missingForCli } from '../cli/fixture';
import { missingForRegistry, RegistryServer } from '../registry/server';

const GANTRY = path.join(PROJECT_ROOT, 'dist/bin/gantry');
const PEAK_KIB_MAX = 200 << 10;
const IMAGE_BYTES_MIN = 400 << 20;
const TIMEOUT_MS = 900_000;

describeUnless(missingForCli() ?? missingForRegistry())('an image of many large layers', () => {
  let directory: string;
  let archive: string;
  let registry: RegistryServer;
  let daemon: TestDaemon | undefined;

  const gantry = (...args: string[]) => {
    const { address, namespace } = daemon as TestDaemon;
    return mustRun([GANTRY, '--address', address, '-n', namespace, ...args], { timeoutMs: TIMEOUT_MS });
  };

  beforeAll(async () => {
    directory = temporaryDirectory('memory');
    archive = path.join(directory, 'large.tar');
    await writeLargeImage(archive);
    registry = await RegistryServer.start(directory);
  }, TIMEOUT_MS);

  afterEach(async () => {
    await daemon?.destroy();
    daemon = undefined;
  });

  afterAll(async () => {
    await registry?.kill();
    fs.rmSync(directory, { recursive: true, force: true });
  });

  test(
    'is imported, exported, pushed and pulled within 200 MiB',
    async () => {
      const reference = `${registry.host}/${LARGE_IMAGE}`;
      expect(fs.statSync(archive).size).toBeGreaterThan(IMAGE_BYTES_MIN);
      const peaks: Record<string, number> = {};

      daemon = await startGantryd();
      await gantry('images', 'import', archive);
      peaks['import'] = peakKib(daemon.pid);
      await gantry('images', 'export', path.join(directory, 'out.tar'), LARGE_IMAGE);
      peaks['export'] = peakKib(daemon.pid);
      await gantry('images', 'tag', LARGE_IMAGE, reference);
      await gantry('images', 'push', '--plain-http', reference);
      peaks['push'] = peakKib(daemon.pid);
      await daemon.destroy();

      daemon = await startGantryd();
      await gantry('images', 'pull', '--plain-http', reference);
      peaks['pull'] = peakKib(daemon.pid);
      await gantry('images', 'export', path.join(directory, 'out.tar'), reference);
      peaks['export after pull'] = peakKib(daemon.pid);

      expect(fs.statSync(path.join(directory, 'out.tar')).size).toBeGreaterThan(IMAGE_BYTES_MIN);
      const above = Object.entries(peaks).filter(([, kib]) => !(kib < PEAK_KIB_MAX));
      expect(above).toEqual([]);
    },
    TIMEOUT_MS,
  );
});

/** VmHWM of proc_pid_status(5), which never goes down. */
function peakKib(pid: number): number {
  return Number(/^VmHWM:\s+(\d+) kB/m.exec(fs.readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]);
}
