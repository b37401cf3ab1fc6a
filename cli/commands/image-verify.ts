// gantry images verify: whether all that images consist of is here and as it should be, and repairing what is not.

import type { Command } from 'commander';
import type { Image } from '../../proto/generated/containerd.services.images.v1';
import { type ImageFinding, ImageState } from '../../proto/generated/gantry.admin.v1';
import { askGantryd } from '../admin';
import { findImage } from '../container/image';
import { CommandError, usageError } from '../failure';
import { parsePlatform } from '../image/platform';
import { fullName } from '../image/reference';
import { type Remote, withRegistry } from '../image/registry';
import { bytes, type ListOptions, note, printList } from '../output';
import type { Session } from '../session';
import { type ProgressForm, progressOption, reporterFor } from '../transfer/report';
import { withProgress } from '../transfer/transfer';
import { collect } from '../values';
import { type RemoteFlags, remoteOf, remoteOptions } from './image-registry';
import { action, forEach, formatOption } from './shared';

interface VerifyFlags extends ListOptions, RemoteFlags {
  readonly all?: boolean;
  readonly platform?: readonly string[];
  readonly allPlatforms?: boolean;
  readonly repair?: boolean;
  readonly from?: string;
  readonly progress: ProgressForm;
}

type Row = ImageFinding & { readonly image: string };

const STATES: Readonly<Record<number, string>> = {
  [ImageState.GOOD]: 'good',
  [ImageState.MISSING]: 'missing',
  [ImageState.CORRUPT]: 'corrupt',
  [ImageState.REPAIRED]: 'repaired',
};

export function registerVerify(images: Command): void {
  remoteOptions(formatOption(images.command('verify [names...]')))
    .description('read all blobs of images, compare size and digest, and look for their snapshots')
    .option('-a, --all', 'all images of the namespace')
    .option(
      '--platform <platform>',
      'platform that must be complete (repeatable; default: those that are here)',
      collect,
    )
    .option('--all-platforms', 'all platforms must be complete')
    .option('--repair', 'fetch what is missing or corrupt from the registry, and unpack again what is gone')
    .option('--from <name>', 'name at a registry to repair from (default: that of the image)')
    .addOption(progressOption())
    .addHelpText('after', '\nExamples:\n  gantry images verify app\n  gantry images verify --all --repair')
    .action(action(verify));
}

async function verify(session: Session, flags: VerifyFlags, names: string[]): Promise<void> {
  if ((flags.all === true) === names.length > 0) throw usageError('give the names of images, or --all');
  if (flags.from !== undefined && (flags.repair !== true || names.length !== 1)) {
    throw usageError('--from goes with --repair and one image');
  }
  if (flags.all === true && flags.user !== undefined) {
    throw usageError('--user would go to the registries of all images; name those that it is for');
  }
  const remote = await remoteOf(flags, '');
  const images =
    flags.all === true
      ? (await session.connection.images.list({})).images
      : await Promise.all(names.map((name) => findImage(session, name)));
  const rows: Row[] = [];
  const good = new Map<string, readonly ImageFinding[]>();
  const verifyNext = async (image: Image) => {
    const digest = image.target?.digest ?? '';
    // Several names of one image: its blobs are read once.
    const findings = good.get(digest) ?? (await verifyOne(session, { flags, remote, image }));
    if (!findings.some(isBad)) good.set(digest, findings);
    rows.push(...findings.map((finding) => ({ ...finding, image: image.name })));
  };
  const byName = new Map(images.map((image) => [image.name, image]));
  let failure: unknown;
  await forEach([...byName.keys()], (name) => verifyNext(byName.get(name) as Image)).catch((error: unknown) => {
    if (rows.length === 0) throw error;
    failure = error;
  });
  printList(flags, {
    rows,
    columns: [
      ['IMAGE', ({ image }) => image],
      ['KIND', ({ kind }) => kind],
      ['KEY', ({ key }) => key.slice(0, 19)],
      ['SIZE', ({ kind, size }) => (kind.startsWith('snapshots/') ? '-' : bytes(size))],
      ['STATE', ({ state }) => STATES[state] ?? `${state}`],
      ['DETAIL', ({ detail }) => detail || '-'],
    ],
    name: ({ key }) => key,
    json: (row) => ({ ...row, state: STATES[row.state] ?? row.state }),
  });
  conclude(flags, rows);
  if (failure !== undefined) throw failure;
}

async function verifyOne(
  session: Session,
  { flags, remote, image }: { readonly flags: VerifyFlags; readonly remote: Remote; readonly image: Image },
): Promise<ImageFinding[]> {
  const { admin } = session.connection;
  const { name } = image;
  const platforms = (flags.platform ?? []).map(parsePlatform);
  const request = { name, platforms, allPlatforms: flags.allPlatforms === true };
  const findings: ImageFinding[] = [];
  const reporter = reporterFor(flags.progress);
  const run = (more: Parameters<typeof admin.verifyImage>[0]) =>
    withProgress(session, { onProgress: (entry) => reporter.tell(entry) }, async (progressStream) => {
      const found = admin.verifyImage({ ...request, ...more, progressStream }, { patient: true });
      for await (const finding of found) findings.push(finding);
    });
  await askGantryd(session, async () => {
    if (flags.repair !== true) return run({});
    const reference = flags.from === undefined ? name : fullName(flags.from);
    return withRegistry(session, { ...remote, reference }, (source) => run({ repair: true, source }));
  }).finally(() => reporter.end());
  return findings;
}

function conclude({ repair }: VerifyFlags, rows: readonly Row[]): void {
  const bad = rows.filter(isBad);
  const images = new Set(bad.map(({ image }) => image));
  const repaired = rows.filter(({ state }) => state === ImageState.REPAIRED).length;
  if (repaired > 0) note(`${repaired} repaired`);
  if (bad.length === 0) return;
  const advice = repair === true ? 'see DETAIL' : '--repair fetches it again from the registry';
  throw new CommandError(`${bad.length} of ${rows.length} parts are damaged, of ${[...images].join(', ')}: ${advice}`);
}

function isBad({ state }: ImageFinding): boolean {
  return state === ImageState.MISSING || state === ImageState.CORRUPT;
}
