// gantry images import, export: images as archives.

import { once } from 'node:events';
import { open, rm } from 'node:fs/promises';
import { finished } from 'node:stream/promises';
import type { Command } from 'commander';
import { namespaceDefaults } from '../container/create';
import { findImage } from '../container/image';
import { usageError } from '../failure';
import { exportArchive } from '../image/export';
import { importArchive } from '../image/import';
import { withLease } from '../image/lease';
import { hostPlatform, parsePlatform } from '../image/platform';
import { line } from '../output';
import type { Session } from '../session';
import { type ProgressForm, progressOption, reporterFor } from '../transfer/report';
import { collect, parseLabels } from '../values';
import { action } from './shared';

interface ImportFlags {
  readonly name?: string;
  readonly baseName?: string;
  readonly platform?: string;
  readonly label?: readonly string[];
  readonly snapshotter?: string;
  readonly unpack: boolean;
  readonly compress?: boolean;
  readonly progress: ProgressForm;
}

interface ExportFlags {
  readonly platform?: readonly string[];
  readonly allPlatforms?: boolean;
  readonly skipManifestJson?: boolean;
  readonly skipNonDistributable?: boolean;
  readonly progress: ProgressForm;
}

export function registerArchives(images: Command): void {
  images
    .command('import <file>')
    .description('import an archive: OCI image layout or docker save, plain, gzip or zstd; - reads standard input')
    .option('--name <name>', 'name of the image, instead of the one in the archive')
    .option('--base-name <name>', 'put before tags that are no full names (default: import-DATE)')
    .option('--platform <platform>', 'platform to unpack (default: this machine)')
    .option('-l, --label <key=value>', 'label of the image (repeatable)', collect)
    .option('--snapshotter <name>', 'snapshotter to unpack to')
    .option('--no-unpack', 'leave the layers packed')
    .option('--compress', 'compress plain layers of a docker archive')
    .addOption(progressOption())
    .addHelpText('after', '\nExamples:\n  gantry images import app.tar.gz\n  docker save app | gantry images import -')
    .action(action(importFile));
  images
    .command('export <file> <names...>')
    .description('write images as one archive, for docker load too; - writes to standard output')
    .option('--platform <platform>', 'platform to take of an index (repeatable; default: this machine)', collect)
    .option('--all-platforms', 'take all platforms, which must be here')
    .option('--skip-manifest-json', 'leave out what docker load needs')
    .option('--skip-non-distributable', 'leave out layers that may not be passed on')
    .addOption(progressOption())
    .addHelpText('after', '\nExample:\n  gantry images export app.tar app:1 app:2')
    .action(action(exportFile));
}

async function importFile(session: Session, flags: ImportFlags, file: string): Promise<void> {
  if (file === '-' && process.stdin.isTTY) throw usageError('standard input is a terminal; give a file or pipe one in');
  // Opened before anything else, so that a wrong name is found before the daemon is asked for anything.
  const handle = file === '-' ? undefined : await open(file);
  const snapshotter = flags.unpack ? (flags.snapshotter ?? (await namespaceDefaults(session)).snapshotter) : undefined;
  const reporter = reporterFor(flags.progress);
  const images = await importArchive(session, handle ?? process.stdin, {
    name: flags.name,
    baseName: flags.baseName ?? `import-${new Date().toISOString().slice(0, 10)}`,
    labels: parseLabels(flags.label ?? []),
    platform: flags.platform === undefined ? hostPlatform() : parsePlatform(flags.platform),
    snapshotter,
    compress: flags.compress === true,
    reporter,
  }).finally(async () => {
    reporter.end();
    await handle?.close();
  });
  for (const { name, digest } of images) line(`${name} ${digest}`);
}

async function exportFile(session: Session, flags: ExportFlags, ...[file, names]: [string, string[]]): Promise<void> {
  if (file === '-' && process.stdout.isTTY) throw usageError('standard output is a terminal; give a file or pipe it');
  const platforms = (flags.platform ?? []).map(parsePlatform);
  if (platforms.length > 0 && flags.allPlatforms === true) {
    throw usageError('--platform and --all-platforms exclude each other');
  }
  const images = await Promise.all(names.map((name) => findImage(session, name)));
  const output = file === '-' ? process.stdout : (await open(file, 'w')).createWriteStream();
  const reporter = reporterFor(flags.progress);
  try {
    await withLease(session, async (lease) => {
      const pieces = exportArchive(session, {
        names: images.map(({ name }) => name),
        platforms,
        allPlatforms: flags.allPlatforms === true,
        skipDockerManifest: flags.skipManifestJson === true,
        skipNonDistributable: flags.skipNonDistributable === true,
        lease,
        reporter,
      });
      for await (const piece of pieces) if (!output.write(piece)) await once(output, 'drain');
    });
    if (file !== '-') await finished(output.end());
  } catch (error) {
    // Half an archive looks like a whole one to those who only see its name.
    if (file !== '-') await rm(file, { force: true });
    throw error;
  } finally {
    reporter.end();
  }
}
