// gantry pull, push (and images pull, images push): images from and to registries.

import { text } from 'node:stream/consumers';
import type { Command } from 'commander';
import { namespaceDefaults } from '../container/create';
import { findImage } from '../container/image';
import { usageError } from '../failure';
import { hostPlatform, parsePlatform } from '../image/platform';
import { fullName } from '../image/reference';
import { type Login, pull, push, type Remote } from '../image/registry';
import { line } from '../output';
import type { Session } from '../session';
import { type ProgressForm, progressOption, reporterFor } from '../transfer/report';
import { collect, parseLabels } from '../values';
import { action } from './shared';

/** How to speak to a registry. */
export interface RemoteFlags {
  readonly user?: string;
  readonly passwordStdin?: boolean;
  readonly plainHttp?: boolean;
  readonly hostsDir?: string;
  readonly header?: readonly string[];
}

interface PullFlags extends RemoteFlags {
  readonly progress: ProgressForm;
  readonly platform?: readonly string[];
  readonly allPlatforms?: boolean;
  readonly label?: readonly string[];
  readonly snapshotter?: string;
  readonly unpack: boolean;
}

interface PushFlags extends RemoteFlags {
  readonly progress: ProgressForm;
  readonly platform?: string;
}

export function registerRegistry(parent: Command): void {
  remoteOptions(parent.command('pull <name>').description('bring an image from its registry, and unpack it'))
    .option('--platform <platform>', 'platform to take of an index (repeatable; default: this machine)', collect)
    .option('--all-platforms', 'take all platforms, and leave them packed')
    .option('-l, --label <key=value>', 'label of the image (repeatable)', collect)
    .option('--snapshotter <name>', 'snapshotter to unpack to')
    .option('--no-unpack', 'leave the layers packed')
    .addOption(progressOption())
    .addHelpText(
      'after',
      '\nExamples:\n  gantry pull busybox\n  gantry pull --user me --password-stdin host:5000/app:1 < secret',
    )
    .action(action(pullImage));
  remoteOptions(
    parent.command('push <image> [name]').description('send an image to its registry, or to that of a name'),
  )
    .option('--platform <platform>', "one platform's manifest instead of the whole index")
    .addOption(progressOption())
    .addHelpText('after', '\nExamples:\n  gantry push host:5000/app:1\n  gantry push app host:5000/app:1')
    .action(action(pushImage));
}

export function remoteOptions(command: Command): Command {
  return command
    .option('-u, --user <name[:secret]>', 'log in (default: what the daemon is configured with)')
    .option('--password-stdin', 'read the secret from standard input')
    .option('--plain-http', 'speak http')
    .option('--hosts-dir <directory>', 'directory of the daemon with HOST/hosts.toml')
    .option('--header <key=value>', 'send a header with every request (repeatable)', collect);
}

async function pullImage(session: Session, flags: PullFlags, given: string): Promise<void> {
  if (flags.platform !== undefined && flags.allPlatforms === true) {
    throw usageError('--platform and --all-platforms exclude each other');
  }
  const name = fullName(given);
  const wanted = flags.platform === undefined ? [hostPlatform()] : flags.platform.map(parsePlatform);
  const remote = await remoteOf(flags, name);
  const reporter = reporterFor(flags.progress);
  const digest = await pull(session, {
    remote,
    name,
    labels: parseLabels(flags.label ?? []),
    platforms: flags.allPlatforms === true ? [] : wanted,
    snapshotter: flags.unpack ? (flags.snapshotter ?? defaultSnapshotter(session)) : undefined,
    reporter,
  }).finally(() => reporter.end());
  line(`${name} ${digest}`);
}

async function defaultSnapshotter(session: Session): Promise<string> {
  return (await namespaceDefaults(session)).snapshotter;
}

async function pushImage(
  session: Session,
  flags: PushFlags,
  ...[given, target]: [string, string | undefined]
): Promise<void> {
  const { name } = await findImage(session, given);
  const remote = await remoteOf(flags, target === undefined ? name : fullName(target));
  const reporter = reporterFor(flags.progress);
  const platforms = flags.platform === undefined ? [] : [parsePlatform(flags.platform)];
  await push(session, { remote, name, platforms, reporter }).finally(() => reporter.end());
  line(remote.reference);
}

export async function remoteOf(flags: RemoteFlags, reference: string): Promise<Remote> {
  return {
    reference,
    login: await loginOf(flags),
    hostsDirectory: flags.hostsDir,
    plainHttp: flags.plainHttp === true,
    headers: parseLabels(flags.header ?? []),
  };
}

async function loginOf({ user, passwordStdin }: RemoteFlags): Promise<Login | undefined> {
  if (user === undefined) {
    if (passwordStdin === true) throw usageError('--password-stdin needs --user');
    return undefined;
  }
  const colon = user.indexOf(':');
  if (passwordStdin === true) {
    if (colon >= 0) throw usageError('the secret is given twice, in --user and by --password-stdin');
    return { username: user, secret: (await text(process.stdin)).replace(/\r?\n$/, '') };
  }
  if (colon < 0) throw usageError('--user needs a secret: NAME:SECRET, or --password-stdin');
  return { username: user.slice(0, colon), secret: user.slice(colon + 1) };
}
