// Error classes for expected failures, one per gRPC status code. Callers test with the is...() functions; the mapping
// to status numbers is in status.ts. Messages follow containerd's convention of ending with the class's own words.

import { isNativeError } from 'node:util/types';

export type ErrorKind =
  | 'canceled'
  | 'unknown'
  | 'invalid argument'
  | 'deadline exceeded'
  | 'not found'
  | 'already exists'
  | 'permission denied'
  | 'resource exhausted'
  | 'failed precondition'
  | 'aborted'
  | 'out of range'
  | 'not implemented'
  | 'internal'
  | 'unavailable'
  | 'data loss'
  | 'unauthenticated';

/** Words at the end of a message. Clients strip them before they wrap the error again. UNKNOWN has none. */
const SUFFIX: Record<ErrorKind, string> = {
  canceled: 'context canceled',
  unknown: '',
  'invalid argument': 'invalid argument',
  'deadline exceeded': 'context deadline exceeded',
  'not found': 'not found',
  'already exists': 'already exists',
  'permission denied': 'permission denied',
  'resource exhausted': 'resource exhausted',
  'failed precondition': 'failed precondition',
  aborted: 'aborted',
  'out of range': 'out of range',
  'not implemented': 'not implemented',
  internal: 'internal',
  unavailable: 'unavailable',
  'data loss': 'data loss',
  unauthenticated: 'unauthorized',
};

/** An expected failure. `message` names the object, then the cause, then the kind's words. */
export class ApiError extends Error {
  readonly kind: ErrorKind;

  constructor(kind: ErrorKind, message: string, options?: ErrorOptions) {
    super(withSuffix(message, SUFFIX[kind]), options);
    this.name = 'ApiError';
    this.kind = kind;
  }

  /** Keeps a message that came over the wire as it is. */
  static fromWire(kind: ErrorKind, message: string): ApiError {
    const error = new ApiError(kind, message);
    error.message = message;
    return error;
  }
}

export const invalidArgument = (message: string, options?: ErrorOptions) =>
  new ApiError('invalid argument', message, options);
export const notFound = (message: string, options?: ErrorOptions) => new ApiError('not found', message, options);
export const alreadyExists = (message: string, options?: ErrorOptions) =>
  new ApiError('already exists', message, options);
export const failedPrecondition = (message: string, options?: ErrorOptions) =>
  new ApiError('failed precondition', message, options);
export const outOfRange = (message: string, options?: ErrorOptions) => new ApiError('out of range', message, options);
export const unavailable = (message: string, options?: ErrorOptions) => new ApiError('unavailable', message, options);
export const notImplemented = (message: string, options?: ErrorOptions) =>
  new ApiError('not implemented', message, options);
export const permissionDenied = (message: string, options?: ErrorOptions) =>
  new ApiError('permission denied', message, options);
export const resourceExhausted = (message: string, options?: ErrorOptions) =>
  new ApiError('resource exhausted', message, options);
export const dataLoss = (message: string, options?: ErrorOptions) => new ApiError('data loss', message, options);
export const deadlineExceeded = (message: string, options?: ErrorOptions) =>
  new ApiError('deadline exceeded', message, options);
export const canceled = (message: string, options?: ErrorOptions) => new ApiError('canceled', message, options);
export const internal = (message: string, options?: ErrorOptions) => new ApiError('internal', message, options);
export const unknown = (message: string, options?: ErrorOptions) => new ApiError('unknown', message, options);

/** The kind of an error, or undefined for one that is not an expected failure. */
export function errorKind(error: unknown): ErrorKind | undefined {
  if (typeof error !== 'object' || error === null) return undefined;
  const { name, kind } = error as Partial<ApiError>;
  return name === 'ApiError' ? kind : undefined;
}

export const isNotFound = (error: unknown) => errorKind(error) === 'not found';
export const isAlreadyExists = (error: unknown) => errorKind(error) === 'already exists';
export const isFailedPrecondition = (error: unknown) => errorKind(error) === 'failed precondition';
export const isNotImplemented = (error: unknown) => errorKind(error) === 'not implemented';
export const isDeadlineExceeded = (error: unknown) => errorKind(error) === 'deadline exceeded';

/** True for an error of the operating system with this code, such as ENOENT. instanceof lies between realms. */
export function isErrno(error: unknown, ...codes: string[]): boolean {
  return isNativeError(error) && codes.includes((error as NodeJS.ErrnoException).code ?? '');
}

/** The text of anything that was thrown. */
export function messageOf(error: unknown): string {
  return isNativeError(error) || error instanceof Error ? error.message : String(error);
}

function withSuffix(message: string, suffix: string): string {
  return suffix === '' || message === suffix || message.endsWith(`: ${suffix}`) || message.endsWith(` ${suffix}`)
    ? message
    : `${message}: ${suffix}`;
}
