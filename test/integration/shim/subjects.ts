// What the cases of the Task API run on: Debian's shim, which shows that a case is right, and ours with every runtime.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { needsFile, needsRoot } from '../../setup/needs';
import { OUR_SHIM, REFERENCE_SHIM } from './harness';

export interface Subject {
  readonly name: string;
  readonly program: string;
  /** The runtime that tasks ask for in their options; with none, our shim runs containers itself. */
  readonly runtime: string;
  /** Why it cannot be tested here. */
  readonly missing: string | undefined;
}

const RUNC = '/usr/sbin/runc';
const CRUN = '/usr/bin/crun';

/** crun refuses the hybrid cgroup layout, so it is run where the v2 hierarchy beside v1 is hidden. */
const crun = join(mkdtempSync(join(tmpdir(), 'shim-crun-')), 'crun');

export const SUBJECTS: readonly Subject[] = [
  { name: 'ours', program: OUR_SHIM, runtime: '', missing: needsFile(OUR_SHIM, 'make build') },
  { name: 'ours with runc', program: OUR_SHIM, runtime: RUNC, missing: needsFile(RUNC, 'package runc') },
  { name: 'ours with crun', program: OUR_SHIM, runtime: crun, missing: needsFile(CRUN, 'package crun') },
].map((subject) => ({ ...subject, missing: needsRoot() ?? subject.missing }));

export const PEER: Subject = {
  name: 'runc-v2',
  program: REFERENCE_SHIM,
  runtime: '',
  missing: needsRoot() ?? needsFile(REFERENCE_SHIM, 'package containerd'),
};

export const isCrun = ({ runtime }: Subject) => runtime === crun;

/** To be called before the first case. Returns what undoes it. */
export function makeCrun(): () => void {
  const hide = 'mountpoint -q /sys/fs/cgroup/unified && umount /sys/fs/cgroup/unified';
  const script = `#!/bin/sh\nexec unshare --mount --propagation slave sh -c '${hide}; exec ${CRUN} "$@"' crun "$@"\n`;
  writeFileSync(crun, script, { mode: 0o755 });
  return () => rmSync(dirname(crun), { recursive: true });
}
