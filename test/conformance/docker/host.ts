// One dockerd on gantryd or on Debian's containerd, both in a network namespace of their own, and a session that plays
// docker commands on it.

import { chmodSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { BUSYBOX_IMAGE, busyboxDockerArchive } from '../../images/busybox';
import { RegistryServer } from '../../integration/registry/server';
import { type DockerVersion, dockerRelease, installedContainerd } from '../../setup/clients';
import { startContainerd, startGantryd, type TestDaemon, temporaryDirectory } from '../../setup/daemons';
import { Dockerd } from '../../setup/dockerd';
import { TestNetwork } from '../../setup/network';
import type { Rule } from '../normalise';
import { Session } from '../session';

const RULES: readonly Rule[] = [
  // The client gives up a call that it made beside the one that failed, and tells of it or not.
  [/^time=.* msg="error waiting for container: context canceled"\n/gm, ''],
  // A container that ends soon may have no terminal any more.
  [/^failed to resize tty, using default size\r?\n/gm, ''],
  // Containers, networks and what a builder makes have random ids; images are known by their digests.
  [/(?<!sha256:)\b[0-9a-f]{64}\b/g, 'ID'],
  [/\b[0-9a-f]{12}\b/g, 'ID'],
  // Times of the client, of the logs and of `docker ps`.
  [/\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)/g, 'TIME'],
  [
    /\b(Less than a second|About a(n hour| minute)|\d+ (seconds?|minutes?|hours?|days?|weeks?|months?|years?))( ago)?/g,
    'AGE',
  ],
];

export interface DockerHost {
  readonly daemon: TestDaemon;
  readonly dockerd: Dockerd;
  readonly network: TestNetwork;
  readonly session: Session;
  /** Stops both daemons and removes all that they left. */
  destroy(): Promise<void>;
}

/** Which dockerd, and how it is set up. */
export interface DockerSetup {
  readonly version: DockerVersion;
  /** Command line. */
  readonly args: readonly string[];
  /** daemon.json */
  readonly config?: object;
  /** Files that take the place of those in /etc. */
  readonly etc?: Readonly<Record<string, string>>;
}

/** Starts both daemons and loads the image of the cases. */
export async function startDockerHost(kind: 'gantryd' | 'containerd', setup: DockerSetup): Promise<DockerHost> {
  const release = await dockerRelease(setup.version);
  const image = await busyboxDockerArchive();
  const directory = temporaryDirectory(kind);
  // A remapped root must come through to its files.
  chmodSync(directory, 0o711);
  let network: TestNetwork | undefined;
  let daemon: TestDaemon | undefined;
  let dockerd: Dockerd | undefined;
  let registry: RegistryServer | undefined;
  const destroy = async () => {
    await dockerd?.stop().catch(() => undefined);
    await registry?.kill();
    await network?.close();
    await daemon?.destroy();
    rmSync(directory, { recursive: true, force: true });
  };
  try {
    network = await TestNetwork.open(setup.etc && covering(path.join(directory, 'etc'), setup.etc));
    const { within } = network;
    daemon = await (kind === 'gantryd'
      ? startGantryd({ within, directory })
      : startContainerd(await installedContainerd(), { within, directory }));
    const { args, config = {} } = setup;
    dockerd = new Dockerd(release, daemon, { within, args, config });
    await dockerd.start();
    await dockerd.must(['load', '--quiet', '--input', image]);
    registry = await RegistryServer.start(path.join(daemon.directory, 'registry'), { within });
    const session = dockerSession(dockerd, within, registry.host);
    return { daemon, dockerd, network, session, destroy };
  } catch (error) {
    await destroy();
    throw error;
  }
}

function dockerSession(dockerd: Dockerd, within: readonly string[], registry: string): Session {
  const { directory, containerd } = dockerd;
  // In the namespace, where ports are published. As in a shell, settings may stand before a command.
  const command = (args: readonly string[]) => {
    const settings = args.slice(
      0,
      args.findIndex((arg) => !/^[A-Z_]+=/.test(arg)),
    );
    return [...within, 'env', ...settings, ...dockerd.command(args.slice(settings.length))];
  };
  return new Session({ name: 'docker', command, rules: RULES }, path.join(directory, 'scratch'), {
    DOCKER: directory,
    IMAGE: BUSYBOX_IMAGE,
    REGISTRY: registry,
    NS: containerd.namespace,
  });
}

/** A mount namespace whose mounts are shared, as on most machines, and in which the files are in /etc. */
function covering(directory: string, files: Readonly<Record<string, string>>) {
  mkdirSync(directory);
  const mounts = Object.entries(files).map(([name, content]) => {
    writeFileSync(path.join(directory, name), content);
    return `busybox mount -o bind ${directory}/${name} /etc/${name}`;
  });
  return { kinds: ['mount'] as const, setUp: ['busybox mount --make-rshared /', ...mounts].join('\n') };
}
