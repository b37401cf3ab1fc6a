// Finds the shim program for a runtime name (shim v2 naming: the last two parts A.B of the name give
// containerd-shim-A-B). The name that every client sends, io.containerd.runc.v2, means gantry's own shim unless the
// configuration maps it to another program.

import { accessSync, constants, statSync } from 'node:fs';
import { basename, delimiter, dirname, isAbsolute, join } from 'node:path';
import { messageOf, unknown } from '../../proto/errors';

const OWN_RUNTIMES: ReadonlySet<string> = new Set(['io.containerd.runc.v2', 'io.containerd.gantry.v1']);
const OWN_BINARIES: ReadonlySet<string> = new Set(['gantry-shim', 'containerd-shim-gantry-v1']);

/** kind own: gantry's shim, which the daemon can start without the start action. */
export interface ResolvedRuntime {
  readonly kind: 'own' | 'foreign';
  readonly path: string;
}

export interface RuntimeResolverOptions {
  /** Path of gantry's own shim program. */
  readonly ownShim: string;
  /** Directory of the daemon's programs, searched last. */
  readonly binDirectory: string;
  /** Runtime names and the programs (or other runtime names) that the configuration maps them to. */
  readonly runtimes: Readonly<Record<string, string>>;
}

export class RuntimeResolver {
  private readonly options: RuntimeResolverOptions;

  constructor(options: RuntimeResolverOptions) {
    this.options = options;
  }

  /**
   * Resolves a runtime name; `runtimePath` (CreateTaskRequest.runtime_path) overrides it.
   * @throws UNKNOWN in containerd's words when the name is malformed or the program is not there.
   */
  resolve(name: string, runtimePath = ''): ResolvedRuntime {
    try {
      if (runtimePath !== '') return this.classify(customPath(runtimePath));
      const mapped = this.options.runtimes[name];
      if (mapped === undefined && OWN_RUNTIMES.has(name)) return { kind: 'own', path: this.options.ownShim };
      if (mapped === undefined) return this.classify(this.lookUp(name, binaryName(name)));
      return this.classify(this.lookUp(mapped, binaryName(mapped) ?? mapped));
    } catch (error) {
      throw unknown(`failed to resolve runtime path: ${messageOf(error)}`, { cause: error });
    }
  }

  /** Says how to talk to a shim whose program is known already. */
  classify(path: string): ResolvedRuntime {
    const isOwn = OWN_BINARIES.has(basename(path)) && dirname(path) === dirname(this.options.ownShim);
    return { kind: isOwn ? 'own' : 'foreign', path };
  }

  private lookUp(name: string, binary: string | undefined): string {
    if (isAbsolute(name)) return customPath(name);
    if (binary === undefined || name.includes('/')) {
      throw new Error(
        `invalid runtime name ${name}, correct runtime name should be either format like \`io.containerd.runc.v1\` or a full path to the binary`,
      );
    }
    const directories = [...(process.env['PATH'] ?? '').split(delimiter), this.options.binDirectory];
    const found = directories
      .filter((directory) => isAbsolute(directory))
      .map((directory) => join(directory, binary))
      .find(isExecutable);
    if (found === undefined) {
      throw new Error(`runtime "${name}" binary not installed "${binary}": file does not exist`);
    }
    return found;
  }
}

/** containerd-shim-runc-v2 for io.containerd.runc.v2; undefined for a name without two last parts. */
export function binaryName(runtime: string): string | undefined {
  const parts = runtime.split('.');
  if (parts.length < 2 || parts[0] === '') return undefined;
  return `containerd-shim-${parts.at(-2)}-${parts.at(-1)}`;
}

function customPath(path: string): string {
  const reason = !isAbsolute(path) ? `${path} is not an absolute path` : statFailure(path);
  if (reason !== undefined) throw new Error(`invalid custom binary path: ${reason}`);
  return path;
}

function statFailure(path: string): string | undefined {
  return statSync(path, { throwIfNoEntry: false }) === undefined
    ? `stat ${path}: no such file or directory`
    : undefined;
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}
