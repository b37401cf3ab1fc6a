/* Reader of tar archives with bounded memory: v7, ustar, PAX, GNU long names, all sparse formats. It reads and checks the
 * format only; what an entry may do to a file system is decided in layer.c. */
#define _GNU_SOURCE
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "archive.h"

/* Bytes of a PAX header or a long name (as Go's archive/tar). */
#define META_MAX (1024 * 1024)
/* 2^32 - 1 would mean "leave the owner as it is" to chown(2). */
#define ID_MAX (UINT32_MAX - 1)

void failure_set(struct failure *failure, enum failure_kind kind, const char *name, const char *format, ...)
{
	va_list values;
	failure->kind = kind;
	snprintf(failure->name, sizeof failure->name, "%s", name);
	va_start(values, format);
	vsnprintf(failure->text, sizeof failure->text, format, values);
	va_end(values);
}

size_t stream_take(struct stream *stream, size_t max, const uint8_t **data)
{
	if (stream->left == 0 && !stream->refill(stream))
		return 0;
	size_t size = stream->left < max ? stream->left : max;
	*data = stream->at;
	stream->at += size;
	stream->left -= size;
	stream->offset += size;
	return size;
}

size_t stream_copy(struct stream *stream, void *to, size_t size)
{
	const uint8_t *data;
	size_t done = 0, bytes;
	while (done < size && (bytes = stream_take(stream, size - done, &data)) > 0) {
		memcpy((uint8_t *)to + done, data, bytes);
		done += bytes;
	}
	return done;
}

bool stream_skip(struct stream *stream, uint64_t size)
{
	const uint8_t *data;
	size_t bytes;
	while (size > 0 && (bytes = stream_take(stream, size < SIZE_MAX ? size : SIZE_MAX, &data)) > 0)
		size -= bytes;
	return size == 0;
}

int tar_refuse(struct tar *tar, const char *format, ...)
{
	va_list values;
	failure_set(tar->failure, FAILURE_FORMAT, tar->last_name, "%s", "");
	tar->failure->offset = tar->in->offset;
	va_start(values, format);
	vsnprintf(tar->failure->text, sizeof tar->failure->text, format, values);
	va_end(values);
	return -1;
}

int tar_truncated(struct tar *tar)
{
	failure_set(tar->failure, FAILURE_TRUNCATED, tar->last_name, "%s", "");
	tar->failure->offset = tar->in->offset;
	return -1;
}

int tar_no_memory(struct tar *tar)
{
	failure_set(tar->failure, FAILURE_LIMIT, "", "no memory left to read the layer");
	return -1;
}

uint64_t tar_padding(uint64_t size)
{
	return (BLOCK - size % BLOCK) % BLOCK;
}

const uint8_t *tar_block(struct tar *tar, size_t *size)
{
	const uint8_t *data;
	*size = BLOCK;
	if (tar->in->left >= BLOCK) {
		stream_take(tar->in, BLOCK, &data);
		return data;
	}
	*size = stream_copy(tar->in, tar->scratch, BLOCK);
	return *size == BLOCK ? tar->scratch : NULL;
}

static bool has_meta(const struct tar *tar)
{
	return tar->pax.count > 0 || tar->long_name != NULL || tar->long_link != NULL;
}

static void forget_meta(struct tar *tar)
{
	pax_clear(&tar->pax);
	free(tar->long_name);
	free(tar->long_link);
	tar->long_name = tar->long_link = NULL;
	tar->segment_count = tar->segment = 0;
	tar->segment_done = 0;
	tar->sparse = false;
}

/* An entry that describes the next one. */
static int read_meta(struct tar *tar)
{
	char type = tar->header.type;
	uint64_t size = tar->header.size;
	if (size > META_MAX)
		return tar_refuse(tar, "extended header of %llu bytes is too large", (unsigned long long)size);
	char *body = malloc(size + 1);
	if (body == NULL)
		return tar_no_memory(tar);
	body[size] = 0;
	if (stream_copy(tar->in, body, size) < size || !stream_skip(tar->in, tar_padding(size))) {
		free(body);
		return tar_truncated(tar);
	}
	if (type == 'x')
		return pax_parse(tar, body, size);
	char **kept = type == 'L' ? &tar->long_name : type == 'K' ? &tar->long_link : NULL;
	if (kept == NULL) {
		free(body);
		return 0;
	}
	free(*kept);
	*kept = body;
	return 0;
}

static int read_id(struct tar *tar, const char *what, int64_t header, uint32_t *id)
{
	const char *text = pax_value(&tar->pax, what);
	uint64_t number = 0;
	if (text != NULL && pax_number(tar, text, what, &number) < 0)
		return -1;
	int64_t value = text != NULL ? (int64_t)number : header;
	if (value < 0 || value > ID_MAX)
		return tar_refuse(tar, "%s %lld is out of range", what, (long long)value);
	*id = value;
	return 0;
}

static int read_times(struct tar *tar, struct timespec times[2])
{
	const char *mtime = pax_value(&tar->pax, "mtime"), *atime = pax_value(&tar->pax, "atime");
	times[1] = (struct timespec){.tv_sec = tar->header.mtime};
	if (mtime != NULL && pax_time(tar, mtime, "mtime", &times[1]) < 0)
		return -1;
	times[0] = times[1];
	return atime == NULL ? 0 : pax_time(tar, atime, "atime", &times[0]);
}

