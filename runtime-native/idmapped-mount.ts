// Mounts whose files are shown with other ids: the options uidmap= and gidmap= of root filesystems that a snapshotter
// prepares for a user namespace ("uidmap=0:100000:65536", container:host:size, several with commas between).

import { closeSync, mkdirSync, mkdtempSync, rmdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { invalidArgument } from '../proto/errors';
import { type IdMappings, openMappingNamespace } from './launcher/user-namespace';
import { attachTree, idmapTree, openInside, openMountTree, unmountPath } from './native';
import type { IdMapping } from './spec';

const DIRECTORY_MODE = 0o700;

export interface SplitOptions {
  readonly mappings: IdMappings | undefined;
  readonly options: readonly string[];
}

/** @throws INVALID_ARGUMENT for one that is malformed, or that comes without the other */
export function splitMappings(options: readonly string[]): SplitOptions {
  const of = (name: string) => options.find((option) => option.startsWith(name))?.slice(name.length);
  const [uid, gid] = [of('uidmap='), of('gidmap=')];
  if (uid === undefined && gid === undefined) return { mappings: undefined, options };
  if (uid === undefined || gid === undefined) throw invalidArgument('mount options uidmap and gidmap need each other');
  return {
    mappings: { uid: parseMappings(uid), gid: parseMappings(gid) },
    options: options.filter((option) => !/^[ug]idmap=/.test(option)),
  };
}

/** Attaches source at target, which is a descriptor. */
export function bindMapped(source: string, target: number, recursive: boolean, mappings: IdMappings): void {
  withTree(source, recursive, mappings, (tree) => attachTree(tree, target));
}

/**
 * Runs body with the lower directories of an overlay replaced by mapped ones, which the overlay keeps when they go. What is
 * written goes to the upper directory with the ids of the host.
 */
export function withMappedLayers(
  options: readonly string[],
  mappings: IdMappings,
  body: (options: readonly string[]) => void,
): void {
  const lower = options.find((option) => option.startsWith('lowerdir='))?.slice('lowerdir='.length);
  if (lower === undefined) throw invalidArgument('mount options uidmap and gidmap need lowerdir or a bind mount');
  const directory = mkdtempSync(join(tmpdir(), 'gantry-layers-'));
  const places: string[] = [];
  try {
    for (const path of lower.split(':')) {
      const place = join(directory, String(places.length));
      mkdirSync(place, DIRECTORY_MODE);
      places.push(place);
      const target = openInside(place, '.');
      try {
        bindMapped(path, target, false, mappings);
      } finally {
        closeSync(target);
      }
    }
    body(options.map((option) => (option.startsWith('lowerdir=') ? `lowerdir=${places.join(':')}` : option)));
  } finally {
    for (const place of places) remove(place);
    rmdirSync(directory);
  }
}

function remove(place: string): void {
  try {
    unmountPath(place, true);
  } catch {
    // It has not been mounted.
  }
  rmdirSync(place);
}

function withTree(path: string, recursive: boolean, mappings: IdMappings, body: (tree: number) => void): void {
  const tree = openMountTree(path, recursive);
  try {
    const namespace = openMappingNamespace(mappings);
    try {
      idmapTree(tree, namespace, recursive);
    } finally {
      closeSync(namespace);
    }
    body(tree);
  } finally {
    closeSync(tree);
  }
}

function parseMappings(text: string): IdMapping[] {
  return text.split(',').map((part) => {
    const [containerID = -1, hostID = -1, size = 0, ...rest] = part.split(':').map(Number);
    const numbers = [containerID, hostID, size];
    if (rest.length > 0 || size <= 0 || !numbers.every((number) => Number.isInteger(number) && number >= 0))
      throw invalidArgument(`mount option with ids is malformed: "${text}"`);
    return { containerID, hostID, size };
  });
}
