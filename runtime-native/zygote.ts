// Forks of this very process: see zygote.c. A child shares the memory of the zygote until it writes to it, which is why it
// starts in a few milliseconds and stays small. That a Node process can be forked is not promised by anybody: who uses
// this tests it first (shim/zygote.ts) and has another way.

import { libgantry, type NativeFunction } from './library';
import { checkResult } from './system-error';

const ENOSYS = -38;

/**
 * Serves fork requests on a socket, without the event loop, until its other end is closed.
 * @param buffer room for one request; in a child it starts with the bytes that the request carries for it
 * @returns in each child the number of those bytes, in the zygote undefined
 * @throws system errors of the socket
 */
export function serveForks(control: number, buffer: Buffer): number | undefined {
  const serve = libgantry().func('int gantry_zygote_serve(int control, void *buffer, int64_t size)');
  const length = checkResult(serve(control, buffer, buffer.length) as number, 'fork');
  return length === 0 ? undefined : length;
}

/** fork(2): the pid of the child, or 0 in the child. */
export function forkOnce(): number {
  return checkResult(libgantry().func('int gantry_zygote_fork()')() as number, 'fork');
}

/**
 * The first thing that a child does: gives it an event loop and a pid of its own, and an exit that waits for no thread of
 * the zygote.
 * @throws ENOSYS when Node does not offer what it takes
 */
export function becomeForked(): void {
  const exitNow = libgantry().func('void gantry_exit_now(int status)');
  process.on('exit', (status) => exitNow(status));
  checkResult(libgantry().func('int gantry_zygote_renew_loop()')() as number, 'uv_loop_fork');
  const description = Object.getOwnPropertyDescriptor(process, 'pid');
  if (description?.configurable !== true) checkResult(ENOSYS, 'process.pid');
  const pid = currentPid();
  Object.defineProperty(process, 'pid', { value: pid, configurable: true, enumerable: true, writable: false });
}

function currentPid(): number {
  const getpid: NativeFunction = libgantry().func('int gantry_zygote_pid()');
  return getpid() as number;
}
