/* One 512-byte header block of a tar archive: v7, ustar (POSIX.1-1988), GNU. */
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>

#include "archive.h"

#define CHECKSUM_AT 148
#define CHECKSUM_SIZE 8

enum number_error { NUMBER_OK, NUMBER_INVALID, NUMBER_TOO_LARGE };

static bool is_blank(uint8_t byte)
{
	return byte == ' ' || byte == 0;
}

static enum number_error parse_base256(const uint8_t *field, size_t size, int64_t *value)
{
	__int128 number = field[0] & 0x3f;
	for (size_t i = 1; i < size; i++)
		number = number << 8 | field[i];
	if (field[0] & 0x40)
		number -= (__int128)1 << (size * 8 - 2);
	if (number > NUMBER_MAX || number < -NUMBER_MAX)
		return NUMBER_TOO_LARGE;
	*value = (int64_t)number;
	return NUMBER_OK;
}

/* size is at most 12. */
static enum number_error parse_number(const uint8_t *field, size_t size, int64_t *value)
{
	size_t at = 0;
	if (field[0] & 0x80)
		return parse_base256(field, size, value);
	while (at < size && is_blank(field[at]))
		at++;
	*value = 0;
	for (; at < size && field[at] >= '0' && field[at] <= '7'; at++)
		*value = *value * 8 + (field[at] - '0');
	return at < size && !is_blank(field[at]) ? NUMBER_INVALID : NUMBER_OK;
}

int tar_number(struct tar *tar, const uint8_t *field, size_t size, const char *what, int64_t *value)
{
	switch (parse_number(field, size, value)) {
	case NUMBER_INVALID:
		return tar_refuse(tar, "%s is not a number", what);
	case NUMBER_TOO_LARGE:
		return tar_refuse(tar, "%s is out of range", what);
	default:
		return 0;
	}
}

/* Two sums are in use: of unsigned bytes (POSIX) and of signed ones (old tars). The field itself counts as blanks. */
static bool has_valid_checksum(const uint8_t *block)
{
	int64_t stored;
	int32_t sum = 0, high = 0;
	for (size_t i = 0; i < BLOCK; i++) {
		sum += block[i];
		high += block[i] >> 7;
	}
	for (size_t i = CHECKSUM_AT; i < CHECKSUM_AT + CHECKSUM_SIZE; i++) {
		sum += ' ' - block[i];
		high -= block[i] >> 7;
	}
	if (parse_number(block + CHECKSUM_AT, CHECKSUM_SIZE, &stored) != NUMBER_OK)
		return false;
	return stored == sum || stored == sum - high * 256;
}

/* The bytes of a field up to the first NUL. */
static size_t copy_text(char *to, const uint8_t *field, size_t size)
{
	size_t length = strnlen((const char *)field, size);
	memcpy(to, field, length);
	to[length] = 0;
	return length;
}

int tar_parse_header(struct tar *tar, const uint8_t *block)
{
	struct tar_header *header = &tar->header;
	if (!has_valid_checksum(block))
		return tar_refuse(tar, "invalid tar header");
	bool is_ustar = memcmp(block + 257, "ustar", 5) == 0;
	bool is_gnu = is_ustar && memcmp(block + 262, "  ", 3) == 0;
	size_t prefix = is_ustar && !is_gnu ? copy_text(header->name, block + 345, 155) : 0;
	if (prefix > 0)
		header->name[prefix++] = '/';
	size_t name = copy_text(header->name + prefix, block, 100);
	copy_text(header->link, block + 157, 100);
	header->type = block[156] == 0 ? '0' : (char)block[156];
	/* Before there was a type for directories. */
	if (block[156] == 0 && name > 0 && header->name[prefix + name - 1] == '/')
		header->type = '5';
	header->major = header->minor = 0;
	if (tar_number(tar, block + 100, 8, "mode", &header->mode) < 0 ||
	    tar_number(tar, block + 108, 8, "uid", &header->uid) < 0 ||
	    tar_number(tar, block + 116, 8, "gid", &header->gid) < 0 ||
	    tar_number(tar, block + 124, 12, "size", &header->size) < 0 ||
	    tar_number(tar, block + 136, 12, "mtime", &header->mtime) < 0)
		return -1;
	if (!is_ustar)
		return 0;
	if (tar_number(tar, block + 329, 8, "major", &header->major) < 0)
		return -1;
	return tar_number(tar, block + 337, 8, "minor", &header->minor);
}
