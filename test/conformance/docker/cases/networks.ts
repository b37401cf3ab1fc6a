// Cases about networks and published ports.

import { mustRun } from '../../../setup/command';
import type { Case, Session } from '../../session';
import { idle, quietly, remove, sh, show, sorted } from '../steps';

const SERVE = 'while :; do echo served | nc -l -p 80; done';

const SOCKET = 'import socket, time; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(50);';

const ANSWER = 's.bind(("", 83)); d, a = s.recvfrom(99); s.sendto(b"answer to " + d, a)';
/** Again and again: the server may not be there yet. */
const ASK = `
s.settimeout(0.2)
for _ in range(200):
  try:
    s.sendto(b"question", ("127.0.0.1", 8083))
    print(s.recvfrom(99)[0].decode())
    break
  except OSError: time.sleep(0.1)`;

/** Reads from a published port, in the network of the host. */
function fetched(port: number): string[] {
  return sh(`until nc -w 5 127.0.0.1 ${port} < /dev/null | grep served; do sleep 0.1; done`, '--network', 'host');
}

/** What a server of UDP at port 83 of one container answers to what is sent to port 8083 in the network of another. */
async function answerOfUdp(session: Session, server: string, client: string): Promise<string> {
  const within = async (name: string, script: string) => {
    const pid = (await session.quietly(show(name, '.State.Pid'))).trim();
    return mustRun(['nsenter', `--net=/proc/${pid}/ns/net`, '--', 'python3', '-I', '-c', SOCKET + script]);
  };
  const [, answer] = await Promise.all([within(server, ANSWER), within(client, ASK)]);
  return answer.trim();
}

export const networksCases: Case[] = [
  {
    name: 'networks: the default bridge',
    steps: [
      ...idle('first'),
      show('first', '.NetworkSettings.IPAddress', '.NetworkSettings.MacAddress', '.NetworkSettings.Gateway'),
      sh('ip -4 -o addr show eth0 | grep -o "inet [0-9./]*"; ip route'),
      sh('ping -c 1 -W 5 172.17.0.2 | grep -c "1 packets received"'),
      sh('cat /etc/hosts | grep first', '--link', 'first'),
      sh('ip link show eth0 | grep -o "ether [0-9a-f:]*"', '--mac-address', '02:42:ac:11:00:99'),
      sorted('network', 'ls', '--format', '{{.Name}} {{.Driver}} {{.Scope}}'),
      remove('first'),
    ],
  },
  {
    name: 'networks: of the user, with names',
    steps: [
      ['network', 'create', '--subnet', '10.66.0.0/24', 'own'],
      ['network', 'create', '--internal', '--subnet', '10.67.0.0/24', 'other'],
      ...idle('web', '--network', 'own', '--network-alias', 'www'),
      sh('ping -c 1 -W 5 web | grep -c "1 packets received"', '--network', 'own'),
      sh(
        'nslookup www 127.0.0.11 | grep -A1 Name | grep -o "10[0-9.]*"; cat /etc/resolv.conf | grep nameserver',
        '--network',
        'own',
      ),
      sh('ping -c 1 -W 1 web; echo $?', '--network', 'other'),
      sh('ip -4 -o addr show eth0 | grep -o "inet [0-9./]*"', '--network', 'own', '--ip', '10.66.0.77'),
      ['network', 'connect', '--ip', '10.67.0.9', 'other', 'web'],
      ['exec', 'web', 'sh', '-c', 'ip -4 -o addr show eth1 | grep -o "inet [0-9./]*"'],
      sh('ping -c 1 -W 5 web | grep -c "1 packets received"', '--network', 'other'),
      ['network', 'disconnect', 'other', 'web'],
      ['exec', 'web', 'ip', 'addr', 'show', 'eth1'],
      ['network', 'rm', 'own'],
      [
        'network',
        'inspect',
        '--format',
        '{{.Name}} {{range .IPAM.Config}}{{.Subnet}}{{end}} {{.Internal}}',
        'own',
        'other',
      ],
      remove('web'),
      ['network', 'rm', 'own', 'other', 'nothing'],
    ],
  },
  {
    name: 'networks: published ports',
    steps: [
      [
        'run',
        '-d',
        '--name',
        'server',
        '-p',
        '8080:80',
        '-p',
        '127.0.0.1:8081:81/tcp',
        '-p',
        '8082:82/udp',
        '$IMAGE',
        'sh',
        '-c',
        SERVE,
      ],
      sorted('port', 'server'),
      ['port', 'server', '80'],
      fetched(8080),
      ['ps', '--format', '{{.Ports}}'],
      ['run', '--rm', '--name', 'second', '-p', '8080:80', '$IMAGE', 'true'],
      remove('server'),
      ['run', '-d', '--name', 'random', '-P', '--expose', '80', '$IMAGE', 'sh', '-c', SERVE],
      async (session) => {
        const port = (await session.quietly(['port', 'random', '80'])).trim().split('\n')[0]!.split(':').at(-1);
        session.note(String(Number(port) > 0));
      },
      remove('random'),
      quietly('network', 'prune', '-f'),
    ],
  },
  {
    name: 'networks: a published port of UDP',
    steps: [
      ...idle('server', '-p', '8083:83/udp'),
      ...idle('client', '--network', 'host'),
      async (session) => session.note(await answerOfUdp(session, 'server', 'client')),
      remove('server', 'client'),
    ],
  },
  {
    name: 'networks: macvlan',
    steps: [
      sh('ip link add below0 type bridge && ip link set below0 up', '--cap-add', 'NET_ADMIN', '--network', 'host'),
      ['network', 'create', '-d', 'macvlan', '--subnet', '10.68.0.0/24', '-o', 'parent=below0', 'lan'],
      ...idle('peer', '--network', 'lan', '--ip', '10.68.0.9'),
      sh(
        'ip -o link show eth0 | grep -c "eth0@"; ping -c 1 -W 5 10.68.0.9 | grep -c "1 packets received"',
        '--network',
        'lan',
      ),
      sh('ping -c 1 -W 5 peer | grep -c "1 packets received"', '--network', 'lan'),
      ['network', 'inspect', '--format', '{{.Driver}} {{json .Options}} {{len .Containers}}', 'lan'],
      ['network', 'create', '-d', 'macvlan', '--subnet', '10.69.0.0/24', '-o', 'parent=nothing0', 'no-lan'],
      remove('peer'),
      ['network', 'rm', 'lan'],
      sh('ip link del below0', '--cap-add', 'NET_ADMIN', '--network', 'host'),
    ],
  },
];
