// Loads libgantry.so, the C helpers of this folder. Every function of it gets one typed wrapper in the file that owns
// it: a JavaScript number where C expects a pointer would crash the process.

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { LibraryHandle } from 'koffi';
import { loadLibrary } from './koffi';

/** A function of the library as koffi gives it. */
export type NativeFunction = ReturnType<LibraryHandle['func']>;

let library: LibraryHandle | undefined;

/** The library, loaded once per thread. @throws when it has not been built */
export function libgantry(): LibraryHandle {
  library ??= loadLibrary(nativeFile('libgantry.so'));
  return library;
}

/** Absolute path of a built native file, for code in dist/FOLDER, in a bundle in dist/, and in the sources. */
export function nativeFile(name: string): string {
  const candidates = ['../native', 'native', '../dist/native'].map((folder) => join(__dirname, folder, name));
  const found = candidates.find((path) => existsSync(path));
  if (found === undefined) throw new Error(`${name} is missing, run "make build" (looked at ${candidates.join(', ')})`);
  return found;
}
