// A cgroup that systemd makes as a unit and hands over (Delegate=): what is inside is ours, what it is limited by is told
// to both, systemd by properties and the kernel by control files.

import { existsSync } from 'node:fs';
import { unknown } from '../../proto/errors';
import { type LaunchedInit, launch } from '../launch';
import type { CpuResources, LinuxResources } from '../spec';
import type { Cgroup } from './cgroup';
import { readControl } from './files';
import type { Systemd } from './systemd';
import type { Property } from './systemd-properties';

export interface Unit {
  /** "runc-x.scope", or a slice. */
  readonly name: string;
  readonly slice: string;
  /** Of the container; those of systemd's properties are looked at. */
  readonly annotations?: Readonly<Record<string, string>>;
}

const SYSTEMD_RUNS = '/run/systemd/system';

/** A group of either version as that of a unit. @throws UNKNOWN when the host does not run systemd */
export function groupOfUnit(group: Cgroup, unit: Unit): Cgroup {
  if (!existsSync(SYSTEMD_RUNS)) {
    throw unknown('systemd not running on this host, cannot use systemd cgroups manager');
  }
  let placeholder: LaunchedInit | undefined;
  // A unit that others have made is theirs to stop.
  let isOurs = true;
  const settled = () => {
    placeholder?.destroy();
    placeholder = undefined;
  };
  return Object.assign(Object.create(group) as Cgroup, {
    settled,
    async create(): Promise<void> {
      isOurs = false;
      // A scope begins with a process and ends without any; the container's does not exist yet.
      placeholder = launch({
        plan: { operations: [{ op: 'sync', point: 'ready' }], inherited: [] },
        namespaces: 0,
        stdio: [-1, -1, -1],
        inInit: false,
      });
      const properties = startProperties(group, unit, placeholder.pid);
      await withSystemd((systemd) => systemd.start(unit.name, properties));
      isOurs = true;
      await group.create();
    },
    async apply(resources: LinuxResources, update: boolean): Promise<void> {
      const { resourceProperties, deviceProperties } = propertiesModule();
      const cpu = update ? withBoth(group, resources.cpu) : (resources.cpu ?? {});
      const properties = [
        ...resourceProperties(group.mountView().version, { ...resources, cpu }),
        ...(update ? [] : deviceProperties(resources.devices ?? [])),
      ];
      if (properties.length > 0) await withSystemd((systemd) => systemd.setProperties(unit.name, properties));
      await group.apply(resources, update);
    },
    async remove(): Promise<void> {
      settled();
      if (!isOurs) return;
      await withSystemd((systemd) => systemd.stop(unit.name));
      await group.remove();
    },
  });
}

function startProperties(group: Cgroup, { name, slice, annotations = {} }: Unit, pid: number): Property[] {
  const { property } = propertiesModule();
  const { annotatedProperties } = require('./systemd-annotations') as typeof import('./systemd-annotations');
  const input = group.mountView().version === 2 ? 'IOAccounting' : 'BlockIOAccounting';
  const place = name.endsWith('.slice')
    ? [property('Wants', 'as', [slice])]
    : [property('Slice', 's', slice), property('Delegate', 'b', true), property('PIDs', 'au', [pid])];
  return [
    property('Description', 's', `libcontainer container ${name}`),
    ...place,
    ...['MemoryAccounting', 'CPUAccounting', input, 'TasksAccounting'].map((flag) => property(flag, 'b', true)),
    property('DefaultDependencies', 'b', false),
    ...annotatedProperties(annotations),
  ];
}

/** systemd counts per second: of quota and period it needs the one that stays as well. */
function withBoth(group: Cgroup, cpu: CpuResources = {}): CpuResources {
  if (Boolean(cpu.quota) === Boolean(cpu.period)) return cpu;
  const view = group.mountView();
  const path = view.version === 2 ? view.path : view.hierarchies.find(({ options }) => options.includes('cpu'))?.path;
  const read = (file: string) => readControl(path ?? '', file) ?? '';
  const [quota, period] =
    view.version === 2 ? read('cpu.max').split(' ') : [read('cpu.cfs_quota_us'), read('cpu.cfs_period_us')];
  return {
    ...cpu,
    quota: cpu.quota || (quota === 'max' ? -1 : Number(quota)),
    period: cpu.period || Number(period),
  };
}

async function withSystemd(body: (systemd: Systemd) => Promise<void>): Promise<void> {
  const { Systemd } = require('./systemd') as typeof import('./systemd');
  const systemd = await Systemd.open();
  try {
    await body(systemd);
  } finally {
    systemd.close();
  }
}

/** As little as possible is loaded where systemd makes no cgroups. */
function propertiesModule() {
  return require('./systemd-properties') as typeof import('./systemd-properties');
}
