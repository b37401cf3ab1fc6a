// One 512-byte header block of a tar archive: v7, ustar (POSIX.1-1988), GNU. Names stay bytes, as latin1 strings.

import { invalidArgument } from '../../proto/errors';

export const BLOCK_BYTES = 512;

/** Says a place in the archive, for messages: made only when one is needed, as there is one for each of many headers. */
export type Where = () => string;

export interface TarHeader {
  readonly name: string;
  readonly linkName: string;
  /** One character; '0' for the NUL of old archives. */
  readonly typeFlag: string;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  readonly mtimeSeconds: number;
  readonly major: number;
  readonly minor: number;
  readonly isGnu: boolean;
}

const CHECKSUM_AT = 148;
const CHECKSUM_END = 156;
const SPACE = 0x20;
/** Base-256 numbers longer than this are beyond what a double holds exactly. */
const SAFE_MAX = BigInt(Number.MAX_SAFE_INTEGER);

export function isZeroBlock(bytes: Buffer, at: number): boolean {
  for (let index = at; index < at + BLOCK_BYTES; index++) if (bytes[index] !== 0) return false;
  return true;
}

/** @throws INVALID_ARGUMENT when the block is no header */
export function parseHeader(bytes: Buffer, at: number, where: Where): TarHeader {
  if (!hasValidChecksum(bytes, at)) throw invalidArgument(`${where()}: invalid tar header`);
  const number = (offset: number, length: number, what: string) =>
    parseNumber(bytes, at + offset, length, () => `${where()}: ${what}`);
  const magic = text(bytes, at + 257, 8);
  const isUstar = magic.startsWith('ustar');
  const isGnu = magic === 'ustar  ';
  const prefix = isUstar && !isGnu ? text(bytes, at + 345, 155) : '';
  const name = text(bytes, at, 100);
  const flag = bytes[at + 156] ?? 0;
  const typeFlag = flag === 0 ? '0' : String.fromCharCode(flag);
  return {
    name: prefix === '' ? name : `${prefix}/${name}`,
    linkName: text(bytes, at + 157, 100),
    typeFlag: typeFlag === '0' && flag === 0 && name.endsWith('/') ? '5' : typeFlag,
    mode: number(100, 8, 'mode'),
    uid: number(108, 8, 'uid'),
    gid: number(116, 8, 'gid'),
    size: number(124, 12, 'size'),
    mtimeSeconds: number(136, 12, 'mtime'),
    major: isUstar ? number(329, 8, 'major') : 0,
    minor: isUstar ? number(337, 8, 'minor') : 0,
    isGnu,
  };
}

/**
 * A numeric field: octal digits, or base-256 when the top bit is set (GNU).
 * @throws INVALID_ARGUMENT for anything else
 */
export function parseNumber(bytes: Buffer, at: number, length: number, what: Where): number {
  const first = bytes[at] ?? 0;
  if ((first & 0x80) !== 0) return parseBase256(bytes.subarray(at, at + length), what);
  const end = at + length;
  let index = at;
  while (index < end && isBlank(bytes[index])) index++;
  let value = 0;
  for (; index < end; index++) {
    const digit = (bytes[index] ?? 0) - 0x30;
    if (digit < 0 || digit > 7) break;
    value = value * 8 + digit;
  }
  if (index < end && !isBlank(bytes[index])) throw invalidArgument(`${what()} is not a number`);
  return value;
}

function isBlank(byte: number | undefined): boolean {
  return byte === SPACE || byte === 0;
}

/** Bytes up to the first NUL. */
function text(bytes: Buffer, at: number, length: number): string {
  const end = bytes.indexOf(0, at);
  return bytes.toString('latin1', at, end >= 0 && end < at + length ? end : at + length);
}

/** Two sums are in use: of unsigned bytes (POSIX) and of signed ones (old tars). The field itself counts as blanks. */
function hasValidChecksum(bytes: Buffer, at: number): boolean {
  let unsigned = (CHECKSUM_END - CHECKSUM_AT) * SPACE;
  let high = 0;
  for (let index = 0; index < BLOCK_BYTES; index++) {
    if (index === CHECKSUM_AT) index = CHECKSUM_END;
    const byte = bytes[at + index] as number;
    unsigned += byte;
    high += byte >> 7;
  }
  const stored = parseNumber(bytes, at + CHECKSUM_AT, 8, () => 'checksum');
  return stored === unsigned || stored === unsigned - high * 256;
}

function parseBase256(field: Buffer, what: Where): number {
  const isNegative = ((field[0] ?? 0) & 0x40) !== 0;
  let value = BigInt((field[0] ?? 0) & 0x3f);
  for (const byte of field.subarray(1)) value = (value << 8n) | BigInt(byte);
  if (isNegative) value -= 1n << BigInt(field.length * 8 - 2);
  if (value > SAFE_MAX || value < -SAFE_MAX) throw invalidArgument(`${what()} is out of range`);
  return Number(value);
}
