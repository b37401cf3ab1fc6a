// Field paths of events for subscription filters: namespace, topic and event.PATH through the generated tables.

import type { Field, MessageType } from '../../proto/codec';
import * as events from '../../proto/generated/containerd.events';
import * as runc from '../../proto/generated/containerd.runc.v1';
import { ImageCreate, ImageDelete, ImageUpdate } from '../../proto/generated/containerd.services.images.v1';
import type { Envelope } from '../../proto/generated/containerd.types';
import type { Any } from '../../proto/generated/google.protobuf';
import { type Lookup, present } from '../metadata/filters';

const PAYLOADS = new Map<string, MessageType<unknown>>(
  [...Object.values(events), ...Object.values(runc), ImageCreate, ImageUpdate, ImageDelete]
    .filter((value): value is MessageType<never> => typeof value === 'object' && 'decode' in value)
    .map((type) => [(type as MessageType<unknown>).name, type as MessageType<unknown>]),
);
/** Protobuf field names that are not snake_case. */
const CAMEL_CASE_FIELDS: ReadonlySet<string> = new Set(['mediaType']);

/** Looks fields up in an envelope; payloads of unknown types have none. */
export function fieldsOf(envelope: Envelope): Lookup {
  const payload = payloadReader(envelope.event);
  return ([head, ...rest]) => {
    if (head === 'event') return payload(rest);
    if (rest.length > 0) return undefined;
    if (head === 'namespace') return present(envelope.namespace);
    return head === 'topic' ? present(envelope.topic) : undefined;
  };
}

/** The payload is decoded when a filter first asks for it. */
function payloadReader(event: Any | undefined): Lookup {
  let decoded: { type: MessageType<unknown>; value: unknown } | undefined;
  return (path) => {
    if (event === undefined) return undefined;
    decoded ??= decode(event);
    return decoded === undefined ? undefined : fieldOf(decoded.type, decoded.value, path);
  };
}

function decode(event: Any): { type: MessageType<unknown>; value: unknown } | undefined {
  const type = PAYLOADS.get(event.typeUrl);
  if (type === undefined) return undefined;
  try {
    return { type, value: type.decode(event.value) };
  } catch {
    // Publishers may send anything under a known name; such a payload has no fields.
    return undefined;
  }
}

function fieldOf(type: MessageType<unknown>, value: unknown, path: readonly string[]): string | undefined {
  const [name = '', ...rest] = path;
  const field = type.fields.find((candidate) => candidate[1] === propertyOf(name));
  if (field === undefined) return undefined;
  return read(field, (value as Record<string, unknown>)[field[1]], rest);
}

/** Numbers, lists and times cannot be filtered on, as in containerd. */
function read(field: Field, value: unknown, rest: readonly string[]): string | undefined {
  const [, , type, label = 'singular'] = field;
  if (value === undefined || label === 'repeated') return undefined;
  if (label === 'map') {
    const found = (value as Record<string, unknown>)[rest.join('.')];
    return typeof found === 'string' ? found : undefined;
  }
  if (typeof type === 'function') {
    if (type().name === 'google.protobuf.Any') return payloadReader(value as Any)(rest);
    return fieldOf(type(), value, rest);
  }
  if (type === 'string') return value === '' ? undefined : (value as string);
  return type === 'bool' ? String(value) : undefined;
}

function propertyOf(name: string): string | undefined {
  if (CAMEL_CASE_FIELDS.has(name)) return name;
  if (/[A-Z]/.test(name)) return undefined;
  return name.replace(/_([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());
}
