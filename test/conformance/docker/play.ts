// Plays the docker cases on one host and prints the transcripts: for working on cases.
//
//   play.js gantryd|containerd [SETUP [PATTERN]]    SETUP: the beginning of a name in setups.ts, without "dockerd "

import { startDockerHost } from './host';
import { SETUPS } from './setups';

async function main([kind = 'gantryd', setupName = '', pattern = '']: string[]): Promise<void> {
  const setup = SETUPS.find(({ name }) => name.startsWith(`dockerd ${setupName}`))!;
  const host = await startDockerHost(kind === 'containerd' ? 'containerd' : 'gantryd', setup);
  try {
    for (const testCase of setup.cases.filter(({ name }) => new RegExp(pattern).test(name))) {
      const start = Date.now();
      process.stdout.write(`## ${testCase.name}\n${await host.session.play(testCase)}\n\n`);
      process.stderr.write(`${((Date.now() - start) / 1000).toFixed(1)} s ${testCase.name}\n`);
    }
    await host.dockerd.stop();
    process.stdout.write(`## leftovers\n${(await host.daemon.lastingLeftovers(host.dockerd.leaves)).join('\n')}\n`);
  } finally {
    await host.destroy();
  }
}

main(process.argv.slice(2)).catch((error: unknown) => {
  process.stderr.write(`${error instanceof Error ? error.stack : error}\n`);
  process.exitCode = 1;
});
