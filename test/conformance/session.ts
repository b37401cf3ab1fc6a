// One command line program against one daemon: runs its commands and writes what can be observed of them into a transcript.
// Two transcripts of the same case, from different daemons, are equal when the daemons behave equally.

import { spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { PROJECT_ROOT } from '../setup/cache';
import { type CommandResult, mustRun, runCommand, waitFor } from '../setup/command';
import { normalise, type Rule } from './normalise';

/** The program whose commands are played, and where it finds its daemon. */
export interface Tool {
  readonly name: string;
  command(args: readonly string[]): readonly string[];
  /** What differs between two runs of it, as further rules of normalise(). */
  readonly rules: readonly Rule[];
}

/** What one step adds to the transcript, or does without being seen. */
export type Step = readonly string[] | ((session: Session) => Promise<void>);

/** A named list of steps. Each case uses container ids, names and keys of its own. */
export interface Case {
  readonly name: string;
  readonly steps: readonly Step[];
  /** Output that is not comparable in this case only: what matches becomes the text. */
  readonly hide?: ReadonlyArray<readonly [RegExp, string]>;
}

/** Something to do when a text has appeared on the terminal. */
export type Dialogue = ReadonlyArray<
  readonly [text: string, action: 'send' | 'resize' | 'signal', value: string | number]
>;

const COMMAND_TIMEOUT_MS = 60_000;
const POLL_TIMEOUT_MS = 60_000;
const PTY_SIZE = '40x132';

export class Session {
  readonly scratch: string;
  readonly #tool: Tool;
  #transcript: string[] = [];
  #hide: Case['hide'];
  readonly #placeholders: Record<string, string>;
  readonly #background = new Map<string, ReturnType<typeof startBackground>>();

  /**
   * `placeholders` are texts that belong to this session: `$NAME` in arguments stands for the text, and the text in output
   * becomes `$NAME`. So does the scratch directory, as `$SCRATCH`.
   */
  constructor(tool: Tool, scratch: string, placeholders: Record<string, string>) {
    this.#tool = tool;
    this.scratch = scratch;
    fs.mkdirSync(this.scratch, { recursive: true });
    this.#placeholders = { ...placeholders, SCRATCH: this.scratch };
  }

  /** Runs the steps of a case and returns its transcript; a step that breaks ends the case and is part of the transcript. */
  async play(testCase: Case): Promise<string> {
    this.#transcript = [];
    this.#hide = testCase.hide;
    try {
      for (const step of testCase.steps) {
        await (typeof step === 'function' ? step(this) : this.run(step));
      }
    } catch (error) {
      this.note(`step failed: ${error instanceof Error ? error.message : error}`);
    } finally {
      for (const background of this.#background.values()) {
        background.child.kill('SIGKILL');
      }
      this.#background.clear();
    }
    return this.#transcript.join('\n');
  }

  /** Runs a command and records it. */
  async run(args: readonly string[], options: { stdin?: string | Buffer } = {}): Promise<CommandResult> {
    const result = await runCommand(this.command(args), { timeoutMs: COMMAND_TIMEOUT_MS, ...options });
    this.#record(args, result);
    return result;
  }

  /** Runs a command that is only a means: it must succeed and is not recorded. Returns stdout. */
  quietly(args: readonly string[]): Promise<string> {
    return mustRun(this.command(args), { timeoutMs: COMMAND_TIMEOUT_MS });
  }

  /** Runs a command on a terminal of 40 rows and 132 columns and records it. */
  async onTerminal(args: readonly string[], dialogue: Dialogue): Promise<void> {
    const script = path.join(PROJECT_ROOT, 'test', 'conformance', 'terminal.py');
    const command = ['/usr/bin/python3', '-I', script, PTY_SIZE, JSON.stringify(dialogue), ...this.command(args)];
    this.#record(args, await runCommand(command, { timeoutMs: COMMAND_TIMEOUT_MS }));
  }

  /** Repeats a command unrecorded until its output (stdout and stderr) matches. */
  async until(args: readonly string[], pattern: RegExp): Promise<void> {
    let last = '';
    const matches = async () => {
      const { stdout, stderr } = await runCommand(this.command(args), { timeoutMs: COMMAND_TIMEOUT_MS });
      last = stdout + stderr;
      return pattern.test(last);
    };
    await waitFor(`${this.#tool.name} ${args.join(' ')} matches ${pattern}`, matches, POLL_TIMEOUT_MS).catch(
      (error: Error) => {
        throw new Error(`${error.message}\n${normalise(last, this.#placeholders, this.#tool.rules)}`);
      },
    );
  }

  /** Starts a command that runs beside the next steps. */
  async start(name: string, args: readonly string[]): Promise<void> {
    this.#background.set(name, startBackground(this.command(args), args));
  }

  /** Waits until a started command has printed a text; `prompt` is a command to repeat meanwhile, unrecorded. */
  async printed(name: string, pattern: RegExp, prompt?: readonly string[]): Promise<void> {
    const background = this.#background.get(name)!;
    const hasPrinted = async () => {
      if (prompt !== undefined) {
        await this.quietly(prompt);
      }
      return pattern.test(background.stdout());
    };
    await waitFor(`${this.#tool.name} ${background.args.join(' ')} prints ${pattern}`, hasPrinted, POLL_TIMEOUT_MS);
  }

  /** Waits until a started command has opened files, named by the ends of their paths. */
  async opened(name: string, ...ends: readonly string[]): Promise<void> {
    const { child, args } = this.#background.get(name)!;
    const open = () => openFiles(child.pid!);
    const areOpen = () => ends.every((end) => open().some((file) => file.endsWith(end)));
    await waitFor(
      `${this.#tool.name} ${args.join(' ')} opens ${ends.join(', ')}`,
      async () => areOpen(),
      POLL_TIMEOUT_MS,
    );
  }

  /** Records a started command after its end, which `signal` brings about if given. */
  async finish(name: string, signal?: NodeJS.Signals): Promise<void> {
    const background = this.#background.get(name)!;
    if (signal !== undefined) {
      background.child.kill(signal);
    }
    await waitFor(`end of ${this.#tool.name} ${background.args.join(' ')}`, () => background.ended(), POLL_TIMEOUT_MS);
    this.#background.delete(name);
    this.#record(background.args, {
      exitCode: background.child.exitCode ?? -1,
      stdout: background.stdout(),
      stderr: background.stderr(),
    });
  }

  /** Adds a line of its own to the transcript. */
  note(text: string): void {
    this.#transcript.push(`# ${this.#clean(text)}`);
  }

  /** Replaces `$NAME` by what it stands for in this session. */
  fill(text: string): string {
    return text.replace(/\$([A-Z]+)/g, (whole, name: string) => this.#placeholders[name] ?? whole);
  }

  command(args: readonly string[]): string[] {
    return [...this.#tool.command(args.map((arg) => this.fill(arg)))];
  }

  #record(args: readonly string[], { exitCode, stdout, stderr }: CommandResult): void {
    const lines = (text: string, mark: string) =>
      this.#clean(text)
        .split('\n')
        .filter(Boolean)
        .map((line) => `${mark} ${line}`);
    this.#transcript.push(
      `$ ${this.#tool.name} ${args.join(' ')}`,
      ...lines(stdout, '|'),
      ...lines(stderr, '!'),
      `= ${exitCode}`,
    );
  }

  #clean(text: string): string {
    const cleaned = normalise(text, this.#placeholders, this.#tool.rules);
    return (this.#hide ?? []).reduce((result, [pattern, replacement]) => result.replace(pattern, replacement), cleaned);
  }
}

function startBackground(command: readonly string[], args: readonly string[]) {
  const child = spawn(command[0]!, command.slice(1), { stdio: ['ignore', 'pipe', 'pipe'] });
  const output = { stdout: '', stderr: '' };
  let closed = false;
  child.stdout.on('data', (chunk) => {
    output.stdout += chunk;
  });
  child.stderr.on('data', (chunk) => {
    output.stderr += chunk;
  });
  child.on('close', () => {
    closed = true;
  });
  return { child, args, stdout: () => output.stdout, stderr: () => output.stderr, ended: () => closed };
}

/** Paths behind the descriptors of a process; none when it is gone. */
function openFiles(pid: number): string[] {
  const directory = `/proc/${pid}/fd`;
  try {
    return fs.readdirSync(directory).map((fd) => fs.readlinkSync(`${directory}/${fd}`));
  } catch {
    return [];
  }
}
