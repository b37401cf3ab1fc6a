/* Reads all extended attributes of a path, which Node cannot. */
#include <errno.h>
#include <linux/limits.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>

/* One entry: the name with its NUL, the size of the value as 32 bits, the value. -ERANGE when there is no room. */
static int add_xattr(const char *path, const char *name, uint8_t *out, size_t room)
{
	size_t head = strlen(name) + 1 + sizeof(uint32_t);
	if (head > room)
		return -ERANGE;
	/* A size of 0 would ask for the size only. */
	ssize_t size = room == head ? lgetxattr(path, name, NULL, 0) : lgetxattr(path, name, out + head, room - head);
	if (size < 0)
		return errno == ENODATA ? 0 : -errno;
	if (head + size > room)
		return -ERANGE;
	uint32_t length = size;
	memcpy(out, name, head - sizeof length);
	memcpy(out + head - sizeof length, &length, sizeof length);
	return head + size;
}

/* Fills out with all attributes of what path names, links not followed. The number of bytes, or -errno. */
int gantry_xattrs(const char *path, uint8_t *out, uint32_t room)
{
	ssize_t size = llistxattr(path, NULL, 0);
	if (size <= 0)
		return size == 0 || errno == ENOTSUP ? 0 : -errno;
	/* There may be more by now. */
	char *names = malloc(XATTR_LIST_MAX);
	if (names == NULL)
		return -ENOMEM;
	size = llistxattr(path, names, XATTR_LIST_MAX);
	int used = size < 0 ? -errno : 0;
	for (char *name = names; used >= 0 && name < names + size; name += strlen(name) + 1) {
		int added = add_xattr(path, name, out + used, room - used);
		used = added < 0 ? added : used + added;
	}
	free(names);
	return used;
}
