// A gRPC client of the daemon's services for tests.

import * as grpc from '@grpc/grpc-js';
import type { Input, Method } from '../../proto/codec';
import { NAMESPACE_HEADER } from '../../proto/ids';

const DEADLINE_MS = 60_000;

export type Client<S> = {
  [K in keyof S]: S[K] extends Method<infer Req, infer Res, 'unary'>
    ? (request: Input<Req>, options?: { timeoutMs?: number; namespace?: string }) => Promise<Res>
    : never;
};

/** A client whose unary methods answer with promises. */
export function client<S>(definition: S, address: string, namespace: string): Client<S> & { close(): void } {
  const Constructor = grpc.makeGenericClientConstructor(definition as unknown as grpc.ServiceDefinition, 'service');
  const raw = new Constructor(`unix:${address}`, grpc.credentials.createInsecure(), {
    'grpc.initial_reconnect_backoff_ms': 50,
    'grpc.max_reconnect_backoff_ms': 100,
  });
  const call =
    (name: string) =>
    (request: unknown, options: { timeoutMs?: number; namespace?: string } = {}) => {
      const metadata = new grpc.Metadata();
      metadata.set(NAMESPACE_HEADER, options.namespace ?? namespace);
      const deadline = Date.now() + (options.timeoutMs ?? DEADLINE_MS);
      return new Promise((fulfil, reject) => {
        const done = (error: unknown, response: unknown) => (error ? reject(error) : fulfil(response));
        (raw as unknown as Record<string, (...args: unknown[]) => void>)[name]?.(request, metadata, { deadline }, done);
      });
    };
  const methods = Object.keys(definition as object).map((name) => [name, call(name)]);
  return Object.assign(Object.fromEntries(methods), { close: () => raw.close() });
}
