// Filters of List and Subscribe calls: containerd's filter language, parsed once per call and matched against objects
// that answer for field paths. List entries are alternatives, comma-separated selectors must all hold.

import { invalidArgument, messageOf } from '../../proto/errors';
import { Scanner, type Token, unquote } from './filter-scanner';
import { compileRegExp, type Expression } from './regexp';

/** The value at a field path, or undefined when the object does not have it. */
export type Lookup = (path: readonly string[]) => string | undefined;

export interface Filter {
  matches(lookup: Lookup): boolean;
}

/** Longest filter accepted, so that one cannot occupy the event loop. */
export const FILTER_LENGTH_MAX = 64 * 1024;

type Operator = 'presence' | '==' | '!=' | '~=';

interface Selector {
  readonly path: readonly string[];
  readonly operator: Operator;
  readonly value: string;
  /** Only for ~=; undefined when the expression is not valid, which matches nothing. */
  readonly expression?: Expression | undefined;
}

/** What matches every object. */
export const ALWAYS: Filter = { matches: () => true };

/** @throws INVALID_ARGUMENT naming the place of the mistake. */
export function parseFilters(filters: readonly string[]): Filter {
  const alternatives = filters.map(parse);
  if (alternatives.length === 0 || alternatives.some((selectors) => selectors.length === 0)) return ALWAYS;
  return {
    matches: (lookup) => alternatives.some((selectors) => selectors.every((selector) => holds(selector, lookup))),
  };
}

/** A reader's answer for a string field: empty counts as absent. */
export function present(value: string): string | undefined {
  return value === '' ? undefined : value;
}

/** A reader's answer for `labels.K`: the rest of the path, joined with dots, is the key. */
export function labelAt(labels: Readonly<Record<string, string>>, path: readonly string[]): string | undefined {
  const key = path.slice(1).join('.');
  return Object.hasOwn(labels, key) ? labels[key] : undefined;
}

function holds(selector: Selector, lookup: Lookup): boolean {
  const value = lookup(selector.path);
  switch (selector.operator) {
    case 'presence':
      return value !== undefined;
    case '==':
      return value === selector.value;
    case '!=':
      return (value ?? '') !== selector.value;
    case '~=':
      return selector.expression?.test(value ?? '') ?? false;
  }
}

function parse(text: string): Selector[] {
  if (text.length > FILTER_LENGTH_MAX) throw invalidArgument(`filter is longer than ${FILTER_LENGTH_MAX} characters`);
  if (text === '') return [];
  const scanner = new Scanner(text);
  const fail = (position: number, message: string) => parseError(text, position, message);
  const selectors = [parseSelector(scanner, fail)];
  for (;;) {
    const next = scanner.peek();
    if (next === '') return selectors;
    if (next !== ',') throw fail(scanner.position, `unexpected input: ${next}`);
    scanner.next();
    selectors.push(parseSelector(scanner, fail));
  }
}

type Fail = (position: number, message: string) => Error;

function parseSelector(scanner: Scanner, fail: Fail): Selector {
  const path = [parseField(scanner, fail)];
  while (scanner.peek() === '.') {
    scanner.next();
    path.push(parseField(scanner, fail));
  }
  if (scanner.peek() === ',' || scanner.peek() === '') return { path, operator: 'presence', value: '' };
  const operator = parseOperator(scanner, fail);
  const value = parseValue(scanner, fail, operator === '~=');
  return operator === '~=' ? { path, operator, value, expression: tryCompile(value) } : { path, operator, value };
}

function parseField(scanner: Scanner, fail: Fail): string {
  const token = scanner.next();
  if (token.kind === 'field') return token.text;
  if (token.kind === 'quoted') return unquoteToken(token, fail, false);
  throw fail(token.position, `expected field or quoted`);
}

function parseOperator(scanner: Scanner, fail: Fail): Operator {
  const token = scanner.next();
  if (token.kind !== 'operator') throw fail(token.position, 'expected an operator ("=="|"!="|"~=")');
  if (token.text === '==' || token.text === '!=' || token.text === '~=') return token.text;
  throw fail(token.position, `unsupported operator "${token.text}"`);
}

function parseValue(scanner: Scanner, fail: Fail, allowsAltQuotes: boolean): string {
  const token = scanner.next();
  if (token.kind === 'value' || token.kind === 'field') return token.text;
  if (token.kind === 'quoted') return unquoteToken(token, fail, allowsAltQuotes);
  throw fail(token.position, 'expected value or quoted');
}

function unquoteToken(token: Token, fail: Fail, allowsAltQuotes: boolean): string {
  if (!allowsAltQuotes && !token.text.startsWith('"')) {
    throw fail(token.position, `unsupported quote ${token.text[0]}`);
  }
  const text = unquote(token.text);
  if (text === undefined) throw fail(token.position, 'unquoting failed');
  return text;
}

function parseError(text: string, position: number, message: string): Error {
  const characters = [...text];
  const place =
    position < characters.length
      ? `[${characters.slice(0, position).join('')} >|${characters[position]}|< ${characters.slice(position + 1).join('')}]`
      : `[${text}]`;
  return invalidArgument(`filters: parse error: ${place}: ${message}`);
}

/** An expression that does not compile is reported and matches nothing, as it does in containerd. */
function tryCompile(source: string): Expression | undefined {
  try {
    return compileRegExp(source);
  } catch (error) {
    process.emitWarning(`filter expression "${source}" is not valid: ${messageOf(error)}`);
    return undefined;
  }
}
