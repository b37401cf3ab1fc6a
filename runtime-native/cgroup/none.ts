// In the place of cgroups for a caller without rights on any: holds nothing, limits nothing, and refuses what would need
// one.

import { unknown } from '../../proto/errors';
import { refuse } from '../config/checks';
import type { LinuxResources } from '../spec';
import { CgroupV1 } from './v1';

export class NoCgroup extends CgroupV1 {
  constructor() {
    super([]);
  }

  override below(): never {
    throw unknown('unable to create new parent process: the container has no cgroups, and so none below them');
  }

  /** @throws UNKNOWN for limits, which nobody would enforce; device rules hold without: nodes cannot be made */
  override apply(resources: LinuxResources): void {
    for (const [name, limit] of Object.entries(resources)) {
      if (name === 'devices' || limit === null || Object.keys(limit as object).length === 0) continue;
      refuse(`linux.resources.${name}`, 'needs cgroups, on which the caller has no rights');
    }
  }
}
