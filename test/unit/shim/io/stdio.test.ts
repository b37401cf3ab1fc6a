// The streams of a process over real fifos and files. Pipes are made of fifos, so that no native code is needed; the test
// plays the process by using the descriptors it would get.

import { execFileSync } from 'node:child_process';
import {
  closeSync,
  constants,
  existsSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ProcessStdio, type StdioRequest } from '../../../../shim/io/stdio';
import type { ProcessFds, Runtime } from '../../../../shim/runtime';
import { Fifo, poll } from '../../../integration/shim/harness';

let directory: string;
let opened: ProcessStdio[];
let pipes = 0;

const runtime = {
  pipe() {
    const path = join(directory, `pipe${pipes++}`);
    execFileSync('mkfifo', [path]);
    const first = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const write = openSync(path, constants.O_WRONLY);
    const read = openSync(path, constants.O_RDONLY); // A logger wants to wait in read(2).
    closeSync(first);
    rmSync(path);
    return { read, write };
  },
  // The fifos of the test are non-blocking where it matters already: see openTwice().
  setNonblocking() {},
} as unknown as Runtime;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'stdio-'));
  opened = [];
});

afterEach(async () => {
  for (const stdio of opened) await stdio.close();
  rmSync(directory, { recursive: true });
});

async function open(request: Partial<StdioRequest>): Promise<ProcessStdio> {
  const all = { stdin: '', stdout: '', stderr: '', terminal: false, ...request };
  const stdio = await ProcessStdio.open(all, { runtime, id: 'c1', namespace: 'ns1', uid: 0, gid: 0 });
  opened.push(stdio);
  return stdio;
}

/** A descriptor of the test's own for the same open file, as a forked process has it. */
function inherit(fd: number, flags: number): number {
  return openSync(`/proc/self/fd/${fd}`, flags);
}

function fdsOf(stdio: ProcessStdio): ProcessFds {
  if (stdio.fds === 'terminal') throw new Error('a terminal');
  return stdio.fds;
}

function openFdCount(): number {
  return Number(execFileSync('sh', ['-c', `ls /proc/${process.pid}/fd | wc -l`], { encoding: 'utf8' }));
}

test('open() gives /dev/null for streams without a name', async () => {
  const stdio = await open({});

  expect(stdio.fds).toEqual({ stdin: -1, stdout: -1, stderr: -1 });
});

test('output reaches a fifo, and its reader sees the end when the process is gone', async () => {
  const out = new Fifo(join(directory, 'out'), 'read');
  const err = new Fifo(join(directory, 'err'), 'read');
  const stdio = await open({ stdout: out.path, stderr: err.path });
  const process1 = inherit(fdsOf(stdio).stdout, constants.O_WRONLY);
  const process2 = inherit(fdsOf(stdio).stderr, constants.O_WRONLY);
  stdio.attach(undefined);
  writeSync(process1, 'hello');
  writeSync(process2, 'oops');
  await poll('output', () => out.text === 'hello' && err.text === 'oops');
  closeSync(process1);
  closeSync(process2);
  await stdio.drain(5000);

  await poll('end of both', () => out.hasEnded && err.hasEnded);
});

test('a client may come late and go: the process is never told', async () => {
  const path = join(directory, 'out');
  execFileSync('mkfifo', [path]);
  const stdio = await open({ stdout: path });
  const process = inherit(fdsOf(stdio).stdout, constants.O_WRONLY);
  stdio.attach(undefined);
  writeSync(process, 'early ');
  const first = new Fifo(path, 'read');
  await poll('first output', () => first.text === 'early ');
  first.close();
  writeSync(process, 'late');
  const second = new Fifo(path, 'read');

  await poll('later output', () => second.text === 'late');
  second.close();
  closeSync(process);
});

test('a client that does not read stops the process, and nothing is lost', async () => {
  const out = new Fifo(join(directory, 'out'), 'read');
  out.pause();
  const stdio = await open({ stdout: out.path });
  const process = inherit(fdsOf(stdio).stdout, constants.O_WRONLY | constants.O_NONBLOCK);
  stdio.attach(undefined);
  const piece = Buffer.alloc(65536, 'x');
  let written = 0;
  const deadline = Date.now() + 1500;
  while (Date.now() < deadline) {
    try {
      written += writeSync(process, piece);
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 20)); // EAGAIN: full.
    }
  }
  closeSync(process);

  expect(written).toBeLessThan(2 << 20);
  out.resume();
  await stdio.drain(5000);
  await poll('everything', () => out.bytes === written);
});

test('drain() returns at its limit when a process keeps the pipe open', async () => {
  const out = new Fifo(join(directory, 'out'), 'read');
  const stdio = await open({ stdout: out.path });
  const process = inherit(fdsOf(stdio).stdout, constants.O_WRONLY);
  stdio.attach(undefined);
  const started = Date.now();
  await stdio.drain(100);

  expect(Date.now() - started).toBeGreaterThanOrEqual(95);
  await stdio.close();
  await poll('end', () => out.hasEnded);
  closeSync(process);
});

