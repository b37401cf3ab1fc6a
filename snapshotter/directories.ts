// The directory `snapshots` of a driver, with one entry per snapshot, named by its number.

import { mkdirSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { isErrno } from '../proto/errors';
import { removeTree, syncFileSystem } from '../runtime-native/layers/tree';

const PRIVATE_MODE = 0o700;
const NUMBER = /^[1-9]\d*$/;

export class SnapshotDirectories {
  readonly #path: string;

  /** @throws when the directory cannot be made */
  constructor(root: string) {
    this.#path = join(root, 'snapshots');
    mkdirSync(this.#path, { recursive: true, mode: PRIVATE_MODE });
  }

  path(id: number, ...rest: string[]): string {
    return join(this.#path, String(id), ...rest);
  }

  /** Makes the directory of a snapshot; what was left at its place by a crash is removed. */
  async make(id: number, mode: number): Promise<string> {
    const path = this.path(id);
    try {
      mkdirSync(path, { mode });
    } catch (error) {
      if (!isErrno(error, 'EEXIST')) throw error;
      await removeTree(path);
      mkdirSync(path, { mode });
    }
    return path;
  }

  async list(): Promise<number[]> {
    return (await readdir(this.#path)).filter((name) => NUMBER.test(name)).map(Number);
  }

  async remove(id: number): Promise<void> {
    await removeTree(this.path(id));
  }

  async sync(): Promise<void> {
    await syncFileSystem(this.#path);
  }
}
