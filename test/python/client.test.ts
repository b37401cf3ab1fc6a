// A Python program, generated from proto/api by Debian's protoc and gRPC plugin, uses the whole line from blobs to events;
// against containerd and against gantryd it sees the same.

import fs from 'node:fs';
import path from 'node:path';
import { busyboxImage } from '../images/busybox';
import { PROJECT_ROOT } from '../setup/cache';
import { installedContainerd } from '../setup/clients';
import { mustRun } from '../setup/command';
import { startContainerd, startGantryd, type TestDaemon, temporaryDirectory } from '../setup/daemons';

const TIMEOUT_MS = 120_000;
/** A clean environment: Debian's Python and its packages, whatever else is in PATH. */
const PYTHON = ['/usr/bin/python3', '-I'];

let stubs: string;

beforeAll(async () => {
  await installedContainerd();
  stubs = temporaryDirectory('stubs');
  await generateStubs(stubs);
}, TIMEOUT_MS);

afterAll(() => fs.rmSync(stubs, { recursive: true, force: true }));

test(
  'a generated Python client runs a container and sees what it sees with containerd',
  async () => {
    const peer = await withDaemon(await startContainerd(await installedContainerd()), runClient);
    const ours = await withDaemon(await startGantryd(), async (daemon) => {
      const seen = await runClient(daemon);

      expect(daemon.leftovers()).toEqual([]);
      return seen;
    });

    expect(ours).toEqual(peer);
    expect(ours).toMatchObject({
      output: { stdout: ['from the container', '0', ''], stderr: ['odd', ''] },
      status: [7, 7, 7],
      left: [],
    });
  },
  TIMEOUT_MS,
);

async function generateStubs(target: string): Promise<void> {
  const root = path.join(PROJECT_ROOT, 'proto', 'api');
  const protos = fs
    .readdirSync(path.join(root, 'containerd'), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.proto'))
    .map((name) => path.join('containerd', name));
  const plugin = '--plugin=protoc-gen-grpc_python=/usr/bin/grpc_python_plugin';
  const outputs = [`--python_out=${target}`, `--grpc_python_out=${target}`];
  await mustRun(['/usr/bin/protoc', `-I${root}`, plugin, ...outputs, ...protos]);
}

async function withDaemon<T>(daemon: TestDaemon, body: (daemon: TestDaemon) => Promise<T>): Promise<T> {
  try {
    return await body(daemon);
  } finally {
    await daemon.destroy();
  }
}

async function runClient(daemon: TestDaemon): Promise<unknown> {
  const program = path.join(PROJECT_ROOT, 'test', 'python', 'client.py');
  const command = [...PYTHON, program, stubs, daemon.address, daemon.namespace, await busyboxImage()];
  return JSON.parse(await mustRun(command, { timeoutMs: TIMEOUT_MS }));
}
