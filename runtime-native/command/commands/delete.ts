// delete: removes what is left of a container. With --force it need not have stopped, nor exist.

import { isNotFound, unknown } from '../../../proto/errors';
import type { Container } from '../../container';
import { type Command, idOf, withContainer } from '../context';

export const delete_: Command = {
  usage: '<container-id>',
  help: 'remove a container that has not been started or has stopped',
  flags: { force: { type: 'boolean', short: 'f', help: 'kill it if it runs' } },
  words: [1, 1],
  run: async (context) => {
    const force = context.flags.isSet('force');
    try {
      await withContainer(context, async (container) => {
        if (!force) checkEnded(container, idOf(context));
        await container.delete();
      });
    } catch (error) {
      if (!force || !isNotFound(error)) throw error;
    }
    return 0;
  },
};

function checkEnded(container: Container, id: string): void {
  const status = container.status();
  if (status === 'running' || status === 'paused') {
    throw unknown(`cannot delete container ${id} that is not stopped: ${status}`);
  }
}
