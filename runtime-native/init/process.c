/* What belongs to the process itself: session keyring, limits, user, capabilities, seccomp, working directory, network. */
#include "init.h"

#include <linux/capability.h>
#include <linux/prctl.h>

#define KEYCTL_JOIN 1
#define KEYCTL_SETPERM_COMMAND 5
/* What a new session keyring has (all for its possessor; view, read, link for its user) and search for its user. */
#define KEYRING_PERMISSIONS 0x3f1b0000
#define SECCOMP_SET_FILTER 1
#define SECCOMP_NEW_LISTENER 8
#define SIOCGIFFLAGS_REQUEST 0x8913
#define SIOCSIFFLAGS_REQUEST 0x8914
#define AF_INET_FAMILY 2
#define SOCK_DGRAM_CLOEXEC 02000002
#define IFF_UP_FLAG 1
#define CAPABILITY_MAX 63

/* A kernel without keyrings, or a filter against them, is no failure. */
OPERATION(op_keyring)
{
	long ring = SYS2(keyctl, KEYCTL_JOIN, text_of(op, 0));

	if (ring < 0)
		return ring == -ENOSYS || ring == -EPERM ? 0 : ring;
	SYS3(keyctl, KEYCTL_SETPERM_COMMAND, ring, KEYRING_PERMISSIONS);
	return 0;
}

OPERATION(op_loopback)
{
	struct {
		char name[16];
		u16 flags;
		char rest[22];
	} request = {"lo", 0, {0}};
	long result, fd = SYS3(socket, AF_INET_FAMILY, SOCK_DGRAM_CLOEXEC, 0);

	(void)op;
	if (fd < 0)
		return fd;
	result = SYS3(ioctl, fd, SIOCGIFFLAGS_REQUEST, &request);
	request.flags |= IFF_UP_FLAG;
	if (!result)
		result = SYS3(ioctl, fd, SIOCSIFFLAGS_REQUEST, &request);
	close_fd((int)fd);
	return result;
}

OPERATION(op_rlimit)
{
	u64 limit[2] = {op->b, op->c};

	return SYS4(prlimit64, 0, op->a, limit, 0);
}

/*
 * The launcher takes the listener by its number, which is told before: afterwards each call may wait for the agent. The
 * number is the lowest that is free.
 */
static long load_listening(const void *program, u64 flags)
{
	struct message message = {.kind = MESSAGE_LISTENER};
	long result, number = SYS1(dup, 0);

	if (number < 0)
		return number;
	close_fd((int)number);
	message.operation = (u32)number;
	send_message(&message, -1);
	result = SYS3(seccomp, SECCOMP_SET_FILTER, flags | SECCOMP_NEW_LISTENER, program);
	return result < 0 ? result : 0;
}

OPERATION(op_seccomp)
{
	struct {
		u16 count;
		const char *filter;
	} program = {(u16)op->a, text_of(op, 0)};

	if (!(op->flags & SECCOMP_LISTENS))
		return SYS3(seccomp, SECCOMP_SET_FILTER, op->b, &program);
	return load_listening(&program, op->b);
}

OPERATION(op_bounding)
{
	for (u64 capability = 0; capability <= CAPABILITY_MAX; capability++) {
		long result;

		if (op->a >> capability & 1)
			continue;
		result = SYS5(prctl, PR_CAPBSET_READ, capability, 0, 0, 0);
		if (result == -EINVAL)
			break;
		if (result == 1)
			result = SYS5(prctl, PR_CAPBSET_DROP, capability, 0, 0, 0);
		if (result < 0)
			return result;
	}
	return 0;
}

/* Keeps the permitted set, which capset cuts down afterwards. */
OPERATION(op_user)
{
	long result = SYS5(prctl, PR_SET_KEEPCAPS, 1, 0, 0, 0);

	if (!result && (op->c || !keeps_groups))
		result = SYS2(setgroups, op->c, text_of(op, 0));
	if (!result)
		result = SYS1(setgid, op->b);
	if (!result)
		result = SYS1(setuid, op->a);
	if (!result)
		result = SYS5(prctl, PR_SET_KEEPCAPS, 0, 0, 0, 0);
	return result;
}

OPERATION(op_capabilities)
{
	struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct data[2] = {
		{(u32)op->a, (u32)op->b, (u32)op->c},
		{(u32)(op->a >> 32), (u32)(op->b >> 32), (u32)(op->c >> 32)},
	};

	return SYS2(capset, &header, data);
}

OPERATION(op_ambient)
{
	long result = SYS5(prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);

	for (u64 capability = 0; !result && capability <= CAPABILITY_MAX; capability++)
		if (op->a >> capability & 1)
			result = SYS5(prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0);
	return result;
}

/* Never through a magic link: a leaked descriptor must not become the way out. A hook of the host has no root yet. */
static long enter_directory(const char *path)
{
	long result;
	int fd;

	if (root_fd < 0)
		return SYS1(chdir, path);
	fd = open_in_root(path, O_PATH | O_DIRECTORY, 0);
	if (fd < 0)
		return fd;
	result = SYS1(fchdir, fd);
	close_fd(fd);
	return result;
}

/* The kernel names a directory outside the root "(unreachable)...". */
OPERATION(op_change_directory)
{
	static int changed;
	char path[PATH_SIZE];
	long result = changed ? 0 : enter_directory(text_of(op, 0));

	if (op->flags & DIRECTORY_FIRST_ATTEMPT && (result == -EACCES || result == -EPERM))
		return 0;
	if (result)
		return result;
	changed = 1;
	result = SYS2(getcwd, path, sizeof(path));
	if (result > 0 && path[0] == '/')
		return 0;
	stage = STAGE_OUTSIDE;
	return -ENOENT;
}

/* The host's /dev/null becomes the container's, so that nothing of the host's /dev is held; a checkpoint needs that too. */
static void reopen_null(int fd)
{
	struct statx st;
	int own = open_in_root("/dev/null", O_RDWR | O_NOCTTY, 0);

	if (own < 0)
		return;
	if (!stat_of(own, &st) && is_device(&st, S_IFCHR, 1, 3))
		SYS3(dup3, own, fd, 0);
	close_fd(own);
}

/* The process may open its own stdio again through /proc/self/fd. */
OPERATION(op_stdio_owner)
{
	for (int fd = 0; fd <= 2; fd++) {
		struct statx st;
		long result = stat_of(fd, &st);

		if (!result && is_device(&st, S_IFCHR, 1, 3)) {
			reopen_null(fd);
			continue;
		}
		if (result < 0 || st.stx_uid == op->a)
			continue;
		result = SYS3(fchown, fd, op->a, st.stx_gid);
		if (result < 0 && result != -EINVAL && result != -EPERM && result != -EROFS)
			return result;
	}
	return 0;
}
