// google.protobuf.Any as containerd uses it: bare full names as type URLs, JSON for OCI documents.

import type { Input, MessageType } from './codec';
import { invalidArgument, messageOf } from './errors';
import type { Any } from './generated/google.protobuf';

export const SPEC_URL = 'types.containerd.io/opencontainers/runtime-spec/1/Spec';
export const PROCESS_URL = 'types.containerd.io/opencontainers/runtime-spec/1/Process';
export const FEATURES_URL = 'types.containerd.io/opencontainers/runtime-spec/1/features/Features';

export function packAny<T>(type: MessageType<T>, value: Input<T>): Any {
  return { typeUrl: type.name, value: type.encode(value) };
}

/** @throws INVALID_ARGUMENT when the Any holds another type or does not decode. */
export function unpackAny<T>(type: MessageType<T>, any: Any): T {
  if (any.typeUrl !== type.name) throw invalidArgument(`expected ${type.name}, got "${any.typeUrl}"`);
  try {
    return type.decode(any.value);
  } catch (error) {
    throw invalidArgument(`${type.name}: ${messageOf(error)}`, { cause: error });
  }
}

export function packJson(typeUrl: string, value: unknown): Any {
  return { typeUrl, value: Buffer.from(JSON.stringify(value)) };
}

/** @throws INVALID_ARGUMENT when the value is not JSON. */
export function unpackJson<T>(what: string, any: Any): T {
  try {
    return JSON.parse(any.value.toString('utf8')) as T;
  } catch (error) {
    throw invalidArgument(`${what}: not JSON: ${messageOf(error)}`, { cause: error });
  }
}
