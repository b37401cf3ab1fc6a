/* Copies a directory tree with everything that makes it up: owners, modes, times, extended attributes, hard links,
 * device nodes, fifos, sockets and holes. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "tree.h"

#define DEPTH_MAX (PATH_MAX / 2)

struct copy {
	int to_root;
	/* Files with several names, each with the path of its first copy. */
	struct inode_set linked;
	char path[PATH_MAX];
};

static int copy_range(int from, int to, off_t start, off_t end)
{
	while (start < end) {
		off_t out = start;
		ssize_t copied = copy_file_range(from, &start, to, &out, end - start, 0);
		if (copied < 0 && errno == EINTR)
			continue;
		if (copied < 0)
			return -errno;
		if (copied == 0)
			return 0;
	}
	return 0;
}

/* For file systems between which the kernel does not copy. */
static int copy_by_hand(int from, int to, off_t start, off_t end)
{
	char buffer[65536];
	while (start < end) {
		size_t want = end - start < (off_t)sizeof buffer ? (size_t)(end - start) : sizeof buffer;
		ssize_t count = pread(from, buffer, want, start);
		if (count <= 0)
			return count < 0 ? -errno : 0;
		for (ssize_t at = 0; at < count;) {
			ssize_t written = pwrite(to, buffer + at, count - at, start + at);
			if (written < 0)
				return -errno;
			at += written;
		}
		start += count;
	}
	return 0;
}

static int copy_content(int from, int to, off_t size)
{
	if (size == 0 || ioctl(to, FICLONE, from) == 0)
		return 0;
	if (ftruncate(to, size) < 0)
		return -errno;
	for (off_t end = 0; end < size;) {
		off_t start = lseek(from, end, SEEK_DATA);
		if (start < 0)
			return errno == ENXIO ? 0 : -errno;
		end = lseek(from, start, SEEK_HOLE);
		if (end < 0)
			return -errno;
		int error = copy_range(from, to, start, end);
		if (error == -EXDEV || error == -EINVAL || error == -EOPNOTSUPP || error == -ENOSYS)
			error = copy_by_hand(from, to, start, end);
		if (error)
			return error;
	}
	return 0;
}

/* Owner first, because a change of owner drops set-id bits and capabilities. */
static int copy_metadata(int from, int to, const struct stat *st)
{
	struct timespec times[2] = {st->st_atim, st->st_mtim};
	if (fchown(to, st->st_uid, st->st_gid) < 0)
		return -errno;
	int error = tree_copy_xattrs(from, to);
	if (error)
		return error;
	return fchmod(to, st->st_mode & 07777) < 0 || futimens(to, times) < 0 ? -errno : 0;
}

static int copy_file(int from_dir, int to_dir, const char *name, const struct stat *st)
{
	int from = openat(from_dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (from < 0)
		return -errno;
	int to = openat(to_dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	int error = to < 0 ? -errno : copy_content(from, to, st->st_size);
	if (error == 0)
		error = copy_metadata(from, to, st);
	if (to >= 0 && close(to) < 0 && error == 0)
		error = -errno;
	close(from);
	return error;
}

/* Symlinks, devices, fifos, sockets: attributes go through /proc, because they cannot be opened. */
static int copy_special(int from_dir, int to_dir, const char *name, const struct stat *st)
{
	struct timespec times[2] = {st->st_atim, st->st_mtim};
	if (S_ISLNK(st->st_mode)) {
		char target[PATH_MAX];
		ssize_t size = readlinkat(from_dir, name, target, sizeof target - 1);
		if (size < 0)
			return -errno;
		target[size] = 0;
		if (symlinkat(target, to_dir, name) < 0)
			return -errno;
	} else if (mknodat(to_dir, name, st->st_mode & ~07077, st->st_rdev) < 0) {
		return -errno;
	}
	if (fchownat(to_dir, name, st->st_uid, st->st_gid, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	int error = tree_copy_xattrs_at(from_dir, to_dir, name);
	if (error)
		return error;
	if (!S_ISLNK(st->st_mode) && fchmodat(to_dir, name, st->st_mode & 07777, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	return utimensat(to_dir, name, times, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

/* Links to an earlier copy of the same file. Returns 1 when there is none yet. */
static int link_again(struct copy *c, int to_dir, const char *name, const struct stat *st)
{
	struct inode_slot *slot = inode_set_find(&c->linked, st);
	if (slot != NULL)
		return linkat(c->to_root, slot->text, to_dir, name, 0) < 0 ? -errno : 0;
	char *path = strdup(c->path);
	int error = path == NULL ? -ENOMEM : inode_set_add(&c->linked, st, path);
	return error ? error : 1;
}

static int copy_directory(struct copy *c, int from, int to, int depth);

static int copy_subdirectory(struct copy *c, int from_dir, int to_dir, const char *name, int depth)
{
	if (mkdirat(to_dir, name, 0700) < 0)
		return -errno;
	int from = openat(from_dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	int to = openat(to_dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	int error = from < 0 || to < 0 ? -errno : copy_directory(c, from, to, depth + 1);
	if (from >= 0)
		close(from);
	if (to >= 0)
		close(to);
	return error;
}

static int copy_entry(struct copy *c, int from, int to, const char *name, int depth)
{
	struct stat st;
	if (fstatat(from, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	if (S_ISDIR(st.st_mode))
		return copy_subdirectory(c, from, to, name, depth);
	if (st.st_nlink > 1) {
		int result = link_again(c, to, name, &st);
		if (result <= 0)
			return result;
	}
	return S_ISREG(st.st_mode) ? copy_file(from, to, name, &st) : copy_special(from, to, name, &st);
}

/* Copies what is in from, then the attributes of from itself. Leaves both descriptors open. */
static int copy_directory(struct copy *c, int from, int to, int depth)
{
	struct stat st;
	size_t length = strlen(c->path);
	DIR *dir = depth > DEPTH_MAX ? NULL : fdopendir(fcntl(from, F_DUPFD_CLOEXEC, 0));
	if (dir == NULL)
		return depth > DEPTH_MAX ? -ELOOP : -errno;
	int error = 0;
	struct dirent *entry;
	while (error == 0 && (errno = 0, entry = readdir(dir)) != NULL) {
		if (is_dot(entry->d_name))
			continue;
		int size = snprintf(c->path + length, PATH_MAX - length, "%s%s", length ? "/" : "", entry->d_name);
		error = size >= (int)(PATH_MAX - length) ? -ENAMETOOLONG
							 : copy_entry(c, from, to, entry->d_name, depth);
		c->path[length] = 0;
	}
	if (error == 0 && errno != 0)
		error = -errno;
	closedir(dir);
	if (error == 0)
		error = fstat(from, &st) < 0 ? -errno : copy_metadata(from, to, &st);
	return error;
}

struct copy_call {
	const char *from, *to;
};

static int copy_tree(void *argument)
{
	const struct copy_call *call = argument;
	struct copy *c = calloc(1, sizeof *c);
	if (c == NULL)
		return -ENOMEM;
	int fd = open(call->from, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	c->to_root = fd < 0 ? fd : open(call->to, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int error = c->to_root < 0 ? -errno : copy_directory(c, fd, c->to_root, 0);
	if (fd >= 0)
		close(fd);
	if (c->to_root >= 0)
		close(c->to_root);
	inode_set_free(&c->linked);
	free(c);
	return error;
}

/* Copies the tree at `from` into the existing directory `to`, which takes its attributes too. Blocking. */
int gantry_tree_copy(const char *from, const char *to)
{
	struct copy_call call = {from, to};
	return tree_on_large_stack(copy_tree, &call);
}
