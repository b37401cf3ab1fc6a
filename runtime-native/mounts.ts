// The mounts of a runtime configuration as plan operations. Host paths are opened first, while the host's root is still
// there; what they become inside is said by attach operations later.

import { isAbsolute, join, posix } from 'node:path';
import { bindAttributeChange, bindsSource, type MountOptions, parseMountOptions } from './mount-options';
import type { Operation } from './operations';
import type { SpecMount } from './spec';

/** A cgroup v1 hierarchy as the container is to see it. */
export interface CgroupHierarchy {
  /** Last component of its mount point, such as "cpu,cpuacct" or "systemd". */
  readonly name: string;
  /** Options that select it: "cpu", "cpuacct", "name=systemd". */
  readonly options: readonly string[];
  /** The container's directory in it, on the host. */
  readonly path: string;
}

export interface MountContext {
  readonly bundle: string;
  readonly privateCgroupNamespace: boolean;
  readonly cgroup:
    | { readonly version: 1; readonly hierarchies: readonly CgroupHierarchy[] }
    | { readonly version: 2; readonly path: string };
}

export interface CompiledMounts {
  /** While the host's root is there. */
  readonly open: readonly Operation[];
  readonly mount: readonly Operation[];
  /** After the nodes in /dev have been made. */
  readonly finish: readonly Operation[];
  /** Slots used, from first on. */
  readonly slots: number;
}

/** What runc lets bind mounts cover in /proc. A tmpfs may lie anywhere: it can only hide. */
const ALLOWED_ON_PROC = new Set([
  '/proc',
  '/proc/cpuinfo',
  '/proc/diskstats',
  '/proc/meminfo',
  '/proc/stat',
  '/proc/swaps',
  '/proc/uptime',
  '/proc/loadavg',
  '/proc/slabinfo',
  '/proc/net/dev',
  '/proc/sys/kernel/ns_last_pid',
  '/proc/sys/crypto/fips_enabled',
]);

class Builder {
  readonly open: Operation[] = [];
  readonly mount: Operation[] = [];
  readonly finish: Operation[] = [];
  private slot: number;

  constructor(firstSlot: number) {
    this.slot = firstSlot;
  }

  get slots(): number {
    return this.slot;
  }

  bind(source: string, target: string, options: MountOptions): void {
    const { set, clear } = bindAttributeChange(options);
    this.open.push({ op: 'openTree', slot: this.slot, path: source, recursive: options.recursive });
    this.mount.push({
      op: 'attach',
      slot: this.slot++,
      source,
      target,
      set,
      clear,
      recursive: false,
      ...withPropagation(options),
      ...(ALLOWED_ON_PROC.has(target) ? { onProc: true } : {}),
    });
    if (options.recursiveSet.length + options.recursiveClear.length > 0) {
      this.mount.push({
        op: 'remount',
        target,
        set: options.recursiveSet,
        clear: options.recursiveClear,
        recursive: true,
      });
    }
  }

  filesystem(mount: SpecMount, target: string, options: MountOptions): void {
    const type = mount.type ?? '';
    const isTmpfs = type === 'tmpfs';
    // Nodes and modes are still to be set below these.
    const readOnlyLater = options.attributes.includes('ro') && (isTmpfs || target === '/dev');
    const attributes = readOnlyLater ? options.attributes.filter((name) => name !== 'ro') : options.attributes;
    this.mount.push({
      op: 'mount',
      type,
      source: mount.source ?? type,
      target,
      options: attributes.includes('ro') ? ['ro', ...options.data] : options.data,
      attributes,
      ...withPropagation(options),
      ...(isTmpfs ? { modeOfTarget: true } : {}),
      ...(type === 'proc' || type === 'sysfs' ? { ordinaryDirectory: true } : {}),
      ...(isTmpfs && options.copyUp ? { copyUp: true } : {}),
      ...(target === '/proc' || isTmpfs ? { onProc: true } : {}),
    });
    if (readOnlyLater) this.finish.push({ op: 'remount', target, set: ['ro'], clear: [], recursive: false });
  }

  cgroupV1(mount: SpecMount, target: string, options: MountOptions, context: MountContext): void {
    if (context.cgroup.version !== 1) return;
    const readOnly = options.attributes.includes('ro');
    this.filesystem({ ...mount, type: 'tmpfs', source: 'tmpfs' }, target, {
      ...options,
      attributes: ['noexec', 'nosuid', 'nodev'],
      data: ['mode=755'],
    });
    const links: Operation[] = [];
    for (const hierarchy of context.cgroup.hierarchies) {
      const place = posix.join(target, hierarchy.name);
      if (context.privateCgroupNamespace) {
        this.filesystem({ destination: place, type: 'cgroup', source: 'cgroup' }, place, {
          ...options,
          attributes: ['noexec', 'nosuid', 'nodev', ...(readOnly ? (['ro'] as const) : [])],
          data: hierarchy.options,
        });
      } else {
        this.bind(hierarchy.path, place, { ...options, bind: true, recursive: true, data: [] });
      }
      const controllers = hierarchy.name.includes(',') ? hierarchy.name.split(',') : [];
      for (const name of controllers) {
        links.push({ op: 'symlink', target: hierarchy.name, path: posix.join(target, name), replace: false });
      }
    }
    this.mount.push(...links);
    if (readOnly) this.mount.push({ op: 'remount', target, set: ['ro'], clear: [], recursive: false });
  }

  cgroupV2(mount: SpecMount, target: string, options: MountOptions, context: MountContext): void {
    if (context.cgroup.version === 2 && !context.privateCgroupNamespace) {
      this.bind(context.cgroup.path, target, { ...options, bind: true, recursive: true, data: [] });
      return;
    }
    this.filesystem({ ...mount, type: 'cgroup2', source: 'cgroup' }, target, options);
  }
}

/** @param firstSlot - the first slot that nothing else uses */
export function compileMounts(mounts: readonly SpecMount[], context: MountContext, firstSlot: number): CompiledMounts {
  const builder = new Builder(firstSlot);
  for (const mount of mounts) {
    const target = normalTarget(mount.destination);
    const options = parseMountOptions(mount.options ?? []);
    if (bindsSource(mount, options)) {
      const source = mount.source ?? '';
      builder.bind(isAbsolute(source) ? source : join(context.bundle, source), target, options);
    } else if (mount.type === 'cgroup' && context.cgroup.version === 1) {
      builder.cgroupV1(mount, target, options, context);
    } else if (mount.type === 'cgroup' || (mount.type === 'cgroup2' && context.cgroup.version === 2)) {
      builder.cgroupV2(mount, target, options, context);
    } else {
      builder.filesystem(mount, target, options);
    }
  }
  return { open: builder.open, mount: builder.mount, finish: builder.finish, slots: builder.slots };
}

/** A mount with its own /dev from the host gets no nodes and links. */
export function bindsDev(mounts: readonly SpecMount[]): boolean {
  return mounts.some(
    (mount) => normalTarget(mount.destination) === '/dev' && bindsSource(mount, parseMountOptions(mount.options ?? [])),
  );
}

export function normalTarget(destination: string): string {
  const path = posix.normalize(`/${destination}`);
  return path.length > 1 && path.endsWith('/') ? path.slice(0, -1) : path;
}

function withPropagation(options: MountOptions): Pick<Extract<Operation, { op: 'mount' }>, 'propagation'> {
  return options.propagation === undefined ? {} : { propagation: options.propagation };
}
