/* What the parts of the unpacker share. Layouts that the caller fills are described in unpack.ts. */
#ifndef GANTRY_UNPACK_H
#define GANTRY_UNPACK_H

#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "tree.h"

enum kind { REGULAR, DIRECTORY, SYMLINK, HARDLINK, NODE, WHITEOUT, OPAQUE, DIRECTORY_TIMES };
enum flags { FIRST = 1, LAST = 2, SPARSE = 4 };
enum whiteouts { DELETE, OVERLAY_TRUSTED, OVERLAY_USER };

#define LOWERS_MAX 512

struct operation {
	uint32_t kind, flags, mode, uid, gid, path, link, xattrs, xattr_count, data, data_size, major, minor;
	uint32_t mtime_nsec, atime_nsec, unused;
	int64_t position, size, mtime, atime;
};

struct batch {
	const char *strings;
	const uint8_t *data;
};

/* The thread that executes batches, and the batch that it has: a copy, because whoever made it goes on. */
struct executor {
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool started, busy, ending;
	uint8_t *buffer;
	size_t capacity;
	const struct operation *operations;
	struct batch batch;
	uint32_t count, done;
	int result;
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
	struct executor executor;
};

/* Executes an operation. 0 or -errno. */
int unpack_run(struct unpack *u, const struct batch *b, const struct operation *op);
/* Ends the thread when its batch is done. */
void unpack_end_executor(struct executor *e);

/* Opens a path inside root: links and ".." lead nowhere else. The descriptor or -errno. */
int unpack_open_in(int root, const char *path, uint64_t flags);
/* Opens a directory, and makes what is missing on the way, also behind dangling links. Changes path and restores it. */
int unpack_open_parent(struct unpack *u, char *path, int depth);
/* The directory that holds path (kept until the next call) and, in *name, the last component. */
int unpack_parent_of(struct unpack *u, const char *path, const char **name);
/* Notes an entry as one of this layer. */
int unpack_remember(struct unpack *u, const struct stat *st);
int unpack_remember_at(struct unpack *u, int dir, const char *name);

int unpack_whiteout(struct unpack *u, const struct batch *b, const struct operation *op);
int unpack_opaque(struct unpack *u, const struct batch *b, const struct operation *op);
int unpack_set_opaque(struct unpack *u, int fd);
bool unpack_is_whiteout(const struct unpack *u, const struct stat *st);

#endif
