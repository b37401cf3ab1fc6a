// The options of a task: containerd.runc.v1.Options in an Any, as every client sends them, and their copy in the bundle,
// which the delete action needs when the shim is gone.

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { unpackAny } from '../proto/any';
import { isErrno, unknown } from '../proto/errors';
import { Options } from '../proto/generated/containerd.runc.v1';
import type { Any } from '../proto/generated/google.protobuf';

const NONE = Options.decode(Buffer.alloc(0));
const OUR_NAMES = ['', 'runc', 'gantry-runtime'];

/**
 * The options of a request, all of them unset when there are none.
 * @throws UNKNOWN for another type and for a runtime binary other than ours: to run something else than what was asked
 * for would be worse.
 */
export function decodeOptions(any: Any | undefined): Options {
  if (any === undefined || (any.typeUrl === '' && any.value.length === 0)) return NONE;
  const typeUrl = any.typeUrl.slice(any.typeUrl.lastIndexOf('/') + 1);
  if (typeUrl !== Options.name) throw unknown(`invalid task options type "${any.typeUrl}", want ${Options.name}`);
  const options = unpackAny(Options, { typeUrl, value: any.value });
  const name = options.binaryName.slice(options.binaryName.lastIndexOf('/') + 1);
  if (!OUR_NAMES.includes(name)) {
    throw unknown(`OCI runtime create failed: runtime binary "${options.binaryName}" is not supported by this shim`);
  }
  return options;
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
export function loadOptions(bundle: string): { root: string; systemdCgroup: boolean } {
  try {
    const saved = JSON.parse(readFileSync(join(bundle, 'options.json'), 'utf8')) as Record<string, unknown>;
    return { root: String(saved['root'] ?? ''), systemdCgroup: saved['systemd_cgroup'] === true };
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return { root: '', systemdCgroup: false };
    throw error;
  }
}
