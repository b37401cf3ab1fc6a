// Makes the OCI runtime configuration of a container from an image's configuration and the command line. The result
// is what containerd's own clients and docker would send; the comments name only where gantry decides by itself.

import { existsSync, readFileSync } from 'node:fs';
import { usageError } from '../failure';
import { mergeEnvironment, parseInteger, parseLabels, parseSize } from '../values';
import { ALL_CAPABILITIES, capabilityNames, capabilitySets, DEFAULT_CAPABILITIES } from './capabilities';
import { ALL_DEVICES_RULE, DEFAULT_DEVICE_RULES, hostDevices, parseDevice } from './devices';
import {
  addMounts,
  defaultMounts,
  hostNetworkMounts,
  parseMount,
  parseTmpfs,
  parseVolume,
  privilegedMounts,
} from './mounts';
import { defaultSeccomp, readSeccomp } from './seccomp';
import type { ImageConfig, Process, Resources, Spec, User } from './types';

/** The options of run and create that end up in the spec, as commander delivers them. */
export interface SpecOptions {
  readonly env?: readonly string[];
  readonly envFile?: readonly string[];
  readonly mount?: readonly string[];
  readonly volume?: readonly string[];
  readonly tmpfs?: readonly string[];
  readonly device?: readonly string[];
  readonly memory?: string;
  readonly memorySwap?: string;
  readonly cpus?: string;
  readonly cpuShares?: string;
  readonly cpusetCpus?: string;
  readonly cpusetMems?: string;
  readonly pidsLimit?: string;
  readonly cwd?: string;
  readonly netHost?: boolean;
  readonly withNs?: readonly string[];
  readonly readOnly?: boolean;
  readonly privileged?: boolean;
  readonly capAdd?: readonly string[];
  readonly capDrop?: readonly string[];
  /** false from --no-seccomp. */
  readonly seccomp?: string | boolean;
  readonly newPrivileges?: boolean;
  readonly hostname?: string;
  readonly entrypoint?: string;
  readonly annotation?: readonly string[];
  readonly sysctl?: readonly string[];
  readonly rlimit?: readonly string[];
  readonly oomScoreAdj?: string;
  readonly cgroup?: string;
  readonly tty?: boolean;
}

export interface SpecInput {
  readonly namespace: string;
  readonly id: string;
  readonly rootPath: string;
  readonly image: ImageConfig;
  /** The command line after the id. */
  readonly args: readonly string[];
  /** Already merged from --env-file and --env. */
  readonly env: readonly string[];
  readonly user: User;
  readonly options: SpecOptions;
}

const OCI_VERSION = '1.1.0';
const DEFAULT_PATH = 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
const CPU_PERIOD_US = 100_000;
const CPU_SHARES_DEFAULT = 1024;
const OPEN_FILES = 1024;
const HOSTNAME_LENGTH_MAX = 64;

const MASKED_PATHS = [
  '/proc/acpi',
  '/proc/asound',
  '/proc/interrupts',
  '/proc/kcore',
  '/proc/keys',
  '/proc/latency_stats',
  '/proc/timer_list',
  '/proc/timer_stats',
  '/proc/sched_debug',
  '/proc/scsi',
  '/sys/firmware',
  '/sys/devices/virtual/powercap',
];
const READONLY_PATHS = ['/proc/bus', '/proc/fs', '/proc/irq', '/proc/sys', '/proc/sysrq-trigger'];

/** @throws CommandError (usage) for an option that makes no sense. */
export function buildSpec(input: SpecInput): Spec {
  const { options, id, namespace } = input;
  const capabilities = capabilitiesOf(options);
  const seccomp = seccompOf(options, capabilities);
  const privileged = options.privileged === true;
  const namespaces = namespacesOf(options);
  const hostname = (options.hostname ?? id).slice(0, HOSTNAME_LENGTH_MAX);
  const spec: Spec = {
    ociVersion: OCI_VERSION,
    process: processOf(input, capabilities),
    root: { path: input.rootPath, ...(options.readOnly === true ? { readonly: true } : {}) },
    ...(namespaces.some(({ type }) => type === 'uts') ? { hostname } : {}),
    mounts: mountsOf(options),
    linux: {
      resources: resourcesOf(options),
      cgroupsPath: options.cgroup ?? `/${namespace}/${id}`,
      namespaces,
      maskedPaths: privileged ? [] : MASKED_PATHS,
      readonlyPaths: privileged ? [] : READONLY_PATHS,
      ...(seccomp === undefined ? {} : { seccomp }),
    },
  };
  const devices = privileged ? hostDevices() : (options.device ?? []).map((text) => parseDevice(text).device);
  if (devices.length > 0) spec.linux.devices = devices;
  if (options.sysctl !== undefined) spec.linux.sysctl = parseLabels(options.sysctl);
  if (options.annotation !== undefined) spec.annotations = parseLabels(options.annotation);
  return spec;
}

/** Command and arguments: the entrypoint, then the command line or else the image's command, as docker has it. */
export function argsOf(image: ImageConfig, args: readonly string[], entrypoint: string | undefined): string[] {
  const start = entrypoint === undefined ? [...(image.Entrypoint ?? [])] : entrypoint === '' ? [] : [entrypoint];
  const imageCommand = entrypoint === undefined ? (image.Cmd ?? []) : [];
  const result = [...start, ...(args.length > 0 ? args : imageCommand)];
  if (result.length === 0) throw usageError('no command: the image names none, so give one after the container id');
  return result;
}

