// The API's server: its socket, its limit of connections, and its end.

import { statSync } from 'node:fs';
import { connect } from 'node:net';
import { CallBench, unary } from './bench';

let bench: CallBench;

beforeEach(() => {
  bench = new CallBench();
});
afterEach(() => bench.close());

describe('ApiServer', () => {
  it('listens at a socket of mode 0660', async () => {
    await bench.serve({});

    expect(statSync(bench.address).mode & 0o777).toBe(0o660);
  });

  it('drops connections over its limit and serves the others', async () => {
    const stub = await bench.serve({ delete: () => ({}) }, { connectionsMax: 2 });
    expect((await unary(stub, 'delete', {})).code).toBe(0);
    const idle = connect(bench.address);
    await new Promise((resolve) => idle.once('connect', resolve));

    const extra = connect(bench.address);
    await new Promise((resolve) => extra.once('close', resolve));

    expect((await unary(stub, 'delete', {})).code).toBe(0);
    idle.destroy();
  });

  it('close() cuts calls that do not end', async () => {
    const stub = await bench.serve({ delete: () => new Promise(() => {}) });
    const outcome = unary(stub, 'delete', {});
    await new Promise((resolve) => setTimeout(resolve, 50));

    await bench.server?.close(50);

    expect((await outcome).code).not.toBe(0);
  });
});
