/* Device nodes, links and directories inside the root. */
#include "init.h"

#define REPLACE_TRIES 100

#define AT_SYMLINK_NOFOLLOW_FLAG 0x100

static u64 device_number(u32 major, u32 minor)
{
	return (minor & 0xff) | (u64)major << 8 | (u64)(minor & ~0xffu) << 12;
}

/* A node that exists is left alone. */
OPERATION(op_device)
{
	char name[PATH_SIZE];
	int dir = parent_in_root(text_of(op, 0), name);
	long result;

	if (dir < 0)
		return dir == -EEXIST ? 0 : dir;
	result = SYS4(mknodat, dir, name, op->a, device_number((u32)(op->b >> 32), (u32)op->b));
	if (!result)
		result = SYS5(fchownat, dir, name, op->c >> 32, (u32)op->c, AT_SYMLINK_NOFOLLOW_FLAG);
	close_fd(dir);
	return result == -EEXIST ? 0 : result;
}

OPERATION(op_symlink)
{
	char name[PATH_SIZE];
	int dir = parent_in_root(text_of(op, 1), name);
	long result = 0;

	if (dir < 0)
		return dir;
	/* Another container with the same root directory may make its link in between. */
	for (int tries = 0; tries < REPLACE_TRIES; tries++) {
		if (op->flags & LINK_REPLACE)
			result = SYS3(unlinkat, dir, name, 0);
		if (!result || result == -ENOENT)
			result = SYS3(symlinkat, text_of(op, 0), dir, name);
		if (result != -EEXIST || !(op->flags & LINK_REPLACE))
			break;
	}
	close_fd(dir);
	return result == -EEXIST && !(op->flags & LINK_REPLACE) ? 0 : result;
}

OPERATION(op_make_directory)
{
	struct statx st;
	int fd = make_in_root(text_of(op, 0), S_IFDIR, (u32)op->a);
	long result;

	if (fd < 0)
		return fd;
	result = stat_of(fd, &st);
	close_fd(fd);
	return result || IS(&st, S_IFDIR) ? result : -ENOTDIR;
}
