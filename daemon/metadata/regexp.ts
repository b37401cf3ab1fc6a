// Regular expressions of filters. Clients write Go's RE2 syntax; this translates it to JavaScript's and refuses what
// RE2 does not have (look-around, back references). They run on V8's linear engine, so that a filter cannot stop the
// event loop; V8 has it for ASCII expressions without (?i), \A and \z.

import { setFlagsFromString } from 'node:v8';

/** What a filter does with an expression. */
export interface Expression {
  test(text: string): boolean;
}

const LEADING_FLAGS = /^\(\?([imsU]*)\)/;
const NAMED_CLASS = /^\[:(\^?)([a-z]+):\]/;
const POSIX: Readonly<Record<string, string>> = {
  alnum: '0-9A-Za-z',
  alpha: 'A-Za-z',
  ascii: '\\x00-\\x7F',
  blank: '\\t ',
  cntrl: '\\x00-\\x1F\\x7F',
  digit: '0-9',
  graph: '!-~',
  lower: 'a-z',
  print: ' -~',
  punct: '!-\\/:-@\\[-`\\{-~',
  space: '\\t\\n\\v\\f\\r ',
  upper: 'A-Z',
  word: '0-9A-Za-z_',
  xdigit: '0-9A-Fa-f',
};
const ASCII_PUNCTUATION = /^[!-/:-@[-`{-~]$/;
const NEEDS_UNICODE = /[^\x20-\x7e\s]|\\[pP]|\\x\{/;
const SYNTAX = /^[\^$\\.*+?()[\]{}|/]$/;

/** @throws SyntaxError when the text is not valid in RE2. */
export function compileRegExp(source: string): Expression {
  const leading = LEADING_FLAGS.exec(source);
  const flags = leading?.[1] ?? '';
  const body = translate(source.slice(leading?.[0].length ?? 0), flags.includes('s'));
  const modifiers = `${flags.includes('i') ? 'i' : ''}${flags.includes('m') ? 'm' : ''}`;
  const strict = new RegExp(body, `u${modifiers}`);
  // Unicode mode refuses what RE2 refuses, but only without it has V8 a linear engine.
  return NEEDS_UNICODE.test(source) ? strict : (linear(body, modifiers) ?? new RegExp(body, modifiers));
}

/** Undefined for what V8 cannot match in linear time. */
function linear(body: string, modifiers: string): Expression | undefined {
  try {
    const expression = onLinearEngine(() => new RegExp(body, `l${modifiers}`));
    return { test: (text) => onLinearEngine(() => expression.test(text)) };
  } catch {
    return undefined;
  }
}

/** On the command line the flag would make V8 refuse the compiled code that Node brings: every start takes longer. */
function onLinearEngine<T>(work: () => T): T {
  setFlagsFromString('--enable-experimental-regexp-engine');
  try {
    return work();
  } finally {
    setFlagsFromString('--no-enable-experimental-regexp-engine');
  }
}

function translate(source: string, isDotAll: boolean): string {
  let result = '';
  let isInClass = false;
  for (let at = 0; at < source.length; ) {
    const rest = source.slice(at);
    const token: readonly [string, number] = isInClass ? classPiece(rest) : outerPiece(rest, isDotAll);
    isInClass = isInClass ? token[0] !== ']' : rest.startsWith('[');
    result += token[0];
    at += token[1];
  }
  return result;
}

/** What the first token of `rest` becomes, and its length. */
function outerPiece(rest: string, isDotAll: boolean): [string, number] {
  const char = rest[0] ?? '';
  if (char === '\\') return escaped(rest);
  // RE2's dot leaves out the line feed only.
  if (char === '.') return [isDotAll ? '[^]' : '[^\\n]', 1];
  const opening = /^\[\^?\]?/.exec(rest)?.[0];
  if (opening !== undefined) return [opening.replace(']', '\\]'), opening.length];
  if (rest.startsWith('(?P<')) return ['(?<', 4];
  if (/^\(\?(=|!|<=|<!)/.test(rest)) throw new SyntaxError('look-around is not supported');
  const repetition = /^\{\d+(,\d*)?\}/.exec(rest)?.[0];
  if (repetition !== undefined) return [repetition, repetition.length];
  return ['{}]'.includes(char) ? `\\${char}` : char, 1];
}

function classPiece(rest: string): [string, number] {
  const named = NAMED_CLASS.exec(rest);
  if (named !== null) {
    const members = POSIX[named[2] ?? ''];
    if (members === undefined || named[1] === '^') throw new SyntaxError(`invalid character class ${named[0]}`);
    return [members, named[0].length];
  }
  const char = rest[0] ?? '';
  if (char === '\\') return escaped(rest);
  return ['[(){}/|'.includes(char) ? `\\${char}` : char, 1];
}

function escaped(rest: string): [string, number] {
  const char = rest[1];
  if (char === undefined) throw new SyntaxError('trailing backslash at end of expression');
  if (char === 'A') return ['(?<![^])', 2];
  if (char === 'z') return ['(?![^])', 2];
  if (char === 'a') return ['\\x07', 2];
  if (char === 'Q') return quoted(rest);
  if (char >= '1' && char <= '9') throw new SyntaxError(`invalid escape sequence \\${char}`);
  if (ASCII_PUNCTUATION.test(char)) return [SYNTAX.test(char) ? `\\${char}` : char === '-' ? '\\x2d' : char, 2];
  const braces = /^\\([xpP])\{([^}]*)\}/.exec(rest);
  if (braces !== null) return [braces[1] === 'x' ? `\\u{${braces[2]}}` : braces[0], braces[0].length];
  if ((char === 'p' || char === 'P') && rest.length > 2) return [`\\${char}{${rest[2]}}`, 3];
  return [`\\${char}`, 2];
}

function quoted(rest: string): [string, number] {
  const end = rest.indexOf('\\E', 2);
  const text = end < 0 ? rest.slice(2) : rest.slice(2, end);
  const literal = [...text].map((char) => (SYNTAX.test(char) ? `\\${char}` : char)).join('');
  return [literal, end < 0 ? rest.length : end + 2];
}
