// ctr of a containerd release as the tool of a session.

import path from 'node:path';
import { busyboxDockerArchive, busyboxImage } from '../images/busybox';
import type { ContainerdRelease } from '../setup/clients';
import type { TestDaemon } from '../setup/daemons';
import { Session } from './session';

/** Placeholders for the image files that cases use. */
export async function imageFiles(): Promise<Record<string, string>> {
  return { BUSYBOX: await busyboxImage(), ARCHIVE: await busyboxDockerArchive() };
}

/** `files` are placeholders for paths of the test, beside those of the daemon. */
export function ctrSession(daemon: TestDaemon, client: ContainerdRelease, files: Record<string, string>): Session {
  const command = (args: readonly string[]) => {
    const namespace = args[0] === '-n' ? [] : ['-n', daemon.namespace];
    return [client.ctr, '-a', daemon.address, ...namespace, ...args];
  };
  const places = { ROOT: daemon.root, STATE: daemon.state, ADDRESS: daemon.address, NS: daemon.namespace };
  return new Session({ name: 'ctr', command, rules: [] }, path.join(daemon.directory, 'scratch'), {
    ...files,
    ...places,
  });
}
