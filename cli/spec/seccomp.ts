// The usual default seccomp profile: an allow list for everything that ordinary programs need, plus what each
// capability that the process holds would be pointless without. Kept as data by subject, so that a review can see
// what is allowed and why. See seccomp(2), runtime-spec config-linux.md (seccomp).

import { readFileSync } from 'node:fs';
import { messageOf } from '../../proto/errors';
import { usageError } from '../failure';
import type { Seccomp, SeccompRule } from './types';

const EPERM = 1;
const ENOSYS = 38;
/** CLONE_NEWNS, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET and NEWCGROUP (clone(2)). */
const CLONE_NAMESPACE_FLAGS = 0x7e020000;
const AF_VSOCK = 40;
/** Personalities that change nothing dangerous: PER_LINUX, PER_LINUX32, UNAME26, both, and the query. */
const PERSONALITIES = [0x0, 0x8, 0x20000, 0x20008, 0xffffffff];

/** Allowed to every process. */
const ALWAYS: Record<string, string> = {
  openFiles: `open openat openat2 creat close close_range dup dup2 dup3 fcntl fcntl64 flock ioctl pipe pipe2
    memfd_create memfd_secret`,
  readAndWrite: `read readv pread64 preadv preadv2 readahead write writev pwrite64 pwritev pwritev2 lseek _llseek
    sendfile sendfile64 splice tee vmsplice copy_file_range fadvise64 fadvise64_64 fallocate ftruncate ftruncate64
    truncate truncate64 sync syncfs sync_file_range fsync fdatasync`,
  directories: `chdir fchdir getcwd mkdir mkdirat rmdir getdents getdents64 rename renameat renameat2 link linkat
    unlink unlinkat symlink symlinkat readlink readlinkat mknod mknodat`,
  fileStatus: `stat stat64 fstat fstat64 lstat lstat64 fstatat64 newfstatat statx statfs statfs64 fstatfs fstatfs64
    access faccessat faccessat2 umask chmod fchmod fchmodat fchmodat2 chown chown32 fchown fchown32 fchownat lchown
    lchown32 utime utimes utimensat utimensat_time64 futimesat name_to_handle_at cachestat`,
  extendedAttributes: `getxattr lgetxattr fgetxattr getxattrat setxattr lsetxattr fsetxattr setxattrat listxattr
    llistxattr flistxattr listxattrat removexattr lremovexattr fremovexattr removexattrat`,
  watching: 'inotify_init inotify_init1 inotify_add_watch inotify_rm_watch fanotify_mark',
  polling: `poll ppoll ppoll_time64 select _newselect pselect6 pselect6_time64 epoll_create epoll_create1 epoll_ctl
    epoll_ctl_old epoll_wait epoll_wait_old epoll_pwait epoll_pwait2 eventfd eventfd2`,
  asynchronousIo: 'io_setup io_destroy io_submit io_cancel io_getevents io_pgetevents io_pgetevents_time64',
  memory: `brk mmap mmap2 munmap mremap mprotect madvise mincore msync mlock mlock2 mlockall munlock munlockall mseal
    map_shadow_stack membarrier remap_file_pages pkey_alloc pkey_free pkey_mprotect process_mrelease`,
  processes: `execve execveat exit exit_group fork vfork wait4 waitid waitpid getpid getppid gettid getpgid getpgrp
    setpgid getsid setsid prctl pidfd_open pidfd_send_signal pause restart_syscall rseq seccomp uname sysinfo times
    getrusage get_robust_list set_robust_list set_tid_address get_thread_area set_thread_area getcpu`,
  locks: 'futex futex_time64 futex_waitv futex_wait futex_wake futex_requeue',
  limits: `getrlimit ugetrlimit setrlimit prlimit64 getpriority setpriority ioprio_get ioprio_set`,
  scheduling: `sched_yield sched_getaffinity sched_setaffinity sched_getattr sched_setattr sched_getparam
    sched_setparam sched_getscheduler sched_setscheduler sched_get_priority_max sched_get_priority_min
    sched_rr_get_interval sched_rr_get_interval_time64`,
  identity: `getuid getuid32 geteuid geteuid32 getgid getgid32 getegid getegid32 getresuid getresuid32 getresgid
    getresgid32 getgroups getgroups32 setuid setuid32 setgid setgid32 setreuid setreuid32 setregid setregid32 setresuid
    setresuid32 setresgid setresgid32 setfsuid setfsuid32 setfsgid setfsgid32 setgroups setgroups32 capget capset`,
  signals: `kill tkill tgkill rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend
    rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sigaltstack signalfd signalfd4 sigprocmask sigreturn`,
  time: `time gettimeofday clock_gettime clock_gettime64 clock_getres clock_getres_time64 clock_nanosleep
    clock_nanosleep_time64 nanosleep adjtimex clock_adjtime clock_adjtime64 alarm getitimer setitimer timer_create
    timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create
    timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64`,
  sockets: `bind connect listen accept accept4 shutdown socketpair socketcall getsockname getpeername getsockopt
    setsockopt send sendto sendmsg sendmmsg recv recvfrom recvmsg recvmmsg recvmmsg_time64`,
  systemV: `ipc msgctl msgget msgrcv msgsnd semctl semget semop semtimedop semtimedop_time64 shmat shmctl shmdt shmget`,
  messageQueues: `mq_open mq_unlink mq_notify mq_getsetattr mq_timedreceive mq_timedreceive_time64 mq_timedsend
    mq_timedsend_time64`,
  randomness: 'getrandom',
  landlock: 'landlock_create_ruleset landlock_add_rule landlock_restrict_self',
  tracing: 'ptrace uretprobe',
};

