// features: what the runtime can do, for programs.

import { features as document } from '../../features';
import { type Command, json, print } from '../context';
import { programVersion } from '../version';

export const features: Command = {
  usage: '',
  help: 'print what the runtime can do',
  flags: {},
  words: [0, 0],
  run: () => {
    print(`${json({ ...document(), annotations: { 'org.gantry.version': programVersion() } })}\n`);
    return 0;
  },
};
