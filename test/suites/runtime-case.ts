// What a case of the runtime's contract is given and what it gets back.

import type { Spec } from '../../runtime-native/spec';
import type { Mutable, TestBundle } from './runtime-bundle';

export interface RunResult {
  /** The message of a failed create; undefined when the container ran. */
  readonly error: string | undefined;
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RuntimeUnderTest {
  /** create, start, wait, delete. */
  run(options: { id: string; bundle: TestBundle; spec: Spec }): Promise<RunResult>;
}

/** Alters the usual configuration, and the bundle where need be. */
export type Change = (spec: Mutable<Spec>, bundle: TestBundle) => void;

export interface Tools {
  readonly run: (args: readonly string[], change?: Change) => Promise<RunResult>;
  readonly sh: (script: string, change?: Change) => Promise<RunResult>;
  readonly out: (script: string, change?: Change) => Promise<string>;
}
