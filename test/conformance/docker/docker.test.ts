// Debian's dockerd runs on gantryd and on Debian's containerd, and the same docker commands are played on both. What each
// prints and returns must be equal; differences.ts lists the few that are meant.

import { describeUnless, needsRoot } from '../../setup/needs';
import { expectedOf, playAll, replayDifferences } from '../replay';
import { DOCKER_CASES } from './cases';
import { DOCKER_DIFFERENCES } from './differences';
import { type DockerHost, startDockerHost } from './host';

const TIMEOUT_MS = 1_800_000;

describeUnless(needsRoot())('dockerd 20.10.24', () => {
  let peer: Map<string, string>;
  let ours: Map<string, string>;
  let leftovers: string[];
  const expected = (name: string) => expectedOf(name, peer.get(name)!, DOCKER_DIFFERENCES);

  beforeAll(async () => {
    const [containerd, gantryd] = await startBoth();
    try {
      [peer, ours] = await Promise.all([
        playAll(DOCKER_CASES, containerd.session),
        playAll(DOCKER_CASES, gantryd.session),
      ]);
      await gantryd.dockerd.stop();
      // dockerd leaves this one itself.
      leftovers = await gantryd.daemon.lastingLeftovers([`mount ${gantryd.dockerd.directory}/exec/netns/default`]);
    } finally {
      await Promise.all([containerd.destroy(), gantryd.destroy()]);
    }
    const isEqual = (name: string) => ours.get(name) === expected(name);
    await replayDifferences(DOCKER_CASES, peer, isEqual, () => startDockerHost('containerd'));
  }, TIMEOUT_MS);

  test.each(DOCKER_CASES.map(({ name }) => name))('%s', (name) => {
    expect(ours.get(name)).toBe(expected(name));
  });

  test('gantryd leaves no process, cgroup or mount behind', () => {
    expect(leftovers).toEqual([]);
  });
});

async function startBoth(): Promise<[DockerHost, DockerHost]> {
  const containerd = await startDockerHost('containerd');
  try {
    return [containerd, await startDockerHost('gantryd')];
  } catch (error) {
    await containerd.destroy();
    throw error;
  }
}
