// A container in the document that state and list print.

import { statSync } from 'node:fs';
import { join } from 'node:path';
import type { Container, ContainerStatus } from '../container';
import { SPEC_VERSION } from '../spec';
import { loadState } from '../state';

export interface Description {
  readonly ociVersion: string;
  readonly id: string;
  /** 0 when it has stopped. */
  readonly pid: number;
  readonly status: ContainerStatus;
  readonly bundle: string;
  readonly rootfs: string;
  /** RFC 3339. */
  readonly created: string;
  readonly annotations?: Readonly<Record<string, string>>;
  /** The name of the user who made it, or a number. */
  readonly owner: string;
}

/** @throws NOT_FOUND */
export function describeContainer(root: string, id: string, container: Container): Description {
  const { bundle, rootfs, created, annotations } = loadState(root, id);
  const status = container.status();
  return {
    ociVersion: SPEC_VERSION,
    id,
    pid: status === 'stopped' ? 0 : container.pid,
    status,
    bundle,
    rootfs,
    created,
    ...(Object.keys(annotations).length > 0 ? { annotations } : {}),
    owner: ownerOf(join(root, id)),
  };
}

function ownerOf(path: string): string {
  const uid = statSync(path, { throwIfNoEntry: false })?.uid ?? 0;
  return uid === 0 ? 'root' : String(uid);
}
