// Where gantryd deliberately answers otherwise than containerd 1.6.20, and why. Keep it tiny: every row is a promise broken
// on purpose.

export interface MeantDifference {
  readonly case: string;
  readonly reason: string;
  /** What containerd's transcript says and what ours says in its place. */
  readonly peer: string | RegExp;
  readonly gantryd: string;
}

export const MEANT_DIFFERENCES: readonly MeantDifference[] = [];
