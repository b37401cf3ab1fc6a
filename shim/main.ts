// gantry-shim, also known as containerd-shim-gantry-v1: supervises containers on behalf of a daemon (shim v2 protocol).

import { writeSync } from 'node:fs';
import { messageOf } from '../proto/errors';
import { parseArgs, type ShimArgs } from './args';
import { NativeRuntime } from './native-runtime';
import { serveShim } from './serve';

const STDOUT = 1;
const STDERR = 2;

async function main(): Promise<void> {
  const args = parseArgs(process.argv.slice(2));
  if (args.action === 'serve') await serveShim(args, new NativeRuntime());
  else await runAction(args);
}

/** Actions that end at once; loaded only here to keep the server small. */
async function runAction(args: ShimArgs): Promise<void> {
  const warn = (text: string) => writeSync(STDERR, `${text}\n`);
  switch (args.action) {
    case 'start': {
      const { start } = await import('./start.js');
      await start(args);
      return;
    }
    case 'zygote': {
      const { zygote } = await import('./zygote.js');
      await zygote(args);
      return;
    }
    case 'delete': {
      const { deleteTask } = await import('./delete.js');
      writeSync(STDOUT, await deleteTask(args, new NativeRuntime(), warn));
      return;
    }
    default: {
      const { runtimeInfo, SHIM_NAME, SHIM_VERSION } = await import('./info.js');
      const version = Buffer.from(`${SHIM_NAME}\n  Version:  ${SHIM_VERSION}\n`);
      writeSync(STDOUT, args.action === 'info' ? runtimeInfo() : version);
    }
  }
}

main().then(
  () => process.exit(0),
  (error: unknown) => {
    writeSync(STDERR, `gantry-shim: ${messageOf(error)}\n`);
    process.exit(1);
  },
);
