// Tries again what may go right the next time: exponential back-off with full jitter, or what the registry asks for.

import { setTimeout as sleep } from 'node:timers/promises';
import { RegistryError } from './failure';

export interface RetryPolicy {
  /** Tries without any progress between them. */
  readonly attemptsMax: number;
  readonly delayMsMin: number;
  readonly delayMsMax: number;
}

/** Questions: a person waits for the answer, and there may be another host to ask. */
export const QUESTION_RETRIES: RetryPolicy = { attemptsMax: 4, delayMsMin: 200, delayMsMax: 4_000 };
/** Blobs: long enough for a registry to be started again. */
export const BLOB_RETRIES: RetryPolicy = { attemptsMax: 8, delayMsMin: 250, delayMsMax: 10_000 };

/** How long to wait before try `attempt` (the second is 1). */
export function delayMs(policy: RetryPolicy, attempt: number, retryAfterMs: number): number {
  const limit = Math.min(policy.delayMsMax, policy.delayMsMin * 2 ** (attempt - 1));
  return Math.max(retryAfterMs, limit * (0.5 + Math.random() / 2));
}

/** Whether an error may go away when the same is done again. */
export function canRetry(error: unknown): error is RegistryError {
  return error instanceof RegistryError && error.canRetry;
}

/** Runs `body` until it succeeds, fails for good or has used up its tries. @throws the last error, the signal's reason */
export async function withRetries<T>(policy: RetryPolicy, body: () => Promise<T>, signal: AbortSignal): Promise<T> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await body();
    } catch (error) {
      signal.throwIfAborted();
      if (!canRetry(error) || attempt >= policy.attemptsMax) throw error;
      await pause(delayMs(policy, attempt, error.retryAfterMs), signal);
    }
  }
}

/** @throws the signal's reason */
export async function pause(ms: number, signal: AbortSignal): Promise<void> {
  await sleep(ms, undefined, { signal }).catch(() => signal.throwIfAborted());
}
