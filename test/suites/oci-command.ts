// An OCI runtime as a program, for tests: bundles, calls of the program with a state directory of its own, and the
// removal of everything that is left.

import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Spec } from '../../runtime-native/spec';
import { type CommandResult, runCommand, waitFor } from '../setup/command';
import {
  type Mutable,
  makeBundle,
  makeSpec,
  mountsBelow,
  removeCgroupParents,
  type TestBundle,
} from './runtime-bundle';

export type SpecChange = (spec: Mutable<Spec>, bundle: TestBundle) => void;

/** What the state command prints, as far as the runtime specification has it. */
export interface OciState {
  readonly ociVersion: string;
  readonly id: string;
  readonly status: string;
  readonly pid?: number;
  readonly bundle: string;
  readonly annotations?: Readonly<Record<string, string>>;
}

const CALL_TIMEOUT_MS = 60_000;

export class OciCommand {
  /** Everything below it is removed by clean(). */
  readonly directory: string;
  readonly bundle: TestBundle;
  readonly #program: string;
  readonly #ids = new Set<string>();
  #counter = 0;

  constructor(program: string) {
    this.#program = program;
    this.directory = mkdtempSync(join(tmpdir(), 'oci-command-'));
    this.bundle = makeBundle();
  }

  /** The program with the state directory of this test. */
  argv(...args: string[]): string[] {
    return [this.#program, '--root', join(this.directory, 'state'), ...args];
  }

  /** Calls the program and waits for its end. */
  call(...args: string[]): Promise<CommandResult> {
    return runCommand(this.argv(...args), { timeoutMs: CALL_TIMEOUT_MS });
  }

  /** The same; a failure is an error of the test. */
  async must(...args: string[]): Promise<string> {
    const { exitCode, stdout, stderr } = await this.call(...args);
    if (exitCode !== 0) throw new Error(`${args.join(' ')}: exit code ${exitCode}\n${stdout}${stderr}`);
    return stdout;
  }

  /** A new id, and a directory with its configuration: the bundle of the runtime specification. */
  prepare(args: readonly string[], change: SpecChange = () => {}): { id: string; path: string } {
    const name = `k${++this.#counter}`;
    const id = `${this.bundle.name}-${name}`;
    const spec = makeSpec(this.bundle, name, args);
    change(spec, this.bundle);
    const path = join(this.directory, name);
    mkdirSync(path);
    writeFileSync(join(path, 'config.json'), JSON.stringify(spec));
    this.#ids.add(id);
    return { id, path };
  }

  /**
   * Creates a container. Its output goes nowhere: it would keep the pipes of the call open.
   * @throws Error with what the program wrote into its log
   */
  async create(args: readonly string[], change?: SpecChange): Promise<{ id: string; path: string }> {
    const prepared = this.prepare(args, change);
    const { code, log } = await this.detached('create', '--bundle', prepared.path, prepared.id);
    if (code !== 0) throw new Error(`create: exit code ${code}\n${log}`);
    return prepared;
  }

  /** Created and started. */
  async running(args: readonly string[] = ['sleep', '1000'], change?: SpecChange): Promise<string> {
    const { id } = await this.create(args, change);
    await this.must('start', id);
    return id;
  }

  /** Calls the program with /dev/null as standard streams, as for what stays behind. */
  detached(...args: string[]): Promise<{ code: number; log: string }> {
    const path = join(this.directory, `log-${++this.#counter}`);
    const [program = '', ...rest] = this.argv(...args);
    const child = spawn(program, ['--log', path, ...rest], { stdio: 'ignore', timeout: CALL_TIMEOUT_MS });
    return new Promise((resolve, reject) => {
      child.on('error', reject);
      child.on('exit', (code) => resolve({ code: code ?? -1, log: readIfThere(path) }));
    });
  }

  /** Runs a container in the foreground. */
  run(args: readonly string[], change?: SpecChange): Promise<CommandResult> {
    const { id, path } = this.prepare(args, change);
    return this.call('run', '--bundle', path, id);
  }

  async state(id: string): Promise<OciState> {
    return JSON.parse(await this.must('state', id)) as OciState;
  }

  async waitForStatus(id: string, status: string): Promise<void> {
    await waitFor(`status ${status} of ${id}`, async () => (await this.state(id)).status === status);
  }

  /** Deletes what the test has not deleted; fails when mounts are left. */
  async clean(): Promise<void> {
    for (const id of this.#ids) await this.call('delete', '--force', id);
    const mounts = [...mountsBelow(this.directory), ...mountsBelow(this.bundle.path)];
    this.bundle.remove();
    rmSync(this.directory, { recursive: true, force: true });
    removeCgroupParents();
    expect(mounts).toEqual([]);
  }
}

function readIfThere(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
