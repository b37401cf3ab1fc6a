// Entry point of `gantry`. Nothing happens here but: run the command line, say what failed, end with its exit code.

import { runCommandLine } from './program';

/** As a shell reports a program that was ended by SIGPIPE. */
const BROKEN_PIPE = 141;

for (const stream of [process.stdout, process.stderr]) {
  stream.on('error', (error: NodeJS.ErrnoException) => {
    // Who stands in front of a container handles the loss of its reader by stopping the container.
    if (stream.listenerCount('error') > 1) return;
    process.exit(error.code === 'EPIPE' ? BROKEN_PIPE : 1);
  });
}

// Left over: standard input or a daemon's stream may keep the event loop busy, so the end is explicit.
runCommandLine(process.argv.slice(2)).then((exitCode) => process.exit(exitCode));
