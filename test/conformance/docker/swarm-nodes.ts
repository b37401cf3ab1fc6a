// Three docker hosts on this machine that become a swarm: each is a network, mount and UTS namespace with a dockerd on a
// gantryd or containerd of its own. A bridge in a network namespace between them connects them.

import { mkdirSync } from 'node:fs';
import { busyboxDockerArchive } from '../../images/busybox';
import { type DockerRelease, type DockerVersion, dockerRelease, installedContainerd } from '../../setup/clients';
import { type CommandResult, mustRun, runCommand, waitFor } from '../../setup/command';
import { startContainerd, startGantryd, type TestDaemon, temporaryDirectory } from '../../setup/daemons';
import { Dockerd } from '../../setup/dockerd';
import { TestNetwork } from '../../setup/network';

const NODES = [1, 2, 3] as const;
/** The address of a node is this with its number. */
const SUBNET = '10.77.0.';

export class Node {
  readonly name: string;
  readonly address: string;
  readonly daemon: TestDaemon;
  readonly dockerd: Dockerd;
  readonly #link: readonly string[];

  /** @param link the command that changes the node's port of the switch, without the change */
  constructor(number: number, daemon: TestDaemon, dockerd: Dockerd, link: readonly string[]) {
    this.name = `node${number}`;
    this.address = `${SUBNET}${number}`;
    this.daemon = daemon;
    this.dockerd = dockerd;
    this.#link = link;
  }

  /** Output of a docker command without the newline at the end. @throws Error when it fails */
  docker(...args: readonly string[]): Promise<string> {
    return this.dockerd.must(args, { timeoutMs: 120_000 });
  }

  /** Kills both daemons; what runs in containers runs on. */
  async kill(): Promise<void> {
    await this.dockerd.stop('SIGKILL');
    await this.daemon.stop('SIGKILL');
  }

  async start(): Promise<void> {
    await this.daemon.start();
    await this.dockerd.start();
  }

  /** Takes the cable out, or puts it back. */
  async connect(isConnected: boolean): Promise<void> {
    await mustRun([...this.#link, isConnected ? 'up' : 'down']);
  }

  /** Ids of the running containers of a service. */
  async containersOf(service: string): Promise<string[]> {
    const filter = `label=com.docker.swarm.service.name=${service}`;
    return (await this.docker('ps', '-q', '--no-trunc', '--filter', filter)).split('\n').filter(Boolean);
  }
}

export class Nodes {
  readonly all: readonly Node[];
  readonly #within: readonly string[];
  readonly #destroy: () => Promise<void>;

  private constructor(all: readonly Node[], within: readonly string[], destroy: () => Promise<void>) {
    this.all = all;
    this.#within = within;
    this.#destroy = destroy;
  }

  /** Starts the daemons of all nodes, each with the test image. They are no swarm yet. */
  static async start(kind: 'gantryd' | 'containerd', version: DockerVersion): Promise<Nodes> {
    const undo: (() => Promise<unknown>)[] = [];
    const destroy = async () => {
      for (const step of undo.reverse()) await step();
    };
    try {
      const between = await TestNetwork.open();
      undo.push(() => between.close());
      await mustRun([...between.within, 'ip', 'link', 'add', 'switch', 'type', 'bridge']);
      // An address of its own: a client beside the nodes.
      await mustRun([...between.within, 'ip', 'address', 'add', `${SUBNET}100/24`, 'dev', 'switch']);
      await mustRun([...between.within, 'ip', 'link', 'set', 'switch', 'up']);
      const all: Node[] = [];
      const release = await dockerRelease(version);
      for (const number of NODES) all.push(await startNode({ kind, release, number }, between, undo));
      return new Nodes(all, between.within, destroy);
    } catch (error) {
      await destroy();
      throw error;
    }
  }

  /** Asks a node for a web page, from outside. The exit code is 124 when there is no answer. */
  request(node: Node, port: number): Promise<CommandResult> {
    const url = `http://${node.address}:${port}/`;
    return runCommand([...this.#within, 'timeout', '5', '/usr/bin/busybox', 'wget', '-q', '-O', '-', url]);
  }

  /** Makes the first node the manager of a swarm of all, and waits until it sees all of them. */
  async join(): Promise<void> {
    const [first, ...others] = this.all;
    const at = (node: Node) => ['--advertise-addr', node.address, '--listen-addr', `${node.address}:2377`];
    await first!.docker('swarm', 'init', ...at(first!));
    const token = await first!.docker('swarm', 'join-token', '--quiet', 'worker');
    for (const node of others)
      await node.docker('swarm', 'join', ...at(node), '--token', token, `${first!.address}:2377`);
    await waitFor('all nodes', async () => (await this.status()).every((line) => / Ready Active/.test(line)));
  }

  /** `docker node ls`, a line for each node: name, status, availability, and the rank of a manager. */
  async status(): Promise<string[]> {
    const format = '{{.Hostname}} {{.Status}} {{.Availability}} {{.ManagerStatus}}';
    return (await this.all[0]!.docker('node', 'ls', '--format', format))
      .split('\n')
      .map((line) => line.trim())
      .sort();
  }

  /** Stops everything and removes all that was left. */
  destroy(): Promise<void> {
    return this.#destroy();
  }
}

async function startNode(
  { kind, release, number }: { kind: 'gantryd' | 'containerd'; release: DockerRelease; number: number },
  between: TestNetwork,
  undo: (() => Promise<unknown>)[],
): Promise<Node> {
  const directory = temporaryDirectory(kind);
  const port = `port${number}`;
  const place = await TestNetwork.open({ kinds: ['mount', 'uts'], setUp: setUp(number, directory) });
  undo.push(() => place.close());
  const cable = ['link', 'add', port, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', String(place.pid)];
  await mustRun([...between.within, 'ip', ...cable]);
  await mustRun([...between.within, 'ip', 'link', 'set', port, 'master', 'switch', 'up']);
  await mustRun([...place.within, 'ip', 'address', 'add', `${SUBNET}${number}/24`, 'dev', 'eth0']);
  await mustRun([...place.within, 'ip', 'link', 'set', 'eth0', 'up']);
  const { within } = place;
  const daemon = await (kind === 'gantryd'
    ? startGantryd({ directory, within })
    : startContainerd(await installedContainerd(), { directory, within }));
  undo.push(() => daemon.destroy());
  const args = ['--storage-driver', 'overlay2', '--bip', `172.2${number}.0.1/24`];
  const dockerd = new Dockerd(release, daemon, { within, args });
  undo.push(() => dockerd.stop('SIGKILL'));
  await dockerd.start();
  await dockerd.must(['load', '--quiet', '--input', await busyboxDockerArchive()]);
  return new Node(number, daemon, dockerd, [...between.within, 'ip', 'link', 'set', port]);
}

/** dockerd has paths that cannot be told by its command line: its key, which names the host, and its sockets for plug-ins. */
function setUp(number: number, directory: string): string {
  const own = ['/etc/docker', '/run/docker'];
  for (const [index, path] of own.entries()) {
    mkdirSync(path, { recursive: true });
    mkdirSync(`${directory}/own${index}`);
  }
  const binds = own.map((path, index) => `mount --bind ${directory}/own${index} ${path}`);
  return [`hostname node${number}`, ...binds].join('; ');
}
