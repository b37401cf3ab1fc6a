// All cases, in the order in which they are played: the image that later ones use is imported by the first image case.

import type { Case } from '../session';
import { contentCases } from './content';
import { eventCases } from './events';
import { imageCases } from './images';
import { runCases } from './run';
import { serverCases } from './server';
import { snapshotCases } from './snapshots';
import { taskCases } from './tasks';
import { transferCases } from './transfer';

export const ALL_CASES: readonly Case[] = [
  ...serverCases,
  ...contentCases,
  ...imageCases,
  ...transferCases,
  ...snapshotCases,
  ...runCases,
  ...taskCases,
  ...eventCases,
];
