// The contract of an OCI runtime's command line: what the runtime specification demands (the scenarios of OCI's own
// validation), and what every runtime does the same where it says nothing. It runs on gantry-runtime and, to know that the
// cases are right, on Debian's runc and crun.

import { cgroupCases } from './oci-cgroups';
import { OciCommand } from './oci-command';
import { configurationCases } from './oci-configuration';
import { execCases } from './oci-exec';
import { hookCases } from './oci-hooks';
import { lifecycleCases } from './oci-lifecycle';
import { resourceCases } from './oci-resources';

/** Where a program is known not to do what the specification says. */
export interface KnownDeviations {
  /** runc 1.1 runs poststart hooks when it has created the container. */
  readonly poststartAtCreate?: boolean;
  /** runc refuses groups with processes in them since 1.2; before, and crun, they only warn, or not even that. */
  readonly joinsOthers?: boolean;
  /** Before 1.2, runc leaves it to the kernel to refuse limits below what is in use, which that of v2 does not. */
  readonly looksNotBeforeUpdate?: boolean;
  /** crun has no flags for resctrl; it knows no groups by controller, and makes those that are not there. */
  readonly isCrun?: boolean;
}

/** Defines the cases for one program. */
export function ociCommandSuite(program: string, known: KnownDeviations = {}): void {
  let command: OciCommand;
  beforeEach(() => {
    command = new OciCommand(program);
  });
  afterEach(() => command.clean());

  describe('states and transitions', () => lifecycleCases(() => command));
  describe('configuration', () => configurationCases(() => command));
  describe('hooks', () => hookCases(() => command, known));
  describe('exec', () => execCases(() => command, known));
  describe('cgroups', () => cgroupCases(() => command, known));
  describe('resources', () => resourceCases(() => command, known));
}
