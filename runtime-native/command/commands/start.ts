// start: lets the process of a created container run its program.

import { type Command, withContainer } from '../context';

export const start: Command = {
  usage: '<container-id>',
  help: 'run the program of a created container',
  flags: {},
  words: [1, 1],
  run: async (context) => {
    await withContainer(context, (container) => container.start());
    return 0;
  },
};
