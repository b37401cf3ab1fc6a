// A Python program, generated from proto/api by Debian's protoc and gRPC plugin, uses the whole line from blobs to events;
// against containerd and against gantryd it sees the same. Another one learns the API from the server itself.

import fs from 'node:fs';
import path from 'node:path';
import { busyboxImage } from '../images/busybox';
import { PROJECT_ROOT } from '../setup/cache';
import { installedContainerd } from '../setup/clients';
import { mustRun } from '../setup/command';
import { startContainerd, startGantryd, type TestDaemon, temporaryDirectory } from '../setup/daemons';

const TIMEOUT_MS = 300_000;
/** A clean environment: Debian's Python and its packages, whatever else is in PATH. */
const PYTHON = ['/usr/bin/python3', '-I'];

let stubs: string;
/** protoc's descriptors of the same files. */
let descriptors: string;

beforeAll(async () => {
  await installedContainerd();
  stubs = temporaryDirectory('stubs');
  descriptors = path.join(stubs, 'descriptors.binpb');
  await generateStubs(stubs);
}, TIMEOUT_MS);

afterAll(() => fs.rmSync(stubs, { recursive: true, force: true }));

test(
  'a generated Python client runs a container and sees what it sees with containerd',
  async () => {
    const peer = await withDaemon(await startContainerd(await installedContainerd()), runClient);
    const ours = await withDaemon(await startGantryd(), async (daemon) => {
      const seen = await runClient(daemon);

      expect(await daemon.lastingLeftovers()).toEqual([]);
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

test(
  'a client that knows only the reflection protocol learns the API as protoc knows it',
  async () => {
    const program = path.join(PROJECT_ROOT, 'test', 'python', 'reflection.py');

    const seen = await withDaemon(await startGantryd(), async ({ address }) =>
      JSON.parse(await mustRun([...PYTHON, program, stubs, address, descriptors], { timeoutMs: TIMEOUT_MS })),
    );

    const expected = {
      methods: expect.objectContaining({
        'containerd.services.leases.v1.Leases': [
          'AddResource',
          'Create',
          'Delete',
          'DeleteResource',
          'List',
          'ListResources',
        ],
        'gantry.admin.v1.Admin': ['Collect', 'DiskUsage', 'TestRegistry', 'VerifyImage', 'Why'],
        'grpc.reflection.v1.ServerReflection': ['ServerReflectionInfo'],
      }),
      event: ['container_id', 'id', 'pid', 'exit_status', 'exited_at'],
      files: expect.any(Number),
      "unlike protoc's": [],
      version: expect.stringMatching(/^v\d/),
      unknown: [5, 5],
      'in one stream': 2,
    };
    expect(seen).toEqual({ v1: expected, v1alpha: expected });
  },
  TIMEOUT_MS,
);

async function generateStubs(target: string): Promise<void> {
  const root = path.join(PROJECT_ROOT, 'proto', 'api');
  const protos = ['containerd', 'gantry', 'grpc'].flatMap((folder) =>
    fs
      .readdirSync(path.join(root, folder), { recursive: true, encoding: 'utf8' })
      .filter((name) => name.endsWith('.proto'))
      .map((name) => path.join(folder, name)),
  );
  const plugin = '--plugin=protoc-gen-grpc_python=/usr/bin/grpc_python_plugin';
  const outputs = [`--python_out=${target}`, `--grpc_python_out=${target}`];
  outputs.push('--include_imports', `--descriptor_set_out=${descriptors}`);
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
