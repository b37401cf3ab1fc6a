// Runs a launch plan: starts init, hears what it has to say, and tells it to go on.

import { closeSync, openSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { unknown } from '../proto/errors';
import { describeFailure } from './failure';
import { createMemfd, launchInit, reap, receive, sendByte, signalPidfd, socketPair } from './native';
import { CODES, SYNC_POINTS } from './plan/codes';
import { encodePlan } from './plan/encode';
import type { Operation, Plan, SyncPoint } from './plan/operations';
import { Reaper } from './reaper';

export interface LaunchOptions {
  readonly plan: Plan;
  /** Flags of the namespaces to make. */
  readonly namespaces: number;
  /** Namespaces to be born into: descriptors of them, or pidfds of processes in them. */
  readonly joins?: readonly { readonly fd: number; readonly type: string }[] | undefined;
  readonly cgroup?: number | undefined;
  /** 0, 1 and 2 of the process; -1 is /dev/null. */
  readonly stdio: readonly [number, number, number];
  /** The descriptors of the plan's slots. */
  readonly inherited?: readonly number[] | undefined;
  /** Whether failures are those of a container's first process. */
  readonly inInit: boolean;
}

/** What init says: it waits, it hands over its terminal, or (end) it has executed the program or has died. */
export type Message =
  | { readonly kind: 'sync'; readonly point: SyncPoint }
  | { readonly kind: 'terminal'; readonly fd: number }
  /** The descriptor that the listener of a seccomp filter will have in the process. */
  | { readonly kind: 'listener'; readonly number: number }
  | { readonly kind: 'end' };

const MESSAGE_SIZE = 512;
const TEXT_OFFSET = 16;
/** The code of the operation stands above the stage. */
const CODE_SHIFT = 16;
const STAGE_MASK = 0xffff;
const KIND = { failure: 1, sync: 2, terminal: 3, respawn: 4, listener: 5 } as const;
/** Nearly all plans are done within this; waiting for it is cheaper than a turn of the event loop. */
const SYNCHRONOUS_WAIT_MS = 25;
const POLL_MIN_MS = 2;
const POLL_MAX_MS = 20;
const SIGKILL = 9;
const POINT_NAMES = new Map(Object.entries(SYNC_POINTS).map(([name, value]) => [value as number, name as SyncPoint]));

const message = Buffer.alloc(MESSAGE_SIZE);
let nullFile: number | undefined;

/** A process that runs a plan. It is tracked by the reaper from the start. */
export class LaunchedInit {
  /** Another one after the plan's respawn operation; so is pidfd. */
  pid: number;
  pidfd: number;
  private readonly plan: Plan;
  private readonly inInit: boolean;
  private socket: number;

  constructor(
    launched: { pid: number; pidfd: number },
    socket: number,
    options: Pick<LaunchOptions, 'plan' | 'inInit'>,
  ) {
    this.pid = launched.pid;
    this.pidfd = launched.pidfd;
    this.socket = socket;
    this.plan = options.plan;
    this.inInit = options.inInit;
  }

  /**
   * Waits for the next message, first shortly without and then with the event loop.
   * @throws UNKNOWN with runc's words when an operation failed; init has exited then
   */
  async next(): Promise<Message> {
    return (await this.nextWithin(Number.POSITIVE_INFINITY)) as Message;
  }

  /** As next(); undefined when nothing came in time. */
  async nextWithin(limitMs: number): Promise<Message | undefined> {
    const deadline = performance.now() + limitMs;
    let received = this.tryNext(SYNCHRONOUS_WAIT_MS);
    for (let waitMs = POLL_MIN_MS; received === undefined; waitMs = Math.min(waitMs * 2, POLL_MAX_MS)) {
      if (performance.now() > deadline) return undefined;
      await sleep(waitMs);
      received = this.tryNext(0);
    }
    return received;
  }

  /** The same without the event loop; undefined when nothing came in time. */
  tryNext(timeoutMs: number): Message | undefined {
    const received = receive(this.socket, message, timeoutMs);
    if (received === undefined) return undefined;
    if (received.size === 0) return { kind: 'end' };
    const kind = message.readUInt32LE(0);
    if (kind === KIND.terminal) return { kind: 'terminal', fd: received.fd };
    if (kind === KIND.respawn) return this.follow(received.fd, timeoutMs);
    const operation = message.readUInt32LE(4);
    if (kind === KIND.listener) return { kind: 'listener', number: operation };
    if (kind === KIND.sync) {
      const point = POINT_NAMES.get(operation);
      if (point !== undefined) return { kind: 'sync', point };
    }
    const stage = message.readUInt32LE(12);
    const end = message.indexOf(0, TEXT_OFFSET);
    const failure = {
      operation: this.plan.operations[operation] ?? operationOf(stage >>> CODE_SHIFT),
      target: bindTarget(this.plan, operation),
      error: message.readUInt32LE(8),
      stage: stage & STAGE_MASK,
      text: message.toString('utf8', TEXT_OFFSET, end < 0 ? MESSAGE_SIZE : end),
    };
    throw unknown(describeFailure(failure, this.inInit));
  }

  /** The process that was launched has ended; its child, which is ours now, goes on. */
  private follow(pidfd: number, timeoutMs: number): Message | undefined {
    const former = { pid: this.pid, pidfd: this.pidfd };
    const [, pid] = /^Pid:\s*(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${pidfd}`, 'utf8')) ?? [];
    this.pid = Number(pid);
    this.pidfd = pidfd;
    Reaper.shared().track(this.pid);
    if (Reaper.shared().forget(former.pid)) reap(former.pid, true);
    closeSync(former.pidfd);
    this.proceed();
    return this.tryNext(timeoutMs);
  }

  /** Lets a process that waits in a sync operation go on. @throws EPIPE when it has died */
  proceed(): void {
    sendByte(this.socket);
  }

  /** Hangs up. A process that waits in a sync operation exits. */
  hangUp(): void {
    if (this.socket >= 0) closeSync(this.socket);
    this.socket = -1;
  }

  /** Kills and reaps the process: the undo of launch. */
  destroy(): void {
    this.hangUp();
    try {
      signalPidfd(this.pidfd, SIGKILL);
    } catch {
      // It has exited.
    }
    if (Reaper.shared().forget(this.pid)) reap(this.pid, true);
    closeSync(this.pidfd);
  }
}

/** Starts a plan. @throws errors of system calls */
export function launch(options: LaunchOptions): LaunchedInit {
  // It listens before there is a child whose exit could be missed.
  const reaper = Reaper.shared();
  const [own, other] = socketPair();
  let plan = -1;
  try {
    plan = createMemfd('gantry-plan', encodePlan(options.plan), false);
    nullFile ??= openSync('/dev/null', 'r+');
    const stdio = options.stdio.map((fd) => (fd < 0 ? (nullFile as number) : fd));
    const launched = launchInit({
      namespaces: options.namespaces,
      joins: options.joins ?? [],
      cgroup: options.cgroup ?? -1,
      fds: [...stdio, other, plan, ...(options.inherited ?? [])],
    });
    reaper.track(launched.pid);
    return new LaunchedInit(launched, own, options);
  } catch (error) {
    closeSync(own);
    throw error;
  } finally {
    closeSync(other);
    if (plan >= 0) closeSync(plan);
  }
}

/** What is known of an operation whose plan another process has made: its name. */
function operationOf(code: number): Operation | undefined {
  const name = Object.entries(CODES).find(([, value]) => value === code)?.[0];
  return name === undefined ? undefined : ({ op: name } as Operation);
}

/** Where the tree that a failed operation opened was to be attached. */
function bindTarget({ operations }: Plan, index: number): string | undefined {
  const opened = operations[index];
  if (opened?.op !== 'openTree') return undefined;
  const attach = operations.find((other) => other.op === 'attach' && other.slot === opened.slot);
  return attach?.op === 'attach' ? attach.target : undefined;
}
