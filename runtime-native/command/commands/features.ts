// features: what the runtime can do, whatever the host has (runtime-spec features.md). Read off the tables that the
// compiler of launch plans uses.

import { NAMESPACE_FLAGS } from '../../native';
import { capabilityNames } from '../../plan/capabilities';
import { mountOptionNames } from '../../plan/mount-options';
import { ACTIONS, ARCHITECTURES, OPERATORS } from '../../seccomp/profile';
import { FLAGS } from '../../seccomp/seccomp';
import { type Command, json, print } from '../context';
import { programVersion, SPEC_VERSION } from '../version';

const HOOKS = ['prestart', 'createRuntime', 'createContainer', 'startContainer', 'poststart', 'poststop'];

export const features: Command = {
  usage: '',
  help: 'print what the runtime can do',
  flags: {},
  words: [0, 0],
  run: () => {
    print(`${json(document())}\n`);
    return 0;
  },
};

function document() {
  const names = (table: Readonly<Record<string, unknown>>) => Object.keys(table).sort();
  return {
    ociVersionMin: '1.0.0',
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
        supportedFlags: names(FLAGS),
      },
      apparmor: { enabled: true },
      selinux: { enabled: true },
      intelRdt: { enabled: true },
      mountExtensions: { idmap: { enabled: true } },
      netDevices: { enabled: true },
    },
    annotations: { 'org.gantry.version': programVersion() },
  };
}
