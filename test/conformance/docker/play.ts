// Plays the docker cases on one host and prints the transcripts: for working on cases.
//
//   play.js gantryd|containerd [PATTERN]

import { DOCKER_CASES } from './cases';
import { startDockerHost } from './host';

async function main([kind = 'gantryd', pattern = '']: string[]): Promise<void> {
  const host = await startDockerHost(kind === 'containerd' ? 'containerd' : 'gantryd');
  try {
    for (const testCase of DOCKER_CASES.filter(({ name }) => name.includes(pattern))) {
      process.stdout.write(`## ${testCase.name}\n${await host.session.play(testCase)}\n\n`);
    }
    await host.dockerd.stop();
    process.stdout.write(`## leftovers\n${(await host.daemon.lastingLeftovers()).join('\n')}\n`);
  } finally {
    await host.destroy();
  }
}

main(process.argv.slice(2)).catch((error: unknown) => {
  process.stderr.write(`${error instanceof Error ? error.stack : error}\n`);
  process.exitCode = 1;
});
