// pause and resume: freezes all processes of a container, and lets them go on.

import { unknown } from '../../../proto/errors';
import { type Command, withContainer } from '../context';

export const pause: Command = {
  usage: '<container-id>',
  help: 'stop all processes of a container for a while',
  flags: {},
  words: [1, 1],
  run: async (context) => {
    await withContainer(context, async (container) => {
      const status = container.status();
      if (status !== 'running' && status !== 'created') throw unknown('container not running');
      await container.pause();
    });
    return 0;
  },
};

export const resume: Command = {
  usage: '<container-id>',
  help: 'let the processes of a paused container go on',
  flags: {},
  words: [1, 1],
  run: async (context) => {
    await withContainer(context, (container) => {
      if (container.status() !== 'paused') throw unknown('container not paused');
      container.resume();
    });
    return 0;
  },
};
