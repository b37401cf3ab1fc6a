// What every command is given: the flags of the program itself and its own.

import { constants, mkdirSync, openSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { errorKind, messageOf, unknown } from '../../proto/errors';
import { Container } from '../container';
import { lockContainer } from '../state';
import type { Flags, FlagTable } from './flags';

export interface Context {
  /** State directory. */
  readonly root: string;
  /** Where compiled seccomp filters are kept. */
  readonly cacheDir: string;
  readonly criu: string;
  readonly systemdCgroup: boolean;
  /** Undefined: by itself. */
  readonly rootless: boolean | undefined;
  readonly flags: Flags;
  readonly words: readonly string[];
}

export interface Command {
  /** Behind the name: "<container-id>". */
  readonly usage: string;
  readonly help: string;
  readonly flags: FlagTable;
  /** How many words it takes. */
  readonly words: readonly [min: number, max: number];
  /** The words are a container and a command line, whose flags are not ours. */
  readonly passesWords?: boolean;
  /** Resolves with the exit code. */
  readonly run: (context: Context) => number | Promise<number>;
}

const STDOUT = 1;

export function idOf({ words }: Context): string {
  const [id = ''] = words;
  if (id === '') throw unknown('container id cannot be empty');
  return id;
}

/** @throws NOT_FOUND */
export function loadContainer(context: Context): Container {
  return Container.load(context.root, idOf(context), context.cacheDir);
}

/** Loads a container that no other process changes meanwhile. @throws NOT_FOUND */
export async function withContainer<T>(context: Context, body: (container: Container) => Promise<T> | T): Promise<T> {
  const unlock = await lockContainer(context.root, idOf(context));
  try {
    return await body(loadContainer(context));
  } finally {
    unlock();
  }
}

/** Writes everything, also to a pipe whose reader is slow. */
export function print(text: string): void {
  writeAll(STDOUT, text);
}

export function writeAll(fd: number, text: string): void {
  const bytes = Buffer.from(text);
  for (let at = 0; at < bytes.length; ) {
    try {
      at += writeSync(fd, bytes, at);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1);
    }
  }
}

/** As Go prints a document for people. */
export function json(value: unknown): string {
  return JSON.stringify(value, undefined, 2);
}

/** Opens a log that others may read as well; made when it is not there. */
export function openLog(path: string): number {
  const slash = path.lastIndexOf('/');
  if (slash > 0) mkdirSync(path.slice(0, slash), { recursive: true });
  return openSync(path, constants.O_CREAT | constants.O_WRONLY | constants.O_APPEND, 0o644);
}

export function stateDirectory(): string {
  const runtimeDirectory = process.env['XDG_RUNTIME_DIR'];
  return process.getuid?.() !== 0 && runtimeDirectory ? join(runtimeDirectory, 'gantry') : '/run/gantry';
}

/** Without the words of the kind, which are those of the daemon's API. */
export function wordsOf(error: unknown): string {
  const message = messageOf(error);
  const kind = errorKind(error);
  return kind !== undefined && message.endsWith(`: ${kind}`) ? message.slice(0, -kind.length - 2) : message;
}
