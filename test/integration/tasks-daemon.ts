// Starts a real gantryd in a directory of its own and talks to it as a client. For the tests of tasks and of crashes.

import { type ChildProcess, spawn } from 'node:child_process';
import {
  closeSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import * as grpc from '@grpc/grpc-js';
import { PROCESS_URL, packJson, SPEC_URL } from '../../proto/any';
import type { Input } from '../../proto/codec';
import { isErrno } from '../../proto/errors';
import { ContainersService } from '../../proto/generated/containerd.services.containers.v1';
import {
  ContentService,
  type ReadContentResponse,
  type WriteContentRequest,
} from '../../proto/generated/containerd.services.content.v1';
import { EventsService } from '../../proto/generated/containerd.services.events.v1';
import { ImagesService } from '../../proto/generated/containerd.services.images.v1';
import { TasksService } from '../../proto/generated/containerd.services.tasks.v1';
import type { Envelope } from '../../proto/generated/containerd.types';
import { NAMESPACE_HEADER } from '../../proto/ids';
import { waitFor } from '../setup/command';
import { foldersIn, processesOf, removeFolder, shimIn, tryRemoveCgroup } from '../setup/leftovers';
import { needsFile, needsRoot } from '../setup/needs';
import { type Client, client } from './grpc-client';

const PROJECT = resolve(__dirname, '..', '..');
const BUSYBOX = ['/usr/bin/busybox', '/bin/busybox'].find((path) => existsSync(path));
const APPLETS = ['sh', 'sleep', 'echo', 'cat', 'true', 'false', 'mount', 'ls'];
const READY_TIMEOUT_MS = 60_000;
const POLL_MS = 20;

/** What of the configuration tests vary. */
export interface ShimConfig {
  readonly runtimes?: Readonly<Record<string, string>>;
  readonly start?: 'fork' | 'spawn';
  /** OCI runtime of tasks that ask for none. */
  readonly runtime?: string;
}

/** Why tests that need a real kernel cannot run here; undefined when they can. */
export function missingForTasks(): string | undefined {
  if (BUSYBOX === undefined) return 'needs a static busybox (package busybox-static)';
  return needsRoot() ?? needsFile(gantryd(), 'make build');
}

export interface Recorder {
  /** All events so far, oldest first. */
  readonly events: Envelope[];
  topics(containerId?: string): string[];
  close(): void;
}

export class TestDaemon {
  readonly directory = mkdtempSync(join(tmpdir(), 'gantry-tasks-'));
  readonly address = join(this.directory, 'g.sock');
  readonly state = join(this.directory, 'state');
  readonly root = join(this.directory, 'root');
  readonly rootfs = join(this.directory, 'rootfs');
  readonly namespace = 'test';
  private readonly config: Required<ShimConfig>;
  private boots = 0;
  private child: ChildProcess | undefined;
  private clients: { close(): void }[] = [];

  private constructor({ runtimes = {}, start = 'fork', runtime = '' }: ShimConfig) {
    this.config = { runtimes, start, runtime };
    mkdirSync(join(this.rootfs, 'bin'), { recursive: true });
    for (const directory of ['proc', 'dev', 'sys', 'tmp', 'etc']) mkdirSync(join(this.rootfs, directory));
    copyFileSync(BUSYBOX ?? '', join(this.rootfs, 'bin', 'busybox'));
    for (const applet of APPLETS) symlinkSync('busybox', join(this.rootfs, 'bin', applet));
    this.configure(this.config);
  }

  /** Writes the configuration for the next boot. */
  configure({ runtimes = {}, start = 'fork', runtime = '' }: ShimConfig): void {
    const lines = Object.entries(runtimes).map(([name, path]) => `${JSON.stringify(name)} = ${JSON.stringify(path)}\n`);
    const text = `[shim]\nstart = "${start}"\nruntime = "${runtime}"\n[runtimes]\n${lines.join('')}`;
    writeFileSync(join(this.directory, 'config.toml'), text);
  }

  /** With a configuration that says how shims start, the daemon is ready to do it. */
  static async start(config: ShimConfig = {}): Promise<TestDaemon> {
    const daemon = new TestDaemon(config);
    await daemon.boot();
    if (config.start === 'fork') await daemon.untilForking();
    return daemon;
  }

  get pid(): number {
    return this.child?.pid ?? 0;
  }

  get log(): string {
    return readFileSync(join(this.directory, 'log'), 'utf8');
  }

  get isForeign(): boolean {
    return Object.keys(this.config.runtimes).length > 0;
  }

  /** Starts the daemon on what is in the directory and waits until it answers. */
  async boot(): Promise<void> {
    const { directory, root, state, address } = this;
    const flags = ['--root', root, '--state', state, '--address', address, '--log-level', 'debug'];
    // A file, and no pipe: what the daemon has said before it answers is in the log by then.
    const log = openSync(join(directory, 'log'), 'a');
    const child = spawn(gantryd(), [...flags, '--config', join(directory, 'config.toml')], {
      stdio: ['ignore', log, log],
    });
    closeSync(log);
    this.child = child;
    this.boots += 1;
    await this.until(async () => {
      if (child.exitCode !== null) throw new Error(`gantryd exited with ${child.exitCode}: ${this.log}`);
      return await this.containers.list({}, { timeoutMs: 1000 }).then(
        () => true,
        () => false,
      );
    }, READY_TIMEOUT_MS);
  }

  get containers() {
    return this.make(ContainersService);
  }

  get images() {
    return this.make(ImagesService);
  }

  get database(): string {
    return join(this.root, 'metadata', 'gantry.db');
  }

  /** A mount of the root filesystem, for Create requests of containers with a mounted one. */
  get rootfsMount() {
    return { type: 'bind', source: this.rootfs, options: ['rbind', 'rw'] };
  }

  /** One Content.Write stream. Resolves when the server has ended it. */
  async writeContent(requests: readonly Input<WriteContentRequest>[]): Promise<void> {
    const { raw, metadata } = this.stream(ContentService);
    const call = raw['write']?.(metadata) as grpc.ClientDuplexStream<Input<WriteContentRequest>, unknown>;
    try {
      await new Promise<void>((fulfil, reject) => {
        call.on('data', () => undefined);
        call.on('error', reject);
        call.on('end', fulfil);
        for (const request of requests) call.write(request);
        call.end();
      });
    } finally {
      raw.close();
    }
  }

  async readContent(digest: string): Promise<Buffer> {
    const { raw, metadata } = this.stream(ContentService);
    const call = raw['read']?.({ digest }, metadata) as grpc.ClientReadableStream<ReadContentResponse>;
    const chunks: Buffer[] = [];
    try {
      for await (const { data } of call) chunks.push(data);
      return Buffer.concat(chunks);
    } finally {
      raw.close();
    }
  }

  get tasks() {
    return this.make(TasksService);
  }

  private stream(definition: unknown) {
    const Constructor = grpc.makeGenericClientConstructor(definition as grpc.ServiceDefinition, 'stream');
    const metadata = new grpc.Metadata();
    metadata.set(NAMESPACE_HEADER, this.namespace);
    return { raw: new Constructor(`unix:${this.address}`, grpc.credentials.createInsecure()), metadata };
  }

  private readonly made = new Map<unknown, unknown>();

  private make<S>(definition: S): Client<S> {
    let made = this.made.get(definition) as (Client<S> & { close(): void }) | undefined;
    if (made === undefined) {
      made = client(definition, this.address, this.namespace);
      this.made.set(definition, made);
      this.clients.push(made);
    }
    return made;
  }

  /** Follows all events. */
  subscribe(filters: string[] = []): Recorder {
    const Constructor = grpc.makeGenericClientConstructor(EventsService as unknown as grpc.ServiceDefinition, 'events');
    const raw = new Constructor(`unix:${this.address}`, grpc.credentials.createInsecure());
    const stream = raw['subscribe']?.({ filters }) as unknown as grpc.ClientReadableStream<Envelope>;
    const events: Envelope[] = [];
    stream.on('data', (envelope: Envelope) => events.push(envelope));
    stream.on('error', () => undefined);
    const recorder = {
      events,
      topics: (containerId?: string) =>
        events
          .filter(({ topic, event }) => {
            if (!topic.startsWith('/tasks/')) return false;
            return containerId === undefined || event?.value.subarray(2).toString('latin1').startsWith(containerId);
          })
          .map(({ topic }) => topic),
      close: () => {
        stream.cancel();
        raw.close();
      },
    };
    this.clients.push(recorder);
    return recorder;
  }

  /** Creates the record of a container that runs a command. */
  async container(
    id: string,
    args: readonly string[],
    { runtime = 'io.containerd.runc.v2', rootfs = 'own' }: { runtime?: string; rootfs?: 'own' | 'mounted' } = {},
  ): Promise<void> {
    await this.containers.create({
      container: { id, runtime: { name: runtime }, spec: packJson(SPEC_URL, this.spec(id, args, rootfs)) },
    });
  }

  process(args: readonly string[]) {
    return packJson(PROCESS_URL, { args, cwd: '/', env: ['PATH=/bin'], user: { uid: 0, gid: 0 } });
  }

  bundle(id: string): string {
    return join(this.state, 'io.containerd.runtime.v2.task', this.namespace, id);
  }

  /** Pid of the shim of a task. Never 0, which would stand for the test's own process group. */
  shimPid(id: string): number {
    const pid = shimIn(this.bundle(id));
    if (pid === undefined) throw new Error(`no shim works in ${this.bundle(id)}`);
    return pid;
  }

  /** Everything that may leak: shims, mounts, cgroups, bundles and sockets. */
  leftovers(): string[] {
    const inDirectory = (text: string) => text.includes(this.directory) && !isRehearsing(text);
    const mounts = readFileSync('/proc/self/mountinfo', 'utf8').split('\n').filter(inDirectory);
    const shims = processesOf(this)
      .filter(({ pid }) => pid !== this.pid)
      .map(({ pid, commandLine, directory }) => `process ${pid} ${commandLine} in ${directory}`);
    const bundles = list(join(this.state, 'io.containerd.runtime.v2.task', this.namespace)).map((id) => `bundle ${id}`);
    const works = list(join(this.root, 'io.containerd.runtime.v2.task', this.namespace)).map((id) => `work ${id}`);
    const sockets = list(join(this.state, 's'))
      .filter((name) => !isRehearsing(name))
      .map((name) => `socket ${name}`);
    const cgroups = this.cgroups().map((path) => `cgroup ${path}`);
    return [...mounts, ...shims, ...bundles, ...works, ...sockets, ...cgroups];
  }

  async until(condition: () => boolean | Promise<boolean>, timeoutMs = 60_000): Promise<void> {
    const deadline = Date.now() + timeoutMs;
    while (!(await condition())) {
      if (Date.now() > deadline)
        throw new Error(`condition not met within ${timeoutMs} ms; log:\n${this.log.slice(-4000)}`);
      await sleep(POLL_MS);
    }
  }

  /** Waits until the daemon has taken over, or cleaned up, the tasks of its last run. */
  async untilAdopted(): Promise<void> {
    await this.until(() => (this.log.match(/tasks adopted/g) ?? []).length >= this.boots);
  }

  /** Waits until the zygote of this boot is there. */
  async untilForking(): Promise<void> {
    const booted = () => this.log.slice(this.log.lastIndexOf('gantryd is ready at'));
    await this.until(() => booted().includes('zygote is ready'), READY_TIMEOUT_MS);
  }

  /** Waits until nothing is left of a task, or of all tasks. */
  async untilClean(id = '', timeoutMs = 60_000): Promise<void> {
    const left = () => this.leftovers().filter((line) => line.includes(id));
    await this.until(() => left().length === 0, timeoutMs).catch((error: Error) => {
      throw new Error(`left over: ${left().join('; ')}\n${error.message}`);
    });
  }

  /** Ends the daemon, and waits until it is gone. Shims live on. */
  async kill(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    const { child } = this;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const gone = new Promise((resolveGone) => child.once('exit', resolveGone));
    child.kill(signal);
    await gone;
  }

  /** Deletes all tasks, stops the daemon and removes the directory. */
  async stop(): Promise<void> {
    try {
      // A daemon that is down has its story told by the test that found it so.
      const { tasks } = await this.tasks.list({}).catch(() => ({ tasks: [] }));
      for (const { id } of tasks) await this.destroy(id);
    } finally {
      for (const each of this.clients) each.close();
      await this.kill('SIGTERM');
      await waitFor('an end of the cgroups', () => this.parentCgroups().every(tryRemoveCgroup));
      await removeFolder(this.directory);
    }
  }

  /** Kills and deletes a task and its container. */
  async destroy(id: string): Promise<void> {
    const { tasks, containers } = this;
    await tasks.kill({ containerId: id, signal: 9, all: true }).catch(() => undefined);
    await tasks.wait({ containerId: id }).catch(() => undefined);
    await tasks.delete({ containerId: id }).catch(() => undefined);
    await containers.delete({ id }).catch(() => undefined);
  }

  private get cgroupParent(): string {
    return this.directory.split('/').at(-1) ?? '';
  }

  /** Makes the cgroup of a container before there is one, in one hierarchy. */
  makeCgroup(id: string): string {
    const hierarchy = existsSync('/sys/fs/cgroup/cgroup.procs') ? '.' : 'pids';
    const path = join('/sys/fs/cgroup', hierarchy, this.cgroupParent, id);
    mkdirSync(path, { recursive: true });
    return path;
  }

  /** The empty cgroups in which those of the containers were made. */
  private parentCgroups(): string[] {
    const hierarchies = ['.', ...readdirSync('/sys/fs/cgroup')];
    return hierarchies
      .map((name) => join('/sys/fs/cgroup', name, this.cgroupParent))
      .filter((path) => existsSync(path));
  }

  private cgroups(): string[] {
    return this.parentCgroups().flatMap(foldersIn);
  }

  private spec(id: string, args: readonly string[], rootfs: 'own' | 'mounted') {
    return {
      ociVersion: '1.0.2',
      process: { user: { uid: 0, gid: 0 }, args, cwd: '/', env: ['PATH=/bin'] },
      root: { path: rootfs === 'own' ? this.rootfs : 'rootfs' },
      mounts: [{ destination: '/proc', type: 'proc', source: 'proc' }],
      linux: {
        cgroupsPath: `/${this.cgroupParent}/${id}`,
        namespaces: ['pid', 'ipc', 'uts', 'mount'].map((type) => ({ type })),
      },
    };
  }
}

function gantryd(): string {
  return process.env['GANTRYD'] ?? join(PROJECT, 'dist', 'bin', 'gantryd');
}

/** A zygote that is there, or its test of a fork, has sockets and a mount for a moment. */
function isRehearsing(path: string): boolean {
  const pid = /zygote\/?(\d+)/.exec(path)?.[1];
  return pid !== undefined && existsSync(`/proc/${pid}`);
}

/** Empty when it is not there, or goes meanwhile. */
function list(path: string): string[] {
  try {
    return readdirSync(path);
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENODEV')) return [];
    throw error;
  }
}
