// systemd in namespaces of its own, with a system bus and nothing else: no unit, no file and no process of the host is
// within its reach. It lives on the v2 hierarchy of the host, with the controllers that v1 leaves.

import { execFile, spawn } from 'node:child_process';
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { needsFile } from '../setup/needs';

export interface CommandResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

const SYSTEMD = '/lib/systemd/systemd';
const BUS = '/usr/bin/dbus-daemon';
const UNITS = {
  'test.target': '[Unit]\nDefaultDependencies=no\nWants=dbus.service\n',
  'dbus.socket': '[Unit]\nDefaultDependencies=no\n[Socket]\nListenStream=/run/dbus/system_bus_socket\n',
  'dbus.service': `[Unit]\nDefaultDependencies=no\nRequires=dbus.socket\n[Service]\nType=notify\nExecStart=${BUS} --system --address=systemd: --nofork --nopidfile --systemd-activation --syslog-only\n`,
};
const READY_MS = 60_000;
const POLL_MS = 50;
const COMMAND_MS = 120_000;
const mountpoint = ['/sys/fs/cgroup', '/sys/fs/cgroup/unified'].find((path) =>
  existsSync(`${path}/cgroup.subtree_control`),
);

/** Why it cannot run here; undefined when it can. */
export function missingForSystemd(): string | undefined {
  if (mountpoint === undefined) return 'needs a cgroup v2 hierarchy';
  return needsFile(SYSTEMD, 'package systemd') ?? needsFile(BUS, 'package dbus');
}

export class SystemdMachine {
  /** The one place that both sides can write. */
  readonly directory = mkdtempSync(join(tmpdir(), 'gantry-systemd-'));
  readonly controllers: readonly string[];
  private readonly group = join(mountpoint ?? '', basename(this.directory));
  private pid = 0;

  constructor() {
    for (const name of ['units', 'none']) mkdirSync(join(this.directory, name));
    for (const [name, text] of Object.entries(UNITS)) writeFileSync(join(this.directory, 'units', name), text);
    const root = mountpoint ?? '';
    this.controllers = readFileSync(join(root, 'cgroup.controllers'), 'utf8').trim().split(' ').filter(Boolean);
    writeFileSync(join(root, 'cgroup.subtree_control'), this.controllers.map((name) => `+${name}`).join(' '));
    mkdirSync(join(this.group, 'runner'), { recursive: true });
  }

  /** Resolves when the bus is there. */
  async boot(): Promise<void> {
    const script = join(__dirname, 'systemd-boot.sh');
    const namespaces = ['--mount', '--pid', '--cgroup', '--uts', '--ipc', '--net', '--fork', '--kill-child'];
    const command = ['unshare', ...namespaces, 'sh', script, this.directory];
    const log = openSync(join(this.directory, 'log'), 'w');
    const child = spawn('sh', ['-c', this.inGroup('.'), 'sh', ...command], { stdio: ['ignore', log, log] });
    closeSync(log);
    const until = async (condition: () => boolean | Promise<boolean>) => {
      const deadline = Date.now() + READY_MS;
      while (!(await condition())) {
        if (child.exitCode !== null || Date.now() > deadline) {
          throw new Error(`systemd did not come up: ${readFileSync(join(this.directory, 'log'), 'utf8')}`);
        }
        await new Promise((resolve) => setTimeout(resolve, POLL_MS));
      }
    };
    await until(() => {
      this.pid = Number(readFileSync(`/proc/${child.pid}/task/${child.pid}/children`, 'utf8').split(' ')[0]);
      return this.pid > 0;
    });
    // Which itself stays outside: a group of processes cannot hand controllers down.
    const own = /^0::(.*)$/m.exec(readFileSync('/proc/self/cgroup', 'utf8'))?.[1] ?? '/';
    writeFileSync(join(mountpoint ?? '', own, 'cgroup.procs'), String(child.pid));
    await until(async () => (await this.run('systemctl', 'is-active', 'dbus.service')).stdout === 'active\n');
  }

  /** A command among systemd's processes. */
  run(...command: readonly string[]): Promise<CommandResult> {
    const enter = ['nsenter', `--target=${this.pid}`, '-m', '-p', '-C', '-u', '-i', '-n', '--'];
    const log = join(this.directory, 'output');
    // Through files: what a container leaves running would keep pipes open.
    const script = `${this.inGroup('runner').replace('exec', '')} >${log} 2>${log}.error </dev/null`;
    return new Promise((resolve) => {
      execFile('sh', ['-c', script, 'sh', ...enter, ...command], { timeout: COMMAND_MS }, (error) => {
        const code = error === null ? 0 : Number(error.code ?? -1);
        resolve({ code, stdout: readFileSync(log, 'utf8'), stderr: readFileSync(`${log}.error`, 'utf8') });
      });
    });
  }

  /** Properties of a unit as systemctl shows them. */
  async properties(unit: string, names: readonly string[]): Promise<Record<string, string>> {
    const { stdout } = await this.run('systemctl', 'show', unit, `--property=${names.join(',')}`);
    const found: Record<string, string> = {};
    for (const [, name = '', value = ''] of stdout.matchAll(/^(\w+)=(.*)$/gm)) {
      found[name] = name in found ? `${found[name]}\n${value}` : value;
    }
    return found;
  }

  /** Content of a control file of a group below systemd's root. */
  control(path: string, file: string): string {
    return readFileSync(join(this.group, path, file), 'utf8').trim();
  }

  exists(path: string): boolean {
    return existsSync(join(this.group, path));
  }

  async end(): Promise<void> {
    if (this.pid > 1) process.kill(this.pid, 'SIGKILL');
    const deadline = Date.now() + READY_MS;
    while (!tryRemoveGroups(this.group) && Date.now() < deadline) {
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
    rmSync(this.directory, { recursive: true });
  }

  private inGroup(name: string): string {
    return `echo 0 >${join(this.group, name, 'cgroup.procs')} && exec "$@"`;
  }
}

function tryRemoveGroups(directory: string): boolean {
  const below = readdirSync(directory, { withFileTypes: true }).filter((entry) => entry.isDirectory());
  if (!below.every(({ name }) => tryRemoveGroups(join(directory, name)))) return false;
  try {
    rmdirSync(directory);
    return true;
  } catch {
    return false;
  }
}
