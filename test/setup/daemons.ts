// Private daemons for tests: gantryd and the peer containerd, each with folders, a socket and a namespace of its own, and
// the clean-up of everything they and their containers leave. It ends only processes that belong to its own daemon.

import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { PROJECT_ROOT } from './cache';
import type { ContainerdRelease } from './clients';
import { waitFor } from './command';
import {
  cgroupsOf,
  killCgroups,
  killIfThere,
  mountsBelow,
  processesOf,
  removeCgroups,
  removeFolder,
  unmountBelow,
} from './leftovers';

export interface DaemonOptions {
  /** Where root, state and socket go; a new folder below /tmp otherwise. Removed by destroy(). */
  readonly directory?: string;
  /** More command line for the daemon. */
  readonly args?: readonly string[];
  readonly env?: NodeJS.ProcessEnv;
  /** A command that runs the daemon in another place, for example nsenter; it must keep the pid. */
  readonly within?: readonly string[];
}

/** The parts of containerd for Kubernetes, by their names in 1.x and 2.x. */
const UNUSED_PLUGINS = [
  'io.containerd.grpc.v1.cri',
  'io.containerd.cri.v1.images',
  'io.containerd.cri.v1.runtime',
  'io.containerd.podsandbox.controller.v1.podsandbox',
  'io.containerd.nri.v1.nri',
];
const RUNC_STATE = '/run/containerd/runc';
/** Where a bundle says which socket its shim has, in 1.x and in 2.x. */
const SHIM_ADDRESS_FILES = ['address', 'bootstrap.json'];
const START_TIMEOUT_MS = 60_000;
const STOP_TIMEOUT_MS = 60_000;

/** A daemon under test. The process can be stopped, killed and started again over the same folders. */
export class TestDaemon {
  readonly directory: string;
  readonly root: string;
  readonly state: string;
  readonly address: string;
  readonly logPath: string;
  /** Unique on this machine; further namespaces of a test must begin with it, so that their cgroups are found. */
  readonly namespace: string;
  #process: ReturnType<typeof spawn> | undefined;
  readonly #command: readonly string[];
  readonly #env: NodeJS.ProcessEnv;

  constructor(directory: string, command: readonly string[], env: NodeJS.ProcessEnv) {
    this.directory = directory;
    this.root = path.join(directory, 'root');
    this.state = path.join(directory, 'state');
    this.address = path.join(directory, 'd.sock');
    this.logPath = path.join(directory, 'daemon.log');
    this.namespace = `t${randomBytes(4).toString('hex')}`;
    this.#command = command;
    this.#env = env;
  }

  /** @throws AssertionError style error when it is not running. */
  get pid(): number {
    const pid = this.#process?.pid;
    if (pid === undefined) {
      throw new Error('the daemon is not running');
    }
    return pid;
  }

  get log(): string {
    return fs.readFileSync(this.logPath, 'utf8');
  }

  /** Starts the process and waits until its socket takes connections. @throws Error with the end of its log. */
  async start(): Promise<void> {
    const log = fs.openSync(this.logPath, 'a');
    const child = spawn(this.#command[0]!, this.#command.slice(1), { stdio: ['ignore', log, log], env: this.#env });
    fs.closeSync(log);
    this.#process = child;
    let ended: string | undefined;
    child.on('error', (error) => {
      ended = error.message;
    });
    child.on('exit', (code, signal) => {
      ended = `exit status ${code ?? signal}`;
    });
    await waitFor(`socket ${this.address}`, () => ended !== undefined || canConnect(this.address), START_TIMEOUT_MS);
    if (ended !== undefined) {
      throw new Error(`${this.#command[0]}: ${ended}\n${this.log.slice(-2000)}`);
    }
  }

  /** Ends the process (SIGTERM leaves containers running) and waits until it is gone. Does nothing when it is not running. */
  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    const child = this.#process;
    this.#process = undefined;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) {
      return;
    }
    child.kill(signal);
    try {
      await waitFor(
        `end of the daemon ${child.pid}`,
        () => child.exitCode !== null || child.signalCode !== null,
        STOP_TIMEOUT_MS,
      );
    } catch (error) {
      child.kill('SIGKILL');
      throw error;
    }
  }

  /** What containers of this daemon have left on the machine: shims, cgroups and mounts. Empty when all are removed. */
  leftovers(): string[] {
    return [
      ...processesOf(this)
        .filter(({ pid }) => pid !== this.#process?.pid)
        .map(({ pid, commandLine }) => `process ${pid}: ${commandLine}`),
      // The folder of the namespace itself stays: the parent of a container's cgroup belongs to nobody.
      ...cgroupsOf(this.namespace)
        .filter((cgroup) => !path.basename(cgroup).startsWith(this.namespace))
        .map((cgroup) => `cgroup ${cgroup}`),
      ...mountsBelow(this.directory).map((mount) => `mount ${mount}`),
    ];
  }

  /** leftovers(), after the time that shims take to end; `expected` may stay. */
  async lastingLeftovers(expected: readonly string[] = []): Promise<string[]> {
    let unexpected: string[] = [];
    // What the last look found counts: between fork and exec, a child of the daemon looks like a second daemon.
    const isClean = () => {
      unexpected = this.leftovers().filter((line) => !expected.includes(line));
      return unexpected.length === 0;
    };
    await waitFor('no leftovers', isClean).catch(() => undefined);
    return unexpected;
  }

  /** Stops the daemon, kills its shims and containers, and removes their cgroups, mounts and all folders. */
  async destroy(): Promise<void> {
    await this.stop().catch(() => undefined);
    for (const { pid } of processesOf(this)) {
      killIfThere(pid);
    }
    killCgroups(this.namespace);
    await waitFor(`end of the processes of ${this.directory}`, () => processesOf(this).length === 0);
    await removeCgroups(this.namespace);
    unmountBelow(this.directory);
    removeOutside(this.state, this.namespace);
    await removeFolder(this.directory);
  }
}

