// gantry images convert.

import { type Command, Option } from 'commander';
import { isAlreadyExists } from '../../proto/errors';
import { findImage, targetOf } from '../container/image';
import { usageError } from '../failure';
import { COMPRESSIONS, type Compression, convertImage } from '../image/convert';
import { withLease } from '../image/lease';
import { parsePlatform } from '../image/platform';
import { fullName } from '../image/reference';
import { line } from '../output';
import type { Session } from '../session';
import { type ProgressForm, progressOption, reporterFor } from '../transfer/report';
import { collect } from '../values';
import { action } from './shared';

interface ConvertFlags {
  readonly compression?: Compression;
  readonly oci?: boolean;
  readonly platform?: readonly string[];
  readonly progress: ProgressForm;
}

export function registerConvert(images: Command): void {
  images
    .command('convert <source> <name>')
    .description('make an image with its layers compressed otherwise, or with other media types')
    .addOption(new Option('--compression <kind>', 'compress layers by this').choices(COMPRESSIONS))
    .option('--oci', "OCI's media types in place of docker's")
    .option('--platform <platform>', 'manifest of an index to keep (repeatable; default: all)', collect)
    .addOption(progressOption())
    .addHelpText('after', '\nExample:\n  gantry images convert --compression zstd --oci app:1 app:1-zstd')
    .action(action(convert));
}

async function convert(session: Session, flags: ConvertFlags, ...[source, name]: [string, string]): Promise<void> {
  const { compression, oci = false } = flags;
  if (compression === undefined && !oci && flags.platform === undefined) {
    throw usageError('nothing to convert; give --compression, --oci or --platform');
  }
  const { images } = session.connection;
  const { labels, ...image } = await findImage(session, source);
  const platforms = (flags.platform ?? []).map(parsePlatform);
  const reporter = reporterFor(flags.progress);
  const digest = await withLease(session, async (lease) => {
    const target = await convertImage(session, targetOf({ ...image, labels }), {
      compression,
      oci,
      platforms,
      lease,
      reporter,
    });
    const { mediaType, digest: made, size, annotations } = target;
    const record = {
      name: fullName(name),
      labels,
      target: { mediaType, digest: made, size: BigInt(size), annotations },
    };
    await images.create({ image: record }, { lease }).catch(async (error: unknown) => {
      if (!isAlreadyExists(error)) throw error;
      await images.update({ image: record, updateMask: { paths: ['target'] } }, { lease });
    });
    return made;
  }).finally(() => reporter.end());
  line(`${fullName(name)} ${digest}`);
}
