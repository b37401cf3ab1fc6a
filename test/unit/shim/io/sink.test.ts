// The end of output in a real fifo: what a client has not read yet waits for it, but not for ever.

import { execFileSync } from 'node:child_process';
import { closeSync, constants, mkdtempSync, openSync, readdirSync, readlinkSync, readSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isErrno } from '../../../../proto/errors';
import { PipeSink } from '../../../../shim/io/sink';
import { poll } from '../../../integration/shim/harness';

const { O_RDONLY, O_WRONLY, O_NONBLOCK } = constants;

let directory: string;
let path: string;
let sink: PipeSink;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'gantry-sink-'));
  path = join(directory, 'out');
  execFileSync('mkfifo', [path]);
  const read = openSync(path, O_RDONLY | O_NONBLOCK);
  sink = new PipeSink(openSync(path, O_WRONLY | O_NONBLOCK), [read]);
});

afterEach(() => {
  sink.close();
  rmSync(directory, { recursive: true });
});

/** How many descriptors of this process name the fifo. */
function openEnds(): number {
  return readdirSync('/proc/self/fd').filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`) === path;
    } catch (error) {
      if (isErrno(error, 'ENOENT')) return false; // The descriptor of the listing itself.
      throw error;
    }
  }).length;
}

test('close() keeps unread output for a client that opens the fifo only then', async () => {
  sink.write(Buffer.from('last words'));
  sink.close();
  await new Promise((resolve) => setTimeout(resolve, 100)); // Well after close(), and well within the limit.
  const client = openSync(path, O_RDONLY | O_NONBLOCK);
  const buffer = Buffer.alloc(100);

  expect(buffer.toString('latin1', 0, readSync(client, buffer))).toBe('last words');
  await poll('end of the output', () => readsEnd(client));
  closeSync(client);
});

test('close() gives up after two seconds when nobody opens the fifo', async () => {
  sink.write(Buffer.from('last words'));
  const started = performance.now();
  sink.close();
  expect(openEnds()).toBe(2);
  await poll('both ends to be closed', () => openEnds() === 0);

  expect(performance.now() - started).toBeGreaterThanOrEqual(1990);
});

test('close() is immediate when all output has been read', async () => {
  const client = openSync(path, O_RDONLY | O_NONBLOCK);
  sink.write(Buffer.from('last words'));
  readSync(client, Buffer.alloc(100));
  closeSync(client);
  sink.close();

  expect(openEnds()).toBe(0);
});

/** Whether nobody has the fifo open for writing any more; EAGAIN as long as somebody has. */
function readsEnd(fd: number): boolean {
  try {
    return readSync(fd, Buffer.alloc(1)) === 0;
  } catch (error) {
    if (isErrno(error, 'EAGAIN')) return false;
    throw error;
  }
}
