// Walking directories that a container may be changing meanwhile: every step goes through a descriptor of the directory
// above and follows no link, so that nothing outside of the tree is ever read. Synchronous; for worker threads.

import {
  type BigIntStats,
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  openSync,
  readdirSync,
  readlinkSync,
} from 'node:fs';
import { isErrno } from '../../proto/errors';
import { readXattrs } from '../../runtime-native/layers/xattr';

/** Names are bytes as latin1 strings, here and below. */
export interface Node {
  /** Path below the root, without a leading slash. */
  readonly path: string;
  readonly stat: BigIntStats;
  readonly directory: Directory;
  readonly name: string;
}

const { O_RDONLY, O_DIRECTORY, O_NOFOLLOW, O_NONBLOCK } = constants;

/** An open directory. Close it when its entries have been dealt with. */
export class Directory {
  readonly path: string;
  readonly fd: number;

  private constructor(path: string, fd: number) {
    this.path = path;
    this.fd = fd;
  }

  static openRoot(path: string): Directory {
    return new Directory('', openSync(path, O_RDONLY | O_DIRECTORY));
  }

  /** Entries in the order of their names' bytes; one that vanishes while it is looked at is left out. */
  entries(): Node[] {
    const names = readdirSync(`/proc/self/fd/${this.fd}`, 'latin1').sort();
    return names.flatMap((name) => {
      try {
        const stat = lstatSync(this.#at(name), { bigint: true });
        return [{ path: this.path === '' ? name : `${this.path}/${name}`, stat, directory: this, name }];
      } catch (error) {
        if (isErrno(error, 'ENOENT')) return [];
        throw error;
      }
    });
  }

  /** undefined when the entry is no directory any more. */
  openChild({ name, path }: Node): Directory | undefined {
    try {
      return new Directory(path, openSync(this.#at(name), O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
    } catch (error) {
      if (isErrno(error, 'ENOENT', 'ENOTDIR', 'ELOOP')) return undefined;
      throw error;
    }
  }

  /** Opens a regular file for reading; undefined when it is not the one that was seen. */
  openFile({ name, stat }: Node): number | undefined {
    let fd: number;
    try {
      fd = openSync(this.#at(name), O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
    } catch (error) {
      if (isErrno(error, 'ENOENT', 'ELOOP', 'ENXIO')) return undefined;
      throw error;
    }
    const opened = fstatSync(fd, { bigint: true });
    if (opened.isFile() && opened.ino === stat.ino && opened.dev === stat.dev) return fd;
    closeSync(fd);
    return undefined;
  }

  /** undefined when the entry is no link any more. */
  readLink({ name }: Node): string | undefined {
    try {
      return readlinkSync(this.#at(name), 'latin1');
    } catch (error) {
      if (isErrno(error, 'ENOENT', 'EINVAL')) return undefined;
      throw error;
    }
  }

  /** None for an entry that has vanished. */
  xattrs({ name }: Node): Map<string, string> {
    try {
      return readXattrs(`/proc/self/fd/${this.fd}/${name}`);
    } catch (error) {
      if (isErrno(error, 'ENOENT')) return new Map();
      throw error;
    }
  }

  close(): void {
    closeSync(this.fd);
  }

  #at(name: string): Buffer {
    return Buffer.from(`/proc/self/fd/${this.fd}/${name}`, 'latin1');
  }
}
