// Directories, the lock of the root and the address at start.

import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freeAddress, lockDirectory, prepareDirectory, privateDirectory } from '../../../daemon/directories';
import type { StartError } from '../../../daemon/start-error';

let directory: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'gantry-directories-'));
});

afterEach(() => rmSync(directory, { recursive: true }));

function failureOf(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    return `${(error as StartError).failure}: ${(error as Error).message}`;
  }
  return 'none';
}

describe('prepareDirectory() and privateDirectory()', () => {
  it('create directories that others cannot list', () => {
    const root = join(directory, 'a', 'root');

    prepareDirectory('root', root);
    const metadata = privateDirectory(root, 'metadata');

    expect(statSync(root).mode & 0o777).toBe(0o711);
    expect(statSync(metadata).mode & 0o777).toBe(0o700);
  });

  it('tighten a directory that was there', () => {
    mkdirSync(join(directory, 'root'));
    chmodSync(join(directory, 'root'), 0o755);

    prepareDirectory('root', join(directory, 'root'));

    expect(statSync(join(directory, 'root')).mode & 0o777).toBe(0o711);
  });

  it('refuse what is no directory', () => {
    writeFileSync(join(directory, 'file'), '');

    expect(failureOf(() => prepareDirectory('root', join(directory, 'file')))).toMatch(
      /^directory: root directory ".*file"/,
    );
    expect(failureOf(() => prepareDirectory('state', join(directory, 'file', 'x')))).toMatch(
      /^directory: state directory/,
    );
    expect(failureOf(() => prepareDirectory('root', '/proc/nope'))).toMatch(/^directory: /);
  });
});

describe('lockDirectory()', () => {
  it('is held once and free after its release', () => {
    const lock = lockDirectory('root', directory);

    expect(failureOf(() => lockDirectory('root', directory))).toBe(
      `locked: another gantryd is running on the root directory "${directory}"`,
    );
    lock.release();
    lockDirectory('root', directory).release();
  });

  it('is free after its holder was killed', () => {
    const program = `
      const Sqlite = require('better-sqlite3');
      const connection = new Sqlite(${JSON.stringify(join(directory, 'lock'))});
      connection.exec('BEGIN EXCLUSIVE');
      process.kill(process.pid, 'SIGKILL');`;
    const { signal } = spawnSync(process.execPath, ['-e', program], { cwd: join(__dirname, '../../..') });

    expect(signal).toBe('SIGKILL');
    lockDirectory('root', directory).release();
  });
});

describe('freeAddress()', () => {
  it('removes the socket of a dead server', async () => {
    const address = join(directory, 's');
    const program = `require('net').createServer().listen(${JSON.stringify(address)}, () => process.kill(process.pid, 'SIGKILL'))`;
    spawnSync(process.execPath, ['-e', program]);
    expect(existsSync(address)).toBe(true);

    await freeAddress(address);

    expect(existsSync(address)).toBe(false);
  });

  it('refuses the socket of a live server', async () => {
    const address = join(directory, 's');
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(address, resolve));

    await expect(freeAddress(address)).rejects.toThrow(`address "${address}" is in use by another server`);

    expect(existsSync(address)).toBe(true);
    server.close();
  });

  it('refuses a file that is no socket, and keeps it', async () => {
    const address = join(directory, 'precious');
    writeFileSync(address, 'data');

    await expect(freeAddress(address)).rejects.toThrow(/taken by something that is no socket/);

    expect(existsSync(address)).toBe(true);
  });

  it('refuses a path that is too long for a socket', async () => {
    await expect(freeAddress(join(directory, 'x'.repeat(100)))).rejects.toThrow(/is longer than 101 bytes/);
  });
});
