// Plays the cases against one daemon and prints or saves the transcripts: for working on cases, and for looking at one
// daemon alone.
//
//   play.js DAEMON CTR [PATTERN]    DAEMON: containerd | containerd-1.7 | gantryd; CTR: 1.6.20 | 1.7.24

import { installedContainerd, unpackedContainerd } from '../setup/clients';
import { startContainerd, startGantryd } from '../setup/daemons';
import { ALL_CASES } from './cases';
import { ctrSession, imageFiles } from './ctr';

async function main([daemonName = 'gantryd', ctr = '1.6.20', pattern = '']: string[]): Promise<void> {
  const client = ctr === '1.7.24' ? await unpackedContainerd() : await installedContainerd();
  const peer = daemonName === 'containerd-1.7' ? await unpackedContainerd() : await installedContainerd();
  const daemon = daemonName === 'gantryd' ? await startGantryd() : await startContainerd(peer);
  try {
    const session = ctrSession(daemon, client, await imageFiles());
    // The image that most cases use.
    await session
      .quietly(['images', 'import', '$BUSYBOX'])
      .catch((error: Error) => process.stderr.write(`${error.message}\n`));
    for (const testCase of ALL_CASES.filter(({ name }) => name.includes(pattern))) {
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
