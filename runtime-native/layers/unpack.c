/* Makes the entries of a layer under one directory. What happens is decided in layer.c; this does it with descriptors, so
 * that no name, link or race leads out of the directory. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "unpack.h"

/* Clears the way for a new entry. Returns 1 when a whiteout stood there. */
static int clear_way(struct unpack *u, int dir, const char *name)
{
	struct stat st;
	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : -errno;
	int error = tree_remove_at(dir, name);
	if (error == 0 && (S_ISDIR(st.st_mode) || S_ISLNK(st.st_mode)))
		u->parent_stale = true;
	return error ? error : unpack_is_whiteout(u, &st);
}

/* Sets the attributes of a descriptor, or of path when it is -1. Returns how many there were. What overlayfs itself reads
 * from an upper directory is left out: a layer that sets it could show files of other places. */
static int set_xattrs(const struct pax *pax, int fd, const char *path)
{
	int count = 0;
	for (uint32_t i = 0; i < pax->count; i++) {
		const struct pax_record *record = &pax->records[i];
		if (strncmp(record->keyword, XATTR_KEYWORD, strlen(XATTR_KEYWORD)) != 0)
			continue;
		const char *name = record->keyword + strlen(XATTR_KEYWORD);
		if (tree_is_overlay_xattr(name))
			continue;
		count++;
		int result = fd >= 0 ? fsetxattr(fd, name, record->value, record->size, 0)
				     : lsetxattr(path, name, record->value, record->size, 0);
		/* As containerd: user.* is only for files and directories, and not every file system has every attribute. */
		if (result < 0 && errno != ENOTSUP && !(errno == EPERM && strncmp(name, "user.", 5) == 0))
			return -errno;
	}
	return count;
}

/* Owner first, because a change of owner drops set-id bits and capabilities. What st says already is left out: each
 * change of an inode goes through the journal. An ACL among the attributes changes the mode. */
static int set_metadata(const struct operation *op, int fd, const struct stat *st)
{
	if ((st->st_uid != op->uid || st->st_gid != op->gid) && fchown(fd, op->uid, op->gid) < 0)
		return -errno;
	int xattrs = set_xattrs(op->pax, fd, NULL);
	if (xattrs < 0)
		return xattrs;
	bool has_mode = (st->st_mode & 07777) == op->mode && (op->mode & 07000) == 0 && xattrs == 0;
	return (!has_mode && fchmod(fd, op->mode) < 0) || futimens(fd, op->times) < 0 ? -errno : 0;
}

