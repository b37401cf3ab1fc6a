/* Reads a layer's blob: decompresses it with the zlib and zstd of the Node that this library is loaded into, hashes what
 * comes out, and hands it on in chunks. */
#define _GNU_SOURCE
#include <errno.h>
#include <openssl/evp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include "layer.h"

#define INPUT_BYTES (128 * 1024)
#define MAGIC_BYTES 4
/* Of a window; with 16 added, zlib expects gzip. */
#define GZIP_WINDOW_BITS (15 + 16)
/* Larger windows of zstd are refused: 128 MiB, as the format recommends. */
#define ZSTD_WINDOW_LOG_MAX 27
#define ZSTD_PARAMETER_WINDOW_LOG_MAX 100

/* Of zstd.h, which Node's headers do not have; stable since 1.0. */
typedef struct {
	const void *bytes;
	size_t size, position;
} zstd_input;
typedef struct {
	void *bytes;
	size_t size, position;
} zstd_output;
struct zstd_context;
struct zstd_context *ZSTD_createDCtx(void);
size_t ZSTD_freeDCtx(struct zstd_context *context);
size_t ZSTD_DCtx_setParameter(struct zstd_context *context, int parameter, int value);
size_t ZSTD_decompressStream(struct zstd_context *context, zstd_output *output, zstd_input *input);
unsigned int ZSTD_isError(size_t code);
const char *ZSTD_getErrorName(size_t code);

/* The compressed bytes, and what makes archive bytes of them. */
struct source {
	struct feed *feed;
	uint8_t *input;
	size_t at, size;
	bool has_read_all;
	/* Puts up to max bytes at `to`. How many, 0 at the end, -1 after fail() or when it must end. */
	ssize_t (*fill)(struct source *source, uint8_t *to, size_t max);
	z_stream gzip;
	struct zstd_context *zstd;
	/* A gzip member or zstd frame has begun and not ended. */
	bool is_inside;
};

static ssize_t fail(struct feed *feed, enum failure_kind kind, int error, const char *text)
{
	failure_set(&feed->failure, kind, "", "%s", text);
	feed->failure.error = error;
	return -1;
}

/* True when nobody wants more. */
static bool must_end(struct feed *feed)
{
	if (__atomic_load_n(feed->stop, __ATOMIC_RELAXED) != 0) {
		fail(feed, FAILURE_STOPPED, 0, "");
		return true;
	}
	pthread_mutex_lock(&feed->lock);
	bool is_abandoned = feed->is_abandoned;
	pthread_mutex_unlock(&feed->lock);
	return is_abandoned;
}

static ssize_t read_some(struct feed *feed, uint8_t *to, size_t max)
{
	ssize_t count;
	do
		count = read(feed->fd, to, max);
	while (count < 0 && errno == EINTR);
	return count < 0 ? fail(feed, FAILURE_BLOB, errno, "") : count;
}

static ssize_t fill_plain(struct source *source, uint8_t *to, size_t max)
{
	size_t done = source->size - source->at < max ? source->size - source->at : max;
	memcpy(to, source->input + source->at, done);
	source->at += done;
	while (done < max) {
		ssize_t count = read_some(source->feed, to + done, max - done);
		if (count < 0)
			return -1;
		if (count == 0)
			break;
		done += count;
	}
	return done;
}

/* True when there is input, or when all of it has been used. */
static bool has_input(struct source *source)
{
	if (source->at < source->size || source->has_read_all)
		return true;
	/* Asked here too, because nothing may come of what is read for as long as the blob goes on. */
	if (must_end(source->feed))
		return false;
	ssize_t count = read_some(source->feed, source->input, INPUT_BYTES);
	if (count < 0)
		return false;
	source->has_read_all = count == 0;
	source->at = 0;
	source->size = count;
	return true;
}

