/*
 * Starts init: one clone3 that shares memory until the exec of a sealed memfd, so nothing is copied and no host binary
 * runs. Between the clone and the exec only system calls are made: the child runs on our memory while we stand still.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define FDS_MAX 256
#define JOINS_MAX 8
#define CAPABILITY_MAX 63
#define STACK_SIZE 16384
#define FLAG_EXECUTABLE 0x10u /* MFD_EXEC */

/* As native.ts fills it. fds become 0, 1, 2, ... of init; -1 is not allowed. */
struct launch {
	uint64_t namespaces;
	int32_t init, cgroup, count, join_count;
	struct {
		int32_t fd, type;
	} joins[JOINS_MAX];
	int32_t fds[FDS_MAX];
};

struct child {
	const struct launch *launch;
	int error;
};

static long call(long number, long a, long b, long c, long d, long e)
{
	long result;
#if defined(__x86_64__)
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
			 : "rcx", "r11", "memory");
#else
	register long x8 __asm__("x8") = number;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	register long x4 __asm__("x4") = e;
	__asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4) : "memory");
	result = x0;
#endif
	return result;
}

/* First all descriptors go above the highest place, then down to their places: none is overwritten before its turn. */
static long place_files(struct child *child)
{
	const struct launch *launch = child->launch;
	long copies[FDS_MAX], init, result;

	for (int i = 0; i < launch->count; i++) {
		copies[i] = call(SYS_fcntl, launch->fds[i], F_DUPFD_CLOEXEC, launch->count, 0, 0);
		if (copies[i] < 0)
			return copies[i];
	}
	init = call(SYS_fcntl, launch->init, F_DUPFD_CLOEXEC, launch->count, 0, 0);
	if (init < 0)
		return init;
	for (int i = 0; i < launch->count; i++) {
		result = call(SYS_dup3, copies[i], i, 0, 0, 0);
		if (result < 0)
			return result;
	}
	result = call(SYS_close_range, launch->count, ~0u, CLOSE_RANGE_CLOEXEC, 0, 0);
	return result < 0 ? result : init;
}

/*
 * A user that has no id in its user namespace loses its capabilities with an exec, unless they are ambient. Init gives
 * them up with those that the program is not to have.
 */
static long keep_capabilities(void)
{
	struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct data[2];
	long result = call(SYS_capget, (long)&header, (long)data, 0, 0, 0);

	data[0].inheritable = data[0].permitted;
	data[1].inheritable = data[1].permitted;
	if (!result)
		result = call(SYS_capset, (long)&header, (long)data, 0, 0, 0);
	for (long capability = 0; !result && capability <= CAPABILITY_MAX; capability++)
		if (data[capability / 32].permitted >> capability % 32 & 1)
			result = call(SYS_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0);
	return result;
}

static void run_child(struct child *child)
{
	static char *const arguments[] = {"gantry-init", NULL};
	static char *const environment[] = {NULL};
	long result = 0, init = place_files(child);

	if (child->launch->namespaces & CLONE_NEWUSER)
		result = keep_capabilities();
	if (init >= 0 && result < 0)
		init = result;
	if (init >= 0)
		init = call(SYS_execveat, init, (long)"", (long)arguments, (long)environment, AT_EMPTY_PATH);
	child->error = (int)init;
	call(SYS_exit, 127, 0, 0, 0, 0);
}

static long clone_child(struct clone_args *args, struct child *child)
{
	long result;
#if defined(__x86_64__)
	register long entry __asm__("r8") = (long)run_child;
	register long argument __asm__("r9") = (long)child;
	__asm__ volatile("syscall\n\ttest %%rax, %%rax\n\tjnz 1f\n\txor %%ebp, %%ebp\n\tmov %%r9, %%rdi\n\tcall *%%r8\n\tud2\n1:"
			 : "=a"(result)
			 : "a"(SYS_clone3), "D"(args), "S"(sizeof(*args)), "r"(entry), "r"(argument)
			 : "rcx", "r11", "memory");
#else
	register long x8 __asm__("x8") = SYS_clone3;
	register long x0 __asm__("x0") = (long)args;
	register long x1 __asm__("x1") = sizeof(*args);
	register long entry __asm__("x9") = (long)run_child;
	register long argument __asm__("x10") = (long)child;
	__asm__ volatile("svc #0\n\tcbnz x0, 1f\n\tmov x29, #0\n\tmov x0, x10\n\tblr x9\n\tbrk #1\n1:"
			 : "+r"(x0)
			 : "r"(x8), "r"(x1), "r"(entry), "r"(argument)
			 : "x30", "memory");
	result = x0;
#endif
	return result;
}

