// The peer loses the output of a short `ctr run --rm` now and then on a busy machine, and its counters depend on what is
// cached. What differs is played on it again; ours is played once, and must be what the peer does at one time.

import { MEANT_DIFFERENCES, type MeantDifference } from './differences';
import type { Case, Session } from './session';

const REPLAYS_MAX = 3;

/** What gantryd should do, from what the peer did. */
export function expectedOf(
  name: string,
  theirs: string,
  differences: readonly MeantDifference[] = MEANT_DIFFERENCES,
): string {
  return differences
    .filter((difference) => difference.case === name)
    .reduce((transcript, { peer, gantryd }) => transcript.replace(peer, () => gantryd), theirs);
}

/** A daemon to play on; destroy() ends it. */
export interface Player {
  readonly session: Session;
  destroy(): Promise<void>;
}

/**
 * Plays all cases on a new peer until each was equal once; `theirs` gets the transcripts. All of them: one case sees what
 * those before it have left, and where one breaks, it leaves more.
 */
export async function replayDifferences(
  cases: readonly Case[],
  theirs: Map<string, string>,
  isEqual: (name: string) => boolean,
  startPeer: () => Promise<Player>,
): Promise<void> {
  for (let round = 0; round < REPLAYS_MAX && !cases.every(({ name }) => isEqual(name)); round += 1) {
    const peer = await startPeer();
    try {
      const transcripts = await playAll(cases, peer.session);
      for (const [name, transcript] of transcripts) {
        if (!isEqual(name)) theirs.set(name, transcript);
      }
    } finally {
      await peer.destroy();
    }
  }
}

/** The transcripts by the names of the cases. */
export async function playAll(cases: readonly Case[], session: Session): Promise<Map<string, string>> {
  const transcripts = new Map<string, string>();
  for (const testCase of cases) {
    transcripts.set(testCase.name, await session.play(testCase));
  }
  return transcripts;
}
