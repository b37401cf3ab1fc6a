// Trees that the launcher opens for bind mounts: those that the container's user namespace could not reach or id-map.

import { closeSync } from 'node:fs';
import { unknown } from '../../proto/errors';
import { errorText } from '../failure';
import { idmapTree, openMountTree } from '../native';
import { propagationFlags } from '../plan/encode';
import type { MountSource } from '../plan/operations';
import { closeAll, type IdMappings, openMappingNamespace } from './user-namespace';

/**
 * Descriptors in the order of the sources, which the caller closes.
 * @throws UNKNOWN in runc's words; nothing stays open then
 */
export function openMountSources(sources: readonly MountSource[]): number[] {
  const opened: number[] = [];
  const namespaces = new Map<string, number>();
  try {
    for (const source of sources) {
      opened.push(openTree(source));
      if (source.idmap) mapTree(source, source.idmap, opened.at(-1) ?? -1, namespaces);
    }
    return opened;
  } catch (error) {
    closeAll(opened);
    throw error;
  } finally {
    for (const fd of namespaces.values()) closeSync(fd);
  }
}

function openTree({ path, target, recursive, propagation }: MountSource): number {
  try {
    return openMountTree(path, recursive, propagationFlags(propagation));
  } catch (error) {
    const reason = `stat ${path}: ${errorText(error)}`;
    throw unknown(`error during container init: error mounting "${path}" to rootfs at "${target}": ${reason}`, {
      cause: error,
    });
  }
}

function mapTree(
  { path, target }: MountSource,
  idmap: IdMappings & { readonly recursive: boolean },
  tree: number,
  namespaces: Map<string, number>,
): void {
  const key = JSON.stringify([idmap.uid, idmap.gid]);
  const namespace = namespaces.get(key) ?? openMappingNamespace(idmap);
  namespaces.set(key, namespace);
  try {
    idmapTree(tree, namespace, idmap.recursive);
  } catch (error) {
    const reason = `failed to set MOUNT_ATTR_IDMAP on ${path}: ${errorText(error)}`;
    throw unknown(`error during container init: error mounting "${path}" to rootfs at "${target}": ${reason}`, {
      cause: error,
    });
  }
}
