// Loads bundles.ts, and with it sigstore's packages, when they are needed: they take memory.

import type * as Bundles from './bundles';

export function bundles(): typeof Bundles {
  return require('./bundles');
}
