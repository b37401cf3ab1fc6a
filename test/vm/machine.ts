// One run of the virtual machine: the built project goes onto a second disk, the machine boots and runs a command there,
// and its disks are thrown away.

import { spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { PROJECT_ROOT } from '../setup/cache';
import { mustRun } from '../setup/command';
import { makeDisk, type VmImage } from './image';

export interface RunOptions {
  readonly image: VmImage;
  /** A shell script; its working directory is the project's. */
  readonly command: string;
  /** More of the kernel's command line. */
  readonly kernelArguments: string;
  readonly timeoutMs: number;
}

const FOLDERS = ['proto', 'runtime-native', 'snapshotter', 'shim', 'daemon', 'cli', 'test'];
const MEMORY_MIB = 2048;
const PROJECT_DISK_SIZE = '256M';
const CONSOLE_LINES = 30;

/**
 * Prints what the command prints, and returns its exit status.
 * @throws Error with the end of the kernel's messages when the machine ends without a status, or not in time
 */
export async function runInVm({ image, command, kernelArguments, timeoutMs }: RunOptions): Promise<number> {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'gantry-vm-'));
  const file = (name: string) => path.join(directory, name);
  try {
    await stageProject(file('project'), command);
    await makeDisk(file('disk'), file('project'), PROJECT_DISK_SIZE);
    await boot(qemuCommand(image, file, kernelArguments), timeoutMs);
    const status = fs.readFileSync(file('status'), 'utf8').trim();
    if (!/^\d+$/.test(status)) {
      const messages = fs.readFileSync(file('console'), 'utf8').split('\n').slice(-CONSOLE_LINES).join('\n');
      throw new Error(`the virtual machine ended without an exit status:\n${messages}`);
    }
    return Number(status);
  } finally {
    fs.rmSync(directory, { recursive: true, force: true });
  }
}

/** The project as it is, with the compiled files in the place of the sources: in the machine nothing has to be compiled. */
async function stageProject(target: string, command: string): Promise<void> {
  const source = (name: string) => path.join(PROJECT_ROOT, name);
  const copy = (from: string[], to: string) => mustRun(['cp', '-a', ...from, to]);
  fs.mkdirSync(path.join(target, 'dist'), { recursive: true });
  fs.mkdirSync(path.join(target, 'node_modules'));
  await copy(
    fs.readdirSync(source('dist')).map((name) => source(`dist/${name}`)),
    path.join(target, 'dist'),
  );
  await copy([...FOLDERS, 'package.json', 'Makefile'].map(source), target);
  for (const folder of FOLDERS) await copy([source(`dist/${folder}`)], target);
  fs.writeFileSync(path.join(target, 'command'), `${command}\n`);
}

/** One processor: a second one makes emulation slower, not faster, when the host is busy. */
function qemuCommand(image: VmImage, file: (name: string) => string, kernelArguments: string): string[] {
  const acceleration = hasVirtualisation()
    ? ['-accel', 'kvm', '-cpu', 'host']
    : ['-accel', 'tcg,tb-size=512', '-cpu', 'Nehalem-v1'];
  const disk = (name: string) => `file=${name},format=raw,if=virtio,snapshot=on,cache=unsafe`;
  return [
    'nice',
    'qemu-system-x86_64',
    ...['-machine', 'q35', ...acceleration, '-smp', '1', '-m', String(MEMORY_MIB)],
    ...['-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot'],
    ...['-kernel', image.kernel, '-initrd', image.initrd],
    ...['-append', `console=ttyS0 loglevel=4 panic=-1 psi=1 mitigations=off no_timer_check ${kernelArguments}`],
    ...['-drive', disk(image.disk), '-drive', disk(file('disk')), '-drive', disk(image.modules)],
    ...['-device', 'virtio-rng-pci', '-chardev', 'stdio,id=output,signal=off'],
    ...['-serial', `file:${file('console')}`, '-serial', 'chardev:output', '-serial', `file:${file('status')}`],
  ];
}

/** The device alone says little: some hosts have it without a processor that can. */
function hasVirtualisation(): boolean {
  return fs.existsSync('/dev/kvm') && /^flags\s.*\b(vmx|svm)\b/m.test(fs.readFileSync('/proc/cpuinfo', 'utf8'));
}

function boot(command: readonly string[], timeoutMs: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn(command[0] ?? '', command.slice(1), { stdio: ['ignore', 'inherit', 'inherit'] });
    const timer = setTimeout(() => {
      child.kill('SIGKILL');
      reject(new Error(`the virtual machine did not end within ${timeoutMs} ms`));
    }, timeoutMs);
    child.once('error', reject);
    child.once('exit', () => {
      clearTimeout(timer);
      resolve();
    });
  });
}
