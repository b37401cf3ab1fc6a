// All docker cases, in the order in which they are played.

import type { Case } from '../../session';
import { eventsCases } from './events';
import { execCases } from './exec';
import { imagesCases } from './images';
import { lifeCycleCases } from './life-cycle';
import { logsCases } from './logs';
import { networksCases } from './networks';
import { resourcesCases } from './resources';
import { runCases } from './run';
import { volumesCases } from './volumes';

export const DOCKER_CASES: readonly Case[] = [
  ...runCases,
  ...lifeCycleCases,
  ...execCases,
  ...logsCases,
  ...resourcesCases,
  ...volumesCases,
  ...networksCases,
  ...imagesCases,
  ...eventsCases,
];
