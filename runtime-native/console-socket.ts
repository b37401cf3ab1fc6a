// Receives the terminal of a container from an OCI runtime that is a program (runc's --console-socket).

import { closeSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { unknown } from '../proto/errors';
import { libgantry } from './library';
import { receive } from './native';
import { checkResult } from './system-error';

const EAGAIN = -11;
const POLL_MS = 2;
const MESSAGE_SIZE = 4096;
/** How long a message may take whose sender has connected. */
const MESSAGE_TIMEOUT_MS = 1000;

export class ConsoleSocket {
  /** Short, in a directory of its own that only the owner may enter: what --console-socket gets. */
  readonly path: string;
  private readonly directory = mkdtempSync(join(tmpdir(), 'gantry-pty-'));
  private readonly listener: number;

  constructor() {
    this.path = join(this.directory, 's');
    const listen = libgantry().func('int gantry_console_listen(const char *path)');
    this.listener = checkResult(listen(this.path) as number, 'bind', this.path);
  }

  /**
   * The pty's master, which the caller closes.
   * @param isOver when it says so and nobody has connected, nobody will
   * @throws UNKNOWN when none came
   */
  async terminal(isOver: () => boolean): Promise<number> {
    const accept = libgantry().func('int gantry_console_accept(int listener)');
    for (let last = false; ; ) {
      const connection = accept(this.listener) as number;
      if (connection >= 0) return takeTerminal(connection);
      if (connection !== EAGAIN) checkResult(connection, 'accept', this.path);
      if (last) throw unknown('the runtime sent no terminal');
      last = isOver(); // It may have connected just before its end.
      await sleep(POLL_MS);
    }
  }

  close(): void {
    closeSync(this.listener);
    rmSync(this.directory, { recursive: true, force: true });
  }
}

function takeTerminal(connection: number): number {
  try {
    const received = receive(connection, Buffer.alloc(MESSAGE_SIZE), MESSAGE_TIMEOUT_MS);
    if (received === undefined || received.fd < 0) throw unknown('the runtime sent no terminal');
    return received.fd;
  } finally {
    closeSync(connection);
  }
}
