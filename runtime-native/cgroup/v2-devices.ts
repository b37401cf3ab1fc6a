// Device rules of cgroup v2: an eBPF program of the type CGROUP_DEVICE, attached to the group.

import { closeSync, constants, openSync } from 'node:fs';
import { unknown } from '../../proto/errors';
import { errorText } from '../failure';
import { attachDeviceFilter } from '../native';
import type { DeviceRule } from '../spec';
import { compileDeviceFilter } from './device-filter';
import { effectiveRules } from './devices';

export function applyDevices(path: string, rules: readonly DeviceRule[]): void {
  const directory = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    attachDeviceFilter(directory, compileDeviceFilter(effectiveRules(rules)));
  } catch (error) {
    throw unknown(`unable to apply cgroup configuration: device filter of ${path}: ${errorText(error)}`, {
      cause: error,
    });
  } finally {
    closeSync(directory);
  }
}
