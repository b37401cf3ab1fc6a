// The options of a task: containerd.runc.v1.Options in an Any, as every client sends them, and their copy in the bundle,
// which the delete action needs when the shim is gone.

import { readFileSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { unpackAny } from '../proto/any';
import { isErrno, unknown } from '../proto/errors';
import { Options } from '../proto/generated/containerd.runc.v1';
import type { Any } from '../proto/generated/google.protobuf';
import { RUNTIME_VARIABLE } from '../proto/shim-flags';

const NONE = Options.decode(Buffer.alloc(0));
const OUR_PROGRAM = 'gantry-runtime';
const OUR_NAMES = ['', 'runc'];

/**
 * The options of a request, all of them unset when there are none.
 * @throws UNKNOWN for another type
 */
export function decodeOptions(any: Any | undefined): Options {
  if (any === undefined || (any.typeUrl === '' && any.value.length === 0)) return withDefaultRuntime(NONE);
  const typeUrl = any.typeUrl.slice(any.typeUrl.lastIndexOf('/') + 1);
  if (typeUrl !== Options.name) throw unknown(`invalid task options type "${any.typeUrl}", want ${Options.name}`);
  return withDefaultRuntime(unpackAny(Options, { typeUrl, value: any.value }));
}

/** The daemon's configuration may name the runtime for those who name none. */
function withDefaultRuntime(options: Options): Options {
  const runtime = process.env[RUNTIME_VARIABLE] ?? '';
  return runtime !== '' && OUR_NAMES.includes(options.binaryName) ? { ...options, binaryName: runtime } : options;
}

/** Whether the options ask for a runtime that is a program. "runc", which clients send unasked, means our own. */
export function isProgram({ binaryName }: Pick<Options, 'binaryName'>): boolean {
  return !OUR_NAMES.includes(binaryName) && basename(binaryName) !== OUR_PROGRAM;
}

/** Where the runtime keeps the state of containers: as runc has it under options.root, else in the bundle. */
export function runtimeRoot(options: Pick<Options, 'root'>, namespace: string, bundle: string): string {
  return options.root === '' ? join(bundle, 'oci') : join(options.root, namespace);
}

/** The names of the JSON are those of runc's shim; unset fields are left out. */
export function saveOptions(bundle: string, options: Options): void {
  const fields = Object.entries({
    no_pivot_root: options.noPivotRoot,
    no_new_keyring: options.noNewKeyring,
    shim_cgroup: options.shimCgroup,
    io_uid: options.ioUid,
    io_gid: options.ioGid,
    binary_name: options.binaryName,
    root: options.root,
    systemd_cgroup: options.systemdCgroup,
  }).filter(([, value]) => Boolean(value));
  writeFileSync(join(bundle, 'options.json'), JSON.stringify(Object.fromEntries(fields)), { mode: 0o600 });
}

/** What `delete` needs of the saved options; unset when there are none. */
export function loadOptions(bundle: string): Pick<Options, 'root' | 'binaryName' | 'systemdCgroup'> {
  try {
    const saved = JSON.parse(readFileSync(join(bundle, 'options.json'), 'utf8')) as Record<string, unknown>;
    return {
      root: String(saved['root'] ?? ''),
      binaryName: String(saved['binary_name'] ?? ''),
      systemdCgroup: saved['systemd_cgroup'] === true,
    };
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return { root: '', binaryName: '', systemdCgroup: false };
    throw error;
  }
}
