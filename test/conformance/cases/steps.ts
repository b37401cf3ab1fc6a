// Steps that many cases share.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { waitFor } from '../../setup/command';
import type { Dialogue, Step } from '../session';

export const IMAGE = 'test/busybox:latest';

/**
 * A script that sees the first size of the test terminal, prints "ready", and sees it change to 10 rows and 20 columns. It waits in
 * between, because ctr sets the first size before it listens for changes.
 */
export const RESIZED =
  'until [ "$(stty size)" = "40 132" ]; do sleep 0.02; done 2>/dev/null; sleep 0.5; echo ready; until [ "$(stty size)" = "10 20" ]; do sleep 0.02; done; echo resized';

/** A ctr command with something on its standard input. */
export function withInput(args: readonly string[], stdin: string | Buffer): Step {
  return async (session) => void (await session.run(args, { stdin }));
}

/** A ctr command on a terminal. */
export function onTerminal(args: readonly string[], dialogue: Dialogue = []): Step {
  return (session) => session.onTerminal(args, dialogue);
}

/** Repeats a ctr command, unrecorded, until its output matches. */
export function until(args: readonly string[], pattern: RegExp): Step {
  return (session) => session.until(args, pattern);
}

/** A ctr command that is only a means and must succeed. */
export function quietly(...args: readonly string[]): Step {
  return async (session) => void (await session.quietly(args));
}

/** Starts a container that runs until it is killed; SIGTERM makes it exit 42. `ready` is printed when the trap is set. */
export function idle(id: string, ...flags: readonly string[]): Step[] {
  // Always two processes, so that ps has the same to show each time.
  const script = 'trap "exit 42" TERM; sleep 100000 & touch /ready; wait';
  return [['run', '-d', '--fifo-dir', '$SCRATCH/fifo', ...flags, IMAGE, id, 'sh', '-c', script], ready(id)];
}

/** Waits until the container has made the file /ready. */
export function ready(id: string): Step {
  let count = 0;
  return async (session) => {
    count += 1;
    const probe = [
      'tasks',
      'exec',
      '--exec-id',
      `probe${count}`,
      id,
      'sh',
      '-c',
      'until [ -e /ready ]; do sleep 0.02; done',
    ];
    await session.quietly(probe);
  };
}

/** Waits until the task has ended. */
export function stopped(id: string): Step {
  return until(['tasks', 'ls'], new RegExp(`^${id} .*STOPPED`, 'm'));
}

/** Kills and removes a container of {@link idle}. */
export function remove(id: string): Step[] {
  return [
    quietly('tasks', 'kill', '-s', 'KILL', id),
    stopped(id),
    quietly('tasks', 'delete', id),
    quietly('containers', 'rm', id),
  ];
}

/** Waits until a log in the scratch directory holds all of the texts; notes its lines, in alphabetical order. */
export function logged(name: string, ...texts: readonly string[]): Step {
  return async (session) => {
    const read = () => readFileSync(join(session.scratch, name), 'utf8');
    await waitFor(`${texts.join(', ')} in ${name}`, () => texts.every((text) => read().includes(text)));
    session.note(read().trim().split('\n').sort().join(' '));
  };
}

/** Runs garbage collection to its end: none is left to come that could take what has no reference yet. */
export function collected(): Step {
  return async (session) => {
    await session.quietly(['leases', 'create', '--id', 'collect']);
    await session.quietly(['leases', 'rm', '--sync', 'collect']);
  };
}
