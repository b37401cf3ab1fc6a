/*
 * The mount namespace: new filesystems, bind mounts and the change of root. Everything is made detached and then moved
 * onto a descriptor that was resolved inside the root.
 */
#include "init.h"

#include <linux/openat2.h>

#define MS_REC_FLAG 0x4000u
#define MS_SLAVE_FLAG 0x80000u
#define MS_MOVE_FLAG 0x2000u
#define MNT_DETACH_FLAG 2
#define PROPAGATION_FLAGS 0x1e0000u
#define PROC_MAGIC 0x9fa0

/* A proc of our own that nothing of the image can cover or replace. */
static int procfs_fd = -1;

OPERATION(op_propagation)
{
	return SYS5(mount, 0, text_of(op, 0), 0, op->a, 0);
}

/* Creates a filesystem; options is a list of 'f' key or 's' key value, each NUL-terminated. The mount or -errno. */
static int new_filesystem(const char *type, const char *source, const char *mode, const char *options, u64 count, u64 attributes)
{
	long result = 0, fd = SYS2(fsopen, type, FSOPEN_CLOEXEC);

	if (fd < 0)
		return (int)fd;
	if (source)
		result = SYS5(fsconfig, fd, FSCONFIG_SET_STRING, "source", source, 0);
	if (!result && mode)
		result = SYS5(fsconfig, fd, FSCONFIG_SET_STRING, "mode", mode, 0);
	while (!result && count--) {
		const char *key = options + 1, *value = key + length(key) + 1;

		if (*options == 's') {
			result = SYS5(fsconfig, fd, FSCONFIG_SET_STRING, key, value, 0);
			options = value + length(value) + 1;
		} else {
			result = SYS5(fsconfig, fd, FSCONFIG_SET_FLAG, key, 0, 0);
			options = value;
		}
	}
	if (!result)
		result = SYS5(fsconfig, fd, FSCONFIG_CMD_CREATE, 0, 0, 0);
	if (!result)
		result = SYS3(fsmount, fd, FSMOUNT_CLOEXEC, attributes);
	close_fd((int)fd);
	return (int)result;
}

static long move_to(int mount, int target)
{
	return SYS5(move_mount, mount, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
}

static long set_attributes(int mount, u64 set, u64 clear, u64 propagation, u64 recursive)
{
	struct mount_attr attributes = {.attr_set = set, .attr_clr = clear, .propagation = propagation};

	if (clear & MOUNT_ATTR__ATIME)
		attributes.attr_clr |= MOUNT_ATTR__ATIME;
	return SYS5(mount_setattr, mount, "", AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0), &attributes, sizeof(attributes));
}

/* Without the right to take locked flags away (user namespaces), only adds. */
static long change_attributes(int mount, const struct operation *op)
{
	u32 set = (u32)op->b, clear = (u32)(op->b >> 32);
	u64 recursive = op->flags & TREE_RECURSIVE;
	long result = 0;

	if (set || clear) {
		result = set_attributes(mount, set, clear, 0, recursive);
		if (result == -EPERM && clear)
			result = set_attributes(mount, set, clear & MOUNT_ATTR__ATIME, 0, recursive);
	}
	if (!result && op->c)
		result = set_attributes(mount, 0, 0, op->c & PROPAGATION_FLAGS, op->c & MS_REC_FLAG);
	return result;
}

OPERATION(op_procfs)
{
	(void)op;
	procfs_fd = new_filesystem("proc", "proc", 0, 0, 0, 0);
	return procfs_fd;
}

static long write_proc(const char *path, const char *value, u64 resolve)
{
	struct open_how how = {.flags = O_WRONLY | O_CLOEXEC,
			       .resolve = RESOLVE_BENEATH | RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS | resolve};
	long result, fd = SYS4(openat2, procfs_fd, path, &how, sizeof(how));

	if (fd < 0)
		return fd;
	result = SYS3(write, fd, value, length(value));
	close_fd((int)fd);
	return result < 0 ? result : 0;
}

OPERATION(op_sysctl)
{
	return write_proc(text_of(op, 0), text_of(op, 1), RESOLVE_NO_SYMLINKS);
}

/* Labels are set for the next exec, or the next key. "self" is a link inside procfs. */
OPERATION(op_lsm_label)
{
	return write_proc(text_of(op, 0), text_of(op, 1), 0);
}

