// What a directory tree holds, as a plain object for comparisons.

import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { lstatSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';

export interface TreeEntry {
  readonly mode: string;
  readonly owner: string;
  readonly mtimeNs: string;
  readonly device: string;
  readonly links: number;
  readonly content: string;
}

/** All entries below `root` by relative path. Times of directories that other times depend on can be left out. */
export function readTree(root: string, directory = ''): Record<string, TreeEntry> {
  const entries: Record<string, TreeEntry> = {};
  // Names are bytes, kept as latin1 strings.
  for (const name of readdirSync(bytes(join(root, directory)), 'latin1').sort()) {
    const path = join(directory, name);
    const full = bytes(join(root, path));
    const stat = lstatSync(full, { bigint: true });
    entries[path] = {
      mode: stat.mode.toString(8),
      owner: `${stat.uid}:${stat.gid}`,
      mtimeNs: String(stat.mtimeNs),
      device: String(stat.rdev),
      links: stat.isDirectory() ? 0 : Number(stat.nlink),
      content: contentOf(full),
    };
    if (stat.isDirectory()) Object.assign(entries, readTree(root, path));
  }
  return entries;
}

/** Extended attributes of a tree as getfattr(1) prints them. */
export function readXattrs(root: string): string[] {
  const output = execFileSync('getfattr', ['-R', '-h', '-d', '-m', '-', '-e', 'hex', '.'], {
    cwd: root,
    encoding: 'utf8',
  });
  return output
    .split('\n\n')
    .filter((block) => block !== '')
    .sort();
}

function bytes(path: string): Buffer {
  return Buffer.from(path, 'latin1');
}

function contentOf(path: Buffer): string {
  const stat = lstatSync(path);
  if (stat.isSymbolicLink()) return `-> ${readlinkSync(path, 'latin1')}`;
  return stat.isFile() ? createHash('sha256').update(readFileSync(path)).digest('hex') : '';
}