/** Needed on one architecture only. */
const BY_ARCHITECTURE: Record<string, string> = {
  x64: 'arch_prctl modify_ldt',
  arm64: 'arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls',
};

const FILTER_ARCHITECTURES: Record<string, string[]> = {
  x64: ['SCMP_ARCH_X86_64', 'SCMP_ARCH_X86', 'SCMP_ARCH_X32'],
  arm64: ['SCMP_ARCH_AARCH64', 'SCMP_ARCH_ARM'],
};

/** Allowed to a process that holds the capability. */
const BY_CAPABILITY: Record<string, string> = {
  CAP_BPF: 'bpf',
  CAP_DAC_READ_SEARCH: 'open_by_handle_at',
  CAP_PERFMON: 'perf_event_open',
  CAP_SYS_ADMIN: `bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick listmount statmount lookup_dcookie mount
    mount_setattr move_mount open_tree perf_event_open quotactl quotactl_fd setdomainname sethostname setns syslog
    umount umount2 unshare`,
  CAP_SYS_BOOT: 'reboot',
  CAP_SYS_CHROOT: 'chroot',
  CAP_SYS_MODULE: 'delete_module init_module finit_module',
  CAP_SYS_NICE: 'get_mempolicy mbind set_mempolicy set_mempolicy_home_node',
  CAP_SYS_PACCT: 'acct',
  CAP_SYS_PTRACE: 'kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev',
  CAP_SYS_RAWIO: 'iopl ioperm',
  CAP_SYS_TIME: 'settimeofday stime clock_settime clock_settime64',
  CAP_SYS_TTY_CONFIG: 'vhangup',
  CAP_SYSLOG: 'syslog',
};

/** The profile for a process with these capabilities. Everything that is not listed fails with EPERM. */
export function defaultSeccomp(capabilities: readonly string[], arch: string = process.arch): Seccomp {
  const names = new Set([...Object.values(ALWAYS), BY_ARCHITECTURE[arch] ?? ''].flatMap(words));
  for (const capability of capabilities) {
    for (const name of words(BY_CAPABILITY[capability] ?? '')) names.add(name);
  }
  return {
    defaultAction: 'SCMP_ACT_ERRNO',
    defaultErrnoRet: EPERM,
    architectures: FILTER_ARCHITECTURES[arch] ?? [],
    syscalls: [allow([...names].sort()), ...restricted(capabilities)],
  };
}

/** A profile from a file in the runtime-spec's JSON. @throws CommandError (usage) */
export function readSeccomp(path: string): Seccomp {
  let profile: Partial<Seccomp>;
  try {
    profile = JSON.parse(readFileSync(path, 'utf8')) as Partial<Seccomp>;
  } catch (error) {
    throw usageError(`cannot use seccomp profile ${path}: ${messageOf(error)}`);
  }
  if (typeof profile.defaultAction !== 'string') {
    throw usageError(`cannot use seccomp profile ${path}: it has no "defaultAction"`);
  }
  return profile as Seccomp;
}

/** Calls that are allowed with some arguments only. */
function restricted(capabilities: readonly string[]): SeccompRule[] {
  const rules = PERSONALITIES.map((value) => allow(['personality'], [{ index: 0, value, op: 'SCMP_CMP_EQ' }]));
  rules.push(allow(['socket'], [{ index: 0, value: AF_VSOCK, op: 'SCMP_CMP_NE' }]));
  if (!capabilities.includes('CAP_SYS_ADMIN')) {
    const noNamespaces = { index: 0, value: CLONE_NAMESPACE_FLAGS, valueTwo: 0, op: 'SCMP_CMP_MASKED_EQ' };
    rules.push(allow(['clone'], [noNamespaces]));
    // Its flags are behind a pointer, so it cannot be filtered; ENOSYS makes the C library fall back to clone.
    rules.push({ names: ['clone3'], action: 'SCMP_ACT_ERRNO', errnoRet: ENOSYS });
  }
  return rules;
}

function allow(names: string[], args?: NonNullable<SeccompRule['args']>): SeccompRule {
  return { names, action: 'SCMP_ACT_ALLOW', ...(args === undefined ? {} : { args }) };
}

function words(text: string): string[] {
  return text.split(/\s+/).filter((word) => word !== '');
}
