// Brings one blob into a file: from where the file ends, from the first source that has it, until every byte is proved.

import { isNotFound } from '../../../proto/errors';
import { explainFullDisk } from '../../content/ingest-file';
import { BlobFile } from './blob-file';
import type { Requester } from './connections';
import type { Endpoint } from './endpoint';
import { type Authorize, errorAnswer, exchange, type HttpAnswer } from './exchange';
import { contentError, failureAt, type Place, printable, RegistryError, statusError } from './failure';
import { type PaceLimits, paced } from './pace';
import { RANGE_BYTES, type RangeBudget, Ranges } from './ranges';
import { BLOB_RETRIES, canRetry, delayMs, pause } from './retry';

export interface DownloadSource {
  readonly endpoint: Endpoint;
  readonly url: string;
  /** Undefined: nobody is told who we are. */
  readonly scopes: readonly string[] | undefined;
  readonly accept: string;
}

export interface DownloadJob {
  /** In the order in which they are asked; not empty. */
  readonly sources: readonly DownloadSource[];
  readonly path: string;
  readonly digest: string;
  readonly sizeBytes: number;
  readonly doing: string;
  readonly limits: PaceLimits;
}

export interface DownloadContext {
  readonly connections: Requester;
  readonly budget: RangeBudget;
  readonly authorize: Authorize;
  readonly signal: AbortSignal;
  readonly onProgress: (offsetBytes: number) => void;
}

/** Bytes of a blob. */
interface Part {
  readonly first: number;
  /** Unset: to the end; the whole blob will do as well. */
  readonly last?: number;
  /** Unset: the source's own. */
  readonly url?: string;
}

/** Tries at a mirror; the last source has those of BLOB_RETRIES. */
const MIRROR_ATTEMPTS_MAX = 3;
/** Wrong bytes that one source may send before it is given up. */
const CONTENT_ATTEMPTS_MAX = 2;
/** Progress that makes a broken connection no failure of the source. */
const PROGRESS_BYTES = 1 << 20;
/** A body is split into ranges when its rate has been seen for a while, is low, and the rest would still take long. */
const SPLIT_AFTER_MS = 500;
const SPLIT_REST_MS = 2_000;
const SPLIT_BYTES_PER_MS_MAX = 16_000;
const SPLIT_BYTES_MIN = 8 * RANGE_BYTES;

/** @throws RegistryError, RESOURCE_EXHAUSTED when the disk is full, the signal's reason; the file keeps what has come */
export async function download(job: DownloadJob, context: DownloadContext): Promise<void> {
  const open = () => BlobFile.open(job.path, job.digest, job.sizeBytes);
  const file = await open().catch((error: unknown) => {
    throw explainFullDisk(error, job.doing);
  });
  try {
    await new Download(job, context, file).run();
  } catch (error) {
    throw explainFullDisk(error, job.doing);
  } finally {
    await file.close();
  }
}

class Download {
  readonly #job: DownloadJob;
  readonly #context: DownloadContext;
  readonly #file: BlobFile;

  constructor(job: DownloadJob, context: DownloadContext, file: BlobFile) {
    this.#job = job;
    this.#context = context;
    this.#file = file;
  }

  async run(): Promise<void> {
    const failures: RegistryError[] = [];
    const { sources } = this.#job;
    for (const [index, source] of sources.entries()) {
      const isLast = index === sources.length - 1;
      try {
        await this.#from(source, isLast ? BLOB_RETRIES.attemptsMax : MIRROR_ATTEMPTS_MAX);
        return;
      } catch (error) {
        this.#context.signal.throwIfAborted();
        if (!(error instanceof RegistryError)) throw error;
        // Not to be found under a second path either: the first says enough.
        const isSame = isNotFound(error) && sources[index - 1]?.endpoint.url === source.endpoint.url;
        if (!isSame) failures.push(error);
      }
    }
    throw together(failures);
  }

