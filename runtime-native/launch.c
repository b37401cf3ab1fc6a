/*
 * Starts init: one clone3 that shares memory until the exec of a sealed memfd, so nothing is copied and no host binary
 * runs. Between the clone and the exec only system calls are made: the child runs on our memory while we stand still.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
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

#define FDS_MAX 64
#define STACK_SIZE 16384
#define FLAG_EXECUTABLE 0x10u /* MFD_EXEC */

/* As native.ts fills it. fds become 0, 1, 2, ... of init; -1 is not allowed. */
struct launch {
	uint64_t namespaces;
	int32_t init, pid_namespace, cgroup, count;
	int32_t fds[FDS_MAX];
};

struct child {
	const struct launch *launch;
	/* A descriptor number above all that are to be placed. */
	int base, error;
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
		copies[i] = call(SYS_fcntl, launch->fds[i], F_DUPFD_CLOEXEC, FDS_MAX + 1, 0, 0);
		if (copies[i] < 0)
			return copies[i];
	}
	init = call(SYS_fcntl, launch->init, F_DUPFD_CLOEXEC, FDS_MAX + 1, 0, 0);
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

static void run_child(struct child *child)
{
	static char *const arguments[] = {"gantry-init", NULL};
	static char *const environment[] = {NULL};
	long init = place_files(child);

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

/*
 * A child is born into the pid namespace that its parent has chosen for children. Our own threads need ours: a failure to
 * come back is final.
 */
static int enter_pid_namespace(int fd, int *own)
{
	*own = open("/proc/thread-self/ns/pid", O_RDONLY | O_CLOEXEC);
	if (*own < 0)
		return -errno;
	if (setns(fd, CLONE_NEWPID) == 0)
		return 0;
	int error = -errno;
	close(*own);
	return error;
}

static void leave_pid_namespace(int own)
{
	if (setns(own, CLONE_NEWPID) != 0)
		__builtin_trap();
	close(own);
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
	int own = -1, dumpable = 0;
	long pid;

	if (launch->count > FDS_MAX)
		return -EINVAL;
	if (launch->cgroup >= 0) {
		args.flags |= CLONE_INTO_CGROUP;
		args.cgroup = (uint64_t)launch->cgroup;
	}
	if (launch->pid_namespace >= 0) {
		int result = enter_pid_namespace(launch->pid_namespace, &own);
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
	if (own >= 0) {
		prctl(PR_SET_DUMPABLE, dumpable);
		leave_pid_namespace(own);
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
