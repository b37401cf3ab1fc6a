/* Reading a layer: where its bytes come from, the tar format, and why it was refused. Shared by tar*.c and layer*.c. */
#ifndef GANTRY_ARCHIVE_H
#define GANTRY_ARCHIVE_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

/* Why there is no result; the caller words it. Names are bytes as stored. Layout and numbers: layer.ts. */
enum failure_kind {
	FAILURE_NONE,
	/* errno at the entry `name` */
	FAILURE_SYSTEM,
	/* errno of the blob's file */
	FAILURE_BLOB,
	/* `text` of the decompressor */
	FAILURE_COMPRESSION,
	/* `text` at `offset` of the archive, at or after the entry `name` */
	FAILURE_FORMAT,
	/* the archive ends at `offset`, in or after the entry `name` */
	FAILURE_TRUNCATED,
	/* `text` of the entry `name` */
	FAILURE_ENTRY,
	/* `text` of `link`, the target of the hard link `name` */
	FAILURE_HARD_LINK,
	/* `text`: more than the limit */
	FAILURE_LIMIT,
	FAILURE_STOPPED,
};

struct failure {
	uint32_t kind;
	int32_t error;
	uint64_t offset;
	char text[256], name[PATH_MAX], link[PATH_MAX];
};

/* Bytes that come piece by piece. */
struct stream {
	const uint8_t *at;
	size_t left;
	/* Taken so far. */
	uint64_t offset;
	/* Sets at and left to the next piece; the last one is gone. False at the end. */
	bool (*refill)(struct stream *stream);
};

/* Up to max bytes as they lie in the piece at hand: *data and their number, 0 at the end. */
size_t stream_take(struct stream *stream, size_t max, const uint8_t **data);
/* Copies size bytes, or what is left of the stream; returns how many. */
size_t stream_copy(struct stream *stream, void *to, size_t size);
bool stream_skip(struct stream *stream, uint64_t size);

#define BLOCK 512
/* Numbers beyond 53 bits are refused: some readers of archives would see others. */
#define NUMBER_MAX ((1LL << 53) - 1)
/* Keywords of PAX records for extended attributes begin so. */
#define XATTR_KEYWORD "SCHILY.xattr."

/* One header block. Strings end with NUL. */
struct tar_header {
	char name[100 + 155 + 2], link[101], type;
	int64_t mode, uid, gid, size, mtime, major, minor;
};

/* Of a PAX extended header. A value may hold NULs, and has one behind it. */
struct pax_record {
	const char *keyword, *value;
	size_t size;
};

struct pax {
	char *body;
	struct pax_record *records;
	uint32_t count, capacity;
};

/* A run of stored bytes of a sparse file. */
struct segment {
	uint64_t position, bytes;
};

/* Valid until the next entry. */
struct tar_entry {
	/* '0' file, '1' hard link, '2' symlink, '3' character and '4' block device, '5' directory, '6' fifo */
	char type;
	const char *name, *link;
	uint32_t mode, uid, gid, major, minor;
	/* As utimensat(2) has them: access, modification. */
	struct timespec times[2];
	/* Length of the file, holes included. */
	uint64_t size;
	bool sparse;
	const struct pax *pax;
};

/* A reader; zeroed but for the first two. */
struct tar {
	struct stream *in;
	struct failure *failure;
	uint8_t scratch[BLOCK];
	struct tar_header header;
	struct pax pax;
	char *long_name, *long_link;
	struct segment *segments;
	uint32_t segment_count, segment_capacity, segment;
	/* Of the segment, or of the whole file when it has no holes. */
	uint64_t segment_done;
	bool sparse, has_zero_block;
	uint64_t left, padding;
	char last_name[1024];
};

/* Reads on to the next entry: 1, 0 at the end, -1 when the archive is refused. */
int tar_next(struct tar *tar, struct tar_entry *entry);
/* A piece of the entry's data and where it belongs in the file: 1, 0 after the last, -1 when the archive is refused. */
int tar_data(struct tar *tar, const uint8_t **data, size_t *size, uint64_t *position);
void tar_free(struct tar *tar);

/* The parts of the format. Each returns 0, or -1 after tar_refuse(). */
int tar_refuse(struct tar *tar, const char *format, ...) __attribute__((format(printf, 2, 3)));
int tar_truncated(struct tar *tar);
int tar_no_memory(struct tar *tar);
/* The next block, for as long as nothing else is taken; NULL at the end. *size is what there was of it. */
const uint8_t *tar_block(struct tar *tar, size_t *size);
int tar_parse_header(struct tar *tar, const uint8_t *block);
/* A numeric field: octal, or base 256. */
int tar_number(struct tar *tar, const uint8_t *field, size_t size, const char *what, int64_t *value);
uint64_t tar_padding(uint64_t size);

/* Takes body, which has a byte of room behind it; its records replace those that were there. */
int pax_parse(struct tar *tar, char *body, size_t size);
/* The last value of a keyword, or NULL. An empty one means that the header holds (POSIX.1-2001, pax). */
const char *pax_value(const struct pax *pax, const char *keyword);
int pax_number(struct tar *tar, const char *text, const char *what, uint64_t *value);
int pax_time(struct tar *tar, const char *text, const char *what, struct timespec *time);
void pax_clear(struct pax *pax);

int sparse_old_header(struct tar *tar, const uint8_t *block, uint64_t *real_size);
/* Map of GNU.sparse formats 0.0 and 0.1, which is in the records. Sets tar->sparse when there is one. */
int sparse_from_records(struct tar *tar);
/* Map of format 1.0, at the start of the data. */
int sparse_from_data(struct tar *tar);
int sparse_check(struct tar *tar, uint64_t real_size);

void failure_set(struct failure *failure, enum failure_kind kind, const char *name, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

#endif
