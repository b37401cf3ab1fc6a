/* Directory trees by file descriptor: shared by tree.c, copy.c and unpack.c. Everything returns 0 or -errno. */
#ifndef GANTRY_TREE_H
#define GANTRY_TREE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

/* A set of inodes, each with a string that may be NULL. Open addressing; grows by doubling. */
struct inode_set {
	struct inode_slot {
		uint64_t dev, ino;
		char *text;
	} *slots;
	uint32_t used, size;
};

/* The slot of an inode, or NULL. */
struct inode_slot *inode_set_find(struct inode_set *set, const struct stat *st);
/* Adds an inode; text is owned by the set from then on. */
int inode_set_add(struct inode_set *set, const struct stat *st, char *text);
void inode_set_free(struct inode_set *set);

/* Removes what stands at name in dir, a directory with all it holds; never follows a symlink. Absent is no error. */
int tree_remove_at(int dir, const char *name);
/* Copies the extended attributes that `from` has to `to`, leaving out those of overlayfs itself. */
int tree_copy_xattrs(int from, int to);
/* The same for an entry that cannot be opened: a symlink, device, fifo or socket. */
int tree_copy_xattrs_at(int from, int to, const char *name);

/* What overlayfs itself reads from an upper directory. */
bool tree_is_overlay_xattr(const char *name);

/* Runs body(argument) on a stack that is deep enough for any tree; asynchronous calls of koffi have 128 KiB. */
int tree_on_large_stack(int (*body)(void *), void *argument);

static inline bool is_dot(const char *name)
{
	return name[0] == '.' && (name[1] == 0 || (name[1] == '.' && name[2] == 0));
}

#endif
