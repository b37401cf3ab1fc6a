// A logging program (binary:// and binary-v2:// URIs): a child of the shim that reads the container's output from pipes.
// The container writes into the pipes itself; no byte passes through the shim.

import type { ChildProcess } from 'node:child_process';
import { closeSync } from 'node:fs';
import { Socket } from 'node:net';
import { isErrno, unknown } from '../../proto/errors';
import type { Runtime } from '../runtime';

export interface Logger {
  /** Descriptors to give to the process as stdout and stderr; `release` closes them here. */
  readonly stdout: number;
  readonly stderr: number;
  release(): void;
  /** Gives stdout to the caller, who closes it. */
  takeStdout(): number;
  /** Lets the program end by itself, then by SIGTERM, then by SIGKILL. Resolves when it is gone. */
  stop(): Promise<void>;
}

const READY_TIMEOUT_MS = 60_000;
const STOP_TIMEOUT_MS = 12_000;

/**
 * Starts the program of the URI and waits until it says that it is ready, by closing fd 5 (binary) or by writing a byte
 * there first (binary-v2).
 * @throws UNKNOWN when it cannot be started, does not get ready in time, or ends first.
 */
export async function startLogger(
  uri: URL,
  labels: { id: string; namespace: string },
  runtime: Runtime,
): Promise<Logger> {
  const out = runtime.pipe();
  const err = runtime.pipe();
  const ready = runtime.pipe();
  const ends = [out.write, err.write];
  const release = () => {
    for (const fd of ends.splice(0)) closeSync(fd);
  };
  let child: ChildProcess;
  try {
    // Loaded only where there is a logger: it costs memory.
    const { spawn } = require('node:child_process') as typeof import('node:child_process');
    const args = [...uri.searchParams.keys()].flatMap((key) => [key, uri.searchParams.get(key) ?? '']);
    child = spawn(uri.pathname, args, {
      env: { CONTAINER_ID: labels.id, CONTAINER_NAMESPACE: labels.namespace },
      stdio: ['ignore', 'ignore', 'ignore', out.read, err.read, ready.write],
    });
  } finally {
    for (const fd of [out.read, err.read, ready.write]) closeSync(fd);
  }
  const gone = new Promise<void>((resolve) => {
    child.once('exit', () => resolve());
    child.once('error', () => resolve());
  });
  try {
    await waitReady(child, ready.read, uri);
  } catch (error) {
    release();
    child.kill('SIGKILL');
    throw error;
  }
  const takeStdout = () => ends.shift() ?? out.write;
  return { stdout: out.write, stderr: err.write, release, takeStdout, stop: () => stop(child, gone) };
}

function waitReady(child: ChildProcess, readyFd: number, uri: URL): Promise<void> {
  const isByteRequired = uri.protocol === 'binary-v2:';
  return new Promise<void>((resolve, reject) => {
    const socket = new Socket({ fd: readyFd, readable: true, writable: false });
    const settle = (problem?: string) => {
      clearTimeout(timer);
      socket.destroy();
      if (problem === undefined) resolve();
      else reject(unknown(`failed to start logging binary "${uri.pathname}": ${problem}`));
    };
    const timer = setTimeout(() => settle('not ready in time'), READY_TIMEOUT_MS);
    child.once('error', (error) => settle(isErrno(error, 'ENOENT') ? 'no such file or directory' : error.message));
    socket.once('data', () => settle());
    socket.once('error', (error) => settle(error.message));
    socket.once('end', () => {
      if (child.pid === undefined) return; // The "error" of the spawn says more.
      settle(isByteRequired ? 'it closed the ready pipe without a byte' : undefined);
    });
  });
}

async function stop(child: ChildProcess, gone: Promise<void>): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return;
  child.kill('SIGTERM');
  const timer = setTimeout(() => child.kill('SIGKILL'), STOP_TIMEOUT_MS);
  await gone;
  clearTimeout(timer);
}
