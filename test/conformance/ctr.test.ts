// Debian's own ctr, in two releases, drives gantryd and the containerd of its release through the same cases. What each command
// prints and returns must be equal; differences.ts lists the few that are meant.

import { installedContainerd, unpackedContainerd } from '../setup/clients';
import { startContainerd, startGantryd } from '../setup/daemons';
import { ALL_CASES } from './cases';
import { ctrSession, imageFiles } from './ctr';
import { expectedOf, playAll, replayDifferences } from './replay';

const SETUP_TIMEOUT_MS = 600_000;
const CASES_TIMEOUT_MS = 1_200_000;

describe.each([
  ['1.6.20', installedContainerd],
  ['1.7.24', unpackedContainerd],
])('ctr %s', (_version, clientOf) => {
  let peer: Map<string, string>;
  let ours: Map<string, string>;
  let leftovers: string[];

  beforeAll(async () => {
    const client = await clientOf();
    const files = await imageFiles();
    const startPeer = async () => {
      const daemon = await startContainerd(client);
      return { session: ctrSession(daemon, client, files), destroy: () => daemon.destroy() };
    };
    const containerd = await startPeer();
    const ourDaemon = await startGantryd();
    try {
      const ourSession = ctrSession(ourDaemon, client, files);
      [peer, ours] = await Promise.all([playAll(ALL_CASES, containerd.session), playAll(ALL_CASES, ourSession)]);
      leftovers = await ourDaemon.lastingLeftovers();
    } finally {
      await Promise.all([containerd.destroy(), ourDaemon.destroy()]);
    }
    const isEqual = (name: string) => ours.get(name) === expectedOf(name, peer.get(name)!);
    await replayDifferences(ALL_CASES, peer, isEqual, startPeer);
  }, SETUP_TIMEOUT_MS + CASES_TIMEOUT_MS);

  test.each(ALL_CASES.map(({ name }) => name))('%s', (name) => {
    expect(ours.get(name)).toBe(expectedOf(name, peer.get(name)!));
  });

  test('gantryd leaves no process, cgroup or mount behind', () => {
    expect(leftovers).toEqual([]);
  });
});
