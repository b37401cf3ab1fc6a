// Plays the cases against one daemon and prints or saves the transcripts: for working on cases, and for looking at one
// daemon alone.
//
//   play.js DAEMON CTR [PATTERN]    DAEMON: containerd | containerd-1.7 | containerd-2 | gantryd; CTR: 1.6.20 | 1.7.24 | 2

import { installedContainerd, newestContainerd, unpackedContainerd } from '../setup/clients';
import { startGantryd } from '../setup/daemons';
import { ALL_CASES, CASES_2 } from './cases';
import { ctrSession, imageFiles, isVersion2, startPeer } from './ctr';
import { CaseRegistries } from './registries';

const RELEASES = { '1.6.20': installedContainerd, '1.7.24': unpackedContainerd, '2': newestContainerd };
const PEERS: Record<string, () => ReturnType<typeof installedContainerd>> = {
  containerd: installedContainerd,
  'containerd-1.7': unpackedContainerd,
  'containerd-2': newestContainerd,
};

async function main([daemonName = 'gantryd', ctr = '1.6.20', pattern = '']: string[]): Promise<void> {
  const client = await RELEASES[ctr as keyof typeof RELEASES]();
  const peerOf = PEERS[daemonName];
  await using registries = isVersion2(client) ? await CaseRegistries.start() : undefined;
  const daemon = peerOf === undefined ? await startGantryd() : await startPeer(await peerOf());
  try {
    const session = ctrSession(daemon, client, { ...(await imageFiles()), ...registries?.files });
    // The image that most cases use.
    await session
      .quietly(['images', 'import', '$BUSYBOX'])
      .catch((error: Error) => process.stderr.write(`${error.message}\n`));
    const cases = isVersion2(client) ? CASES_2 : ALL_CASES;
    for (const testCase of cases.filter(({ name }) => name.includes(pattern))) {
      process.stdout.write(`## ${testCase.name}\n${await session.play(testCase)}\n\n`);
    }
    process.stdout.write(`## leftovers\n${daemon.leftovers().join('\n')}\n`);
  } finally {
    await daemon.destroy();
  }
}

main(process.argv.slice(2)).catch((error: unknown) => {
  process.stderr.write(`${error instanceof Error ? error.stack : error}\n`);
  process.exitCode = 1;
});