/* Sets left and padding, and the map of a sparse file. */
static int read_size(struct tar *tar, const uint8_t *block, struct tar_entry *entry)
{
	const char *stored = pax_value(&tar->pax, "size"), *real = pax_value(&tar->pax, "GNU.sparse.realsize");
	const char *major = pax_value(&tar->pax, "GNU.sparse.major");
	bool in_data = major != NULL && strcmp(major, "1") == 0;
	uint64_t real_size = 0;
	tar->left = tar->header.size;
	/* Also takes further blocks, so what is in this one must have been read. */
	if (tar->header.type == 'S' && sparse_old_header(tar, block, &real_size) < 0)
		return -1;
	if (stored != NULL && pax_number(tar, stored, "size", &tar->left) < 0)
		return -1;
	tar->padding = tar_padding(tar->left);
	if (real == NULL)
		real = pax_value(&tar->pax, "GNU.sparse.size");
	if (!tar->sparse && real != NULL) {
		if (pax_number(tar, real, "sparse size", &real_size) < 0)
			return -1;
		tar->sparse = in_data;
		if (!in_data && sparse_from_records(tar) < 0)
			return -1;
	}
	if (tar->sparse && in_data && sparse_from_data(tar) < 0)
		return -1;
	if (tar->sparse && sparse_check(tar, real_size) < 0)
		return -1;
	entry->sparse = tar->sparse;
	entry->size = tar->sparse ? real_size : tar->left;
	return 0;
}

static int read_entry(struct tar *tar, const uint8_t *block, struct tar_entry *entry)
{
	const struct tar_header *header = &tar->header;
	const char *sparse_name = pax_value(&tar->pax, "GNU.sparse.name"), *path = pax_value(&tar->pax, "path");
	const char *link = pax_value(&tar->pax, "linkpath");
	bool is_file = strchr("07S", header->type) != NULL;
	if (!is_file && strchr("123456", header->type) == NULL) {
		failure_set(tar->failure, FAILURE_ENTRY, header->name, "unsupported tar entry type \"%c\"", header->type);
		return -1;
	}
	*entry = (struct tar_entry){.type = is_file ? '0' : header->type, .pax = &tar->pax};
	entry->name = sparse_name ? sparse_name : path ? path : tar->long_name ? tar->long_name : header->name;
	entry->link = link ? link : tar->long_link ? tar->long_link : header->link;
	snprintf(tar->last_name, sizeof tar->last_name, "%s", entry->name);
	tar->left = tar->padding = 0;
	if (is_file && read_size(tar, block, entry) < 0)
		return -1;
	entry->mode = header->mode & 07777;
	entry->major = header->major;
	entry->minor = header->minor;
	if (read_id(tar, "uid", header->uid, &entry->uid) < 0 || read_id(tar, "gid", header->gid, &entry->gid) < 0)
		return -1;
	return read_times(tar, entry->times) < 0 ? -1 : 1;
}

static bool is_zero_block(const uint8_t *block)
{
	static const uint8_t zeros[BLOCK];
	return block[0] == 0 && memcmp(block, zeros, BLOCK) == 0;
}

int tar_next(struct tar *tar, struct tar_entry *entry)
{
	if (!stream_skip(tar->in, tar->left) || !stream_skip(tar->in, tar->padding))
		return tar_truncated(tar);
	tar->left = tar->padding = 0;
	forget_meta(tar);
	for (;;) {
		size_t size;
		const uint8_t *block = tar_block(tar, &size);
		if (block == NULL)
			return size > 0 || has_meta(tar) ? tar_truncated(tar) : 0;
		if (is_zero_block(block)) {
			if (has_meta(tar))
				return tar_refuse(tar, "extended header without an entry");
			if (tar->has_zero_block)
				return 0;
			tar->has_zero_block = true;
			continue;
		}
		if (tar->has_zero_block)
			return tar_refuse(tar, "invalid tar header after a zero block");
		if (tar_parse_header(tar, block) < 0)
			return -1;
		if (tar->header.size < 0)
			return tar_refuse(tar, "negative size");
		if (strchr("xgLK", tar->header.type) == NULL)
			return read_entry(tar, block, entry);
		if (read_meta(tar) < 0)
			return -1;
	}
}

int tar_data(struct tar *tar, const uint8_t **data, size_t *size, uint64_t *position)
{
	while (tar->sparse && tar->segment < tar->segment_count && tar->segments[tar->segment].bytes == tar->segment_done) {
		tar->segment++;
		tar->segment_done = 0;
	}
	if (tar->left == 0)
		return 0;
	uint64_t max = tar->left;
	*position = tar->segment_done;
	if (tar->sparse) {
		const struct segment *segment = &tar->segments[tar->segment];
		max = segment->bytes - tar->segment_done;
		*position += segment->position;
	}
	*size = stream_take(tar->in, max < SIZE_MAX ? max : SIZE_MAX, data);
	if (*size == 0)
		return tar_truncated(tar);
	tar->segment_done += *size;
	tar->left -= *size;
	return 1;
}

void tar_free(struct tar *tar)
{
	forget_meta(tar);
	free(tar->pax.records);
	free(tar->segments);
}
