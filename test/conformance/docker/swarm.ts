// What a swarm of three docker hosts on this machine does, each with a gantryd of its own, or with Debian's containerd, which
// must give the same results: swarm-*.test.ts.

import { existsSync } from 'node:fs';
import { BUSYBOX_IMAGE } from '../../images/busybox';
import { DOCKER_VERSIONS, type DockerVersion } from '../../setup/clients';
import { waitFor } from '../../setup/command';
import { describeUnless, needsRoot } from '../../setup/needs';
import { type Node, Nodes } from './swarm-nodes';

const TIMEOUT_MS = 600_000;
const WAIT_MS = 180_000;
const IDLE = 'trap "exit 0" TERM; while :; do sleep 0.1; done';
/** Says on port 80 which host it is. */
const WEB = 'mkdir -p /www; hostname > /www/index.html; trap "exit 0" TERM; httpd -f -p 80 -h /www & wait $!';

export function testSwarm(kind: 'gantryd' | 'containerd'): void {
  describeUnless(needsRoot()).each(DOCKER_VERSIONS)(`a swarm of dockerd %s on ${kind}`, (version) =>
    inSwarm(kind, version),
  );
}

function inSwarm(kind: 'gantryd' | 'containerd', version: DockerVersion): void {
  jest.setTimeout(TIMEOUT_MS);
  let nodes: Nodes;
  let [first, second, third] = [] as unknown as [Node, Node, Node];
  const docker = (...args: readonly string[]) => first.docker(...args);
  const create = (name: string, flags: readonly string[], script: string, image = BUSYBOX_IMAGE) => {
    const quick = ['--detach', '--no-resolve-image', '--stop-grace-period', '2s', '--restart-delay', '200ms'];
    return docker('service', 'create', '--name', name, ...quick, ...flags, image, 'sh', '-c', script);
  };
  const update = (name: string, ...flags: readonly string[]) => docker('service', 'update', '--detach', ...flags, name);
  const becomes = (what: string, condition: () => Promise<boolean>) => waitFor(what, condition, WAIT_MS);
  const tasks = async (service: string, format: string, ...flags: readonly string[]) =>
    (await docker('service', 'ps', '--no-trunc', '--format', format, ...flags, service))
      .split('\n')
      .filter(Boolean)
      .sort();
  /** The nodes where the tasks of a service run that shall. */
  const places = async (service: string) => {
    const lines = await tasks(service, '{{.Node}} {{.CurrentState}}', '--filter', 'desired-state=running');
    return lines.filter((line) => / Running /.test(line)).map((line) => line.split(' ')[0]!);
  };
  const runsOn = (service: string, ...expected: readonly Node[]) => {
    const names = expected.map(({ name }) => name).join();
    return becomes(`${service} on ${names}`, async () => (await places(service)).join() === names);
  };
  /** Standard output of a command in every container of a service, sorted. */
  const inEach = async (service: string, ...command: readonly string[]) => {
    const found: string[] = [];
    for (const node of nodes.all) {
      for (const id of await node.containersOf(service)) {
        found.push((await node.dockerd.call('exec', id, ...command)).stdout.trimEnd());
      }
    }
    return found.sort();
  };
  const hasStatus = (node: Node, status: string) =>
    becomes(`${node.name} ${status}`, async () =>
      (await nodes.status()).some((line) => line.startsWith(`${node.name} ${status}`)),
    );

  beforeAll(async () => {
    nodes = await Nodes.start(kind, version);
    [first, second, third] = nodes.all as [Node, Node, Node];
    await nodes.join();
  });

  afterEach(async () => {
    const services = (await docker('service', 'ls', '--quiet')).split('\n').filter(Boolean);
    if (services.length > 0) await docker('service', 'rm', ...services);
    for (const node of nodes.all) {
      await becomes('no containers', async () => (await node.docker('ps', '--all', '--quiet')) === '');
    }
  });

  afterAll(async () => {
    await nodes?.destroy();
  });

  test('three nodes are ready', async () => {
    expect(await nodes.status()).toEqual(['node1 Ready Active Leader', 'node2 Ready Active', 'node3 Ready Active']);
  });

  test('replicas are spread, and scaled up and down', async () => {
    await create('s', ['--replicas', '3'], IDLE);
    await runsOn('s', first, second, third);

    await docker('service', 'scale', '--detach', 's=5');
    await becomes('5 tasks', async () => (await places('s')).length === 5);
    expect(new Set(await places('s')).size).toBe(3);

    await docker('service', 'scale', '--detach', 's=1');
    await becomes('1 container', async () => (await inEach('s', 'true')).length === 1);
    expect(await docker('service', 'ls', '--format', '{{.Name}} {{.Mode}} {{.Replicas}}')).toBe('s replicated 1/1');
  });

  test('a global service has a task on each node, and its output comes from all of them', async () => {
    await create('s', ['--mode', 'global', '--hostname', '{{.Node.Hostname}}'], `hostname; ${IDLE}`);
    await runsOn('s', first, second, third);

    expect(await inEach('s', 'hostname')).toEqual(['node1', 'node2', 'node3']);
    const logs = async () => (await docker('service', 'logs', '--raw', 's')).split('\n').filter(Boolean).sort();
    await becomes('the output of all', async () => (await logs()).length === 3);
    expect(await logs()).toEqual(['node1', 'node2', 'node3']);
  });

  test('an update replaces the tasks, a rollback brings the old ones back, also by itself when the new ones fail', async () => {
    await create('s', ['--replicas', '3', '--env', 'VERSION=1', '--update-monitor', '5s'], IDLE);
    await runsOn('s', first, second, third);
    const versions = async (expected: string) =>
      becomes(
        `version ${expected}`,
        async () => (await inEach('s', 'sh', '-c', 'echo $VERSION')).join('') === expected,
      );

    await update('s', '--env-add', 'VERSION=2', '--update-order', 'start-first', '--update-parallelism', '2');
    await versions('222');
    const state = () => docker('service', 'inspect', '--format', '{{.UpdateStatus.State}}', 's');
    await becomes('the end of the update', async () => (await state()) === 'completed');
    await docker('service', 'rollback', '--detach', 's');
    await versions('111');

    await becomes('the end of the rollback', async () => (await state()) === 'rollback_completed');
    await update('s', '--args', 'sh -c "exit 3"', '--env-add', 'VERSION=3', '--update-failure-action', 'rollback');
    await becomes('an update', async () => (await state()) !== 'rollback_completed');
    await becomes('a rollback', async () => (await state()) === 'rollback_completed');
    await versions('111');
    expect(await tasks('s', '{{.Error}}')).toContain('"task: non-zero exit (3)"');
  });

  test('tasks that end are started again as the service says', async () => {
    await create('fails', ['--restart-condition', 'on-failure', '--restart-max-attempts', '2'], 'exit 7');

    await becomes(
      '3 attempts',
      async () => (await tasks('fails', '{{.CurrentState}}')).join().split('Failed').length === 4,
    );
    expect(await tasks('fails', '{{.Error}}')).toEqual(Array(3).fill('"task: non-zero exit (7)"'));
  });

  test('a job ends when all of its tasks have', async () => {
    await create('job', ['--mode', 'replicated-job', '--replicas', '4', '--max-concurrent', '2'], 'exit 0');

    await becomes(
      '4 ends',
      async () => (await tasks('job', '{{.CurrentState}}')).join().split('Complete').length === 5,
    );
    await docker('service', 'rm', 'job');
    // A swarm leaves the containers of jobs.
    for (const node of nodes.all) await node.docker('container', 'prune', '--force');
  });

  test('a drained node has no tasks until it is active again', async () => {
    await create('spread', ['--replicas', '2', '--constraint', 'node.role==worker'], IDLE);
    await create('global', ['--mode', 'global'], IDLE);
    await runsOn('spread', second, third);
    await runsOn('global', first, second, third);

    await docker('node', 'update', '--availability', 'drain', second.name);
    await runsOn('spread', third, third);
    await runsOn('global', first, third);
    await becomes('no containers', async () => (await second.docker('ps', '--quiet')) === '');
    expect(await nodes.status()).toContain('node2 Ready Drain');

    await docker('node', 'update', '--availability', 'active', second.name);
    await runsOn('global', first, second, third);
  });

  test('containers on an overlay network find each other by name across nodes', async () => {
    await docker('network', 'create', '--driver', 'overlay', '--attachable', 'between');
    const flags = ['--mode', 'global', '--hostname', '{{.Node.Hostname}}', '--network', 'between'];
    await create('web', [...flags, '--endpoint-mode', 'dnsrr'], WEB);
    await runsOn('web', first, second, third);
    await second.docker('run', '-d', '--name', 'peer', '--network', 'between', BUSYBOX_IMAGE, 'sleep', '100000');
    const onThird = (script: string) =>
      third.dockerd.call('run', '--rm', '--network', 'between', BUSYBOX_IMAGE, 'sh', '-c', script);

    expect((await onThird('ping -c 1 -W 10 peer')).stdout).toMatch(/1 packets transmitted, 1 packets received/);
    const address = 's/^Address.*: *\\(10[.0-9]*\\)$/\\1/p';
    const ask = `for a in $(nslookup -type=a web | sed -n '${address}'); do wget -q -O - http://$a/; done | sort`;
    await becomes('answers of all', async () => (await onThird(ask)).stdout === 'node1\nnode2\nnode3\n');

    await docker('service', 'rm', 'web');
    await second.docker('rm', '-f', 'peer');
    await becomes('removal', async () => (await first.dockerd.call('network', 'rm', 'between')).exitCode === 0);
  });

  test('ports are published on the nodes; those of the whole swarm need IPVS', async () => {
    const port = (mode: string, published: number) => ['--publish', `mode=${mode},published=${published},target=80`];
    await create('host', ['--replicas', '2', '--constraint', 'node.role==worker', ...port('host', 8080)], WEB);
    await create('mesh', ['--constraint', 'node.role==worker', ...port('ingress', 8081)], WEB);
    await runsOn('host', second, third);
    await becomes('a task', async () => (await places('mesh')).length === 1);

    for (const node of [second, third]) {
      await becomes('an answer', async () => (await nodes.request(node, 8080)).exitCode === 0);
    }
    expect((await nodes.request(first, 8080)).stderr).toMatch(/Connection refused/);
    if (existsSync('/proc/net/ip_vs')) {
      await becomes('an answer', async () => (await nodes.request(first, 8081)).exitCode === 0);
    } else {
      for (const node of nodes.all) expect((await nodes.request(node, 8081)).stderr).toMatch(/Connection refused/);
    }
  });

  test('secrets and configs are files in tasks', async () => {
    const put = (...args: readonly string[]) => first.dockerd.must(args, { stdin: 'one two' });
    await put('secret', 'create', 'word', '-');
    await put('config', 'create', 'setting', '-');
    await create(
      's',
      [
        '--mode',
        'global',
        '--secret',
        'source=word,target=w,mode=0440,uid=1000',
        '--config',
        'source=setting,target=/etc/x/c',
      ],
      IDLE,
    );
    await runsOn('s', first, second, third);

    const look =
      'cat /run/secrets/w /etc/x/c; stat -c "%a %u" /run/secrets/w; grep -c " /run/secrets/w tmpfs ro" /proc/mounts';
    expect(await inEach('s', 'sh', '-c', look)).toEqual(Array(3).fill('one twoone two440 1000\n1'));
    await update('s', '--secret-rm', 'word', '--config-rm', 'setting');
    await becomes(
      'no files',
      async () => (await inEach('s', 'sh', '-c', 'ls /run/secrets/w /etc/x/c 2>/dev/null | wc -l')).join() === '0,0,0',
    );
    await docker('secret', 'rm', 'word');
    await docker('config', 'rm', 'setting');
  });

  test('tasks of a node whose daemons are killed move, and what ran there ends when they are back', async () => {
    await create('s', ['--replicas', '2', '--constraint', 'node.role==worker'], IDLE);
    await runsOn('s', second, third);
    const [old] = await second.containersOf('s');

    await second.kill();
    await hasStatus(second, 'Down');
    await runsOn('s', third, third);

    await second.start();
    await hasStatus(second, 'Ready');
    await becomes('the end of the old task', async () => (await second.containersOf('s')).length === 0);
    expect((await second.dockerd.call('exec', old!, 'true')).exitCode).not.toBe(0);
    expect(await places('s')).toEqual(['node3', 'node3']);
  });

  test('tasks of a node that is cut off move, and it takes part again afterwards', async () => {
    await create('s', ['--replicas', '2', '--constraint', 'node.role==worker'], IDLE);
    await runsOn('s', second, third);

    await third.connect(false);
    await hasStatus(third, 'Down');
    await runsOn('s', second, second);
    await third.connect(true);
    await hasStatus(third, 'Ready');
    await becomes('the end of the old task', async () => (await third.containersOf('s')).length === 0);
    await update('s', '--force');
    await runsOn('s', second, third);
  });

  test('managers choose another leader when theirs is killed', async () => {
    await docker('node', 'promote', second.name, third.name);
    await becomes('three managers', async () => (await nodes.status()).join().split('Reachable').length === 3);
    await create('s', ['--mode', 'global'], IDLE);
    await runsOn('s', first, second, third);

    await first.kill();
    const ranks = async () =>
      (await third.dockerd.call('node', 'ls', '--format', '{{.ManagerStatus}}')).stdout.split('\n');
    await becomes('another leader', async () => (await ranks()).sort().join() === ',Leader,Reachable,Unreachable');
    await third.docker('service', 'update', '--detach', '--env-add', 'A=1', 's');
    await first.start();
    await becomes('all nodes', async () => (await nodes.status()).filter((line) => / Ready /.test(line)).length === 3);
    await becomes('the update on all', async () => (await inEach('s', 'sh', '-c', 'echo $A')).join('') === '111');

    // A manager refuses a change that crosses one of another manager.
    const demote = (node: Node) =>
      becomes('demotion', async () => (await first.dockerd.call('node', 'demote', node.name)).exitCode === 0);
    await demote(second);
    await demote(third);
    await becomes('one manager', async () => (await nodes.status())[0] === 'node1 Ready Active Leader');
  });

  test('a locked manager waits for its key', async () => {
    const key = /SWMKEY-\S+/.exec(await docker('swarm', 'update', '--autolock=true'))![0];
    await create('s', ['--mode', 'global'], IDLE);
    await runsOn('s', first, second, third);

    await first.dockerd.stop();
    await first.dockerd.start();
    await becomes('a lock', async () => /Swarm is encrypted/.test((await first.dockerd.call('node', 'ls')).stderr));
    await first.dockerd.must(['swarm', 'unlock'], { stdin: `${key}\n` });
    await becomes('the swarm', async () => (await first.dockerd.call('node', 'ls')).exitCode === 0);
    await runsOn('s', first, second, third);
    expect(await docker('swarm', 'unlock-key', '--quiet')).toBe(key);
    await docker('swarm', 'update', '--autolock=false');
  });

  test('nodes leave, and nothing is left of their tasks', async () => {
    await create('s', ['--mode', 'global'], IDLE);
    await runsOn('s', first, second, third);
    await third.docker('swarm', 'leave');
    await hasStatus(third, 'Down');
    await docker('node', 'rm', third.name);
    expect(await nodes.status()).toEqual(['node1 Ready Active Leader', 'node2 Ready Active']);
    await becomes('no containers', async () => (await third.docker('ps', '--all', '--quiet')) === '');
  });
}
