// Starting and stopping gantryd: exit codes, one clear sentence each, the lock, sockets, modes, memory.

import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { status } from '@grpc/grpc-js';
import { LeasesService } from '../../proto/generated/containerd.services.leases.v1';
import { VersionService } from '../../proto/generated/containerd.services.version.v1';
import { Any } from '../../proto/generated/google.protobuf';
import { describeUnless } from '../setup/needs';
import { Gantryd, missingForDaemon, PROGRAM, runGantryd } from './gantryd';
import { client } from './grpc-client';

const suite = describeUnless(missingForDaemon());

const IDLE_KIB_MAX = 120 * 1024;
/** Plays systemd: prints what arrives at a datagram socket, which Node cannot open. */
const RECEIVER = `
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
print("listening")
while True:
    print(s.recv(4096).decode())
`;

suite('gantryd', () => {
  let daemon: Gantryd;

  beforeEach(() => {
    daemon = new Gantryd();
  });

  afterEach(() => daemon.destroy());

  it('starts, serves and stops on SIGTERM with code 0, leaving no socket', async () => {
    await daemon.start();
    const version = client(VersionService, daemon.address, 'n');

    const answer = await version.version({});

    version.close();
    expect(answer.version).toMatch(/^v\d+\.\d+\.\d+/);
    expect(await daemon.stop()).toBe(0);
    expect(existsSync(daemon.address)).toBe(false);
    expect(existsSync(`${daemon.address}.ttrpc`)).toBe(false);
  });

  it('prints one ready line', async () => {
    await daemon.start({ flags: ['--log-level', 'error'] });

    expect(daemon.log).toBe(`gantryd is ready at ${daemon.address}\n`);
  });

  it('works through a symbolic link and from any directory', () => {
    const link = join(daemon.directory, 'link');
    symlinkSync(PROGRAM, link);

    expect(execFileSync(link, ['--version'], { cwd: '/', encoding: 'utf8' })).toMatch(/^v\d/);
  });

  it('refuses a second daemon on the same root with code 4', async () => {
    await daemon.start();

    const { status, stderr } = runGantryd(['--root', daemon.root, '--state', join(daemon.directory, 'other')]);

    expect({ status, stderr }).toEqual({
      status: 4,
      stderr: `gantryd: another gantryd is running on the root directory "${daemon.root}"\n`,
    });
  });

  it('refuses the state directory of another daemon, whose containers would be strays to it', async () => {
    await daemon.start();
    const flags = ['--root', join(daemon.directory, 'other'), '--address', join(daemon.directory, 'other.sock')];

    const { status, stderr } = runGantryd([...flags, '--state', daemon.state]);

    expect({ status, stderr }).toEqual({
      status: 4,
      stderr: `gantryd: another gantryd is running on the state directory "${daemon.state}"\n`,
    });
  });

  it('refuses the address of a live server with code 5 and leaves it alone', async () => {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(daemon.address, resolve));

    const { status, stderr } = runGantryd(daemon.flags);

    expect(status).toBe(5);
    expect(stderr).toBe(`gantryd: address "${daemon.address}" is in use by another server\n`);
    expect(existsSync(daemon.address)).toBe(true);
    server.close();
  });

  it('starts again after kill -9, removing the stale sockets', async () => {
    await daemon.start();
    await daemon.stop('SIGKILL');
    expect(existsSync(daemon.address)).toBe(true);

    await daemon.start();

    expect(await daemon.stop()).toBe(0);
  });

  it('refuses a root that cannot be used with code 3', () => {
    writeFileSync(join(daemon.directory, 'file'), '');

    for (const root of [join(daemon.directory, 'file'), '/proc/gantry', join(daemon.directory, 'file', 'below')]) {
      const { status, stderr } = runGantryd(['--root', root, '--state', daemon.state]);
      expect(status).toBe(3);
      expect(stderr).toMatch(/^gantryd: root directory ".*" cannot be used: [^\n]+\n$/);
    }
  });

  it('refuses a damaged database with code 6', () => {
    mkdirSync(join(daemon.root, 'metadata'), { recursive: true });
    writeFileSync(join(daemon.root, 'metadata', 'gantry.db'), 'no database'.repeat(1000));

    const { status, stderr } = runGantryd(daemon.flags);

    expect(status).toBe(6);
    expect(stderr).toMatch(/^gantryd: cannot open the metadata database: .* is damaged: [^\n]+\n$/);
  });

  it('refuses bad flags and configurations with code 2', () => {
    const config = join(daemon.directory, 'config.toml');
    writeFileSync(config, '[log]\nlevle = "x"\n');

    expect(runGantryd(['--config', config])).toMatchObject({
      status: 2,
      stderr: `gantryd: config ${config}: unknown key "log.levle"\n`,
    });
    expect(runGantryd(['--nope']).status).toBe(2);
    expect(runGantryd(['extra']).status).toBe(2);
    expect(runGantryd(['--log-level', 'loud']).status).toBe(2);
    expect(runGantryd(['--root', 'relative']).stderr).toMatch(
      /flag --root must be an absolute path, not "relative"\n$/,
    );
  });

  it('prints its default and its effective configuration, its version and its help', () => {
    const config = join(daemon.directory, 'config.toml');
    writeFileSync(config, runGantryd(['config', 'default']).stdout);

    const dump = runGantryd(['--config', config, '--state', '/x', '--address', '/y', 'config', 'dump']);

    expect(dump).toMatchObject({ status: 0, stderr: '' });
    expect(dump.stdout).toContain('state = "/x"');
    expect(dump.stdout).toContain('address = "/y"');
    expect(runGantryd(['--version']).stdout).toMatch(/^v\d+\.\d+\.\d+\n$/);
    expect(runGantryd(['--help']).stdout).toContain('Exit codes');
  });

  it('takes messages of the size in its configuration', async () => {
    const config = join(daemon.directory, 'config.toml');
    writeFileSync(config, '[grpc]\nmax_message_bytes = 1048576\n');
    await daemon.start({ flags: ['--config', config] });
    const leases = client(LeasesService, daemon.address, 'n');

    const ids = [900_000, 1_100_000].map((length) => 'x'.repeat(length));
    const codes = await Promise.all(
      ids.map((id) =>
        leases.listResources({ id }).then(
          () => 0,
          (error: { code: number }) => error.code,
        ),
      ),
    );

    leases.close();
    expect(codes).toEqual([status.NOT_FOUND, status.RESOURCE_EXHAUSTED]);
  });

  it('keeps its directories and sockets to itself', async () => {
    await daemon.start();

    // What the zygote rehearses with is gone a moment later.
    const mode = (path: string) => (statSync(path, { throwIfNoEntry: false })?.mode ?? 0) & 0o777;
    expect(mode(daemon.root)).toBe(0o711);
    expect(mode(daemon.state)).toBe(0o711);
    expect(mode(daemon.address)).toBe(0o660);
    expect(mode(`${daemon.address}.ttrpc`) & 0o007).toBe(0);
    const open = readdirSync(daemon.root).filter((name) => (mode(join(daemon.root, name)) & 0o066) !== 0);
    expect(open).toEqual([]);
  });

  it('stays below its memory limit when idle', async () => {
    await daemon.start();
    const version = client(VersionService, daemon.address, 'n');
    for (let index = 0; index < 100; index += 1) await version.version({});
    version.close();

    const status = readFileSync(`/proc/${daemon.child?.pid}/status`, 'utf8');

    expect(Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1])).toBeLessThan(IDLE_KIB_MAX);
  });

  it('goes on when nobody reads its log any more', async () => {
    await daemon.start({ flags: ['--log-level', 'debug'] });
    daemon.child?.stderr?.destroy();
    const version = client(VersionService, daemon.address, 'n');

    for (let index = 0; index < 20; index += 1) await version.version({});

    version.close();
    expect(await daemon.stop()).toBe(0);
  });

  it('publishes an event for a shim', async () => {
    await daemon.start();
    const event = Any.encode({ typeUrl: 'some.Event', value: Buffer.from('x') });
    const flags = ['--address', daemon.address, 'publish', '--namespace', 'shim'];

    const good = spawnSync(PROGRAM, [...flags, '--topic', '/from/shim'], { input: event, encoding: 'utf8' });
    const bad = spawnSync(PROGRAM, [...flags, '--topic', 'nope'], { input: event, encoding: 'utf8' });

    expect(good).toMatchObject({ status: 0, stderr: '' });
    expect(bad).toMatchObject({ status: 1, stderr: expect.stringContaining('envelope topic "nope"') });
    await until(() => daemon.log.includes('namespace=shim'));
  });

  it('tells systemd when it is ready and when it stops', async () => {
    const path = join(daemon.directory, 'notify');
    const receiver = spawn('python3', ['-uc', RECEIVER, path], { stdio: ['ignore', 'pipe', 'inherit'] });
    let received = '';
    receiver.stdout.on('data', (chunk: Buffer) => {
      received += chunk.toString();
    });
    try {
      await until(() => received.includes('listening'));
      await daemon.start({ env: { NOTIFY_SOCKET: path } });
      await until(() => received.includes('READY=1'));
      expect(received).toContain(`MAINPID=${daemon.child?.pid}`);
      expect(await daemon.stop()).toBe(0);
      await until(() => received.includes('STOPPING=1'));
    } finally {
      receiver.kill();
    }
  });

  it('goes on with a message when systemd cannot be told', async () => {
    await daemon.start({ env: { NOTIFY_SOCKET: '/nonexistent/notify' } });

    expect(await daemon.stop()).toBe(0);
  });
});

async function until(condition: () => boolean): Promise<void> {
  const deadline = Date.now() + 60_000;
  while (!condition()) {
    if (Date.now() > deadline) throw new Error('condition did not come true');
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
