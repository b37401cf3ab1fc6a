// Field paths of events for subscription filters: namespace, topic, event.PATH through the generated tables.

import type { MessageType } from '../../proto/codec';
import * as events from '../../proto/generated/containerd.events';
import type { Envelope } from '../../proto/generated/containerd.types';
import type { Lookup } from '../metadata/filters';

const TYPES = new Map<string, MessageType<unknown>>(
  Object.values(events).map((type) => [type.name, type as MessageType<unknown>]),
);

/** Looks fields up in an envelope; payloads of unknown types have none. The payload is decoded at most once. */
export function fieldsOf(envelope: Envelope): Lookup {
  let payload: { type: MessageType<unknown>; value: Record<string, unknown> } | undefined;
  return (path) => {
    const [head, ...rest] = path;
    if (rest.length === 0 && head === 'namespace') return envelope.namespace;
    if (rest.length === 0 && head === 'topic') return envelope.topic;
    if (head !== 'event' || envelope.event === undefined) return undefined;
    const type = TYPES.get(envelope.event.typeUrl);
    if (type === undefined) return undefined;
    payload ??= { type, value: type.decode(envelope.event.value) as Record<string, unknown> };
    return lookUp(payload.type, payload.value, rest);
  };
}

/** Only strings, booleans, sub-messages and maps of strings can be filtered on; names are those of the .proto files. */
function lookUp(
  type: MessageType<unknown>,
  value: Record<string, unknown>,
  path: readonly string[],
): string | undefined {
  const [name, ...rest] = path;
  const field = type.fields.find((candidate) => snakeCase(candidate[1]) === name || candidate[1] === name);
  if (field === undefined) return undefined;
  const content = value[field[1]];
  if (field[3] === 'map') return (content as Record<string, string>)[rest.join('.')];
  if (typeof field[2] === 'function') {
    return content === undefined ? undefined : lookUp(field[2](), content as Record<string, unknown>, rest);
  }
  if (rest.length > 0) return undefined;
  if (field[2] === 'bool') return String(content);
  return field[2] === 'string' && content !== '' ? (content as string) : undefined;
}

function snakeCase(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}
