// What a gRPC service is to this daemon: a generated definition and typed handlers. call.ts puts them on the wire.

import type { Input, Method, StreamKind } from '../../proto/codec';

/** What a handler knows about its call. */
export interface CallContext {
  readonly method: string;
  readonly namespace: string | undefined;
  readonly lease: string | undefined;
  /** Aborts when the client cancels, goes away, or the deadline passes. */
  readonly signal: AbortSignal;
  /** @throws FAILED_PRECONDITION without the header, INVALID_ARGUMENT for a malformed one. */
  requireNamespace(): string;
}

export type Handler<M> = M extends Method<infer Req, infer Res, infer Kind> ? HandlerOf<Req, Res, Kind> : never;

type HandlerOf<Req, Res, Kind extends StreamKind> = Kind extends 'unary'
  ? (request: Req, context: CallContext) => Input<Res> | Promise<Input<Res>>
  : Kind extends 'server'
    ? (request: Req, context: CallContext) => AsyncIterable<Input<Res>>
    : Kind extends 'client'
      ? (requests: AsyncIterable<Req>, context: CallContext) => Promise<Input<Res>>
      : (requests: AsyncIterable<Req>, context: CallContext) => AsyncIterable<Input<Res>>;

export type HandlersOf<S> = { readonly [K in keyof S]: Handler<S[K]> };

export interface Service {
  readonly definition: Record<string, Method<unknown, unknown>>;
  readonly handlers: Record<string, (request: never, context: CallContext) => unknown>;
}

export function defineService<S extends Record<string, unknown>>(definition: S, handlers: HandlersOf<S>): Service {
  return { definition, handlers } as unknown as Service;
}