function processOf(input: SpecInput, capabilities: readonly string[]): Process {
  const { image, options } = input;
  const base = image.Env?.some((entry) => entry.startsWith('PATH=')) ? [] : [DEFAULT_PATH];
  const terminal = options.tty === true ? ['TERM=xterm'] : [];
  return {
    ...(options.tty === true ? { terminal: true } : {}),
    user: input.user,
    args: argsOf(image, input.args, options.entrypoint),
    env: mergeEnvironment([...base, ...(image.Env ?? []), ...terminal], input.env),
    cwd: absolute(options.cwd ?? (image.WorkingDir || '/')),
    capabilities: capabilitySets(capabilities),
    rlimits: rlimitsOf(options),
    noNewPrivileges: options.newPrivileges !== true && options.privileged !== true,
    ...(options.oomScoreAdj === undefined
      ? {}
      : { oomScoreAdj: parseInteger('--oom-score-adj', options.oomScoreAdj, -1000, 1000) }),
  };
}

function absolute(path: string): string {
  if (!path.startsWith('/')) throw usageError(`the working directory "${path}" must be an absolute path`);
  return path;
}

function capabilitiesOf(options: SpecOptions): string[] {
  const base = options.privileged === true ? heldCapabilities() : DEFAULT_CAPABILITIES;
  return capabilityNames(base, options.capAdd ?? [], options.capDrop ?? [], heldCapabilities());
}

/** What gantryd can give away is what its own bounding set holds; gantry runs on the same machine. */
function heldCapabilities(): string[] {
  const [, mask] = /^CapBnd:\s*([0-9a-f]+)$/m.exec(readFileSync('/proc/self/status', 'utf8')) ?? [];
  if (mask === undefined) return ALL_CAPABILITIES;
  return ALL_CAPABILITIES.filter((_, bit) => ((BigInt(`0x${mask}`) >> BigInt(bit)) & 1n) === 1n);
}

function seccompOf(options: SpecOptions, capabilities: readonly string[]): Spec['linux']['seccomp'] {
  const { seccomp } = options;
  if (seccomp === false || seccomp === 'unconfined') return undefined;
  if (typeof seccomp === 'string' && seccomp !== 'default') return readSeccomp(seccomp);
  if (options.privileged === true && typeof seccomp !== 'string') return undefined;
  return defaultSeccomp(capabilities);
}

function mountsOf(options: SpecOptions): Spec['mounts'] {
  const base = options.privileged === true ? privilegedMounts(defaultMounts()) : defaultMounts();
  const network = options.netHost === true ? hostNetworkMounts() : [];
  return addMounts(addMounts(base, network), [
    ...(options.volume ?? []).map(parseVolume),
    ...(options.tmpfs ?? []).map(parseTmpfs),
    ...(options.mount ?? []).map(parseMount),
  ]);
}

function namespacesOf(options: SpecOptions): Spec['linux']['namespaces'] {
  const types = new Map<string, string | undefined>(
    ['pid', 'ipc', 'uts', 'mount', 'network'].map((type) => [type, undefined]),
  );
  // On the unified hierarchy a container sees its own cgroup as the root, as docker has it.
  if (existsSync('/sys/fs/cgroup/cgroup.controllers') && options.privileged !== true) types.set('cgroup', undefined);
  if (options.netHost === true) types.delete('network');
  for (const text of options.withNs ?? []) {
    const [type = '', path] = text.split(':', 2);
    if (path === 'host') types.delete(type);
    else if (path?.startsWith('/') === true) types.set(type, path);
    else throw usageError(`--with-ns ${text}: write TYPE:PATH or TYPE:host`);
  }
  return [...types].map(([type, path]) => (path === undefined ? { type } : { type, path }));
}

function resourcesOf(options: SpecOptions): Resources {
  const rules = options.privileged === true ? [ALL_DEVICES_RULE] : [...DEFAULT_DEVICE_RULES];
  if (options.privileged !== true) rules.push(...(options.device ?? []).map((text) => parseDevice(text).rule));
  const resources: Resources = { devices: rules, cpu: cpuOf(options) };
  if (options.memory !== undefined) {
    resources.memory = { limit: parseSize(options.memory) };
    if (options.memorySwap !== undefined) resources.memory.swap = parseSize(options.memorySwap);
  }
  if (options.pidsLimit !== undefined) {
    resources.pids = { limit: parseInteger('--pids-limit', options.pidsLimit, -1) };
  }
  return resources;
}

function cpuOf(options: SpecOptions): NonNullable<Resources['cpu']> {
  const cpu: NonNullable<Resources['cpu']> = {
    shares:
      options.cpuShares === undefined ? CPU_SHARES_DEFAULT : parseInteger('--cpu-shares', options.cpuShares, 2, 262144),
  };
  if (options.cpus !== undefined) {
    const count = Number(options.cpus);
    if (!(count >= 0.01)) throw usageError(`--cpus must be a number of at least 0.01, not "${options.cpus}"`);
    cpu.quota = Math.round(count * CPU_PERIOD_US);
    cpu.period = CPU_PERIOD_US;
  }
  if (options.cpusetCpus !== undefined) cpu.cpus = options.cpusetCpus;
  if (options.cpusetMems !== undefined) cpu.mems = options.cpusetMems;
  return cpu;
}

function rlimitsOf(options: SpecOptions): NonNullable<Process['rlimits']> {
  const limits = new Map([['RLIMIT_NOFILE', { soft: OPEN_FILES, hard: OPEN_FILES }]]);
  for (const text of options.rlimit ?? []) {
    const [, name, soft, hard] = /^(?:RLIMIT_)?([a-z]+)=(\d+)(?::(\d+))?$/i.exec(text) ?? [];
    if (name === undefined || soft === undefined) throw usageError(`--rlimit ${text}: write NAME=SOFT[:HARD]`);
    limits.set(`RLIMIT_${name.toUpperCase()}`, { soft: Number(soft), hard: Number(hard ?? soft) });
  }
  return [...limits].map(([type, { soft, hard }]) => ({ type, hard, soft }));
}
