// A container whose process comes from elsewhere: from a checkpoint. Its cgroups and its state are as create makes them.

import { messageOf, unknown } from '../proto/errors';
import type { Cgroup } from './cgroup/cgroup';
import type { CreateOptions } from './container';
import { checkRootfs, compileLaunch, setLimits, stateOf } from './create';
import { claimState, lockContainer, removeState, saveSpec, saveState } from './state';
import { UndoList } from './undo';

/**
 * @param bring - starts the process in its cgroups and answers its pid
 * @throws UNKNOWN, ALREADY_EXISTS when the id is taken. Nothing is left behind on failure but what bring leaves.
 */
export async function restoreContainer(
  options: CreateOptions,
  bring: (cgroup: Cgroup) => Promise<number>,
): Promise<number> {
  const { root, id, spec } = options;
  const undo = new UndoList();
  checkRootfs(options.rootfs);
  const { cgroup } = compileLaunch(options);
  claimState(root, id);
  undo.add('state', () => removeState(root, id));
  const unlock = await lockContainer(root, id);
  try {
    cgroup.checkVacant();
    saveState(root, stateOf(options, cgroup, 0));
    saveSpec(root, id, spec);
    undo.add('cgroups', () => cgroup.remove());
    await cgroup.create();
    await setLimits(cgroup, spec);
    const pid = await bring(cgroup);
    saveState(root, stateOf(options, cgroup, pid));
    return pid;
  } catch (error) {
    const left = await undo.run();
    throw left.length === 0
      ? error
      : unknown(`${messageOf(error)} (left behind: ${left.join('; ')})`, { cause: error });
  } finally {
    unlock();
  }
}