/** Starts our daemon from dist/bin, which `make build` made, or the one that GANTRYD in the environment names. */
export async function startGantryd(options: DaemonOptions = {}): Promise<TestDaemon> {
  const directory = options.directory ?? temporaryDirectory('gantryd');
  const program = process.env['GANTRYD'] ?? path.join(PROJECT_ROOT, 'dist', 'bin', 'gantryd');
  const place = ['--root', `${directory}/root`, '--state', `${directory}/state`, '--address', `${directory}/d.sock`];
  const command = [...(options.within ?? []), program, ...place, ...(options.args ?? [])];
  return started(new TestDaemon(directory, command, { ...process.env, ...options.env }));
}

interface ContainerdOptions extends DaemonOptions {
  /** More tables for its configuration. */
  readonly toml?: string;
}

/** Starts a containerd release over private folders, without the parts that no test uses. */
export async function startContainerd(
  release: ContainerdRelease,
  options: ContainerdOptions = {},
): Promise<TestDaemon> {
  const directory = options.directory ?? temporaryDirectory('peer');
  const config = path.join(directory, 'config.toml');
  fs.writeFileSync(
    config,
    `version = 2
root = "${directory}/root"
state = "${directory}/state"
disabled_plugins = ${JSON.stringify(UNUSED_PLUGINS)}
[grpc]
address = "${directory}/d.sock"
[plugins."io.containerd.internal.v1.opt"]
path = "${directory}/opt"
${options.toml ?? ''}`,
  );
  const command = [...(options.within ?? []), release.containerd, '--config', config, ...(options.args ?? [])];
  // containerd looks for its shims in PATH.
  const env = { ...process.env, PATH: `${release.binDirectory}:${process.env['PATH']}`, ...options.env };
  return started(new TestDaemon(directory, command, env));
}

/** A new folder with a short name: socket paths are limited to 107 bytes. */
export function temporaryDirectory(name: string): string {
  return fs.mkdtempSync(path.join(os.tmpdir(), `${name}-`));
}

async function started(daemon: TestDaemon): Promise<TestDaemon> {
  try {
    await daemon.start();
    return daemon;
  } catch (error) {
    await daemon.destroy();
    throw error;
  }
}

/** What runc's shim keeps outside the daemon's folders, wherever those are: its state and its socket. */
function removeOutside(state: string, namespace: string): void {
  const tasks = path.join(state, 'io.containerd.runtime.v2.task');
  const bundles = fs.existsSync(tasks) ? fs.readdirSync(tasks, { recursive: true, encoding: 'utf8' }) : [];
  for (const file of bundles.filter((name) => SHIM_ADDRESS_FILES.includes(path.basename(name)))) {
    const address = /unix:\/\/([^"\s]+)/.exec(fs.readFileSync(path.join(tasks, file), 'utf8'))?.[1];
    if (address !== undefined) fs.rmSync(address, { force: true });
  }
  const states = fs.existsSync(RUNC_STATE) ? fs.readdirSync(RUNC_STATE) : [];
  for (const name of states.filter((candidate) => candidate.startsWith(namespace))) {
    fs.rmSync(path.join(RUNC_STATE, name), { recursive: true, force: true });
  }
}

function canConnect(address: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = net.connect(address);
    const settle = (connected: boolean) => {
      socket.destroy();
      resolve(connected);
    };
    socket.on('connect', () => settle(true));
    socket.on('error', () => settle(false));
  });
}
