/* Finding and making the directory that holds an entry, inside the root and nowhere else. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "unpack.h"

#define LINKS_MAX 40

int unpack_open_in(int root, const char *path, uint64_t flags)
{
	struct open_how how = {.flags = flags | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS};
	int fd = syscall(SYS_openat2, root, *path ? path : ".", &how, sizeof how);
	return fd < 0 ? -errno : fd;
}

/* A directory that the archive has no entry for looks as in the nearest lower layer that has it. */
static int copy_from_lower(struct unpack *u, const char *path, int fd)
{
	for (uint32_t i = 0; i < u->lower_count; i++) {
		int from = unpack_open_in(u->lowers[i], path, O_RDONLY | O_DIRECTORY);
		struct stat st;
		if (from == -ENOENT)
			continue;
		if (from < 0)
			return from == -ENOTDIR || from == -ELOOP ? 0 : from;
		int error = 0;
		if (fstat(from, &st) < 0 || fchown(fd, st.st_uid, st.st_gid) < 0 || fchmod(fd, st.st_mode & 07777) < 0)
			error = -errno;
		else
			error = tree_copy_xattrs(from, fd);
		close(from);
		return error;
	}
	return 0;
}

/* Makes the directory name, which is missing or a whiteout, and returns it. */
static int make_parent(struct unpack *u, int dir, const char *name, const char *path, bool opaque)
{
	if (!opaque && u->lowers_unknown)
		return -ENOTCONN;
	if (mkdirat(dir, name, 0755) < 0)
		return -errno;
	int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	int error = fchmod(fd, 0755) < 0 ? -errno : 0;
	if (error == 0 && opaque)
		error = unpack_set_opaque(u, fd);
	else if (error == 0)
		error = copy_from_lower(u, path, fd);
	if (error) {
		close(fd);
		return error;
	}
	return fd;
}

static int open_behind_link(struct unpack *u, int dir, const char *name, const char *parent, int depth);

/* One missing or odd component: dir is open, path is whole again except that *slash still ends the parent. */
static int open_component(struct unpack *u, int dir, char *path, char *slash, int depth)
{
	const char *name = slash ? slash + 1 : path;
	struct stat st;
	if (*name != 0 && !is_dot(name) && fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(st.st_mode))
		return open_behind_link(u, dir, name, slash ? path : "", depth);
	if (slash != NULL)
		*slash = '/';
	if (*name == 0 || is_dot(name))
		return unpack_open_in(u->root, path, O_PATH | O_DIRECTORY);
	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? make_parent(u, dir, name, path, false) : -errno;
	if (unpack_is_whiteout(u, &st))
		return unlinkat(dir, name, 0) < 0 ? -errno : make_parent(u, dir, name, path, true);
	return S_ISDIR(st.st_mode) ? unpack_open_in(dir, name, O_PATH | O_DIRECTORY) : -ENOTDIR;
}

int unpack_open_parent(struct unpack *u, char *path, int depth)
{
	int fd = unpack_open_in(u->root, path, O_PATH | O_DIRECTORY);
	if ((fd != -ENOENT && fd != -ENOTDIR) || *path == 0)
		return fd;
	if (depth > PATH_MAX)
		return -ELOOP;
	char *slash = strrchr(path, '/');
	int dir;
	if (slash != NULL) {
		*slash = 0;
		dir = unpack_open_parent(u, path, depth + 1);
	} else {
		dir = unpack_open_in(u->root, "", O_PATH | O_DIRECTORY);
	}
	fd = dir < 0 ? dir : open_component(u, dir, path, slash, depth);
	if (slash != NULL)
		*slash = '/';
	if (dir >= 0)
		close(dir);
	return fd;
}

/* A dangling link: makes the directory that it names. On the heap, because this recurs with the path's length. */
static int open_behind_link(struct unpack *u, int dir, const char *name, const char *parent, int depth)
{
	char *target = calloc(1, PATH_MAX), *path = NULL;
	int fd = -ENOMEM;
	if (target != NULL && readlinkat(dir, name, target, PATH_MAX - 1) < 0)
		fd = -errno;
	else if (target != NULL && asprintf(&path, "%s/%s", *target == '/' ? "" : parent, target) >= 0)
		fd = unpack_open_parent(u, path, depth + PATH_MAX / LINKS_MAX);
	free(target);
	free(path);
	return fd;
}

/* The directory that holds path (kept until the next call) and, in *name, the last component. */
int unpack_parent_of(struct unpack *u, const char *path, const char **name)
{
	const char *slash = strrchr(path, '/');
	size_t length = slash ? (size_t)(slash - path) : 0;
	*name = slash ? slash + 1 : path;
	if (**name == 0 || is_dot(*name))
		return -EINVAL;
	if (length >= PATH_MAX)
		return -ENAMETOOLONG;
	if (u->parent >= 0 && !u->parent_stale && strncmp(u->parent_path, path, length) == 0 && u->parent_path[length] == 0)
		return u->parent;
	if (u->parent >= 0)
		close(u->parent);
	u->parent_stale = false;
	memcpy(u->parent_path, path, length);
	u->parent_path[length] = 0;
	u->parent = unpack_open_parent(u, u->parent_path, 0);
	return u->parent;
}

