// What the shim reads and writes in a bundle: options, exit records, the group of a container, and the socket's name.

import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Options } from '../../../proto/generated/containerd.runc.v1';
import { groupOf, socketPath } from '../../../shim/address';
import { readExitRecord, writeExitRecord } from '../../../shim/exit';
import { decodeOptions, isProgram, loadOptions, runtimeRoot, saveOptions } from '../../../shim/options';

let bundle: string;

beforeEach(() => {
  bundle = mkdtempSync(join(tmpdir(), 'bundle-'));
});

afterEach(() => rmSync(bundle, { recursive: true }));

test('socketPath() names the socket as containerd does', () => {
  // printf %s /run/containerd/containerd.sock/default/c1 | sha256sum
  expect(socketPath('/run/containerd/containerd.sock', 'default', 'c1')).toBe(
    '/run/containerd/s/d25aa4ef11a84e954e74a5bcff06557d0b6ea8d0c00243896f29826694bbd888',
  );
  expect(() => socketPath('/a', 'b', 'c', `/${'d'.repeat(60)}`)).toThrow('socket path too long');
});

test('groupOf() is the annotation of the group, else of the sandbox, else the id', () => {
  const write = (annotations: object) => writeFileSync(join(bundle, 'config.json'), JSON.stringify({ annotations }));
  write({ 'io.containerd.runc.v2.group': 'g', 'io.kubernetes.cri.sandbox-id': 's' });
  expect(groupOf(bundle, 'c1')).toBe('g');
  write({ 'io.kubernetes.cri.sandbox-id': 's' });
  expect(groupOf(bundle, 'c1')).toBe('s');
  write({});
  expect(groupOf(bundle, 'c1')).toBe('c1');
});

test('writeExitRecord() leaves a whole record for init and for each exec', () => {
  const exit = { pid: 42, exitStatus: 137, exitedAtNs: 1_700_000_000_123_456_789n };
  writeExitRecord(bundle, undefined, exit);
  writeExitRecord(bundle, 'e1', { ...exit, exitStatus: 0 });

  expect(readExitRecord(bundle)).toEqual(exit);
  expect(readExitRecord(bundle, 'e1')).toEqual({ ...exit, exitStatus: 0 });
  expect(readExitRecord(bundle, 'e2')).toBeUndefined();
  expect(JSON.parse(readFileSync(join(bundle, 'exit.json'), 'utf8'))).toEqual({
    pid: 42,
    exitStatus: 137,
    exitedAt: '1700000000123456789',
  });
  expect(readdirSync(bundle).sort()).toEqual(['exit-e1.json', 'exit.json']);
});

test('decodeOptions() takes runc options, with and without a URL prefix, and none at all', () => {
  const value = Options.encode({ binaryName: 'runc', root: '/run/r', systemdCgroup: true });

  expect(decodeOptions({ typeUrl: 'containerd.runc.v1.Options', value })).toMatchObject({ root: '/run/r' });
  expect(decodeOptions({ typeUrl: 'type.googleapis.com/containerd.runc.v1.Options', value }).systemdCgroup).toBe(true);
  expect(decodeOptions(undefined).root).toBe('');
  expect(decodeOptions({ typeUrl: '', value: Buffer.alloc(0) }).root).toBe('');
});

test.each([
  ['', false],
  ['runc', false],
  ['gantry-runtime', false],
  ['/opt/gantry/bin/gantry-runtime', false],
  ['crun', true],
  ['/usr/bin/runc', true],
  ['/usr/bin/nvidia-container-runtime', true],
])('isProgram() of binary_name "%s" is %s', (binaryName, expected) => {
  expect(isProgram({ binaryName })).toBe(expected);
});

test('decodeOptions() refuses other types', () => {
  expect(() => decodeOptions({ typeUrl: 'runtimeoptions.v1.Options', value: Buffer.alloc(0) })).toThrow(
    'invalid task options type "runtimeoptions.v1.Options"',
  );
});

test('saved options lead delete to the state of the runtime', () => {
  expect(runtimeRoot(loadOptions(bundle), 'moby', bundle)).toBe(join(bundle, 'oci'));
  saveOptions(bundle, Options.decode(Options.encode({ root: '/run/r', systemdCgroup: true })));

  expect(loadOptions(bundle)).toEqual({ root: '/run/r', binaryName: '', systemdCgroup: true });
  expect(runtimeRoot(loadOptions(bundle), 'moby', bundle)).toBe('/run/r/moby');
  expect(JSON.parse(readFileSync(join(bundle, 'options.json'), 'utf8'))).toEqual({
    root: '/run/r',
    systemd_cgroup: true,
  });
});
