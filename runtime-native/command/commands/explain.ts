// explain: what create would do, without doing any of it.

import { explain as explainLaunch } from '../../explain';
import { bundleOptions, hasTerminal } from '../bundle';
import { type Command, json, print } from '../context';

export const explain: Command = {
  usage: '[container-id]',
  help: 'print the launch plan of a bundle',
  flags: {
    bundle: { type: 'string', short: 'b', help: 'directory of the bundle; the working directory if not given' },
    'no-pivot': { type: 'boolean', help: 'as for create' },
    'no-new-keyring': { type: 'boolean', help: 'as for create' },
  },
  words: [0, 1],
  run: (context) => {
    const words = context.words.length > 0 ? context.words : ['explained'];
    const options = bundleOptions({ ...context, words });
    const io = hasTerminal(options.spec) ? 'terminal' : { stdin: 0, stdout: 1, stderr: 2 };
    print(`${json(explainLaunch({ ...options, io, startSocket: true }))}\n`);
    return 0;
  },
};
