// Which action is refused in which state, with the words seen from Debian's containerd-shim-runc-v2 1.6.20.

import { checkAction } from '../../../shim/lifecycle';

test.each([
  ['created', 'pause', 'cannot pause task in created state', 'unknown'],
  ['created', 'resume', 'cannot resume task in created state', 'unknown'],
  ['running', 'start', 'cannot start a running process', 'unknown'],
  ['running', 'delete', 'cannot delete a running process', 'unknown'],
  ['running', 'resume', 'cannot resume a running process', 'unknown'],
  ['paused', 'pause', 'cannot pause a paused container', 'unknown'],
  ['paused', 'exec', 'cannot exec in a paused state', 'unknown'],
  ['paused', 'delete', 'cannot delete a paused process', 'unknown'],
  ['stopped', 'start', 'cannot start a stopped process', 'unknown'],
  ['stopped', 'pause', 'cannot pause a stopped container', 'unknown'],
  ['stopped', 'exec', 'cannot exec in a stopped state', 'unknown'],
  ['stopped', 'update', 'cannot update a stopped container', 'unknown'],
  ['stopped', 'checkpoint', 'cannot checkpoint a stopped container', 'unknown'],
  ['stopped', 'kill', 'process already finished: not found', 'not found'],
  ['deleted', 'kill', 'cannot kill a deleted process: not found', 'not found'],
] as const)('init that is %s refuses %s', (state, action, message, kind) => {
  expect(() => checkAction('init', action, state)).toThrow(expect.objectContaining({ message, kind }) as Error);
});

test.each([
  ['created', 'kill', 'process not created: failed precondition', 'failed precondition'],
  ['stopped', 'kill', 'process already finished: not found', 'not found'],
  ['stopped', 'start', 'cannot start a stopped process', 'unknown'],
  ['stopped', 'resize', 'cannot resize a stopped container', 'unknown'],
  ['running', 'delete', 'cannot delete a running process', 'unknown'],
] as const)('an exec that is %s refuses %s', (state, action, message, kind) => {
  expect(() => checkAction('exec', action, state)).toThrow(expect.objectContaining({ message, kind }) as Error);
});

test('what is not refused is allowed', () => {
  for (const action of ['start', 'delete', 'kill', 'exec', 'update'] as const) checkAction('init', action, 'created');
  for (const action of ['pause', 'kill', 'exec', 'update', 'checkpoint'] as const)
    checkAction('init', action, 'running');
  for (const action of ['resume', 'kill', 'update', 'checkpoint'] as const) checkAction('init', action, 'paused');
  checkAction('init', 'delete', 'stopped');
});
