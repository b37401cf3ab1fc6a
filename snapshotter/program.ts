// Programs that drivers run, such as mkfs.erofs. None needs a shell.

import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { basename, delimiter, join } from 'node:path';
import { resourceExhausted, unknown } from '../proto/errors';

/** Where programs for root are, which a daemon's PATH may lack. */
const SYSTEM_DIRECTORIES = ['/usr/local/sbin', '/usr/sbin', '/sbin'];
const OUTPUT_BYTES_MAX = 1 << 20;
const MESSAGE_LINES = 3;

/** The path of a program, or undefined. */
export function findProgram(name: string): string | undefined {
  const directories = [...(process.env['PATH'] ?? '').split(delimiter), ...SYSTEM_DIRECTORIES];
  return directories
    .filter((directory) => directory !== '')
    .map((directory) => join(directory, name))
    .find((path) => existsSync(path));
}

/**
 * Runs a program to its end.
 * @param what it does, for messages
 * @returns its standard output
 * @throws RESOURCE_EXHAUSTED when it says that the disk is full, UNKNOWN with its last words for any other failure
 */
export function runProgram(program: string, args: readonly string[], what: string): Promise<string> {
  return new Promise((resolve, reject) => {
    execFile(program, [...args], { maxBuffer: OUTPUT_BYTES_MAX, env: programEnv() }, (error, stdout, stderr) => {
      if (error === null) {
        resolve(stdout);
        return;
      }
      const words = `${stdout}\n${stderr}`.trim().split('\n').slice(-MESSAGE_LINES).join('; ');
      const text = `${what}: ${basename(program)}: ${words === '' ? error.message : words}`;
      const isFull = /No space left on device|Disk quota exceeded/.test(words);
      reject(isFull ? resourceExhausted(text, { cause: error }) : unknown(text, { cause: error }));
    });
  });
}

/** Messages are read above, so they must be in English. */
function programEnv(): NodeJS.ProcessEnv {
  return { ...process.env, LC_ALL: 'C' };
}
