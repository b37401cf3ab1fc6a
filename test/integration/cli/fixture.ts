// What the tests of the command line share: a daemon of their own, images made from the machine's busybox, and a way
// to run the real program. GANTRY_TEST_PEER=containerd runs the same tests against Debian's containerd, which shows
// that what they expect is what the API means; GANTRY_TEST_SHIM=/path makes gantryd use a foreign shim.

import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { gzipSync } from 'node:zlib';
import { pack } from 'tar-stream';
import { removeFolder } from '../../setup/leftovers';
import { needsFile, needsRoot } from '../../setup/needs';

const BIN = resolve(__dirname, '../../../dist/bin');
const GANTRY = join(BIN, 'gantry');
/** Long enough for an emulated machine. */
const READY_MS = 120_000;
export const PEER = process.env['GANTRY_TEST_PEER'];
const SHIM = process.env['GANTRY_TEST_SHIM'];

export interface Result {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Running {
  readonly child: ChildProcess;
  readonly done: Promise<Result>;
  /** Resolves when standard output has these words. */
  readonly prints: (words: string) => Promise<void>;
}

/** Why the tests cannot run here; undefined when they can. */
export function missingForCli(): string | undefined {
  return (
    needsRoot() ??
    needsFile(GANTRY, 'make build') ??
    (PEER === undefined ? needsFile(join(BIN, 'gantryd'), 'make build') : undefined) ??
    (busybox() === undefined ? 'needs a static busybox (package busybox-static)' : undefined)
  );
}

/** A daemon with the image "busybox" for all tests of the describe() around it. */
export function useDaemon() {
  const daemon = new Daemon();
  const run = (...args: string[]) => daemon.run(...args);
  const archives = archivesIn(join(daemon.directory, 'archives'));

  beforeAll(async () => {
    await makeArchives(archives);
    await daemon.start();
    expect(await run('images', 'import', archives.oci)).toMatchObject({ code: 0, stderr: '' });
  });
  afterAll(() => daemon.stop());

  return { daemon, run, archives };
}

export class Daemon {
  /** Made by start(), so that a skipped test leaves nothing. */
  readonly directory = join(tmpdir(), `gantry-cli-${randomBytes(6).toString('hex')}`);
  readonly address = join(this.directory, 'daemon.sock');
  readonly env: NodeJS.ProcessEnv;
  readonly program = GANTRY;
  #child: ChildProcess | undefined;
  #log = '';

  constructor() {
    this.env = {
      ...process.env,
      GANTRY_ADDRESS: this.address,
      GANTRY_FIFO_DIR: join(this.directory, 'fifo'),
      GANTRY_LOG_DIR: join(this.directory, 'log'),
    };
    for (const name of ['GANTRY_NAMESPACE', 'CONTAINERD_NAMESPACE']) delete this.env[name];
  }

  async start(): Promise<void> {
    mkdirSync(this.directory, { recursive: true, mode: 0o700 });
    const [root, state] = [join(this.directory, 'root'), join(this.directory, 'state')];
    const [program, args] =
      PEER === undefined ? [join(BIN, 'gantryd'), this.#ownArgs(root, state)] : this.#peer(root, state);
    const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    this.#child = child;
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (data) => (this.#log += data));
    const deadline = Date.now() + READY_MS;
    while ((await this.run('version')).code !== 0) {
      if (Date.now() > deadline || child.exitCode !== null || child.signalCode !== null)
        throw new Error(`the daemon does not answer: ${this.#log}`);
    }
  }

  /** All that it has written, over all starts. */
  get log(): string {
    return this.#log;
  }

  /** Kills the daemon where it stands; start() brings it back. */
  async crash(): Promise<void> {
    const child = this.#child;
    const ended = new Promise((end) => child?.once('exit', end));
    child?.kill('SIGKILL');
    await ended;
  }

  async stop(): Promise<void> {
    for (const id of (await this.run('containers', 'ls', '-q')).stdout.split('\n')) {
      if (id !== '') await this.run('containers', 'rm', '--force', id);
    }
    const child = this.#child;
    if (child !== undefined && child.exitCode === null && child.signalCode === null) {
      const ended = new Promise((end) => child.once('exit', end));
      child.kill('SIGTERM');
      await ended;
    }
    await removeFolder(this.directory);
  }

  /** Runs gantry to its end. */
  run(...args: string[]): Promise<Result> {
    return this.spawn(args).done;
  }

  /** Runs gantry with this text as standard input. */
  pipe(input: string | Buffer, ...args: string[]): Promise<Result> {
    const { child, done } = this.spawn(args, 'pipe');
    child.stdin?.on('error', () => undefined);
    child.stdin?.end(input);
    return done;
  }

  /** Runs gantry under a terminal of its own (script(1)) and types the input, once it shows the prompt if one is given. */
  async inTerminal(input: string | { prompt: string; input: string }, ...args: string[]): Promise<Result> {
    const command = [GANTRY, ...args].map((word) => `'${word}'`).join(' ');
    const child = spawn('/usr/bin/script', ['-qec', command, '/dev/null'], { env: this.env, stdio: 'pipe' });
    child.stdin?.on('error', () => undefined);
    const { done, prints } = this.#watch(child);
    if (typeof input !== 'string') await prints(input.prompt);
    child.stdin?.write(typeof input === 'string' ? input : input.input);
    return done;
  }

  spawn(args: readonly string[], stdin: 'ignore' | 'pipe' = 'ignore'): Running {
    return this.#watch(spawn(GANTRY, args, { env: this.env, stdio: [stdin, 'pipe', 'pipe'] }));
  }

  #watch(child: ChildProcess): Running {
    let stdout = '';
    let stderr = '';
    child.stdout?.on('data', (data) => (stdout += data));
    child.stderr?.on('data', (data) => (stderr += data));
    const done = new Promise<Result>((end, fail) => {
      child.once('error', fail);
      child.once('close', (code) => end({ code, stdout, stderr }));
    });
    const prints = (words: string) =>
      new Promise<void>((found, fail) => {
        const look = () => (stdout.includes(words) ? found() : undefined);
        child.stdout?.on('data', look);
        child.once('close', () =>
          stdout.includes(words) ? found() : fail(new Error(`ended without "${words}": ${stdout} ${stderr}`)),
        );
        look();
      });
    return { child, done, prints };
  }

  #ownArgs(root: string, state: string): string[] {
    const args = ['--root', root, '--state', state, '--address', this.address];
    if (SHIM === undefined) return args;
    const config = join(this.directory, 'config.toml');
    writeFileSync(config, `[runtimes]\n"io.containerd.runc.v2" = "${SHIM}"\n`);
    return [...args, '--config', config];
  }

