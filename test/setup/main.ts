// `make test` runs this first: brings onto the machine what the tests need, so that test files find it ready and each
// keeps to its own time limit.

import { busyboxDockerArchive, busyboxImage } from '../images/busybox';
import { debianImage } from '../images/debian';
import { LAYERED, type LayeredName, layeredImage } from '../images/layered';
import {
  installedContainerd,
  newestContainerd,
  unpackedContainerd,
  unpackedCosign,
  unpackedCriu,
  unpackedDocker,
} from './clients';

async function main(): Promise<void> {
  await installedContainerd();
  await Promise.all([unpackedContainerd(), newestContainerd(), unpackedCriu(), unpackedCosign(), unpackedDocker()]);
  await Promise.all([busyboxImage(), debianImage()]);
  await busyboxDockerArchive();
  for (const name of Object.keys(LAYERED)) await layeredImage(name as LayeredName);
}

main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
});