test('drain() gives a background process two seconds of silence, more while it writes', async () => {
  const out = new Fifo(join(directory, 'out'), 'read');
  const stdio = await open({ stdout: out.path });
  const process = inherit(fdsOf(stdio).stdout, constants.O_WRONLY);
  stdio.attach(undefined);
  const started = Date.now();
  setTimeout(() => writeSync(process, 'last words'), 1000);
  await stdio.drain(120_000);

  expect(Date.now() - started).toBeGreaterThan(2900);
  expect(Date.now() - started).toBeLessThan(110_000);
  expect(out.text).toBe('last words');
  closeSync(process);
});

test('stdin flows while clients come and go, and ends after closeStdin()', async () => {
  const path = join(directory, 'in');
  const client = new Fifo(path, 'write');
  const stdio = await open({ stdin: path });
  const process = inherit(fdsOf(stdio).stdin, constants.O_RDONLY | constants.O_NONBLOCK);
  stdio.attach(undefined);
  const read = () => {
    const buffer = Buffer.alloc(100);
    try {
      return buffer.toString('latin1', 0, readSync(process, buffer));
    } catch {
      return undefined; // EAGAIN
    }
  };
  client.write('one');
  await poll('first line', () => read() === 'one');
  client.close();
  const other = new Fifo(path, 'write');
  other.write('two');
  await poll('second line', () => read() === 'two');
  stdio.closeStdin();
  other.close();

  await poll('end of input', () => read() === '');
  closeSync(process);
});

test('file:// makes directories and appends both streams to one file', async () => {
  const path = join(directory, 'a/b/log');
  const first = await open({ stdout: `file://${path}`, stderr: `file://${path}` });
  const out = inherit(fdsOf(first).stdout, constants.O_WRONLY);
  const err = inherit(fdsOf(first).stderr, constants.O_WRONLY);
  first.attach(undefined);
  writeSync(out, 'out\n');
  await poll('stdout', () => readFileSync(path, 'utf8') === 'out\n');
  writeSync(err, 'err\n');
  closeSync(out);
  closeSync(err);
  await first.drain(5000);

  expect(readFileSync(path, 'utf8')).toBe('out\nerr\n');
});

test('a plain path of a regular file is appended to', async () => {
  const path = join(directory, 'log');
  writeFileSync(path, 'before\n');
  const stdio = await open({ stdout: path, stderr: path });
  const out = inherit(fdsOf(stdio).stdout, constants.O_WRONLY);
  stdio.attach(undefined);
  writeSync(out, 'after\n');
  closeSync(out);
  await stdio.drain(5000);

  expect(readFileSync(path, 'utf8')).toBe('before\nafter\n');
});

test('binary:// gives the pipes to a program with arguments and environment of the protocol', async () => {
  const script = join(directory, 'logger');
  const log = join(directory, 'log');
  writeFileSync(
    script,
    `#!/bin/sh\necho "$CONTAINER_ID $CONTAINER_NAMESPACE $* home=$HOME" > "$2"\nexec 5>&-\ncat <&3 >> "$2"\ncat <&4 >> "$2"\n`,
    { mode: 0o755 },
  );
  const stdio = await open({ stdout: `binary://${script}?log=${encodeURIComponent(log)}`, stderr: 'ignored' });
  const out = inherit(fdsOf(stdio).stdout, constants.O_WRONLY);
  const err = inherit(fdsOf(stdio).stderr, constants.O_WRONLY);
  stdio.attach(undefined);
  writeSync(out, 'out\n');
  writeSync(err, 'err\n');
  closeSync(out);
  closeSync(err);

  await poll('log', () => existsSync(log) && readFileSync(log, 'utf8') === `c1 ns1 log ${log} home=\nout\nerr\n`);
  await stdio.close();
});

test('binary-v2:// insists on the byte that says ready', async () => {
  const script = join(directory, 'logger');
  writeFileSync(script, '#!/bin/sh\nexit 0\n', { mode: 0o755 });

  await expect(open({ stdout: `binary-v2://${script}` })).rejects.toThrow('closed the ready pipe without a byte');
});

test('open() leaves no descriptor behind when it fails', async () => {
  const before = openFdCount();
  const fifo = join(directory, 'fifo');
  execFileSync('mkfifo', [fifo]);
  for (const request of [
    { stdout: join(directory, 'nope') },
    { stdout: fifo, stderr: join(directory, 'nope') },
    { stdout: fifo, stdin: join(directory, 'nope') },
    { stdout: 'binary:///nonexistent/logger' },
    { stdout: 'npipe:////./pipe/x' },
  ]) {
    await expect(open(request)).rejects.toMatchObject({ kind: 'unknown' });
  }

  await poll('descriptors to be closed', () => openFdCount() <= before);
});

test('close() leaves no descriptor behind, attached or not', async () => {
  const out = join(directory, 'out');
  const input = join(directory, 'in');
  execFileSync('mkfifo', [out, input]);
  const before = openFdCount();
  for (const attach of [true, false]) {
    const stdio = await open({ stdout: out, stdin: input });
    if (attach) stdio.attach(undefined);
    await stdio.close();
    await stdio.close();
  }

  await poll('descriptors to be closed', () => openFdCount() <= before);
});