  /** Everything from one source. */
  async #from(source: DownloadSource, attemptsMax: number): Promise<void> {
    const { signal } = this.#context;
    let attempts = 0;
    let wrong = 0;
    for (;;) {
      const before = this.#file.sizeBytes;
      try {
        await this.#attempt(source);
        return;
      } catch (error) {
        signal.throwIfAborted();
        if (!canRetry(error)) throw error;
        if (error.reason === 'content') wrong += 1;
        attempts = this.#file.sizeBytes - before >= PROGRESS_BYTES ? 1 : attempts + 1;
        if (attempts >= attemptsMax || wrong >= CONTENT_ATTEMPTS_MAX) throw error;
        await pause(delayMs(BLOB_RETRIES, attempts, error.retryAfterMs), signal);
      }
    }
  }

  async #attempt(source: DownloadSource): Promise<void> {
    const { digest, sizeBytes } = this.#job;
    const file = this.#file;
    if (file.sizeBytes < sizeBytes) await this.#receive(source);
    const actual = file.digest();
    if (actual === digest) return;
    file.restart();
    this.#context.onProgress(0);
    throw contentError(
      this.#place(source),
      `its bytes have the digest ${actual}: the registry, or a proxy, changes them`,
    );
  }

  /** The rest of the blob, from the end of the file. */
  async #receive(source: DownloadSource): Promise<void> {
    const { sizeBytes, limits } = this.#job;
    const file = this.#file;
    const place = this.#place(source);
    const offset = file.sizeBytes;
    const answer = await this.#open(source, { first: offset }, this.#context.signal);
    // A registry without ranges sends the blob from its start.
    let skip = answer.status === 206 ? 0 : offset;
    const startedMs = networkMs();
    let ranges: Ranges | undefined;
    try {
      for await (const chunk of paced(answer.body, limits, place)) {
        const wanted = skip === 0 ? chunk : chunk.subarray(Math.min(skip, chunk.length));
        skip -= chunk.length - wanted.length;
        const room = (ranges?.from ?? sizeBytes) - file.sizeBytes;
        if (ranges === undefined && wanted.length > room)
          throw contentError(place, `it sends more than ${sizeBytes} bytes`);
        this.#append(wanted.subarray(0, room));
        if (ranges !== undefined && file.sizeBytes === ranges.from) break;
        if (ranges === undefined && this.#isWorthSplitting(answer, offset, networkMs() - startedMs)) {
          ranges = this.#split(source, answer.url);
        }
      }
      if (ranges !== undefined && file.sizeBytes === ranges.from) {
        for await (const buffer of ranges.buffers()) this.#append(buffer);
      }
    } finally {
      await ranges?.[Symbol.asyncDispose]();
    }
    if (file.sizeBytes === sizeBytes) return;
    const cause = `the connection ended after ${file.sizeBytes} of ${sizeBytes} bytes`;
    throw failureAt(place, 'unavailable', cause, { canRetry: true });
  }

  async #open(source: DownloadSource, part: Part, signal: AbortSignal): Promise<HttpAnswer> {
    const { connections, authorize } = this.#context;
    const { endpoint, scopes, accept } = source;
    const { first, last, url = source.url } = part;
    const isWhole = first === 0 && last === undefined;
    const headers = { accept, ...(isWhole ? {} : { range: `bytes=${first}-${last ?? ''}` }) };
    const { doing } = this.#job;
    const answer = await exchange(
      connections,
      { endpoint, method: 'GET', url, headers, doing, scopes },
      authorize,
      signal,
    );
    try {
      await this.#check(answer, source, part);
    } catch (error) {
      answer.body.destroy();
      throw error;
    }
    return answer;
  }

  /** @throws RegistryError for anything but the bytes that were asked for, or all of them */
  async #check(answer: HttpAnswer, source: DownloadSource, { first, last }: Part): Promise<void> {
    const { sizeBytes } = this.#job;
    const place = this.#place(source);
    const { status, headers } = answer;
    if (status === 416) {
      this.#file.restart();
      throw contentError(
        place,
        `it has no bytes after the first ${first}: the blob there is smaller than it should be`,
      );
    }
    if (status !== 200 && status !== 206) throw statusError(place, await errorAnswer(answer));
    if (status === 200 && last !== undefined) throw contentError(place, 'it gives no ranges, though it says so');
    const encoding = headers['content-encoding'] ?? 'identity';
    if (encoding !== 'identity')
      throw contentError(place, `it sends the content encoding "${printable(encoding)}" unasked`);
    const start = status === 206 ? first : 0;
    const end = status === 206 ? (last ?? sizeBytes - 1) : sizeBytes - 1;
    const range = headers['content-range'] ?? '';
    if (status === 206 && !range.startsWith(`bytes ${start}-${end}/`)) {
      throw contentError(place, `asked for bytes ${start}-${end}, it sends "${printable(range)}"`);
    }
    const length = headers['content-length'];
    if (length !== undefined && Number(length) !== end - start + 1) {
      throw contentError(place, `it has ${printable(length)} bytes where ${end - start + 1} are expected`);
    }
  }

  #isWorthSplitting({ status, headers }: HttpAnswer, offset: number, elapsedMs: number): boolean {
    if (elapsedMs < SPLIT_AFTER_MS || (status !== 206 && headers['accept-ranges'] !== 'bytes')) return false;
    const received = this.#file.sizeBytes - offset;
    const rest = this.#job.sizeBytes - this.#file.sizeBytes;
    const bytesPerMs = received / elapsedMs;
    return rest >= SPLIT_BYTES_MIN && bytesPerMs < SPLIT_BYTES_PER_MS_MAX && rest / bytesPerMs > SPLIT_REST_MS;
  }

  /** Ranges that begin a little ahead, up to where the body goes on alone. */
  #split(source: DownloadSource, redirectedUrl: string): Ranges {
    const { budget, signal } = this.#context;
    const { sizeBytes, limits } = this.#job;
    // Where the registry redirects to is asked directly, until it refuses, as signed URLs do in the end.
    let url = redirectedUrl;
    const open = async (first: number, last: number, both: AbortSignal) => {
      try {
        return await this.#open(source, { first, last, url }, both);
      } catch (error) {
        if (url === source.url || both.aborted) throw error;
        url = source.url;
        return this.#open(source, { first, last }, both);
      }
    };
    const from = this.#file.sizeBytes + RANGE_BYTES;
    return new Ranges({ from, sizeBytes, open, budget, limits, place: this.#place(source), signal });
  }

  #append(chunk: Uint8Array): void {
    if (chunk.length === 0) return;
    this.#file.append(chunk);
    this.#context.onProgress(this.#file.sizeBytes);
  }

  #place({ endpoint }: DownloadSource): Place {
    return { host: endpoint.host, doing: this.#job.doing };
  }
}

/** A clock that stands still while the thread is held up by the disk. */
function networkMs(): number {
  return performance.now() - BlobFile.writingMs;
}

/** The error of the last host, which is the registry itself, with those of the mirrors before it. */
export function together(failures: readonly RegistryError[]): RegistryError {
  const last = failures.at(-1) as RegistryError;
  if (failures.length === 1) return last;
  const before = failures.slice(0, -1).map(({ message }) => message);
  return new RegistryError(last.kind, `${before.join('; ')}; ${last.message}`, { cause: last, reason: last.reason });
}
