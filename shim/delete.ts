// The delete action: cleans up after a shim that is gone. It ends what is left of the container, unmounts and removes,
// and reports the exit status from the record that the shim wrote, if it came to that.

import { readFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { messageOf } from '../proto/errors';
import { DeleteResponse } from '../proto/generated/containerd.task.v3';
import { nowNs, toTimestamp } from '../proto/time';
import { removeDeadSocket } from '../proto/ttrpc/socket';
import type { ShimArgs } from './args';
import { type Exit, readExitRecord, STATUS_KILLED } from './exit';
import { loadOptions, runtimeRoot } from './options';
import type { Runtime } from './runtime';

/** The DeleteResponse to print. What cannot be removed is told through `warn` and does not keep the rest from it. */
export async function deleteTask(args: ShimArgs, runtime: Runtime, warn: (text: string) => void): Promise<Buffer> {
  const bundle = args.bundle === '' ? join(dirname(process.cwd()), args.id) : args.bundle;
  const attempt = async (what: string, work: () => void | Promise<void>) => {
    try {
      await work();
    } catch (error) {
      warn(`${what}: ${messageOf(error)}`);
    }
  };
  await attempt('delete container', async () => {
    const options = loadOptions(bundle);
    const root = runtimeRoot(options, args.namespace, bundle);
    await runtime.destroy({ id: args.id, bundle, root, options });
  });
  await attempt('unmount rootfs', () => runtime.unmount(join(bundle, 'rootfs')));
  await attempt('remove socket', () => removeOwnSocket(bundle));
  const exit = readExit(bundle, warn) ?? { pid: readInitPid(bundle), exitStatus: STATUS_KILLED, exitedAtNs: nowNs() };
  return DeleteResponse.encode({
    pid: exit.pid,
    exitStatus: exit.exitStatus,
    exitedAt: toTimestamp(exit.exitedAtNs),
  });
}

function readExit(bundle: string, warn: (text: string) => void): Exit | undefined {
  try {
    return readExitRecord(bundle);
  } catch (error) {
    warn(`exit record of ${basename(bundle)}: ${messageOf(error)}`);
    return undefined;
  }
}

function readInitPid(bundle: string): number {
  try {
    return Number(readFileSync(join(bundle, 'init.pid'), 'utf8')) || 0;
  } catch {
    return 0; // Create did not come that far.
  }
}

/** The socket named in the bundle, unless the shim of a group still listens there. */
async function removeOwnSocket(bundle: string): Promise<void> {
  let address: string;
  try {
    address = readFileSync(join(bundle, 'address'), 'utf8').trim();
  } catch {
    return; // The daemon chose the socket and removes it itself.
  }
  const path = address.replace(/^unix:\/\//, '');
  if (path.startsWith('/')) await removeDeadSocket(path);
}
