// All cases, in the order in which they are played: the image that later ones use is imported by the first image case.

import type { Case } from '../session';
import { contentCases } from './content';
import { eventCases } from './events';
import { imageCases } from './images';
import { registryCases } from './registry';
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

/** containerd 2.1 often ends a shim before it has told of the deletion. */
const LOST_EVENTS = ['events of a task', 'events with a filter'];

/** For ctr 2.x; the last ones need registries. */
export const CASES_2: readonly Case[] = [
  ...ALL_CASES.filter(({ name }) => !LOST_EVENTS.includes(name)),
  ...registryCases,
];
