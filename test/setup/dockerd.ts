// A dockerd on a containerd or gantryd of its own: its folders are in those of that daemon, and go with them.

import { type ChildProcess, spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import type { DockerRelease } from './clients';
import { type CommandOptions, type CommandResult, mustRun, runCommand, waitFor } from './command';
import type { TestDaemon } from './daemons';
import { cgroupsOf } from './leftovers';

export interface DockerdOptions {
  /** More command line for dockerd. */
  readonly args?: readonly string[];
  /** Its daemon.json. */
  readonly config?: object;
  /** A command that runs it in another place, for example nsenter; it must keep the pid. */
  readonly within?: readonly string[];
}

/** It makes no bridge and no firewall rules, and needs no overlayfs. */
export const WITHOUT_NETWORKS = [
  ...['--iptables=false', '--ip6tables=false', '--ip-forward=false', '--bridge=none'],
  '--storage-driver=vfs',
];

const START_TIMEOUT_MS = 300_000;
const STOP_TIMEOUT_MS = 300_000;

/** Its cgroups and namespaces have names that begin with the daemon's, which cleans them up. */
export class Dockerd {
  readonly directory: string;
  readonly logPath: string;
  readonly containerd: TestDaemon;
  readonly #docker: readonly string[];
  readonly #argv: readonly string[];
  readonly #env: NodeJS.ProcessEnv;
  #process: ChildProcess | undefined;

  constructor(release: DockerRelease, containerd: TestDaemon, options: DockerdOptions = {}) {
    this.containerd = containerd;
    this.directory = path.join(containerd.directory, 'docker');
    this.logPath = path.join(this.directory, 'log');
    const programs = [release.dockerd, release.docker].map((file) => path.dirname(file));
    this.#env = { ...process.env, PATH: [...programs, process.env['PATH']].join(':') };
    this.#writeFiles(release, options.config ?? {});
    const { namespace } = containerd;
    const host = `unix://${this.directory}/s`;
    this.#docker = [release.docker, '--config', `${this.directory}/client`, '--host', host];
    const place = ['--data-root', `${this.directory}/root`, '--exec-root', `${this.directory}/exec`, '--host', host];
    this.#argv = [
      ...[...(options.within ?? []), release.dockerd, ...place],
      ...['--pidfile', `${this.directory}/pid`, '--config-file', `${this.directory}/daemon.json`],
      ...['--containerd', containerd.address, '--cgroup-parent', `/${namespace}`],
      ...['--containerd-namespace', namespace, '--containerd-plugins-namespace', `${namespace}p`],
      ...(options.args ?? []),
    ];
  }

  /** Ends when it answers. @throws Error with the end of its log */
  async start(): Promise<void> {
    const log = fs.openSync(this.logPath, 'a');
    const child = spawn(this.#argv[0]!, this.#argv.slice(1), { stdio: ['ignore', log, log], env: this.#env });
    fs.closeSync(log);
    this.#process = child;
    const answers = async () => hasEnded(child) || (await this.call('version')).exitCode === 0;
    try {
      await waitFor('dockerd', answers, START_TIMEOUT_MS);
    } catch (error) {
      await this.stop('SIGKILL');
      throw error;
    }
    if (hasEnded(child)) throw new Error(`dockerd has ended: ${this.log.slice(-2000)}`);
  }

  /** Does nothing when it is not running. */
  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    const child = this.#process;
    this.#process = undefined;
    if (child === undefined || hasEnded(child)) return;
    child.kill(signal);
    await waitFor('the end of dockerd', () => hasEnded(child), STOP_TIMEOUT_MS);
  }

  get log(): string {
    return fs.readFileSync(this.logPath, 'utf8');
  }

  /** What it leaves on the machine itself when it stops, in the words of {@link TestDaemon.leftovers}. */
  get leaves(): string[] {
    const cgroups = cgroupsOf(this.containerd.namespace).filter((cgroup) => path.basename(cgroup) === 'buildkit');
    return [`mount ${this.directory}/exec/netns/default`, ...cgroups.map((cgroup) => `cgroup ${cgroup}`)];
  }

  /** The command line of its client. */
  command(args: readonly string[]): readonly string[] {
    return [...this.#docker, ...args];
  }

  call(...args: readonly string[]): Promise<CommandResult> {
    return runCommand(this.command(args));
  }

  /** Standard output without the newline at the end. @throws Error when it fails */
  async must(args: readonly string[], options: CommandOptions = {}): Promise<string> {
    return (await mustRun(this.command(args), options)).trimEnd();
  }

  #writeFiles(release: DockerRelease, config: object): void {
    const plugins = path.join(this.directory, 'client', 'cli-plugins');
    fs.mkdirSync(plugins, { recursive: true });
    for (const plugin of release.plugins) fs.symlinkSync(plugin, path.join(plugins, path.basename(plugin)));
    fs.writeFileSync(path.join(this.directory, 'daemon.json'), JSON.stringify(config));
  }
}

function hasEnded(child: ChildProcess): boolean {
  return child.exitCode !== null || child.signalCode !== null;
}
