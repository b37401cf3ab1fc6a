// events: what a container uses, once or again and again, and when it is out of memory. One JSON document per line.

import { setTimeout as sleep } from 'node:timers/promises';
import { unknown } from '../../../proto/errors';
import type { Container } from '../../container';
import { type Command, idOf, loadContainer, print } from '../context';
import { statsOf } from '../stats';

const INTERVAL_DEFAULT = '5s';
const UNITS_MS: Readonly<Record<string, number>> = { h: 3_600_000, m: 60_000, s: 1000, ms: 1 };

export const events: Command = {
  usage: '<container-id>',
  help: 'print what a container uses, and when it is out of memory',
  flags: {
    interval: { type: 'string', help: 'time between two reports, 5s if not given' },
    stats: { type: 'boolean', help: 'print one report and end' },
  },
  words: [1, 1],
  run: async (context) => {
    const intervalMs = duration(context.flags.text('interval') ?? INTERVAL_DEFAULT);
    if (intervalMs <= 0) throw unknown('duration interval must be greater than 0');
    const container = loadContainer(context);
    if (container.status() === 'stopped') throw unknown(`container with id ${idOf(context)} is not running`);
    if (context.flags.isSet('stats')) {
      printStats(container);
      return 0;
    }
    container.onOom(() => print(`${JSON.stringify({ type: 'oom', id: container.id })}\n`));
    while (container.status() !== 'stopped') {
      printStats(container);
      await sleep(intervalMs);
    }
    return 0;
  },
};

function printStats(container: Container): void {
  print(`${JSON.stringify({ type: 'stats', id: container.id, data: statsOf(container.stats()) })}\n`);
}

/** As Go writes them: "1m30s". */
function duration(text: string): number {
  const parts = [...text.matchAll(/(\d+(?:\.\d+)?)(ms|h|m|s)/g)];
  if (parts.length === 0 || parts.map(([part]) => part).join('') !== text) {
    throw unknown(`invalid value "${text}" for flag -interval: parse error`);
  }
  return parts.reduce((sum, [, count, unit]) => sum + Number(count) * (UNITS_MS[unit ?? ''] ?? 0), 0);
}
