// ctr 2.x of Debian testing drives gantryd and the containerd of its release: the cases of 1.x, and those with registries.
// The package gets a new version now and then. Of one that nobody has looked at yet, only the exit statuses are compared.

import { missingForRegistry } from '../integration/registry/server';
import { missingNewestContainerd, newestContainerd } from '../setup/clients';
import { describeUnless } from '../setup/needs';
import { CASES_2 } from './cases';
import { imageFiles, playOnBoth } from './ctr';
import { MEANT_DIFFERENCES, MEANT_DIFFERENCES_2 } from './differences';
import { CaseRegistries } from './registries';

const TIMEOUT_MS = 1_800_000;
/** Of which differences.ts tells the differences. */
const KNOWN = /^2\.1\./;

describeUnless(missingNewestContainerd() ?? missingForRegistry())('ctr 2.x', () => {
  let played: Awaited<ReturnType<typeof playOnBoth>>;

  beforeAll(async () => {
    const client = await newestContainerd();
    const isKnown = KNOWN.test(client.version);
    if (!isKnown) console.warn(`containerd ${client.version} is new here: only exit statuses are compared`);
    await using registries = await CaseRegistries.start();
    played = await playOnBoth(client, CASES_2, {
      files: { ...(await imageFiles()), ...registries.files },
      differences: [...MEANT_DIFFERENCES, ...MEANT_DIFFERENCES_2],
      ...(isKnown ? {} : { view: statuses }),
    });
  }, TIMEOUT_MS);

  test.each(CASES_2.map(({ name }) => name))('%s', (name) => {
    expect(played.ours.get(name)).toBe(played.expected.get(name));
  });

  test('gantryd leaves no process, cgroup or mount behind', () => {
    expect(played.leftovers).toEqual([]);
  });
});

/** Commands, and how each ended. */
function statuses(transcript: string): string {
  return transcript
    .split('\n')
    .filter((line) => /^[$=] /.test(line))
    .join('\n');
}