OPERATION(op_file_label)
{
	const char *label = text_of(op, 1);
	long result;
	int fd = open_in_root(text_of(op, 0), O_RDONLY | O_DIRECTORY, 0);

	if (fd < 0)
		return fd;
	result = SYS5(fsetxattr, fd, "security.selinux", label, length(label), 0);
	close_fd(fd);
	return result;
}

OPERATION(op_open_tree)
{
	long fd = SYS3(open_tree, AT_FDCWD, text_of(op, 0),
		       OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (op->flags & TREE_RECURSIVE ? AT_RECURSIVE : 0));

	if (fd < 0)
		return fd;
	if (op->a >= SLOTS)
		return -EMFILE;
	slots[op->a] = (int)fd;
	return 0;
}

OPERATION(op_root)
{
	const char *path = text_of(op, 0);
	long result, tree;

	if (op->flags & ROOT_AS_IT_IS) {
		root_fd = (int)SYS4(openat, AT_FDCWD, path, O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
		return root_fd;
	}
	tree = SYS3(open_tree, AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
	if (tree < 0)
		return tree;
	result = SYS5(move_mount, tree, "", AT_FDCWD, path, MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_SYMLINKS);
	root_fd = (int)tree;
	return result;
}

OPERATION(op_current_root)
{
	(void)op;
	root_fd = (int)SYS4(openat, AT_FDCWD, "/", O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
	return root_fd;
}

/* The old root comes to lie on top of the new one; it is made a slave first, so that its going does not reach the host. */
static long pivot(void)
{
	long result, old = SYS4(openat, AT_FDCWD, "/", O_PATH | O_DIRECTORY | O_CLOEXEC, 0);

	if (old < 0)
		return old;
	result = SYS1(fchdir, root_fd);
	if (!result)
		result = SYS2(pivot_root, ".", ".");
	if (!result)
		result = SYS1(fchdir, old);
	if (!result)
		result = SYS5(mount, 0, ".", 0, MS_SLAVE_FLAG | MS_REC_FLAG, 0);
	if (!result)
		result = SYS2(umount2, ".", MNT_DETACH_FLAG);
	close_fd((int)old);
	return result;
}

OPERATION(op_enter_root)
{
	long result;

	if (op->flags & (ROOT_MOVE | ROOT_AS_IT_IS)) {
		result = SYS1(fchdir, root_fd);
		if (!result && op->flags & ROOT_MOVE)
			result = SYS5(mount, ".", "/", 0, MS_MOVE_FLAG, 0);
		if (!result)
			result = SYS1(chroot, ".");
	} else {
		result = pivot();
	}
	return result ? result : SYS1(chdir, "/");
}

/* An ordinary directory, reached through no link at all: for proc and sysfs. */
static int open_ordinary(const char *path)
{
	struct statx st;
	int fd = open_in_root(path, O_PATH | O_NOFOLLOW, RESOLVE_NO_SYMLINKS);

	if (fd == -ENOENT) {
		int made = make_in_root(path, S_IFDIR, 0755);

		if (made < 0)
			return made;
		close_fd(made);
		fd = open_in_root(path, O_PATH | O_NOFOLLOW, RESOLVE_NO_SYMLINKS);
	}
	if (fd == -ELOOP || (fd >= 0 && (stat_of(fd, &st) < 0 || !IS(&st, S_IFDIR)))) {
		close_fd(fd);
		stage = STAGE_NOT_ORDINARY;
		return -ENOTDIR;
	}
	return fd;
}

/* mode receives the octal mode of a directory that existed. */
static int open_target(const struct operation *op, const char *path, char *mode)
{
	struct statx st;
	int fd;

	*mode = 0;
	if (op->flags & MOUNT_ORDINARY_DIRECTORY)
		return open_ordinary(path);
	fd = open_in_root(path, O_PATH, 0);
	if (fd < 0)
		return fd == -ENOENT ? make_in_root(path, S_IFDIR, 0755) : fd;
	if (op->flags & MOUNT_MODE_OF_TARGET && !stat_of(fd, &st)) {
		for (int i = 0; i < 4; i++)
			mode[i] = (char)('0' + (st.stx_mode >> (9 - 3 * i) & 7));
		mode[4] = 0;
	}
	return fd;
}

/* What covers parts of proc would hide the kernel's answers from the programs that rely on them. */
static long refuse_on_proc(const struct operation *op, int target)
{
	u64 buffer[32];

	if (op->flags & TARGET_ON_PROC || SYS2(fstatfs, target, buffer) < 0 || buffer[0] != PROC_MAGIC)
		return 0;
	stage = STAGE_ON_PROC;
	return -EPERM;
}

OPERATION(op_mount)
{
	const char *path = text_of(op, 1);
	char mode[8];
	int mount = -1, target;
	long result;

	stage = STAGE_TARGET;
	target = open_target(op, path, mode);
	if (target < 0)
		return target;
	result = refuse_on_proc(op, target);
	if (result) {
		close_fd(target);
		return result;
	}
	stage = STAGE_OPERATION;
	mount = new_filesystem(text_of(op, 0), text_of(op, 3), *mode ? mode : 0, text_of(op, 2), op->a, (u32)op->b);
	/* What belongs to a namespace of the host can only be shown as the host sees it. */
	if (mount == -EPERM && op->b >> 32) {
		mount = slot_of((op->b >> 32) - 1);
		result = set_attributes(mount, (u32)op->b, 0, 0, 1);
	}
	if (!result)
		result = mount < 0 ? mount : 0;
	if (!result && op->flags & MOUNT_COPY_UP) {
		stage = STAGE_COPY;
		result = copy_up(target, mount);
	}
	if (!result) {
		stage = STAGE_OPERATION;
		result = move_to(mount, target);
	}
	if (!result && op->c) {
		stage = STAGE_ATTRIBUTES;
		result = set_attributes(mount, 0, 0, op->c & PROPAGATION_FLAGS, op->c & MS_REC_FLAG);
	}
	close_fd(mount);
	close_fd(target);
	return result;
}

OPERATION(op_attach)
{
	struct statx st;
	int mount = slot_of(op->a), target;
	long result = stat_of(mount, &st);

	if (result < 0)
		return result;
	stage = STAGE_TARGET;
	if (IS(&st, S_IFDIR))
		target = make_in_root(text_of(op, 0), S_IFDIR, 0755);
	else
		target = make_in_root(text_of(op, 0), S_IFREG, 0755);
	if (target < 0)
		return target;
	stage = STAGE_OPERATION;
	result = refuse_on_proc(op, target);
	if (!result)
		result = move_to(mount, target);
	close_fd(target);
	if (!result) {
		stage = STAGE_ATTRIBUTES;
		result = change_attributes(mount, op);
	}
	close_fd(mount);
	slots[op->a] = -1;
	return result;
}

OPERATION(op_remount)
{
	int target = open_in_root(text_of(op, 0), O_PATH, 0);
	long result;

	if (target < 0)
		return target;
	result = change_attributes(target, op);
	close_fd(target);
	return result;
}

static int null_device(void)
{
	struct statx st;
	int fd = open_in_root("/dev/null", O_PATH | O_NOFOLLOW, RESOLVE_NO_SYMLINKS);

	if (fd >= 0 && (stat_of(fd, &st) < 0 || !is_device(&st, S_IFCHR, 1, 3))) {
		stage = STAGE_NOT_DEVICE;
		close_fd(fd);
		return -ENODEV;
	}
	return fd;
}

/* One empty read-only tmpfs covers every masked directory, one /dev/null every masked file. */
OPERATION(op_mask)
{
	static int empty = -1, null = -1;
	struct statx st;
	int target = open_in_root(text_of(op, 0), O_PATH, 0);
	int *cover;
	long result;

	if (target < 0)
		return target == -ENOENT || target == -ENOTDIR ? 0 : target;
	result = stat_of(target, &st);
	cover = !result && IS(&st, S_IFDIR) ? &empty : &null;
	if (!result && cover == &empty && empty < 0) {
		empty = new_filesystem("tmpfs", "tmpfs", 0, text_of(op, 1), op->a, MOUNT_ATTR_RDONLY);
		result = empty < 0 ? empty : move_to(empty, target);
	} else if (!result) {
		long copy;

		if (cover == &null && null < 0)
			null = null_device();
		copy = *cover < 0 ? *cover : SYS3(open_tree, *cover, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);
		result = copy < 0 ? copy : move_to((int)copy, target);
		close_fd((int)copy);
	}
	close_fd(target);
	return result;
}

OPERATION(op_readonly)
{
	int target = open_in_root(text_of(op, 0), O_PATH, 0);
	long copy, result;

	if (target < 0)
		return target == -ENOENT || target == -ENOTDIR ? 0 : target;
	copy = SYS3(open_tree, target, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | AT_RECURSIVE);
	result = copy < 0 ? copy : set_attributes((int)copy, MOUNT_ATTR_RDONLY, 0, 0, 0);
	if (!result)
		result = move_to((int)copy, target);
	close_fd((int)copy);
	close_fd(target);
	return result;
}
