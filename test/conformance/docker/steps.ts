// Steps that the docker cases share. `$IMAGE` is the busybox image that each host has.

import type { Step } from '../session';

export { onTerminal, quietly, until, withInput } from '../cases/steps';

/** `docker run --rm` of the image with flags, then a script for its shell. */
export function sh(script: string, ...flags: readonly string[]): string[] {
  return ['run', '--rm', ...flags, '$IMAGE', 'sh', '-c', script];
}

/** Starts a container that runs until it is killed; SIGTERM makes it exit 42. The next step finds the trap set. */
export function idle(name: string, ...flags: readonly string[]): Step[] {
  // Always two processes, so that top has the same to show each time.
  const script = 'trap "exit 42" TERM; sleep 100000 & touch /dev/shm/ready; wait';
  return [['run', '-d', '--name', name, ...flags, '$IMAGE', 'sh', '-c', script], ready(name)];
}

/** `docker run` of what takes more memory than it may have. */
export function greedy(name: string): string[] {
  const limits = ['-m', '16m', '--memory-swap', '16m'];
  return ['run', '--name', name, ...limits, '$IMAGE', 'sh', '-c', 'x=a; while :; do x=$x$x; done'];
}

export function ready(name: string): Step {
  return async (session) => {
    await session.quietly(['exec', name, 'sh', '-c', 'until [ -e /dev/shm/ready ]; do sleep 0.02; done']);
  };
}

/** A field of `docker inspect`, by its template without the braces. */
export function show(name: string, ...fields: readonly string[]): string[] {
  return ['inspect', '--format', fields.map((field) => `{{${field}}}`).join(' '), name];
}

/** Waits until a container is in a state: exited, paused, running... */
export function inState(name: string, state: string): Step {
  return async (session) => session.until(show(name, '.State.Status'), new RegExp(`^${state}$`, 'm'));
}

/** Kills and removes containers with their volumes. */
export function remove(...names: readonly string[]): Step {
  return async (session) => void (await session.quietly(['rm', '--force', '--volumes', ...names]));
}

/** Notes the lines of a command that prints them in any order. */
export function sorted(...args: readonly string[]): Step {
  return async (session) => session.note((await session.quietly(args)).trim().split('\n').sort().join(', '));
}
