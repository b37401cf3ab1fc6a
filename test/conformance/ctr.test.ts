// Debian's own ctr, in two releases, drives gantryd and the containerd of its release through the same cases. What each command
// prints and returns must be equal; differences.ts lists the few that are meant.

import { installedContainerd, unpackedContainerd } from '../setup/clients';
import { ALL_CASES } from './cases';
import { imageFiles, playOnBoth } from './ctr';
import { MEANT_DIFFERENCES, MEANT_DIFFERENCES_1 } from './differences';

const SETUP_TIMEOUT_MS = 600_000;
const CASES_TIMEOUT_MS = 1_200_000;

describe.each([
  ['1.6.20', installedContainerd],
  ['1.7.24', unpackedContainerd],
])('ctr %s', (_version, clientOf) => {
  let played: Awaited<ReturnType<typeof playOnBoth>>;

  beforeAll(async () => {
    const client = await clientOf();
    const differences = [...MEANT_DIFFERENCES, ...MEANT_DIFFERENCES_1];
    played = await playOnBoth(client, ALL_CASES, { files: await imageFiles(), differences });
  }, SETUP_TIMEOUT_MS + CASES_TIMEOUT_MS);

  test.each(ALL_CASES.map(({ name }) => name))('%s', (name) => {
    expect(played.ours.get(name)).toBe(played.expected.get(name));
  });

  test('gantryd leaves no process, cgroup or mount behind', () => {
    expect(played.leftovers).toEqual([]);
  });
});
