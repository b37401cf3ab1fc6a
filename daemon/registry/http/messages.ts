// What the daemon and the thread that speaks HTTP send each other.

import type { ErrorKind } from '../../../proto/errors';
import type { EngineJobName, EngineJobs } from './engine';
import type { AuthorizationRequest } from './exchange';
import type { FailureReason } from './failure';
import type { WatchedParts } from './watch';

export type ToEngine =
  | {
      readonly type: 'start';
      readonly id: number;
      readonly name: EngineJobName;
      readonly job: EngineJobs[EngineJobName]['job'];
      /** What of it shall be told as 'http'. */
      readonly watched: WatchedParts | undefined;
    }
  | { readonly type: 'cancel'; readonly id: number }
  /** Answer to 'authorize'. */
  | { readonly type: 'authorization'; readonly request: number; readonly value: string | undefined }
  | { readonly type: 'refused'; readonly request: number; readonly failure: Failure };

export type FromEngine =
  | { readonly type: 'done'; readonly id: number; readonly result: EngineJobs[EngineJobName]['result'] }
  | { readonly type: 'failed'; readonly id: number; readonly failure: Failure }
  | { readonly type: 'progress'; readonly id: number; readonly offsetBytes: number }
  | { readonly type: 'http'; readonly id: number; readonly text: string }
  | {
      readonly type: 'authorize';
      readonly id: number;
      readonly request: number;
      readonly wanted: AuthorizationRequest;
    };

/** Errors lose their class between threads. */
export interface Failure {
  readonly kind: ErrorKind | undefined;
  readonly message: string;
  readonly reason: FailureReason;
}
