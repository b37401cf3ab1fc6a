// spec: a config.json to start from.

import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { unknown } from '../../../proto/errors';
import { type Command, json } from '../context';
import { exampleSpec, rootlessSpec } from '../example-spec';

const CONFIG = 'config.json';
const MODE = 0o666;

export const spec: Command = {
  usage: '',
  help: 'write a config.json to start from',
  flags: {
    bundle: { type: 'string', short: 'b', help: 'directory of the bundle; the working directory if not given' },
    rootless: { type: 'boolean', help: 'for a container of an ordinary user' },
  },
  words: [0, 0],
  run: ({ flags }) => {
    const path = join(flags.text('bundle') ?? '.', CONFIG);
    if (existsSync(path)) throw unknown(`File ${CONFIG} exists. Remove it first`);
    const document = flags.isSet('rootless') ? rootlessSpec(ids().uid, ids().gid) : exampleSpec();
    writeFileSync(path, `${json(document)}\n`, { mode: MODE });
    return 0;
  },
};

function ids(): { uid: number; gid: number } {
  return { uid: process.geteuid?.() ?? 0, gid: process.getegid?.() ?? 0 };
}
