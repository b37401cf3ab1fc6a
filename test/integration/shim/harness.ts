// Drives a shim program as a daemon would: a bundle, the start action, a ttrpc connection and an event server. It takes
// any shim, so that the same cases run against Debian's containerd-shim-runc-v2 and show that they are right.

import { execFileSync, spawn, spawnSync } from 'node:child_process';
import {
  chmodSync,
  constants,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import type { Input, MessageType, Method } from '../../../proto/codec';
import * as events from '../../../proto/generated/containerd.events';
import { Options } from '../../../proto/generated/containerd.runc.v1';
import { EventsService } from '../../../proto/generated/containerd.services.events.ttrpc.v1';
import { TaskService } from '../../../proto/generated/containerd.task.v2';
import type { Any } from '../../../proto/generated/google.protobuf';
import { TtrpcClient } from '../../../proto/ttrpc/client';
import { serveTtrpc, type TtrpcServer, ttrpcService } from '../../../proto/ttrpc/server';
import { killIfThere } from '../../setup/leftovers';

export const REFERENCE_SHIM = '/usr/bin/containerd-shim-runc-v2';
export const OUR_SHIM = resolve(__dirname, '../../../dist/bin/containerd-shim-gantry-v1');
export const BUSYBOX = '/bin/busybox';

export type Tree = { [key: string]: unknown };

export interface SeenEvent {
  readonly topic: string;
  readonly namespace: string;
  readonly payload: Tree;
}

const NAMESPACE = 'shimtest';
const CAPABILITIES = [
  'CAP_CHOWN',
  'CAP_KILL',
  'CAP_SETUID',
  'CAP_SETGID',
  'CAP_DAC_OVERRIDE',
  'CAP_FOWNER',
  'CAP_SYS_CHROOT',
];

/** A root filesystem that holds nothing but busybox; removed by the caller. */
export function makeRootfs(): string {
  const path = mkdtempSync(join(tmpdir(), 'shim-rootfs-'));
  chmodSync(path, 0o755);
  for (const directory of ['bin', 'proc', 'sys', 'dev', 'tmp', 'etc']) mkdirSync(join(path, directory));
  copyFileSync(BUSYBOX, join(path, 'bin/busybox'));
  execFileSync(BUSYBOX, ['--install', '-s', join(path, 'bin')]);
  // Links made outside name the host's path of busybox.
  for (const name of execFileSync(BUSYBOX, ['--list'], { encoding: 'utf8' }).trim().split('\n')) {
    if (name === 'busybox') continue;
    rmSync(join(path, 'bin', name), { force: true });
    execFileSync('ln', ['-s', 'busybox', join(path, 'bin', name)]);
  }
  return path;
}

export function makeSpec(args: readonly string[], change: (spec: SpecDocument) => void = () => {}): SpecDocument {
  const spec: SpecDocument = {
    ociVersion: '1.0.2',
    process: {
      terminal: false,
      user: { uid: 0, gid: 0 },
      args: [...args],
      env: ['PATH=/bin', 'TERM=xterm'],
      cwd: '/',
      capabilities: { bounding: CAPABILITIES, effective: CAPABILITIES, permitted: CAPABILITIES },
      noNewPrivileges: true,
    },
    root: { path: 'rootfs', readonly: false },
    mounts: [
      { destination: '/proc', type: 'proc', source: 'proc', options: ['nosuid', 'noexec', 'nodev'] },
      { destination: '/dev', type: 'tmpfs', source: 'tmpfs', options: ['nosuid', 'mode=755', 'size=65536k'] },
      {
        destination: '/dev/pts',
        type: 'devpts',
        source: 'devpts',
        options: ['nosuid', 'noexec', 'newinstance', 'ptmxmode=0666', 'mode=0620'],
      },
    ],
    annotations: {},
    linux: {
      cgroupsPath: `/shimtest-${process.pid}-${Math.random().toString(36).slice(2)}`,
      resources: {},
      namespaces: ['pid', 'ipc', 'uts', 'mount', 'network'].map((type) => ({ type })),
    },
  };
  change(spec);
  return spec;
}

export interface SpecDocument {
  ociVersion: string;
  process: { terminal: boolean; user: { uid: number; gid: number }; args: string[]; env: string[]; cwd: string } & Tree;
  root: { path: string; readonly: boolean };
  mounts: Tree[];
  annotations: Record<string, string>;
  linux: { cgroupsPath: string; resources: Tree; namespaces: { type: string; path?: string }[] } & Tree;
}

/** One daemon's view of shims: a directory, an event server and every shim it has started. */
export class Host {
  readonly directory: string;
  readonly events: SeenEvent[] = [];
  /** The runtime that tasks ask for in their options. */
  readonly binaryName: string;
  readonly #program: string;
  readonly #rootfs: string;
  readonly #clients: TtrpcClient[] = [];
  readonly #bundles: { id: string; path: string }[] = [];
  #server: TtrpcServer | undefined;

  private constructor(program: string, rootfs: string, binaryName: string) {
    this.binaryName = binaryName;
    this.#program = program;
    this.#rootfs = rootfs;
    this.directory = mkdtempSync(join(tmpdir(), 'shim-host-'));
  }

  static async open(program: string, rootfs: string, binaryName = ''): Promise<Host> {
    const host = new Host(program, rootfs, binaryName);
    await host.listen();
    return host;
  }

  get ttrpcAddress(): string {
    return join(this.directory, 'd.sock.ttrpc');
  }

  /** The event service of the daemon; may be closed and opened again to play a restart. */
  async listen(): Promise<void> {
    rmSync(this.ttrpcAddress, { force: true });
    const service = ttrpcService(EventsService, {
      forward: ({ envelope }) => {
        const { topic = '', namespace = '', event } = envelope ?? {};
        this.events.push({ topic, namespace, payload: event === undefined ? {} : decodeEvent(event) });
        return {};
      },
    });
    this.#server = serveTtrpc({ 'containerd.services.events.ttrpc.v1.Events': service });
    await this.#server.listen(this.ttrpcAddress);
  }

  async stopListening(): Promise<void> {
    await this.#server?.close();
  }

  /** A bundle for a task, with its log as a file. */
  makeBundle(id: string, spec: SpecDocument): string {
    const path = join(this.directory, 'state', NAMESPACE, id);
    mkdirSync(join(path, 'rootfs'), { recursive: true, mode: 0o711 });
    mkdirSync(join(this.directory, 'work', id), { recursive: true });
    execFileSync('ln', ['-sfn', join(this.directory, 'work', id), join(path, 'work')]);
    writeFileSync(join(path, 'config.json'), JSON.stringify(spec));
    execFileSync('mkfifo', ['-m', '700', join(path, 'log')]);
    openSync(join(path, 'log'), constants.O_RDWR | constants.O_NONBLOCK);
    this.#bundles.push({ id, path });
    return path;
  }

  /** Runs the start action and connects. */
  async start(id: string, bundle: string, options: { stdin?: Buffer } = {}): Promise<Task> {
    const result = this.run(id, bundle, 'start', options.stdin);
    if (result.status !== 0) throw new Error(`start: ${result.stderr}${result.stdout.toString()}`);
    const address = result.stdout.toString().trim();
    const client = await TtrpcClient.connect(address.replace('unix://', ''));
    this.#clients.push(client);
    return new Task(this, client, id, bundle);
  }

  /** As start(), without holding up the other starts of the test. */
  async startAsync(id: string, bundle: string): Promise<Task> {
    const { argv, options } = this.#command(id, bundle, 'start');
    const child = spawn(argv[0]!, argv.slice(1), { ...options, stdio: ['ignore', 'pipe', 'inherit'] });
    let address = '';
    child.stdout.on('data', (chunk: Buffer) => {
      address += chunk.toString();
    });
    const status = await new Promise((done) => child.on('close', done));
    if (status !== 0) throw new Error(`start: status ${status}`);
    const client = await TtrpcClient.connect(address.replace('unix://', ''));
    this.#clients.push(client);
    return new Task(this, client, id, bundle);
  }

  /** Runs an action of the program and returns what it printed. */
  run(id: string, bundle: string, action: 'start' | 'delete', input: Buffer = Buffer.alloc(0)) {
    const { argv, options } = this.#command(id, bundle, action);
    const result = spawnSync(argv[0]!, argv.slice(1), { ...options, input });
    return { status: result.status, stdout: result.stdout, stderr: result.stderr.toString() };
  }

  #command(id: string, bundle: string, action: 'start' | 'delete') {
    const address = join(this.directory, 'd.sock');
    const flags = ['-namespace', NAMESPACE, '-address', address, '-publish-binary', '/bin/false', '-id', id];
    const argv = [this.#program, ...flags, ...(action === 'delete' ? ['-bundle', bundle] : []), action];
    const env = { ...process.env, TTRPC_ADDRESS: this.ttrpcAddress, GRPC_ADDRESS: address, NAMESPACE };
    return { argv, options: { cwd: bundle, env } };
  }

  get rootfsMount() {
    return { type: 'bind', source: this.#rootfs, target: '', options: ['rbind', 'rw'] };
  }

  async waitEvent(topic: string, match: (payload: Tree) => boolean = () => true): Promise<SeenEvent> {
    return await poll(`event ${topic}`, () =>
      this.events.find((event) => event.topic === topic && match(event.payload)),
    );
  }

  topics(id: string): string[] {
    return this.events.filter(({ payload }) => payload['containerId'] === id).map(({ topic }) => topic);
  }

  /** Ends everything that was started. */
  async close(): Promise<void> {
    for (const { id, path } of this.#bundles) this.run(id, path, 'delete');
    for (const client of this.#clients) {
      if (!client.isClosed) {
        const pid = (await client.call(TaskService.connect, { id: 'x' }).catch(() => undefined))?.shimPid ?? 0;
        if (pid > 1) killIfThere(pid);
      }
      client.close();
    }
    await this.#server?.close();
    rmSync(this.directory, { recursive: true, force: true });
  }
}

/** The Task service for one task id. */
export class Task {
  readonly id: string;
  readonly bundle: string;
  readonly client: TtrpcClient;
  readonly #host: Host;

  constructor(host: Host, client: TtrpcClient, id: string, bundle: string) {
    this.#host = host;
    this.client = client;
    this.id = id;
    this.bundle = bundle;
  }

  async call<Req, Res>(method: Method<Req, Res, 'unary'>, request: Input<Req>): Promise<Res> {
    const all = { id: this.id, ...(request as object) } as Input<Req>;
    return await this.client.call(method, all, { namespace: NAMESPACE, timeoutMs: 60_000 });
  }

  async create(request: Tree = {}): Promise<number> {
    const { directory, binaryName } = this.#host;
    const value = Options.encode({ root: join(directory, 'runc'), binaryName });
    const options = { typeUrl: Options.name, value };
    const { bundle } = this;
    const { pid } = await this.call(TaskService.create, {
      bundle,
      rootfs: [this.#host.rootfsMount],
      options,
      ...request,
    });
    return pid;
  }

  async run(request: Tree = {}): Promise<number> {
    await this.create(request);
    return (await this.call(TaskService.start, {})).pid;
  }

  async exec(
    execId: string,
    args: readonly string[],
    { process: change, ...request }: { process?: Tree } & Tree = {},
  ): Promise<void> {
    const process = {
      terminal: false,
      user: { uid: 0, gid: 0 },
      args,
      env: ['PATH=/bin'],
      cwd: '/',
      ...change,
    };
    const spec = {
      typeUrl: 'types.containerd.io/opencontainers/runtime-spec/1/Process',
      value: Buffer.from(JSON.stringify(process)),
    };
    await this.call(TaskService.exec, { execId, spec, ...request });
  }

  async kill(signal: number): Promise<void> {
    await this.call(TaskService.kill, { signal });
  }
}

/** A client's end of a fifo: what it has read, and a way to write. */
export class Fifo {
  readonly path: string;
  readonly #socket: Socket;
  #text = '';
  #hasEnded = false;
  bytes = 0;

  constructor(path: string, mode: 'read' | 'write') {
    this.path = path;
    if (!existsSync(path)) execFileSync('mkfifo', ['-m', '700', path]);
    const isRead = mode === 'read';
    // Opened for both, a writer does not have to wait for the shim. A reader opens after the shim, or keeps polling.
    const fd = openSync(path, (isRead ? constants.O_RDONLY : constants.O_RDWR) | constants.O_NONBLOCK);
    this.#socket = new Socket({ fd, readable: isRead, writable: !isRead });
    this.#socket.on('error', () => {});
    if (isRead) {
      this.#socket.on('data', (chunk: Buffer) => {
        this.bytes += chunk.length;
        if (this.#text.length < 1 << 20) this.#text += chunk.toString('latin1');
      });
      this.#socket.on('end', () => {
        this.#hasEnded = true;
      });
    }
  }

  get text(): string {
    return this.#text;
  }

  get hasEnded(): boolean {
    return this.#hasEnded;
  }

  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }

  write(text: string): void {
    this.#socket.write(text);
  }

  close(): void {
    this.#socket.destroy();
  }
}

export async function poll<T>(what: string, probe: () => T | undefined | false, limitMs = 60_000): Promise<T> {
  const deadline = performance.now() + limitMs; // A test may have stopped Date.
  for (;;) {
    const value = probe();
    if (value !== undefined && value !== false) return value;
    if (performance.now() > deadline) throw new Error(`timed out waiting for ${what}`);
    await new Promise((done) => setTimeout(done, 10));
  }
}

export function isAlive(pid: number): boolean {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}

const EVENT_TYPES = new Map(Object.values(events).map((type) => [type.name, type as MessageType<unknown>]));

export function decodeEvent(any: Any): Tree {
  return (EVENT_TYPES.get(any.typeUrl)?.decode(any.value) ?? { unknown: any.typeUrl }) as Tree;
}
