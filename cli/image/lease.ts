// Short leases: they keep new objects from garbage collection until something refers to them.

import { randomBytes } from 'node:crypto';
import { constants } from 'node:os';
import { isNotFound } from '../../proto/errors';
import { nowNs } from '../../proto/time';
import type { Session } from '../session';

const LEASE_HOURS = 24;
/** How long an interrupted command may take to give its leases back. */
const RELEASE_MS = 2000;
const INTERRUPTIONS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/** Ends of the leases that are held now. */
const held = new Set<() => Promise<void>>();

/**
 * Runs a body under a lease of its own, which ends with it, also when a signal ends this process. Should the process
 * be killed, the lease expires by itself.
 */
export async function withLease<T>(session: Session, body: (lease: string) => Promise<T>): Promise<T> {
  const id = `${nowNs() % 1_000_000_000n}-${randomBytes(3).toString('base64url')}`;
  const expire = new Date(Date.now() + LEASE_HOURS * 3_600_000).toISOString();
  const release = async (): Promise<void> => {
    held.delete(release);
    await session.connection.leases.delete({ id }).catch((error: unknown) => {
      if (!isNotFound(error)) throw error;
    });
  };
  await session.connection.leases.create({ id, labels: { 'containerd.io/gc.expire': expire } });
  held.add(release);
  try {
    return await untilInterrupted(() => body(id));
  } finally {
    await release();
  }
}

/** Runs a body; a signal meanwhile ends this process as endInterrupted() does. */
export async function untilInterrupted<T>(body: () => Promise<T>): Promise<T> {
  const stopListening = onInterruption();
  try {
    return await body();
  } finally {
    stopListening();
  }
}

/** Ends this process as a signal would, once its leases are given back. */
export async function endInterrupted(signal: number): Promise<never> {
  const { promise, resolve } = Promise.withResolvers<void>();
  setTimeout(resolve, RELEASE_MS);
  await Promise.race([Promise.allSettled([...held].map((release) => release())), promise]);
  process.exit(128 + signal);
}

/** Listens unless somebody else does, who then decides what a signal means. */
function onInterruption(): () => void {
  const listeners = INTERRUPTIONS.filter((name) => process.listenerCount(name) === 0).map((name) => {
    const listener = (): void => void endInterrupted(constants.signals[name]);
    process.once(name, listener);
    return () => process.off(name, listener);
  });
  return () => {
    for (const stop of listeners) stop();
  };
}
