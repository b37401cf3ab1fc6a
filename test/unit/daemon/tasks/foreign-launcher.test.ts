import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Bundle } from '../../../../daemon/tasks/bundle';
import { ForeignLauncher, parseBootstrap } from '../../../../daemon/tasks/foreign-launcher';
import { BootstrapParams, BootstrapResult } from '../../../../proto/generated/containerd.runtime.bootstrap.v1';
import { DeleteResponse } from '../../../../proto/generated/containerd.task.v3';
import { Any } from '../../../../proto/generated/google.protobuf';

describe('parseBootstrap()', () => {
  test.each([
    ['unix:///run/containerd/s/abc\n', { version: 2, address: 'unix:///run/containerd/s/abc', protocol: 'ttrpc' }],
    [
      '{"version":3,"address":"unix:///run/s/x","protocol":"ttrpc"}',
      { version: 3, address: 'unix:///run/s/x', protocol: 'ttrpc' },
    ],
    [
      BootstrapResult.encode({ version: 3, address: 'unix:///run/s/y', protocol: 'ttrpc' }),
      { version: 3, address: 'unix:///run/s/y', protocol: 'ttrpc' },
    ],
  ])('reads every form of output (%#)', (output, expected) => {
    expect(parseBootstrap(Buffer.from(output as string))).toEqual(expected);
  });

  test('refuses what it does not speak', () => {
    expect(() => parseBootstrap(Buffer.from(''))).toThrow(expect.objectContaining({ kind: 'unknown' }));
    expect(() => parseBootstrap(Buffer.from('{"version":4,"address":"unix:///a","protocol":"ttrpc"}'))).toThrow(
      expect.objectContaining({ kind: 'not implemented' }),
    );
    expect(() => parseBootstrap(Buffer.from('{"version":3,"address":"unix:///a","protocol":"grpc"}'))).toThrow(
      expect.objectContaining({ kind: 'not implemented' }),
    );
  });
});

describe('ForeignLauncher', () => {
  let directory: string;
  let bundle: Bundle;
  const environment = {
    grpcAddress: '/run/g.sock',
    ttrpcAddress: '/run/g.sock.ttrpc',
    daemonBinary: '/usr/bin/gantryd',
    debug: false,
    runtime: '',
  };
  const signal = new AbortController().signal;

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'gantry-launcher-'));
    bundle = new Bundle(
      { state: join(directory, 'state'), root: join(directory, 'root') },
      { namespace: 'ns', id: 'c1' },
    );
    bundle.create(Buffer.from('{}'));
  });

  afterEach(() => rmSync(directory, { recursive: true }));

  function shim(script: string) {
    const path = join(directory, 'shim');
    writeFileSync(path, `#!/bin/sh\n${script}\n`);
    chmodSync(path, 0o755);
    return { kind: 'foreign' as const, path };
  }

  const saved = (name: string) => readFileSync(join(directory, name));

  test('start() runs the start action as containerd does', async () => {
    const runtime = shim(`echo "$@" >${directory}/args; env >${directory}/env; pwd >${directory}/cwd
      cat >${directory}/stdin; echo unix:///run/s/1`);
    const options = { typeUrl: 'containerd.runc.v1.Options', value: Buffer.from('xyz') };

    const started = await new ForeignLauncher(environment).start({ bundle, runtime, options, signal });

    expect(started.bootstrap).toEqual({ version: 2, address: 'unix:///run/s/1', protocol: 'ttrpc' });
    expect(saved('args').toString().trim()).toBe(
      '-namespace ns -address /run/g.sock -publish-binary /usr/bin/gantryd -id c1 start',
    );
    expect(saved('cwd').toString().trim()).toBe(bundle.path);
    expect(saved('env').toString()).toContain('TTRPC_ADDRESS=/run/g.sock.ttrpc\n');
    expect(saved('env').toString()).toContain('MAX_SHIM_VERSION=2\n');
    expect(Any.decode(saved('stdin'))).toEqual(options);
  });

  test('start() gives BootstrapParams to a shim that wants them', async () => {
    const runtime = shim(`cat >${directory}/stdin
      grep -q gantryd ${directory}/stdin || { echo "bootstrap params: instance id does not match" >&2; exit 1; }
      echo unix:///run/s/1`);

    await new ForeignLauncher(environment).start({ bundle, runtime, options: undefined, signal });

    expect(BootstrapParams.decode(saved('stdin'))).toMatchObject({
      instanceId: 'c1',
      namespace: 'ns',
      containerdTtrpcAddress: '/run/g.sock.ttrpc',
    });
  });

  test('start() fails with what the shim printed', async () => {
    const runtime = shim('echo "no such thing" >&2; exit 3');

    await expect(
      new ForeignLauncher(environment).start({ bundle, runtime, options: undefined, signal }),
    ).rejects.toMatchObject({ kind: 'unknown', message: `${runtime.path}: no such thing` });
  });

  test('start() stops when its signal aborts', async () => {
    const runtime = shim('exec sleep 60');
    const controller = new AbortController();

    const starting = new ForeignLauncher(environment).start({
      bundle,
      runtime,
      options: undefined,
      signal: controller.signal,
    });
    controller.abort();

    await expect(starting).rejects.toMatchObject({ kind: 'unknown' });
  });

  test('delete() reads the reply of the delete action', async () => {
    const reply = DeleteResponse.encode({ pid: 12, exitStatus: 137, exitedAt: { seconds: 5n, nanos: 6 } });
    const octal = [...reply].map((byte) => `\\${byte.toString(8).padStart(3, '0')}`).join('');
    const { path } = shim(`echo "$@" >${directory}/args; echo warning >&2; printf '${octal}'`);

    const exit = await new ForeignLauncher(environment).delete(bundle, path);

    expect(exit).toEqual({ pid: 12, exitStatus: 137, exitedAt: 5_000_000_006n });
    expect(saved('args').toString()).toContain(`-id c1 -bundle ${bundle.path} delete`);
  });
});
