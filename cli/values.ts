// Values on the command line: durations, sizes, labels, signals. Each parser throws a usage error that names the
// value and an example of a right one.

import { readFileSync } from 'node:fs';
import { constants } from 'node:os';
import { usageError } from './failure';

const DURATION_UNITS: Record<string, number> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };
const SIZE_UNITS: Record<string, number> = { '': 1, b: 1, k: 2 ** 10, m: 2 ** 20, g: 2 ** 30, t: 2 ** 40 };

/** Milliseconds of "1.5s", "2m30s", "500ms" or plain seconds. */
export function parseDuration(text: string): number {
  if (/^\d+(\.\d+)?$/.test(text)) return Number(text) * 1000;
  const parts = [...text.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h|d)/g)];
  if (parts.length === 0 || parts.map(([part]) => part).join('') !== text) {
    throw usageError(`"${text}" is not a duration; write for example 10s, 1m30s or 500ms`);
  }
  return parts.reduce((sum, [, count, unit]) => sum + Number(count) * (DURATION_UNITS[unit ?? ''] ?? 0), 0);
}

/** Bytes of "64m", "1g", "512k", "1.5GiB" or a plain number. */
export function parseSize(text: string): number {
  const [, count, unit] = /^(\d+(?:\.\d+)?)\s*([bkmgt]?)(?:i?b)?$/i.exec(text) ?? [];
  const factor = SIZE_UNITS[(unit ?? '').toLowerCase()];
  if (count === undefined || factor === undefined) {
    throw usageError(`"${text}" is not a size; write for example 512m or 2g`);
  }
  const size = Math.floor(Number(count) * factor);
  if (!Number.isSafeInteger(size)) throw usageError(`size "${text}" is too large`);
  return size;
}

/** A whole number within bounds. */
export function parseInteger(what: string, text: string, min = 0, max = Number.MAX_SAFE_INTEGER): number {
  const value = Number(text);
  if (!/^-?\d+$/.test(text) || !Number.isSafeInteger(value) || value < min || value > max) {
    throw usageError(`${what} must be a whole number from ${min} to ${max}, not "${text}"`);
  }
  return value;
}

/** KEY=VALUE pairs as an object; a key alone means an empty value. */
export function parseLabels(pairs: readonly string[]): Record<string, string> {
  const labels: Record<string, string> = {};
  for (const pair of pairs) {
    const at = pair.indexOf('=');
    const key = at < 0 ? pair : pair.slice(0, at);
    if (key === '') throw usageError(`"${pair}" is not a label; write KEY=VALUE`);
    labels[key] = at < 0 ? '' : pair.slice(at + 1);
  }
  return labels;
}

/** Signal number of "TERM", "SIGTERM", "15" or "RTMIN+3". */
export function parseSignal(text: string): number {
  if (/^\d+$/.test(text)) return parseInteger('a signal', text, 1, 64);
  const name = text.toUpperCase().replace(/^SIG/, '');
  const realTime = /^RT(MIN|MAX)([+-]\d+)?$/.exec(name);
  if (realTime !== null)
    return parseInteger('a signal', `${(realTime[1] === 'MIN' ? 34 : 64) + Number(realTime[2] ?? 0)}`, 34, 64);
  const number = (constants.signals as Record<string, number | undefined>)[`SIG${name}`];
  if (number === undefined) throw usageError(`unknown signal "${text}"`);
  return number;
}

/**
 * Environment entries: KEY=VALUE as it is, KEY alone takes the value of gantry's own environment and is left out when
 * it has none. Files come first, one entry a line, # starts a comment line.
 */
export function parseEnvironment(entries: readonly string[], files: readonly string[]): string[] {
  const lines = files.flatMap((file) => readFileSync(file, 'utf8').split(/\r?\n/));
  const wanted = [
    ...lines.map((text) => text.trimStart()).filter((text) => text !== '' && !text.startsWith('#')),
    ...entries,
  ];
  const result: string[] = [];
  for (const entry of wanted) {
    const at = entry.indexOf('=');
    const key = at < 0 ? entry : entry.slice(0, at);
    if (key === '' || /\s/.test(key)) throw usageError(`"${entry}" is not an environment variable; write NAME=VALUE`);
    const value = at < 0 ? process.env[key] : entry.slice(at + 1);
    if (value !== undefined) result.push(`${key}=${value}`);
  }
  return result;
}

/** Later entries replace earlier ones of the same name, in place. */
export function mergeEnvironment(base: readonly string[], more: readonly string[]): string[] {
  const byName = new Map<string, string>();
  for (const entry of [...base, ...more]) byName.set(entry.split('=', 1)[0] ?? '', entry);
  return [...byName.values()];
}

/** For commander: an option that may be given several times. */
export function collect(value: string, previous: readonly string[] | undefined): string[] {
  return [...(previous ?? []), value];
}

/** A random identifier of hexadecimal digits that starts with a letter. */
export function randomId(length = 12): string {
  const letters = 'abcdef';
  const digits = [...crypto.getRandomValues(new Uint8Array(length))].map((byte) => (byte % 16).toString(16));
  digits[0] = letters[Number.parseInt(digits[0] ?? '0', 16) % 6] ?? 'a';
  return digits.join('');
}
