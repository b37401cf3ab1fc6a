/* One layer on its way from a blob to a directory: layer-feed.c decompresses and hashes, layer.c applies, layer-run.c joins
 * the two. */
#ifndef GANTRY_LAYER_H
#define GANTRY_LAYER_H

#include <pthread.h>
#include <stdio.h>

#include "archive.h"
#include "unpack.h"

/* A directory whose times are to be set. */
struct directory {
	struct directory *next;
	struct timespec times[2];
	char path[];
};

/* What applying a layer needs to remember. */
struct layer {
	struct unpack *unpack;
	struct failure *failure;
	struct tar tar;
	struct directory *directories, **last_directory;
	size_t directories_bytes;
};

/* Makes what the archive says. 0, or -1 with the failure set. */
int layer_apply(struct unpack *unpack, struct stream *in, struct failure *failure);

#define CHUNKS 4
#define CHUNK_BYTES_MAX (256 * 1024)
#define DIGEST_BYTES 32

/* The archive of a blob, decompressed and hashed on a thread of its own: making files takes about as long. */
struct feed {
	/* The reader's side; the first member, because its refill() finds the rest by it. */
	struct stream stream;
	int fd;
	/* False: the blob is a plain archive. True: its first bytes tell. */
	bool may_be_compressed;
	size_t chunk_bytes;
	/* Not 0 once the work is to stop. */
	const int32_t *stop;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	uint8_t *memory;
	size_t sizes[CHUNKS];
	/* Chunks so far. The reader has the one before `taken`; `free` tells what may be written again. */
	uint32_t filled, taken, free;
	bool has_ended, is_abandoned;
	/* What went wrong before the end. */
	struct failure failure;
	uint64_t size;
	uint8_t digest[DIGEST_BYTES];
};

/* Starts to read; what was not zeroed: fd, chunk_bytes, stop, may_be_compressed. 0 or -errno. */
int feed_start(struct feed *feed);
/* Ends the thread: at the end of the blob, or at once when nobody wants the rest. */
void feed_finish(struct feed *feed, bool is_wanted);

#endif
