// Requests with small answers: manifests, tokens, checks. Bounded in bytes and time, and tried again where that may help.

import type { Requester } from './connections';
import { type Authorize, drain, errorAnswer, exchange, type HttpAnswer, type HttpRequest, placeOf } from './exchange';
import { failureAt, networkError, statusError } from './failure';
import { QUESTION_RETRIES, withRetries } from './retry';

export interface Question extends Omit<HttpRequest, 'body'> {
  readonly body?: Uint8Array;
  /** A larger body is refused. */
  readonly bytesMax: number;
  /** Tries; the usual number unless given. */
  readonly attemptsMax?: number;
}

export interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly challenges: readonly string[];
  readonly url: string;
  /** Whole for a success, else the first bytes. */
  readonly body: Uint8Array;
}

/** For the whole of an answer. */
const ANSWER_TIMEOUT_MS = 120_000;

/**
 * Answers with any status but those that another try may change.
 * @throws RegistryError, the signal's reason
 */
export function ask(
  connections: Requester,
  question: Question,
  authorize: Authorize,
  signal: AbortSignal,
): Promise<Answer> {
  const { attemptsMax = QUESTION_RETRIES.attemptsMax } = question;
  return withRetries(
    { ...QUESTION_RETRIES, attemptsMax },
    () => once(connections, question, authorize, signal),
    signal,
  );
}

async function once(
  connections: Requester,
  question: Question,
  authorize: Authorize,
  signal: AbortSignal,
): Promise<Answer> {
  const { body, ...request } = question;
  const place = placeOf(request);
  const limit = new AbortController();
  const timer = setTimeout(() => limit.abort(), ANSWER_TIMEOUT_MS);
  try {
    const both = AbortSignal.any([signal, limit.signal]);
    const answer = await exchange(
      connections,
      { ...request, body: body === undefined ? undefined : () => body },
      authorize,
      both,
    );
    const received = await content(answer, question);
    // Tokens are asked for without a scope of their own.
    if ((question.scopes?.length ?? 0) > 0) connections.onDocument?.(answer.body, received);
    return { ...answer, body: received };
  } catch (error) {
    signal.throwIfAborted();
    if (limit.signal.aborted) {
      throw failureAt(place, 'unavailable', `no whole answer in ${ANSWER_TIMEOUT_MS / 1000} s`, { canRetry: true });
    }
    throw networkError(place, error);
  } finally {
    clearTimeout(timer);
  }
}

async function content(answer: HttpAnswer, question: Question): Promise<Uint8Array> {
  const place = placeOf(question);
  if (question.method === 'HEAD') {
    await drain(answer);
    const failure = statusError(place, { ...answer, body: Buffer.alloc(0) });
    if (failure.canRetry) throw failure;
    return Buffer.alloc(0);
  }
  if (answer.status >= 300) {
    const told = await errorAnswer(answer);
    const failure = statusError(place, told);
    if (failure.canRetry) throw failure;
    return told.body;
  }
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of answer.body as AsyncIterable<Buffer>) {
    chunks.push(chunk);
    length += chunk.length;
    if (length > question.bytesMax) {
      throw failureAt(place, 'resource exhausted', `its answer is larger than ${question.bytesMax} bytes`);
    }
  }
  return Buffer.concat(chunks);
}
