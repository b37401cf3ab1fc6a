/* Small things that a libc would give: texts, files, and messages to the launcher. */
#include "init.h"

#define SOL_SOCKET_LEVEL 1
#define SCM_RIGHTS_TYPE 1
#define MSG_NOSIGNAL_FLAG 0x4000

void *memset(void *to, int value, u64 size)
{
	u8 *bytes = to;

	while (size--)
		*bytes++ = (u8)value;
	return to;
}

void *memcpy(void *to, const void *from, u64 size)
{
	u8 *target = to;
	const u8 *source = from;

	while (size--)
		*target++ = *source++;
	return to;
}

u64 length(const char *text)
{
	u64 size = 0;

	while (text[size])
		size++;
	return size;
}

int equal(const char *a, const char *b)
{
	while (*a && *a == *b) {
		a++;
		b++;
	}
	return *a == *b;
}

int starts_with(const char *text, const char *prefix)
{
	while (*prefix)
		if (*text++ != *prefix++)
			return 0;
	return 1;
}

void append(char **end, const char *limit, const char *text)
{
	while (*text && *end < limit - 1)
		*(*end)++ = *text++;
	**end = 0;
}

void close_fd(int fd)
{
	if (fd >= 0)
		SYS1(close, fd);
}

long write_file(int dir, const char *path, const char *data, u64 size)
{
	long result, fd = SYS4(openat, dir, path, O_WRONLY | O_CLOEXEC, 0);

	if (fd < 0)
		return fd;
	do
		result = SYS3(write, fd, data, size);
	while (result == -EINTR);
	close_fd(fd);
	return result < 0 ? result : 0;
}

long stat_of(int fd, struct statx *st)
{
	return SYS5(statx, fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, st);
}

int is_device(const struct statx *st, u32 type, u32 major, u32 minor)
{
	return IS(st, type) && st->stx_rdev_major == major && st->stx_rdev_minor == minor;
}

struct control {
	u64 size;
	int level, type, fd, unused;
};

struct vector {
	void *base;
	u64 size;
};

struct header {
	void *name;
	u32 name_size, unused;
	struct vector *vectors;
	u64 vector_count;
	void *control;
	u64 control_size;
	u32 flags;
};

void send_message(struct message *message, int fd)
{
	struct vector vector = {message, sizeof(*message)};
	struct control control = {16 + sizeof(int), SOL_SOCKET_LEVEL, SCM_RIGHTS_TYPE, fd, 0};
	struct header header = {.vectors = &vector, .vector_count = 1};
	long result;

	if (fd >= 0) {
		header.control = &control;
		header.control_size = sizeof(control);
	}
	do
		result = SYS3(sendmsg, control_fd, &header, MSG_NOSIGNAL_FLAG);
	while (result == -EINTR);
}
