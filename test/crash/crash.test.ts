// kill -9 of gantryd at random moments of import, create, start, exec and delete; after every restart nothing that was
// acknowledged is lost and nothing is left that should be gone. CRASH_ROUNDS and CRASH_SEED set length and sequence.

import { existsSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import BetterSqlite3 from 'better-sqlite3';
import { Status } from '../../proto/generated/containerd.v1.types';
import { SHIMS } from '../integration/task-shims';
import { TestDaemon } from '../integration/tasks-daemon';
import { shimIn } from '../setup/leftovers';
import { testUnless } from '../setup/needs';
import { type Model, randomFrom, Workload } from './workload';

const ROUNDS = Number(process.env['CRASH_ROUNDS'] ?? 100);
const SEED = Number(process.env['CRASH_SEED'] ?? Date.now() % 1_000_000);
/** The daemon is killed after so many answers and so much time more, at most: on a slow machine work gets as far. */
const KILL_AFTER_ANSWERS_MAX = 24;
const KILL_AFTER_MS_MAX = 100;
/** Unless it takes longer than this. */
const ROUND_MS_MAX = 5000;
/** More rounds, until each kind of work has got to its end once. */
const ROUNDS_FACTOR_MAX = 10;
/** Share of the rounds in which the zygote has had the time to be ready, so that all shims are forked. */
const ZYGOTE_SHARE = 0.3;
/** Share of the rounds in which a shim dies, too. */
const SHIM_KILL_SHARE = 0.2;
const TIMEOUT_MS = 1_800_000;

const shims = SHIMS.filter(({ name }) => name !== 'own shim, spawned').map((shim) => ({
  ...shim,
  rounds: shim.config.start === 'fork' ? ROUNDS : Math.ceil(ROUNDS / 10),
}));

describe.each(shims)('kill -9 of gantryd with $name', ({ config, rounds, missing }) => {
  testUnless(missing)(
    `at ${rounds} random moments loses and leaks nothing`,
    async () => {
      const random = randomFrom(SEED);
      const daemon = await TestDaemon.start(config);
      const total = { images: 0, tasks: 0, execs: 0, deleted: 0 };
      try {
        const least = () => Math.min(...Object.values(total));
        for (let round = 0; round < rounds || (least() === 0 && round < rounds * ROUNDS_FACTOR_MAX); round += 1) {
          if (config.start === 'fork' && random() < ZYGOTE_SHARE) await daemon.untilForking();
          const model = await crashOnce(daemon, random, round).catch((error: Error) => {
            throw new Error(`seed ${SEED}, round ${round}: ${error.message}`, { cause: error });
          });
          total.images += model.images.size;
          total.tasks += model.tasks.size;
          total.execs += model.execs.size;
          total.deleted += [...model.tasks.values()].filter((state) => state === 'deleted').length;
        }
        // A harness that kills too early proves nothing.
        expect(least()).toBeGreaterThan(0);
      } catch (error) {
        await daemon.stop().catch(() => undefined); // What is left over would hide why.
        throw error;
      }
      await daemon.stop();
    },
    TIMEOUT_MS,
  );
});

async function crashOnce(daemon: TestDaemon, random: () => number, round: number): Promise<Model> {
  const workload = new Workload(daemon, random);
  const running = workload.run(round);
  const answers = Math.floor(random() * KILL_AFTER_ANSWERS_MAX);
  const deadline = Date.now() + ROUND_MS_MAX;
  while (workload.answered < answers && Date.now() < deadline) await sleep(1);
  await sleep(random() * KILL_AFTER_MS_MAX);
  await daemon.kill();
  workload.stop();
  await running;
  if (random() < SHIM_KILL_SHARE) killOneShim(daemon, workload.model);
  await daemon.boot();

  expect(integrity(daemon)).toBe('ok');
  await daemon.untilAdopted();
  await checkImages(daemon, workload.model);
  await checkTasks(daemon, workload.model);
  await checkLeaks(daemon);

  for (const id of workload.model.tasks.keys()) await daemon.destroy(id);
  for (const id of workload.model.containers) await daemon.containers.delete({ id }).catch(() => undefined);
  await daemon.untilClean();
  return workload.model;
}

/** A task whose shim died as well is gone after the restart. */
function killOneShim(daemon: TestDaemon, model: Model): void {
  for (const [id, state] of model.tasks) {
    const pid = state === 'running' ? shimIn(daemon.bundle(id)) : undefined;
    if (pid === undefined) continue;
    process.kill(pid, 'SIGKILL');
    model.tasks.set(id, 'deleted');
    return;
  }
}

function integrity(daemon: TestDaemon): unknown {
  const db = new BetterSqlite3(daemon.database, { readonly: true });
  try {
    return db.pragma('integrity_check', { simple: true });
  } finally {
    db.close();
  }
}

async function checkImages(daemon: TestDaemon, model: Model): Promise<void> {
  for (const [name, blob] of model.images) {
    const { image } = await daemon.images.get({ name });
    const content = await daemon.readContent(image?.target?.digest ?? '');
    if (!content.equals(blob)) throw new Error(`image ${name}: its blob has changed`);
  }
}

async function checkTasks(daemon: TestDaemon, model: Model): Promise<void> {
  for (const id of model.containers) await daemon.containers.get({ id });
  const { tasks } = await daemon.tasks.list({});
  const found = new Map(tasks.map((task) => [task.id, task]));
  for (const [id, state] of model.tasks) {
    const status = found.get(id)?.status;
    if (state === 'created') expect({ id, status }).toEqual({ id, status: Status.CREATED });
    if (state === 'running') expect({ id, status }).toEqual({ id, status: Status.RUNNING });
    if (state === 'deleted') expect({ id, status }).toEqual({ id, status: undefined });
  }
  await checkAlive(daemon);
  for (const [key, exitStatus] of model.execs) {
    const [containerId = '', execId = ''] = key.split('/');
    if (model.tasks.get(containerId) !== 'running') continue;
    const exit = await daemon.tasks.wait({ containerId, execId });
    expect({ key, exitStatus: exit.exitStatus }).toEqual({ key, exitStatus });
  }
}

/** What is said to run does. One that a kill without an answer has reached may be ending. */
async function checkAlive(daemon: TestDaemon): Promise<void> {
  let dead: string[] = [];
  const isNoneDead = async () => {
    const { tasks } = await daemon.tasks.list({});
    dead = tasks
      .filter(({ status, pid }) => status !== Status.STOPPED && !existsSync(`/proc/${pid}`))
      .map(({ id }) => id);
    return dead.length === 0;
  };
  await daemon.until(isNoneDead).catch(() => undefined);
  expect(dead).toEqual([]);
}

/**
 * Every leftover must belong to a task that is listed. A shim that was told to end may take a moment, and the daemon looks
 * for those that were on their way at the crash a second time 10 s after its start.
 */
async function checkLeaks(daemon: TestDaemon): Promise<void> {
  const { tasks } = await daemon.tasks.list({});
  let unowned: string[] = [];
  let sockets: string[] = [];
  // What the last look found counts: between fork and exec, a child of the daemon looks like a second daemon.
  const isClean = () => {
    const all = daemon.leftovers();
    sockets = all.filter((line) => line.startsWith('socket '));
    unowned = all.filter((line) => !sockets.includes(line) && !tasks.some(({ id }) => line.includes(id)));
    return unowned.length === 0 && sockets.length <= tasks.length;
  };
  await daemon.until(isClean).catch(() => undefined);
  expect(unowned).toEqual([]);
  expect(sockets.length).toBeLessThanOrEqual(tasks.length);
}
