// exec: one more process in a running container.

import { unknown } from '../../../proto/errors';
import { Container } from '../../container';
import type { Capabilities, Process } from '../../spec';
import { loadSpec } from '../../state';
import { checkTerminal, readJson } from '../bundle';
import { type Command, type Context, idOf, wordsOf } from '../context';
import { passedFiles } from '../files';
import type { Flags } from '../flags';
import { passSignals, waitInForeground } from '../foreground';
import { writePidFile } from '../pid-file';
import { sendTerminal, withTerminalSize } from '../terminal';

export const exec: Command = {
  usage: '<container-id> <command> [command options] || --process FILE <container-id>',
  help: 'run a further process in a container',
  flags: {
    'console-socket': { type: 'string', help: "unix socket that gets the descriptor of the terminal's master" },
    cwd: { type: 'string', help: 'working directory in the container' },
    env: { type: 'list', short: 'e', help: 'NAME=VALUE for the environment' },
    tty: { type: 'boolean', short: 't', help: 'with a terminal' },
    user: { type: 'string', short: 'u', help: 'UID[:GID]' },
    'additional-gids': { type: 'list', short: 'g', help: 'further groups' },
    process: { type: 'string', short: 'p', help: 'file with the process, as config.json has it' },
    detach: { type: 'boolean', short: 'd', help: 'do not wait for the process' },
    'pid-file': { type: 'string', help: 'file to write the pid of the process to' },
    'process-label': { type: 'string', help: 'SELinux label' },
    apparmor: { type: 'string', help: 'AppArmor profile' },
    'no-new-privs': { type: 'boolean', help: 'the process cannot gain privileges' },
    cap: { type: 'list', short: 'c', help: 'capability to add' },
    'preserve-fds': { type: 'string', help: 'pass N descriptors more than standard input and output' },
    cgroup: { type: 'list', help: 'existing group below that of the container, [CONTROLLER[,CONTROLLER...]:]PATH' },
    'ignore-paused': { type: 'boolean', help: 'wait for a paused container to be resumed' },
  },
  words: [1, Number.MAX_SAFE_INTEGER],
  passesWords: true,
  run: async (context) => {
    try {
      return await runExec(context);
    } catch (error) {
      const message = wordsOf(error);
      throw message.startsWith('exec failed: ') ? error : unknown(`exec failed: ${message}`, { cause: error });
    }
  },
};

async function runExec(context: Context): Promise<number> {
  const { flags, root, words, cacheDir } = context;
  const id = idOf(context);
  const container = Container.load(root, id, cacheDir);
  const path = flags.text('process');
  if (path === undefined && words.length < 2) throw unknown('process args cannot be empty');
  const process = path === undefined ? processOf(loadSpec(root, id)?.process, context) : (readJson(path) as Process);
  const terminal = process.terminal ?? false;
  const detaches = flags.isSet('detach');
  checkTerminal(flags, terminal, detaches);
  const sized = detaches ? process : withTerminalSize(process);
  const { pid, terminalFd } = await container.exec({
    execId: id,
    process: sized,
    io: terminal ? 'terminal' : { stdin: 0, stdout: 1, stderr: 2 },
    files: passedFiles(flags).files,
    cgroups: groupsOf(flags.list('cgroup')),
    ignoresPause: flags.isSet('ignore-paused'),
  });
  const socket = flags.text('console-socket');
  if (detaches && socket !== undefined && terminalFd !== undefined) sendTerminal(socket, terminalFd);
  writePidFile(flags.text('pid-file'), pid);
  if (detaches) return 0;
  passSignals(pid);
  return waitInForeground(pid, terminalFd);
}

/** The container's own process with what the flags say. @throws UNKNOWN */
function processOf(base: Process | undefined, { flags, words }: Context): Process {
  if (base === undefined) throw unknown('process property must not be empty');
  const apparmorProfile = flags.text('apparmor') ?? base.apparmorProfile;
  const selinuxLabel = flags.text('process-label') ?? base.selinuxLabel;
  const user = userOf(base, flags);
  const capabilities = withCapabilities(base.capabilities, flags.list('cap'));
  return {
    ...base,
    args: words.slice(1),
    cwd: flags.text('cwd') ?? base.cwd,
    env: [...(base.env ?? []), ...flags.list('env')],
    terminal: flags.isSet('tty'),
    user,
    ...(capabilities === undefined ? {} : { capabilities }),
    ...(apparmorProfile === undefined ? {} : { apparmorProfile }),
    ...(selinuxLabel === undefined ? {} : { selinuxLabel }),
    ...(flags.has('no-new-privs') ? { noNewPrivileges: flags.isSet('no-new-privs') } : {}),
  };
}

function userOf({ user }: Process, flags: Flags): NonNullable<Process['user']> {
  const base = user ?? { uid: 0, gid: 0 };
  const [uid, gid] = (flags.text('user') ?? '').split(':');
  const groups = flags.list('additional-gids').flatMap((list) => list.split(',').map((text) => id('gid', text)));
  return {
    ...base,
    ...(uid ? { uid: id('uid', uid) } : {}),
    ...(gid ? { gid: id('gid', gid) } : {}),
    ...(groups.length > 0 ? { additionalGids: [...(base.additionalGids ?? []), ...groups] } : {}),
  };
}

/** Controller to path, "" for all. @throws UNKNOWN in runc's words */
function groupsOf(args: readonly string[]): ReadonlyMap<string, string> | undefined {
  if (args.length === 0) return undefined;
  const pairs = args.flatMap((arg) => {
    const [path = '', controllers, ...more] = arg.split(':').reverse();
    if (more.length > 0) throw unknown(`invalid --cgroup argument: ${arg}`);
    if (controllers === undefined && args.length > 1) {
      throw unknown(`invalid --cgroup argument: ${arg} (missing <controller>: prefix)`);
    }
    return (controllers ?? '').split(',').map((name) => [name, path] as const);
  });
  return new Map(pairs);
}

function id(what: string, text: string): number {
  if (!/^\d+$/.test(text)) throw unknown(`parsing ${text} as int for ${what} failed`);
  return Number(text);
}

function withCapabilities(base: Capabilities | undefined, added: readonly string[]): Capabilities | undefined {
  if (added.length === 0) return base;
  return {
    ...base,
    bounding: [...(base?.bounding ?? []), ...added],
    effective: [...(base?.effective ?? []), ...added],
    permitted: [...(base?.permitted ?? []), ...added],
  };
}
