// The mounts of a runtime configuration as plan operations. Host paths are opened first, while the host's root is still
// there; what they become inside is said by attach operations later.

import { isAbsolute, join, posix } from 'node:path';
import { refuse } from '../config/checks';
import { type IdMappings, isMapped, isPrivileged, mappingsOf } from '../launcher/user-namespace';
import type { SpecMount } from '../spec';
import { bindAttributeChange, bindsSource, labelOptions, type MountOptions, parseMountOptions } from './mount-options';
import type { MountSource, Operation } from './operations';

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
  /** linux.mountLabel. */
  readonly label?: string | undefined;
  /** Set where the container has a user namespace. */
  readonly user?: UserContext | undefined;
  readonly cgroup:
    | { readonly version: 1; readonly hierarchies: readonly CgroupHierarchy[] }
    | { readonly version: 2; readonly path: string };
}

export interface UserContext {
  /** Of the container, when they are known. */
  readonly mappings: IdMappings | undefined;
  /** Whether bind sources are opened by the launcher, which can reach them. */
  readonly opensSources: boolean;
  /** Whose network, ipc and pid namespace it is: the host's, another's, or (new) the user namespace's own. */
  readonly namespace: (type: string) => 'host' | 'joined' | 'new';
}

export interface CompiledMounts {
  /** Descriptors that the launcher hands over, in the first slots. */
  readonly sources: readonly MountSource[];
  /** While the host's root is there. */
  readonly open: readonly Operation[];
  readonly mount: readonly Operation[];
  /** What the last argument of compileMounts() has made. */
  readonly nodes: readonly Operation[];
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

/** Filesystems that show a namespace, which the container's user namespace has to own. */
const NAMESPACE_FILESYSTEMS: Readonly<Record<string, { readonly type: string; readonly path: string }>> = {
  proc: { type: 'pid', path: '/proc' },
  sysfs: { type: 'network', path: '/sys' },
  mqueue: { type: 'ipc', path: '/dev/mqueue' },
};

/** To SELinux these have labels of their own; that of mqueue is set afterwards. */
const LABELLED_OTHERWISE = new Set(['proc', 'sysfs', 'cgroup', 'cgroup2', 'mqueue']);

class Builder {
  readonly sources: MountSource[] = [];
  readonly open: Operation[] = [];
  readonly mount: Operation[] = [];
  readonly finish: Operation[] = [];
  private readonly context: MountContext;
  private readonly firstSlot: number;
  private slot: number;

  /** @param sourceCount - how many slots the launcher fills */
  constructor(context: MountContext, firstSlot: number, sourceCount: number) {
    this.context = context;
    this.firstSlot = firstSlot;
    this.slot = firstSlot + sourceCount;
  }

  get slots(): number {
    return this.slot;
  }

  /** The slot that the tree will be in. */
  openSource(path: string, target: string, recursive: boolean, idmap?: MountSource['idmap']): number {
    if (idmap !== undefined || this.context.user?.opensSources) {
      this.sources.push({ path, target, recursive, ...(idmap === undefined ? {} : { idmap }) });
      return this.firstSlot + this.sources.length - 1;
    }
    this.open.push({ op: 'openTree', slot: this.slot, path, recursive });
    return this.slot++;
  }

  /** A node of the host in the place of one that cannot be made. */
  bindNode(path: string): Operation {
    const slot = this.openSource(path, path, false);
    return { op: 'attach', slot, source: path, target: path, set: [], clear: [], recursive: false };
  }

  bind(source: string, target: string, options: MountOptions, idmap?: MountSource['idmap']): void {
    const { set, clear } = bindAttributeChange(options);
    const slot = this.openSource(source, target, options.recursive, idmap);
    this.mount.push({
      op: 'attach',
      slot,
      source,
      target,
      set,
      clear,
      recursive: false,
      ...withPropagation(options),
      ...(ALLOWED_ON_PROC.has(target) ? { onProc: true } : {}),
    });
    this.changeTree(target, options);
  }

  /** "rro" and the like. */
  private changeTree(target: string, { recursiveSet: set, recursiveClear: clear }: MountOptions): void {
    if (set.length + clear.length > 0) this.mount.push({ op: 'remount', target, set, clear, recursive: true });
  }

  remount(target: string, options: MountOptions): void {
    this.mount.push({
      op: 'remount',
      target,
      ...bindAttributeChange(options),
      recursive: false,
      ...withPropagation(options),
    });
    this.changeTree(target, options);
  }

