// What goes to stdout: tables, JSON and bare names. Everything meant for people goes to stderr through note() and
// warn(), so that stdout can always be piped.

import { fromTimestamp } from '../proto/time';
import { printable, usageError } from './failure';

export type Format = 'table' | 'json';

export interface ListOptions {
  readonly format?: string;
  readonly quiet?: boolean;
}

/** One column: its heading and the cell of a row. */
export type Column<Row> = readonly [heading: string, cell: (row: Row) => string];

export interface Listing<Row> {
  readonly rows: readonly Row[];
  readonly columns: readonly Column<Row>[];
  /** What --quiet prints for a row. */
  readonly name: (row: Row) => string;
  /** What --format json prints for a row. Default: the row as it came over the wire. */
  readonly json?: (row: Row) => unknown;
}

interface WireTime {
  readonly seconds: bigint;
  readonly nanos: number;
}

const JSON_TYPE_URL = /^types\.containerd\.io\/opencontainers\/runtime-spec\/|Meta[Dd]ata$/;

export function write(text: string): void {
  process.stdout.write(text);
}

export function line(text: string): void {
  process.stdout.write(`${text}\n`);
}

/** A message for the person at the terminal. */
export function note(text: string): void {
  process.stderr.write(`${text}\n`);
}

export function warn(text: string): void {
  process.stderr.write(`gantry: warning: ${text}\n`);
}

/** @throws CommandError (usage) for an unknown format. */
export function formatOf(options: ListOptions): Format {
  const format = options.format ?? 'table';
  if (format !== 'table' && format !== 'json') throw usageError(`unknown format "${format}"; use table or json`);
  return format;
}

/** Prints a list in the form that the options ask for: --quiet wins over --format. */
export function printList<Row>(options: ListOptions, listing: Listing<Row>): void {
  const format = formatOf(options);
  if (options.quiet === true) {
    write(listing.rows.map((row) => `${listing.name(row)}\n`).join(''));
  } else if (format === 'json') {
    printJson(listing.rows.map((row) => (listing.json === undefined ? row : listing.json(row))));
  } else {
    printTable(listing.columns, listing.rows);
  }
}

function printTable<Row>(columns: readonly Column<Row>[], rows: readonly Row[]): void {
  write(renderTable(columns, rows));
}

/** Left-aligned columns, two spaces apart, no trailing blanks. */
export function renderTable<Row>(columns: readonly Column<Row>[], rows: readonly Row[]): string {
  const Table = require('cli-table3') as typeof import('cli-table3');
  const none = { top: '', 'top-mid': '', 'top-left': '', 'top-right': '', bottom: '', 'bottom-mid': '' };
  const table = new Table({
    head: columns.map(([heading]) => heading),
    style: { head: [], border: [], 'padding-left': 0, 'padding-right': 0 },
    chars: {
      ...none,
      'bottom-left': '',
      'bottom-right': '',
      left: '',
      'left-mid': '',
      mid: '',
      'mid-mid': '',
      right: '',
      'right-mid': '',
      middle: '  ',
    },
  });
  for (const row of rows) table.push(columns.map(([, cell]) => printable(cell(row))));
  return table
    .toString()
    .split('\n')
    .map((text) => `${text.trimEnd()}\n`)
    .join('');
}

/** Key and value, one pair a line, values aligned. */
export function printPairs(pairs: readonly (readonly [string, string])[]): void {
  const width = Math.max(...pairs.map(([key]) => key.length)) + 2;
  write(pairs.map(([key, value]) => `${`${key}:`.padEnd(width)}${printable(value)}\n`).join(''));
}

export function printJson(value: unknown): void {
  line(toJson(value, 2));
}

/**
 * JSON of a value of the API: 64-bit numbers as numbers where they fit, times as ISO 8601, OCI documents in an Any
 * as the document itself, other bytes in base64.
 */
export function toJson(value: unknown, indent?: number): string {
  return JSON.stringify(plain(value), undefined, indent);
}

function plain(value: unknown): unknown {
  if (typeof value === 'bigint') return fits(value) ? Number(value) : value.toString();
  if (Buffer.isBuffer(value)) return value.toString('base64');
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== 'object' || value === null) return value;
  if (isTime(value)) return isoTime(value);
  if (isAny(value)) return plainAny(value);
  const copy: Record<string, unknown> = {};
  for (const [key, item] of Object.entries(value)) if (item !== undefined) copy[key] = plain(item);
  return copy;
}

function plainAny(any: { typeUrl: string; value: Buffer }): unknown {
  if (JSON_TYPE_URL.test(any.typeUrl)) {
    try {
      return { typeUrl: any.typeUrl, value: JSON.parse(any.value.toString('utf8')) };
    } catch {
      // Not JSON after all: shown as bytes.
    }
  }
  return { typeUrl: any.typeUrl, value: any.value.toString('base64') };
}

function fits(value: bigint): boolean {
  return value >= BigInt(Number.MIN_SAFE_INTEGER) && value <= BigInt(Number.MAX_SAFE_INTEGER);
}

function isTime(value: object): value is WireTime {
  const { seconds, nanos } = value as Partial<WireTime>;
  return typeof seconds === 'bigint' && typeof nanos === 'number' && Object.keys(value).length === 2;
}

function isAny(value: object): value is { typeUrl: string; value: Buffer } {
  const any = value as { typeUrl?: unknown; value?: unknown };
  return typeof any.typeUrl === 'string' && Buffer.isBuffer(any.value) && Object.keys(value).length === 2;
}

/** ISO 8601 with nanoseconds as far as they are there; null for no time. */
export function isoTime(time: WireTime | undefined): string | null {
  const ns = fromTimestamp(time);
  if (ns === 0n) return null;
  const seconds = new Date(Number(ns / 1_000_000_000n) * 1000).toISOString().slice(0, 19);
  const fraction = (ns % 1_000_000_000n).toString().padStart(9, '0').replace(/0+$/, '');
  return `${seconds}${fraction === '' ? '' : `.${fraction}`}Z`;
}

/** "3 minutes ago" of a time on the wire; "-" for none. */
export function age(time: WireTime | undefined, now = Date.now()): string {
  const ns = fromTimestamp(time);
  if (ns === 0n) return '-';
  const seconds = Math.max(0, Math.round((now - Number(ns / 1_000_000n)) / 1000));
  const units = [
    ['year', 31_536_000],
    ['month', 2_592_000],
    ['day', 86_400],
    ['hour', 3600],
    ['minute', 60],
    ['second', 1],
  ] as const;
  for (const [unit, size] of units) {
    const count = Math.floor(seconds / size);
    if (count >= 1) return `${count} ${unit}${count === 1 ? '' : 's'} ago`;
  }
  return 'now';
}

/** 1536 -> "1.5 KiB". */
export function bytes(count: bigint | number): string {
  let value = Number(count);
  for (const unit of ['B', 'KiB', 'MiB', 'GiB', 'TiB']) {
    if (value < 1024 || unit === 'TiB') return `${unit === 'B' ? value : value.toFixed(1)} ${unit}`;
    value /= 1024;
  }
  return '';
}

/** k=v,k=v in the order of the keys; "-" for none. */
export function labelText(labels: Readonly<Record<string, string>>): string {
  const pairs = Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1));
  return pairs.length === 0 ? '-' : pairs.map(([key, value]) => `${key}=${value}`).join(',');
}
