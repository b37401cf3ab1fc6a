import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Bundle, scanBundles, workPaths } from '../../../../daemon/tasks/bundle';
import { needsRoot, testUnless } from '../../../setup/needs';

describe('Bundle', () => {
  let directory: string;
  let directories: { state: string; root: string };
  let bundle: Bundle;
  const key = { namespace: 'default', id: 'web' };
  const mode = (path: string) => statSync(path).mode & 0o777;

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'gantry-bundle-'));
    directories = { state: join(directory, 'state'), root: join(directory, 'root') };
    bundle = new Bundle(directories, key);
  });

  afterEach(() => rmSync(directory, { recursive: true }));

  test('create() lays the bundle out with the spec byte for byte', () => {
    const spec = Buffer.from('{ "ociVersion" : "1.0.2" }\n');

    bundle.create(spec);

    expect(bundle.path).toBe(join(directory, 'state/io.containerd.runtime.v2.task/default/web'));
    expect(readFileSync(join(bundle.path, 'config.json'))).toEqual(spec);
    expect(readlinkSync(join(bundle.path, 'work'))).toBe(bundle.workPath);
    expect(mode(bundle.path)).toBe(0o700);
    expect(mode(bundle.rootfs)).toBe(0o711);
    expect(mode(bundle.workPath)).toBe(0o711);
    expect(mode(join(bundle.path, '..'))).toBe(0o711);
  });

  test('create() refuses a bundle that is there', () => {
    bundle.create(Buffer.from('{}'));

    expect(() => bundle.create(Buffer.from('{}'))).toThrow(expect.objectContaining({ kind: 'already exists' }));
    expect(bundle.exists()).toBe(true);
  });

  testUnless(needsRoot())('create() opens the bundle to the root group of a user namespace', () => {
    const spec = { linux: { gidMappings: [{ containerID: 0, hostID: 12345, size: 1000 }] } };

    bundle.create(Buffer.from(JSON.stringify(spec)));

    expect(statSync(bundle.path).gid).toBe(12345);
    expect(mode(bundle.path)).toBe(0o710);
  });

  test('bootstrap() reads what writeBootstrap() wrote, else the address file', () => {
    bundle.create(Buffer.from('{}'));
    expect(bundle.bootstrap()).toBeUndefined();

    writeFileSync(join(bundle.path, 'address'), 'unix:///run/s/1\n');
    expect(bundle.bootstrap()).toEqual({ version: 2, address: 'unix:///run/s/1', protocol: 'ttrpc' });

    bundle.writeBootstrap({ version: 3, address: 'unix:///run/s/2', protocol: 'ttrpc' });
    expect(bundle.bootstrap()).toEqual({ version: 3, address: 'unix:///run/s/2', protocol: 'ttrpc' });
  });

  test('remove() takes everything, and is idempotent', async () => {
    bundle.create(Buffer.from('{}'));
    mkdirSync(join(bundle.rootfs, 'etc'));

    await bundle.remove();
    await bundle.remove();

    expect(existsSync(bundle.path)).toBe(false);
    expect(existsSync(bundle.workPath)).toBe(false);
    expect(scanBundles(directories)).toEqual({ bundles: [], hidden: [] });
  });

  test('scanBundles() tells bundles from what a removal left behind', () => {
    bundle.create(Buffer.from('{}'));
    mkdirSync(join(bundle.path, '..', '.gone'));

    const found = scanBundles(directories);

    expect(found.bundles.map((each) => each.key)).toEqual([key]);
    expect(found.hidden).toEqual([join(bundle.path, '..', '.gone')]);
    expect(workPaths(directories)).toEqual([{ key, path: bundle.workPath }]);
  });
});
