// The parts of an OCI runtime configuration (config.json, runtime-spec 1.0-1.3) that the runtime acts on. A document is
// what JSON.parse made of it: whole numbers above 2^53 lose their last digits, which only "unlimited" values have.

/** Of the runtime specification: the newest that is implemented. */
export const SPEC_VERSION = '1.3.0';

/**
 * config.json, with the 64-bit numbers of seccomp rules that a number does not hold as text.
 * @throws SyntaxError
 */
export function parseSpec(text: string): unknown {
  if (!/"value(Two)?"\s*:\s*\d{16}/.test(text)) return JSON.parse(text);
  const exact = (key: string, value: unknown, context?: { readonly source?: string }) =>
    /^value(Two)?$/.test(key) && typeof value === 'number' && !Number.isSafeInteger(value) ? context?.source : value;
  return JSON.parse(text, exact as (key: string, value: unknown) => unknown);
}

export interface Spec {
  readonly ociVersion: string;
  readonly root?: { readonly path: string; readonly readonly?: boolean };
  readonly process?: Process;
  readonly hostname?: string;
  readonly domainname?: string;
  readonly mounts?: readonly SpecMount[];
  readonly hooks?: Hooks;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly linux?: Linux;
}

export interface Process {
  readonly terminal?: boolean;
  readonly consoleSize?: { readonly height: number; readonly width: number };
  readonly user?: User;
  readonly args?: readonly string[];
  readonly env?: readonly string[];
  readonly cwd: string;
  readonly capabilities?: Capabilities;
  readonly rlimits?: readonly Rlimit[];
  readonly noNewPrivileges?: boolean;
  readonly apparmorProfile?: string;
  readonly selinuxLabel?: string;
  readonly oomScoreAdj?: number;
  readonly ioPriority?: IoPriority;
  readonly scheduler?: Scheduler;
  /** Lists such as "0-3,7"; for an exec, before and after it has joined the container's cgroups. */
  readonly execCPUAffinity?: { readonly initial?: string; readonly final?: string };
}

export interface IoPriority {
  readonly class: string;
  readonly priority?: number;
}

export interface Scheduler {
  readonly policy: string;
  readonly nice?: number;
  readonly priority?: number;
  readonly flags?: readonly string[] | null;
  /** Nanoseconds, as the next two. */
  readonly runtime?: number;
  readonly deadline?: number;
  readonly period?: number;
}

export interface User {
  readonly uid: number;
  readonly gid: number;
  readonly umask?: number;
  readonly additionalGids?: readonly number[] | null;
}

export interface Capabilities {
  readonly bounding?: readonly string[] | null;
  readonly effective?: readonly string[] | null;
  readonly permitted?: readonly string[] | null;
  readonly inheritable?: readonly string[] | null;
  readonly ambient?: readonly string[] | null;
}

export interface Rlimit {
  readonly type: string;
  readonly soft: number;
  readonly hard: number;
}

export interface SpecMount {
  readonly destination: string;
  readonly type?: string;
  readonly source?: string;
  readonly options?: readonly string[] | null;
  readonly uidMappings?: readonly IdMapping[] | null;
  readonly gidMappings?: readonly IdMapping[] | null;
}

export interface IdMapping {
  readonly containerID: number;
  readonly hostID: number;
  readonly size: number;
}

export interface Hook {
  readonly path: string;
  readonly args?: readonly string[] | null;
  readonly env?: readonly string[] | null;
  /** Seconds. */
  readonly timeout?: number;
}

export interface Hooks {
  readonly prestart?: readonly Hook[] | null;
  readonly createRuntime?: readonly Hook[] | null;
  readonly createContainer?: readonly Hook[] | null;
  readonly startContainer?: readonly Hook[] | null;
  readonly poststart?: readonly Hook[] | null;
  readonly poststop?: readonly Hook[] | null;
}

export interface Linux {
  readonly namespaces?: readonly Namespace[] | null;
  readonly uidMappings?: readonly IdMapping[] | null;
  readonly gidMappings?: readonly IdMapping[] | null;
  readonly timeOffsets?: Readonly<Record<string, TimeOffset>> | null;
  readonly sysctl?: Readonly<Record<string, string>> | null;
  readonly resources?: LinuxResources;
  readonly cgroupsPath?: string;
  readonly devices?: readonly Device[] | null;
  readonly seccomp?: Seccomp | null;
  readonly rootfsPropagation?: string;
  readonly maskedPaths?: readonly string[] | null;
  readonly readonlyPaths?: readonly string[] | null;
  readonly mountLabel?: string;
  readonly personality?: { readonly domain: string; readonly flags?: readonly string[] | null };
  readonly intelRdt?: IntelRdt | null;
  readonly memoryPolicy?: MemoryPolicy | null;
  /** By the name that a device has on the host. */
  readonly netDevices?: Readonly<Record<string, NetDevice | null>> | null;
}

