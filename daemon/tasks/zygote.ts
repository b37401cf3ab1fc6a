// The daemon's end of the zygote (shim/zygote.ts): starts it, asks it to fork, and does without it when it fails.

import { type ChildProcess, spawn } from 'node:child_process';
import type { Socket } from 'node:net';
import { messageOf, unavailable, unknown } from '../../proto/errors';
import { SHIM_ENVIRONMENT, ZYGOTE_FLAGS } from '../../proto/shim-flags';
import type { Logger } from '../log';
import { type ShimEnvironment, shimEnv } from './launcher';

/** fork: from a zygote where that is possible; spawn: always as a program. */
export const SHIM_STARTS = ['fork', 'spawn'] as const;
export type ShimStart = (typeof SHIM_STARTS)[number];

/** First the daemon itself: a zygote takes half a second of a processor. */
const START_DELAY_MS = 100;
const RESTART_DELAY_MS = 10_000;
/** A fork takes a few milliseconds. A zygote that needs this long is stopped, or the machine is in no state for it. */
const FORK_TIMEOUT_MS = 3000;
/** How long a closing daemon waits for a zygote that is still rehearsing, so that nothing of it is left. */
const END_TIMEOUT_MS = 20_000;
const REPLY_SIZE = 8;
/** Steps of zygote.c. */
const STEPS = ['fork', 'open the bundle', 'open the log', 'open the socket', 'fork'];

export interface ZygoteOptions extends ShimEnvironment {
  /** Node and the bundle of the shim. */
  readonly node: string;
  readonly shimFile: string;
  /** Where it rehearses, and the beginning of the paths of its sockets. */
  readonly directory: string;
  readonly socketPrefix: string;
  readonly logger: Logger;
}

export interface ForkRequest {
  readonly bundle: string;
  readonly log: string;
  /** Where the shim listens: it does when fork() has resolved. */
  readonly socket: string;
  readonly namespace: string;
  readonly id: string;
}

interface Running {
  readonly child: ChildProcess;
  readonly control: Socket;
  /** The greeting and the answers that are waited for, in order. */
  readonly waiters: PromiseWithResolvers<[result: number, step: number]>[];
  readonly exited: Promise<void>;
}

export class Zygote {
  private readonly options: ZygoteOptions;
  private running: Running | undefined;
  private isReady = false;
  private isClosed = false;
  private timer: NodeJS.Timeout;

  constructor(options: ZygoteOptions) {
    this.options = options;
    this.timer = setTimeout(() => this.start(), START_DELAY_MS).unref();
  }

  /**
   * Forks a shim that listens at once.
   * @returns its pid, or undefined when there is no zygote (yet)
   * @throws UNKNOWN naming the step; UNAVAILABLE when the zygote did not answer and was killed: it may have forked
   */
  async fork(request: ForkRequest): Promise<number | undefined> {
    const { running } = this;
    if (running === undefined || !this.isReady) return undefined;
    const reply = Promise.withResolvers<[number, number]>();
    const timer = setTimeout(() => running.child.kill('SIGKILL'), FORK_TIMEOUT_MS);
    running.waiters.push(reply);
    const { grpcAddress, debug } = this.options;
    running.control.write(encodeRequest(request, { address: grpcAddress, debug }));
    try {
      const [result, step] = await reply.promise;
      if (result < 0) throw unknown(`zygote: ${STEPS[step] ?? 'fork'}: error ${-result}`);
      return result;
    } finally {
      clearTimeout(timer);
    }
  }

  /** Ends the zygote; its shims stay. */
  async close(): Promise<void> {
    this.isClosed = true;
    clearTimeout(this.timer);
    const { running } = this;
    if (running === undefined) return;
    running.control.destroy();
    const timer = setTimeout(() => running.child.kill('SIGKILL'), END_TIMEOUT_MS);
    await running.exited;
    clearTimeout(timer);
  }

  private start(): void {
    const { node, shimFile, directory, socketPrefix, logger } = this.options;
    const args = [...ZYGOTE_FLAGS, shimFile, 'zygote', '-bundle', directory, '-socket', socketPrefix];
    const child = spawn(node, args, {
      detached: true,
      env: { ...shimEnv(this.options, '', 3), ...SHIM_ENVIRONMENT },
      stdio: ['ignore', 'ignore', 'pipe', 'pipe'],
    });
    const control = child.stdio[3] as Socket;
    const greeting = Promise.withResolvers<[number, number]>();
    const exited = Promise.withResolvers<void>();
    const running: Running = { child, control, waiters: [greeting], exited: exited.promise };
    this.running = running;
    receive(running);
    child.stderr?.on('data', (text: Buffer) => logger.warn('zygote', { text: text.toString().trimEnd() }));
    child.on('error', (error) => this.ended(running, messageOf(error), exited.resolve));
    child.on('exit', (code, signal) => this.ended(running, signal ?? `status ${code}`, exited.resolve));
    greeting.promise.then(
      () => {
        this.isReady = true;
        logger.info('zygote is ready', { pid: child.pid });
      },
      () => {}, // It has ended, which says why.
    );
    child.unref();
    control.unref();
    (child.stderr as Socket | null)?.unref();
  }

  /** One that was good is replaced; one that never was would not become good. */
  private ended(running: Running, reason: string, done: () => void): void {
    const wasReady = this.isReady;
    this.running = undefined;
    this.isReady = false;
    running.control.destroy();
    for (const waiter of running.waiters.splice(0)) waiter.reject(unavailable(`the zygote has ended: ${reason}`));
    done();
    if (this.isClosed) return;
    this.options.logger.warn('no zygote: shims are started as programs', { reason, again: wasReady });
    if (wasReady) this.timer = setTimeout(() => this.start(), RESTART_DELAY_MS).unref();
  }
}

function receive({ control, waiters }: Running): void {
  let received = Buffer.alloc(0);
  control.on('error', () => control.destroy());
  control.on('data', (chunk: Buffer) => {
    received = Buffer.concat([received, chunk]);
    for (; received.length >= REPLY_SIZE; received = received.subarray(REPLY_SIZE)) {
      waiters.shift()?.resolve([received.readInt32LE(0), received.readInt32LE(4)]);
    }
  });
}

/** Length, then three strings that end in NUL for C, then JSON for the child. */
function encodeRequest(request: ForkRequest, common: { address: string; debug: boolean }): Buffer {
  const { bundle, log, socket, namespace, id } = request;
  const birth = JSON.stringify({ namespace, id, socket, ...common });
  const body = Buffer.from(`${bundle}\0${log}\0${socket}\0${birth}`);
  const length = Buffer.alloc(4);
  length.writeUInt32LE(body.length);
  return Buffer.concat([length, body]);
}
