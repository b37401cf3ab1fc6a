// What tests need of the machine. Where it is missing they are skipped and say why; with GANTRY_TEST_ALL=1, which
// `make test` sets after it has brought everything, they fail instead.

import { existsSync } from 'node:fs';

/** Why what only root may do cannot be tested; undefined for root. */
export function needsRoot(): string | undefined {
  return process.getuid?.() === 0 ? undefined : 'needs root';
}

/** @param source what brings the file: `make build`, or a Debian package */
export function needsFile(path: string, source: string): string | undefined {
  return existsSync(path) ? undefined : `needs ${path} (${source})`;
}

/** describe(), or describe.skip() when something is missing. @throws Error with GANTRY_TEST_ALL=1 */
export function describeUnless(missing: string | undefined): jest.Describe {
  return isMissing(missing) ? describe.skip : describe;
}

/** As describeUnless(), for one test. */
export function testUnless(missing: string | undefined): jest.It {
  return isMissing(missing) ? test.skip : test;
}

function isMissing(missing: string | undefined): boolean {
  if (missing === undefined) return false;
  if (process.env['GANTRY_TEST_ALL'] === '1') throw new Error(`tests would be skipped: ${missing}`);
  console.warn(`skipped: ${missing}`);
  return true;
}

/**
 * For files that run cases on somebody else's program alone, which show that the cases are right: Debian's runc and its
 * shim fail now and then on a busy machine. Ours is never tried twice.
 */
export function retryPeer(): void {
  jest.retryTimes(2, { logErrorsBeforeRetry: true });
}
