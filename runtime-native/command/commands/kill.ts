// kill: a signal for the process of a container, or for all of them.

import { constants } from 'node:os';
import { isNotFound, unknown } from '../../../proto/errors';
import { type Command, loadContainer } from '../context';

const SIGKILL = 9;
const SIGNAL_MAX = 64;
const SIGRTMIN = 34;

export const kill: Command = {
  usage: '<container-id> [signal]',
  help: 'send a signal (TERM if not given) to the first process of a container',
  flags: { all: { type: 'boolean', short: 'a', help: 'send it to all processes of the container' } },
  words: [1, 2],
  run: (context) => {
    const signal = signalNumber(context.words[1] ?? 'SIGTERM');
    const container = loadContainer(context);
    const all = context.flags.isSet('all');
    const status = container.status();
    if (status === 'stopped' && !all) throw unknown('container not running');
    try {
      container.kill(signal, all);
    } catch (error) {
      if (isNotFound(error)) throw unknown('container not running', { cause: error });
      throw error;
    }
    // Frozen processes do not die.
    if (signal === SIGKILL && status === 'paused') container.resume();
    return 0;
  },
};

/** "9", "KILL", "sigkill" or "RTMIN+1". @throws UNKNOWN */
export function signalNumber(text: string): number {
  const number = Number(text);
  if (/^\d+$/.test(text) && number <= SIGNAL_MAX) return number;
  const name = text.toUpperCase().replace(/^SIG/, '');
  const realTime = /^RTM(IN|AX)(?:([+-])(\d+))?$/.exec(name);
  if (realTime !== null) {
    const offset = Number(`${realTime[2] ?? ''}${realTime[3] ?? '0'}`);
    const found = (realTime[1] === 'IN' ? SIGRTMIN : SIGNAL_MAX) + offset;
    if (found >= SIGRTMIN && found <= SIGNAL_MAX) return found;
  }
  const signal = Object.entries(constants.signals).find(([known]) => known === `SIG${name}`);
  if (signal === undefined) throw unknown(`unknown signal "${text}"`);
  return signal[1];
}