  /** A filesystem that shows a namespace of the host can only be shown as the host sees it. */
  ofNamespace(mount: SpecMount, target: string, options: MountOptions): void {
    const shown = NAMESPACE_FILESYSTEMS[mount.type ?? ''];
    const owner = shown === undefined ? 'new' : (this.context.user?.namespace(shown.type) ?? 'new');
    if (shown === undefined || owner === 'new') {
      this.filesystem(mount, target, options);
    } else if (owner === 'host') {
      const readOnly = options.attributes.includes('ro') ? (['ro'] as const) : [];
      this.bind(shown.path, target, {
        ...options,
        recursive: true,
        recursiveSet: [...readOnly, ...options.recursiveSet],
      });
    } else {
      const fallback = mount.type === 'proc' ? undefined : this.openSource(shown.path, target, true);
      this.filesystem(mount, target, options, fallback);
    }
  }

  filesystem(mount: SpecMount, target: string, options: MountOptions, fallback?: number): void {
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
      options: [
        ...(attributes.includes('ro') ? ['ro'] : []),
        ...this.possible(type, options.data),
        ...(LABELLED_OTHERWISE.has(type) ? [] : labelOptions(this.context.label)),
      ],
      attributes,
      ...withPropagation(options),
      ...(isTmpfs ? { modeOfTarget: true } : {}),
      ...(type === 'proc' || type === 'sysfs' ? { ordinaryDirectory: true } : {}),
      ...(isTmpfs && options.copyUp ? { copyUp: true } : {}),
      ...(target === '/proc' || isTmpfs ? { onProc: true } : {}),
      ...(fallback === undefined ? {} : { fallback }),
    });
    const { label } = this.context;
    // What may be the host's keeps its own.
    if (label && type === 'mqueue' && fallback === undefined) this.mount.push({ op: 'fileLabel', path: target, label });
    this.changeTree(target, options);
    if (readOnlyLater) this.finish.push({ op: 'remount', target, set: ['ro'], clear: [], recursive: false });
  }

  /** The group of terminals that most configurations name need not have an id in the user namespace. */
  private possible(type: string, data: readonly string[]): readonly string[] {
    const groups = this.context.user?.mappings?.gid;
    if (type !== 'devpts' || groups === undefined) return data;
    return data.filter((option) => !/^gid=\d+$/.test(option) || isMapped(groups, Number(option.slice(4))));
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

/**
 * @param firstSlot - the first slot that nothing else uses
 * @param nodes - makes operations that bind nodes of the host
 */
export function compileMounts(
  mounts: readonly SpecMount[],
  context: MountContext,
  firstSlot: number,
  nodes: (bind: (path: string) => Operation) => Operation[] = () => [],
): CompiledMounts {
  const build = (sourceCount: number): CompiledMounts => {
    const builder = new Builder(context, firstSlot, sourceCount);
    for (const [index, mount] of mounts.entries()) compileMount(builder, mount, context, `mounts[${index}]`);
    const made = nodes((path) => builder.bindNode(path));
    const { sources, open, mount, finish, slots } = builder;
    return { sources, open, mount, nodes: made, finish, slots };
  };
  // Slots of the launcher come before those that init fills; how many there are is known afterwards.
  const compiled = build(0);
  return compiled.sources.length === 0 ? compiled : build(compiled.sources.length);
}

function compileMount(builder: Builder, mount: SpecMount, context: MountContext, path: string): void {
  const target = normalTarget(mount.destination);
  const options = parseMountOptions(mount.options ?? []);
  if (options.remount) {
    builder.remount(target, options);
  } else if (bindsSource(mount, options)) {
    const source = mount.source ?? '';
    const place = isAbsolute(source) ? source : join(context.bundle, source);
    builder.bind(place, target, options, idmapOf(mount, options, context, path));
  } else if (mount.type === 'cgroup' && context.cgroup.version === 1) {
    builder.cgroupV1(mount, target, options, context);
  } else if (mount.type === 'cgroup' || (mount.type === 'cgroup2' && context.cgroup.version === 2)) {
    builder.cgroupV2(mount, target, options, context);
  } else {
    builder.ofNamespace(mount, target, options);
  }
}

/** Mappings of the mount itself, or those of the container. */
function idmapOf(
  mount: SpecMount,
  { idmap }: MountOptions,
  { user }: MountContext,
  path: string,
): MountSource['idmap'] | undefined {
  const own = mappingsOf(mount);
  if (own === undefined && idmap === undefined) return undefined;
  if (!isPrivileged()) refuse(`${path}.options`, 'an ordinary user cannot id-map mounts');
  const mappings = own ?? user?.mappings;
  if (mappings === undefined) refuse(`${path}.options`, `${idmap} needs mappings`);
  return { ...mappings, recursive: idmap === 'ridmap' };
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
