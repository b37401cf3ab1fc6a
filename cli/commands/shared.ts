// Options and wiring that many commands have in common.

import { type Command, Option } from 'commander';
import { CommandError, EXIT, exitCodeOf, sentenceOf } from '../failure';
import { note } from '../output';
import { type Session, withSession } from '../session';

/** --format and --quiet of every list. */
export function listOptions(command: Command): Command {
  return formatOption(command).option('-q, --quiet', 'print names only');
}

/** --format of what is no list. */
export function formatOption(command: Command): Command {
  const option = new Option('--format <format>', 'how to print').choices(['table', 'json']).default('table');
  return command.addOption(option);
}

/** A group of commands: without a command it prints its help. */
export function group(program: Command, name: string, aliases: readonly string[], description: string): Command {
  return program
    .command(name)
    .aliases([...aliases])
    .description(description)
    .enablePositionalOptions();
}

/** Runs an action for each name: all are tried, each failure is reported, the first one decides the exit code. */
export async function forEach(names: readonly string[], action: (name: string) => Promise<void>): Promise<void> {
  let first: unknown;
  for (const name of names) {
    try {
      await action(name);
    } catch (error) {
      if (names.length === 1) throw error;
      note(`gantry: ${sentenceOf(error)}`);
      first ??= error;
    }
  }
  if (first !== undefined) throw new CommandError('some of them failed', exitCodeOf(first) || EXIT.failed);
}

/**
 * Makes an action of a command that talks to the daemon. Arguments and options arrive as commander gives them.
 * The options are typed by the caller, who declared them.
 */
export function action<Args extends unknown[], Options>(
  body: (session: Session, options: Options, ...args: Args) => Promise<void>,
): (...values: unknown[]) => Promise<void> {
  return async (...values) => {
    const command = values.pop() as Command;
    const options = values.pop() as Options;
    await withSession(command, (session) => body(session, options, ...(values as Args)));
  };
}
