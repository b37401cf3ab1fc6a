// What the program is and what it implements.

import { SPEC_VERSION } from '../spec';

/** Replaced when the program is bundled. */
declare const GANTRY_VERSION: string;

export function programVersion(): string {
  return typeof GANTRY_VERSION === 'string' ? GANTRY_VERSION : 'unbuilt';
}

/** In the lines that callers look for in runc's. */
export function versionText(): string {
  return `gantry-runtime version ${programVersion()}\nspec: ${SPEC_VERSION}\nnode: ${process.version}\n`;
}
