// Tells on standard error how a transfer goes: as bars on a terminal, as lines, as JSON, or not at all.

import { Option } from 'commander';
import type { Input } from '../../proto/codec';
import type { Progress } from '../../proto/generated/containerd.types.transfer';
import { printable } from '../failure';
import { bytes, note, toJson } from '../output';
import { renderBars, shortName } from './bars';
import { isMoving, TransferModel } from './model';

export const PROGRESS_FORMS = ['auto', 'bars', 'plain', 'json', 'none'] as const;
export type ProgressForm = (typeof PROGRESS_FORMS)[number];

/** One who is told. Call end() before anything else is written to standard error. */
export interface Reporter {
  tell(entry: Input<Progress>): void;
  end(): void;
}

const FRAME_MS = 100;
/** How often plain lines repeat a part whose bytes are under way. */
const PLAIN_MS = 5000;

export function progressOption(): Option {
  return new Option('--progress <form>', 'how to show progress on standard error (auto: bars on a terminal, or none)')
    .choices(PROGRESS_FORMS)
    .default('auto');
}

export function reporterFor(form: ProgressForm): Reporter {
  switch (form) {
    case 'auto':
      return process.stderr.isTTY ? new BarReporter() : SILENT;
    case 'bars':
      return new BarReporter();
    case 'plain':
      return new PlainReporter();
    case 'json':
      return { tell: (entry) => note(jsonLine(entry)), end: () => {} };
    case 'none':
      return SILENT;
  }
}

const SILENT: Reporter = { tell: () => {}, end: () => {} };

class BarReporter implements Reporter {
  readonly #model = new TransferModel();
  #timer: NodeJS.Timeout | undefined;
  #lines = 0;

  tell(entry: Input<Progress>): void {
    this.#model.update(entry, performance.now());
    this.#timer ??= setInterval(() => this.#draw(), FRAME_MS).unref();
  }

  end(): void {
    if (this.#timer === undefined) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.#draw();
    this.#lines = 0;
  }

  #draw(): void {
    // A terminal that does not know its size says 0.
    const screen = { columns: process.stderr.columns || 80, rows: process.stderr.rows || 24 };
    const lines = renderBars(this.#model, screen, performance.now());
    const up = this.#lines === 0 ? '' : `\x1b[${this.#lines}A`;
    process.stderr.write(`${up}\r${lines.map((text) => `${text}\x1b[K\n`).join('')}\x1b[J`);
    this.#lines = lines.length;
  }
}

class PlainReporter implements Reporter {
  readonly #told = new Map<string, { event: string; atMs: number }>();

  tell(entry: Input<Progress>): void {
    const { event = '', name = '', progress = 0n, total = 0n } = entry;
    const before = this.#told.get(name);
    const now = performance.now();
    const isRepeated = before?.event === event && name !== '';
    if (isRepeated && now - before.atMs < PLAIN_MS) return;
    this.#told.set(name, { event, atMs: now });
    const part = { name, event, doneBytes: Number(progress), totalBytes: Number(total) };
    const amount = isMoving(part) && total > 0n ? ` ${bytes(progress)} of ${bytes(total)}` : '';
    note(printable(name === '' ? event : `${shortName(name)}: ${event}${amount}`));
  }

  end(): void {}
}

function jsonLine({ event, name, parents, progress, total, desc }: Input<Progress>): string {
  const digest = desc?.digest;
  return toJson({ event, name, parents, progress, total, ...(digest === undefined ? {} : { digest }) });
}
