// gantry images: ls, rm, tag, label, check, unpack; from other files pull, push, import, export, inspect, history, prune,
// convert, mount, unmount, verify.

import type { Command } from 'commander';
import { isAlreadyExists, isNotFound, messageOf } from '../../proto/errors';
import type { Image } from '../../proto/generated/containerd.services.images.v1';
import { namespaceDefaults } from '../container/create';
import { findImage, findManifest, targetOf } from '../container/image';
import { isIndex, type OciDescriptor, readDocument } from '../image/documents';
import { withLease } from '../image/lease';
import { hostPlatform, parsePlatform, platformText } from '../image/platform';
import { fullName } from '../image/reference';
import { chainIds, diffIdsOf, unpack } from '../image/unpack';
import { age, bytes, type ListOptions, labelText, line, note, printList } from '../output';
import { orElsewhere, type Session } from '../session';
import { type ProgressForm, progressOption, reporterFor } from '../transfer/report';
import { parseLabels } from '../values';
import { registerArchives } from './image-archives';
import { registerConvert } from './image-convert';
import { registerDetails } from './image-details';
import { registerImageFiles } from './image-files';
import { registerRegistry } from './image-registry';
import { registerVerify } from './image-verify';
import { action, forEach, group, listOptions } from './shared';

export function registerImages(program: Command): void {
  const images = group(program, 'images', ['image', 'i'], 'images: names for content');
  listOptions(images.command('ls [filters...]').alias('list').description('list images'))
    .addHelpText('after', "\nExample:\n  gantry images ls 'name~=busybox'")
    .action(action(list));
  images
    .command('rm <names...>')
    .aliases(['remove', 'delete', 'del'])
    .description('remove image names; content that nothing else needs is collected')
    .option('--sync', 'wait until the content is collected')
    .action(action(remove));
  images
    .command('tag <source> <names...>')
    .description('give an image further names')
    .option('-f, --force', 'replace a name that is in use')
    .action(action(tag));
  images.command('label <name> <labels...>').description('set labels; KEY= removes one').action(action(label));
  listOptions(images.command('check [filters...]').description('check that content and snapshots are complete'))
    .option('--snapshotter <name>', 'snapshotter to look in')
    .option('--platform <platform>', 'platform (default: this machine)')
    .action(action(check));
  images
    .command('unpack <name>')
    .description('make the snapshots of an image')
    .option('--snapshotter <name>', 'snapshotter to unpack to')
    .option('--platform <platform>', 'platform (default: this machine)')
    .addOption(progressOption())
    .action(action(unpackOne));
  registerRegistry(images);
  registerArchives(images);
  registerDetails(images);
  registerConvert(images);
  registerImageFiles(images);
  registerVerify(images);
}

async function list(session: Session, options: ListOptions, filters: string[]): Promise<void> {
  const { images } = await session.connection.images.list({ filters });
  const details = new Map<string, Details>();
  if (options.quiet !== true) {
    await Promise.all(images.map(async (image) => details.set(image.name, await detailsOf(session, image))));
  }
  printList(options, {
    rows: images,
    columns: [
      ['NAME', ({ name }) => name],
      ['DIGEST', ({ target }) => (target?.digest ?? '').slice(0, 19)],
      ['SIZE', ({ name }) => details.get(name)?.size ?? '-'],
      ['PLATFORMS', ({ name }) => details.get(name)?.platforms.join(',') || '-'],
      ['CREATED', ({ createdAt }) => age(createdAt)],
      ['LABELS', ({ labels }) => labelText(labels)],
    ],
    name: ({ name }) => name,
    json: (image) => ({ ...image, platforms: details.get(image.name)?.platforms ?? [] }),
  });
}

interface Details {
  readonly size: string;
  readonly platforms: readonly string[];
}

/** Size for this machine's platform and all platforms; "-" where the content is not complete. */
async function detailsOf(session: Session, image: Image): Promise<Details> {
  try {
    const document = await readDocument(session, targetOf(image));
    const resolved = await findManifest(session, image, hostPlatform()).catch((error: unknown) => {
      if (isNotFound(error)) return undefined;
      throw error;
    });
    const blobs =
      resolved === undefined ? [] : [resolved.manifest, resolved.document.config, ...resolved.document.layers];
    const offered = isIndex(document) ? document.manifests.map(({ platform }) => platform) : [resolved?.configuration];
    return {
      size: resolved === undefined ? '-' : bytes(blobs.reduce((sum, { size }) => sum + size, 0)),
      platforms: offered.map(platformText).filter((text) => text !== 'unknown'),
    };
  } catch {
    // A list shows what it can; `images check` says what is wrong.
    return { size: '-', platforms: [] };
  }
}

