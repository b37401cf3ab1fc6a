// How dockerd is set up, and the cases that are played on each: all on the usual ones, a choice on the others.

import type { Case } from '../session';
import { DOCKER_CASES } from './cases';
import { remappedCases } from './cases/remapped';
import type { DockerSetup } from './host';

export interface PlayedSetup extends DockerSetup {
  /** The test's name. */
  readonly name: string;
  readonly cases: readonly Case[];
}

const OVERLAY = ['--storage-driver', 'overlay2'];
const IMAGE_STORE = { features: { 'containerd-snapshotter': true } };
const REMAPPED = {
  args: [...OVERLAY, '--userns-remap', 'daemon:daemon'],
  etc: { subuid: 'daemon:300000:65536\n', subgid: 'daemon:400000:65536\n' },
  cases: [
    ...remappedCases,
    ...chosen(
      /^run: (output|errors|--name)|^life cycle: (create|the container)|^exec|^volumes|^images: commit|^build: B/,
    ),
  ],
};

function chosen(names: RegExp): readonly Case[] {
  return DOCKER_CASES.filter(({ name }) => names.test(name));
}

const USUAL: PlayedSetup = { name: 'dockerd 20.10.24', version: '20.10.24', args: OVERLAY, cases: DOCKER_CASES };
const WITH_IMAGE_STORE: PlayedSetup = {
  name: 'dockerd 26.1.5 with images in containerd',
  version: '26.1.5',
  args: [],
  config: IMAGE_STORE,
  cases: DOCKER_CASES,
};

/** On which all cases are played. */
export const COMPLETE_SETUPS: readonly PlayedSetup[] = [
  USUAL,
  { ...USUAL, name: 'dockerd 26.1.5', version: '26.1.5' },
  WITH_IMAGE_STORE,
];

export const SETUPS: readonly PlayedSetup[] = [
  ...COMPLETE_SETUPS,
  {
    ...USUAL,
    name: 'dockerd 20.10.24 with the driver vfs',
    args: ['--storage-driver', 'vfs'],
    cases: chosen(/^run: output|^life cycle: the container keeps|^images|^build: (the c|B)|^registry: [ps]/),
  },
  { ...USUAL, ...REMAPPED, name: 'dockerd 20.10.24 with --userns-remap' },
  { ...USUAL, ...REMAPPED, name: 'dockerd 26.1.5 with --userns-remap', version: '26.1.5' },
];

/** For `make test`: what is quick and tells most. */
export const SHORT_SETUPS: readonly PlayedSetup[] = [
  {
    ...USUAL,
    cases: [
      ...chosen(/^run: (output|errors|--name|--init|--pid|--priv)|^run -t|^exec: (output|the)|^attach: detach/),
      ...chosen(
        /^life cycle: (create|pause)|^logs: the driver json|^resources: update|^volumes: named|^images: commit/,
      ),
    ],
  },
  { ...WITH_IMAGE_STORE, cases: chosen(/^run: (output|errors)|^life cycle: create|^exec: output|^images: commit/) },
];
