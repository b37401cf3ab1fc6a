/* Namespaces that a process makes or enters by itself, and who it is in a user namespace. */
#include "init.h"

#include <linux/prctl.h>
#include <linux/sched.h>

int keeps_groups;

OPERATION(op_unshare)
{
	return SYS1(unshare, op->a);
}

static long join(const char *path, u64 type)
{
	long result, fd = SYS4(openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);

	if (fd < 0)
		return fd;
	result = SYS2(setns, fd, type);
	close_fd((int)fd);
	return result;
}

OPERATION(op_join_path)
{
	return join(text_of(op, 0), op->a);
}

OPERATION(op_join_slot)
{
	return SYS2(setns, slot_of(op->a), op->b);
}

/* Clocks can be set until the first process is in the namespace; older kernels do not enter it with the exec. */
OPERATION(op_time_offsets)
{
	long result = SYS1(unshare, CLONE_NEWTIME);

	if (!result)
		result = write_file(AT_FDCWD, "/proc/self/timens_offsets", text_of(op, 0), op->a);
	return result ? result : join("/proc/self/ns/time_for_children", CLONE_NEWTIME);
}

/*
 * Goes on as a child in new namespaces, which belong to the user namespace that has been joined. The launcher becomes its
 * parent, learns of it by a pidfd, and says when to go on.
 */
OPERATION(op_respawn)
{
	struct message message = {.kind = MESSAGE_RESPAWN};
	int pidfd = -1;
	struct clone_args args = {.flags = op->a | CLONE_PARENT | CLONE_PIDFD, .pidfd = (u64)&pidfd};
	long pid = SYS2(clone3, &args, sizeof(args));

	if (pid < 0)
		return pid;
	if (pid > 0) {
		send_message(&message, pidfd);
		SYS1(exit_group, 0);
	}
	await_launcher();
	SYS0(setsid);
	return 0;
}

/* Root of the user namespace. A namespace made by an ordinary user may forbid setgroups. */
OPERATION(op_become_root)
{
	long result = SYS2(setgroups, 0, 0);

	(void)op;
	if (result == -EPERM) {
		keeps_groups = 1;
		result = 0;
	}
	if (!result)
		result = SYS3(setresgid, 0, 0, 0);
	if (!result)
		result = SYS3(setresuid, 0, 0, 0);
	return result ? result : SYS5(prctl, PR_SET_DUMPABLE, 0, 0, 0, 0);
}
