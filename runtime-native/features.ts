// What the runtime can do, whatever the host has (runtime-spec features.md, features-linux.md). Read off the tables by
// which configurations are checked and compiled.

import { PREFIX as SYSTEMD_PROPERTY } from './cgroup/systemd-annotations';
import { HOOKS } from './config/validate';
import { NAMESPACE_FLAGS } from './native';
import { capabilityNames } from './plan/capabilities';
import { mountOptionNames } from './plan/mount-options';
import { MEMORY_FLAGS, MEMORY_MODES } from './plan/scheduling';
import { ACTIONS, ARCHITECTURES, OPERATORS } from './seccomp/profile';
import { FLAGS, supportedFlags } from './seccomp/seccomp';
import { SPEC_VERSION } from './spec';

const SPEC_VERSION_MIN = '1.0.0';

/** The features document; only the flags of seccomp that are supported depend on the kernel. */
export function features() {
  const names = (table: Readonly<Record<string, unknown>>) => Object.keys(table).sort();
  return {
    ociVersionMin: SPEC_VERSION_MIN,
    ociVersionMax: SPEC_VERSION,
    hooks: HOOKS,
    mountOptions: mountOptionNames(),
    linux: {
      namespaces: names(NAMESPACE_FLAGS),
      capabilities: capabilityNames(),
      cgroup: { v1: true, v2: true, systemd: true, systemdUser: false, rdma: true },
      seccomp: {
        enabled: true,
        actions: names(ACTIONS),
        operators: names(OPERATORS),
        archs: names(ARCHITECTURES),
        knownFlags: names(FLAGS),
        supportedFlags: supportedFlags().sort(),
      },
      apparmor: { enabled: true },
      selinux: { enabled: true },
      intelRdt: { enabled: true, schemata: true, monitoring: true },
      memoryPolicy: { modes: names(MEMORY_MODES), flags: names(MEMORY_FLAGS) },
      mountExtensions: { idmap: { enabled: true } },
      netDevices: { enabled: true },
    },
    potentiallyUnsafeConfigAnnotations: [SYSTEMD_PROPERTY],
  };
}
