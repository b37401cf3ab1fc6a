// Fields of `process` that do not go together, or not with what Linux offers.

import type { Process, Rlimit, Scheduler } from '../spec';
import { refuse } from './checks';

const REAL_TIME = new Set(['SCHED_FIFO', 'SCHED_RR']);
const NICE = new Set(['SCHED_OTHER', 'SCHED_BATCH']);

/** @throws UNKNOWN `PATH: WORDS` */
export function checkProcess(process: Process, path: string): void {
  if ((process.args ?? []).length === 0) refuse(`${path}.args`, 'args must not be empty');
  checkRlimits(process.rlimits ?? [], `${path}.rlimits`);
  if (process.scheduler) checkScheduler(process.scheduler, `${path}.scheduler`);
  const { ioPriority } = process;
  if (ioPriority?.class === 'IOPRIO_CLASS_IDLE' && (ioPriority.priority ?? 0) !== 0)
    refuse(`${path}.ioPriority.priority`, 'has no meaning for IOPRIO_CLASS_IDLE');
}

function checkRlimits(rlimits: readonly Rlimit[], path: string): void {
  const seen = new Set<string>();
  rlimits.forEach(({ type, soft, hard }, index) => {
    if (seen.has(type)) refuse(`${path}[${index}].type`, `${type} is set twice`);
    seen.add(type);
    if (soft > hard) refuse(`${path}[${index}].soft`, 'must not be above hard');
  });
}

function checkScheduler(scheduler: Scheduler, path: string): void {
  const { policy, nice = 0, priority = 0, runtime = 0, deadline = 0, period = 0 } = scheduler;
  if (nice !== 0 && !NICE.has(policy)) refuse(`${path}.nice`, `has no meaning for ${policy}`);
  if (nice < -20 || nice > 19) refuse(`${path}.nice`, 'must be between -20 and 19');
  if (priority !== 0 && !REAL_TIME.has(policy)) refuse(`${path}.priority`, `has no meaning for ${policy}`);
  if (REAL_TIME.has(policy) && (priority < 1 || priority > 99)) refuse(`${path}.priority`, 'must be between 1 and 99');
  if (policy === 'SCHED_DEADLINE') {
    if (runtime <= 0 || runtime > deadline) refuse(`${path}.runtime`, 'must be above 0 and not above deadline');
    if (period !== 0 && deadline > period) refuse(`${path}.deadline`, 'must not be above period');
    return;
  }
  for (const [name, value] of Object.entries({ runtime, deadline, period }))
    if (value !== 0) refuse(`${path}.${name}`, 'needs SCHED_DEADLINE');
}
