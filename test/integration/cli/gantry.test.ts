// The real gantry program against a real daemon. Needs root and what `make build` makes.

import { describeUnless, testUnless } from '../../setup/needs';
import { Daemon, missingForCli, useDaemon } from './fixture';

const suite = describeUnless(missingForCli());

jest.setTimeout(60_000);

suite('gantry', () => {
  const { daemon, run } = useDaemon();

  test('version and info name the daemon', async () => {
    const version = await run('version', '--format', 'json');
    const info = await run('info', '--format', 'json');

    expect(JSON.parse(version.stdout).server.version).not.toBe('');
    expect(JSON.parse(info.stdout)).toMatchObject({
      address: daemon.address,
      namespace: 'default',
      images: expect.any(Number),
    });
  });

  test('namespaces are created, labelled, listed and removed', async () => {
    expect((await run('namespaces', 'create', 'team', 'a=b')).code).toBe(0);
    expect((await run('namespaces', 'create', 'team')).code).toBe(5);
    await run('namespaces', 'label', 'team', 'c=d', 'a=');
    const list = await run('namespaces', 'ls', '--format', 'json');
    expect(JSON.parse(list.stdout)).toContainEqual({ name: 'team', labels: { c: 'd' } });
    expect((await run('namespaces', 'rm', 'team')).stdout).toBe('team\n');
    expect((await run('namespaces', 'rm', 'team')).code).toBe(4);
  });

  test('events follows a container from its creation to its end', async () => {
    const events = daemon.spawn(['events', '--format', 'json']);
    // The subscription is in place once anything arrives.
    const poke = setInterval(() => void run('namespaces', 'label', 'poke', `t=${Date.now()}`), 300);
    await events.prints('/namespaces/update');
    clearInterval(poke);

    await run('run', '--rm', 'busybox', 'ev1', 'true');
    await events.prints('/containers/delete');
    events.child.kill('SIGINT');

    const { code, stdout } = await events.done;
    // gantryd also delivers the exits of an earlier restart here.
    const seen = stdout
      .trim()
      .split('\n')
      .map((text) => JSON.parse(text))
      .filter(({ event }) => event.containerId === 'ev1' || event.id === 'ev1');
    const topics = seen.map(({ topic }) => topic);
    expect(code).toBe(0);
    expect(topics).toEqual([
      '/containers/create',
      '/tasks/create',
      '/tasks/start',
      '/tasks/exit',
      '/tasks/delete',
      '/containers/delete',
    ]);
    expect(seen.find(({ topic }) => topic === '/tasks/exit')?.event).toMatchObject({
      containerId: 'ev1',
      exitStatus: 0,
    });
    await run('namespaces', 'rm', 'poke');
  });

  test('plugins ls shows the snapshotters', async () => {
    const { stdout } = await run('plugins', 'ls', 'type==io.containerd.snapshotter.v1');

    expect(stdout).toMatch(/io\.containerd\.snapshotter\.v1 +overlayfs +\S+ +ok/);
  });

  test('what is missing here but exists in another namespace is pointed at', async () => {
    const image = await run('-n', 'elsewhere', 'run', 'busybox', 'x', 'true');
    await run('containers', 'create', 'busybox', 'here', 'true');
    const container = await run('-n', 'elsewhere', 'containers', 'info', 'here');

    expect(image.stderr).toBe('gantry: image "busybox" exists in namespace "default"; use -n default\n');
    expect(container).toMatchObject({
      code: 4,
      stderr: 'gantry: container "here" exists in namespace "default"; use -n default\n',
    });
    await run('containers', 'rm', 'here');
  });

  test('blobs and snapshots of another namespace are pointed at, whatever is asked of them', async () => {
    const digest = (await run('content', 'ls', '-q')).stdout.split('\n')[0] ?? '';
    const key = (await run('snapshots', 'ls', '-q')).stdout.split('\n')[0] ?? '';
    const commands = [
      ...[['info'], ['get'], ['rm']].map((verb) => ['content', ...verb, digest]),
      ['content', 'label', digest, 'a=b'],
      ...[['info'], ['usage'], ['mounts'], ['rm'], ['prepare', 'new'], ['view', 'new'], ['commit', 'new']].map(
        (verb) => ['snapshots', ...verb, key],
      ),
      ['snapshots', 'label', key, 'a=b'],
    ];

    for (const command of commands) {
      const what = command[0] === 'content' ? `blob "${digest}"` : `snapshot "${key}"`;
      expect(await run('-n', 'elsewhere', ...command)).toEqual({
        code: 4,
        stdout: '',
        stderr: `gantry: ${what} exists in namespace "default"; use -n default\n`,
      });
    }
    expect((await run('content', 'info', `sha256:${'0'.repeat(64)}`)).stderr).toBe(
      `gantry: blob "sha256:${'0'.repeat(64)}" in namespace "default": not found\n`,
    );
  });

  test('global options may stand after the command', async () => {
    expect((await run('containers', 'ls', '-q', '--namespace', 'empty')).stdout).toBe('');
    expect((await run('images', 'ls', '--address', '/nonexistent.sock')).stderr).toBe(
      'gantry: cannot reach gantryd at /nonexistent.sock: the socket does not exist; is gantryd running? (see --address)\n',
    );
  });

  test('completion offers commands, options and names', async () => {
    const complete = async (...words: string[]) =>
      (await run('__complete', '--', ...words)).stdout.split('\n').map((text) => text.split('\t')[0]);

    expect(await complete('ima')).toContain('images');
    expect(await complete('images', 'i')).toContain('import');
    expect(await complete('run', '--mem')).toContain('--memory');
    expect(await complete('run', '--rm', 'docker.io/library/b')).toContain('docker.io/library/busybox:latest');
    expect(await complete('-n', 'def')).toContain('default');
    expect(await complete('completion', '')).toEqual(['bash', 'zsh', 'fish', '']);
    expect(await complete('images', 'ls', '--format', 'j')).toEqual(['json', '']);
    for (const shell of ['bash', 'zsh', 'fish']) {
      expect((await run('completion', shell)).stdout).toContain('gantry __complete');
    }
    // Without -f fish mixes files with commands and names.
    expect((await run('completion', 'fish')).stdout).toContain('complete -c gantry -f ');
  });
});

testUnless(missingForCli())('gantry explains wrong usage and a missing daemon', async () => {
  const nobody = new Daemon();

  expect(await nobody.run('imagse')).toMatchObject({
    code: 2,
    stderr: expect.stringMatching(/Did you mean .*images/),
  });
  expect(await nobody.run('images', 'ls', '--format', 'xml')).toMatchObject({ code: 2 });
  expect(await nobody.run('images', 'ls')).toMatchObject({ code: 3, stderr: expect.stringContaining(nobody.address) });
  expect((await nobody.run('help', 'images', 'import')).stdout).toContain('--base-name');
  expect((await nobody.run('--version')).stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
  await nobody.stop();
});
