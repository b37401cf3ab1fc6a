// containerd.services.content.v1: blobs and ingests over gRPC. The rules of a Write stream are those of containerd's
// content server; the bytes are content/'s.

import type { FileHandle } from 'node:fs/promises';
import { alreadyExists, dataLoss, invalidArgument, messageOf, outOfRange } from '../../proto/errors';
import {
  ContentService,
  type Info,
  type ReadContentRequest,
  type ReadContentResponse,
  type Status,
  WriteAction,
  type WriteContentRequest,
  type WriteContentResponse,
} from '../../proto/generated/containerd.services.content.v1';
import { checkDigest } from '../../proto/ids';
import { nowNs, toTimestamp } from '../../proto/time';
import type { ContentStore } from '../content/store';
import type { IngestStatus, Writer } from '../content/writer';
import { type CallContext, defineService, type Service } from '../grpc/handler';
import type { BlobRecord } from '../metadata/blob-store';
import { parseFilters } from '../metadata/filters';
import { roomyHeap } from '../roomy-heap';
import { leaseOf } from './leases';

const LIST_PAGE = 100;
const READ_CHUNK_BYTES = 1 << 20;

export function contentService({ content }: { content: ContentStore }): Service {
  return defineService(ContentService, {
    info: ({ digest }, context) => {
      const namespace = context.requireNamespace();
      return { info: toInfo(content.blobs.get(namespace, validDigest(digest))) };
    },

    update: ({ info, updateMask }, context) => {
      const namespace = context.requireNamespace();
      const digest = validDigest(info?.digest ?? '');
      const change = { digest, labels: info?.labels ?? {}, paths: updateMask?.paths ?? [], nowNs: nowNs() };
      return { info: toInfo(content.blobs.update(namespace, change)) };
    },

    list: ({ filters }, context) => list(content, filters, context.requireNamespace()),

    delete: ({ digest }, context) => {
      content.remove(context.requireNamespace(), validDigest(digest), leaseOf(context));
      return {};
    },

    read: (request, context) => read(content, request, context.requireNamespace()),

    status: async ({ ref }, context) => ({
      status: toStatus(await content.status(context.requireNamespace(), ref)),
    }),

    listStatuses: async ({ filters }, context) => {
      const filter = parseFilters(filters);
      const matches = (ref: string) => filter.matches((path) => (path.join('.') === 'ref' ? ref : undefined));
      return { statuses: (await content.statuses(context.requireNamespace(), matches)).map(toStatus) };
    },

    write: (requests, context) => write(content, requests, context),

    abort: async ({ ref }, context) => {
      await content.abort(context.requireNamespace(), ref, leaseOf(context));
      return {};
    },
  });
}

async function* list(content: ContentStore, filters: readonly string[], namespace: string) {
  const filter = parseFilters(filters);
  let batch: Info[] = [];
  let page = content.blobs.page(namespace, '', LIST_PAGE);
  while (page.length > 0) {
    for (const blob of page) {
      if (!filter.matches((path) => lookup(blob, path))) continue;
      batch.push(toInfo(blob));
      if (batch.length < LIST_PAGE) continue;
      yield { info: batch };
      batch = [];
    }
    page = content.blobs.page(namespace, page.at(-1)?.digest ?? '', LIST_PAGE);
  }
  if (batch.length > 0) yield { info: batch };
}

function read(
  content: ContentStore,
  { digest, offset, size }: ReadContentRequest,
  namespace: string,
): AsyncIterable<ReadContentResponse> {
  const { sizeBytes } = content.blobs.get(namespace, validDigest(digest));
  if (offset > sizeBytes) throw outOfRange(`read past object length ${sizeBytes} bytes`);
  const start = offset < 0n ? 0n : offset;
  const end = size <= 0n || start + size > sizeBytes ? sizeBytes : start + size;
  return content.readBlob(digest, (file) => chunksOf(file, { digest, start, end }));
}

async function* chunksOf(
  file: FileHandle,
  { digest, start, end }: { digest: string; start: bigint; end: bigint },
): AsyncGenerator<ReadContentResponse> {
  using _room = roomyHeap();
  for (let position = start; position < end; ) {
    const length = Math.min(Number(end - position), READ_CHUNK_BYTES);
    // A fresh buffer each time: the one before may still be on its way to the client.
    const { bytesRead, buffer } = await file.read(Buffer.allocUnsafe(length), 0, length, Number(position));
    if (bytesRead === 0) throw dataLoss(`content ${digest} ends at ${position} bytes instead of ${end}`);
    // The offset counts from where the client began to read, as containerd has it.
    yield { offset: position - start, data: buffer.subarray(0, bytesRead) };
    position += BigInt(bytesRead);
  }
}

