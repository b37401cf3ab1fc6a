// Debian's dockerd on a containerd of its own, with gantry-runtime as a further runtime.

import { spawn } from 'node:child_process';
import { closeSync, mkdirSync, openSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { waitFor } from '../../setup/command';
import type { TestDaemon } from '../../setup/daemons';
import { type Engine, GANTRY_RUNTIME } from './engine';

export const DOCKERD = '/usr/sbin/dockerd';
export const DOCKER = '/usr/bin/docker';
const TIMEOUT_MS = 300_000;

/** Without networks of its own. Resolves when it answers; the result ends it. */
export async function startDockerd(docker: Engine, containerd: TestDaemon): Promise<() => Promise<void>> {
  const place = path.join(docker.directory, 'daemon');
  mkdirSync(place);
  const logPath = path.join(place, 'log');
  const log = openSync(logPath, 'a');
  const child = spawn(
    DOCKERD,
    [
      ...['--data-root', `${place}/root`, '--exec-root', `${place}/exec`, '--pidfile', `${place}/pid`],
      ...['--host', `unix://${docker.directory}/docker.sock`, '--containerd', containerd.address],
      ...['--containerd-namespace', containerd.namespace, '--containerd-plugins-namespace', `${containerd.namespace}p`],
      ...['--iptables=false', '--ip6tables=false', '--ip-forward=false', '--bridge=none', '--storage-driver=vfs'],
      ...['--add-runtime', `gantry=${GANTRY_RUNTIME}`],
    ],
    { stdio: ['ignore', log, log] },
  );
  closeSync(log);
  const hasEnded = () => child.exitCode !== null || child.signalCode !== null;
  const stop = async () => {
    child.kill('SIGTERM');
    await waitFor('the end of dockerd', hasEnded, TIMEOUT_MS);
  };
  try {
    await waitFor('dockerd', async () => hasEnded() || (await docker.call('version')).exitCode === 0, TIMEOUT_MS);
  } catch (error) {
    await stop();
    throw error;
  }
  if (hasEnded()) throw new Error(`dockerd has ended: ${readFileSync(logPath, 'utf8').slice(-2000)}`);
  return stop;
}
