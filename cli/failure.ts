// What ends a command: exit codes and the one sentence that goes to stderr. The codes are part of the interface and
// are documented in README.md and in `gantry --help`.

import { errorKind, isErrno, messageOf } from '../proto/errors';

export const EXIT = {
  /** The daemon answered with an error, or something local failed. */
  failed: 1,
  /** The command line is wrong. */
  usage: 2,
  /** Nobody answers at the socket. */
  unreachable: 3,
  /** The named object does not exist. */
  notFound: 4,
  /** The object exists already, or is not in a state that allows the request. */
  conflict: 5,
  /** run and exec: gantry itself failed, as opposed to the process. */
  runFailed: 125,
  /** run and exec: the command was found but could not be started. */
  notExecutable: 126,
  /** run and exec: the command was not found in the container. */
  commandNotFound: 127,
} as const;

/** An error with an exit code of its own. */
export class CommandError extends Error {
  readonly exitCode: number;

  constructor(message: string, exitCode: number = EXIT.failed, options?: ErrorOptions) {
    super(message, options);
    this.name = 'CommandError';
    this.exitCode = exitCode;
  }
}

export const usageError = (message: string): CommandError => new CommandError(message, EXIT.usage);

/** The exit code that a thrown value stands for. */
export function exitCodeOf(error: unknown): number {
  if ((error as CommandError | undefined)?.name === 'CommandError') return (error as CommandError).exitCode;
  switch (errorKind(error)) {
    case 'not found':
      return EXIT.notFound;
    case 'already exists':
    case 'failed precondition':
      return EXIT.conflict;
    case 'unavailable':
      return messageOf(error).startsWith('cannot reach') ? EXIT.unreachable : EXIT.failed;
    default:
      return EXIT.failed;
  }
}

/** The sentence for stderr: one line, nothing in it that steers the terminal, no class words that say nothing. */
export function sentenceOf(error: unknown): string {
  return printable(
    textOf(error)
      .trim()
      .replace(/\s*\n\s*/g, '; '),
  );
}

function textOf(error: unknown): string {
  const text = messageOf(error);
  if (errorKind(error) === 'unavailable') return text.replace(/: unavailable$/, '');
  if (errorKind(error) === 'unknown') return text.replace(/: unknown$/, '');
  if (isErrno(error, 'ENOENT', 'EACCES', 'EISDIR', 'EEXIST')) {
    const { code, path } = error as NodeJS.ErrnoException;
    const why = { ENOENT: 'no such file or directory', EACCES: 'permission denied', EISDIR: 'is a directory' }[
      `${code}`
    ];
    if (path !== undefined && why !== undefined) return `${path}: ${why}`;
  }
  return text;
}

/** Text from elsewhere must not steer the terminal: control characters are shown escaped. */
export function printable(text: string): string {
  return text.replace(/\p{Cc}/gu, (char) => `\\x${char.charCodeAt(0).toString(16).padStart(2, '0')}`);
}

/**
 * Exit code for a process that could not be started, from runc's words in the error: 127 when the executable does not
 * exist, 126 when it exists but cannot be executed, 125 for all else (as docker does).
 */
export function startFailureCode(error: unknown): number {
  const text = messageOf(error);
  if (!text.includes('exec: ') && !text.includes('exec failed')) return EXIT.runFailed;
  if (/no such file or directory|executable file not found/.test(text)) return EXIT.commandNotFound;
  if (/permission denied|is a directory|exec format error|not a directory/.test(text)) return EXIT.notExecutable;
  return EXIT.runFailed;
}
