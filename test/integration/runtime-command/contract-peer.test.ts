// The contract of OCI runtimes on Debian's runc and crun, which shows that the cases are right.

import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describeUnless, needsFile, retryPeer } from '../../setup/needs';
import { ociCommandSuite } from '../../suites/oci-command.suite';
import { missingForContainers } from '../../suites/runtime-bundle';

const RUNC = '/usr/sbin/runc';
const CRUN = '/usr/bin/crun';

const missing = missingForContainers();

retryPeer();

describeUnless(missing ?? needsFile(RUNC, 'package runc'))('runc', () => {
  ociCommandSuite(RUNC, { poststartAtCreate: true, joinsOthers: true, looksNotBeforeUpdate: true });
});

describeUnless(missing ?? needsFile(CRUN, 'package crun'))('crun', () => {
  const directory = path.join(tmpdir(), `runtime-crun-${process.pid}`);
  const program = path.join(directory, 'crun');
  // crun refuses the hybrid cgroup layout, so it is run where the v2 hierarchy beside v1 is hidden.
  const hide = 'mountpoint -q /sys/fs/cgroup/unified && umount /sys/fs/cgroup/unified';
  const script = `exec unshare --mount --propagation slave sh -c '${hide}; exec ${CRUN} "$@"' crun "$@"`;
  beforeAll(() => {
    mkdirSync(directory);
    writeFileSync(program, `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  });
  afterAll(() => rmSync(directory, { recursive: true }));

  ociCommandSuite(program, { isCrun: true, joinsOthers: true });
});
