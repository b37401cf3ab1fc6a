import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { binaryName, RuntimeResolver } from '../../../../daemon/tasks/runtimes';

describe('RuntimeResolver', () => {
  let directory: string;
  let resolver: RuntimeResolver;

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'gantry-runtimes-'));
    for (const name of ['containerd-shim-some-v1', 'containerd-shim-gantry-v1', 'gantry-shim', 'other']) {
      writeFileSync(join(directory, name), '#!/bin/sh\n');
      chmodSync(join(directory, name), 0o755);
    }
    resolver = new RuntimeResolver({
      ownShim: join(directory, 'gantry-shim'),
      binDirectory: directory,
      runtimes: {
        'io.containerd.mapped.v1': 'io.containerd.some.v1',
        'io.containerd.path.v1': join(directory, 'other'),
      },
    });
  });

  afterEach(() => rmSync(directory, { recursive: true }));

  test('resolve() takes the names that clients send for the own shim', () => {
    const own = { kind: 'own', path: join(directory, 'gantry-shim') };

    expect(resolver.resolve('io.containerd.runc.v2')).toEqual(own);
    expect(resolver.resolve('io.containerd.gantry.v1')).toEqual(own);
  });

  test('resolve() finds programs by name, by path and through the configuration', () => {
    const some = { kind: 'foreign', path: join(directory, 'containerd-shim-some-v1') };
    const other = { kind: 'foreign', path: join(directory, 'other') };

    expect(resolver.resolve('io.containerd.some.v1')).toEqual(some);
    expect(resolver.resolve(join(directory, 'other'))).toEqual(other);
    expect(resolver.resolve('io.containerd.mapped.v1')).toEqual(some);
    expect(resolver.resolve('io.containerd.path.v1')).toEqual(other);
    expect(resolver.resolve('io.containerd.runc.v2', join(directory, 'other'))).toEqual(other);
  });

  test('resolve() lets the configuration replace the own shim', () => {
    const replaced = new RuntimeResolver({
      ownShim: join(directory, 'gantry-shim'),
      binDirectory: directory,
      runtimes: { 'io.containerd.runc.v2': join(directory, 'other') },
    });

    expect(replaced.resolve('io.containerd.runc.v2').kind).toBe('foreign');
  });

  test('classify() knows the own shim by both of its names', () => {
    expect(resolver.classify(join(directory, 'containerd-shim-gantry-v1')).kind).toBe('own');
    expect(resolver.classify('/elsewhere/containerd-shim-gantry-v1').kind).toBe('foreign');
  });

  test.each([
    [
      'io.containerd.nope.v9',
      'failed to resolve runtime path: runtime "io.containerd.nope.v9" binary not installed "containerd-shim-nope-v9": file does not exist',
    ],
    [
      'a/b',
      'failed to resolve runtime path: invalid runtime name a/b, correct runtime name should be either format like `io.containerd.runc.v1` or a full path to the binary',
    ],
    [
      'abc',
      'failed to resolve runtime path: invalid runtime name abc, correct runtime name should be either format like `io.containerd.runc.v1` or a full path to the binary',
    ],
    ['/x/y', 'failed to resolve runtime path: invalid custom binary path: stat /x/y: no such file or directory'],
  ])('resolve() fails in the words of containerd for %s', (name, message) => {
    expect(() => resolver.resolve(name)).toThrow(expect.objectContaining({ kind: 'unknown', message }));
  });

  test('binaryName() takes the last two parts', () => {
    expect(binaryName('io.containerd.runc.v2')).toBe('containerd-shim-runc-v2');
    expect(binaryName('runsc')).toBeUndefined();
    expect(binaryName('.v1')).toBeUndefined();
  });
});
