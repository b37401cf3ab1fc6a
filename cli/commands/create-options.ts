// The options that several commands have in common: those of a process, and those of a container.

import type { Command } from 'commander';
import type { CreateOptions } from '../container/create';
import { collect } from '../values';

export type ProcessOptions = Pick<CreateOptions, 'tty' | 'env' | 'envFile' | 'user' | 'cwd'>;

/** Adds what describes a process; the values are ProcessOptions. */
export function processOptions(command: Command): Command {
  return command
    .passThroughOptions()
    .option('-t, --tty', 'give the process a terminal')
    .option('-e, --env <name=value>', 'environment variable; NAME alone takes it from here (repeatable)', collect)
    .option('--env-file <file>', 'environment variables, one a line (repeatable)', collect)
    .option('-u, --user <user[:group]>', 'user and group, as names in the container or as numbers')
    .option('-w, --cwd <directory>', 'working directory in the container');
}

/** Adds what describes a container and its process; the values are a CreateOptions. */
export function createOptions(command: Command): Command {
  return processOptions(command)
    .option('--group-add <group>', 'additional group (repeatable)', collect)
    .option('--entrypoint <command>', "instead of the image's entrypoint; empty for none")
    .option('--hostname <name>', 'host name (default: the container id)')
    .option('--mount <fields>', 'type=bind,src=/a,dst=/b,options=rbind:ro (repeatable)', collect)
    .option('-v, --volume <source:destination>', 'bind mount, :ro for read-only (repeatable)', collect)
    .option('--tmpfs <directory>', 'mount a tmpfs, options after a colon (repeatable)', collect)
    .option('--device <path>', 'device of the host (repeatable)', collect)
    .option('--read-only', 'root filesystem read-only')
    .option('-m, --memory <size>', 'memory limit, such as 512m')
    .option('--memory-swap <size>', 'limit of memory and swap together')
    .option('--cpus <number>', 'limit of CPU time, such as 1.5')
    .option('--cpu-shares <number>', 'weight of CPU time')
    .option('--cpuset-cpus <list>', 'CPUs to run on, such as 0-3')
    .option('--cpuset-mems <list>', 'memory nodes to use')
    .option('--pids-limit <number>', 'most processes')
    .option('--rlimit <name=soft[:hard]>', 'resource limit, such as nofile=4096 (repeatable)', collect)
    .option('--oom-score-adj <number>', 'preference of the out-of-memory killer')
    .option('--net-host', "the host's network")
    .option('--with-ns <type:path>', 'join a namespace; TYPE:host for the one of the host (repeatable)', collect)
    .option('--privileged', 'all capabilities and devices, no seccomp, nothing masked')
    .option('--cap-add <name>', 'add a capability; all for all (repeatable)', collect)
    .option('--cap-drop <name>', 'drop a capability; all for all (repeatable)', collect)
    .option('--new-privileges', 'let set-user-id programs gain privileges')
    .option('--seccomp <file>', 'seccomp profile; "default" or "unconfined"')
    .option('--no-seccomp', 'no seccomp profile')
    .option('--sysctl <name=value>', 'kernel parameter (repeatable)', collect)
    .option('--cgroup <path>', 'cgroup path (default: /NAMESPACE/ID)')
    .option('--annotation <name=value>', 'annotation of the OCI spec (repeatable)', collect)
    .option('-l, --label <key=value>', 'label of the container (repeatable)', collect)
    .option('--snapshotter <name>', 'snapshotter for the root filesystem')
    .option('--runtime <name>', 'runtime, such as io.containerd.runc.v2')
    .option('--platform <platform>', 'platform of the image (default: this machine)')
    .option('--rootfs', 'IMAGE is a directory to use as root filesystem');
}
