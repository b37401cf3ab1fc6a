// The life of one container, from Create to Shutdown, with both ends of the Task API in this process. The zygote does it
// to have all code of a shim loaded and warm, its children do it once to prove that a forked shim works.

import { copyFileSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { unknown } from '../proto/errors';
import { EventsService } from '../proto/generated/containerd.services.events.ttrpc.v1';
import { TaskService } from '../proto/generated/containerd.task.v3';
import { TtrpcClient } from '../proto/ttrpc/client';
import { serveTtrpc, ttrpcService } from '../proto/ttrpc/server';
import { removeSocket } from '../proto/ttrpc/socket';
import { mkfifo, nativeFile } from '../runtime-native/index';
import type { Log } from './log';
import { REHEARSAL_STATUS, rehearsalSpec } from './rehearsal-spec';
import type { Runtime } from './runtime';
import { serve } from './serve';

const NAMESPACE = 'gantry-rehearsal';
const SILENT: Log = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };
const EVENTS_SERVICE = 'containerd.services.events.ttrpc.v1.Events';

export interface RehearsalOptions {
  /** A directory of its own, made and removed. */
  readonly directory: string;
  /** Path for the shim's socket; the one for events has ".events" appended. */
  readonly socket: string;
  /** Name of the container and of its cgroup; no two rehearsals of a host at one time may share it. */
  readonly id: string;
}

/** @throws what the calls throw, and UNKNOWN when the container ends with another status than it should. */
export async function rehearse(runtime: Runtime, options: RehearsalOptions): Promise<void> {
  const { directory, socket, id } = options;
  const eventAddress = eventAddressOf(socket);
  const events = serveTtrpc({ [EVENTS_SERVICE]: ttrpcService(EventsService, { forward: () => ({}) }) });
  makeBundle(directory, id);
  try {
    await events.listen(eventAddress);
    const listening = Promise.withResolvers<void>();
    const served = serve({
      namespace: NAMESPACE,
      runtime,
      log: SILENT,
      idle: { worked: () => {} },
      eventAddress,
      listen: (server) => server.listen(socket).then(listening.resolve),
    });
    await Promise.race([listening.promise, served]);
    await play(directory, socket, id);
    await (await served).close();
  } finally {
    await events.close();
    removeSockets(socket);
    rmSync(directory, { recursive: true, force: true });
  }
}

/** Removes the sockets of a rehearsal, if they are there. */
export function removeSockets(socket: string): void {
  removeSocket(socket);
  removeSocket(eventAddressOf(socket));
}

const eventAddressOf = (socket: string) => `${socket}.events`;

/** The calls of a daemon for one container. */
async function play(bundle: string, socket: string, id: string): Promise<void> {
  const client = await TtrpcClient.connect(socket);
  const options = { namespace: NAMESPACE };
  try {
    const stdio = { stdin: '', stdout: join(bundle, 'stdout'), stderr: join(bundle, 'stderr') };
    const rootfs = [{ type: 'bind', source: join(bundle, 'image'), options: ['rbind', 'ro'] }];
    await client.call(TaskService.create, { id, bundle, rootfs, ...stdio }, options);
    const exit = client.call(TaskService.wait, { id }, options);
    await client.call(TaskService.start, { id }, options);
    const { exitStatus } = await exit;
    if (exitStatus !== REHEARSAL_STATUS) throw unknown(`the container of a rehearsal ended with status ${exitStatus}`);
    await client.call(TaskService.state, { id }, options);
    await client.call(TaskService.delete, { id }, options);
    await client.call(TaskService.shutdown, { id }, options);
  } finally {
    client.close();
  }
}

function makeBundle(directory: string, id: string): void {
  mkdirSync(join(directory, 'rootfs'), { recursive: true, mode: 0o700 });
  mkdirSync(join(directory, 'image'));
  for (const name of ['proc', 'dev', 'sys', 'run']) mkdirSync(join(directory, 'image', name));
  copyFileSync(nativeFile('init'), join(directory, 'image', 'init'));
  writeFileSync(join(directory, 'config.json'), JSON.stringify(rehearsalSpec(`/${id}`)));
  for (const name of ['stdout', 'stderr']) mkfifo(join(directory, name), 0o600);
}
