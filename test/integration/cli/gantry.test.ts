// The real gantry program against a real daemon. Needs root and what `make build` makes.

import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Archives, Daemon, makeArchives, reasonToSkip, tar } from './fixture';

const reason = reasonToSkip();
if (reason !== undefined) console.log(`skipped: ${reason}`);
const suite = reason === undefined ? describe : describe.skip;

jest.setTimeout(60_000);

suite('gantry', () => {
  const daemon = new Daemon();
  const run = (...args: string[]) => daemon.run(...args);
  let archives: Archives;

  beforeAll(async () => {
    archives = await makeArchives(join(daemon.directory, 'archives'));
    await daemon.start();
    const imported = await run('images', 'import', archives.oci);
    expect(imported).toMatchObject({ code: 0, stderr: '' });
  });

  afterAll(() => daemon.stop());

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

  describe('images', () => {
    test('import takes a docker archive, gzip and standard input, and --name', async () => {
      const docker = await run('images', 'import', archives.docker);
      const gzip = await run('images', 'import', '--name', 'zipped', archives.ociGzip);
      const piped = await daemon.pipe(readFileSync(archives.oci), 'images', 'import', '--name', 'piped:1', '-');

      expect(docker.stdout).toMatch(/^docker\.io\/library\/demo:v1 sha256:/);
      expect(gzip.stdout).toMatch(/^docker\.io\/library\/zipped:latest sha256:/);
      expect(piped.stdout).toMatch(/^docker\.io\/library\/piped:1 sha256:/);
      expect((await run('run', '--rm', 'demo:v1', 'from-docker', 'echo', 'works')).stdout).toBe('works\n');
    });

    test('import of the same archive again is quiet and changes nothing', async () => {
      const before = await run('images', 'ls', '--format', 'json', 'name==docker.io/library/busybox:latest');

      const again = await run('images', 'import', archives.oci);

      const after = await run('images', 'ls', '--format', 'json', 'name==docker.io/library/busybox:latest');
      expect(again.code).toBe(0);
      expect(JSON.parse(after.stdout)[0].target).toEqual(JSON.parse(before.stdout)[0].target);
    });

    test('tag, label, check and rm', async () => {
      expect((await run('images', 'tag', 'busybox', 'copy:1')).stdout).toBe('docker.io/library/copy:1\n');
      expect((await run('images', 'tag', 'busybox', 'copy:1')).code).toBe(5);
      expect((await run('images', 'tag', '--force', 'busybox', 'copy:1')).code).toBe(0);
      await run('images', 'label', 'copy:1', 'k=v');
      const list = await run('images', 'ls', '--format', 'json', 'name==docker.io/library/copy:1');
      expect(JSON.parse(list.stdout)[0].labels).toMatchObject({ k: 'v' });
      expect((await run('images', 'check')).stdout).toMatch(/copy:1 +complete +4\/4 +true/);
      expect((await run('images', 'rm', '--sync', 'copy:1')).code).toBe(0);
      expect((await run('images', 'ls', '-q')).stdout).not.toContain('copy');
    });

    test('export writes what import reads', async () => {
      const path = join(archives.directory, 'exported.tar');

      expect(await run('images', 'export', path, 'busybox')).toMatchObject({ code: 0, stderr: '' });
      const again = await run('-n', 'copies', 'images', 'import', path);

      expect(again).toMatchObject({
        code: 0,
        stdout: expect.stringMatching(/^docker.io\/library\/busybox:latest sha256:/),
      });
      expect((await run('-n', 'copies', 'run', '--rm', 'busybox', 'copy', 'echo', 'same')).stdout).toBe('same\n');
      await run('-n', 'copies', 'images', 'rm', 'busybox');
      expect((await run('images', 'export', '/nonexistent/file', 'busybox')).stderr).toContain(
        'no such file or directory',
      );
    });

    test('mount shows the files of an image and unmount takes them away', async () => {
      const target = join(daemon.directory, 'mounted');
      mkdirSync(target);

      expect(await run('images', 'mount', 'busybox', target)).toMatchObject({ code: 0, stdout: `${target}\n` });
      expect(readdirSync(target)).toContain('bin');
      expect(() => writeFileSync(join(target, 'x'), '')).toThrow(/EROFS/);
      expect((await run('images', 'unmount', target)).code).toBe(0);
      expect(readdirSync(target)).toEqual([]);
      expect((await run('images', 'unmount', target)).code).toBe(4);
    });

    test('import gives its lease back when it is interrupted', async () => {
      const { child, done } = daemon.spawn(['images', 'import', '-'], 'pipe');
      child.stdin?.on('error', () => undefined);
      child.stdin?.write(readFileSync(archives.oci).subarray(0, 100_000));
      while ((await run('leases', 'ls', '-q')).stdout === '') await new Promise((wait) => setTimeout(wait, 50));

      child.kill('SIGINT');

      expect((await done).code).toBe(130);
      expect((await run('leases', 'ls', '-q')).stdout).toBe('');
    });

    test('an image for another machine is not run', async () => {
      const { code, stderr } = await run('run', '--rm', '--platform', 'linux/s390x', 'busybox', 'p1', 'true');

      expect({ code, stderr }).toEqual({ code: 125, stderr: expect.stringContaining('not for linux/s390x') });
    });

    test('import refuses what is broken in one sentence and leaves no lease', async () => {
      const write = async (name: string, files: Parameters<typeof tar>[0]) => {
        const path = join(archives.directory, name);
        writeFileSync(path, await tar(files));
        return path;
      };
      const zeros = '0'.repeat(64);
      const cases = [
        [archives.truncated, 'damaged or cut short'],
        ['/etc/hostname', 'damaged or cut short'],
        ['/nonexistent', 'no such file'],
        [
          await write('digest.tar', [
            ['oci-layout', '{}'],
            [`blobs/sha256/${zeros}`, 'x'],
            ['index.json', '{"manifests":[]}'],
          ]),
          'unexpected commit digest',
        ],
        [
          await write('json.tar', [
            ['oci-layout', '{}'],
            ['index.json', '{nope'],
          ]),
          'index.json is not JSON',
        ],
        [
          await write('dots.tar', [
            ['../../etc/passwd', 'x'],
            ['manifest.json', '[{"Config":"../../etc/shadow","Layers":[]}]'],
          ]),
          'not in the archive',
        ],
        [await write('other.tar', [['file', 'x']]), 'neither an OCI image layout'],
      ] as const;

      for (const [path, words] of cases) {
        const { code, stderr } = await run('images', 'import', path);
        expect(code).not.toBe(0);
        expect(stderr).toContain(words);
        expect(stderr.trim().split('\n')).toHaveLength(1);
      }
      expect((await run('leases', 'ls', '-q')).stdout).toBe('');
    });
  });

  describe('run', () => {
    test('passes output, input and the exit status on', async () => {
      const out = await run('run', '--rm', 'busybox', 'r1', 'sh', '-c', 'echo out; echo err >&2; exit 7');
      const cat = await daemon.pipe('hello', 'run', '--rm', '-i', 'busybox', 'r2', 'cat');

      expect(out).toEqual({ code: 7, stdout: 'out\n', stderr: 'err\n' });
      expect(cat).toMatchObject({ code: 0, stdout: 'hello' });
    });

    test('moves a lot of data both ways', async () => {
      const size = 8 * 2 ** 20;

      const out = await run('run', '--rm', 'busybox', 'r3', 'head', '-c', `${size}`, '/dev/zero');
      const back = await daemon.pipe(Buffer.alloc(size), 'run', '--rm', '-i', 'busybox', 'r4', 'wc', '-c');

      expect(out.stdout).toHaveLength(size);
      expect(back.stdout.trim()).toBe(`${size}`);
    });

    test('follows docker in its exit codes when nothing could be run', async () => {
      const missing = await run('run', '--rm', 'busybox', 'r5', 'nosuchcommand');
      const directory = await run('run', '--rm', 'busybox', 'r5', '/etc');
      const image = await run('run', '--rm', 'nosuchimage', 'r5', 'true');
      const usage = await run('run', '--rm', '--cpus', 'x', 'busybox', 'r5', 'true');

      expect(missing.code).toBe(127);
      expect(directory.code).toBe(126);
      expect(image).toMatchObject({
        code: 125,
        stderr: 'gantry: image "nosuchimage" in namespace "default": not found\n',
      });
      expect(usage.code).toBe(125);
      expect((await run('containers', 'ls', '-q')).stdout).not.toContain('r5');
    });

    test('applies environment, user, directory, host name and mounts', async () => {
      const script = 'id -u; id -g; id -G; pwd; hostname; echo $A $FROM_IMAGE; cat /mnt/file; touch /mnt/x 2>&1';
      writeFileSync(join(archives.directory, 'file'), 'mounted\n');
      const options = [
        '--user',
        'alice',
        '--cwd',
        '/tmp',
        '--env',
        'A=1',
        '--mount',
        `src=${archives.directory},dst=/mnt,ro`,
      ];

      const { stdout } = await run('run', '--rm', ...options, 'busybox', 'r6', 'sh', '-c', script);

      expect(stdout.split('\n').slice(0, 7)).toEqual(['1000', '1000', '1000 50', '/tmp', 'r6', '1 yes', 'mounted']);
      expect(stdout).toContain('Read-only file system');
    });

    test('keeps its options from the Node that it runs on', async () => {
      const file = join(archives.directory, 'env');
      writeFileSync(file, 'A=from file\nNODE_OPTIONS=--no-such-option\n');

      const { code, stdout } = await run(
        'run',
        '--rm',
        '--env-file',
        file,
        'busybox',
        'r15',
        'sh',
        '-c',
        'echo $A $NODE_OPTIONS',
      );

      expect({ code, stdout }).toEqual({ code: 0, stdout: 'from file --no-such-option\n' });
    });

    test('keeps pipes for attach with -d and -i', async () => {
      expect((await run('run', '-d', '-i', 'busybox', 'r16', 'cat')).stdout).toBe('r16\n');

      const attached = daemon.spawn(['tasks', 'attach', 'r16'], 'pipe');
      attached.child.stdin?.write('over the pipe\n');
      await attached.prints('over the pipe');
      attached.child.stdin?.end();

      expect((await attached.done).code).toBe(0);
      expect((await run('containers', 'rm', 'r16')).code).toBe(0);
    });

    test('confines by default and less so when told', async () => {
      const status = (...options: string[]) =>
        run(
          'run',
          '--rm',
          ...options,
          'busybox',
          'r7',
          'sh',
          '-c',
          'grep -E "^(CapEff|NoNewPrivs|Seccomp):" /proc/self/status',
        );

      const usual = await status();
      const open = await status('--no-seccomp', '--cap-drop', 'all', '--new-privileges');

      expect(usual.stdout.replaceAll('\t', ' ')).toBe('CapEff: 00000000a80425fb\nNoNewPrivs: 1\nSeccomp: 2\n');
      expect(open.stdout.replaceAll('\t', ' ')).toBe('CapEff: 0000000000000000\nNoNewPrivs: 0\nSeccomp: 0\n');
      expect((await run('run', '--rm', '--read-only', 'busybox', 'r7', 'touch', '/x')).code).toBe(1);
    });

    test('limits memory, CPU and processes', async () => {
      const { stdout } = await run(
        'run',
        '-d',
        '--memory',
        '64m',
        '--cpus',
        '0.5',
        '--pids-limit',
        '20',
        'busybox',
        'r8',
        'sleep',
        '100',
      );

      expect(stdout).toBe('r8\n');
      expect((await run('tasks', 'metrics', 'r8')).stdout).toMatch(/r8 +\d+ ms .* 64\.0 MiB/);
      expect((await run('containers', 'rm', '--force', 'r8')).stdout).toBe('r8\n');
    });

    test('uses a directory as root with --rootfs', async () => {
      const root = join(daemon.directory, 'rootfs');
      execFileSync('sh', ['-c', `mkdir -p ${root}/bin && cp $(command -v busybox) ${root}/bin/sh`]);

      const { code, stdout } = await run(
        'run',
        '--rm',
        '--rootfs',
        root,
        'r9',
        '/bin/sh',
        '-c',
        'echo from a directory',
      );

      expect({ code, stdout }).toEqual({ code: 0, stdout: 'from a directory\n' });
    });

    test('stops on the first signal, kills on the second, removes in both cases', async () => {
      const trap = ['sh', '-c', 'trap "echo stopping; exit 3" TERM; echo up; while :; do sleep 0.1; done'];
      const polite = daemon.spawn(['run', '--rm', 'busybox', 'r10', ...trap]);
      await polite.prints('up');
      polite.child.kill('SIGTERM');
      const stubborn = daemon.spawn([
        'run',
        '--rm',
        'busybox',
        'r11',
        'sh',
        '-c',
        'trap "" INT TERM; echo up; exec sleep 1000',
      ]);
      await stubborn.prints('up');
      stubborn.child.kill('SIGINT');
      setTimeout(() => stubborn.child.kill('SIGINT'), 200);

      expect(await polite.done).toMatchObject({ code: 3, stdout: 'up\nstopping\n' });
      expect(await stubborn.done).toMatchObject({ code: 137 });
      expect((await run('containers', 'ls', '-q')).stdout).not.toMatch(/r1[01]/);
    });

    test('stays in front of its container while the daemon crashes and comes back', async () => {
      const script = 'for i in 1 2 3 4 5 6 7 8; do echo $i; sleep 0.5; done; exit 6';
      const { done, prints } = daemon.spawn(['run', '--rm', 'busybox', 'r17', 'sh', '-c', script]);
      await prints('2\n');
      await daemon.crash();
      await daemon.start();

      expect(await done).toMatchObject({ code: 6, stdout: '1\n2\n3\n4\n5\n6\n7\n8\n' });
      expect((await run('containers', 'ls', '-q')).stdout).not.toContain('r17');
    });

    test('stops the container when nobody reads its output any more', async () => {
      const { child, done, prints } = daemon.spawn(['run', '--rm', '--stop-timeout', '1s', 'busybox', 'r12', 'yes']);
      await prints('y\n');
      child.stdout?.destroy();

      expect((await done).code).toBeGreaterThan(128);
      expect((await run('containers', 'ls', '-q')).stdout).not.toContain('r12');
    });

    test('gives a terminal and takes it back', async () => {
      const { code, stdout } = await daemon.inTerminal('tty; exit 4\r', 'run', '--rm', '-it', 'busybox', 'r13', 'sh');

      expect(stdout).toContain('/dev/pts/0');
      expect(code).toBe(4);
      expect(await daemon.pipe('', 'run', '--rm', '-it', 'busybox', 'r13', 'sh')).toMatchObject({
        code: 125,
        stderr: expect.stringContaining('needs a terminal'),
      });
    });

    test('detaches by keys and comes back by attach', async () => {
      const first = await daemon.inTerminal(
        { prompt: '# ', input: 'X=42\r\x10\x11' },
        'run',
        '-it',
        'busybox',
        'r14',
        'sh',
      );
      const second = await daemon.inTerminal('echo X is $X; exit 6\r', 'tasks', 'attach', 'r14');

      expect(first).toMatchObject({ code: 0, stdout: expect.stringContaining('detached from "r14"') });
      expect(second).toMatchObject({ code: 6, stdout: expect.stringContaining('X is 42') });
      expect((await run('containers', 'rm', 'r14')).code).toBe(0);
    });

    test('leaves no pipes behind', () => {
      const directory = daemon.env['GANTRY_FIFO_DIR'] ?? '';

      expect(existsSync(directory) ? readdirSync(directory) : []).toEqual([]);
    });
  });

  test('logs prints, tails and follows what a detached container writes', async () => {
    const script = 'for i in 1 2 3; do echo line $i; sleep 0.2; done; exit 4';
    await run('run', '-d', 'busybox', 'l1', 'sh', '-c', script);

    const followed = await run('logs', '--follow', 'l1');

    expect(followed).toMatchObject({ code: 0, stdout: 'line 1\nline 2\nline 3\n' });
    expect((await run('logs', '--tail', '1', 'l1')).stdout).toBe('line 3\n');
    expect((await run('tasks', 'ls')).stdout).toMatch(/l1 +\d+ +stopped +4/);
    expect((await run('tasks', 'rm', 'l1')).code).toBe(4);
    expect((await run('logs', 'l1')).code).toBe(0);
    await run('containers', 'rm', 'l1');
    expect((await run('logs', 'l1')).code).toBe(4);
  });

  test('exec runs in a container that runs', async () => {
    await run('run', '-d', 'busybox', 'e1', 'sleep', '1000');

    expect(await run('exec', 'e1', 'sh', '-c', 'echo hi; exit 9')).toEqual({ code: 9, stdout: 'hi\n', stderr: '' });
    expect((await daemon.pipe('in', 'exec', '-i', 'e1', 'cat')).stdout).toBe('in');
    expect(
      (
        await run(
          'exec',
          '-u',
          'alice:staff',
          '-w',
          '/tmp',
          '-e',
          'A=b',
          'e1',
          'sh',
          '-c',
          'id -u; id -g; pwd; echo $A',
        )
      ).stdout,
    ).toBe('1000\n50\n/tmp\nb\n');
    expect((await run('exec', 'e1', 'nosuchcommand')).code).toBe(127);
    expect((await daemon.inTerminal('exit 2\r', 'exec', '-it', 'e1', 'sh')).code).toBe(2);
    const detached = await run('exec', '-d', 'e1', 'sleep', '1000');
    expect((await run('tasks', 'ps', 'e1')).stdout).toContain(detached.stdout.trim());
    await run('tasks', 'kill', '-s', 'KILL', 'e1');
    expect((await run('containers', 'rm', '--force', 'e1')).code).toBe(0);
    expect((await run('exec', 'e1', 'true')).code).toBe(125);
  });

  test('containers and tasks: create, start, info, label, pause, resume, kill, rm', async () => {
    expect((await run('containers', 'create', '-l', 'app=web', 'busybox', 'c1', 'sleep', '1000')).stdout).toBe('c1\n');
    const info = JSON.parse((await run('containers', 'info', 'c1')).stdout);
    expect(info).toMatchObject({ id: 'c1', snapshotKey: 'c1', labels: { app: 'web', kept: 'yes' } });
    expect(info.labels).not.toHaveProperty('containerd.io/x');
    expect(info.spec.process.args).toEqual(['sleep', '1000']);
    expect((await run('tasks', 'start', '-d', 'c1')).code).toBe(0);
    await run('containers', 'label', 'c1', 'b=c', 'app=');
    expect((await run('containers', 'ls', '-q', 'labels.b==c')).stdout).toBe('c1\n');
    await run('tasks', 'pause', 'c1');
    expect((await run('tasks', 'ls')).stdout).toMatch(/c1 +\d+ +paused/);
    await run('tasks', 'resume', 'c1');
    expect((await run('containers', 'rm', 'c1')).code).toBe(5);
    expect((await run('tasks', 'rm', '-f', 'c1')).code).toBe(0);
    expect((await run('containers', 'rm', 'c1')).code).toBe(0);
    expect((await run('containers', 'info', 'c1')).code).toBe(4);
  });

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
    for (const shell of ['bash', 'zsh', 'fish']) {
      expect((await run('completion', shell)).stdout).toContain('gantry __complete');
    }
  });
});

test('gantry explains wrong usage and a missing daemon', async () => {
  if (reason?.startsWith('dist/bin/gantry ')) {
    console.log(`skipped: ${reason}`);
    return;
  }
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