  #peer(root: string, state: string): [string, string[]] {
    const config = join(this.directory, 'config.toml');
    const disabled = '["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]';
    writeFileSync(
      config,
      `version = 2\nroot = "${root}"\nstate = "${state}"\ndisabled_plugins = ${disabled}\n[grpc]\naddress = "${this.address}"\n`,
    );
    return ['containerd', ['--config', config]];
  }
}

function busybox(): string | undefined {
  return ['/bin/busybox', '/usr/bin/busybox'].find((path) => existsSync(path));
}

const sha256 = (data: Buffer): string => `sha256:${createHash('sha256').update(data).digest('hex')}`;

type TarFile = readonly [name: string, data: Buffer | string, linkname?: string];

export async function tar(files: readonly TarFile[]): Promise<Buffer> {
  const archive = pack();
  for (const [name, data, linkname] of files) {
    if (linkname !== undefined) archive.entry({ name, type: 'symlink', linkname });
    else archive.entry({ name, mode: 0o755 }, data as string);
  }
  archive.finalize();
  const pieces: Buffer[] = [];
  for await (const piece of archive) pieces.push(piece as Buffer);
  return Buffer.concat(pieces);
}

interface Archives {
  readonly directory: string;
  readonly oci: string;
  readonly ociGzip: string;
  readonly docker: string;
  readonly truncated: string;
}

function archivesIn(directory: string): Archives {
  return {
    directory,
    oci: join(directory, 'oci.tar'),
    ociGzip: join(directory, 'oci.tar.gz'),
    docker: join(directory, 'docker.tar'),
    truncated: join(directory, 'truncated.tar'),
  };
}

/** An OCI layout "busybox" and a docker archive "demo:v1" of two layers each. */
async function makeArchives(paths: Archives): Promise<void> {
  mkdirSync(paths.directory, { recursive: true });
  const applets = execFileSync(busybox() ?? '', ['--list'], { encoding: 'utf8' }).split('\n');
  const links = applets
    .filter((name) => name !== '' && name !== 'busybox')
    .map((name): TarFile => [`bin/${name}`, '', 'busybox']);
  const layers = [
    await tar([['bin/busybox', readFileSync(busybox() ?? '')], ...links]),
    await tar([
      ['etc/passwd', 'root:x:0:0::/root:/bin/sh\nalice:x:1000:1000::/:/bin/sh\n'],
      ['etc/group', 'root:x:0:\nalice:x:1000:\nstaff:x:50:alice\n'],
      ['tmp/keep', ''],
    ]),
  ];
  const config = Buffer.from(
    JSON.stringify({
      architecture: process.arch === 'x64' ? 'amd64' : process.arch,
      os: 'linux',
      config: { Env: ['PATH=/bin', 'FROM_IMAGE=yes'], Cmd: ['sh'], Labels: { kept: 'yes', 'containerd.io/x': 'no' } },
      rootfs: { type: 'layers', diff_ids: layers.map(sha256) },
    }),
  );
  const layout = await ociLayout(config, layers);
  writeFileSync(paths.oci, layout);
  writeFileSync(paths.ociGzip, gzipSync(layout));
  writeFileSync(paths.truncated, layout.subarray(0, Math.floor(layout.length / 2)));
  const names = layers.map((_, index) => `layer${index}/layer.tar`);
  const manifest = [{ Config: 'config.json', RepoTags: ['demo:v1'], Layers: names }];
  const files = layers.map((layer, index): TarFile => [names[index] ?? '', layer]);
  writeFileSync(
    paths.docker,
    await tar([...files, ['config.json', config], ['manifest.json', JSON.stringify(manifest)]]),
  );
}

async function ociLayout(config: Buffer, layers: readonly Buffer[]): Promise<Buffer> {
  const packed = layers.map((layer) => gzipSync(layer));
  const descriptor = (mediaType: string, data: Buffer) => ({ mediaType, digest: sha256(data), size: data.length });
  const manifest = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      config: descriptor('application/vnd.oci.image.config.v1+json', config),
      layers: packed.map((layer) => descriptor('application/vnd.oci.image.layer.v1.tar+gzip', layer)),
    }),
  );
  const entry = {
    ...descriptor('application/vnd.oci.image.manifest.v1+json', manifest),
    annotations: { 'io.containerd.image.name': 'docker.io/library/busybox:latest' },
  };
  const blobs = [...packed, config, manifest].map((blob): TarFile => [`blobs/${sha256(blob).replace(':', '/')}`, blob]);
  return tar([
    ['oci-layout', '{"imageLayoutVersion":"1.0.0"}'],
    ...blobs,
    ['index.json', JSON.stringify({ schemaVersion: 2, manifests: [entry] })],
  ]);
}
