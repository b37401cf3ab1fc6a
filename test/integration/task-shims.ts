// The shims that the tests of tasks and of crashes run with.

import { needsFile } from '../setup/needs';
import { missingForTasks, type ShimConfig } from './tasks-daemon';

const FOREIGN_SHIM = '/usr/bin/containerd-shim-runc-v2';

/** Every shim that can be had, and both ways to start our own. `missing` says why one cannot be tested here. */
export const SHIMS: readonly { name: string; config: ShimConfig; missing: string | undefined }[] = [
  { name: 'own shim, forked', config: { start: 'fork' }, missing: missingForTasks() },
  { name: 'own shim, spawned', config: { start: 'spawn' }, missing: missingForTasks() },
  {
    name: 'containerd-shim-runc-v2',
    config: { runtimes: { 'io.containerd.runc.v2': FOREIGN_SHIM }, start: 'spawn' },
    missing: missingForTasks() ?? needsFile(FOREIGN_SHIM, 'package containerd'),
  },
];