export interface TimeOffset {
  readonly secs?: number;
  readonly nanosecs?: number;
}

export interface IntelRdt {
  readonly closID?: string;
  readonly schemata?: readonly string[] | null;
  readonly l3CacheSchema?: string;
  readonly memBwSchema?: string;
  readonly enableMonitoring?: boolean;
}

export interface MemoryPolicy {
  readonly mode: string;
  readonly nodes?: string;
  readonly flags?: readonly string[] | null;
}

export interface NetDevice {
  /** Inside the container; empty keeps the one of the host. */
  readonly name?: string;
}

export interface Namespace {
  readonly type: string;
  readonly path?: string;
}

export interface Device {
  readonly path: string;
  readonly type: string;
  readonly major?: number;
  readonly minor?: number;
  readonly fileMode?: number;
  readonly uid?: number;
  readonly gid?: number;
}

export interface Seccomp {
  readonly defaultAction: string;
  readonly defaultErrnoRet?: number;
  readonly architectures?: readonly string[] | null;
  readonly flags?: readonly string[] | null;
  readonly listenerPath?: string;
  readonly listenerMetadata?: string;
  readonly syscalls?: readonly SeccompRule[] | null;
}

export interface SeccompRule {
  readonly names: readonly string[];
  readonly action: string;
  readonly errnoRet?: number;
  readonly args?: readonly SeccompArgument[] | null;
}

export interface SeccompArgument {
  readonly index: number;
  /** Decimal text where a number does not hold it exactly. */
  readonly value: number | string;
  readonly valueTwo?: number | string;
  readonly op: string;
}

export interface LinuxResources {
  readonly devices?: readonly DeviceRule[] | null;
  readonly memory?: MemoryResources;
  readonly cpu?: CpuResources;
  readonly pids?: { readonly limit: number };
  readonly blockIO?: BlockIoResources;
  readonly hugepageLimits?: readonly { readonly pageSize: string; readonly limit: number }[] | null;
  readonly network?: {
    readonly classID?: number;
    readonly priorities?: readonly { readonly name: string; readonly priority: number }[] | null;
  };
  readonly rdma?: Readonly<Record<string, { readonly hcaHandles?: number; readonly hcaObjects?: number }>> | null;
  /** cgroup v2 only: file name to content. */
  readonly unified?: Readonly<Record<string, string>> | null;
}

export interface DeviceRule {
  readonly allow: boolean;
  readonly type?: string;
  readonly major?: number;
  readonly minor?: number;
  readonly access?: string;
}

export interface MemoryResources {
  /** Bytes; -1 is unlimited. */
  readonly limit?: number;
  readonly reservation?: number;
  /** Memory and swap together. */
  readonly swap?: number;
  readonly kernel?: number;
  readonly kernelTCP?: number;
  readonly swappiness?: number;
  readonly disableOOMKiller?: boolean;
  readonly useHierarchy?: boolean;
  readonly checkBeforeUpdate?: boolean;
}

export interface CpuResources {
  readonly shares?: number;
  /** Microseconds in each period; -1 is unlimited. */
  readonly quota?: number;
  readonly burst?: number;
  readonly period?: number;
  readonly realtimeRuntime?: number;
  readonly realtimePeriod?: number;
  readonly cpus?: string;
  readonly mems?: string;
  readonly idle?: number;
}

export interface BlockIoResources {
  readonly weight?: number;
  readonly leafWeight?: number;
  readonly weightDevice?: readonly {
    readonly major: number;
    readonly minor: number;
    readonly weight?: number;
    readonly leafWeight?: number;
  }[];
  readonly throttleReadBpsDevice?: readonly ThrottleDevice[];
  readonly throttleWriteBpsDevice?: readonly ThrottleDevice[];
  readonly throttleReadIOPSDevice?: readonly ThrottleDevice[];
  readonly throttleWriteIOPSDevice?: readonly ThrottleDevice[];
}

export interface ThrottleDevice {
  readonly major: number;
  readonly minor: number;
  readonly rate?: number;
}
