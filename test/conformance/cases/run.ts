// Cases about `ctr run`: what a container sees of each option, and what comes back.

import fs from 'node:fs';
import path from 'node:path';
import { waitFor } from '../../setup/command';
import type { Case, Session, Step } from '../session';
import { collected, IMAGE, logged, onTerminal, quietly, RESIZED, stopped } from './steps';

const PIDS_AND_IDS: ReadonlyArray<readonly [RegExp, string]> = [[/(\d+) (\d+) (\d+:\d+) /g, 'N N DEV ']];

export const runCases: Case[] = [
  {
    name: 'run --rm',
    steps: [run('r1', [], 'echo', 'hello'), ['containers', 'ls'], ['tasks', 'ls'], ['snapshots', 'ls']],
  },
  { name: 'run: the default command of the image', steps: [['run', '--rm', '--null-io', IMAGE, 'r2']] },
  {
    name: 'run: exit status',
    steps: [
      shell('r3', [], 'exit 3'),
      shell('r3b', [], 'exit 255'),
      shell('r3c', [], 'kill -9 $$; echo the first process ignores it'),
    ],
  },
  { name: 'run: stdout and stderr', steps: [shell('r4', [], 'echo out; echo err >&2; echo more')] },
  {
    name: 'run: much output',
    steps: [
      shell('r5', [], 'seq 1 20000 | md5sum; seq 1 20000 | tail -3; head -c 3000000 /dev/zero | tr "\\0" "x" | md5sum'),
    ],
  },
  {
    name: 'run: the environment, ids and limits of a process',
    steps: [
      shell('r6', [], 'env | sort; id; pwd; umask; hostname; cat /proc/self/oom_score_adj'),
      shell('r6b', [], 'grep -E "^(Cap|NoNewPrivs|Seccomp|Groups|Sig[IB])" /proc/self/status; cat /proc/self/limits'),
      shell(
        'r6c',
        [],
        'ls -l /proc/self/fd 2>/dev/null | sed -n "s/.* \\([0-9]* -> [a-z]*\\).*/\\1/p"; ps -o pid,ppid,comm',
      ),
    ],
  },
  {
    name: 'run: mounts, devices and protected paths',
    steps: [
      shell('r7', [], 'cut -d" " -f2- /proc/mounts | sed "s/lowerdir=[^, ]*/lowerdir/"'),
      shell('r7b', [], 'ls -l /dev | sed "s/  */ /g" | cut -d" " -f1-6,10-; ls -ld /dev/shm /dev/mqueue /dev/pts'),
      shell(
        'r7c',
        [],
        'for f in /proc/kcore /proc/keys /proc/timer_list; do cat $f | wc -c; done; ls /proc/acpi /proc/scsi /sys/firmware',
      ),
      shell(
        'r7d',
        [],
        'echo x > /proc/sys/kernel/hostname; echo h > /proc/sysrq-trigger; mount -t tmpfs x /tmp; mknod /tmp/z b 7 0',
      ),
      shell('r7e', [], 'sed "s/^[0-9]*://" /proc/self/cgroup | sort'),
    ],
    hide: PIDS_AND_IDS,
  },
  { name: 'run --env', steps: [run('r8', ['--env', 'A=1', '--env', 'B=two words', '--env', 'IMAGE=changed'], 'env')] },
  {
    name: 'run --mount',
    steps: [
      async (session) => fs.writeFileSync(path.join(session.scratch, 'shared'), 'from the host\n'),
      shell(
        'r9',
        ['--mount', 'type=bind,src=$SCRATCH,dst=/host,options=rbind:ro'],
        'cat /host/shared; echo x > /host/new',
      ),
      shell('r9b', ['--mount', 'type=bind,src=$SCRATCH,dst=/host,options=rbind:rw'], 'echo from inside > /host/new'),
      async (session) => session.note(fs.readFileSync(path.join(session.scratch, 'new'), 'utf8')),
      shell(
        'r9c',
        ['--mount', 'type=tmpfs,src=tmpfs,dst=/deep/new/place,options=size=64k:mode=700'],
        'df -k /deep/new/place; ls -ld /deep/new/place',
      ),
      shell('r9d', ['--mount', 'type=bind,src=$SCRATCH/none,dst=/host,options=rbind:ro'], 'true'),
      ['containers', 'ls', '-q'],
    ],
  },
  {
    name: 'run --memory-limit --cpus',
    steps: [
      ['run', '-d', '--memory-limit', '33554432', '--cpus', '0.5', '--cpu-shares', '512', IMAGE, 'r10', 'sleep', '100'],
      cgroupFile('memory/$NS/r10/memory.limit_in_bytes'),
      cgroupFile('cpu/$NS/r10/cpu.cfs_quota_us'),
      cgroupFile('cpu/$NS/r10/cpu.cfs_period_us'),
      cgroupFile('cpu/$NS/r10/cpu.shares'),
      cgroupFile('devices/$NS/r10/devices.list', (text) => text.split('\n').sort().join(', ')),
      ['tasks', 'delete', '--force', 'r10'],
      ['containers', 'rm', 'r10'],
    ],
  },
  {
    name: 'run --memory-limit: a process that takes more is killed',
    steps: [
      run('r11', ['--memory-limit', '16777216'], 'tail', '-c', '100000000', '/dev/zero'),
      ['tasks', 'ls'],
      ['containers', 'ls', '-q'],
    ],
  },
  {
    name: 'run --user',
    steps: [
      shell('r12', ['--user', '1000'], 'id; touch /root/x; touch /tmp/x; ls -ln /tmp; grep Cap /proc/self/status'),
      shell('r12b', ['--user', '1000:2000'], 'id -u; id -g; id -G'),
      shell('r12c', ['--user', 'worker'], 'id'),
      run('r12d', ['--user', 'nobodyatall'], 'id'),
      ['containers', 'ls', '-q'],
    ],
    hide: [[/(\w+) +\d+ \d\d:\d\d (x)/g, 'WHEN $2']],
  },
  {
    name: 'run --cwd',
    steps: [run('r13', ['--cwd', '/usr/bin'], 'pwd'), run('r13b', ['--cwd', '/made/by/runtime'], 'pwd')],
  },
  {
    name: 'run --read-only',
    steps: [shell('r14', ['--read-only'], 'echo x > /file; echo y > /dev/shm/file && cat /dev/shm/file')],
  },
  {
    name: 'run --net-host',
    steps: [
      async (session) => {
        const host = fs.readlinkSync('/proc/self/ns/net');
        const script = `[ "$(readlink /proc/self/ns/net)" = "${host}" ] && echo "the host's network"; ls /etc/hosts /etc/resolv.conf`;
        session.note((await session.quietly(['run', '--rm', '--net-host', IMAGE, 'r15', 'sh', '-c', script])).trim());
      },
      shell('r15b', [], 'ls /sys/class/net; cat /proc/net/dev | wc -l'),
    ],
  },
  {
    name: 'run --privileged',
    steps: [
      shell(
        'r16',
        ['--privileged'],
        'grep -E "^(Cap|Seccomp:|NoNew)" /proc/self/status; mount -t tmpfs x /tmp && echo mounted; ls /dev | wc -l',
      ),
      shell('r16b', ['--privileged'], 'cut -d" " -f2- /proc/mounts | sed "s/lowerdir=[^, ]*/lowerdir/"'),
    ],
    hide: [[/^\d\d+$/gm, 'COUNT']],
  },
  {
    name: 'run --seccomp',
    steps: [
      shell('r17', ['--seccomp'], 'grep -E "^Seccomp:" /proc/self/status; unshare -U true; echo status $?'),
      shell('r17b', ['--seccomp', '--seccomp-profile', '$SCRATCH/none.json'], 'true'),
      ['containers', 'ls', '-q'],
    ],
  },
  {
    name: 'run --snapshotter native',
    steps: [
      quietly('images', 'import', '--snapshotter', 'native', '$BUSYBOX'),
      shell('r18', ['--snapshotter', 'native'], 'echo native > /file; cat /file; grep " / " /proc/mounts | wc -l'),
      ['snapshots', '--snapshotter', 'native', 'ls'],
    ],
  },
  {
    name: 'run --rootfs',
    steps: [
      rootFolder('rootfs'),
      [
        'run',
        '--rm',
        '--rootfs',
        '$SCRATCH/rootfs',
        'r19',
        '/bin/sh',
        '-c',
        'echo in a folder; ls /; echo kept > /kept',
      ],
      async (session) => session.note(fs.readFileSync(path.join(session.scratch, 'rootfs', 'kept'), 'utf8')),
      ['run', '--rm', '--rootfs', '--read-only', '$SCRATCH/rootfs', 'r19b', '/bin/sh', '-c', 'echo x > /other'],
      ['run', '--rm', '--rootfs', '$SCRATCH/nowhere', 'r19c', '/bin/sh'],
      ['containers', 'ls', '-q'],
    ],
  },
  {
    name: 'run --config',
    steps: [
      rootFolder('config-root'),
      async (session) => {
        const spec = {
          ociVersion: '1.0.2',
          process: { cwd: '/', args: ['/bin/echo', 'from a spec file'] },
          root: { path: `${session.scratch}/config-root` },
          mounts: [{ destination: '/proc', type: 'proc', source: 'proc' }],
          // Where ctr puts containers itself: both daemons play this at a time.
          linux: { namespaces: [{ type: 'mount' }, { type: 'pid' }], cgroupsPath: session.fill('/$NS/r20') },
        };
        fs.writeFileSync(path.join(session.scratch, 'spec.json'), JSON.stringify(spec));
      },
      ['run', '--rm', '--config', '$SCRATCH/spec.json', 'r20'],
    ],
  },
  {
    name: 'run --label, --annotation, --cgroup',
    steps: [
      ['run', '-d', '--label', 'a=b', '--cgroup', '/$NS-other/place', IMAGE, 'r21', 'sleep', '100'],
      ['containers', 'ls', 'labels.a==b'],
      async (session) => session.note(String(fs.existsSync(session.fill('/sys/fs/cgroup/memory/$NS-other/place')))),
      quietly('tasks', 'kill', '-s', 'KILL', 'r21'),
      stopped('r21'),
      quietly('tasks', 'delete', 'r21'),
      quietly('containers', 'rm', 'r21'),
      async (session) => session.note(String(fs.existsSync(session.fill('/sys/fs/cgroup/memory/$NS-other/place')))),
    ],
  },
  {
    name: 'run --device, --no-pivot, --allow-new-privs',
    steps: [
      shell('r22', ['--device', '/dev/loop-control'], 'ls -l /dev/loop-control | cut -c1-24'),
      shell('r22c', ['--allow-new-privs'], 'grep NoNew /proc/self/status'),
    ],
  },
  {
    name: 'run --with-ns',
    steps: [
      ['run', '-d', IMAGE, 'r23', 'sleep', '100'],
      async (session) => {
        const pid = / (\d+) /.exec(await session.quietly(['tasks', 'ls']))?.[1];
        const joined = fs.readlinkSync(`/proc/${pid}/ns/net`);
        const flags = ['--with-ns', `network:/proc/${pid}/ns/net`, '--with-ns', `ipc:/proc/${pid}/ns/ipc`];
        const seen = await session.quietly(['run', '--rm', ...flags, IMAGE, 'r23b', 'readlink', '/proc/self/ns/net']);
        session.note(`joined: ${seen.trim() === joined}`);
      },
      ['tasks', 'delete', '--force', 'r23'],
      ['containers', 'rm', 'r23'],
      shell('r23c', ['--with-ns', 'network:/none'], 'true'),
      shell('r23d', ['--with-ns', 'nonsense'], 'true'),
    ],
  },
  {
    name: 'run --null-io',
    steps: [shell('r24', ['--null-io'], 'echo unseen; readlink /proc/self/fd/0 /proc/self/fd/1 /proc/self/fd/2')],
  },
  {
    name: 'run --log-uri file',
    steps: [
      ['run', '-d', '--log-uri', 'file://$SCRATCH/log', IMAGE, 'r25', 'sh', '-c', 'echo out; echo err >&2'],
      stopped('r25'),
      // It has stopped before all of its output is written, and the peer can lose output in delete.
      logged('log', 'out', 'err'),
      ['tasks', 'delete', 'r25'],
      ['containers', 'rm', 'r25'],
    ],
  },
  {
    name: 'run --pid-file',
    steps: [
      ['run', '-d', '--pid-file', '$SCRATCH/pid', IMAGE, 'r26', 'sleep', '100'],
      async (session) => {
        const pid = fs.readFileSync(path.join(session.scratch, 'pid'), 'utf8');
        const commandLine = () => fs.readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ');
        // Start answers before runc's init has become the program.
        await waitFor('start of sleep', () => commandLine().startsWith('sleep'));
        session.note(commandLine());
      },
      ['tasks', 'delete', '--force', 'r26'],
      ['containers', 'rm', 'r26'],
    ],
  },
  {
    name: 'run -t',
    steps: [
      onTerminal(
        ['run', '--rm', '-t', IMAGE, 't1', 'sh', '-c', 'tty; echo ready; read line; echo "got $line"; exit 5'],
        [['ready', 'send', 'words\r']],
      ),
      onTerminal(['run', '--rm', '-t', IMAGE, 't2', 'sh', '-c', RESIZED], [['ready', 'resize', '10x20']]),
      onTerminal(
        ['run', '--rm', '-t', IMAGE, 't3', 'sh', '-c', 'echo ready; exec cat'],
        [
          ['ready', 'send', 'line\r'],
          ['line\nline\n', 'send', '\u0004'],
        ],
      ),
      onTerminal(
        [
          'run',
          '--rm',
          '-t',
          IMAGE,
          't4',
          'sh',
          '-c',
          'trap "echo interrupted; exit 9" INT; echo ready; while :; do sleep 0.05; done',
        ],
        [['ready', 'send', '\u0003']],
      ),
    ],
  },
  {
    name: 'run: bad commands',
    steps: [
      run('b1', [], '/none'),
      run('b2', [], 'none'),
      run('b3', [], '/etc/passwd'),
      run('b4', [], '/etc'),
      ['containers', 'ls', '-q'],
      ['tasks', 'ls', '-q'],
      ['snapshots', 'ls'],
    ],
  },
  {
    name: 'run: bad arguments',
    steps: [
      run('id/slash', [], 'true'),
      run('x'.repeat(77), [], 'true'),
      run('', [], 'true'),
      ['run', '--rm', 'test/none:1', 'b5', 'true'],
      ['run', '--rm', '--snapshotter', 'nope', IMAGE, 'b6', 'true'],
      ['run', '--rm', '--runtime', 'io.containerd.nope.v1', IMAGE, 'b7', 'true'],
      ['containers', 'ls', '-q'],
      collected(),
      ['snapshots', 'ls'],
    ],
  },
  {
    name: 'run: a used id',
    steps: [
      ['run', '-d', IMAGE, 'b8', 'sleep', '100'],
      run('b8', [], 'true'),
      ['tasks', 'ls'],
      ['tasks', 'delete', '--force', 'b8'],
      ['containers', 'rm', 'b8'],
    ],
  },
];

function run(id: string, flags: readonly string[], ...command: readonly string[]): Step {
  return ['run', '--rm', ...flags, IMAGE, id, ...command];
}

function shell(id: string, flags: readonly string[], script: string): Step {
  return run(id, flags, 'sh', '-c', script);
}

/** Notes what a file of a cgroup v1 controller holds. */
function cgroupFile(file: string, form = (text: string) => text): Step {
  return async (session) => session.note(form(fs.readFileSync(session.fill(`/sys/fs/cgroup/${file}`), 'utf8').trim()));
}

/** A root filesystem in a plain folder of the scratch folder. */
function rootFolder(name: string) {
  return async (session: Session) => {
    const root = path.join(session.scratch, name);
    fs.rmSync(root, { recursive: true, force: true });
    for (const folder of ['bin', 'proc', 'sys', 'dev', 'etc', 'tmp']) {
      fs.mkdirSync(path.join(root, folder), { recursive: true });
    }
    fs.copyFileSync('/usr/bin/busybox', path.join(root, 'bin', 'busybox'));
    for (const applet of ['sh', 'ls', 'echo', 'cat']) {
      fs.symlinkSync('busybox', path.join(root, 'bin', applet));
    }
  };
}
