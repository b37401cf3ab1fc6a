// The one place where error kinds and gRPC status codes meet (gRPC core, doc/statuscodes.md).

import { ApiError, type ErrorKind, errorKind, messageOf } from './errors';

const CODES: Record<ErrorKind, number> = {
  canceled: 1,
  unknown: 2,
  'invalid argument': 3,
  'deadline exceeded': 4,
  'not found': 5,
  'already exists': 6,
  'permission denied': 7,
  'resource exhausted': 8,
  'failed precondition': 9,
  aborted: 10,
  'out of range': 11,
  'not implemented': 12,
  internal: 13,
  unavailable: 14,
  'data loss': 15,
  unauthenticated: 16,
};
const KINDS = new Map(Object.entries(CODES).map(([kind, code]) => [code, kind as ErrorKind]));

/** Status of any thrown value: UNKNOWN for what is not an expected failure, as a Go server would answer. */
export function toStatus(error: unknown): { code: number; message: string } {
  return { code: CODES[errorKind(error) ?? 'unknown'], message: messageOf(error) };
}

/** The error for a status that came over the wire, its message unchanged. */
export function fromStatus(code: number, message: string): ApiError {
  return ApiError.fromWire(KINDS.get(code) ?? 'unknown', message);
}
