// gantryd's own service (gantry.admin.v1), which no other daemon has.

import { isNotImplemented } from '../proto/errors';
import { CommandError, EXIT } from './failure';
import type { Session } from './session';

/** Runs a call of that service. @throws CommandError when the daemon does not have it, or what the daemon answers */
export async function askGantryd<T>(session: Session, call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (error) {
    if (!isNotImplemented(error)) throw error;
    const why = `the daemon at ${session.address} does not offer this (gantry.admin.v1.Admin)`;
    throw new CommandError(`${why}: it takes a gantryd of this version`, EXIT.failed, { cause: error });
  }
}
