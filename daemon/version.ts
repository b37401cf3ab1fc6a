// What this program is called by its version: from package.json, which is found in the project and when installed.

import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { isErrno } from '../proto/errors';

export interface Version {
  readonly version: string;
  /** The source revision, empty when the build did not record one. */
  readonly revision: string;
}

export function readVersion(): Version {
  for (const directory of [resolve(__dirname, '..'), resolve(__dirname, '..', '..')]) {
    try {
      const { version } = JSON.parse(readFileSync(join(directory, 'package.json'), 'utf8')) as { version: string };
      return { version: `v${version}`, revision: process.env['GANTRY_REVISION'] ?? '' };
    } catch (error) {
      if (!isErrno(error, 'ENOENT')) throw error;
    }
  }
  return { version: 'v0.0.0', revision: '' };
}
