// Cases about networks and published ports.

import type { Case } from '../../session';
import { idle, quietly, remove, sh, show, sorted } from '../steps';

const SERVE = 'while :; do echo served | nc -l -p 80; done';

/** Reads from a published port, in the network of the host. */
function fetched(port: number): string[] {
  return sh(`until nc -w 5 127.0.0.1 ${port} < /dev/null | grep served; do sleep 0.1; done`, '--network', 'host');
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
      ['port', 'server'],
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
];
