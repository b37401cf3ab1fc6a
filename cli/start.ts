// Runs the bundle of a program with V8's code cache beside it, which holds the compiled code of a whole run: loading code is
// most of what a short command costs. Built as X.js it runs X.bundle.js with X.cache. A cache that does not fit (another Node,
// another bundle) is ignored by V8. With GANTRY_WRITE_CACHE the cache is written when the program ends; `make build` does that
// once.

import { readFileSync, writeFileSync } from 'node:fs';
import { createRequire, wrap } from 'node:module';
import { basename, join } from 'node:path';
import { Script } from 'node:vm';

/** What `wrap` makes of a CommonJS module: exports, require, module, its path, its directory. */
type Wrapper = (...values: unknown[]) => void;

const program = basename(__filename, '.js');
const bundle = join(__dirname, `${program}.bundle.js`);
const cache = join(__dirname, `${program}.cache`);
const isWriting = process.env['GANTRY_WRITE_CACHE'] !== undefined;

const script = new Script(wrap(readFileSync(bundle, 'utf8')), {
  filename: bundle,
  ...(isWriting ? {} : { cachedData: readCache() }),
});
if (isWriting) process.on('exit', () => writeFileSync(cache, script.createCachedData()));
const module_ = { exports: {} };
(script.runInThisContext() as Wrapper)(module_.exports, createRequire(bundle), module_, bundle, __dirname);

/** Empty when there is none: the program runs without it, only slower. */
function readCache(): Buffer {
  try {
    return readFileSync(cache);
  } catch {
    return Buffer.alloc(0);
  }
}
