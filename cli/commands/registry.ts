// gantry registry: test.

import type { Command } from 'commander';
import type { RegistryFinding } from '../../proto/generated/gantry.admin.v1';
import { askGantryd } from '../admin';
import { CommandError } from '../failure';
import { withRegistry } from '../image/registry';
import { type ListOptions, printList } from '../output';
import type { Session } from '../session';
import { type RemoteFlags, remoteOf, remoteOptions } from './image-registry';
import { action, formatOption, group } from './shared';

const NS_PER_MS = 1e6;

export function registerRegistryTest(program: Command): void {
  const registry = group(program, 'registry', [], 'registries, as the daemon sees them');
  remoteOptions(formatOption(registry.command('test <host>')))
    .description('look step by step at what a pull from a registry needs: configuration, mirrors, DNS, TCP, TLS, login')
    .addHelpText('after', '\nExamples:\n  gantry registry test host:5000\n  gantry registry test --user me:secret host')
    .action(action(test));
}

async function test(session: Session, flags: ListOptions & RemoteFlags, given: string): Promise<void> {
  // A name of an image will do.
  const host = given.replace(/\/.*$/s, '');
  const findings: RegistryFinding[] = [];
  await askGantryd(session, async () =>
    withRegistry(session, await remoteOf(flags, `${host}/any`), async ({ resolver }) => {
      const found = session.connection.admin.testRegistry({ host, resolver }, { patient: true });
      for await (const finding of found) findings.push(finding);
    }),
  );
  printList(flags, {
    rows: findings,
    columns: [
      ['HOST', (finding) => finding.host],
      ['STEP', ({ step }) => step],
      ['RESULT', ({ isGood }) => (isGood ? 'ok' : 'failed')],
      ['TIME', ({ durationNs }) => `${(Number(durationNs) / NS_PER_MS).toFixed(1)} ms`],
      ['DETAIL', reasonOf],
    ],
    name: ({ step }) => step,
  });
  const verdict = verdictOn(host, findings);
  if (verdict !== undefined) throw new CommandError(verdict);
}

/** What fails, and what that means for a pull. */
function verdictOn(host: string, findings: readonly RegistryFinding[]): string | undefined {
  const bad = findings.filter(({ isGood }) => !isGood);
  if (bad.length === 0) return undefined;
  const hosts = new Set(findings.filter(({ step }) => step !== 'config').map((finding) => finding.host));
  const reasons = bad.map((finding) => `${finding.host}: ${reasonOf(finding)}`).join('; ');
  if (hosts.size <= bad.length) return `nothing can be pulled from "${host}": ${reasons}`;
  return `${bad.length} of ${hosts.size} hosts for "${host}" cannot be used, pulls take the others: ${reasons}`;
}

/** Without host and step, which are told beside it. */
function reasonOf({ host, step, detail }: RegistryFinding): string {
  const prefix = `registry "${host}": ${step}: `;
  return detail.startsWith(prefix) ? detail.slice(prefix.length) : detail;
}
