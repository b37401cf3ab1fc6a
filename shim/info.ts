// The -info flag: what this runtime is, as a containerd.types.RuntimeInfo. Options come on stdin and are echoed.

import { readFileSync } from 'node:fs';
import { FEATURES_URL, packJson } from '../proto/any';
import { RuntimeInfo } from '../proto/generated/containerd.types';
import { Any } from '../proto/generated/google.protobuf';
import { features } from '../runtime-native/index';

export const SHIM_NAME = 'io.containerd.gantry.v1';
export const SHIM_VERSION = '0.1.0';

/** The message to print. */
export function runtimeInfo(): Buffer {
  const stdin = process.stdin.isTTY ? Buffer.alloc(0) : readFileSync(0);
  return RuntimeInfo.encode({
    name: SHIM_NAME,
    version: { version: SHIM_VERSION, revision: '' },
    options: stdin.length > 0 ? Any.decode(stdin) : undefined,
    features: packJson(FEATURES_URL, features()),
  });
}