static int set_metadata_at(const struct operation *op, int dir, const char *name)
{
	char path[64 + NAME_MAX];
	if (fchownat(dir, name, op->uid, op->gid, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	snprintf(path, sizeof path, "/proc/self/fd/%d/%s", dir, name);
	int error = set_xattrs(op->pax, -1, path);
	if (error < 0)
		return error;
	if (op->type != '2' && fchmodat(dir, name, op->mode, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	return utimensat(dir, name, op->times, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

int unpack_file_begin(struct unpack *u, const struct operation *op)
{
	const char *name;
	int error = 0, flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
	int dir = unpack_parent_of(u, op->path, &name);
	if (dir < 0)
		return dir;
	u->file = openat(dir, name, flags, op->mode & 0777);
	if (u->file < 0 && errno == EEXIST) {
		error = clear_way(u, dir, name);
		if (error >= 0)
			u->file = openat(dir, name, flags, op->mode & 0777);
	}
	if (u->file < 0)
		return error < 0 ? error : -errno;
	return fstat(u->file, &u->file_stat) < 0 ? -errno : unpack_remember(u, &u->file_stat);
}

int unpack_file_write(struct unpack *u, const uint8_t *data, size_t size, uint64_t position)
{
	while (size > 0) {
		ssize_t written = pwrite(u->file, data, size, position);
		if (written < 0 && errno == EINTR)
			continue;
		if (written < 0)
			return -errno;
		data += written, size -= written, position += written;
	}
	return 0;
}

int unpack_file_end(struct unpack *u, const struct operation *op, int64_t size)
{
	int error = size >= 0 && ftruncate(u->file, size) < 0 ? -errno : 0;
	if (error == 0)
		error = set_metadata(op, u->file, &u->file_stat);
	if (close(u->file) < 0 && error == 0)
		error = -errno;
	u->file = -1;
	return error;
}

int unpack_directory(struct unpack *u, const struct operation *op)
{
	const char *name;
	struct stat st;
	int dir = unpack_parent_of(u, op->path, &name);
	if (dir < 0)
		return dir;
	int was_whiteout = 0;
	if (mkdirat(dir, name, op->mode & 0777) < 0) {
		if (errno != EEXIST || fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			return -errno;
		if (!S_ISDIR(st.st_mode)) {
			was_whiteout = clear_way(u, dir, name);
			if (was_whiteout < 0)
				return was_whiteout;
			if (mkdirat(dir, name, op->mode & 0777) < 0)
				return -errno;
		}
	}
	int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	int error = fstat(fd, &st) < 0 ? -errno : set_metadata(op, fd, &st);
	/* A directory in place of what a whiteout hides must not show the lower one again. */
	if (error == 0 && was_whiteout)
		error = unpack_set_opaque(u, fd);
	if (error == 0)
		error = unpack_remember(u, &st);
	close(fd);
	return error;
}

static int make_entry(struct unpack *u, const struct operation *op, int dir, const char *name)
{
	if (op->type == '2')
		return symlinkat(op->link, dir, name) < 0 ? -errno : 0;
	if (op->type != '1') {
		mode_t type = op->type == '3' ? S_IFCHR : op->type == '4' ? S_IFBLK : S_IFIFO;
		return mknodat(dir, name, type | (op->mode & 0700), makedev(op->major, op->minor)) < 0 ? -errno : 0;
	}
	const char *target = op->link, *slash = strrchr(target, '/');
	char parent[PATH_MAX];
	snprintf(parent, sizeof parent, "%.*s", slash ? (int)(slash - target) : 0, target);
	int from = unpack_open_in(u->root, parent, O_PATH | O_DIRECTORY);
	if (from < 0)
		return from;
	int error = linkat(from, slash ? slash + 1 : target, dir, name, 0) < 0 ? -errno : 0;
	struct stat old, new;
	/* A name linked to itself stays; making way for it would lose the file. */
	if (error == -EEXIST && fstatat(from, slash ? slash + 1 : target, &old, AT_SYMLINK_NOFOLLOW) == 0 &&
	    fstatat(dir, name, &new, AT_SYMLINK_NOFOLLOW) == 0 && old.st_ino == new.st_ino && old.st_dev == new.st_dev)
		error = 0;
	close(from);
	return error;
}

int unpack_entry(struct unpack *u, const struct operation *op)
{
	const char *name;
	int dir = unpack_parent_of(u, op->path, &name);
	if (dir < 0)
		return dir;
	int error = make_entry(u, op, dir, name);
	if (error == -EEXIST) {
		error = clear_way(u, dir, name);
		if (error >= 0)
			error = make_entry(u, op, dir, name);
	}
	/* A hard link has its metadata from the first name of its file. */
	if (error == 0 && op->type != '1')
		error = set_metadata_at(op, dir, name);
	return error ? error : unpack_remember_at(u, dir, name);
}

int unpack_directory_times(struct unpack *u, const char *path, const struct timespec times[2])
{
	int fd = unpack_open_in(u->root, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
	if (fd < 0)
		return fd == -ENOENT || fd == -ENOTDIR || fd == -ELOOP ? 0 : fd;
	int error = futimens(fd, times) < 0 ? -errno : 0;
	close(fd);
	return error;
}

/* Opens the directory to unpack into. NULL on failure, with -errno in *error. */
struct unpack *gantry_unpack_open(const char *root, uint32_t whiteouts, int32_t *error)
{
	struct unpack *u = calloc(1, sizeof *u);
	*error = -ENOMEM;
	if (u == NULL)
		return NULL;
	u->file = u->parent = -1;
	u->whiteouts = whiteouts;
	u->root = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	*error = u->root < 0 ? -errno : 0;
	if (u->root >= 0)
		return u;
	free(u);
	return NULL;
}

/* Adds a lower layer, nearest first, that gives directories without an entry their attributes. */
int gantry_unpack_lower(struct unpack *u, const char *path)
{
	if (u->lower_count == LOWERS_MAX)
		return -E2BIG;
	int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	u->lowers[u->lower_count++] = fd;
	return 0;
}

/* A directory that needs the attributes of one below is refused with ENOTCONN. */
void gantry_unpack_unknown_lowers(struct unpack *u)
{
	u->lowers_unknown = true;
}

void gantry_unpack_close(struct unpack *u)
{
	for (uint32_t i = 0; i < u->lower_count; i++)
		close(u->lowers[i]);
	if (u->file >= 0)
		close(u->file);
	if (u->parent >= 0)
		close(u->parent);
	close(u->root);
	inode_set_free(&u->seen);
	free(u);
}
