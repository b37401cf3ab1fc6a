// Errors of the runtime in the words of runc's shim, which clients look for.

import { errorKind, messageOf, notFound, unknown } from '../proto/errors';

/** Passes the result on. @throws UNKNOWN with `what` in front of the runtime's words. */
export async function orFail<T>(what: string, work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    throw runtimeError(what, error);
  }
}

/** An error of the runtime with what was being done in front of its own words. */
export function runtimeError(what: string, error: unknown): Error {
  return unknown(`${what}: ${messageOf(error)}`, { cause: error });
}

/** What Kill says when the signal could not be sent: NOT_FOUND when the process is gone. */
export function asKillError(error: unknown): Error {
  const code = (error as NodeJS.ErrnoException).code;
  if (code === 'ESRCH' || errorKind(error) === 'not found') return notFound('process already finished');
  return unknown(`unknown error after kill: ${messageOf(error)}`, { cause: error });
}
