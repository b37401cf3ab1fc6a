// Sends one blob to a registry (distribution-spec, pushing blobs): mounted from another repository, or in one request, or
// in chunks where the registry takes no large bodies; resumed where it broke off.

import { open } from 'node:fs/promises';
import { Readable } from 'node:stream';
import type { Requester } from './connections';
import { type Endpoint, urlAt } from './endpoint';
import { type Authorize, drain, errorAnswer, exchange, type HttpAnswer, type HttpRequest } from './exchange';
import {
  contentError,
  failureAt,
  networkError,
  type Place,
  RegistryError,
  registryWords,
  statusError,
} from './failure';
import { Pace, type PaceLimits } from './pace';
import { BLOB_RETRIES, canRetry, delayMs, pause } from './retry';

export interface UploadJob {
  readonly endpoint: Endpoint;
  readonly repository: string;
  readonly digest: string;
  readonly sizeBytes: number;
  readonly path: string;
  readonly mountFrom: readonly string[];
  readonly doing: string;
  readonly limits: PaceLimits;
}

export interface UploadContext {
  readonly connections: Requester;
  readonly authorize: Authorize;
  readonly signal: AbortSignal;
  readonly onProgress: (offsetBytes: number) => void;
}

/** Where an upload stands; everything before the offset is with the registry. */
interface Session {
  readonly url: string;
  readonly offset: number;
}

/** Of chunks, where the registry names no other minimum. */
const CHUNK_BYTES = 16 << 20;
const CHUNK_BYTES_MAX = 1 << 30;
const READ_BYTES = 256 << 10;
/** A registry may copy and hash all that it got before it answers. */
const COMMIT_TIMEOUT_MS = 900_000;
const PROGRESS_BYTES = 1 << 20;
/** Uploads that arrive with other bytes until the blob is given up. */
const CONTENT_ATTEMPTS_MAX = 2;

/** @throws RegistryError, what reading the file throws, the signal's reason */
export function upload(job: UploadJob, context: UploadContext): Promise<'uploaded' | 'mounted'> {
  return new Upload(job, context).run();
}

export function pushScope(repository: string): string {
  return `repository:${repository}:pull,push`;
}

class Upload {
  readonly #job: UploadJob;
  readonly #context: UploadContext;
  readonly #place: Place;
  /** 0: the blob goes in one piece. */
  #chunkBytes = 0;
  #session: Session | undefined;
  /** Since there was progress. */
  #attempts = 0;
  #wrong = 0;
  /** The furthest that the registry has confirmed. */
  #reached = 0;

  constructor(job: UploadJob, context: UploadContext) {
    this.#job = job;
    this.#context = context;
    this.#place = { host: job.endpoint.host, doing: job.doing };
  }

