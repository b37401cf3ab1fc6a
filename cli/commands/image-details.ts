// gantry images inspect, history, prune: what an image is made of, and which images nobody uses.

import type { Command } from 'commander';
import type { Image } from '../../proto/generated/containerd.services.images.v1';
import { findImage, findManifest } from '../container/image';
import type { Configuration } from '../image/documents';
import { hostPlatform, parsePlatform, platformText } from '../image/platform';
import { candidateNames } from '../image/reference';
import { bytes, type ListOptions, line, note, printJson, printList } from '../output';
import type { Session } from '../session';
import { action, forEach, listOptions } from './shared';

interface PlatformFlag {
  readonly platform?: string;
}

interface PruneFlags {
  readonly all?: boolean;
  readonly dryRun?: boolean;
}

/** A step of the image's making (image-spec, config.md, history). */
interface Step {
  readonly created?: string;
  readonly created_by?: string;
  readonly comment?: string;
  readonly empty_layer?: boolean;
}

const BY_DIGEST = /@[a-z0-9]+:[a-f0-9]+$/;

export function registerDetails(images: Command): void {
  images
    .command('inspect <names...>')
    .description('print records, manifests and configurations as JSON')
    .option('--platform <platform>', 'platform (default: this machine)')
    .action(action(inspect));
  listOptions(images.command('history <name>').description('show how the layers of an image were made'))
    .option('--platform <platform>', 'platform (default: this machine)')
    .action(action(history));
  images
    .command('prune')
    .description('remove images that are known by their digest only and that no container uses')
    .option('-a, --all', 'also those with names')
    .option('--dry-run', 'only print them')
    .addHelpText('after', '\nExample:\n  gantry images prune --all --dry-run')
    .action(action(prune));
}

async function inspect(session: Session, flags: PlatformFlag, names: string[]): Promise<void> {
  const platform = flags.platform === undefined ? hostPlatform() : parsePlatform(flags.platform);
  const found: object[] = [];
  await forEach(names, async (name) => {
    const image = await findImage(session, name);
    const { manifest, document, configuration } = await findManifest(session, image, platform);
    found.push({
      ...image,
      platform: platformText(configuration),
      manifest: { ...manifest, ...document },
      configuration,
    });
  });
  printJson(found);
}

async function history(session: Session, flags: ListOptions & PlatformFlag, name: string): Promise<void> {
  const platform = flags.platform === undefined ? hostPlatform() : parsePlatform(flags.platform);
  const { document, configuration } = await findManifest(session, await findImage(session, name), platform);
  const { history: steps = [] } = configuration as Configuration & { readonly history?: readonly Step[] };
  let index = 0;
  const rows = steps.map((step) => {
    const layer = step.empty_layer === true ? undefined : document.layers[index];
    if (layer !== undefined) index += 1;
    return { ...step, layer: layer?.digest, size: layer?.size };
  });
  // Tools may leave the history out, for some layers or for all.
  rows.push(...document.layers.slice(index).map(({ digest, size }) => ({ layer: digest, size })));
  printList(flags, {
    rows: rows.reverse(),
    columns: [
      ['LAYER', ({ layer }) => layer?.slice(0, 19) ?? '-'],
      ['CREATED', ({ created }) => created ?? '-'],
      ['SIZE', ({ size }) => (size === undefined ? '-' : bytes(size))],
      ['CREATED BY', ({ created_by, comment }) => (created_by ?? comment ?? '-').replaceAll(/\s+/g, ' ').slice(0, 80)],
    ],
    name: ({ layer }) => layer ?? '-',
  });
}

async function prune(session: Session, { all, dryRun }: PruneFlags): Promise<void> {
  const { images, containers } = session.connection;
  const used = new Set((await containers.list({})).containers.flatMap(({ image }) => candidateNames(image)));
  const unused = (await images.list({})).images.filter(({ name }) => !used.has(name));
  const removed = all === true ? unused : unused.filter(({ name }) => BY_DIGEST.test(name));
  await forEach(
    removed.map(({ name }) => name),
    async (name) => {
      if (dryRun !== true) await images.delete({ name, sync: isLast(removed, name) });
      line(name);
    },
  );
  if (removed.length === 0) note('nothing to remove');
}

/** The last removal waits for the collection of what none of them needs any more. */
function isLast(images: readonly Image[], name: string): boolean {
  return images.at(-1)?.name === name;
}
