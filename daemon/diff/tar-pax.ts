// PAX extended headers (POSIX.1-2001, pax) and the maps of sparse files that GNU tar puts there or into old headers.

import { invalidArgument } from '../../proto/errors';
import { BLOCK_BYTES, parseNumber, type Where } from './tar-header';

/** Records of one extended header, in order; GNU.sparse.* may repeat a keyword. Bytes as latin1 strings. */
export type PaxRecords = readonly (readonly [keyword: string, value: string])[];

/** A run of stored bytes of a sparse file. */
export interface SparseSegment {
  readonly position: number;
  readonly bytes: number;
}

/** Runs of one sparse file; more than any tar program writes for a real one. */
const SEGMENTS_MAX = 100_000;
const OLD_GNU_ENTRIES = 4;
const OLD_GNU_MORE_ENTRIES = 21;

/** @throws INVALID_ARGUMENT when a record is malformed. `where` names the place in the archive. */
export function parsePaxRecords(bytes: Buffer, where: Where): PaxRecords {
  const records: (readonly [string, string])[] = [];
  let at = 0;
  while (at < bytes.length) {
    const blank = bytes.indexOf(0x20, at);
    const length = blank < 0 ? Number.NaN : decimal(bytes.toString('latin1', at, blank));
    const end = at + length;
    if (!(end > blank + 1) || end > bytes.length || bytes[end - 1] !== 0x0a) {
      throw invalidArgument(`${where()}: malformed PAX header`);
    }
    const record = bytes.toString('latin1', blank + 1, end - 1);
    const equals = record.indexOf('=');
    if (equals <= 0) throw invalidArgument(`${where()}: malformed PAX header`);
    const keyword = record.slice(0, equals);
    const value = record.slice(equals + 1);
    const mayHoldNul = keyword.startsWith('SCHILY.xattr.');
    if (keyword.includes('\0') || (!mayHoldNul && value.includes('\0'))) {
      throw invalidArgument(`${where()}: NUL in PAX header`);
    }
    records.push([keyword, value]);
    at = end;
  }
  return records;
}

/** A PAX number of 0 or more. @throws INVALID_ARGUMENT */
export function parsePaxNumber(value: string, what: Where): number {
  const number = decimal(value);
  if (!Number.isSafeInteger(number)) throw invalidArgument(`${what()} "${value.slice(0, 32)}" is not a number`);
  return number;
}

/** A PAX time: seconds with an optional fraction, possibly negative. @throws INVALID_ARGUMENT */
export function parsePaxTime(value: string, what: Where): { seconds: number; nanoseconds: number } {
  const match = /^(-?)(\d{1,15})(?:\.(\d*))?$/.exec(value);
  if (match === null) throw invalidArgument(`${what()} "${value.slice(0, 32)}" is not a time`);
  const seconds = Number(match[2]);
  const nanoseconds = Number((match[3] ?? '').slice(0, 9).padEnd(9, '0'));
  if (match[1] === '') return { seconds, nanoseconds };
  return nanoseconds === 0
    ? { seconds: -seconds, nanoseconds }
    : { seconds: -seconds - 1, nanoseconds: 1_000_000_000 - nanoseconds };
}

/** The map of GNU.sparse formats 0.0 and 0.1, which is in the records; undefined when there is none. */
export function sparseMapOf(records: PaxRecords, where: Where): SparseSegment[] | undefined {
  const numbers: number[] = [];
  let hasMap = false;
  for (const [keyword, value] of records) {
    if (keyword === 'GNU.sparse.map') {
      hasMap = true;
      if (value !== '') numbers.push(...value.split(',').map((part) => parsePaxNumber(part, where)));
    } else if (keyword === 'GNU.sparse.offset' || keyword === 'GNU.sparse.numbytes') {
      hasMap = true;
      numbers.push(parsePaxNumber(value, where));
    }
    if (numbers.length > 2 * SEGMENTS_MAX) throw invalidArgument(`${where()}: sparse map is too long`);
  }
  return hasMap ? toSegments(numbers, where) : undefined;
}

/**
 * The map of GNU.sparse format 1.0, at the start of the data: decimal lines, count first, padded to a block.
 * @returns undefined while blocks are missing
 */
export function parseSparseLines(bytes: Buffer, where: Where): SparseSegment[] | undefined {
  const lines = bytes.toString('latin1').split('\n');
  if (lines.length < 2) return undefined;
  const count = parsePaxNumber(lines[0] ?? '', where);
  if (count > SEGMENTS_MAX) throw invalidArgument(`${where()}: sparse map is too long`);
  if (lines.length < 2 * count + 2) return undefined;
  return toSegments(
    lines.slice(1, 2 * count + 1).map((line) => parsePaxNumber(line, where)),
    where,
  );
}

/** Old GNU headers hold up to four runs, and say whether blocks with more follow. */
export function parseOldSparse(bytes: Buffer, at: number, where: Where) {
  return {
    segments: oldEntries(bytes, at + 386, OLD_GNU_ENTRIES, where),
    hasMore: bytes[at + 482] === 1,
    realSize: parseNumber(bytes, at + 483, 12, () => `${where()}: real size`),
  };
}

/** A block that continues the map of an old GNU header. */
export function parseOldSparseMore(bytes: Buffer, at: number, where: Where) {
  return { segments: oldEntries(bytes, at, OLD_GNU_MORE_ENTRIES, where), hasMore: bytes[at + 504] === 1 };
}

/**
 * Checks that runs ascend, fit into the file and are what is stored.
 * @throws INVALID_ARGUMENT
 */
export function checkSparse(
  segments: readonly SparseSegment[],
  sizes: { readonly real: number; readonly stored: number },
  where: Where,
): void {
  if (segments.length > SEGMENTS_MAX) throw invalidArgument(`${where()}: sparse map is too long`);
  let end = 0;
  let stored = 0;
  for (const { position, bytes } of segments) {
    if (position < end || bytes < 0 || position + bytes > sizes.real) {
      throw invalidArgument(`${where()}: invalid sparse map`);
    }
    end = position + bytes;
    stored += bytes;
  }
  if (stored !== sizes.stored) throw invalidArgument(`${where()}: sparse map does not match the stored size`);
}

function oldEntries(bytes: Buffer, at: number, count: number, where: Where): SparseSegment[] {
  const segments: SparseSegment[] = [];
  for (let index = 0; index < count && at + index * 24 + 24 <= bytes.length; index++) {
    const entry = at + index * 24;
    if (bytes[entry] === 0) break;
    segments.push({
      position: parseNumber(bytes, entry, 12, () => `${where()}: sparse offset`),
      bytes: parseNumber(bytes, entry + 12, 12, () => `${where()}: sparse length`),
    });
  }
  return segments;
}

function toSegments(numbers: readonly number[], where: Where): SparseSegment[] {
  if (numbers.length % 2 !== 0) throw invalidArgument(`${where()}: invalid sparse map`);
  const segments: SparseSegment[] = [];
  for (let index = 0; index < numbers.length; index += 2) {
    segments.push({ position: numbers[index] ?? 0, bytes: numbers[index + 1] ?? 0 });
  }
  return segments;
}

function decimal(text: string): number {
  return /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN;
}

/** Bytes that a stored size takes in the archive, without the size itself. */
export function paddingOf(size: number): number {
  return (BLOCK_BYTES - (size % BLOCK_BYTES)) % BLOCK_BYTES;
}
