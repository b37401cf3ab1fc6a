// gantry-runtime beside Debian's runc: the same calls in the same situations must give the same exit codes and, but for the
// names, the same words, because that is what callers of runc look for.

import path from 'node:path';
import { PROJECT_ROOT } from '../../setup/cache';
import { type CommandResult, runCommand } from '../../setup/command';
import { describeUnless, needsFile } from '../../setup/needs';
import { OciCommand } from '../../suites/oci-command';
import { missingForContainers } from '../../suites/runtime-bundle';

const GANTRY = path.join(PROJECT_ROOT, 'dist', 'bin', 'gantry-runtime');
const RUNC = '/usr/sbin/runc';

type Case = (command: OciCommand) => Promise<CommandResult>;

const SITUATIONS: Readonly<Record<string, Case>> = {
  'start what runs': async (command) => command.call('start', await command.running()),
  'start what has stopped': async (command) => command.call('start', await stopped(command)),
  'kill what has stopped': async (command) => command.call('kill', await stopped(command)),
  'kill --all what has stopped': async (command) => command.call('kill', '--all', await stopped(command)),
  'kill after the flag': async (command) => command.call('kill', await command.running(), 'KILL', '--all'),
  'an unknown signal': async (command) => command.call('kill', await command.running(), 'NOTHING'),
  'delete what runs': async (command) => command.call('delete', await command.running()),
  'delete --force what does not exist': (command) => command.call('delete', '--force', 'nothing'),
  'pause what is paused': async (command) => command.call('pause', await paused(command)),
  'pause what has stopped': async (command) => command.call('pause', await stopped(command)),
  'resume what runs': async (command) => command.call('resume', await command.running()),
  'exec in what is paused': async (command) => command.call('exec', await paused(command), 'true'),
  'exec in what has stopped': async (command) => command.call('exec', await stopped(command), 'true'),
  'exec without a command': async (command) => command.call('exec', await command.running()),
  'exec of a missing program': async (command) => command.call('exec', await command.running(), 'nothing'),
  'exec of a missing path': async (command) => command.call('exec', await command.running(), '/no/thing'),
  'exec of what is no program': async (command) => command.call('exec', await command.running(), '/not-executable'),
  'exec with a directory that is missing': async (command) =>
    command.call('exec', '--cwd', '/no/dir', await command.running(), 'true'),
  'exec with a terminal but no socket': async (command) =>
    command.call('exec', '--detach', '--tty', await command.running(), 'true'),
  'exec in a group of an unknown controller': async (command) =>
    command.call('exec', '--cgroup', 'nothing:sub', await command.running(), 'true'),
  'exec in a group outside': async (command) =>
    command.call('exec', '--cgroup', '../sub', await command.running(), 'true'),
  'exec in a group with too many names': async (command) =>
    command.call('exec', '--cgroup', 'a:b:c', await command.running(), 'true'),
  'exec in groups of which one has no controller': async (command) =>
    command.call('exec', '--cgroup', 'sub', '--cgroup', 'memory:sub', await command.running(), 'true'),
  'run of a missing program': (command) => command.run(['nothing']),
  'run of a missing path': (command) => command.run(['/no/thing']),
  'run of what is no program': (command) => command.run(['/not-executable']),
  'run of what has a bad format': (command) => command.run(['/bad-format']),
  'run with a root that is missing': (command) =>
    command.run(['true'], (spec) => {
      spec.root.path = '/no/root';
    }),
  'run without a configuration': (command) => command.call('run', '--bundle', command.bundle.path, 'none'),
  'run without a bundle': (command) => command.call('run', '--bundle', '/no/bundle', 'none'),
  'an id that is a path': (command) => command.call('run', '--bundle', command.prepare(['true']).path, 'a/b'),
  'an id that is taken': async (command) => {
    const { id, path: bundle } = await command.create(['true']);
    return command.call('run', '--bundle', bundle, id);
  },
  'list with an unknown format': (command) => command.call('list', '--format', 'nothing'),
  'ps with an unknown format': async (command) => command.call('ps', '--format', 'nothing', await command.running()),
  'ps with options for ps': async (command) =>
    command.call('ps', await command.running(), '-o', 'pid,args').then(withoutPids),
  'events of what has stopped': async (command) => command.call('events', '--stats', await stopped(command)),
  'spec where there is one': (command) => command.call('spec', '--bundle', command.prepare(['true']).path),
  'a log in JSON': async (command) => {
    const log = path.join(command.directory, 'log.json');
    const result = await command.call('--log', log, '--log-format', 'json', 'state', 'nothing');
    const lines = (await runCommand(['cat', log])).stdout.trim().split('\n');
    const { level, msg, time } = JSON.parse(lines[0] ?? '') as Record<string, string>;
    return {
      ...result,
      stdout: `${lines.length} ${level} ${msg} ${/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/.test(time ?? '')}`,
    };
  },
};

describeUnless(missingForContainers() ?? needsFile(GANTRY, 'make build') ?? needsFile(RUNC, 'package runc'))(
  'gantry-runtime says what runc says',
  () => {
    test.each(Object.entries(SITUATIONS))('%s', async (_name, situation) => {
      const [theirs, ours] = [await play(RUNC, situation), await play(GANTRY, situation)];

      expect(ours).toEqual(theirs);
    });
  },
);

async function play(program: string, situation: Case): Promise<CommandResult> {
  const command = new OciCommand(program);
  try {
    const { exitCode, stdout, stderr } = await situation(command);
    const plain = (text: string) =>
      text
        .replaceAll(command.directory, 'DIR')
        .replaceAll(command.bundle.path, 'BUNDLE')
        .replaceAll(command.bundle.name, 'NAME')
        .replaceAll(/^time="[^"]*" level=warning .*\n/gm, '')
        .replaceAll(/time="[^"]*"/g, 'time=T')
        // The one difference that is meant: the id is named.
        .replaceAll(/container (\\?")[\w-]+\1 does not exist/g, 'container does not exist');
    return { exitCode, stdout: plain(stdout), stderr: plain(stderr) };
  } finally {
    await command.clean();
  }
}

async function stopped(command: OciCommand): Promise<string> {
  const id = await command.running(['true']);
  await command.waitForStatus(id, 'stopped');
  return id;
}

async function paused(command: OciCommand): Promise<string> {
  const id = await command.running();
  await command.must('pause', id);
  return id;
}

function withoutPids(result: CommandResult): CommandResult {
  return { ...result, stdout: result.stdout.replaceAll(/^ *\d+/gm, 'PID') };
}
