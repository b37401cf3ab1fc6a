// `make test` runs this first: brings onto the machine what the tests need, so that test files find it ready and each
// keeps to its own time limit.

import { busyboxImage } from '../images/busybox';
import { debianImage } from '../images/debian';
import { installedContainerd, unpackedContainerd, unpackedCriu } from './clients';

async function main(): Promise<void> {
  await installedContainerd();
  await Promise.all([unpackedContainerd(), unpackedCriu(), busyboxImage(), debianImage()]);
}

main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
});
