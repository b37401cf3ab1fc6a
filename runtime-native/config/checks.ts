// Small checks that schema tables are made of. Each is given a value and its JSON path, which starts every error.

import { unknown } from '../../proto/errors';

/** @throws UNKNOWN `PATH: WORDS` */
export type Check = (value: unknown, path: string) => void;

const UINT64_MAX = 2 ** 64;
const INT64_MAX = 2 ** 63;
export const UINT32_MAX = 2 ** 32 - 1;

/** @throws UNKNOWN, always */
export function refuse(path: string, words: string): never {
  throw unknown(`${path}: ${words}`);
}

/** Fields that are missing or null are what Go leaves at their zero value; those named in `required` must be there. */
export function object(fields: Readonly<Record<string, Check>>, required: readonly string[] = []): Check {
  const entries = Object.entries(fields);
  return (value, path) => {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) refuse(path, 'must be an object');
    const given = value as Readonly<Record<string, unknown>>;
    for (const name of required)
      if (given[name] === undefined || given[name] === null) refuse(at(path, name), 'is required');
    for (const [name, check] of entries) {
      const field = given[name];
      if (field !== undefined && field !== null) check(field, at(path, name));
    }
  };
}

export function listOf(check: Check): Check {
  return (value, path) => {
    if (!Array.isArray(value)) refuse(path, 'must be an array');
    for (let index = 0; index < value.length; index++) check(value[index], `${path}[${index}]`);
  };
}

/** @param key - checks the names */
export function mapOf(check: Check, key: Check = text()): Check {
  return (value, path) => {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) refuse(path, 'must be an object');
    for (const [name, entry] of Object.entries(value)) {
      key(name, `${path}[${JSON.stringify(name)}]`);
      check(entry, `${path}[${JSON.stringify(name)}]`);
    }
  };
}

/** Texts end at their first NUL in the kernel: one inside would mean something else there than here. */
export function text(pattern?: RegExp, words = `must match ${pattern}`): Check {
  return (value, path) => {
    if (typeof value !== 'string') refuse(path, 'must be a string');
    if (value.includes('\0')) refuse(path, 'must not contain a NUL byte');
    if (pattern !== undefined && !pattern.test(value)) refuse(path, words);
  };
}

export const absolutePath = text(/^\//, 'must be an absolute path');

export function oneOf(
  names: readonly string[],
  words = (name: string) => `"${name}" is none of ${names.join(', ')}`,
): Check {
  const known = new Set(names);
  return (value, path) => {
    if (typeof value !== 'string') refuse(path, 'must be a string');
    if (!known.has(value)) refuse(path, words(value));
  };
}

export const flag: Check = (value, path) => {
  if (typeof value !== 'boolean') refuse(path, 'must be true or false');
};

/** Both ends belong to the range. */
export function integer(min: number, max: number): Check {
  return (value, path) => {
    if (typeof value !== 'number' || !Number.isInteger(value)) refuse(path, 'must be an integer');
    if (value < min || value > max) refuse(path, `must be between ${min} and ${max}`);
  };
}

export const uint16 = integer(0, 2 ** 16 - 1);
export const uint32 = integer(0, UINT32_MAX);
export const uint64 = integer(0, UINT64_MAX);
export const int64 = integer(-INT64_MAX, INT64_MAX);

/** A CPU or memory node list of the kernel: "0-3,7". */
export const numberList: Check = (value, path) => {
  text(/^[0-9, \-\n]*$/, 'must be a list such as "0-3,7"')(value, path);
  parseNumberList(value as string, path);
};

/** @throws UNKNOWN for an element that is no number and no range that goes up */
export function parseNumberList(list: string, path: string): number[] {
  const numbers: number[] = [];
  for (const part of list.split(',').map((piece) => piece.trim())) {
    if (part === '') continue;
    const [, first, last] = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(part) ?? refuse(path, `"${part}" is no number or range`);
    const [from, to] = [Number(first), Number(last ?? first)];
    if (to < from) refuse(path, `"${part}" goes down`);
    for (let number = from; number <= to; number++) numbers.push(number);
  }
  return numbers;
}

function at(path: string, name: string): string {
  return path === '' ? name : `${path}.${name}`;
}
