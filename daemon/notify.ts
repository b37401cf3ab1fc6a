// Tells systemd about the state of the service (sd_notify). Node cannot send Unix datagrams, so systemd's own helper
// does it; without NOTIFY_SOCKET nothing happens.

import { execFile } from 'node:child_process';
import { messageOf } from '../proto/errors';
import type { Logger } from './log';

const TIMEOUT_MS = 5000;

export type ServiceState = 'ready' | 'stopping';

const MESSAGES: Record<ServiceState, string> = { ready: 'READY=1', stopping: 'STOPPING=1' };

/** Best effort: a failure is logged. Resolves when systemd was told. */
export function notifySystemd(state: ServiceState, log: Logger): Promise<void> {
  if (!process.env['NOTIFY_SOCKET']) return Promise.resolve();
  return new Promise((resolve) => {
    execFile('systemd-notify', [`--pid=${process.pid}`, MESSAGES[state]], { timeout: TIMEOUT_MS }, (error) => {
      if (error !== null) log.warn('cannot notify systemd', { state, error: messageOf(error) });
      resolve();
    });
  });
}
