// Debian's dockerd runs on gantryd and on Debian's containerd, and the same docker commands are played on both. What each
// prints and returns must be equal; differences.ts lists the few that are meant.

import { describeUnless, needsRoot } from '../../setup/needs';
import { expectedOf, playAll, replayDifferences } from '../replay';
import { DOCKER_DIFFERENCES } from './differences';
import { type DockerHost, type DockerSetup, startDockerHost } from './host';
import { SETUPS, SHORT_SETUPS } from './setups';

const TIMEOUT_MS = 1_800_000;
const IS_SHORT = process.env['GANTRY_TEST_SHORT'] === '1';

describeUnless(needsRoot()).each(IS_SHORT ? SHORT_SETUPS : SETUPS)('$name', (setup) => {
  const { cases } = setup;
  let peer: Map<string, string>;
  let ours: Map<string, string>;
  let leftovers: string[];
  const expected = (name: string) => expectedOf(name, peer.get(name)!, DOCKER_DIFFERENCES);

  beforeAll(async () => {
    const [containerd, gantryd] = (await startBoth(setup)) as [DockerHost, DockerHost];
    try {
      [peer, ours] = await Promise.all([playAll(cases, containerd.session), playAll(cases, gantryd.session)]);
      await gantryd.dockerd.stop();
      leftovers = await gantryd.daemon.lastingLeftovers(gantryd.dockerd.leaves);
    } finally {
      await Promise.all([containerd.destroy(), gantryd.destroy()]);
    }
    const isEqual = (name: string) => ours.get(name) === expected(name);
    await replayDifferences(cases, peer, isEqual, () => startDockerHost('containerd', setup));
  }, TIMEOUT_MS);

  test.each(cases.map(({ name }) => name))('%s', (name) => {
    expect(ours.get(name)).toBe(expected(name));
    expect(ours.get(name)).not.toContain('# step failed');
  });

  test('gantryd leaves no process, cgroup or mount behind', () => {
    expect(leftovers).toEqual([]);
  });
});

async function startBoth(setup: DockerSetup): Promise<DockerHost[]> {
  const kinds = ['containerd', 'gantryd'] as const;
  const hosts = await Promise.allSettled(kinds.map((kind) => startDockerHost(kind, setup)));
  const started = hosts.flatMap((host) => (host.status === 'fulfilled' ? [host.value] : []));
  const failed = hosts.find((host) => host.status === 'rejected');
  if (failed === undefined) return started;
  await Promise.all(started.map((host) => host.destroy()));
  throw failed.reason;
}
