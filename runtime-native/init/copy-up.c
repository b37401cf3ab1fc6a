/* Copies what a directory of the image holds into the tmpfs that is about to cover it (mount option tmpcopyup). */
#include "init.h"

#define DEPTH_MAX 64
#define AT_SYMLINK_NOFOLLOW_FLAG 0x100
#define ENTRIES_SIZE 2048

struct entry {
	u64 inode;
	long offset;
	u16 size;
	u8 type;
	char name[];
};

struct times {
	long atime, atime_nsec, mtime, mtime_nsec;
};

static long copy_directory(int from, int to, int depth);

static long copy_owner(int fd, const struct statx *st)
{
	struct times times = {st->stx_atime.tv_sec, st->stx_atime.tv_nsec, st->stx_mtime.tv_sec, st->stx_mtime.tv_nsec};
	long result = SYS3(fchown, fd, st->stx_uid, st->stx_gid);

	if (!result)
		result = SYS2(fchmod, fd, st->stx_mode & 07777);
	if (!result)
		result = SYS4(utimensat, fd, 0, &times, 0);
	return result;
}

/* What has been opened counts, not what lay there before: somebody may swap files to give one the rights of another. */
static long copy_regular(int from, int to, const char *name)
{
	long in = SYS4(openat, from, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0), out, result;
	struct statx st;

	if (in < 0)
		return in;
	result = stat_of((int)in, &st);
	if (result < 0 || !IS(&st, S_IFREG)) {
		close_fd((int)in);
		return result;
	}
	out = SYS4(openat, to, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (out < 0) {
		close_fd((int)in);
		return out;
	}
	do
		result = SYS4(sendfile, out, in, 0, 0x7ffff000);
	while (result > 0 || result == -EINTR);
	if (!result)
		result = copy_owner((int)out, &st);
	close_fd((int)out);
	close_fd((int)in);
	return result;
}

static long copy_link(int from, int to, const char *name, const struct statx *st)
{
	char target[PATH_SIZE];
	long result = SYS4(readlinkat, from, name, target, sizeof(target) - 1);

	if (result < 0)
		return result;
	target[result] = 0;
	result = SYS3(symlinkat, target, to, name);
	return result ? result : SYS5(fchownat, to, name, st->stx_uid, st->stx_gid, AT_SYMLINK_NOFOLLOW_FLAG);
}

static long copy_subdirectory(int from, int to, const char *name, int depth)
{
	long in = SYS4(openat, from, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0), out, result;

	if (in < 0)
		return in;
	result = SYS3(mkdirat, to, name, 0700);
	out = result ? result : SYS4(openat, to, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0);
	result = out < 0 ? out : copy_directory((int)in, (int)out, depth + 1);
	close_fd((int)in);
	close_fd((int)out);
	return result;
}

static long copy_entry(int from, int to, const char *name, int depth)
{
	struct statx st;
	long result = SYS5(statx, from, name, AT_SYMLINK_NOFOLLOW_FLAG, STATX_BASIC_STATS, &st);

	if (result < 0)
		return result;
	if (IS(&st, S_IFDIR))
		return copy_subdirectory(from, to, name, depth);
	if (IS(&st, S_IFREG))
		return copy_regular(from, to, name);
	if (IS(&st, S_IFLNK))
		return copy_link(from, to, name, &st);
	return 0;
}

/* from and to are open for reading; to gets the owner, mode and times of from. */
static long copy_directory(int from, int to, int depth)
{
	u8 entries[ENTRIES_SIZE] __attribute__((aligned(8)));
	struct statx st;
	long size, result = depth > DEPTH_MAX ? -ELOOP : stat_of(from, &st);

	while (!result && (size = SYS3(getdents64, from, entries, sizeof(entries))) != 0) {
		if (size < 0)
			return size;
		for (long at = 0; !result && at < size;) {
			const struct entry *entry = (const struct entry *)(entries + at);

			if (!equal(entry->name, ".") && !equal(entry->name, ".."))
				result = copy_entry(from, to, entry->name, depth);
			at += entry->size;
		}
	}
	return result ? result : copy_owner(to, &st);
}

long copy_up(int from, int to)
{
	long in = SYS4(openat, from, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0), out, result;

	if (in < 0)
		return in;
	out = SYS4(openat, to, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
	result = out < 0 ? out : copy_directory((int)in, (int)out, 0);
	close_fd((int)in);
	close_fd((int)out);
	return result;
}