static ssize_t fill_gzip(struct source *source, uint8_t *to, size_t max)
{
	z_stream *gzip = &source->gzip;
	gzip->next_out = to;
	gzip->avail_out = max;
	while (gzip->avail_out > 0) {
		if (!has_input(source))
			return -1;
		size_t left = source->size - source->at;
		if (left == 0) {
			if (source->is_inside)
				return fail(source->feed, FAILURE_COMPRESSION, 0, "unexpected end of file");
			break;
		}
		/* Members may follow each other, and zeros that fill up a block. */
		if (!source->is_inside && source->input[source->at] == 0) {
			source->at++;
			continue;
		}
		source->is_inside = true;
		gzip->next_in = source->input + source->at;
		gzip->avail_in = left;
		int result = inflate(gzip, Z_NO_FLUSH);
		source->at = source->size - gzip->avail_in;
		if (result == Z_STREAM_END) {
			source->is_inside = false;
			inflateReset(gzip);
		} else if (result != Z_OK && result != Z_BUF_ERROR) {
			return fail(source->feed, FAILURE_COMPRESSION, 0, gzip->msg ? gzip->msg : "invalid data");
		}
	}
	return max - gzip->avail_out;
}

static ssize_t fill_zstd(struct source *source, uint8_t *to, size_t max)
{
	zstd_output output = {.bytes = to, .size = max};
	while (output.position < max) {
		if (!has_input(source))
			return -1;
		size_t before = output.position;
		zstd_input input = {.bytes = source->input, .size = source->size, .position = source->at};
		size_t left = source->size - source->at;
		if (left == 0 && !source->is_inside)
			break;
		size_t result = ZSTD_decompressStream(source->zstd, &output, &input);
		if (ZSTD_isError(result))
			return fail(source->feed, FAILURE_COMPRESSION, 0, ZSTD_getErrorName(result));
		source->at = input.position;
		source->is_inside = result != 0;
		if (left == 0 && output.position == before)
			return fail(source->feed, FAILURE_COMPRESSION, 0, "unexpected end of file");
	}
	return output.position;
}

/* A frame, or one to skip, which may come first (RFC 8878, 3.1). */
static bool begins_zstd(const uint8_t *bytes)
{
	uint32_t magic = bytes[0] | bytes[1] << 8 | bytes[2] << 16 | (uint32_t)bytes[3] << 24;
	return magic == 0xfd2fb528 || (magic & 0xfffffff0) == 0x184d2a50;
}

/* The first bytes tell how the blob is compressed. */
static bool open_source(struct source *source, bool may_be_compressed)
{
	static const uint8_t gzip_magic[] = {0x1f, 0x8b};
	bool is_ready = source->input != NULL;
	source->fill = fill_plain;
	/* All of the magic, also from a file that gives little at a time. */
	while (may_be_compressed && is_ready && source->size < MAGIC_BYTES) {
		ssize_t count = read_some(source->feed, source->input + source->size, INPUT_BYTES - source->size);
		if (count < 0)
			return false;
		if (count == 0)
			break;
		source->size += count;
	}
	if (source->size >= sizeof gzip_magic && memcmp(source->input, gzip_magic, sizeof gzip_magic) == 0) {
		source->fill = fill_gzip;
		is_ready = is_ready && inflateInit2(&source->gzip, GZIP_WINDOW_BITS) == Z_OK;
	} else if (source->size >= MAGIC_BYTES && begins_zstd(source->input)) {
		source->fill = fill_zstd;
		source->zstd = ZSTD_createDCtx();
		is_ready = is_ready && source->zstd != NULL;
		if (is_ready)
			ZSTD_DCtx_setParameter(source->zstd, ZSTD_PARAMETER_WINDOW_LOG_MAX, ZSTD_WINDOW_LOG_MAX);
	}
	if (!is_ready)
		fail(source->feed, FAILURE_BLOB, ENOMEM, "");
	return is_ready;
}

