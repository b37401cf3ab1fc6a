// How dockerd is set up, and the cases that are played on each: all on the usual ones, a choice on the others.

import type { Case } from '../session';
import { DOCKER_CASES } from './cases';
import type { DockerSetup } from './host';

export interface PlayedSetup extends DockerSetup {
  /** The test's name. */
  readonly name: string;
  readonly cases: readonly Case[];
}

const OVERLAY = ['--storage-driver', 'overlay2'];
const IMAGE_STORE = { features: { 'containerd-snapshotter': true } };

export const SETUPS: readonly PlayedSetup[] = [
  { name: 'dockerd 20.10.24', version: '20.10.24', args: OVERLAY, cases: DOCKER_CASES },
  { name: 'dockerd 26.1.5', version: '26.1.5', args: OVERLAY, cases: DOCKER_CASES },
  {
    name: 'dockerd 26.1.5 with images in containerd',
    version: '26.1.5',
    args: [],
    config: IMAGE_STORE,
    cases: DOCKER_CASES,
  },
];
