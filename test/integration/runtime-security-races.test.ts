// Attacks that need luck: another process swaps links and files of the image while a container is made of it. Each runs for
// ten seconds and thirty rounds at least; GANTRY_RACE_MS sets another time.

import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import {
  chmodSync,
  closeSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Container } from '../../runtime-native/index';
import { describeUnless } from '../setup/needs';
import { type SpecChange, useRuntime } from '../suites/runtime-bench';
import { missingForContainers, mountsBelow } from '../suites/runtime-bundle';
import { waitForExit } from '../suites/runtime-library';

const RACE_MS = Number(process.env['GANTRY_RACE_MS'] ?? 10_000);
const TIMEOUT_MS = RACE_MS + 240_000;
/** However slow the machine is. */
const ROUNDS_MIN = 30;

/** renameat2(2) with RENAME_EXCHANGE, again and again: both names are always there. */
const NUMBER_OF_RENAMEAT2 = process.arch === 'x64' ? 316 : 276;
const SWAPPER = `syscall(${NUMBER_OF_RENAMEAT2}, -100, $ARGV[0], -100, $ARGV[1], 2) == 0 or die $! while 1`;

describeUnless(missingForContainers())('a race', () => {
  const runtime = useRuntime();
  let outside: string;
  const swappers: ChildProcess[] = [];

  beforeEach(() => {
    outside = mkdtempSync(join(tmpdir(), 'gantry-outside-'));
    mkdirSync(join(outside, 'target'));
    writeFileSync(join(outside, 'victim'), 'content');
  });

  afterEach(() => rmSync(outside, { recursive: true }));

  function swap(one: string, two: string): void {
    swappers.push(spawn('perl', ['-e', SWAPPER, one, two], { stdio: 'ignore' }));
  }

  /** Makes containers until the time is over. How many could be made, and how many not. */
  async function race(args: readonly string[], change: SpecChange, check: (output: string) => void, io?: 'terminal') {
    const end = Date.now() + RACE_MS;
    const counts = { made: 0, refused: 0 };
    try {
      while (Date.now() < end || counts.made + counts.refused < ROUNDS_MIN) {
        const output = runtime.newOutput();
        const options = { ...runtime.optionsFor(args, change), io: io ?? output.io };
        const container = await Container.create(options).catch(() => undefined);
        if (container === undefined) {
          counts.refused++;
        } else {
          counts.made++;
          const exit = waitForExit(container.pid);
          await container.start();
          if (io === 'terminal') check(readFileSync(`/proc/${container.pid}/mountinfo`, 'utf8'));
          else await exit;
          await container.delete();
          await exit;
          if (container.terminalFd !== undefined) closeSync(container.terminalFd);
        }
        if (io !== 'terminal') check(output.read().stdout);
        expect(mountsBelow(outside)).toEqual([]);
      }
    } finally {
      await Promise.all(swappers.splice(0).map(stop));
    }
    expect(readdirSync(outside).sort()).toEqual(['target', 'victim']);
    expect(readdirSync(join(outside, 'target'))).toEqual([]);
    expect(readFileSync(join(outside, 'victim'), 'utf8')).toBe('content');
    return counts;
  }

  test.each(['before the change of root', 'after it'])(
    'CVE-2021-30465, CVE-2026-41579: for mount targets and their parents never leads to the host (%s)',
    async (when) => {
      const { rootfs, path } = runtime.bundle;
      mkdirSync(join(rootfs, 'volume/target'), { recursive: true });
      symlinkSync(outside, join(rootfs, 'evil'));
      symlinkSync(`../../../../../../..${outside}`, join(rootfs, 'volume/deep'));
      mkdirSync(join(rootfs, 'volume/plain'));
      const source = join(path, 'source');
      mkdirSync(source);
      swap(join(rootfs, 'volume'), join(rootfs, 'evil'));

      await race(
        ['true'],
        (spec) => {
          if (when.startsWith('before')) spec.hooks = { createContainer: [{ path: '/bin/true' }] } as never;
          spec.mounts.push(
            { destination: '/volume/target', type: 'bind', source, options: ['rbind'] } as never,
            { destination: '/volume/target/made', type: 'tmpfs', source: 'tmpfs', options: [] } as never,
            { destination: '/volume/new/directory', type: 'tmpfs', source: 'tmpfs', options: [] } as never,
            { destination: '/volume/file', type: 'bind', source: '/etc/hostname', options: ['bind'] } as never,
          );
          spec.linux.devices = [{ path: '/volume/node', type: 'c', major: 1, minor: 3 }] as never;
          spec.process.cwd = '/volume/cwd/made';
        },
        () => {},
      );
    },
    TIMEOUT_MS,
  );

  test(
    'CVE-2025-31133: for /dev/null never has another file lie over what is masked',
    async () => {
      const { rootfs } = runtime.bundle;
      execFileSync('mknod', [join(rootfs, 'dev/null'), 'c', '1', '3']);
      writeFileSync(join(rootfs, 'victim'), 'content of the image');
      symlinkSync('/victim', join(rootfs, 'dev/other'));
      swap(join(rootfs, 'dev/null'), join(rootfs, 'dev/other'));
      const seen = new Set<string>();

      const { made } = await race(
        ['sh', '-c', 'stat -c %t,%T /proc/timer_list; cat /proc/timer_list'],
        (spec) => {
          spec.mounts = spec.mounts.filter(({ destination }) => !destination.startsWith('/dev'));
          spec.linux.maskedPaths = ['/proc/timer_list'];
          spec.linux.resources = { devices: [{ allow: true, access: 'rwm' }] } as never;
        },
        (output) => seen.add(output),
      );

      expect(made).toBeGreaterThan(0);
      seen.delete('');
      expect([...seen]).toEqual(['1,3\n']);
    },
    TIMEOUT_MS,
  );

  test(
    'CVE-2025-52565: for the terminal never mounts anything but the terminal',
    async () => {
      const { rootfs } = runtime.bundle;
      mkdirSync(join(rootfs, 'dev/pts'));
      writeFileSync(join(rootfs, 'dev/console'), '');
      symlinkSync(join(outside, 'victim'), join(rootfs, 'dev/other'));
      swap(join(rootfs, 'dev/console'), join(rootfs, 'dev/other'));

      const { made } = await race(
        ['sleep', '100'],
        (spec) => {
          spec.hooks = { createContainer: [{ path: '/bin/true' }] } as never;
          const kept = ['/proc', '/dev/pts', '/sys'];
          spec.mounts = spec.mounts.filter(({ destination }) => kept.includes(destination));
          spec.linux.maskedPaths = [];
        },
        (mounts) => {
          // Of a devpts: its root, and one terminal, if that has not gone with the file that it lay on.
          const points = mounts.split('\n').filter((line) => line.includes(' - devpts '));
          expect(points.map((line) => line.split(' ')[3]).join(' ')).toMatch(/^\/( \/0)?$/);
        },
        'terminal',
      );

      expect(made).toBeGreaterThan(0);
    },
    TIMEOUT_MS,
  );

  test(
    'CVE-2026-42306: for files that are copied never gives the rights of one to another',
    async () => {
      const volume = join(runtime.bundle.rootfs, 'volume');
      mkdirSync(volume);
      writeFileSync(join(volume, 'a'), 'good');
      chmodSync(join(volume, 'a'), 0o4755);
      writeFileSync(join(volume, 'b'), 'evil', { mode: 0o644 });
      swap(join(volume, 'a'), join(volume, 'b'));
      const seen = new Set<string>();

      await race(
        ['sh', '-c', 'cd /volume; for f in *; do echo $(stat -c %a $f) $(cat $f); done'],
        (spec) =>
          spec.mounts.push({ destination: '/volume', type: 'tmpfs', source: 'tmpfs', options: ['tmpcopyup'] } as never),
        (output) => {
          for (const line of output.split('\n')) seen.add(line);
        },
      );

      expect([...seen].sort()).toEqual(['', '4755 good', '644 evil']);
    },
    TIMEOUT_MS,
  );
});

async function stop(swapper: ChildProcess): Promise<void> {
  const done = new Promise((resolve) => swapper.once('exit', resolve));
  if (!swapper.kill('SIGKILL')) throw new Error('the swapper has ended by itself');
  await done;
}
