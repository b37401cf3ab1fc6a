// ctr of a containerd release as the tool of a session, and its cases played on both daemons.

import path from 'node:path';
import { busyboxDockerArchive, busyboxImage } from '../images/busybox';
import type { ContainerdRelease } from '../setup/clients';
import { startContainerd, startGantryd, type TestDaemon } from '../setup/daemons';
import type { MeantDifference } from './differences';
import type { Rule } from './normalise';
import { expectedOf, playAll, replayDifferences } from './replay';
import { type Case, Session } from './session';

const RULES_2: readonly Rule[] = [
  // The picture of a transfer is drawn again and again; how often, and how far the last one gets, changes with time.
  [/^[\s\S]*\belapsed: .*\n/, ''],
  // The drawing is still going on when a transfer without the daemon ends.
  [/^.*msg="active check failed" error="context canceled"\n?/gm, ''],
  // containerd 2.x leaves out the word for an error without a class, which clients of 1.x add.
  [/: unknown$/gm, ''],
];

/** Without it, containerd 2.1 unpacks by the default snapshotter only. */
const UNPACKS_2 = ['overlayfs', 'native']
  .flatMap((snapshotter) => [
    '[[plugins."io.containerd.transfer.v1.local".unpack_config]]',
    `platform = "linux/${process.arch === 'x64' ? 'amd64' : process.arch}"`,
    `snapshotter = "${snapshotter}"`,
  ])
  .join('\n');

/** Placeholders for the image files that cases use. */
export async function imageFiles(): Promise<Record<string, string>> {
  return { BUSYBOX: await busyboxImage(), ARCHIVE: await busyboxDockerArchive() };
}

/** `files` are placeholders for paths of the test, beside those of the daemon. */
export function ctrSession(daemon: TestDaemon, client: ContainerdRelease, files: Record<string, string>): Session {
  const command = (args: readonly string[]) => {
    const namespace = args[0] === '-n' ? [] : ['-n', daemon.namespace];
    return [client.ctr, '-a', daemon.address, ...namespace, ...args];
  };
  const places = { ROOT: daemon.root, STATE: daemon.state, ADDRESS: daemon.address, NS: daemon.namespace };
  const rules = isVersion2(client) ? RULES_2 : [];
  return new Session({ name: 'ctr', command, rules }, path.join(daemon.directory, 'scratch'), { ...files, ...places });
}

/** The daemon of the release. */
export function startPeer(release: ContainerdRelease): Promise<TestDaemon> {
  return startContainerd(release, { toml: isVersion2(release) ? UNPACKS_2 : '' });
}

interface Played {
  /** Transcripts by the names of the cases: what gantryd should do, from what the peer did, and what it did. */
  readonly expected: ReadonlyMap<string, string>;
  readonly ours: ReadonlyMap<string, string>;
  /** What gantryd has left on the machine. */
  readonly leftovers: readonly string[];
}

interface PlayOptions {
  readonly files: Record<string, string>;
  readonly differences: readonly MeantDifference[];
  /** What of a transcript is compared; all of it otherwise. */
  readonly view?: (transcript: string) => string;
}

/** Plays the cases on gantryd and on the daemon of the client's release. */
export async function playOnBoth(
  client: ContainerdRelease,
  cases: readonly Case[],
  { files, differences, view = (transcript) => transcript }: PlayOptions,
): Promise<Played> {
  const startPlayer = async () => {
    const daemon = await startPeer(client);
    return { session: ctrSession(daemon, client, files), destroy: () => daemon.destroy() };
  };
  const containerd = await startPlayer();
  const ourDaemon = await startGantryd();
  try {
    const ourSession = ctrSession(ourDaemon, client, files);
    const [peer, ours] = await Promise.all([playAll(cases, containerd.session), playAll(cases, ourSession)]);
    const leftovers = await ourDaemon.lastingLeftovers();
    const expected = (name: string) => view(expectedOf(name, peer.get(name)!, differences));
    const seen = new Map([...ours].map(([name, transcript]) => [name, view(transcript)]));
    await replayDifferences(cases, peer, (name) => seen.get(name) === expected(name), startPlayer);
    return { expected: new Map(cases.map(({ name }) => [name, expected(name)])), ours: seen, leftovers };
  } finally {
    await Promise.all([containerd.destroy(), ourDaemon.destroy()]);
  }
}

export function isVersion2({ version }: ContainerdRelease): boolean {
  return version.startsWith('2.');
}
