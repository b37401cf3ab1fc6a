// `make bench-runtime`: one life of a container (create, start, exit, delete) of the same bundle, by gantry's runtime inside
// this process and as command lines, in turns on the same machine at the same time; prints medians and ratios to crun's.
//
//   runtime.js    BENCH_ROUNDS: rounds to take, 50 unless set

import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { DEFAULT_CAPABILITIES } from '../../cli/spec/capabilities';
import { DEFAULT_DEVICE_RULES } from '../../cli/spec/devices';
import { defaultSeccomp } from '../../cli/spec/seccomp';
import { Container, Reaper } from '../../runtime-native/index';
import type { Spec } from '../../runtime-native/spec';
import { makeBundle, makeSpec, removeCgroupParents, type TestBundle } from '../suites/runtime-bundle';
import { columns, median } from './table';

const DEFAULT_ROUNDS = 50;
const GOAL_RATIO = 0.25;
const PEER = 'crun run';
/** In memory, as /run is where all of them keep state by default. */
const STATE_DIRECTORY = '/dev/shm';
const UNIFIED = '/sys/fs/cgroup/unified';
const MARK = 'GANTRY_BENCH_NAMESPACE';
const OUR_PROGRAM = resolve(__dirname, '../../bin/gantry-runtime');

interface Subject {
  readonly name: string;
  readonly run: (id: string) => Promise<void> | void;
}

async function main(): Promise<void> {
  if (existsSync(UNIFIED) && process.env[MARK] === undefined) return runWithoutUnified();
  const rounds = Number(process.env['BENCH_ROUNDS'] ?? DEFAULT_ROUNDS);
  const bundle = makeBundle();
  const directory = mkdtempSync(join(STATE_DIRECTORY, 'gantry-bench-'));
  const samples = new Map<string, number[]>();
  // Waiting for an exit does not keep a process alive.
  const alive = setInterval(() => {}, 60_000);
  try {
    const subjects = makeSubjects(bundle, directory);
    // The first rounds fill caches and are not counted.
    for (let round = -3; round < rounds; round += 1) {
      const order = round % 2 === 0 ? subjects : [...subjects].reverse();
      for (const { name, run } of order) {
        const start = performance.now();
        await run(`bench-${round + 3}`);
        const duration = performance.now() - start;
        if (round >= 0) samples.set(name, [...(samples.get(name) ?? []), duration]);
      }
    }
    process.stdout.write(`${tableOf(subjects, samples)}\n`);
  } finally {
    clearInterval(alive);
    bundle.remove();
    rmSync(directory, { recursive: true, force: true });
    removeCgroupParents();
  }
}

/** crun refuses a v2 hierarchy beside v1, so everything is measured where it is hidden. */
function runWithoutUnified(): void {
  const script = `umount ${UNIFIED} && exec "$@"`;
  const args = [
    '--mount',
    '--propagation',
    'private',
    'sh',
    '-c',
    script,
    'sh',
    process.execPath,
    ...process.argv.slice(1),
  ];
  const { status } = spawnSync('unshare', args, { stdio: 'inherit', env: { ...process.env, [MARK]: '1' } });
  process.exitCode = status ?? 1;
}

function makeSubjects(bundle: TestBundle, directory: string): Subject[] {
  const spec = dockerSpec(bundle);
  writeFileSync(join(bundle.path, 'config.json'), JSON.stringify(spec));
  const programs = { 'gantry-runtime run': OUR_PROGRAM, 'runc run': '/usr/sbin/runc', [PEER]: '/usr/bin/crun' };
  const commands = Object.entries(programs)
    .filter(([, path]) => existsSync(path))
    .map(([name, path]) => {
      const root = join(directory, name.replace(' ', '-'));
      mkdirSync(root);
      return { name, run: (id: string) => runProgram(path, root, bundle.path, id) };
    });
  return [{ name: 'gantry in process', run: (id) => runInProcess(bundle, spec, directory, id) }, ...commands];
}

function runProgram(path: string, root: string, bundle: string, id: string): void {
  execFileSync(path, ['--root', root, 'run', '--bundle', bundle, id], { stdio: 'ignore' });
}

async function runInProcess(bundle: TestBundle, spec: Spec, directory: string, id: string): Promise<void> {
  const io = { stdin: -1, stdout: -1, stderr: -1 };
  const [root, cacheDir] = [join(directory, 'state'), join(directory, 'filters')];
  const options = { id, bundle: bundle.path, spec, rootfs: bundle.rootfs, io, root, cacheDir };
  const container = await Container.create(options);
  const exit = new Promise<number>((done) => Reaper.shared().onExit(container.pid, ({ code }) => done(code)));
  await container.start();
  const code = await exit;
  await container.delete();
  if (code !== 0) throw new Error(`the container ended with status ${code}`);
}

/** All that Docker's default specification has, for a program that ends at once. */
function dockerSpec(bundle: TestBundle): Spec {
  const spec = makeSpec(bundle, 'bench', ['/bin/true']);
  const memory = { limit: 256 << 20 };
  const resources = { devices: DEFAULT_DEVICE_RULES, memory, cpu: { shares: 1024 }, pids: { limit: 1000 } };
  const seccomp = defaultSeccomp(DEFAULT_CAPABILITIES);
  return { ...spec, linux: { ...spec.linux, resources, seccomp } } as unknown as Spec;
}

function tableOf(subjects: readonly Subject[], samples: ReadonlyMap<string, number[]>): string {
  const of = (name: string) => median(samples.get(name) ?? []);
  const rows = subjects.map(({ name }, index) => {
    const ratio = of(name) / of(PEER);
    const goal = index === 0 ? `ratio <= ${GOAL_RATIO}: ${ratio <= GOAL_RATIO ? 'yes' : 'NO'}` : '';
    return [name, of(name).toFixed(2), ratio.toFixed(2), String(samples.get(name)?.length), goal];
  });
  return columns([['median of', 'ms', 'ratio to crun', 'samples', 'goal'], ...rows]);
}

main().catch((error: unknown) => {
  process.stderr.write(`${error instanceof Error ? error.stack : error}\n`);
  process.exitCode = 1;
});
