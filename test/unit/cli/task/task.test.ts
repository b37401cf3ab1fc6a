import { appendFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { labelsOf } from '../../../../cli/container/create';
import { startOfTail } from '../../../../cli/task/logs';
import { SignalForwarder } from '../../../../cli/task/signals';
import { defaultLogUri, logPath, makeFifos, parseLogUri, removeFifos } from '../../../../cli/task/stdio';
import { DetachKeys } from '../../../../cli/task/streams';

describe('DetachKeys', () => {
  const text = (keys: DetachKeys, data: string) => keys.filter(Buffer.from(data)).toString();

  test('passes everything else on', () => {
    const keys = new DetachKeys();

    expect(text(keys, 'abc')).toBe('abc');
    expect(text(keys, 'a\x11b')).toBe('a\x11b');
    expect(keys.seen).toBe(false);
  });

  test('sees the sequence across two reads and drops what follows', () => {
    const keys = new DetachKeys();

    expect(text(keys, 'a\x10')).toBe('a');
    expect(text(keys, '\x11b')).toBe('');
    expect(keys.seen).toBe(true);
  });

  test('gives a held key back when another one follows', () => {
    const keys = new DetachKeys();

    expect(text(keys, '\x10')).toBe('');
    expect(text(keys, 'x')).toBe('\x10x');
    expect(text(keys, '\x10\x10x')).toBe('\x10\x10x');
  });
});

describe('SignalForwarder', () => {
  const given: number[] = [];
  const giveUp = (signal: number): Promise<never> => {
    given.push(signal);
    return new Promise(() => undefined);
  };

  test('gives up at the second stop signal when nothing runs yet', () => {
    const forwarder = new SignalForwarder(0, giveUp);

    forwarder.stop(2);
    expect(given).toEqual([]);
    forwarder.stop(2);
    forwarder.close();

    expect(given).toEqual([2]);
  });

  test('passes the first stop signal on and kills at the second', () => {
    const sent: number[] = [];
    const forwarder = new SignalForwarder(0, giveUp);
    forwarder.attach((signal) => sent.push(signal));

    forwarder.stop(15);
    forwarder.stop(2);
    forwarder.close();

    expect(sent).toEqual([15, 9]);
    expect(forwarder.interruption).toBe(15);
  });

  test('delivers a signal that came before there was a process', () => {
    const sent: number[] = [];
    const forwarder = new SignalForwarder(0, giveUp);

    forwarder.stop(2);
    forwarder.attach((signal) => sent.push(signal));
    forwarder.close();

    expect(sent).toEqual([2]);
  });

  test('kills when the grace period is over', async () => {
    const killed = Promise.withResolvers<number>();
    const forwarder = new SignalForwarder(10, giveUp);
    forwarder.attach((signal) => {
      if (signal === 9) killed.resolve(signal);
    });

    forwarder.stop(15);

    await expect(killed.promise).resolves.toBe(9);
    forwarder.close();
  });
});

test('startOfTail() finds the first of the last lines', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'gantry-log-'));
  const path = join(directory, 'log');
  writeFileSync(path, 'one\ntwo\nthree\n');
  const file = await open(path);

  expect(await startOfTail(file, 1)).toBe(8);
  expect(await startOfTail(file, 2)).toBe(4);
  expect(await startOfTail(file, 9)).toBe(0);
  expect(await startOfTail(file, 0)).toBe(14);
  appendFileSync(path, 'four');
  expect(await startOfTail(file, 1)).toBe(14);
  appendFileSync(path, `${'x'.repeat(200_000)}\nlast\n`);
  expect(await startOfTail(file, 2)).toBe(14);
  await file.close();
  rmSync(directory, { recursive: true });
});

test('makeFifos() makes private pipes that removeFifos() takes away', async () => {
  const base = mkdtempSync(join(tmpdir(), 'gantry-fifo-'));
  process.env['GANTRY_FIFO_DIR'] = base;

  const stdio = await makeFifos('web', { stdin: true, terminal: false });
  const { statSync, existsSync } = await import('node:fs');

  expect(statSync(stdio.stdout).isFIFO()).toBe(true);
  expect(statSync(join(stdio.stdout, '..')).mode & 0o777).toBe(0o700);
  expect(stdio.stderr).toMatch(/web-stderr$/);
  await removeFifos(stdio);
  expect(existsSync(stdio.stdout)).toBe(false);
  await removeFifos({ stdout: '/etc/passwd' });
  expect(existsSync('/etc/passwd')).toBe(true);
  delete process.env['GANTRY_FIFO_DIR'];
  rmSync(base, { recursive: true });
});

test('log locations', () => {
  process.env['GANTRY_LOG_DIR'] = '/logs';

  expect(defaultLogUri('moby', 'web')).toBe('file:///logs/moby/web.log');
  expect(parseLogUri('/x/y')).toBe('file:///x/y');
  expect(logPath('file:///x/y%20z')).toBe('/x/y z');
  expect(() => parseLogUri('http://x')).toThrow('is not a log');
  delete process.env['GANTRY_LOG_DIR'];
});

test('labelsOf() keeps reserved labels of an image away from the container', () => {
  const labels = labelsOf({
    StopSignal: 'SIGINT',
    Labels: {
      a: 'b',
      'containerd.io/restart.loguri': 'binary:///evil',
      'io.containerd.x': '1',
      long: 'x'.repeat(5000),
    },
  });

  expect(labels).toEqual({ a: 'b', 'io.containerd.image.config.stop-signal': 'SIGINT' });
});
