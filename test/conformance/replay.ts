// The peer loses the output of a short `ctr run --rm` now and then on a busy machine, and its counters depend on what is
// cached. What differs is played on it again; ours is played once, and must be what the peer does at one time.

import type { ContainerdRelease } from '../setup/clients';
import type { TestDaemon } from '../setup/daemons';
import { MEANT_DIFFERENCES } from './differences';
import { type Case, Session } from './session';

const REPLAYS_MAX = 4;

/** What gantryd should do, from what the peer did. */
export function expectedOf(name: string, theirs: string): string {
  return MEANT_DIFFERENCES.filter((difference) => difference.case === name).reduce(
    (transcript, { peer, gantryd }) => transcript.replace(peer, () => gantryd),
    theirs,
  );
}

interface Peer {
  readonly client: ContainerdRelease;
  readonly files: Record<string, string>;
  readonly start: () => Promise<TestDaemon>;
}

/** Plays the cases that differ on new peers until they do not; `theirs` gets the transcripts. */
export async function replayDifferences(
  cases: readonly Case[],
  theirs: Map<string, string>,
  isEqual: (name: string) => boolean,
  peer: Peer,
): Promise<void> {
  for (const testCase of cases) {
    for (let round = 0; round < REPLAYS_MAX && !isEqual(testCase.name); round += 1) {
      theirs.set(testCase.name, await playAlone(testCase, peer));
    }
  }
}

/** A case that breaks leaves containers behind, which the next one would list: each has a daemon of its own. */
async function playAlone(testCase: Case, { client, files, start }: Peer): Promise<string> {
  const daemon = await start();
  try {
    const session = new Session(daemon, client, files);
    await session.quietly(['images', 'import', '$BUSYBOX']);
    return await session.play(testCase);
  } finally {
    await daemon.destroy();
  }
}
