// All docker cases, in the order in which they are played.

import type { Case } from '../../session';
import { buildsCases } from './builds';
import { eventsCases } from './events';
import { execCases } from './exec';
import { imagesCases } from './images';
import { lifeCycleCases } from './life-cycle';
import { logsCases } from './logs';
import { networksCases } from './networks';
import { registryCases } from './registry';
import { resourcesCases } from './resources';
import { runCases } from './run';
import { securityCases } from './security';
import { volumesCases } from './volumes';

export const DOCKER_CASES: readonly Case[] = [
  ...runCases,
  ...securityCases,
  ...lifeCycleCases,
  ...execCases,
  ...logsCases,
  ...resourcesCases,
  ...volumesCases,
  ...networksCases,
  ...imagesCases,
  ...buildsCases,
  ...registryCases,
  ...eventsCases,
];
