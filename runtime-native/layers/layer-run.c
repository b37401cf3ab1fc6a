/* Unpacks a blob into a directory that gantry_unpack_open() has opened. Blocking, with two threads beside the caller's. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "layer.h"

/* Layout: layer.ts. */
struct layer_result {
	struct failure failure;
	/* Of the uncompressed archive. */
	uint64_t size;
	uint8_t digest[DIGEST_BYTES];
};

struct call {
	struct unpack *unpack;
	struct feed feed;
	struct layer_result *result;
};

static int apply(void *argument)
{
	struct call *call = argument;
	return layer_apply(call->unpack, &call->feed.stream, &call->result->failure);
}

static void run_call(struct call *call)
{
	struct failure *failure = &call->result->failure;
	/* Links are followed by recursion, as deep as a path has parts. */
	int error = tree_on_large_stack(apply, call);
	if (error < 0 && failure->kind == FAILURE_NONE) {
		failure_set(failure, FAILURE_BLOB, "", "%s", "");
		failure->error = -error;
	}
	feed_finish(&call->feed, error == 0);
	/* An archive that breaks off looks truncated to its reader. */
	bool seems_truncated = failure->kind == FAILURE_NONE || failure->kind == FAILURE_TRUNCATED;
	if (call->feed.failure.kind != FAILURE_NONE && seems_truncated)
		*failure = call->feed.failure;
	call->result->size = call->feed.size;
	memcpy(call->result->digest, call->feed.digest, DIGEST_BYTES);
}

/* chunk_bytes: how much is read on at a time, 0 for the usual. *stop: not 0 once it is to end early. Says in *result what
 * went wrong, or what the archive was; the directory is then incomplete. */
void gantry_layer_unpack(struct unpack *unpack, const char *blob, uint32_t may_be_compressed, uint32_t chunk_bytes,
			 const int32_t *stop, struct layer_result *result)
{
	struct call *call = calloc(1, sizeof *call);
	int error = ENOMEM, fd = call == NULL ? -1 : open(blob, O_RDONLY | O_CLOEXEC);
	memset(result, 0, sizeof *result);
	if (call != NULL && fd < 0)
		error = errno;
	if (fd >= 0) {
		call->unpack = unpack;
		call->result = result;
		call->feed.fd = fd;
		call->feed.stop = stop;
		call->feed.may_be_compressed = may_be_compressed;
		call->feed.chunk_bytes = chunk_bytes > 0 && chunk_bytes < CHUNK_BYTES_MAX ? chunk_bytes : CHUNK_BYTES_MAX;
		error = -feed_start(&call->feed);
	}
	if (error == 0)
		run_call(call);
	if (error != 0) {
		failure_set(&result->failure, FAILURE_BLOB, "", "%s", "");
		result->failure.error = error;
	}
	if (fd >= 0)
		close(fd);
	free(call);
}
