/* Maps of sparse files, which GNU tar puts into old headers, into PAX records, or before the data. */
#define _GNU_SOURCE
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "archive.h"

/* Runs of one file; more than any tar program writes for a real one. */
#define SEGMENTS_MAX 100000
/* Of a map that stands before the data. */
#define MAP_BYTES_MAX (1024 * 1024)
#define ENTRY_BYTES 24

static int add_segment(struct tar *tar, uint64_t position, uint64_t bytes)
{
	if (tar->segment_count == SEGMENTS_MAX)
		return tar_refuse(tar, "sparse map is too long");
	if (tar->segment_count == tar->segment_capacity) {
		uint32_t capacity = tar->segment_capacity ? tar->segment_capacity * 2 : 16;
		struct segment *larger = realloc(tar->segments, capacity * sizeof *larger);
		if (larger == NULL)
			return tar_no_memory(tar);
		tar->segments = larger;
		tar->segment_capacity = capacity;
	}
	tar->segments[tar->segment_count++] = (struct segment){position, bytes};
	return 0;
}

static int add_old_entries(struct tar *tar, const uint8_t *entries, size_t count)
{
	for (size_t i = 0; i < count && entries[i * ENTRY_BYTES] != 0; i++) {
		int64_t position, bytes;
		const uint8_t *entry = entries + i * ENTRY_BYTES;
		if (tar_number(tar, entry, 12, "sparse offset", &position) < 0 ||
		    tar_number(tar, entry + 12, 12, "sparse length", &bytes) < 0)
			return -1;
		if (position < 0 || bytes < 0)
			return tar_refuse(tar, "invalid sparse map");
		if (add_segment(tar, position, bytes) < 0)
			return -1;
	}
	return 0;
}

int sparse_old_header(struct tar *tar, const uint8_t *block, uint64_t *real_size)
{
	int64_t size;
	bool has_more = block[482] == 1;
	if (tar_number(tar, block + 483, 12, "real size", &size) < 0)
		return -1;
	if (size < 0)
		return tar_refuse(tar, "negative size");
	*real_size = size;
	tar->sparse = true;
	if (add_old_entries(tar, block + 386, 4) < 0)
		return -1;
	while (has_more) {
		size_t read;
		block = tar_block(tar, &read);
		if (block == NULL)
			return tar_truncated(tar);
		has_more = block[504] == 1;
		if (add_old_entries(tar, block, 21) < 0)
			return -1;
	}
	return 0;
}

/* Numbers as they come: position, length, position, ... */
struct numbers {
	bool has_position;
	uint64_t position;
};

static int add_number(struct tar *tar, struct numbers *numbers, const char *text)
{
	uint64_t value;
	if (pax_number(tar, text, "sparse map:", &value) < 0)
		return -1;
	numbers->has_position = !numbers->has_position;
	if (!numbers->has_position)
		return add_segment(tar, numbers->position, value);
	numbers->position = value;
	return 0;
}

static int add_list(struct tar *tar, struct numbers *numbers, const char *list)
{
	char *copy = strdup(list), *rest = copy, *text;
	int result = copy == NULL ? tar_no_memory(tar) : 0;
	while (result == 0 && *list != 0 && (text = strsep(&rest, ",")) != NULL)
		result = add_number(tar, numbers, text);
	free(copy);
	return result;
}

int sparse_from_records(struct tar *tar)
{
	struct numbers numbers = {0};
	for (uint32_t i = 0; i < tar->pax.count; i++) {
		const struct pax_record *record = &tar->pax.records[i];
		bool is_list = strcmp(record->keyword, "GNU.sparse.map") == 0;
		if (!is_list && strcmp(record->keyword, "GNU.sparse.offset") != 0 &&
		    strcmp(record->keyword, "GNU.sparse.numbytes") != 0)
			continue;
		tar->sparse = true;
		int result = is_list ? add_list(tar, &numbers, record->value) : add_number(tar, &numbers, record->value);
		if (result < 0)
			return -1;
	}
	return numbers.has_position ? tar_refuse(tar, "invalid sparse map") : 0;
}

/* Reads lines of decimal numbers: how many runs, then two for each. They fill whole blocks. */
struct lines {
	const uint8_t *block;
	size_t at, taken;
};

static int next_line(struct tar *tar, struct lines *lines, uint64_t *value)
{
	char text[24];
	size_t length = 0, read;
	for (;;) {
		if (lines->block == NULL || lines->at == BLOCK) {
			if (tar->left < BLOCK || lines->taken == MAP_BYTES_MAX)
				return tar_refuse(tar, "invalid sparse map");
			lines->block = tar_block(tar, &read);
			if (lines->block == NULL)
				return tar_truncated(tar);
			tar->left -= BLOCK;
			lines->taken += BLOCK;
			lines->at = 0;
		}
		char byte = lines->block[lines->at++];
		if (byte == '\n')
			break;
		if (length == sizeof text - 1 || !isdigit((unsigned char)byte))
			return tar_refuse(tar, "invalid sparse map");
		text[length++] = byte;
	}
	text[length] = 0;
	return pax_number(tar, text, "sparse map:", value);
}

int sparse_from_data(struct tar *tar)
{
	struct lines lines = {0};
	uint64_t count, position, bytes;
	tar->segment_count = 0;
	if (next_line(tar, &lines, &count) < 0)
		return -1;
	if (count > SEGMENTS_MAX)
		return tar_refuse(tar, "sparse map is too long");
	for (uint64_t i = 0; i < count; i++)
		if (next_line(tar, &lines, &position) < 0 || next_line(tar, &lines, &bytes) < 0 ||
		    add_segment(tar, position, bytes) < 0)
			return -1;
	return 0;
}

/* Runs ascend, fit into the file and are what is stored. Numbers are below 2^53, so sums do not overflow. */
int sparse_check(struct tar *tar, uint64_t real_size)
{
	uint64_t end = 0, stored = 0;
	for (uint32_t i = 0; i < tar->segment_count; i++) {
		const struct segment *segment = &tar->segments[i];
		if (segment->position < end || segment->position + segment->bytes > real_size)
			return tar_refuse(tar, "invalid sparse map");
		end = segment->position + segment->bytes;
		stored += segment->bytes;
	}
	return stored == tar->left ? 0 : tar_refuse(tar, "sparse map does not match the stored size");
}
