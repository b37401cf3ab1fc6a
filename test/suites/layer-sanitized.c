/* Unpacks archives under the sanitizers of gcc: `layer-sanitized DIRECTORY ARCHIVE...` makes one directory for each archive.
 * Compiled with the parts of runtime-native/layers that touch what an archive says. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "layer.h"

struct unpack *gantry_unpack_open(const char *root, uint32_t whiteouts, int32_t *error);
void gantry_unpack_close(struct unpack *u);

struct file {
	struct stream stream;
	int fd;
	/* Of its own for each piece, so that reading beyond it is seen. */
	uint8_t *piece;
	size_t piece_bytes;
};

static bool refill(struct stream *stream)
{
	struct file *file = (struct file *)stream;
	uint8_t bytes[4096];
	free(file->piece);
	file->piece = NULL;
	ssize_t size = read(file->fd, bytes, file->piece_bytes);
	if (size <= 0)
		return false;
	file->piece = malloc(size);
	memcpy(file->piece, bytes, size);
	stream->at = file->piece;
	stream->left = size;
	return true;
}

int main(int count, char **args)
{
	static const size_t piece_bytes[] = {4096, 512, 100, 7};
	for (int i = 2; i < count; i++) {
		char root[4096];
		int32_t error;
		struct failure failure = {0};
		snprintf(root, sizeof root, "%s/%d", args[1], i);
		struct file file = {.stream.refill = refill, .fd = open(args[i], O_RDONLY), .piece_bytes = piece_bytes[i % 4]};
		if (mkdir(root, 0700) < 0 || file.fd < 0) {
			perror(args[i]);
			return 2;
		}
		struct unpack *unpack = gantry_unpack_open(root, i % 2 ? DELETE : OVERLAY_TRUSTED, &error);
		if (unpack == NULL)
			return 2;
		int result = layer_apply(unpack, &file.stream, &failure);
		if ((result < 0) != (failure.kind != FAILURE_NONE)) {
			fprintf(stderr, "%s: result %d, but failure %u\n", args[i], result, failure.kind);
			return 3;
		}
		printf("%d %u\n", i, failure.kind);
		gantry_unpack_close(unpack);
		close(file.fd);
		free(file.piece);
	}
	return 0;
}
