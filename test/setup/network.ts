// A network namespace for tests, so that daemons that make bridges and firewall rules leave the machine's alone, and two of
// them can use the same addresses.

import { type ChildProcess, spawn } from 'node:child_process';
import fs from 'node:fs';
import { waitFor } from './command';
import { killIfThere } from './leftovers';

const BUSYBOX = '/usr/bin/busybox';
/** Ends with its input, which ends with this process. */
const HOLD = `echo up && exec ${BUSYBOX} cat`;
const NOTHING_MORE = { kinds: [], setUp: '' } as const;

/** Lasts until close(), or until this process ends. Only the loopback interface is in it. */
export class TestNetwork {
  readonly #holder: ChildProcess;
  /** A command that runs what follows it in the namespace, as the same process. */
  readonly within: readonly string[];

  private constructor(holder: ChildProcess, kinds: readonly string[]) {
    this.#holder = holder;
    this.within = ['nsenter', `--target=${holder.pid}`, ...kinds, '--'];
  }

  /** The process that holds it. */
  get pid(): number {
    return this.#holder.pid!;
  }

  /**
   * @param more further namespaces that what runs within has, and shell commands that make them ready
   * @throws Error when the kernel or the user does not allow it
   */
  static async open(more: { kinds: readonly ('mount' | 'uts')[]; setUp: string } = NOTHING_MORE): Promise<TestNetwork> {
    const kinds = ['net', ...more.kinds].map((kind) => `--${kind}`);
    const script = `set -e; ${BUSYBOX} ip link set lo up; ${more.setUp}\n${HOLD}`;
    const holder = spawn('unshare', [...kinds, BUSYBOX, 'sh', '-c', script], { stdio: ['pipe', 'pipe', 'inherit'] });
    let isUp = false;
    let hasEnded = false;
    holder.stdout.on('data', () => {
      isUp = true;
    });
    holder.on('error', () => {
      hasEnded = true;
    });
    holder.on('exit', () => {
      hasEnded = true;
    });
    await waitFor('a network namespace', () => isUp || hasEnded);
    if (hasEnded) throw new Error(`a network namespace: unshare ${kinds.join(' ')} failed`);
    return new TestNetwork(holder, kinds);
  }

  /** Kills every process in the namespace, which goes with the last of them. */
  async close(): Promise<void> {
    const place = namespaceOf(String(this.#holder.pid));
    const inside = () => fs.readdirSync('/proc').filter((entry) => /^\d+$/.test(entry) && namespaceOf(entry) === place);
    const holder = this.#holder;
    if (place !== undefined) {
      for (const pid of inside()) killIfThere(Number(pid));
    }
    await waitFor('the end of a network namespace', () => holder.exitCode !== null || holder.signalCode !== null);
  }
}

/** Undefined for a process that is gone. */
function namespaceOf(pid: string): string | undefined {
  try {
    return fs.readlinkSync(`/proc/${pid}/ns/net`);
  } catch {
    return undefined;
  }
}
