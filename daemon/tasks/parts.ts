// What the classes that work on tasks are made of; the task manager puts them together.

import type { Logger } from '../log';
import type { BundleDirectories } from './bundle';
import type { ProcessTracker } from './process-tracker';
import type { RuntimeResolver } from './runtimes';
import type { Task } from './task';
import type { TaskCleaner } from './task-cleaner';
import type { TaskRegistry } from './task-registry';
import type { TaskStore } from './task-store';

export interface TaskParts {
  readonly store: TaskStore;
  readonly tracker: ProcessTracker;
  readonly registry: TaskRegistry;
  readonly logger: Logger;
}

/** For those that connect to shims. */
export interface ShimParts extends TaskParts {
  readonly resolver: RuntimeResolver;
  readonly cleaner: TaskCleaner;
  readonly directories: BundleDirectories;
  /** Called when the connection to a task's shim is lost. */
  readonly onShimGone: (task: Task) => void;
}
