/* PAX extended headers (POSIX.1-2001, pax): records of "LENGTH KEYWORD=VALUE\n". */
#define _GNU_SOURCE
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "archive.h"

#define DIGITS_MAX 16

/* Decimal digits and nothing else. */
static bool parse_decimal(const char *text, size_t length, uint64_t *value)
{
	if (length == 0 || length > DIGITS_MAX)
		return false;
	*value = 0;
	for (size_t i = 0; i < length; i++) {
		if (!isdigit((unsigned char)text[i]))
			return false;
		*value = *value * 10 + (text[i] - '0');
	}
	return true;
}

static bool add_record(struct pax *pax, struct pax_record record)
{
	if (pax->count == pax->capacity) {
		uint32_t capacity = pax->capacity ? pax->capacity * 2 : 16;
		struct pax_record *larger = realloc(pax->records, capacity * sizeof *larger);
		if (larger == NULL)
			return false;
		pax->records = larger;
		pax->capacity = capacity;
	}
	pax->records[pax->count++] = record;
	return true;
}

/* Takes the record at `at` apart, with NULs for what ends keyword and value. Returns where the next one begins. */
static char *parse_record(struct tar *tar, char *at, char *end)
{
	uint64_t length;
	char *blank = memchr(at, ' ', end - at);
	if (blank == NULL || !parse_decimal(at, blank - at, &length) || length > (size_t)(end - at) ||
	    at + length <= blank + 1 || at[length - 1] != '\n') {
		tar_refuse(tar, "malformed PAX header");
		return NULL;
	}
	char *keyword = blank + 1, *last = at + length - 1;
	char *equals = memchr(keyword, '=', last - keyword);
	if (equals == NULL || equals == keyword) {
		tar_refuse(tar, "malformed PAX header");
		return NULL;
	}
	struct pax_record record = {.keyword = keyword, .value = equals + 1, .size = last - equals - 1};
	*equals = *last = 0;
	bool may_hold_nul = strncmp(keyword, XATTR_KEYWORD, strlen(XATTR_KEYWORD)) == 0;
	if (memchr(keyword, 0, equals - keyword) || (!may_hold_nul && memchr(record.value, 0, record.size))) {
		tar_refuse(tar, "NUL in PAX header");
		return NULL;
	}
	if (!add_record(&tar->pax, record)) {
		tar_no_memory(tar);
		return NULL;
	}
	return at + length;
}

int pax_parse(struct tar *tar, char *body, size_t size)
{
	pax_clear(&tar->pax);
	tar->pax.body = body;
	char *at = body;
	while (at != NULL && at < body + size)
		at = parse_record(tar, at, body + size);
	return at == NULL ? -1 : 0;
}

const char *pax_value(const struct pax *pax, const char *keyword)
{
	for (uint32_t i = pax->count; i > 0; i--)
		if (strcmp(pax->records[i - 1].keyword, keyword) == 0)
			return pax->records[i - 1].size > 0 ? pax->records[i - 1].value : NULL;
	return NULL;
}

int pax_number(struct tar *tar, const char *text, const char *what, uint64_t *value)
{
	if (!parse_decimal(text, strlen(text), value) || *value > NUMBER_MAX)
		return tar_refuse(tar, "%s \"%.32s\" is not a number", what, text);
	return 0;
}

/* Seconds with an optional fraction, possibly negative. */
int pax_time(struct tar *tar, const char *text, const char *what, struct timespec *time)
{
	const char *digits = text + (*text == '-'), *fraction = strchrnul(digits, '.');
	uint64_t seconds;
	long nanoseconds = 0;
	size_t length = *fraction == '.' ? strspn(fraction + 1, "0123456789") : 0;
	bool has_rest = *fraction == '.' && fraction[1 + length] != 0;
	if (fraction - digits >= DIGITS_MAX || !parse_decimal(digits, fraction - digits, &seconds) || has_rest)
		return tar_refuse(tar, "%s \"%.32s\" is not a time", what, text);
	for (size_t i = 0; i < 9; i++)
		nanoseconds = nanoseconds * 10 + (i < length ? fraction[1 + i] - '0' : 0);
	time->tv_sec = *text == '-' ? -(int64_t)seconds - (nanoseconds > 0) : (int64_t)seconds;
	time->tv_nsec = *text == '-' && nanoseconds > 0 ? 1000000000 - nanoseconds : nanoseconds;
	return 0;
}

void pax_clear(struct pax *pax)
{
	free(pax->body);
	pax->body = NULL;
	pax->count = 0;
}
