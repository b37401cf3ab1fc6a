/* Removing, measuring and syncing directory trees. Works on descriptors, so it needs no path to be short or stable. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "tree.h"

/* Deeper directories are moved to the top before they are removed, so that descriptors and stack stay bounded. */
#define DEPTH_MAX 64
#define BLOCK 512
#define LARGE_STACK (8 << 20)

struct inode_slot *inode_set_find(struct inode_set *set, const struct stat *st)
{
	if (set->size == 0)
		return NULL;
	uint64_t hash = (st->st_ino ^ ((uint64_t)st->st_dev << 40)) * 0x9e3779b97f4a7c15ull;
	for (uint32_t i = hash >> 32;; i++) {
		struct inode_slot *slot = &set->slots[i & (set->size - 1)];
		if (slot->ino == 0)
			return NULL;
		if (slot->ino == st->st_ino && slot->dev == st->st_dev)
			return slot;
	}
}

static int inode_set_grow(struct inode_set *set)
{
	struct inode_set larger = {.size = set->size ? set->size * 2 : 1024};
	larger.slots = calloc(larger.size, sizeof *larger.slots);
	if (larger.slots == NULL)
		return -ENOMEM;
	for (uint32_t i = 0; i < set->size; i++) {
		struct stat st = {.st_dev = set->slots[i].dev, .st_ino = set->slots[i].ino};
		if (st.st_ino != 0)
			inode_set_add(&larger, &st, set->slots[i].text);
	}
	free(set->slots);
	*set = larger;
	return 0;
}

int inode_set_add(struct inode_set *set, const struct stat *st, char *text)
{
	if (st->st_ino == 0 || inode_set_find(set, st) != NULL) {
		free(text);
		return 0;
	}
	if (set->used * 2 >= set->size) {
		int error = inode_set_grow(set);
		if (error)
			return error;
	}
	uint64_t hash = (st->st_ino ^ ((uint64_t)st->st_dev << 40)) * 0x9e3779b97f4a7c15ull;
	uint32_t i = hash >> 32;
	while (set->slots[i & (set->size - 1)].ino != 0)
		i++;
	set->slots[i & (set->size - 1)] = (struct inode_slot){st->st_dev, st->st_ino, text};
	set->used++;
	return 0;
}

void inode_set_free(struct inode_set *set)
{
	for (uint32_t i = 0; i < set->size; i++)
		free(set->slots[i].text);
	free(set->slots);
	*set = (struct inode_set){0};
}

struct thread_call {
	int (*body)(void *);
	void *argument;
	int result;
};

static void *thread_main(void *argument)
{
	struct thread_call *call = argument;
	call->result = call->body(call->argument);
	return NULL;
}

int tree_on_large_stack(int (*body)(void *), void *argument)
{
	struct thread_call call = {.body = body, .argument = argument};
	pthread_attr_t attributes;
	pthread_t thread;
	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, LARGE_STACK);
	int error = pthread_create(&thread, &attributes, thread_main, &call);
	pthread_attr_destroy(&attributes);
	if (error)
		return -error;
	pthread_join(thread, NULL);
	return call.result;
}

