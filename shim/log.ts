// The shim's log: lines like logrus' text format on stderr, which is the bundle's log fifo. A log must never hold up or
// end the shim, so the fifo is written without blocking and lines that find no room are dropped.

import { closeSync, constants, openSync, writeSync } from 'node:fs';

export type LogFields = Readonly<Record<string, string | number | boolean | bigint | undefined>>;

export interface Log {
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields): void;
}

const STDERR = 2;

/** A log on stderr. `debug` turns on the lines of that level. */
export function openLog(debug: boolean): Log {
  const fd = reopenStderr();
  const write = (level: string, message: string, fields: LogFields = {}) => {
    let line = `time=${quote(new Date().toISOString())} level=${level} msg=${quote(message)}`;
    for (const [name, value] of Object.entries(fields)) {
      if (value !== undefined) line += ` ${name}=${quote(String(value))}`;
    }
    try {
      writeSync(fd, `${line}\n`);
    } catch {
      // Full or closed: there is nobody to tell.
    }
  };
  return {
    debug: debug ? (message, fields) => write('debug', message, fields) : () => {},
    info: (message, fields) => write('info', message, fields),
    warn: (message, fields) => write('warning', message, fields),
    error: (message, fields) => write('error', message, fields),
  };
}

/**
 * A description of stderr of our own, not blocking. Opened for reading as well: a fifo then neither fails when its
 * reader is gone (fifo(7)) nor raises EPIPE.
 */
function reopenStderr(): number {
  for (const flags of [constants.O_RDWR, constants.O_WRONLY | constants.O_APPEND]) {
    try {
      const fd = openSync('/proc/self/fd/2', flags | constants.O_NONBLOCK | constants.O_NOCTTY);
      if (flags === constants.O_RDWR && !isWritable(fd)) {
        closeSync(fd);
        continue;
      }
      return fd;
    } catch {
      // A socket cannot be opened, a read-only file not be written: the inherited one has to do.
    }
  }
  return STDERR;
}

function isWritable(fd: number): boolean {
  try {
    writeSync(fd, '');
    return true;
  } catch {
    return false;
  }
}

function quote(text: string): string {
  return /^[\w./:@+-]+$/.test(text) ? text : JSON.stringify(text);
}
