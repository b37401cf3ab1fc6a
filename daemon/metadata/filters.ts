// The filter language of list requests: items of the list are OR-ed, selectors in one item AND-ed (path, path==value,
// path!=value, path~=regexp). It only knows field paths; what they mean is the caller's.

import { invalidArgument } from '../../proto/errors';

/** The value at a path, undefined when absent. */
export type Lookup = (path: readonly string[]) => string | undefined;

export interface Filter {
  matches(lookup: Lookup): boolean;
}

type Selector = (lookup: Lookup) => boolean;

const OPERATOR = /[=!~]/;
const IDENT = /[A-Za-z0-9_]/;

/** An empty list and an empty item match everything. @throws INVALID_ARGUMENT naming the filter and the position. */
export function parseFilters(filters: readonly string[]): Filter {
  const alternatives = filters.map((text) => new Parser(text).filter());
  if (alternatives.length === 0) return { matches: () => true };
  return { matches: (lookup) => alternatives.some((selectors) => selectors.every((selector) => selector(lookup))) };
}

class Parser {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  filter(): Selector[] {
    const selectors: Selector[] = [];
    this.#space();
    if (this.#at >= this.#text.length) return selectors;
    for (;;) {
      selectors.push(this.#selector());
      this.#space();
      if (this.#at >= this.#text.length) return selectors;
      if (this.#peek() !== ',') this.#fail('expected a comma');
      this.#at += 1;
      this.#space();
    }
  }

  #selector(): Selector {
    const path = [this.#field()];
    while (this.#peek() === '.') {
      this.#at += 1;
      path.push(this.#field());
    }
    this.#space();
    const operator = this.#operator();
    if (operator === '') return (lookup) => lookup(path) !== undefined;
    this.#space();
    const value = this.#value(operator);
    if (operator === '==') return (lookup) => lookup(path) === value;
    if (operator === '!=') return (lookup) => (lookup(path) ?? '') !== value;
    const expression = toRegExp(value);
    return (lookup) => expression?.test(lookup(path) ?? '') ?? false;
  }

  #field(): string {
    this.#space();
    if (this.#peek() === '"') return this.#quoted('"');
    const start = this.#at;
    while (IDENT.test(this.#peek())) this.#at += 1;
    if (this.#at === start) this.#fail('expected a field');
    return this.#text.slice(start, this.#at);
  }

  #operator(): string {
    const start = this.#at;
    while (OPERATOR.test(this.#peek())) this.#at += 1;
    const operator = this.#text.slice(start, this.#at);
    if (!['', '==', '!=', '~='].includes(operator)) this.#fail(`unsupported operator "${operator}"`);
    return operator;
  }

  #value(operator: string): string {
    const next = this.#peek();
    if (next === '"') return this.#quoted('"');
    if (next === '/' || next === '|') {
      if (operator !== '~=') this.#fail(`"${next}" cannot start a value`);
      return this.#quoted(next);
    }
    const start = this.#at;
    while (this.#peek() !== '' && this.#peek() !== ',' && !/\s/.test(this.#peek())) this.#at += 1;
    if (this.#at === start) this.#fail('expected a value or quoted');
    return this.#text.slice(start, this.#at);
  }

  #quoted(quote: string): string {
    const start = this.#at;
    this.#at += 1;
    let result = '';
    while (this.#peek() !== quote) {
      const next = this.#peek();
      if (next === '' || next === '\n') this.#fail('quoted text is not terminated', start);
      this.#at += 1;
      result += next === '\\' ? this.#escape(quote) : next;
    }
    this.#at += 1;
    return result;
  }

  #escape(quote: string): string {
    const next = this.#peek();
    this.#at += 1;
    if (next === quote || next === '\\') return next === quote || quote === '"' ? next : `\\${next}`;
    if (quote !== '"') return `\\${next}`;
    const simple = { a: '\x07', b: '\b', f: '\f', n: '\n', r: '\r', t: '\t', v: '\v' }[next];
    if (simple !== undefined) return simple;
    const digits = { x: 2, u: 4, U: 8 }[next];
    const rest = this.#text.slice(this.#at);
    if (digits !== undefined) {
      const hex = new RegExp(`^[0-9a-fA-F]{${digits}}`).exec(rest)?.[0];
      if (hex === undefined) return this.#fail('illegal escape');
      this.#at += digits;
      return String.fromCodePoint(Number.parseInt(hex, 16));
    }
    const octal = /^[0-7]{3}/.exec(this.#text.slice(this.#at - 1))?.[0];
    if (octal === undefined || Number.parseInt(octal, 8) > 255) return this.#fail('illegal escape');
    this.#at += 2;
    return String.fromCharCode(Number.parseInt(octal, 8));
  }

  #peek(): string {
    return this.#text[this.#at] ?? '';
  }

  #space(): void {
    while (/\s/.test(this.#peek())) this.#at += 1;
  }

  #fail(reason: string, at = this.#at): never {
    throw invalidArgument(`parse error in filter "${this.#text}" at ${at}: ${reason}`);
  }
}

/** RE2 and JavaScript agree on what clients send; an invalid expression matches nothing. */
function toRegExp(source: string): RegExp | undefined {
  try {
    return new RegExp(source, 'u');
  } catch {
    try {
      return new RegExp(source);
    } catch {
      return undefined;
    }
  }
}
