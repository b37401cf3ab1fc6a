// A transfer as lines on a terminal: a bar for each part and a line for all of them. Pure: the caller writes the lines.

import { printable } from '../failure';
import { bytes } from '../output';
import { isDone, isMoving, type Part, type TransferModel } from './model';

export interface Screen {
  readonly columns: number;
  readonly rows: number;
}

const NAME_COLUMNS = 24;
const EVENT_COLUMNS = 14;
const AMOUNT_COLUMNS = 23;
const BAR_COLUMNS_MAX = 40;
const BAR_COLUMNS_MIN = 8;
const DIGEST_SHOWN = 12;

/** Never more lines than the screen has, nor longer ones: a terminal cannot go back over what has scrolled away. */
export function renderBars(model: TransferModel, { columns, rows }: Screen, nowMs: number): string[] {
  const parts = shown(model.parts, Math.max(1, rows - 2));
  return [...parts.map((part) => partLine(part, columns)), summary(model, nowMs)].map((text) =>
    printable(text)
      .slice(0, Math.max(1, columns - 1))
      .trimEnd(),
  );
}

/** "layer-sha256:0123..." as people tell layers apart: "layer 0123...". */
export function shortName(name: string): string {
  const [, kind, hex] = /^([a-z]+)-[a-z0-9]+:([0-9a-f]+)$/.exec(name) ?? [];
  return hex === undefined ? name : `${kind} ${hex.slice(0, DIGEST_SHOWN)}`;
}

/** "7s", "3m20s", "2h05m". */
export function duration(seconds: number): string {
  const two = (value: number) => String(value).padStart(2, '0');
  if (seconds < 60) return `${seconds}s`;
  const minutes = Math.floor(seconds / 60);
  return minutes < 60 ? `${minutes}m${two(seconds % 60)}s` : `${Math.floor(minutes / 60)}h${two(minutes % 60)}m`;
}

/** When there is no room for all, those that are done go first. */
function shown(parts: readonly Part[], room: number): readonly Part[] {
  if (parts.length <= room) return parts;
  const kept = new Set([...parts.filter((part) => !isDone(part)), ...parts.filter(isDone)].slice(0, room));
  return parts.filter((part) => kept.has(part));
}

function partLine(part: Part, columns: number): string {
  const name = shortName(part.name);
  const head = `${clip(name, NAME_COLUMNS)} ${part.event.padEnd(EVENT_COLUMNS)}`;
  const amount = amountOf(part).padStart(AMOUNT_COLUMNS);
  const room = columns - 1 - head.length - AMOUNT_COLUMNS - 3;
  if (part.totalBytes === 0 || room < BAR_COLUMNS_MIN) return `${head}${amount}`;
  const width = Math.min(room, BAR_COLUMNS_MAX);
  const filled = Math.round((width * Math.min(part.doneBytes, part.totalBytes)) / part.totalBytes);
  return `${head}[${'#'.repeat(filled)}${'-'.repeat(width - filled)}]${amount}`;
}

function amountOf(part: Part): string {
  if (part.totalBytes === 0) return part.doneBytes === 0 ? '' : bytes(part.doneBytes);
  return isMoving(part) ? `${bytes(part.doneBytes)} / ${bytes(part.totalBytes)}` : bytes(part.totalBytes);
}

function summary(model: TransferModel, nowMs: number): string {
  const { parts, status, doneBytes, totalBytes } = model;
  const rate = model.rate(nowMs);
  const seconds = model.remainingSeconds(nowMs);
  return [
    status,
    parts.length === 0 ? '' : `${parts.filter(isDone).length} of ${parts.length} done`,
    totalBytes === 0 ? '' : `${bytes(doneBytes)} / ${bytes(totalBytes)}`,
    rate === 0 ? '' : `${bytes(Math.round(rate))}/s`,
    seconds === undefined ? '' : `${duration(seconds)} left`,
  ]
    .filter((text) => text !== '')
    .join('  ');
}

function clip(text: string, columns: number): string {
  return text.length <= columns ? text.padEnd(columns) : `${text.slice(0, columns - 3)}...`;
}
