// list: the containers of a state directory.

import { isNotFound, unknown } from '../../../proto/errors';
import { Container } from '../../container';
import { containerIds } from '../../state';
import { type Command, type Context, print } from '../context';
import { type Description, describeContainer } from '../describe';
import { table } from '../table';

export const list: Command = {
  usage: '',
  help: 'list containers',
  flags: {
    format: { type: 'string', short: 'f', help: 'table or json' },
    quiet: { type: 'boolean', short: 'q', help: 'print ids only' },
  },
  words: [0, 0],
  run: (context) => {
    const format = context.flags.text('format') ?? 'table';
    if (format !== 'table' && format !== 'json') throw unknown('invalid format option');
    const containers = describeAll(context);
    if (context.flags.isSet('quiet')) print(containers.map(({ id }) => `${id}\n`).join(''));
    else print(format === 'json' ? `${JSON.stringify(containers)}\n` : tableOf(containers));
    return 0;
  },
};

function describeAll({ root }: Context): Description[] {
  return containerIds(root).flatMap((id) => {
    try {
      return [describeContainer(root, id, Container.load(root, id))];
    } catch (error) {
      // Deleted meanwhile, or not made yet.
      if (isNotFound(error)) return [];
      throw error;
    }
  });
}

function tableOf(containers: readonly Description[]): string {
  return table([
    ['ID', 'PID', 'STATUS', 'BUNDLE', 'CREATED', 'OWNER'],
    ...containers.map(({ id, pid, status, bundle, created, owner }) => [
      id,
      String(pid),
      status,
      bundle,
      created,
      owner,
    ]),
  ]);
}
