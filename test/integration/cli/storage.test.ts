// gantry snapshots, content and leases, on a real daemon.

import { describeUnless } from '../../setup/needs';
import { missingForCli, useDaemon } from './fixture';

const suite = describeUnless(missingForCli());

jest.setTimeout(60_000);

suite('gantry with storage', () => {
  const { daemon, run } = useDaemon();

  test('snapshots: prepare, view, mounts, commit, usage, tree, info, label, rm', async () => {
    const [parent = ''] = (await run('snapshots', 'ls', '-q', 'kind==committed')).stdout.split('\n');
    expect((await run('snapshots', 'prepare', 'work', parent)).code).toBe(0);
    expect((await run('snapshots', 'view', 'look', parent)).code).toBe(0);
    expect((await run('snapshots', 'mounts', '--target', '/mnt', 'work')).stdout).toMatch(/^mount -t (overlay|bind) /);
    expect((await run('snapshots', 'tree')).stdout).toContain('\\_ work');
    expect((await run('snapshots', 'commit', 'done', 'work')).stdout).toBe('done\n');
    await run('snapshots', 'label', 'done', 'x=y');
    expect(JSON.parse((await run('snapshots', 'info', 'done')).stdout)).toMatchObject({
      kind: 'committed',
      parent,
      labels: { x: 'y' },
    });
    expect((await run('snapshots', 'usage', 'done')).stdout).toContain('done');
    expect((await run('snapshots', 'rm', 'look', 'done')).stdout).toBe('look\ndone\n');
    expect((await run('snapshots', 'info', 'done')).code).toBe(4);
  });

  test('content: ingest, ls, get, info, label, rm', async () => {
    const stored = await daemon.pipe('some data\n', 'content', 'ingest', 'ref1', '-l', 'containerd.io/gc.root=x');
    const digest = stored.stdout.trim();
    expect(digest).toMatch(/^sha256:[0-9a-f]{64}$/);
    expect((await run('content', 'get', digest)).stdout).toBe('some data\n');
    await run('content', 'label', digest, 'a=b');
    expect(JSON.parse((await run('content', 'info', digest)).stdout)).toMatchObject({ size: 10, labels: { a: 'b' } });
    expect((await run('content', 'ls', '-q', 'labels.a==b')).stdout).toBe(`${digest}\n`);
    expect((await daemon.pipe('x', 'content', 'ingest', 'ref2', '--expected-digest', digest)).stdout).toBe(
      `${digest}\n`,
    );
    expect((await run('content', 'rm', digest)).code).toBe(0);
    expect(
      (await daemon.pipe('x', 'content', 'ingest', 'ref3', '--expected-digest', `sha256:${'0'.repeat(64)}`)).code,
    ).toBe(5);
    expect((await run('content', 'get', digest)).code).toBe(4);
  });

  test('leases: create, ls, resources, rm', async () => {
    expect((await run('leases', 'create', '--id', 'mine', 'a=b')).stdout).toBe('mine\n');
    expect((await run('leases', 'ls')).stdout).toMatch(/mine +\S.*a=b/);
    expect((await run('leases', 'resources', 'mine', '-q')).stdout).toBe('');
    expect((await run('leases', 'rm', '--sync', 'mine')).stdout).toBe('mine\n');
    expect((await run('leases', 'rm', 'mine')).code).toBe(4);
  });
});
