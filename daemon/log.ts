// The daemon's log: winston on stderr, one line an event, constant messages with the facts in fields.

import type { Logform, Logger } from 'winston';

export type LogLevel = 'error' | 'warn' | 'info' | 'debug';
export type LogFormat = 'text' | 'json';
export type { Logger };

export const LOG_LEVELS: readonly LogLevel[] = ['error', 'warn', 'info', 'debug'];
export const LOG_FORMATS: readonly LogFormat[] = ['text', 'json'];

export function createLog(level: LogLevel, logFormat: LogFormat): Logger {
  // Loaded here, because reading the configuration needs only the names above.
  const { createLogger, format, transports } = require('winston') as typeof import('winston');
  const line =
    logFormat === 'json'
      ? format.combine(format.timestamp(), format.json())
      : format.combine(format.timestamp(), format.printf(text));
  return createLogger({
    level,
    format: line,
    transports: [new transports.Console({ stderrLevels: [...LOG_LEVELS] })],
    exitOnError: false,
  });
}

/** time level message key=value ... */
function text({ timestamp, level, message, ...fields }: Logform.TransformableInfo): string {
  const rest = Object.entries(fields).map(([key, value]) => ` ${key}=${quote(value)}`);
  return `${timestamp} ${level} ${message}${rest.join('')}`;
}

function quote(value: unknown): string {
  const plain = typeof value === 'object' ? JSON.stringify(value) : String(value);
  return /^[^\s"=]+$/.test(plain) ? plain : JSON.stringify(plain);
}
