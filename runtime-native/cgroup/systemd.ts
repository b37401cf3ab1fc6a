// Units of systemd over D-Bus (org.freedesktop.systemd1(5)). Loaded only when systemd is to make the cgroups.

import { unknown } from '../../proto/errors';
import { BUS, BusConnection, BusError } from './dbus';
import type { Message, Value } from './dbus-message';
import type { Property } from './systemd-properties';

const SYSTEM_BUS = 'unix:path=/run/dbus/system_bus_socket';
/** systemd's own socket, for root. */
const PRIVATE_SOCKET = '/run/systemd/private';
const MANAGER = {
  destination: 'org.freedesktop.systemd1',
  path: '/org/freedesktop/systemd1',
  interface: 'org.freedesktop.systemd1.Manager',
} as const;
const JOB_TIMEOUT_MS = 30_000;
const JOBS_KEPT_MAX = 1000;
const MODE = 'replace';

/** A connection to systemd's manager. */
export class Systemd {
  private readonly bus: BusConnection;
  /** Job to result, of jobs that ended; the signal may come before the answer that names the job. */
  private readonly ended = new Map<string, string>();
  private readonly waiting = new Map<string, (result: string) => void>();

  private constructor(bus: BusConnection) {
    this.bus = bus;
    bus.onSignal = (signal) => this.take(signal);
  }

  /** Over the system bus, without one directly. @throws UNKNOWN */
  static async open(): Promise<Systemd> {
    const address = process.env['DBUS_SYSTEM_BUS_ADDRESS'] || SYSTEM_BUS;
    let bus: BusConnection;
    try {
      bus = await BusConnection.open(socketOf(address), true);
    } catch (error) {
      if (process.geteuid?.() !== 0) throw error;
      return new Systemd(await BusConnection.open(PRIVATE_SOCKET, false));
    }
    const rule = `type='signal',interface='${MANAGER.interface}',member='JobRemoved'`;
    await bus.call({ ...BUS, member: 'AddMatch', signature: 's', body: [rule] });
    return new Systemd(bus);
  }

  /** Starts a transient unit; a failed one of the same name makes way. @throws UNKNOWN in runc's words */
  async start(unit: string, properties: readonly Property[]): Promise<void> {
    const start = () => this.runJob('StartTransientUnit', 'ssa(sv)a(sa(sv))', [unit, MODE, [...properties], []]);
    let result: string;
    try {
      result = await start().catch(async (error: unknown) => {
        if (!isBusError(error, 'UnitExists')) throw error;
        await this.resetFailed(unit);
        return start();
      });
    } catch (error) {
      throw unknown(`unable to start unit "${unit}": ${(error as Error).message}`, { cause: error });
    }
    if (result === 'done') return;
    await this.resetFailed(unit);
    throw unknown(`error creating systemd unit \`${unit}\`: got \`${result}\``);
  }

  /** Ends a unit with its processes and forgets it. Idempotent. @throws UNKNOWN */
  async stop(unit: string): Promise<void> {
    try {
      await this.runJob('StopUnit', 'ss', [unit, MODE]);
    } catch (error) {
      if (isBusError(error, 'NoSuchUnit')) return;
      throw unknown(`unable to stop unit "${unit}": ${(error as Error).message}`, { cause: error });
    }
    await this.resetFailed(unit);
  }

  /** Until the unit ends. @throws UNKNOWN in runc's words */
  async setProperties(unit: string, properties: readonly Property[]): Promise<void> {
    try {
      await this.call('SetUnitProperties', 'sba(sv)', [unit, true, [...properties]]);
    } catch (error) {
      throw unknown(`unable to set unit properties: ${(error as Error).message}`, { cause: error });
    }
  }

  close(): void {
    this.bus.close();
  }

  /** A unit that has not failed is no failure. */
  private async resetFailed(unit: string): Promise<void> {
    try {
      await this.call('ResetFailedUnit', 's', [unit]);
    } catch (error) {
      if (!(error instanceof BusError)) throw error;
    }
  }

  private async runJob(member: string, signature: string, body: readonly Value[]): Promise<string> {
    const [job] = (await this.call(member, signature, body)) as [string];
    const known = this.ended.get(job);
    if (known !== undefined) return known;
    let timer: NodeJS.Timeout | undefined;
    try {
      return await new Promise<string>((resolve, reject) => {
        this.waiting.set(job, resolve);
        timer = setTimeout(() => reject(new Error(`${member}: the job did not end in time`)), JOB_TIMEOUT_MS);
      });
    } finally {
      clearTimeout(timer);
      this.waiting.delete(job);
    }
  }

  private call(member: string, signature: string, body: readonly Value[]): Promise<readonly Value[]> {
    return this.bus.call({ ...MANAGER, member, signature, body });
  }

  /** JobRemoved: number, job, unit, result. */
  private take({ member, body }: Message): void {
    const [, job, , result] = body;
    if (member !== 'JobRemoved' || typeof job !== 'string' || typeof result !== 'string') return;
    this.waiting.get(job)?.(result);
    if (this.ended.size >= JOBS_KEPT_MAX) this.ended.clear();
    this.ended.set(job, result);
  }
}

function isBusError(error: unknown, name: string): boolean {
  return error instanceof BusError && error.name === `org.freedesktop.systemd1.${name}`;
}

/** "unix:path=/run/x,guid=y" and "unix:abstract=x"; the first of several. @throws UNKNOWN */
function socketOf(address: string): string {
  const options = address.split(';')[0]?.replace(/^unix:/, '') ?? '';
  const values = new Map(options.split(',').map((option) => option.split('=', 2) as [string, string]));
  const path = values.get('path');
  const abstract = values.get('abstract');
  if (path !== undefined) return decodeURIComponent(path);
  if (abstract !== undefined) return `\0${decodeURIComponent(abstract)}`;
  throw unknown(`dbus: address "${address}" is not understood`);
}
