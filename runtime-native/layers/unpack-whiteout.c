/* Whiteouts: how a layer hides what the layers below it have (OCI image-spec, layer.md, Whiteouts). */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "unpack.h"

/* As deep as a path can be. */
#define DEPTH_MAX (PATH_MAX / 2)

static int purge_at(struct unpack *u, int dir, const char *name, int depth);

bool unpack_is_whiteout(const struct unpack *u, const struct stat *st)
{
	return u->whiteouts != DELETE && S_ISCHR(st->st_mode) && st->st_rdev == 0;
}

int unpack_remember(struct unpack *u, const struct stat *st)
{
	return u->whiteouts == DELETE ? inode_set_add(&u->seen, st, NULL) : 0;
}

int unpack_remember_at(struct unpack *u, int dir, const char *name)
{
	struct stat st;
	if (u->whiteouts != DELETE)
		return 0;
	return fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : unpack_remember(u, &st);
}

/* The names in a directory, one after the other, each ended by NUL. The caller frees *list. */
static int list_names(int dir, char **list, size_t *used)
{
	struct entry {
		uint64_t ino, next;
		uint16_t length;
		uint8_t type;
		char name[];
	} __attribute__((packed));
	char buffer[8192];
	size_t size = 0;
	ssize_t count;
	while ((count = syscall(SYS_getdents64, dir, buffer, sizeof buffer)) > 0) {
		for (ssize_t at = 0; at < count;) {
			const struct entry *entry = (const struct entry *)(buffer + at);
			size_t bytes = strlen(entry->name) + 1;
			at += entry->length;
			if (is_dot(entry->name))
				continue;
			if (*used + bytes > size) {
				char *larger = realloc(*list, size = (size + bytes) * 2);
				if (larger == NULL)
					return -ENOMEM;
				*list = larger;
			}
			memcpy(*list + *used, entry->name, bytes);
			*used += bytes;
		}
	}
	return count < 0 ? -errno : 0;
}

/* Removes from a directory what this layer has not put there. Returns the number of entries that stay. */
static int purge(struct unpack *u, int dir, int depth)
{
	char *list = NULL;
	size_t used = 0;
	int left = 0;
	/* This layer has nothing deeper, as its names are paths. */
	int error = depth > DEPTH_MAX ? 0 : list_names(dir, &list, &used);
	for (char *name = list; error == 0 && name < list + used; name += strlen(name) + 1) {
		struct stat st;
		if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
			error = errno == ENOENT ? 0 : -errno;
			continue;
		}
		bool stays = inode_set_find(&u->seen, &st) != NULL;
		if (S_ISDIR(st.st_mode)) {
			int inner = purge_at(u, dir, name, depth + 1);
			error = inner < 0 ? inner : 0;
			stays = stays || inner > 0;
		}
		if (error == 0 && !stays)
			error = tree_remove_at(dir, name);
		left += stays;
	}
	free(list);
	return error ? error : left;
}

static int purge_at(struct unpack *u, int dir, const char *name, int depth)
{
	int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT || errno == ENOTDIR || errno == ELOOP ? 0 : -errno;
	int left = purge(u, fd, depth);
	close(fd);
	return left;
}

int unpack_set_opaque(struct unpack *u, int fd)
{
	const char *name = u->whiteouts == OVERLAY_USER ? "user.overlay.opaque" : "trusted.overlay.opaque";
	return fsetxattr(fd, name, "y", 1, 0) < 0 ? -errno : 0;
}

/* Opens a directory that stands in one and marks it. */
static int set_opaque_at(struct unpack *u, int dir, const char *name)
{
	int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	int error = unpack_set_opaque(u, fd);
	close(fd);
	return error;
}

int unpack_whiteout(struct unpack *u, const struct operation *op)
{
	const char *name;
	struct stat st;
	int dir = unpack_parent_of(u, op->path, &name);
	if (dir < 0)
		return dir;
	int found = fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW);
	if (found < 0 && errno != ENOENT)
		return -errno;
	if (u->whiteouts != DELETE) {
		if (found == 0)
			return S_ISDIR(st.st_mode) ? set_opaque_at(u, dir, name) : 0;
		if (mknodat(dir, name, S_IFCHR, 0) < 0 || fchownat(dir, name, op->uid, op->gid, AT_SYMLINK_NOFOLLOW) < 0)
			return -errno;
		return 0;
	}
	if (found < 0)
		return 0;
	int left = S_ISDIR(st.st_mode) ? purge_at(u, dir, name, 0) : 0;
	if (left != 0 || inode_set_find(&u->seen, &st) != NULL)
		return left < 0 ? left : 0;
	u->parent_stale = true;
	return tree_remove_at(dir, name);
}

int unpack_opaque(struct unpack *u, const char *directory)
{
	char path[PATH_MAX];
	if (snprintf(path, sizeof path, "%s", directory) >= (int)sizeof path)
		return -ENAMETOOLONG;
	int fd = unpack_open_parent(u, path, 0);
	if (fd < 0)
		return fd;
	int error;
	if (u->whiteouts != DELETE) {
		error = set_opaque_at(u, fd, ".");
	} else {
		error = purge_at(u, fd, ".", 0);
		u->parent_stale = true;
	}
	close(fd);
	return error < 0 ? error : 0;
}