static const char *own_path(int type)
{
	switch (type) {
	case CLONE_NEWPID:
		return "/proc/thread-self/ns/pid";
	case CLONE_NEWNET:
		return "/proc/thread-self/ns/net";
	case CLONE_NEWIPC:
		return "/proc/thread-self/ns/ipc";
	case CLONE_NEWUTS:
		return "/proc/thread-self/ns/uts";
	case CLONE_NEWCGROUP:
		return "/proc/thread-self/ns/cgroup";
	default:
		return "";
	}
}

/* Our own thread needs its namespaces: a failure to come back is final. */
static void leave_namespaces(const struct launch *launch, const int *own, int count)
{
	while (count-- > 0) {
		if (setns(own[count], launch->joins[count].type) != 0)
			__builtin_trap();
		close(own[count]);
	}
}

/*
 * A child is born into the pid namespace that its parent has chosen for children, and, when it gets a user namespace of
 * its own, has to be in those of others before.
 */
static int enter_namespaces(const struct launch *launch, int *own)
{
	for (int i = 0; i < launch->join_count; i++) {
		int error;

		own[i] = open(own_path(launch->joins[i].type), O_RDONLY | O_CLOEXEC);
		error = own[i] < 0 ? -errno : 0;
		if (!error && setns(launch->joins[i].fd, launch->joins[i].type) != 0) {
			error = -errno;
			close(own[i]);
		}
		if (error) {
			leave_namespaces(launch, own, i);
			return error;
		}
	}
	return 0;
}

/* The pid; *pidfd is close-on-exec. -errno when there is no child (any more). */
int gantry_launch(const struct launch *launch, int32_t *pidfd)
{
	static char stack[STACK_SIZE] __attribute__((aligned(64)));
	struct child child = {.launch = launch, .error = 0};
	struct clone_args args = {
		.flags = launch->namespaces | CLONE_VM | CLONE_VFORK | CLONE_PIDFD,
		.pidfd = (uintptr_t)pidfd,
		.exit_signal = SIGCHLD,
		.stack = (uintptr_t)stack,
		.stack_size = sizeof(stack),
	};
	sigset_t all, before;
	int own[JOINS_MAX], dumpable = 0, joins = launch->join_count;
	long pid;

	if (launch->count > FDS_MAX || joins > JOINS_MAX)
		return -EINVAL;
	if (launch->cgroup >= 0) {
		args.flags |= CLONE_INTO_CGROUP;
		args.cgroup = (uint64_t)launch->cgroup;
	}
	if (joins > 0) {
		int result = enter_namespaces(launch, own);
		if (result < 0)
			return result;
		/* The container can see the child, which shares our memory until its exec. */
		dumpable = prctl(PR_GET_DUMPABLE);
		prctl(PR_SET_DUMPABLE, 0);
	}
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	pid = clone_child(&args, &child);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (joins > 0) {
		prctl(PR_SET_DUMPABLE, dumpable);
		leave_namespaces(launch, own, joins);
	}
	if (pid > 0 && child.error < 0) {
		call(SYS_wait4, pid, 0, __WALL, 0, 0);
		close(*pidfd);
		return child.error;
	}
	return (int)pid;
}

/* A memfd with this content at position 0. With seal, nobody can change it any more, not even through /proc/PID/exe. */
int gantry_memfd(const char *name, const void *data, int64_t size, int seal)
{
	unsigned flags = MFD_CLOEXEC | (seal ? MFD_ALLOW_SEALING : 0);
	int fd = memfd_create(name, flags | (seal ? FLAG_EXECUTABLE : 0));

	if (fd < 0 && errno == EINVAL)
		fd = memfd_create(name, flags);
	if (fd < 0)
		return -errno;
	if ((size > 0 && pwrite(fd, data, (size_t)size, 0) != size) ||
	    (seal && (fchmod(fd, 0555) < 0 ||
		      fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) < 0))) {
		int error = errno ? -errno : -EIO;
		close(fd);
		return error;
	}
	return fd;
}
