// What the benchmark measures of one daemon. Everything goes through the same ctr, so that its own time is in both figures.

import fs from 'node:fs';
import { BUSYBOX_IMAGE } from '../images/busybox';
import { DEBIAN_IMAGE } from '../images/debian';
import { mustRun, runCommand, waitFor } from '../setup/command';
import type { TestDaemon } from '../setup/daemons';
import { processesOf } from '../setup/leftovers';

/** A daemon under measurement and the files it is fed with. */
export interface Subject {
  readonly name: string;
  readonly daemon: TestDaemon;
  readonly ctr: string;
  readonly busyboxTar: string;
  readonly debianTar: string;
}

export interface Measure {
  readonly name: string;
  readonly unit: 'ms' | 'MiB';
  /** In every n-th round, or once: when the daemon has just started, or after all rounds. Once means at rest. */
  readonly when: number | 'start' | 'end';
  /** A limit of our own figure, or of ours divided by the peer's. */
  readonly goal?: { readonly of: 'ratio' | 'value'; readonly atMost: number };
  readonly take: (subject: Subject) => Promise<number>;
}

const CHURN_WORKERS = 6;
const CHURN_RUNS_EACH = 2;
const IDLE_CONTAINERS = 6;
const RUN_TIMEOUT_MS = 120_000;
const REST_MS = 10_000;
const KIB_PER_MIB = 1024;
const EXEC_TARGET = 'exec-target';

let serial = 0;

export const MEASURES: readonly Measure[] = [
  { name: 'version call', unit: 'ms', when: 1, take: (subject) => timed(() => ctr(subject, 'version')) },
  {
    name: 'run to exit',
    unit: 'ms',
    when: 1,
    goal: { of: 'ratio', atMost: 1 },
    take: (subject) => timed(() => runOnce(subject)),
  },
  {
    name: 'exec',
    unit: 'ms',
    when: 1,
    goal: { of: 'ratio', atMost: 1 },
    take: (subject) => timed(() => execOnce(subject)),
  },
  {
    name: `${CHURN_WORKERS}-way churn, per container`,
    unit: 'ms',
    when: 2,
    take: async (subject) => (await timed(() => churn(subject))) / (CHURN_WORKERS * CHURN_RUNS_EACH),
  },
  {
    name: 'import and unpack of the Debian image',
    unit: 'ms',
    when: 3,
    goal: { of: 'ratio', atMost: 1 },
    take: importCold,
  },
  {
    name: 'private memory of an idle shim',
    unit: 'MiB',
    when: 'end',
    goal: { of: 'value', atMost: 12 },
    take: idleShimMemory,
  },
  ...(['start', 'end'] as const).map(
    (when): Measure => ({
      name: `resident memory of the idle daemon at the ${when}`,
      unit: 'MiB',
      when,
      goal: { of: 'value', atMost: 120 },
      take: async ({ daemon }) => memory(daemon.pid, ['Rss']),
    }),
  ),
  {
    name: 'private memory of the idle daemon at the end',
    unit: 'MiB',
    when: 'end',
    take: async ({ daemon }) => memory(daemon.pid, ['Private_Clean', 'Private_Dirty']),
  },
];

/** Imports the small image and starts the container that exec is measured in. */
export async function prepare(subject: Subject): Promise<void> {
  await ctr(subject, 'images', 'import', subject.busyboxTar);
  await ctr(
    subject,
    'run',
    '-d',
    '--fifo-dir',
    `${subject.daemon.directory}/fifo`,
    BUSYBOX_IMAGE,
    EXEC_TARGET,
    'sleep',
    '100000',
  );
}

async function timed(body: () => Promise<unknown>): Promise<number> {
  const start = process.hrtime.bigint();
  await body();
  return Number(process.hrtime.bigint() - start) / 1e6;
}

function ctr({ ctr: program, daemon }: Subject, ...args: string[]): Promise<string> {
  return mustRun([program, '-a', daemon.address, '-n', daemon.namespace, ...args], { timeoutMs: RUN_TIMEOUT_MS });
}

function unique(prefix: string): string {
  serial += 1;
  return `${prefix}${serial}`;
}

function runOnce(subject: Subject): Promise<string> {
  return ctr(subject, 'run', '--rm', BUSYBOX_IMAGE, unique('run'), 'true');
}

function execOnce(subject: Subject): Promise<string> {
  return ctr(subject, 'tasks', 'exec', '--exec-id', unique('exec'), EXEC_TARGET, 'true');
}

async function churn(subject: Subject): Promise<void> {
  const worker = async () => {
    for (let count = 0; count < CHURN_RUNS_EACH; count += 1) {
      await runOnce(subject);
    }
  };
  await Promise.all(Array.from({ length: CHURN_WORKERS }, worker));
}

/** The image and all it brought are removed before, so that every blob is written and every layer unpacked anew. */
async function importCold(subject: Subject): Promise<number> {
  const left = async () => (await ctr(subject, 'images', 'ls', '-q')).includes(DEBIAN_IMAGE);
  if (await left()) {
    await ctr(subject, 'images', 'rm', '--sync', DEBIAN_IMAGE);
  }
  // What earlier writes left in memory must not slow this one down.
  await mustRun(['sync']);
  return timed(() => ctr(subject, 'images', 'import', subject.debianTar));
}

/** Lets what is done after work (giving back memory, collecting garbage) come to its end. */
export function rest(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, REST_MS));
}

/** Mean of several idle containers; the shim of each is found by the daemon's socket in its command line. */
async function idleShimMemory(subject: Subject): Promise<number> {
  const { daemon } = subject;
  const before = new Set(shims(daemon));
  const ids = Array.from({ length: IDLE_CONTAINERS }, () => unique('idle'));
  for (const id of ids) {
    await ctr(
      subject,
      'run',
      '-d',
      '--fifo-dir',
      `${subject.daemon.directory}/fifo`,
      BUSYBOX_IMAGE,
      id,
      'sleep',
      '100000',
    );
  }
  await rest();
  const added = shims(daemon).filter((pid) => !before.has(pid));
  const total = added.reduce((sum, pid) => sum + memory(pid, ['Private_Clean', 'Private_Dirty']), 0);
  for (const id of ids) {
    await ctr(subject, 'tasks', 'kill', '-s', 'KILL', id);
    const stopped = new RegExp(`^${id} .*STOPPED`, 'm');
    await waitFor(`end of ${id}`, async () => stopped.test((await ctr(subject, 'tasks', 'ls')).replace(/ +/g, ' ')));
    // Its exit status is not zero, and so is that of ctr.
    await runCommand([subject.ctr, '-a', daemon.address, '-n', daemon.namespace, 'tasks', 'delete', id]);
    await ctr(subject, 'containers', 'rm', id);
  }
  return total / IDLE_CONTAINERS;
}

function shims(daemon: TestDaemon): number[] {
  return processesOf(daemon)
    .map(({ pid }) => pid)
    .filter((pid) => pid !== daemon.pid);
}

/** Sum of fields of smaps_rollup in MiB, see proc_pid_smaps(5). */
function memory(pid: number, fields: readonly string[]): number {
  const text = fs.readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8');
  const kib = fields.map((field) => Number(new RegExp(`^${field}: +(\\d+) kB`, 'm').exec(text)?.[1] ?? Number.NaN));
  return kib.reduce((sum, value) => sum + value, 0) / KIB_PER_MIB;
}
