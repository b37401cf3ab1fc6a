/* Making the entries of a layer under one directory, and nowhere else. What the parts of the unpacker share. */
#ifndef GANTRY_UNPACK_H
#define GANTRY_UNPACK_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "archive.h"
#include "tree.h"

enum whiteouts { DELETE, OVERLAY_TRUSTED, OVERLAY_USER };

#define LOWERS_MAX 512

/* What an entry makes. Names are relative to the root, without dots. */
struct operation {
	/* As in struct tar_entry. */
	char type;
	const char *path, *link;
	uint32_t mode, uid, gid, major, minor;
	struct timespec times[2];
	/* Extended attributes are among its records. */
	const struct pax *pax;
};

struct unpack {
	int root, file, parent;
	/* Of file, as it was made. */
	struct stat file_stat;
	enum whiteouts whiteouts;
	/* The directory of the last entry; stale once something that may lead to it has gone. */
	bool parent_stale;
	char parent_path[PATH_MAX];
	/* What this layer has made or named; whiteouts do not hide it. Only kept for DELETE. */
	struct inode_set seen;
	uint32_t lower_count;
	int lowers[LOWERS_MAX];
	/* There may be layers below that are not unpacked yet. */
	bool lowers_unknown;
};

/* Everything returns 0 or -errno, unless it says something else. */

int unpack_directory(struct unpack *u, const struct operation *op);
/* A regular file, piece by piece; one at a time. size: how long it is in the end, -1 for as long as was written. */
int unpack_file_begin(struct unpack *u, const struct operation *op);
int unpack_file_write(struct unpack *u, const uint8_t *data, size_t size, uint64_t position);
int unpack_file_end(struct unpack *u, const struct operation *op, int64_t size);
/* A symlink, hard link, device or fifo. */
int unpack_entry(struct unpack *u, const struct operation *op);
/* Hides what lower layers have at the path, never what this layer has. */
int unpack_whiteout(struct unpack *u, const struct operation *op);
/* Hides what lower layers have in the directory path. */
int unpack_opaque(struct unpack *u, const char *path);
/* Times of a directory once nothing more is made in it. One that has been replaced meanwhile is left alone. */
int unpack_directory_times(struct unpack *u, const char *path, const struct timespec times[2]);

/* Opens a path inside root: links and ".." lead nowhere else. The descriptor or -errno. */
int unpack_open_in(int root, const char *path, uint64_t flags);
/* Opens a directory, and makes what is missing on the way, also behind dangling links. Changes path and restores it. */
int unpack_open_parent(struct unpack *u, char *path, int depth);
/* The directory that holds path (kept until the next call) and, in *name, the last component. */
int unpack_parent_of(struct unpack *u, const char *path, const char **name);
/* Notes an entry as one of this layer. */
int unpack_remember(struct unpack *u, const struct stat *st);
int unpack_remember_at(struct unpack *u, int dir, const char *name);

int unpack_set_opaque(struct unpack *u, int fd);
bool unpack_is_whiteout(const struct unpack *u, const struct stat *st);

#endif
