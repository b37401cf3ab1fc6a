// JSON documents that come from anywhere.

import { invalidArgument } from './errors';

/** JSON text as an object. @throws INVALID_ARGUMENT that begins with `what` */
export function parseObject(text: Uint8Array, what: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(text.buffer, text.byteOffset, text.byteLength).toString('utf8'));
  } catch (error) {
    throw invalidArgument(`${what} is not JSON`, { cause: error });
  }
  if (typeof value !== 'object' || value === null) throw invalidArgument(`${what} is not a JSON object`);
  return value as Record<string, unknown>;
}
