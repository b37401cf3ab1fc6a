// Steps that build images, and what of them can be compared.

import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { runCommand } from '../../setup/command';
import type { Case, Step } from '../session';

/** The ids of what a builder makes hold the time. */
export const MADE: NonNullable<Case['hide']> = [[/sha256:[0-9a-f]{64}/g, 'DIGEST']];

/** Writes a build context into the scratch directory. */
export function context(name: string, files: Record<string, string>): Step {
  return async (session) => {
    for (const [file, content] of Object.entries(files)) {
      const target = path.join(session.scratch, name, file);
      mkdirSync(path.dirname(target), { recursive: true });
      writeFileSync(target, session.fill(content));
    }
  };
}

/** `docker build` with the classic builder. */
export function classic(...args: readonly string[]): string[] {
  return ['DOCKER_BUILDKIT=0', 'build', ...args];
}

/**
 * `docker build` with BuildKit. It tells of its steps in any order, and how long each takes: noted are the names of those
 * that belong to the Dockerfile, with what they print and how they end, and the exit status.
 */
export function buildkit(args: readonly string[], dockerfile = ''): Step {
  const command = ['DOCKER_BUILDKIT=1', 'build', '--progress', 'plain', ...args];
  return async (session) => {
    const options = { stdin: session.fill(dockerfile), timeoutMs: 120_000 };
    const { exitCode, stdout, stderr } = await runCommand(session.command(command), options);
    session.note(`build ${args.join(' ')}: ${exitCode}`);
    for (const line of stepsOf(stdout + stderr)) session.note(line);
  };
}

/** What BuildKit has printed of each step of a Dockerfile, sorted by its name. */
function stepsOf(output: string): string[] {
  const steps = new Map<string, string[]>();
  for (const [, id, text] of output.matchAll(/^#(\d+) (.*)$/gm)) {
    const lines = steps.get(id!) ?? [];
    steps.set(id!, lines);
    if (lines.length === 0 || isTelling(text!)) lines.push(text!.replace(/^\d+\.\d+ /, ''));
  }
  // What is the base of two stages goes by the name of either.
  return [...steps.values()]
    .filter(([name]) => /^\[.*\d+\/\d+\] (?!FROM )/.test(name!))
    .map((lines) => lines.join(' | '))
    .sort();
}

/** Not how much of something has come, and not the name again. */
function isTelling(text: string): boolean {
  return /^(\d+\.\d+ .*|CACHED|ERROR.*)$/.test(text);
}
