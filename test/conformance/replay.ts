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

/** Plays the cases that differ on a new peer until they do not; `theirs` gets the transcripts. */
export async function replayDifferences(
  cases: readonly Case[],
  theirs: Map<string, string>,
  isEqual: (name: string) => boolean,
  peer: {
    readonly client: ContainerdRelease;
    readonly files: Record<string, string>;
    readonly start: () => Promise<TestDaemon>;
  },
): Promise<void> {
  const different = cases.filter(({ name }) => !isEqual(name));
  if (different.length === 0) return;
  const daemon = await peer.start();
  try {
    const session = new Session(daemon, peer.client, peer.files);
    await session.quietly(['images', 'import', '$BUSYBOX']);
    for (const testCase of different) {
      for (let round = 0; round < REPLAYS_MAX && !isEqual(testCase.name); round += 1) {
        theirs.set(testCase.name, await session.play(testCase));
      }
    }
  } finally {
    await daemon.destroy();
  }
}
