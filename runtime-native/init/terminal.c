/*
 * The pseudo terminal comes from the container's own devpts. Its other side is opened through the master and mounted by
 * descriptor, so that no path under the container's control is trusted.
 */
#include "init.h"

#define TIOCSPTLCK_REQUEST 0x40045431
#define TIOCGPTPEER_REQUEST 0x5441
#define TIOCSWINSZ_REQUEST 0x5414
#define TIOCSCTTY_REQUEST 0x540e
#define DEVPTS_MAGIC 0x1cd1
#define PTMX_MAJOR 5
#define PTMX_MINOR 2

struct window {
	u16 rows, columns, width, height;
};

/* statfs starts with the type, a long; the rest is unused. */
static int is_devpts(int fd)
{
	u64 buffer[32];

	return SYS2(fstatfs, fd, buffer) == 0 && buffer[0] == DEVPTS_MAGIC;
}

static int open_master(void)
{
	struct statx st;
	int fd = open_in_root("/dev/pts/ptmx", O_RDWR | O_NOCTTY, 0);

	if (fd < 0)
		return fd;
	if (stat_of(fd, &st) < 0 || !is_device(&st, S_IFCHR, PTMX_MAJOR, PTMX_MINOR) || !is_devpts(fd)) {
		close_fd(fd);
		stage = STAGE_NOT_DEVICE;
		return -ENODEV;
	}
	return fd;
}

static long mount_console(int slave)
{
	int target = make_in_root("/dev/console", S_IFREG, 0620);
	long tree, result;

	if (target < 0)
		return target;
	tree = SYS3(open_tree, slave, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);
	result = tree;
	if (tree >= 0)
		result = SYS5(move_mount, tree, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
	close_fd((int)tree);
	close_fd(target);
	return result;
}

static long use_terminal(int slave)
{
	long result;

	for (int fd = 0; fd <= 2; fd++) {
		result = SYS3(dup3, slave, fd, 0);
		if (result < 0)
			return result;
	}
	return SYS3(ioctl, 0, TIOCSCTTY_REQUEST, 0);
}

OPERATION(op_terminal)
{
	struct message message = {.kind = MESSAGE_TERMINAL};
	struct window window = {(u16)(op->a >> 32), (u16)op->a, 0, 0};
	int unlock = 0, slave, master = open_master();
	long result;

	if (master < 0)
		return master;
	result = SYS3(ioctl, master, TIOCSPTLCK_REQUEST, &unlock);
	slave = (int)(result ? result : SYS3(ioctl, master, TIOCGPTPEER_REQUEST, O_RDWR | O_NOCTTY | O_CLOEXEC));
	result = slave < 0 ? slave : 0;
	if (!result && op->a)
		result = SYS3(ioctl, slave, TIOCSWINSZ_REQUEST, &window);
	if (!result && op->flags & TERMINAL_CONSOLE)
		result = mount_console(slave);
	if (!result)
		send_message(&message, master);
	close_fd(master);
	if (!result)
		result = use_terminal(slave);
	close_fd(slave);
	return result;
}
