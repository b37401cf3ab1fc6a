// The contract of an OCI runtime's command line: groups that are there before the container.

import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { hostLayout } from '../../runtime-native/cgroup/layout';
import { runCommand, waitFor } from '../setup/command';
import type { OciCommand } from './oci-command';
import type { KnownDeviations } from './oci-command.suite';

const layout = hostLayout();
const mountpoints = layout.version === 2 ? [layout.mountpoint] : layout.hierarchies.map(({ mountpoint }) => mountpoint);

export function cgroupCases(command: () => OciCommand, known: KnownDeviations): void {
  const made: string[] = [];
  const ids: string[] = [];
  afterEach(async () => {
    for (const id of ids.splice(0)) await command().call('delete', '--force', id);
    for (const directory of made.splice(0)) if (existsSync(directory)) rmdirSync(directory);
  });

  /** A container that is not made yet, and the directories of its group, which are. */
  const withGroup = () => {
    let group = '';
    const prepared = command().prepare(['sleep', '1000'], (spec) => {
      group = spec.linux.cgroupsPath;
    });
    const directories = mountpoints.map((mountpoint) => join(mountpoint, group));
    for (const directory of directories) mkdirSync(directory, { recursive: true });
    made.push(...directories);
    ids.push(prepared.id);
    const file = (...names: string[]) =>
      directories.flatMap((directory) => names.map((name) => join(directory, name))).find(existsSync) ?? '';
    return { ...prepared, directories, file };
  };
  const create = ({ id, path }: { id: string; path: string }) => command().detached('create', '--bundle', path, id);

  test('an empty group is taken over', async () => {
    const container = withGroup();

    expect(await create(container)).toMatchObject({ code: 0 });
    const { pid } = await command().state(container.id);
    expect(readFileSync(container.file('cgroup.procs'), 'utf8')).toBe(`${pid}\n`);
  });

  if (!known.isCrun) {
    test('a frozen group is refused, as nothing could be set up in it', async () => {
      const container = withGroup();
      const switchOf = container.file('freezer.state', 'cgroup.freeze');
      const [frozen, thawed] = layout.version === 2 ? ['1', '0'] : ['FROZEN', 'THAWED'];
      try {
        writeFileSync(switchOf, frozen);
        if (layout.version === 2)
          await waitFor('the freezer', () => /frozen 1/.test(readFileSync(container.file('cgroup.events'), 'utf8')));
        const { code, log } = await create(container);

        expect(code).not.toBe(0);
        expect(log).toContain("container's cgroup unexpectedly frozen");
      } finally {
        writeFileSync(switchOf, thawed);
      }
    });
  }

  if (!known.isCrun) rootlessCases(command);

  if (!known.joinsOthers) {
    test('a group that holds processes is refused before anything is made', async () => {
      const container = withGroup();
      const other = spawn('sleep', ['1000'], { stdio: 'ignore' });
      const ended = new Promise((resolve) => other.on('exit', resolve));
      try {
        const [directory = ''] = container.directories.slice(-1);
        writeFileSync(join(directory, 'cgroup.procs'), String(other.pid));
        const { code, log } = await create(container);

        expect(code).not.toBe(0);
        expect(log).toContain("container's cgroup is not empty: 1 process(es) found");
        expect(log).toContain(`${directory}: ${other.pid};`);
        expect(existsSync(join(command().directory, 'state', container.id))).toBe(false);
        for (const kept of container.directories) expect(readdirSync(kept)).toContain('cgroup.procs');
        expect(other.exitCode ?? other.signalCode).toBeNull();
      } finally {
        other.kill('SIGKILL');
        await ended;
      }
    });
  }
}

/** Root that may not write cgroups, as in most containers. */
function rootlessCases(command: () => OciCommand): void {
  const script = 'for at in $1; do mount -o remount,bind,ro $at || exit 99; done; shift; exec "$@"';
  const run = (flag: string, limit?: number) => {
    const { id, path } = command().prepare(['echo', 'ran'], (spec) => {
      Object.assign(spec.linux, { cgroupsPath: undefined });
      spec.linux.resources = (limit === undefined ? {} : { pids: { limit } }) as never;
    });
    const argv = command().argv(flag, 'run', '--bundle', path, id);
    return runCommand(['unshare', '--mount', 'sh', '-c', script, 'sh', mountpoints.join(' '), ...argv]);
  };

  test('--rootless=true does without cgroups where there are no rights on them', async () => {
    expect(await run('--rootless=true')).toMatchObject({ exitCode: 0, stdout: 'ran\n' });
  });

  test.each(['--rootless=false', '--rootless=auto'])('%s wants root to have rights on cgroups', async (flag) => {
    const { exitCode, stderr } = await run(flag);

    expect(exitCode).toBe(1);
    expect(stderr).toMatch(/unable to apply cgroup configuration: .*read-only file system/);
  });

  test('--rootless=true refuses limits that nobody would enforce', async () => {
    const { exitCode, stderr } = await run('--rootless=true', 5);

    expect(exitCode).toBe(1);
    expect(stderr).toMatch(/cannot set pids limit|rootless needs no limits|linux\.resources\.pids: needs cgroups/);
  });
}
