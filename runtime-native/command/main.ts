// Entry point of `gantry-runtime`: an OCI runtime with the command line of runc.

import { runProgram } from './program';

// Exits of children come as signals, which alone do not keep Node running.
setInterval(() => {}, 2 ** 30);

// Left over: terminals and timers may keep the event loop busy, so the end is explicit.
runProgram(process.argv.slice(2)).then((code) => process.exit(code));