/* Waits for a chunk that may be written. NULL when nobody wants more. */
static uint8_t *next_room(struct feed *feed)
{
	pthread_mutex_lock(&feed->lock);
	while (feed->filled - feed->free == CHUNKS && !feed->is_abandoned)
		pthread_cond_wait(&feed->changed, &feed->lock);
	bool is_wanted = !feed->is_abandoned;
	pthread_mutex_unlock(&feed->lock);
	return is_wanted ? feed->memory + feed->filled % CHUNKS * feed->chunk_bytes : NULL;
}

static void hand_on(struct feed *feed, size_t size)
{
	pthread_mutex_lock(&feed->lock);
	feed->sizes[feed->filled % CHUNKS] = size;
	feed->filled++;
	pthread_cond_broadcast(&feed->changed);
	pthread_mutex_unlock(&feed->lock);
}

static void copy_all(struct feed *feed, struct source *source, EVP_MD_CTX *hash)
{
	uint8_t *room;
	while ((room = next_room(feed)) != NULL && !must_end(feed)) {
		ssize_t size = source->fill(source, room, feed->chunk_bytes);
		if (size <= 0)
			return;
		EVP_DigestUpdate(hash, room, size);
		feed->size += size;
		hand_on(feed, size);
	}
}

static void *run(void *argument)
{
	struct feed *feed = argument;
	struct source source = {.feed = feed, .input = malloc(INPUT_BYTES)};
	EVP_MD_CTX *hash = EVP_MD_CTX_new();
	bool can_hash = hash != NULL && EVP_DigestInit_ex(hash, EVP_sha256(), NULL) == 1;
	if (!can_hash)
		fail(feed, FAILURE_BLOB, ENOMEM, "");
	if (can_hash && open_source(&source, feed->may_be_compressed)) {
		copy_all(feed, &source, hash);
		EVP_DigestFinal_ex(hash, feed->digest, NULL);
	}
	inflateEnd(&source.gzip);
	ZSTD_freeDCtx(source.zstd);
	EVP_MD_CTX_free(hash);
	free(source.input);
	pthread_mutex_lock(&feed->lock);
	feed->has_ended = true;
	pthread_cond_broadcast(&feed->changed);
	pthread_mutex_unlock(&feed->lock);
	return NULL;
}

/* After a failure nothing comes any more, also of what was read before it. */
static bool refill(struct stream *stream)
{
	struct feed *feed = (struct feed *)stream;
	pthread_mutex_lock(&feed->lock);
	feed->free = feed->taken;
	pthread_cond_broadcast(&feed->changed);
	while (feed->filled == feed->taken && !feed->has_ended)
		pthread_cond_wait(&feed->changed, &feed->lock);
	bool has_more = feed->filled != feed->taken && !(feed->has_ended && feed->failure.kind != FAILURE_NONE);
	if (has_more) {
		stream->at = feed->memory + feed->taken % CHUNKS * feed->chunk_bytes;
		stream->left = feed->sizes[feed->taken % CHUNKS];
		feed->taken++;
	}
	pthread_mutex_unlock(&feed->lock);
	return has_more;
}

/* Signals are for the threads of the caller. */
int feed_start(struct feed *feed)
{
	sigset_t all, before;
	feed->stream.refill = refill;
	feed->memory = malloc(CHUNKS * feed->chunk_bytes);
	if (feed->memory == NULL)
		return -ENOMEM;
	pthread_mutex_init(&feed->lock, NULL);
	pthread_cond_init(&feed->changed, NULL);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int error = pthread_create(&feed->thread, NULL, run, feed);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (error)
		free(feed->memory);
	return -error;
}

void feed_finish(struct feed *feed, bool is_wanted)
{
	while (is_wanted && refill(&feed->stream))
		;
	pthread_mutex_lock(&feed->lock);
	feed->is_abandoned = true;
	pthread_cond_broadcast(&feed->changed);
	pthread_mutex_unlock(&feed->lock);
	pthread_join(feed->thread, NULL);
	pthread_mutex_destroy(&feed->lock);
	pthread_cond_destroy(&feed->changed);
	free(feed->memory);
}
