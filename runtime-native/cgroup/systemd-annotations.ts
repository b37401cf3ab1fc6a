// Annotations org.systemd.property.NAME=VALUE, which set any property of the unit; the value is in GVariant's text format
// (GLib, "GVariant Text Format"), as much of it as properties need.

import { messageOf, unknown } from '../../proto/errors';
import type { Value, Variant } from './dbus-message';
import type { Property } from './systemd-properties';

/** Of the annotations. */
export const PREFIX = 'org.systemd.property.';
const SECOND_US = 1_000_000;
/** Words in front of a value. */
const TYPES: Readonly<Record<string, string>> = {
  ...{
    boolean: 'b',
    byte: 'y',
    int16: 'n',
    uint16: 'q',
    int32: 'i',
    uint32: 'u',
    int64: 'x',
    uint64: 't',
    double: 'd',
  },
  ...{ string: 's', objectpath: 'o', signature: 'g' },
};
const TOKEN =
  /\s*(?:([[\](),])|('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")|@([a-z(){}]+)|([a-z]\w*)|(0x[\da-f]+|[-+]?[\d.]+(?:e[-+]?\d+)?))/iy;

/** @throws UNKNOWN in runc's words */
export function annotatedProperties(annotations: Readonly<Record<string, string>>): Property[] {
  return Object.entries(annotations).flatMap(([annotation, text]) => {
    if (!annotation.startsWith(PREFIX)) return [];
    const name = annotation.slice(PREFIX.length);
    if (!/^[A-Z][A-Za-z]{2,}$/.test(name)) throw unknown(`annotation ${annotation} name incorrect: ${name}`);
    try {
      const value = new Parser(text).all();
      return [name.endsWith('Sec') && !name.endsWith('USec') ? inMicroseconds(name, value) : ([name, value] as const)];
    } catch (error) {
      throw unknown(`annotation ${annotation}=${text} value parse error: ${messageOf(error)}`, { cause: error });
    }
  });
}

/** On D-Bus there are no seconds: TimeoutStopSec is TimeoutStopUSec. */
function inMicroseconds(name: string, { type, value }: Variant): Property {
  if (!'ynqiuxtd'.includes(type)) throw new Error(`${name} is no number`);
  const count = BigInt(Math.round(Number(value) * SECOND_US));
  return [name.replace(/Sec$/, 'USec'), { type: 't', value: count }];
}

class Parser {
  private readonly text: string;
  private offset = 0;

  constructor(text: string) {
    this.text = text;
  }

  all(): Variant {
    const value = this.value(undefined);
    if (this.text.slice(this.offset).trim() !== '') throw new Error(`unexpected ${this.text.slice(this.offset)}`);
    return value;
  }

  /** @param type - what it must be; undefined leaves it to the text */
  private value(type: string | undefined): Variant {
    const [, mark, quoted, annotation, word, number] = this.token();
    if (annotation !== undefined) return this.value(annotation);
    if (quoted !== undefined) return { type: type ?? 's', value: unquote(quoted) };
    if (number !== undefined) return numberOf(type ?? (/[.e]/i.test(number) ? 'd' : 'i'), number);
    if (word === 'true' || word === 'false') return { type: 'b', value: word === 'true' };
    if (word !== undefined && word in TYPES) return this.value(TYPES[word]);
    if (mark === '[') return this.array(type);
    if (mark === '(') return this.struct(type);
    throw new Error(`unexpected ${word ?? mark}`);
  }

  private array(type: string | undefined): Variant {
    const values: Value[] = [];
    let element = type?.slice(1);
    while (!this.skips(']')) {
      if (values.length > 0) this.expect(',');
      const { type: found, value } = this.value(element);
      element ??= found;
      values.push(value);
    }
    if (element === undefined) throw new Error('an empty list needs a type');
    return { type: `a${element}`, value: values };
  }

  private struct(type: string | undefined): Variant {
    const members: Variant[] = [];
    while (!this.skips(')')) {
      if (members.length > 0) this.expect(',');
      if (!this.skips(')')) members.push(this.value(type?.[members.length + 1]));
      else break;
    }
    return { type: `(${members.map((member) => member.type).join('')})`, value: members.map(({ value }) => value) };
  }

  private skips(mark: string): boolean {
    const before = this.offset;
    if (this.token()[1] === mark) return true;
    this.offset = before;
    return false;
  }

  private expect(mark: string): void {
    if (!this.skips(mark)) throw new Error(`expected ${mark}`);
  }

  private token(): RegExpExecArray {
    TOKEN.lastIndex = this.offset;
    const found = TOKEN.exec(this.text);
    if (found === null) throw new Error(`unexpected ${this.text.slice(this.offset) || 'end'}`);
    this.offset = TOKEN.lastIndex;
    return found;
  }
}

function numberOf(type: string, text: string): Variant {
  if (type === 'd') return { type, value: Number(text) };
  if (type === 'x' || type === 't') return { type, value: BigInt(text) };
  const value = Number(text);
  if (!Number.isInteger(value) || !'ynqiu'.includes(type)) throw new Error(`unexpected ${text}`);
  return { type, value };
}

function unquote(quoted: string): string {
  return quoted.slice(1, -1).replaceAll(/\\(.)/gs, (_, letter: string) => ({ n: '\n', t: '\t' })[letter] ?? letter);
}
