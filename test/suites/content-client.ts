// What the content suites share: a service under test and the ways in which clients use it.

import { createHash, randomBytes } from 'node:crypto';
import type { Input } from '../../proto/codec';
import { errorKind, messageOf } from '../../proto/errors';
import {
  ContentService,
  type Info,
  WriteAction,
  type WriteContentRequest,
  type WriteContentResponse,
} from '../../proto/generated/containerd.services.content.v1';
import type { Api, Dialog, Headers } from './api';

/** A content store under test. */
export class ContentClient {
  readonly api: Api;
  #count = 0;

  constructor(api: Api) {
    this.api = api;
  }

  newRef(): string {
    this.#count += 1;
    return `ref-${this.#count}`;
  }

  write(headers?: Headers): Dialog<WriteContentRequest, WriteContentResponse> {
    return this.api.dialog(ContentService.write, headers);
  }

  async info(digest: string, headers?: Headers): Promise<Info | undefined> {
    return (await this.api.unary(ContentService.info, { digest }, headers)).info;
  }

  async read(request: { digest: string; offset?: bigint; size?: bigint }): Promise<Buffer> {
    return Buffer.concat((await this.api.list(ContentService.read, request)).map(({ data }) => data));
  }
}

export function fresh(sizeBytes = 100): Buffer {
  return randomBytes(sizeBytes);
}

/** The first message of a Go client. */
export function start(ref: string, rest: Partial<Input<WriteContentRequest>> = {}): Input<WriteContentRequest> {
  return { action: WriteAction.STAT, ref, ...rest };
}

export function digestOf(data: Uint8Array, algorithm = 'sha256'): string {
  return `${algorithm}:${createHash(algorithm).update(data).digest('hex')}`;
}

/** Writes a blob in one go, as a client does that knows all of it. */
export async function writeBlob(
  api: Api,
  data: Uint8Array,
  options: Headers & { ref?: string; labels?: Record<string, string> } = {},
): Promise<string> {
  const expected = digestOf(data);
  const dialog = api.dialog(ContentService.write, options);
  const ref = options.ref ?? `ref-${expected}`;
  await dialog.ask({
    action: WriteAction.COMMIT,
    ref,
    expected,
    total: BigInt(data.length),
    data: Buffer.from(data),
    labels: options.labels ?? {},
  });
  await dialog.end();
  return expected;
}

export async function failure(promise: Promise<unknown>): Promise<{ kind: string | undefined; message: string }> {
  try {
    await promise;
  } catch (error) {
    return { kind: errorKind(error), message: messageOf(error) };
  }
  return { kind: 'ok', message: '' };
}

/** A stream's end reaches the server a moment after the client: tries again while the ref is locked. */
export async function retry<T>(action: () => Promise<T>): Promise<T> {
  const deadline = Date.now() + 60_000;
  for (;;) {
    try {
      return await action();
    } catch (error) {
      if (errorKind(error) !== 'unavailable' || Date.now() > deadline) throw error;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
}
