// koffi without its JavaScript part, whose loading takes as long as the rest of a shim's start. All that it adds to the
// native module is a search for the file and deprecated names.

import type { LibraryHandle } from 'koffi';

interface NativeKoffi {
  load(path: string): LibraryHandle;
}

let koffi: NativeKoffi | undefined;

/** Loads a shared library. @throws when there is none */
export function loadLibrary(path: string): LibraryHandle {
  koffi ??= loadKoffi();
  return koffi.load(path);
}

/** The names are computed, so that a bundler leaves them to Node. */
function loadKoffi(): NativeKoffi {
  const { platform, arch } = process;
  try {
    return require(`@koromix/koffi-${platform}-${arch}/${platform}_${arch}/koffi.node`) as NativeKoffi;
  } catch {
    // Another C library, or a package of another layout: koffi's own search finds it.
    return require(['koffi'].join('')) as NativeKoffi;
  }
}
