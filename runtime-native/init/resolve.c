/*
 * Paths inside the container's root. openat2 with RESOLVE_IN_ROOT keeps them inside even while another process swaps
 * links under them; callers act on the descriptor, never on the path again.
 */
#include "init.h"

#include <linux/openat2.h>

#define LINKS_MAX 40
#define RETRIES_MAX 128

int open_in_root(const char *path, u64 flags, u64 resolve)
{
	struct open_how how = {.flags = flags | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | resolve};
	long fd;
	int retries = 0;

	if (!*path)
		path = "/";
	/* EAGAIN: a rename happened somewhere while ".." was resolved. */
	do
		fd = SYS4(openat2, root_fd, path, &how, sizeof(how));
	while ((fd == -EAGAIN || fd == -EINTR) && ++retries < RETRIES_MAX);
	return (int)fd;
}

/* A walk keeps what is resolved (without links) apart from what is left; both lie in buffers of PATH_SIZE. */
struct walk {
	char done[PATH_SIZE], left[PATH_SIZE], name[PATH_SIZE];
	int dir, links;
};

static int open_done(struct walk *walk)
{
	return open_in_root(walk->done, O_PATH | O_DIRECTORY, RESOLVE_NO_SYMLINKS);
}

/* Takes the next component of left into name; 0 when there is none. */
static int next_name(struct walk *walk)
{
	char *from = walk->left, *to = walk->name;

	while (*from == '/')
		from++;
	while (*from && *from != '/')
		*to++ = *from++;
	*to = 0;
	while (*from == '/')
		from++;
	memcpy(walk->left, from, length(from) + 1);
	return walk->name[0] != 0;
}

static int step_up(struct walk *walk)
{
	char *end = walk->done + length(walk->done);

	while (end > walk->done && *end != '/')
		end--;
	*end = 0;
	close_fd(walk->dir);
	walk->dir = open_done(walk);
	return walk->dir < 0 ? walk->dir : 0;
}

static int step_into(struct walk *walk, int fd)
{
	char *end = walk->done + length(walk->done);
	const char *limit = walk->done + PATH_SIZE;

	if (length(walk->done) + length(walk->name) + 2 > PATH_SIZE)
		return -ENAMETOOLONG;
	append(&end, limit, "/");
	append(&end, limit, walk->name);
	close_fd(walk->dir);
	walk->dir = fd;
	return 0;
}

/* Puts the target of a link in front of what is left. */
static int step_link(struct walk *walk, int link)
{
	char target[PATH_SIZE];
	long size = SYS4(readlinkat, link, "", target, sizeof(target) - 1);
	u64 left = length(walk->left);

	if (size < 0)
		return (int)size;
	if (++walk->links > LINKS_MAX)
		return -ELOOP;
	target[size] = 0;
	if (size + left + 2 > PATH_SIZE)
		return -ENAMETOOLONG;
	for (u64 i = left + 1; i-- > 0;)
		walk->left[size + 1 + i] = walk->left[i];
	walk->left[size] = '/';
	memcpy(walk->left, target, size);
	if (target[0] != '/')
		return 0;
	walk->done[0] = 0;
	close_fd(walk->dir);
	walk->dir = open_done(walk);
	return walk->dir < 0 ? walk->dir : 0;
}

/* Opens the component without following it, and makes it when it is missing. */
static int open_or_make(struct walk *walk, u32 type, u32 mode)
{
	long fd = -ENOENT, made;

	for (int retries = 0; fd == -ENOENT && retries < RETRIES_MAX; retries++) {
		fd = SYS4(openat, walk->dir, walk->name, O_PATH | O_NOFOLLOW | O_CLOEXEC, 0);
		if (fd != -ENOENT)
			return (int)fd;
		if (type == S_IFDIR)
			made = SYS3(mkdirat, walk->dir, walk->name, mode);
		else
			made = SYS4(mknodat, walk->dir, walk->name, S_IFREG | mode, 0);
		if (made < 0 && made != -EEXIST)
			return (int)made;
	}
	return (int)fd;
}

/* Walks all of left. With keep_last, stops with the last component (which is no link, or missing) in name. */
static int walk_all(struct walk *walk, u32 type, u32 mode, int keep_last)
{
	int fd, result;
	struct statx st;

	while (next_name(walk)) {
		int last = !walk->left[0];

		if (equal(walk->name, "."))
			continue;
		if (equal(walk->name, "..")) {
			result = step_up(walk);
			if (result < 0)
				return result;
			continue;
		}
		if (last && keep_last)
			return 0;
		fd = open_or_make(walk, last ? type : S_IFDIR, last ? mode : 0755);
		if (fd < 0)
			return fd;
		result = (int)stat_of(fd, &st);
		if (result < 0) {
			close_fd(fd);
			return result;
		}
		if (IS(&st, S_IFLNK)) {
			result = step_link(walk, fd);
			close_fd(fd);
		} else {
			result = step_into(walk, fd);
		}
		if (result < 0)
			return result;
	}
	return keep_last ? -EEXIST : 0;
}

static int begin_walk(struct walk *walk, const char *path)
{
	if (length(path) + 1 > PATH_SIZE)
		return -ENAMETOOLONG;
	memcpy(walk->left, path, length(path) + 1);
	walk->done[0] = 0;
	walk->links = 0;
	walk->dir = open_done(walk);
	return walk->dir < 0 ? walk->dir : 0;
}

int make_in_root(const char *path, u32 type, u32 mode)
{
	static struct walk walk;
	int result, fd = open_in_root(path, O_PATH, 0);

	if (fd != -ENOENT)
		return fd;
	result = begin_walk(&walk, path);
	if (!result)
		result = walk_all(&walk, type, mode, 0);
	if (result < 0) {
		close_fd(walk.dir);
		return result;
	}
	return walk.dir;
}

int parent_in_root(const char *path, char *name)
{
	static struct walk walk;
	int result = begin_walk(&walk, path);

	if (!result)
		result = walk_all(&walk, S_IFDIR, 0755, 1);
	if (result < 0) {
		close_fd(walk.dir);
		return result;
	}
	memcpy(name, walk.name, length(walk.name) + 1);
	return walk.dir;
}
