// `make bench-images`: imports and pulls images of several large layers and unpacks them, with gantryd and Debian's
// containerd in turns on the same machine at the same time, each time into an empty store on a file system of its own: on a
// shared one, ext4 goes slowly around the inodes that the last store has given back, and a sync waits for what others
// write. Prints medians and ratios, and the most memory that gantryd has used. The registry is Debian's docker-registry on
// loopback.
//
//   images.js    BENCH_ROUNDS: rounds to take, 3 unless set

import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { LAYERED, type LayeredName, layeredImage, layeredName } from '../images/layered';
import { RegistryServer } from '../integration/registry/server';
import { PROJECT_ROOT } from '../setup/cache';
import { type ContainerdRelease, installedContainerd } from '../setup/clients';
import { mustRun } from '../setup/command';
import { startContainerd, startGantryd, type TestDaemon, temporaryDirectory } from '../setup/daemons';
import { columns, median } from './table';

const DEFAULT_ROUNDS = 3;
const GOAL_RATIO = 0.5;
const GOAL_PEAK_MIB = 200;
const KIB_PER_MIB = 1024;
const TIMEOUT_MS = 600_000;
const DISK_BYTES = 8 * 2 ** 30;
const GANTRY = path.join(PROJECT_ROOT, 'dist/bin/gantry');
const IMAGES = Object.keys(LAYERED) as LayeredName[];

/** A daemon with the client that drives it. The first is what the others are compared with. */
interface Subject {
  readonly name: string;
  readonly start: (directory: string) => Promise<TestDaemon>;
  readonly client: (daemon: TestDaemon) => string[];
}

/** What a client is told to do with an image. */
interface Work {
  readonly name: string;
  readonly args: readonly string[];
}

interface Sample {
  readonly durationMs: number;
  readonly peakMib: number;
}

type Samples = Map<string, Sample[]>;

async function main(): Promise<void> {
  const rounds = Number(process.env['BENCH_ROUNDS'] ?? DEFAULT_ROUNDS);
  const subjects = subjectsOf(await installedContainerd());
  const directory = temporaryDirectory('bench');
  const registry = await RegistryServer.start(directory);
  const samples: Samples = new Map();
  try {
    const works = await prepare(registry);
    for (let round = 0; round < rounds; round += 1) {
      const order = round % 2 === 0 ? subjects : [...subjects].reverse();
      for (const work of works) {
        for (const subject of order) {
          const key = `${work.name} ${subject.name}`;
          const sample = await take(subject, work);
          samples.set(key, [...(samples.get(key) ?? []), sample]);
          process.stderr.write(
            `round ${round + 1}: ${work.name}, ${subject.name}: ${(sample.durationMs / 1000).toFixed(2)} s\n`,
          );
        }
      }
    }
    process.stdout.write(`${report(subjects, works, samples)}\n`);
  } finally {
    await registry.kill();
    fs.rmSync(directory, { recursive: true, force: true });
  }
}

function subjectsOf(peer: ContainerdRelease): Subject[] {
  const ctr = ({ address, namespace }: TestDaemon) => [peer.ctr, '-a', address, '-n', namespace];
  const gantry = ({ address, namespace }: TestDaemon) => [GANTRY, '--address', address, '-n', namespace];
  return [
    { name: 'containerd, ctr', start: (directory) => startContainerd(peer, { directory }), client: ctr },
    { name: 'gantryd, gantry', start: (directory) => startGantryd({ directory }), client: gantry },
    { name: 'gantryd, ctr', start: (directory) => startGantryd({ directory }), client: ctr },
  ];
}

/** Puts the images into the registry. */
async function prepare(registry: RegistryServer): Promise<Work[]> {
  const works: Work[] = [];
  for (const name of IMAGES) {
    const file = await layeredImage(name);
    const reference = `${registry.host}/${layeredName(name)}`;
    const copy = ['skopeo', '--insecure-policy', 'copy', '--quiet', '--dest-tls-verify=false', '--preserve-digests'];
    await mustRun([...copy, `oci-archive:${file}`, `docker://${reference}`], { timeoutMs: TIMEOUT_MS });
    works.push({ name: `import ${name}`, args: ['images', 'import', file] });
    works.push({ name: `pull ${name}`, args: ['images', 'pull', '--plain-http', reference] });
  }
  return works;
}

async function take(subject: Subject, work: Work): Promise<Sample> {
  const base = temporaryDirectory('bench');
  const [disk, root] = [path.join(base, 'disk.ext4'), path.join(base, 'root')];
  try {
    fs.mkdirSync(root);
    fs.writeFileSync(disk, '');
    fs.truncateSync(disk, DISK_BYTES);
    await mustRun(['/sbin/mkfs.ext4', '-q', '-E', 'lazy_itable_init=1,lazy_journal_init=1,nodiscard', disk]);
    await mustRun(['mount', '-o', 'loop,noinit_itable', disk, root]);
    try {
      const directory = path.join(root, 'd');
      fs.mkdirSync(directory);
      return await measure(subject, work, directory);
    } finally {
      await mustRun(['umount', root]);
    }
  } finally {
    fs.rmSync(base, { recursive: true, force: true });
  }
}

async function measure({ start, client }: Subject, { args }: Work, directory: string): Promise<Sample> {
  const daemon = await start(directory);
  try {
    // What was written before must not slow this one down.
    await mustRun(['sync'], { timeoutMs: TIMEOUT_MS });
    const begin = performance.now();
    await mustRun([...client(daemon), ...args], { timeoutMs: TIMEOUT_MS });
    return { durationMs: performance.now() - begin, peakMib: peakOf(daemon.pid) };
  } finally {
    await daemon.destroy();
  }
}

/** Most memory that the process had at once: VmHWM of proc_pid_status(5). */
function peakOf(pid: number): number {
  const text = fs.readFileSync(`/proc/${pid}/status`, 'utf8');
  return Number(/^VmHWM:\s+(\d+) kB/m.exec(text)?.[1] ?? Number.NaN) / KIB_PER_MIB;
}

function report(subjects: readonly Subject[], works: readonly Work[], samples: Samples): string {
  const of = (work: Work, { name }: Subject) => samples.get(`${work.name} ${name}`) ?? [];
  const seconds = (work: Work, subject: Subject) =>
    median(of(work, subject).map(({ durationMs }) => durationMs)) / 1000;
  const [peer, ...ours] = subjects as [Subject, ...Subject[]];
  const lines = works.map((work) => [
    work.name,
    seconds(work, peer).toFixed(2),
    ...ours.flatMap((subject) => {
      const ratio = seconds(work, subject) / seconds(work, peer);
      const peak = Math.max(...of(work, subject).map(({ peakMib }) => peakMib));
      return [
        seconds(work, subject).toFixed(2),
        `${ratio.toFixed(2)}${ratio <= GOAL_RATIO ? '' : ' NO'}`,
        `${peak.toFixed(0)}${peak < GOAL_PEAK_MIB ? '' : ' NO'}`,
      ];
    }),
  ]);
  const heads = ours.flatMap(({ name }) => [`${name} [s]`, 'ratio', 'peak [MiB]']);
  const goals = `goals: ratio at most ${GOAL_RATIO}, peak below ${GOAL_PEAK_MIB} MiB; load ${os.loadavg()[0]?.toFixed(1)}`;
  return `${columns([['median of', `${peer.name} [s]`, ...heads], ...lines])}\n${goals}`;
}

main().catch((error: unknown) => {
  process.stderr.write(`${error instanceof Error ? error.stack : error}\n`);
  process.exitCode = 1;
});
