// `make bench-docker`: the same dockerd on gantryd and on Debian's containerd with runc, in one run, in turns, on the same
// machine at the same time; prints medians and ratios.
//
//   docker.js    BENCH_ROUNDS: rounds to take, 10 unless set

import { startDockerHost } from '../conformance/docker/host';
import { BUSYBOX_IMAGE } from '../images/busybox';
import type { Dockerd } from '../setup/dockerd';
import { columns, median } from './table';

const DEFAULT_ROUNDS = 10;
const FLEET = 50;
/** How many of the fleet are started, or removed, at a time. */
const FLEET_WORKERS = 4;
/** The fleet takes seconds: every n-th round has one. */
const FLEET_EVERY = 5;
const EXEC_TARGET = 'exec-target';
const PEER = 'containerd';

type Docker = (...args: readonly string[]) => Promise<string>;

interface Measure {
  readonly name: string;
  /** In every n-th round. */
  readonly every: number;
  readonly take: (docker: Docker) => Promise<unknown>;
  /** What the time is divided by. */
  readonly count: number;
}

const MEASURES: readonly Measure[] = [
  { name: 'docker version', every: 1, count: 1, take: (docker) => docker('version') },
  { name: 'docker run --rm', every: 1, count: 1, take: (docker) => run(docker, '--rm') },
  {
    name: 'docker run --rm --network none',
    every: 1,
    count: 1,
    take: (docker) => run(docker, '--rm', '--network', 'none'),
  },
  { name: 'docker exec', every: 1, count: 1, take: (docker) => docker('exec', EXEC_TARGET, 'true') },
  { name: `${FLEET} containers up and down, each`, every: FLEET_EVERY, count: FLEET, take: fleetUpAndDown },
];

async function main(): Promise<void> {
  const rounds = Number(process.env['BENCH_ROUNDS'] ?? DEFAULT_ROUNDS);
  const subjects: { name: string; docker: Docker; destroy: () => Promise<void> }[] = [];
  const samples = new Map<string, number[]>();
  try {
    for (const name of [PEER, 'gantryd'] as const) {
      const { dockerd, destroy } = await startDockerHost(name, {
        version: '20.10.24',
        args: ['--storage-driver', 'overlay2'],
      });
      subjects.push({ name, docker: clientOf(dockerd), destroy });
      await dockerd.must(['run', '-d', '--name', EXEC_TARGET, BUSYBOX_IMAGE, 'sleep', '100000']);
    }
    // Round 0 warms up and is not counted; who is first changes from round to round.
    for (let round = 0; round <= rounds; round += 1) {
      const order = round % 2 === 0 ? subjects : [...subjects].reverse();
      for (const measure of MEASURES.filter(({ every }) => (round + every - 1) % every === 0)) {
        for (const { name, docker } of order) {
          const start = performance.now();
          await measure.take(docker);
          const key = keyOf(name, measure);
          if (round > 0) samples.set(key, [...(samples.get(key) ?? []), (performance.now() - start) / measure.count]);
        }
      }
      process.stderr.write(`round ${round}\r`);
    }
  } finally {
    await Promise.all(subjects.map(({ destroy }) => destroy()));
  }
  process.stdout.write(`${tableOf(samples)}\n`);
}

function clientOf(dockerd: Dockerd): Docker {
  return (...args) => dockerd.must(args, { timeoutMs: 120_000 });
}

function run(docker: Docker, ...flags: readonly string[]): Promise<string> {
  return docker('run', ...flags, BUSYBOX_IMAGE, 'true');
}

async function fleetUpAndDown(docker: Docker): Promise<void> {
  const names = Array.from({ length: FLEET }, (_, index) => `fleet${index}`);
  await inParallel(names, (name) => docker('run', '-d', '--name', name, BUSYBOX_IMAGE, 'sleep', '100000'));
  await inParallel(names, (name) => docker('rm', '-f', name));
}

async function inParallel(names: readonly string[], body: (name: string) => Promise<unknown>): Promise<void> {
  const left = [...names];
  const worker = async () => {
    for (let name = left.shift(); name !== undefined; name = left.shift()) await body(name);
  };
  await Promise.all(Array.from({ length: FLEET_WORKERS }, worker));
}

function keyOf(subject: string, measure: Measure): string {
  return `${subject}: ${measure.name}`;
}

function tableOf(samples: ReadonlyMap<string, number[]>): string {
  const rows = MEASURES.map((measure) => {
    const ours = samples.get(keyOf('gantryd', measure)) ?? [];
    const [peer, own] = [median(samples.get(keyOf(PEER, measure)) ?? []), median(ours)];
    return [measure.name, peer.toFixed(1), own.toFixed(1), (own / peer).toFixed(2), String(ours.length)];
  });
  return columns([['median of, ms', PEER, 'gantryd', 'ratio', 'samples'], ...rows]);
}

main().catch((error: unknown) => {
  process.stderr.write(`${error instanceof Error ? error.stack : error}\n`);
  process.exitCode = 1;
});
