// Network devices of the host that a container is given (runtime-spec config-linux.md, Network devices). They keep their
// addresses; when the container cannot be made after all, they come back.

import { closeSync, openSync } from 'node:fs';
import { isErrno, unknown } from '../../proto/errors';
import { errorText } from '../failure';
import { moveDevice } from '../native';
import type { Linux } from '../spec';

export class MovedDevices {
  private readonly moved: { readonly name: string; readonly newName: string }[] = [];
  private host = -1;
  private container = -1;

  /** @param pid - of a process in the container's network namespace. @throws UNKNOWN `linux.netDevices["eth0"]: ...` */
  move(devices: Linux['netDevices'], pid: number): void {
    this.host = openSync('/proc/self/ns/net', 'r');
    this.container = openSync(`/proc/${pid}/ns/net`, 'r');
    for (const [name, device] of Object.entries(devices ?? {})) {
      const newName = device?.name || name;
      // Also what stops half way comes back.
      this.moved.push({ name, newName });
      try {
        moveDevice(this.host, this.container, name, newName);
      } catch (error) {
        throw unknown(`linux.netDevices["${name}"]: cannot be moved: ${errorText(error)}`, { cause: error });
      }
    }
  }

  /** @throws UNKNOWN with those that stay in the container's namespace, which takes them along */
  restore(): void {
    const failures: string[] = [];
    for (const { name, newName } of this.moved.splice(0).reverse()) {
      try {
        moveDevice(this.container, this.host, newName, name);
      } catch (error) {
        // What has never been there need not come back.
        if (!isErrno(error, 'ENODEV')) failures.push(`${name}: ${errorText(error)}`);
      }
    }
    this.close();
    if (failures.length > 0) throw unknown(failures.join(', '));
  }

  /** When the container keeps them. */
  close(): void {
    for (const fd of [this.host, this.container]) if (fd >= 0) closeSync(fd);
    this.host = -1;
    this.container = -1;
  }
}
