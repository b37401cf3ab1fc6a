// run: create and start, and unless detached the whole life of a container.

import { unknown } from '../../../proto/errors';
import type { Container } from '../../container';
import { type Command, type Context, wordsOf } from '../context';
import { passSignals, waitInForeground } from '../foreground';
import { announce, CREATE_FLAGS, createFor } from './create';

export const run: Command = {
  usage: '<container-id>',
  help: 'create and run a container',
  flags: {
    ...CREATE_FLAGS,
    detach: { type: 'boolean', short: 'd', help: 'do not wait for the process' },
    keep: { type: 'boolean', help: 'do not delete the container when it has exited' },
    'no-subreaper': { type: 'boolean', help: 'accepted; orphans go to the nearest subreaper above in any case' },
  },
  words: [1, 1],
  run: async (context) => {
    try {
      return await runContainer(context);
    } catch (error) {
      throw unknown(`runc run failed: ${wordsOf(error).replace(/^runc (create|start) failed: /, '')}`, {
        cause: error,
      });
    }
  },
};

async function runContainer(context: Context): Promise<number> {
  const { flags } = context;
  const detaches = flags.isSet('detach');
  const container = await createFor(context, { detaches, startSocket: false });
  await announce(container, context, detaches);
  if (!detaches) passSignals(container.pid);
  await startOrDelete(container);
  if (detaches) return 0;
  const code = await waitInForeground(container.pid, container.terminalFd);
  if (!flags.isSet('keep')) await container.delete();
  return code;
}

async function startOrDelete(container: Container): Promise<void> {
  try {
    await container.start();
  } catch (error) {
    await container.delete();
    throw error;
  }
}
