// Where failures are told: on stderr for people, and in a log whose lines callers parse (go-runc takes the last error of
// a JSON log, conmon passes stderr on).

import { openLog, writeAll } from './context';

export type Level = 'debug' | 'info' | 'warning' | 'error';

export interface LogOptions {
  /** Undefined is stderr. */
  readonly path: string | undefined;
  readonly format: 'text' | 'json';
  readonly debug: boolean;
}

const STDERR = 2;
/** What logrus leaves without quotes. */
const PLAIN = /^[\w./@^+-]+$/;

export class Log {
  private readonly options: LogOptions;
  private fd: number | undefined;

  constructor(options: LogOptions) {
    this.options = options;
  }

  write(level: Level, message: string): void {
    if (level === 'debug' && !this.options.debug) return;
    // "2006-01-02T15:04:05Z"
    const time = `${new Date().toISOString().slice(0, 19)}Z`;
    const line =
      this.options.format === 'json'
        ? JSON.stringify({ level, msg: message, time })
        : `time="${time}" level=${level} msg=${PLAIN.test(message) ? message : JSON.stringify(message)}`;
    writeAll(this.file(), `${line}\n`);
  }

  /** Also says it on stderr when the log is elsewhere. */
  fail(message: string): void {
    this.write('error', message);
    if (this.options.path !== undefined) writeAll(STDERR, `${message}\n`);
  }

  private file(): number {
    if (this.options.path === undefined) return STDERR;
    this.fd ??= openLog(this.options.path);
    return this.fd;
  }
}