/* Empties a directory (takes the descriptor). A directory below DEPTH_MAX is moved into top under a fresh name. */
static int remove_children(int fd, int top, int depth)
{
	static _Thread_local unsigned int moved;
	DIR *dir = fdopendir(fd);
	if (dir == NULL) {
		int error = -errno;
		close(fd);
		return error;
	}
	int error = 0;
	bool again;
	do {
		again = false;
		rewinddir(dir);
		struct dirent *entry;
		while (error == 0 && (errno = 0, entry = readdir(dir)) != NULL) {
			const char *name = entry->d_name;
			if (is_dot(name))
				continue;
			/* Reading on after removals may skip entries, hence another round. */
			again = true;
			if (entry->d_type != DT_DIR && unlinkat(dirfd(dir), name, 0) == 0)
				continue;
			int child = openat(dirfd(dir), name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
			if (child < 0) {
				if (errno == ENOENT)
					continue;
				error = errno == ENOTDIR || errno == ELOOP ? 0 : -errno;
				if (error == 0 && unlinkat(dirfd(dir), name, 0) < 0 && errno != ENOENT)
					error = -errno;
				continue;
			}
			if (depth >= DEPTH_MAX) {
				char fresh[48];
				close(child);
				snprintf(fresh, sizeof fresh, ".gantry-removed-%u-%d", ++moved, (int)getpid());
				if (renameat(dirfd(dir), name, top, fresh) < 0)
					error = -errno;
				continue;
			}
			error = remove_children(child, top, depth + 1);
			if (error == 0 && unlinkat(dirfd(dir), name, AT_REMOVEDIR) < 0 && errno != ENOENT)
				error = -errno;
		}
		if (entry == NULL && errno != 0 && error == 0)
			error = -errno;
	} while (again && error == 0);
	closedir(dir);
	return error;
}

int tree_remove_at(int dir, const char *name)
{
	if (unlinkat(dir, name, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno != EISDIR)
		return -errno;
	int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	int top = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (top < 0) {
		int error = -errno;
		close(fd);
		return error;
	}
	int error = remove_children(fd, top, 0);
	close(top);
	if (error == 0 && unlinkat(dir, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
		error = -errno;
	return error;
}

/* Removes the tree at an absolute path. Blocking. */
int gantry_tree_remove(const char *path)
{
	return tree_remove_at(AT_FDCWD, path);
}

static int usage_of(int fd, struct inode_set *seen, uint64_t *blocks, int depth)
{
	DIR *dir = fdopendir(fd);
	if (dir == NULL) {
		int error = -errno;
		close(fd);
		return error;
	}
	int error = depth > 2048 ? -ELOOP : 0;
	struct dirent *entry;
	while (error == 0 && (errno = 0, entry = readdir(dir)) != NULL) {
		struct stat st;
		if (is_dot(entry->d_name))
			continue;
		if (fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
			error = errno == ENOENT ? 0 : -errno;
			continue;
		}
		if (inode_set_find(seen, &st) != NULL)
			continue;
		*blocks += st.st_blocks;
		error = inode_set_add(seen, &st, NULL);
		if (error != 0 || !S_ISDIR(st.st_mode))
			continue;
		int child = openat(dirfd(dir), entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (child >= 0)
			error = usage_of(child, seen, blocks, depth + 1);
		else if (errno != ENOENT)
			error = -errno;
	}
	closedir(dir);
	return error;
}

struct usage_call {
	const char *path;
	uint64_t *usage;
};

static int measure(void *argument)
{
	struct usage_call *call = argument;
	struct inode_set seen = {0};
	struct stat st;
	int fd = open(call->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	uint64_t blocks = st.st_blocks;
	int error = inode_set_add(&seen, &st, NULL);
	if (error == 0)
		error = usage_of(fd, &seen, &blocks, 0);
	else
		close(fd);
	call->usage[0] = blocks * BLOCK;
	call->usage[1] = seen.used;
	inode_set_free(&seen);
	return error;
}

/* Disk space (bytes in blocks) and number of inodes of a tree, its top included; hard links count once. Blocking. */
int gantry_tree_usage(const char *path, uint64_t *usage)
{
	struct usage_call call = {path, usage};
	return tree_on_large_stack(measure, &call);
}

/* syncfs(2) of the file system that holds path. Blocking. */
int gantry_syncfs(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	int error = syncfs(fd) < 0 ? -errno : 0;
	close(fd);
	return error;
}

bool tree_is_overlay_xattr(const char *name)
{
	return strncmp(name, "trusted.overlay.", 16) == 0 || strncmp(name, "user.overlay.", 13) == 0;
}

/* Paths of the two sides below /proc/self/fd, and whether their last link is followed (it is the descriptor's own). */
struct sides {
	bool follow;
	char from[64 + NAME_MAX], to[64 + NAME_MAX];
};

static ssize_t get_xattr(const struct sides *sides, const char *name, void *value, size_t size)
{
	return (sides->follow ? getxattr : lgetxattr)(sides->from, name, value, size);
}

static int copy_xattr(const struct sides *sides, const char *name)
{
	ssize_t size = get_xattr(sides, name, NULL, 0);
	if (size < 0)
		return errno == ENODATA ? 0 : -errno;
	char *value = malloc(size + 1);
	if (value == NULL)
		return -ENOMEM;
	size = get_xattr(sides, name, value, size);
	int error = 0;
	if (size < 0 || ((sides->follow ? setxattr : lsetxattr)(sides->to, name, value, size, 0) < 0 && errno != ENOTSUP))
		error = -errno;
	free(value);
	return error;
}

static int copy_all_xattrs(const struct sides *sides)
{
	ssize_t size = (sides->follow ? listxattr : llistxattr)(sides->from, NULL, 0);
	if (size <= 0)
		return size == 0 || errno == ENOTSUP ? 0 : -errno;
	char *names = malloc(size);
	if (names == NULL)
		return -ENOMEM;
	size = (sides->follow ? listxattr : llistxattr)(sides->from, names, size);
	int error = size < 0 ? -errno : 0;
	for (char *name = names; error == 0 && name < names + size; name += strlen(name) + 1) {
		if (!tree_is_overlay_xattr(name))
			error = copy_xattr(sides, name);
	}
	free(names);
	return error;
}

int tree_copy_xattrs_at(int from, int to, const char *name)
{
	struct sides sides = {.follow = false};
	snprintf(sides.from, sizeof sides.from, "/proc/self/fd/%d/%s", from, name);
	snprintf(sides.to, sizeof sides.to, "/proc/self/fd/%d/%s", to, name);
	return copy_all_xattrs(&sides);
}

int tree_copy_xattrs(int from, int to)
{
	/* Nearly no file has any; this asks without building paths. */
	ssize_t size = flistxattr(from, NULL, 0);
	if (size <= 0)
		return size == 0 || errno == ENOTSUP ? 0 : -errno;
	struct sides sides = {.follow = true};
	snprintf(sides.from, sizeof sides.from, "/proc/self/fd/%d", from);
	snprintf(sides.to, sizeof sides.to, "/proc/self/fd/%d", to);
	return copy_all_xattrs(&sides);
}
