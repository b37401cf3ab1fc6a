// Cases about registries: what ctr 2.x has the daemon pull, push and fetch, from and to each kind of registry. Each works in
// a namespace and a repository of its own.

import path from 'node:path';
import { sha256 } from '../../../proto/ids';
import { runCommand } from '../../setup/command';
import { MULTI } from '../registries';
import type { Case, Session, Step } from '../session';
import { collected, IMAGE, withInput } from './steps';

/** A ctr command in a namespace of its own. */
function within(name: string, ...args: readonly string[]): string[] {
  return ['-n', `$NS-${name}`, ...args];
}

/** What a registry or the way to it says, in one word; each daemon has wordings of its own. */
const FAILURES: NonNullable<Case['hide']> = [
  [/^.*(connection refused|ECONNREFUSED).*$/gm, 'refused'],
  [/^.*(x509|certificate is not trusted).*$/gm, 'not trusted'],
  [/^.*(authorization failed|401 Unauthorized).*$/gm, 'unauthorized'],
  [/^.*400 Bad Request.*(\n(unknown|errors):.*)*$/gm, 'bad request'],
  [/^.*failed to resolve image: .*: not found$/gm, 'not found'],
  [/^.*(parse "dummy:|is not well-formed).*$/gm, 'bad reference'],
];

const OBJECT = 'an object\n';
const OBJECT_DIGEST = sha256(OBJECT);
const TWO_PLATFORMS = ['--platform', 'linux/arm64', '--platform', 'linux/amd64'];
const PARTLY_THERE = ['--platform', 'linux/arm64', '--platform', 'linux/s390x'];

export const registryCases: Case[] = [
  {
    name: 'images push and pull: plain HTTP',
    steps: [
      ['images', 'tag', IMAGE, '$REGISTRY/$NS/busybox:1'],
      ['images', 'push', '--plain-http', '$REGISTRY/$NS/busybox:1'],
      ['images', 'push', '--plain-http', '$REGISTRY/$NS/busybox:1'],
      ['images', 'push', '--plain-http', '$REGISTRY/$NS/busybox:2', IMAGE],
      ['images', 'rm', '$REGISTRY/$NS/busybox:1'],
      within('pull', 'images', 'pull', '--plain-http', '$REGISTRY/$NS/busybox:1'),
      within('pull', 'images', 'pull', '--plain-http', '$REGISTRY/$NS/busybox:1'),
      within('pull', 'images', 'pull', '--plain-http', '--label', 'a=b', '$REGISTRY/$NS/busybox:2'),
      within('pull', 'images', 'ls'),
      within('pull', 'images', 'check'),
      within('pull', 'images', 'usage', '$REGISTRY/$NS/busybox:1'),
      within('pull', 'snapshots', 'ls'),
      within('pull', 'leases', 'ls'),
      collected(),
      within('pull', 'content', 'ls'),
      within('pull', 'content', 'active'),
      within('pull', 'run', '--rm', '$REGISTRY/$NS/busybox:1', 'pulled', 'echo', 'from a registry'),
    ],
  },
  {
    name: 'a container of a pulled image',
    steps: [
      within('pull', 'run', '-d', '$REGISTRY/$NS/busybox:1', 'pulled2', 'sleep', '1000'),
      within('pull', 'tasks', 'exec', '--exec-id', 'e', 'pulled2', 'echo', 'from an exec'),
      within('pull', 'tasks', 'ls', '-q'),
      within('pull', 'tasks', 'delete', '--force', 'pulled2'),
      within('pull', 'containers', 'rm', 'pulled2'),
    ],
  },
  {
    name: 'progress of transfers',
    steps: [
      pictured('images', 'push', '--plain-http', '$REGISTRY/$NS/progress:1', IMAGE),
      pictured(...within('progress', 'images', 'pull', '--plain-http', '$REGISTRY/$NS/progress:1')),
    ],
  },
  {
    name: 'images pull --hosts-dir',
    hide: FAILURES,
    steps: [
      ...['plain', 'mirrored', 'second'].flatMap((host) => [
        within(host, 'images', 'pull', '--hosts-dir', '$HOSTS', `${host}.test/$NS/busybox:1`),
        within(host, 'images', 'ls'),
        within(host, 'content', 'ls'),
      ]),
      within('plain', 'images', 'push', '--hosts-dir', '$HOSTS', 'plain.test/$NS/other:1', 'plain.test/$NS/busybox:1'),
      within(
        'plain',
        'images',
        'push',
        '--hosts-dir',
        '$HOSTS',
        'mirrored.test/$NS/other:1',
        'plain.test/$NS/busybox:1',
      ),
    ],
  },
  {
    name: 'images push and pull: TLS',
    hide: FAILURES,
    steps: [
      ['images', 'push', '--hosts-dir', '$HOSTS', 'trusted.test/$NS/busybox:1', IMAGE],
      within('tls', 'images', 'pull', '--hosts-dir', '$HOSTS', 'trusted.test/$NS/busybox:1'),
      within('tls', 'images', 'pull', '--hosts-dir', '$HOSTS', 'unverified.test/$NS/busybox:1'),
      within('tls', 'images', 'pull', '--hosts-dir', '$HOSTS', 'untrusted.test/$NS/busybox:1'),
      within('tls', 'images', 'pull', '--plain-http', '$SECURE/$NS/busybox:1'),
      within('tls', 'images', 'pull', '--skip-verify', '$SECURE/$NS/busybox:1'),
      within('tls', 'images', 'ls'),
    ],
  },
  {
    name: 'images push and pull: a registry with users',
    hide: FAILURES,
    steps: [
      ['images', 'push', '--plain-http', '$GUARDED/$NS/busybox:1', IMAGE],
      ['images', 'push', '--plain-http', '--user', 'me:wrong', '$GUARDED/$NS/busybox:1', IMAGE],
      ['images', 'push', '--plain-http', '--user', 'me:secret', '$GUARDED/$NS/busybox:1', IMAGE],
      within('users', 'images', 'pull', '--plain-http', '$GUARDED/$NS/busybox:1'),
      within('users', 'images', 'pull', '--plain-http', '--user', 'me:wrong', '$GUARDED/$NS/busybox:1'),
      within('users', 'images', 'pull', '--plain-http', '--user', 'nobody:secret', '$GUARDED/$NS/busybox:1'),
      within('users', 'images', 'pull', '--plain-http', '--user', 'me:secret', '$GUARDED/$NS/busybox:1'),
      within('users', 'images', 'ls'),
    ],
  },
  {
    name: 'images pull: what is not there',
    hide: FAILURES,
    steps: [
      within('none', 'images', 'pull', '--plain-http', '$REGISTRY/$NS/busybox:none'),
      within('none', 'images', 'pull', '--plain-http', '$REGISTRY/$NS/none:1'),
      within('none', 'images', 'pull', '--plain-http', `$REGISTRY/$NS/busybox@sha256:${'0'.repeat(64)}`),
      within('none', 'images', 'pull', '--hosts-dir', '$HOSTS', 'dead.test/$NS/busybox:1'),
      within('none', 'images', 'pull', '--plain-http', '127.0.0.1:1/$NS/busybox:1'),
      within('none', 'images', 'pull', 'nonsense:name/with spaces'),
      within('none', 'images', 'push', '--plain-http', '$REGISTRY/$NS/none:1'),
      within('none', 'images', 'push', '--plain-http', '127.0.0.1:1/$NS/none:1', 'test/none:1'),
      within('none', 'images', 'ls'),
      within('none', 'leases', 'ls'),
    ],
  },
  {
    name: 'images import, push and pull: platforms',
    steps: [
      within('multi', 'images', 'import', '--all-platforms', '--no-unpack', '$MULTI'),
      within('multi', 'images', 'ls'),
      within('multi', 'images', 'tag', MULTI, '$REGISTRY/$NS/multi:1'),
      within('multi', 'images', 'push', '--plain-http', '$REGISTRY/$NS/multi:1'),
      within('multi', 'images', 'push', '--plain-http', ...TWO_PLATFORMS, '$REGISTRY/$NS/multi:2', MULTI),
      ...[
        ['one', []],
        ['all', ['--all-platforms']],
        ['arm', ['--platform', 'linux/arm64']],
        ['two', TWO_PLATFORMS],
        ['skip', ['--skip-metadata']],
      ].flatMap(([name, flags]) => [
        within(`multi-${name}`, 'images', 'pull', '--plain-http', ...(flags as string[]), '$REGISTRY/$NS/multi:1'),
        within(`multi-${name}`, 'images', 'ls'),
        within(`multi-${name}`, 'images', 'check'),
        within(`multi-${name}`, 'content', 'ls'),
        within(`multi-${name}`, 'snapshots', 'ls'),
      ]),
      within('multi-none', 'images', 'pull', '--plain-http', '--platform', 'linux/s390x', '$REGISTRY/$NS/multi:1'),
      within('multi-none', 'images', 'pull', '--plain-http', '--all-platforms', '$REGISTRY/$NS/multi:2'),
      within('multi-none', 'images', 'import', '--platform', 'linux/arm64', '$MULTI'),
      within('multi-none', 'images', 'ls'),
    ],
  },
  {
    name: 'images push: one platform of two',
    steps: [
      within(
        'multi',
        'images',
        'push',
        '--plain-http',
        '--platform',
        'linux/arm64',
        '$REGISTRY/$NS/one-platform:1',
        MULTI,
      ),
    ],
  },
  {
    name: 'images push: some platforms that are not there',
    hide: FAILURES,
    steps: [
      within('multi', 'images', 'push', '--plain-http', ...PARTLY_THERE, '$REGISTRY/$NS/partly:1', MULTI),
      within('multi', 'images', 'pull', '--plain-http', '$REGISTRY/$NS/partly:1'),
    ],
  },
  {
    name: 'images export: to a file and to standard output, and back',
    steps: [
      within('out', 'images', 'import', '--all-platforms', '--no-unpack', '$MULTI'),
      exportedTo('$SCRATCH/multi.tar', 'out', '--all-platforms'),
      exportedTo('$SCRATCH/multi.tar', 'out', '--platform', 'linux/arm64'),
      exportedTo('$SCRATCH/multi.tar', 'out', '--platform', 'linux/s390x'),
      exportedTo('-', 'out', '--all-platforms'),
      within('out', 'images', 'export', '-', 'test/none:1'),
      within('out', 'images', 'export', '$SCRATCH/none/none.tar', MULTI),
    ],
  },
  {
    name: 'images import: flags of 2.x',
    // Labels come in any order.
    hide: [[/^.*│"containerd\.io\/.*\n/gm, '']],
    steps: [
      within('flags', 'images', 'import', '--local', '$BUSYBOX'),
      within('flags', 'images', 'import', '--local', '$ARCHIVE'),
      within('flags', 'images', 'import', '--label', 'a=b', '--index-name', 'test/whole:1', '$BUSYBOX'),
      within('flags', 'images', 'import', '--sync-fs', '$ARCHIVE'),
      within('flags', 'images', 'import', '--compress-blobs', '$ARCHIVE'),
      within('flags', 'images', 'import', '--discard-unpacked-layers', '$BUSYBOX'),
      within('flags', 'images', 'import', '--snapshotter', 'none', '$BUSYBOX'),
      within('flags', 'images', 'ls'),
      within('flags', 'images', 'usage', IMAGE),
      within('flags', 'images', 'usage', 'test/none:1'),
      within('flags', 'images', 'inspect', IMAGE),
      within('flags', 'images', 'inspect', '--content', IMAGE),
      within('flags', 'images', 'prune', '--all'),
      within('flags', 'images', 'ls', '-q'),
    ],
  },
  {
    name: 'images pull, push: --local',
    steps: [
      ['images', 'push', '--local', '--plain-http', '$REGISTRY/$NS/local:1', IMAGE],
      within('local', 'images', 'pull', '--local', '--plain-http', '$REGISTRY/$NS/local:1'),
      within('local', 'images', 'ls'),
      within('local', 'images', 'check'),
      collected(),
      within('local', 'content', 'ls'),
      within('local', 'snapshots', 'ls'),
    ],
  },
  {
    name: 'content fetch, fetch-object, fetch-blob, push-object',
    hide: FAILURES,
    steps: [
      within('fetch', 'content', 'fetch', '--plain-http', '$REGISTRY/$NS/busybox:1'),
      within('fetch', 'content', 'ls'),
      within('fetch', 'images', 'ls'),
      within(
        'fetch',
        'content',
        'fetch',
        '--plain-http',
        '--all-platforms',
        '--metadata-only',
        '$REGISTRY/$NS/multi:1',
      ),
      within('fetch', 'images', 'ls'),
      within('fetch', 'content', 'fetch-object', '--plain-http', '$REGISTRY/$NS/busybox:1'),
      within('fetch', 'content', 'fetch', '--plain-http', '$REGISTRY/$NS/none:1'),
      collected(),
      withInput(within('fetch', 'content', 'ingest', 'pushed'), OBJECT),
      within('fetch', 'content', 'push-object', '--plain-http', '$REGISTRY/$NS/object:1', OBJECT_DIGEST, 'text/plain'),
      within('fetch', 'content', 'fetch-blob', '--plain-http', '$REGISTRY/$NS/object:1', OBJECT_DIGEST),
      within('fetch', 'content', 'prune', 'references'),
    ],
  },
  {
    name: 'info, deprecations, leases with flags',
    hide: [[/"uuid": "[\w-]+"/, '"uuid": UUID']],
    steps: [
      ['info'],
      ['deprecations', 'list'],
      ['leases', 'create', '--id', 'l2', '--expires', '1h', 'a=b'],
      ['leases', 'ls'],
      ['leases', 'create', '--id', 'l2'],
      ['leases', 'rm', 'l2'],
      ['leases', 'rm', 'l2'],
    ],
  },
];

/** Exports and notes what the archive holds; `-` is the standard output. */
function exportedTo(target: string, namespace: string, ...flags: readonly string[]): Step {
  return async (session: Session) => {
    const file = session.fill(target === '-' ? '$SCRATCH/stdout.tar' : target);
    if (target === '-') {
      const command = session.command(within(namespace, 'images', 'export', ...flags, '-', MULTI));
      const { exitCode, stderr } = await runCommand(['sh', '-c', 'exec "$@" > "$0"', file, ...command]);
      session.note(`${path.basename(file)}: ${exitCode} ${stderr}`);
    } else {
      await session.run(within(namespace, 'images', 'export', ...flags, target, MULTI));
    }
    session.note((await runCommand(['tar', '-tf', file])).stdout.split('\n').sort().join(' '));
    session.note((await runCommand(['tar', '-xOf', file, 'index.json'])).stdout);
    session.note((await runCommand(['tar', '-xOf', file, 'manifest.json'])).stdout);
  };
}

/** What the pictures of a transfer tell sooner or later. The very last may be lost, so nothing that only these tell. */
const TOLD = ['pushing content', 'fetching image content', 'manifest ', 'config (', 'layer (', 'waiting', 'elapsed:'];

function pictured(...args: readonly string[]): Step {
  return async (session) => {
    const printed = await session.quietly(args);
    session.note(`${args.join(' ')}: ${TOLD.filter((words) => printed.includes(words)).join(', ')}`);
  };
}
