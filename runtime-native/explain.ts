// A launch plan for people: what create would do, without doing any of it.

import type { CreateOptions } from './container';
import { compileLaunch } from './create';
import type { Plan } from './plan/operations';

/**
 * The plan of a container as plain data, in the order in which init runs it; JSON.stringify prints it.
 * @throws UNKNOWN in runc's words for a configuration that cannot be run
 */
export function explain(options: CreateOptions): Plan {
  return compileLaunch(options).plan;
}
