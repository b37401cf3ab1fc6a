// Tokens of the filter language (wire grammar of containerd's filters). It knows nothing of selectors.

export type TokenKind = 'end' | 'quoted' | 'value' | 'field' | 'separator' | 'operator' | 'illegal';

export interface Token {
  readonly kind: TokenKind;
  readonly text: string;
  /** Index of the first character. */
  readonly position: number;
}

const SPACE = /\s/u;
const FIELD = /[A-Za-z0-9_]/;
const OPERATOR = /[=!~]/;
const QUOTE = /["/|]/;
const SEPARATOR = /[,.]/;
/** Letters, marks, numbers, punctuation and symbols: what Go calls graphic, without spaces. */
const VALUE = /[\p{L}\p{M}\p{N}\p{P}\p{S}]/u;

export class Scanner {
  readonly #characters: readonly string[];
  #at = 0;
  #expectsValue = false;

  constructor(text: string) {
    this.#characters = [...text];
  }

  /** The next character without skipping spaces, '' at the end. */
  peek(): string {
    return this.#characters[this.#at] ?? '';
  }

  get position(): number {
    return this.#at;
  }

  next(): Token {
    while (SPACE.test(this.peek())) this.#at += 1;
    const position = this.#at;
    const first = this.peek();
    const kind = this.#scan(first);
    return { kind, text: this.#characters.slice(position, this.#at).join(''), position };
  }

  #scan(first: string): TokenKind {
    if (first === '') return 'end';
    if (QUOTE.test(first)) return this.#quoted(first);
    this.#at += 1;
    if (SEPARATOR.test(first)) {
      this.#expectsValue = false;
      return 'separator';
    }
    if (OPERATOR.test(first)) {
      this.#skip((character) => OPERATOR.test(character));
      this.#expectsValue = true;
      return 'operator';
    }
    if (this.#expectsValue) {
      this.#skip((character) => character !== ',' && VALUE.test(character));
      this.#expectsValue = false;
      return 'value';
    }
    if (!FIELD.test(first)) return 'illegal';
    this.#skip((character) => FIELD.test(character));
    return 'field';
  }

  #skip(accepts: (character: string) => boolean): void {
    while (this.peek() !== '' && accepts(this.peek())) this.#at += 1;
  }

  #quoted(quote: string): TokenKind {
    this.#expectsValue = false;
    this.#at += 1;
    for (let character = this.peek(); character !== quote; character = this.peek()) {
      if (character === '' || character === '\n') return 'illegal';
      this.#at += character === '\\' ? 2 : 1;
    }
    this.#at += 1;
    return 'quoted';
  }
}

const SIMPLE: Readonly<Record<string, string>> = {
  a: '\x07',
  b: '\b',
  f: '\f',
  n: '\n',
  r: '\r',
  t: '\t',
  v: '\v',
  '\\': '\\',
};
const NUMERIC = /^(?:x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|([0-7]{3}))/;

/** The text inside quotes. undefined when an escape is not one of the grammar's. */
export function unquote(text: string): string | undefined {
  const quote = text[0] ?? '';
  const inner = text.slice(1, -1);
  let result = '';
  for (let at = 0; at < inner.length; at += 1) {
    if (inner[at] !== '\\') {
      result += inner[at];
      continue;
    }
    const next = inner[at + 1] ?? '';
    const simple = next === quote ? quote : SIMPLE[next];
    const numeric = simple === undefined ? NUMERIC.exec(inner.slice(at + 1)) : null;
    const decoded = simple ?? fromNumeric(numeric);
    if (decoded === undefined) return undefined;
    result += decoded;
    at += numeric?.[0].length ?? 1;
  }
  return result;
}

function fromNumeric(match: RegExpExecArray | null): string | undefined {
  if (match === null) return undefined;
  const code =
    match[4] === undefined ? Number.parseInt(match[1] ?? match[2] ?? match[3] ?? '', 16) : parseOctal(match[4]);
  return code > 0x10ffff || Number.isNaN(code) ? undefined : String.fromCodePoint(code);
}

function parseOctal(text: string): number {
  const code = Number.parseInt(text, 8);
  return code > 255 ? Number.NaN : code;
}
