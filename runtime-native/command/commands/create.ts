// create: everything up to the moment before the program runs. And what run does the same way.

import { unknown } from '../../../proto/errors';
import { Container } from '../../container';
import type { Process } from '../../spec';
import { bundleOptions, checkTerminal, hasTerminal } from '../bundle';
import { type Command, type Context, wordsOf } from '../context';
import { passedFiles, withEnvironment } from '../files';
import type { FlagTable } from '../flags';
import { writePidFile } from '../pid-file';
import { sendTerminal, withTerminalSize } from '../terminal';

export const CREATE_FLAGS: FlagTable = {
  bundle: { type: 'string', short: 'b', help: 'directory of the bundle; the working directory if not given' },
  'console-socket': { type: 'string', help: "unix socket that gets the descriptor of the terminal's master" },
  'pid-file': { type: 'string', help: 'file to write the pid of the process to' },
  'no-pivot': { type: 'boolean', help: 'move the root instead of pivoting into it; for a rootfs on a ramdisk' },
  'no-new-keyring': { type: 'boolean', help: 'stay with the session keyring of the caller' },
  'preserve-fds': { type: 'string', help: 'pass N descriptors more than standard input and output and $LISTEN_FDS' },
};

export const create: Command = {
  usage: '<container-id>',
  help: 'create a container',
  flags: CREATE_FLAGS,
  words: [1, 1],
  run: async (context) => {
    const container = await createFor(context, { detaches: true, startSocket: true });
    await announce(container, context, true);
    return 0;
  },
};

/** @throws UNKNOWN `runc create failed: ...` */
export async function createFor(
  context: Context,
  how: { readonly detaches: boolean; readonly startSocket: boolean },
): Promise<Container> {
  const { flags } = context;
  const options = saying('create', () => {
    const bundle = bundleOptions(context);
    checkTerminal(flags, hasTerminal(bundle.spec), how.detaches);
    return { ...bundle, passed: passedFiles(flags) };
  });
  const { spec, passed } = options;
  const { process } = spec;
  const complete = (given: Process) => {
    const informed = withEnvironment(given, passed.env);
    return how.detaches ? informed : withTerminalSize(informed);
  };
  return Container.create({
    ...options,
    spec: process === undefined ? spec : { ...spec, process: complete(process) },
    io: hasTerminal(spec) ? 'terminal' : { stdin: 0, stdout: 1, stderr: 2 },
    files: passed.files,
    keepsSpec: true,
    startSocket: how.startSocket,
  });
}

/** Tells the caller of the process; removes the container when that fails. */
export async function announce(container: Container, { flags }: Context, detaches: boolean): Promise<void> {
  try {
    const socket = flags.text('console-socket');
    if (detaches && socket !== undefined && container.terminalFd !== undefined) {
      sendTerminal(socket, container.terminalFd);
    }
    writePidFile(flags.text('pid-file'), container.pid);
  } catch (error) {
    await container.delete();
    throw unknown(`runc create failed: ${wordsOf(error)}`, { cause: error });
  }
}

function saying<T>(what: string, body: () => T): T {
  try {
    return body();
  } catch (error) {
    throw unknown(`runc ${what} failed: ${wordsOf(error)}`, { cause: error });
  }
}