async function remove(session: Session, options: { sync?: boolean }, names: string[]): Promise<void> {
  await forEach(names, async (name) => {
    const image = await findImage(session, name);
    const sync = options.sync === true && name === names.at(-1);
    await session.connection.images.delete({ name: image.name, sync });
    line(image.name);
  });
}

async function tag(session: Session, options: { force?: boolean }, source: string, names: string[]): Promise<void> {
  const { images } = session.connection;
  const { target, labels } = await findImage(session, source);
  await forEach(names.map(fullName), async (name) => {
    try {
      await images.create({ image: { name, target, labels } });
    } catch (error) {
      if (!isAlreadyExists(error) || options.force !== true) throw error;
      await images.update({ image: { name, target, labels }, updateMask: { paths: ['target'] } });
    }
    line(name);
  });
}

async function label(session: Session, _: object, name: string, pairs: string[]): Promise<void> {
  const labels = parseLabels(pairs);
  const image = await findImage(session, name);
  const paths = Object.keys(labels).map((key) => `labels.${key}`);
  await session.connection.images.update({ image: { name: image.name, labels }, updateMask: { paths } });
}

interface PlatformFlags extends ListOptions {
  readonly snapshotter?: string;
  readonly platform?: string;
}

interface UnpackFlags {
  readonly snapshotter?: string;
  readonly platform?: string;
  readonly progress: ProgressForm;
}

interface Checked {
  readonly name: string;
  readonly status: string;
  readonly present: number;
  readonly required: number;
  readonly unpacked: boolean;
}

async function check(session: Session, flags: PlatformFlags, filters: string[]): Promise<void> {
  const { images } = await session.connection.images.list({ filters });
  const snapshotter = flags.snapshotter ?? (await namespaceDefaults(session)).snapshotter;
  const rows: Checked[] = [];
  for (const image of images) rows.push(await checkOne(session, image, snapshotter, flags));
  printList(flags, {
    rows: flags.quiet === true ? rows.filter(({ status }) => status === 'complete') : rows,
    columns: [
      ['NAME', ({ name }) => name],
      ['STATUS', ({ status }) => status],
      ['BLOBS', ({ present, required }) => `${present}/${required}`],
      ['UNPACKED', ({ unpacked }) => `${unpacked}`],
    ],
    name: ({ name }) => name,
  });
}

async function checkOne(session: Session, image: Image, snapshotter: string, flags: PlatformFlags): Promise<Checked> {
  const { connection } = session;
  try {
    const platform = flags.platform === undefined ? hostPlatform() : parsePlatform(flags.platform);
    const resolved = await findManifest(session, image, platform);
    const blobs = [resolved.manifest, resolved.document.config, ...resolved.document.layers];
    const infos = await Promise.all(
      blobs.map(({ digest }) =>
        connection.content.info({ digest }).then(
          () => true,
          () => false,
        ),
      ),
    );
    const present = infos.filter(Boolean).length;
    const key = chainIds(diffIdsOf(resolved)).at(-1) ?? '';
    const unpacked = await connection.snapshots.stat({ snapshotter, key }).then(
      () => true,
      () => false,
    );
    const status = present === blobs.length ? 'complete' : 'incomplete';
    return { name: image.name, status, present, required: blobs.length, unpacked };
  } catch (error) {
    return { name: image.name, status: `broken: ${messageOf(error)}`, present: 0, required: 0, unpacked: false };
  }
}

async function unpackOne(session: Session, flags: UnpackFlags, name: string): Promise<void> {
  const image = await findImage(session, name);
  const snapshotter = flags.snapshotter ?? (await namespaceDefaults(session)).snapshotter;
  const platform = flags.platform === undefined ? hostPlatform() : parsePlatform(flags.platform);
  const reporter = reporterFor(flags.progress);
  const top = await orElsewhere(session, 'image', name, () =>
    withLease(session, async (lease) => {
      const resolved = await findManifest(session, image, platform);
      const onLayer = ({ digest, size }: OciDescriptor, event: string): void =>
        reporter.tell({ event, name: `layer-${digest}`, progress: BigInt(size), total: BigInt(size) });
      return unpack(session, resolved, { snapshotter, lease, onLayer });
    }),
  ).finally(() => reporter.end());
  if (top === '') note('the image has no layers');
  else line(top);
}
