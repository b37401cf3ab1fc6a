// state: the state of a container as the runtime specification has it (runtime.md), and what runc adds.

import { type Command, idOf, json, loadContainer, print } from '../context';
import { describeContainer } from '../describe';

export const state: Command = {
  usage: '<container-id>',
  help: 'print the state of a container',
  flags: {},
  words: [1, 1],
  run: (context) => {
    const container = loadContainer(context);
    print(`${json(describeContainer(context.root, idOf(context), container))}\n`);
    return 0;
  },
};
