// What the tests of gantry-runtime under container engines share: an image made of the test bundle's busybox, and calls of
// the engine's client.

import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { PROJECT_ROOT } from '../../setup/cache';
import { type CommandOptions, type CommandResult, mustRun, runCommand } from '../../setup/command';
import { removeCgroups, removeFolder, unmountBelow } from '../../setup/leftovers';
import { needsFile } from '../../setup/needs';
import { makeBundle, missingForContainers } from '../../suites/runtime-bundle';

export const GANTRY_RUNTIME = path.join(PROJECT_ROOT, 'dist', 'bin', 'gantry-runtime');
/** The default limits of engines are above what this machine's kernel may allow a test. */
const LIMITS = ['--ulimit', 'nofile=1024:1024', '--ulimit', 'nproc=1024:1024'];

const CALL_TIMEOUT_MS = 60_000;
/** By itself podman has its locks in memory that all of the host share, and frees them all where it starts anew. */
const PODMAN_CONFIG = '[engine]\nlock_type = "file"\n';

export function missingForEngine(program: string, source: string): string | undefined {
  return missingForContainers() ?? needsFile(GANTRY_RUNTIME, 'make build') ?? needsFile(program, source);
}

/** A client with its place on the machine; everything below the directory goes with remove(). */
export class Engine {
  readonly directory: string;
  /** Flags for every container. */
  readonly flags: readonly string[];
  readonly #argv: (directory: string) => readonly string[];
  readonly #options: CommandOptions;

  constructor(name: string, argv: (directory: string) => readonly string[]) {
    this.directory = mkdtempSync(path.join(tmpdir(), `${name}-`));
    this.#argv = argv;
    const config = path.join(this.directory, 'containers.conf');
    writeFileSync(config, PODMAN_CONFIG);
    this.#options = { timeoutMs: CALL_TIMEOUT_MS, env: { ...process.env, CONTAINERS_CONF: config } };
    this.flags = ['--network', 'none', '--cgroup-parent', `/${path.basename(this.directory)}`, ...LIMITS];
  }

  call(...args: readonly string[]): Promise<CommandResult> {
    return runCommand([...this.#argv(this.directory), ...args], this.#options);
  }

  /** Standard output without the newline at the end. @throws Error when it fails */
  async must(...args: readonly string[]): Promise<string> {
    const output = await mustRun([...this.#argv(this.directory), ...args], this.#options);
    return output.trimEnd();
  }

  /** A root filesystem as a tar archive. */
  async rootfsTar(): Promise<string> {
    const tar = path.join(this.directory, 'rootfs.tar');
    const bundle = makeBundle();
    try {
      await mustRun(['tar', '-C', bundle.rootfs, '-cf', tar, '.']);
    } finally {
      bundle.remove();
    }
    return tar;
  }

  async remove(): Promise<void> {
    await removeCgroups(path.basename(this.directory));
    unmountBelow(this.directory);
    await removeFolder(this.directory);
  }
}
