// Which socket a shim listens on, and which containers share one. The rules are containerd's, so that a shim is found
// again whoever started it.

import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { posix } from 'node:path';
import { invalidArgument } from '../proto/errors';

/** Longest path that fits sockaddr_un (unix(7)), as containerd counts it. */
const SOCKET_PATH_MAX = 106;
const DEFAULT_SOCKET_DIR = '/run/containerd/s';
const GROUP_ANNOTATIONS = ['io.containerd.runc.v2.group', 'io.kubernetes.cri.sandbox-id'];

/** The path of the socket for a container or group. @throws INVALID_ARGUMENT when it is too long for a socket. */
export function socketPath(address: string, namespace: string, group: string, directory = DEFAULT_SOCKET_DIR): string {
  const hash = createHash('sha256')
    .update(posix.join(address, namespace, group))
    .digest('hex');
  const path = `${directory}/${hash}`;
  if (path.length > SOCKET_PATH_MAX) throw invalidArgument(`socket path too long (> ${SOCKET_PATH_MAX}): "${path}"`);
  return path;
}

/** Containers with the same group share a shim process: an annotation of the spec names it, else the id itself. */
export function groupOf(bundle: string, id: string): string {
  const spec = JSON.parse(readFileSync(posix.join(bundle, 'config.json'), 'utf8')) as {
    annotations?: Record<string, unknown>;
  };
  for (const name of GROUP_ANNOTATIONS) {
    const group = spec.annotations?.[name];
    if (typeof group === 'string' && group !== '') return group;
  }
  return id;
}