  async run(): Promise<'uploaded' | 'mounted'> {
    for (;;) {
      try {
        this.#session ??= await this.#start();
        if (this.#session === undefined) return 'mounted';
        await this.#send(this.#session);
        return 'uploaded';
      } catch (error) {
        this.#context.signal.throwIfAborted();
        await this.#recover(error);
      }
    }
  }

  /** Makes ready for another try. @throws the error when none would help */
  async #recover(error: unknown): Promise<void> {
    if (error instanceof RegistryError && error.reason === 'too large' && this.#chunkBytes === 0) {
      this.#chunkBytes = CHUNK_BYTES;
      this.#session = undefined;
      return;
    }
    this.#attempts += 1;
    if (!canRetry(error) || this.#attempts >= BLOB_RETRIES.attemptsMax) throw error;
    if (error.reason === 'content') {
      this.#wrong += 1;
      if (this.#wrong >= CONTENT_ATTEMPTS_MAX) throw error;
      this.#session = undefined;
    }
    await pause(delayMs(BLOB_RETRIES, this.#attempts, error.retryAfterMs), this.#context.signal);
    if (this.#session === undefined) return;
    this.#session = await this.#status(this.#session);
    const offset = this.#session?.offset ?? 0;
    if (offset - this.#reached >= PROGRESS_BYTES) this.#attempts = 0;
    this.#reached = Math.max(this.#reached, offset);
  }

  /** A new upload, or undefined when the registry took the blob from another repository. */
  async #start(): Promise<Session | undefined> {
    const { mountFrom, endpoint, repository, digest } = this.#job;
    const path = `${repository}/blobs/uploads/`;
    for (const from of mountFrom) {
      const scopes = [pushScope(repository), `repository:${from}:pull`];
      const url = urlAt(endpoint, path, { mount: digest, from });
      // Whatever it has against the other repository: the blob can still be sent.
      const answer = await this.#request({ method: 'POST', url, scopes }).catch((error: unknown) => {
        if (error instanceof RegistryError && !error.canRetry) return undefined;
        throw error;
      });
      if (answer === undefined) continue;
      await drain(answer);
      if (answer.status === 201) return undefined;
      if (answer.status === 202) return this.#opened(answer);
    }
    const answer = await this.#request({ method: 'POST', url: urlAt(endpoint, path) });
    if (answer.status !== 202) throw statusError(this.#place, await errorAnswer(answer));
    await drain(answer);
    return this.#opened(answer);
  }

  #opened(answer: HttpAnswer): Session {
    const chunkMin = Number(answer.headers['oci-chunk-min-length'] ?? 0);
    if (this.#chunkBytes > 0 && chunkMin > this.#chunkBytes) this.#chunkBytes = Math.min(chunkMin, CHUNK_BYTES_MAX);
    return { url: this.#location(answer), offset: 0 };
  }

  /** All bytes from where the session stands, and the digest. */
  async #send(from: Session): Promise<void> {
    const { sizeBytes } = this.#job;
    let session = from;
    if (session.offset === 0 && this.#chunkBytes === 0) return this.#finish(session, sizeBytes);
    while (session.offset < sizeBytes) {
      const end = this.#chunkBytes === 0 ? sizeBytes : Math.min(session.offset + this.#chunkBytes, sizeBytes);
      const answer = await this.#request({
        method: 'PATCH',
        url: session.url,
        headers: { ...lengthOf(end - session.offset), 'content-range': `${session.offset}-${end - 1}` },
        body: this.#bytes(session.offset, end),
        headersTimeoutMs: COMMIT_TIMEOUT_MS,
      });
      if (answer.status !== 202 && answer.status !== 201 && answer.status !== 204) {
        throw statusError(this.#place, await errorAnswer(answer));
      }
      await drain(answer);
      session = { url: this.#location(answer), offset: this.#offset(answer, end) };
      this.#session = session;
    }
    await this.#finish(session, 0);
  }

  /** Closes the upload, with the whole blob as body or with none. */
  async #finish({ url }: Session, bodyBytes: number): Promise<void> {
    const { digest, sizeBytes } = this.#job;
    const target = new URL(url);
    target.searchParams.set('digest', digest);
    const answer = await this.#request({
      method: 'PUT',
      url: target.href,
      headers: lengthOf(bodyBytes),
      body: bodyBytes === 0 ? undefined : this.#bytes(0, bodyBytes),
      headersTimeoutMs: COMMIT_TIMEOUT_MS,
    });
    if (answer.status !== 201 && answer.status !== 204) {
      const told = await errorAnswer(answer);
      const isWrong = answer.status === 400 && registryWords(told.body).includes('DIGEST_INVALID');
      throw isWrong
        ? contentError(this.#place, 'other bytes have arrived there than were sent: a proxy may change them')
        : statusError(this.#place, told);
    }
    await drain(answer);
    const stored = answer.headers['docker-content-digest'];
    if (stored !== undefined && stored !== digest) throw contentError(this.#place, `it stored the digest ${stored}`);
    this.#context.onProgress(sizeBytes);
  }

  /** Where the registry says that an upload stands; undefined when it has forgotten it. */
  async #status({ url }: Session): Promise<Session | undefined> {
    try {
      const answer = await this.#request({ method: 'GET', url });
      await drain(answer);
      if (answer.status !== 204 && answer.status !== 200) return undefined;
      return { url: this.#location(answer, url), offset: this.#offset(answer, 0) };
    } catch (error) {
      this.#context.signal.throwIfAborted();
      if (canRetry(error)) return undefined;
      throw error;
    }
  }

  /** The count of bytes that a Range header gives as `0-LAST`. */
  #offset({ headers }: HttpAnswer, otherwise: number): number {
    const last = /^(?:bytes=)?0-(\d+)$/.exec(headers['range'] ?? '')?.[1];
    // An upload without any byte has no last one; some registries say 0-0 all the same.
    if (last === undefined || (last === '0' && otherwise === 0)) return otherwise;
    const offset = Number(last) + 1;
    if (offset > this.#job.sizeBytes)
      throw contentError(this.#place, `it has ${offset} bytes of ${this.#job.sizeBytes}`);
    return offset;
  }

  #location({ headers, url }: HttpAnswer, otherwise?: string): string {
    const location = headers['location'] ?? otherwise;
    const target = location === undefined ? null : URL.parse(location, url);
    const isHttp = target?.protocol === 'https:' || target?.protocol === 'http:';
    if (target === null || !isHttp || (url.startsWith('https:') && target.protocol === 'http:')) {
      throw failureAt(this.#place, 'failed precondition', 'it does not say, or not properly, where to send the bytes');
    }
    return target.href;
  }

  async #request(request: Pick<HttpRequest, 'method' | 'url'> & Partial<HttpRequest>): Promise<HttpAnswer> {
    const { connections, authorize, signal } = this.#context;
    const { endpoint, doing, repository, limits } = this.#job;
    const stop = new AbortController();
    const both = AbortSignal.any([signal, stop.signal]);
    const { body } = request;
    let pace: Pace | undefined;
    const watched =
      body === undefined
        ? undefined
        : () => {
            pace?.stop();
            pace = new Pace(limits, (cause) =>
              stop.abort(failureAt(this.#place, 'unavailable', cause, { canRetry: true })),
            );
            return measured(body() as Readable, pace);
          };
    try {
      const scopes = [pushScope(repository)];
      const whole = { endpoint, doing, scopes, ...request, body: watched };
      return await exchange(connections, whole, authorize, both);
    } catch (error) {
      signal.throwIfAborted();
      throw networkError(this.#place, stop.signal.aborted ? stop.signal.reason : error);
    } finally {
      pace?.stop();
    }
  }

  #bytes(from: number, end: number): () => Readable {
    const { onProgress } = this.#context;
    return () => Readable.from(fileBytes(this.#job.path, { from, end, onProgress }), { objectMode: false });
  }
}

/** A body that tells when the network takes of it. The registry's time for its answer is limited elsewhere. */
function measured(body: Readable, pace: Pace): Readable {
  async function* chunks() {
    for await (const chunk of body as AsyncIterable<Buffer>) {
      pace.moved(chunk.length);
      pace.waits();
      yield chunk;
    }
    pace.stop();
  }
  return Readable.from(chunks(), { objectMode: false, highWaterMark: READ_BYTES });
}

async function* fileBytes(
  path: string,
  { from, end, onProgress }: { from: number; end: number; onProgress: (offset: number) => void },
): AsyncGenerator<Buffer> {
  const file = await open(path, 'r');
  try {
    for (let position = from; position < end; ) {
      const buffer = Buffer.allocUnsafe(Math.min(READ_BYTES, end - position));
      const { bytesRead } = await file.read(buffer, 0, buffer.length, position);
      if (bytesRead === 0) throw new Error(`${path} ends after ${position} of ${end} bytes`);
      position += bytesRead;
      onProgress(position);
      yield buffer.subarray(0, bytesRead);
    }
  } finally {
    await file.close();
  }
}

function lengthOf(bytes: number): Record<string, string> {
  return { 'content-type': 'application/octet-stream', 'content-length': String(bytes) };
}