async function* write(
  content: ContentStore,
  requests: AsyncIterable<WriteContentRequest>,
  context: CallContext,
): AsyncGenerator<WriteContentResponse> {
  using _room = roomyHeap();
  const namespace = context.requireNamespace();
  let session: WriteSession | undefined;
  let last: WriteContentResponse | undefined;
  try {
    for await (const request of requests) {
      session ??= await WriteSession.open(content, request, { namespace, lease: leaseOf(context) });
      last = await session.handle(request);
      yield last;
      if (request.action === WriteAction.COMMIT) break;
    }
  } finally {
    await session?.close();
  }
  // containerd repeats its last answer at the end of the stream; clients may wait for either.
  if (last !== undefined) yield last;
}

/** One Write stream: its ingest, and the total and digest that later messages may have changed. */
class WriteSession {
  readonly #content: ContentStore;
  readonly #caller: { namespace: string; lease: string | undefined };
  readonly #writer: Writer;
  readonly #ref: string;
  #total: bigint;
  #expected: string;

  private constructor(
    content: ContentStore,
    caller: { namespace: string; lease: string | undefined },
    writer: Writer,
    request: WriteContentRequest,
  ) {
    this.#content = content;
    this.#caller = caller;
    this.#writer = writer;
    this.#ref = request.ref;
    this.#total = request.total;
    this.#expected = request.expected;
  }

  static async open(
    content: ContentStore,
    first: WriteContentRequest,
    caller: { namespace: string; lease: string | undefined },
  ): Promise<WriteSession> {
    const { ref, expected, total } = first;
    if (ref === '') throw invalidArgument('first message must have a reference');
    const writer = await content.openWriter({ ...caller, ref, expected, totalBytes: total });
    return new WriteSession(content, caller, writer, first);
  }

  async handle(request: WriteContentRequest): Promise<WriteContentResponse> {
    const { action, total, expected } = request;
    const { startedAtNs, updatedAtNs, offsetBytes } = this.#writer.status;
    if (expected !== '') await this.#expect(expected);
    if (total > 0n) this.#total = total;
    const response: WriteContentResponse = {
      action,
      startedAt: undefined,
      updatedAt: undefined,
      offset: offsetBytes,
      total: 0n,
      digest: '',
    };
    if (action === WriteAction.STAT) {
      const times = { startedAt: toTimestamp(startedAtNs), updatedAt: toTimestamp(updatedAtNs) };
      return { ...response, ...times, total: this.#total, digest: this.#writer.digest() };
    }
    if (action !== WriteAction.WRITE && action !== WriteAction.COMMIT) return response;
    const offset = await this.#write(request, offsetBytes);
    if (action === WriteAction.WRITE) return { ...response, offset, digest: this.#writer.digest() };
    const { labels } = request;
    const { digest } = await this.#writer.commit({ sizeBytes: this.#total, expected: this.#expected, labels });
    return { ...response, offset, digest };
  }

  async close(): Promise<void> {
    await this.#writer.close();
  }

  /** A blob that has come to exist meanwhile ends the stream and drops the ingest. */
  async #expect(expected: string): Promise<void> {
    const { namespace, lease } = this.#caller;
    this.#expected = checkDigest(expected);
    if (!this.#content.isStored(namespace, expected)) return;
    await this.#writer.close();
    await this.#content.abort(namespace, this.#ref, lease);
    throw alreadyExists(`blob with expected digest ${expected} exists`);
  }

  /** Appends the message's data, after dropping what is there when the offset is 0; returns the new offset. */
  async #write({ offset, data }: WriteContentRequest, current: bigint): Promise<bigint> {
    if (offset > 0n && offset !== current) {
      throw outOfRange(`write @${offset} must occur at current offset ${current}`);
    }
    if (offset <= 0n && current > 0n) await this.#writer.reset();
    await this.#writer.append(data);
    return (offset > 0n ? current : 0n) + BigInt(data.length);
  }
}

function validDigest(digest: string): string {
  try {
    return checkDigest(digest);
  } catch (error) {
    throw invalidArgument(`"${digest}" failed validation: ${messageOf(error)}`, { cause: error });
  }
}

function toInfo({ digest, sizeBytes, labels, createdAtNs, updatedAtNs }: BlobRecord): Info {
  return {
    digest,
    size: sizeBytes,
    labels,
    createdAt: toTimestamp(createdAtNs),
    updatedAt: toTimestamp(updatedAtNs),
  };
}

function toStatus({ ref, offsetBytes, totalBytes, startedAtNs, updatedAtNs }: IngestStatus): Status {
  return {
    ref,
    offset: offsetBytes,
    total: totalBytes,
    expected: '',
    startedAt: toTimestamp(startedAtNs),
    updatedAt: toTimestamp(updatedAtNs),
  };
}

function lookup(blob: BlobRecord, [field, ...rest]: readonly string[]): string | undefined {
  if (field === 'digest') return blob.digest;
  return field === 'labels' ? blob.labels[rest.join('.')] : undefined;
}
