// `make bench`: measures gantryd and Debian's containerd with runc in one run, in turns, on the same machine at the same
// time, and prints medians and ratios.
//
//   main.js [--json FILE] [--only containerd|gantryd]    BENCH_ROUNDS: rounds to take, 10 unless set

import fs from 'node:fs';
import os from 'node:os';
import { parseArgs } from 'node:util';
import { busyboxImage } from '../images/busybox';
import { debianImage } from '../images/debian';
import { installedContainerd } from '../setup/clients';
import { startContainerd, startGantryd } from '../setup/daemons';
import { MEASURES, type Measure, prepare, rest, type Subject } from './measures';
import { columns, median } from './table';

const DEFAULT_ROUNDS = 10;
const LOG_TAIL_CHARACTERS = 4000;

/** Values of each measure, by subject, then by measure. */
type Samples = Map<string, Map<string, number[]>>;

interface Row {
  readonly measure: string;
  readonly unit: string;
  readonly containerd: number;
  readonly gantryd: number;
  readonly ratio: number;
  readonly samples: number;
  readonly goal: string;
}

async function main(): Promise<void> {
  const { values } = parseArgs({ options: { json: { type: 'string' }, only: { type: 'string' } } });
  const rounds = Number(process.env['BENCH_ROUNDS'] ?? DEFAULT_ROUNDS);
  const subjects = await startSubjects(values.only);
  const samples: Samples = new Map(subjects.map(({ name }) => [name, new Map()]));
  try {
    for (const subject of subjects) {
      await prepare(subject);
    }
    await takeAtRest(subjects, samples, 'start');
    // Round 0 warms up and is not counted.
    for (let round = 0; round <= rounds; round += 1) {
      await takeRound(subjects, samples, round);
    }
    await takeAtRest(subjects, samples, 'end');
  } catch (error) {
    for (const { name, daemon } of subjects) {
      process.stderr.write(`end of the log of ${name}:\n${daemon.log.slice(-LOG_TAIL_CHARACTERS)}\n`);
    }
    throw error;
  } finally {
    await Promise.all(subjects.map(({ daemon }) => daemon.destroy()));
  }
  const rows = MEASURES.map((measure) => rowOf(measure, samples));
  process.stdout.write(`${tableOf(rows)}\n`);
  if (values.json !== undefined) {
    const machine = { cpus: os.cpus().length, model: os.cpus()[0]?.model, kernel: os.release() };
    fs.writeFileSync(
      values.json,
      `${JSON.stringify({ date: new Date().toISOString(), rounds, machine, rows }, null, 2)}\n`,
    );
  }
}

async function startSubjects(only: string | undefined): Promise<Subject[]> {
  const peer = await installedContainerd();
  const files = { ctr: peer.ctr, busyboxTar: await busyboxImage(), debianTar: await debianImage() };
  const starters = { containerd: () => startContainerd(peer), gantryd: () => startGantryd() };
  const subjects: Subject[] = [];
  for (const [name, start] of Object.entries(starters)) {
    if (only === undefined || only === name) {
      subjects.push({ name, daemon: await start(), ...files });
    }
  }
  return subjects;
}

/** Takes each due measure of every subject; who is first changes from round to round. */
async function takeRound(subjects: readonly Subject[], samples: Samples, round: number): Promise<void> {
  const order = round % 2 === 0 ? subjects : [...subjects].reverse();
  for (const measure of MEASURES) {
    // Offset by one: slow measures are due in the first counted round.
    if (typeof measure.when === 'string' || (round > 0 && (round - 1) % measure.when !== 0)) {
      continue;
    }
    for (const subject of order) {
      const value = await measure.take(subject);
      if (round > 0) {
        keep(samples, subject, measure, value);
      }
    }
  }
  process.stderr.write(`round ${round}\r`);
}

async function takeAtRest(subjects: readonly Subject[], samples: Samples, when: 'start' | 'end'): Promise<void> {
  await rest();
  for (const measure of MEASURES.filter((candidate) => candidate.when === when)) {
    for (const subject of subjects) {
      keep(samples, subject, measure, await measure.take(subject));
    }
  }
}

function keep(samples: Samples, subject: Subject, measure: Measure, value: number): void {
  const ofSubject = samples.get(subject.name)!;
  ofSubject.set(measure.name, [...(ofSubject.get(measure.name) ?? []), value]);
}

function rowOf(measure: Measure, samples: Samples): Row {
  const of = (subject: string) => samples.get(subject)?.get(measure.name) ?? [];
  const [containerd, gantryd] = [median(of('containerd')), median(of('gantryd'))];
  const ratio = gantryd / containerd;
  const { goal } = measure;
  const reached = goal !== undefined && (goal.of === 'ratio' ? ratio : gantryd) <= goal.atMost;
  const wanted = goal === undefined ? '' : `${goal.of === 'ratio' ? 'ratio' : measure.unit} <= ${goal.atMost}: `;
  return {
    measure: measure.name,
    unit: measure.unit,
    containerd,
    gantryd,
    ratio,
    samples: Math.max(of('containerd').length, of('gantryd').length),
    goal: goal === undefined ? '' : `${wanted}${reached ? 'yes' : 'NO'}`,
  };
}

function tableOf(rows: readonly Row[]): string {
  const cells = rows.map((row) => [
    row.measure,
    row.unit,
    row.containerd.toFixed(1),
    row.gantryd.toFixed(1),
    row.ratio.toFixed(2),
    String(row.samples),
    row.goal,
  ]);
  const lines = [['median of', 'unit', 'containerd', 'gantryd', 'ratio', 'samples', 'goal'], ...cells];
  return columns(lines);
}

main().catch((error: unknown) => {
  process.stderr.write(`${error instanceof Error ? error.stack : error}\n`);
  process.exitCode = 1;
});
