// ps: the processes of a container, by the host's pids or in the words of the host's ps(1).

import { execFileSync } from 'node:child_process';
import { messageOf, unknown } from '../../../proto/errors';
import { type Command, loadContainer, print } from '../context';

export const ps: Command = {
  usage: '<container-id> [ps options]',
  help: 'show the processes of a container',
  flags: { format: { type: 'string', short: 'f', help: 'table or json' } },
  words: [1, Number.MAX_SAFE_INTEGER],
  passesWords: true,
  run: (context) => {
    const format = context.flags.text('format') ?? 'table';
    if (format !== 'table' && format !== 'json') throw unknown('invalid format option');
    const pids = loadContainer(context).pids();
    print(format === 'json' ? `${JSON.stringify(pids)}\n` : table(pids, context.words.slice(1)));
    return 0;
  },
};

/** The lines of ps for these pids. */
function table(pids: readonly number[], options: readonly string[]): string {
  const [header = '', ...lines] = hostPs(options).split('\n');
  const column = header.trim().split(/\s+/).indexOf('PID');
  if (column < 0) throw unknown("couldn't find PID field in ps output");
  const wanted = new Set(pids.map(String));
  const found = lines.filter((line) => wanted.has(line.trim().split(/\s+/)[column] ?? ''));
  return [header, ...found].map((line) => `${line}\n`).join('');
}

function hostPs(options: readonly string[]): string {
  try {
    return execFileSync('ps', options.length > 0 ? options : ['-ef'], { encoding: 'utf8' });
  } catch (error) {
    throw unknown(`ps: ${messageOf(error)}`, { cause: error });
  }
}
