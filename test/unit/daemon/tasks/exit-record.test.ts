import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Bundle } from '../../../../daemon/tasks/bundle';
import { exitOf } from '../../../../daemon/tasks/exit-record';
import type { ProcessRecord } from '../../../../daemon/tasks/task-store';

describe('exitOf()', () => {
  let directory: string;
  let bundle: Bundle;
  const key = { namespace: 'default', id: 'web' };
  const running: ProcessRecord = {
    ...key,
    execId: 'e1',
    pid: 42,
    status: 'running',
    stdin: '',
    stdout: '',
    stderr: '',
    terminal: false,
    exitStatus: 0,
    exitedAt: 0n,
  };
  const fallback = { pid: 0, exitStatus: 137, exitedAt: 9n };

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'gantry-exit-'));
    bundle = new Bundle({ state: join(directory, 'state'), root: join(directory, 'root') }, key);
    bundle.create(Buffer.from('{}'));
  });

  afterEach(() => rmSync(directory, { recursive: true }));

  const record = (name: string, text: string) => writeFileSync(join(bundle.path, name), text);

  test('takes what is stored first', () => {
    record('exit-e1.json', '{"pid":42,"exitStatus":3,"exitedAt":"1700000000000000001"}');

    expect(exitOf({ ...running, status: 'stopped', exitStatus: 5, exitedAt: 2n }, bundle, fallback)).toMatchObject({
      exitStatus: 5,
      exitedAt: 2n,
    });
  });

  test('takes the record of the shim, to the nanosecond', () => {
    record('exit-e1.json', '{"pid":42,"exitStatus":3,"exitedAt":"1700000000000000001"}');
    record('exit.json', '{"pid":40,"exitStatus":4,"exitedAt":"1700000000000000002"}');

    expect(exitOf(running, bundle, fallback)).toEqual({ pid: 42, exitStatus: 3, exitedAt: 1700000000000000001n });
    expect(exitOf({ ...running, execId: '', pid: 40 }, bundle, fallback).exitStatus).toBe(4);
  });

  test.each([
    ['no record', undefined],
    ['half a record', '{"pid":42,"exi'],
    ['the record of an earlier exec', '{"pid":41,"exitStatus":3,"exitedAt":"1"}'],
  ])('falls back on %s', (_, text) => {
    if (text !== undefined) record('exit-e1.json', text);

    expect(exitOf(running, bundle, fallback)).toEqual({ pid: 42, exitStatus: 137, exitedAt: 9n });
  });
});
