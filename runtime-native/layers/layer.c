/* Decides what each entry of a layer does to a directory, and refuses what it must not do. Entries and whiteouts as in the
 * OCI image-spec (layer.md); deviations from plain tar are those of containerd's archive package, because diff ids and
 * running images depend on them. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "layer.h"

#define WHITEOUT ".wh."
#define WHITEOUT_META ".wh..wh."
#define OPAQUE_NAME ".wh..wh..opq"
/* Times of a file system: 1970 up to what 64-bit nanoseconds hold. Others become 1970. */
#define SECONDS_MAX 9223372036
/* For directories whose times are set at the end. */
#define DIRECTORIES_BYTES_MAX (128 << 20)

static bool starts_with(const char *text, const char *prefix)
{
	return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* The name of an entry below the root: no slash around it, no empty or dot components. 0, -ENAMETOOLONG, or -EXDEV for one
 * that leads out of the root. */
static int clean_name(char path[PATH_MAX], const char *name)
{
	size_t length = 0;
	bool too_long = false;
	for (const char *part = name; *part != 0;) {
		size_t bytes = strcspn(part, "/");
		if (bytes == 2 && part[0] == '.' && part[1] == '.') {
			if (length == 0 && !too_long)
				return -EXDEV;
			const char *slash = memrchr(path, '/', length);
			length = slash == NULL ? 0 : slash - path;
		} else if (bytes > 1 || (bytes == 1 && part[0] != '.')) {
			too_long = too_long || length + bytes + 2 > PATH_MAX;
			if (!too_long && length > 0)
				path[length++] = '/';
			if (!too_long)
				memcpy(path + length, part, bytes);
			length += too_long ? 0 : bytes;
		}
		part += bytes;
		part += strspn(part, "/");
	}
	path[length] = 0;
	return too_long ? -ENAMETOOLONG : 0;
}

/* In a directory of aufs' own. */
static bool is_below_meta(const char *path, const char *base)
{
	const char *meta = starts_with(path, WHITEOUT_META) ? path : strstr(path, "/" WHITEOUT_META);
	return meta != NULL && meta < base && strchr(meta + 1, '/') != NULL;
}

static int refuse(struct layer *layer, const struct tar_entry *entry, const char *text)
{
	failure_set(layer->failure, FAILURE_ENTRY, entry->name, "%s", text);
	return -1;
}

static int refuse_link(struct layer *layer, const struct tar_entry *entry, const char *text)
{
	failure_set(layer->failure, FAILURE_HARD_LINK, entry->name, "%s", text);
	snprintf(layer->failure->link, sizeof layer->failure->link, "%s", entry->link);
	return -1;
}

/* What the system said about an operation. */
static int checked(struct layer *layer, const char *path, int error)
{
	if (error >= 0)
		return 0;
	failure_set(layer->failure, FAILURE_SYSTEM, path, "%s", "");
	layer->failure->error = -error;
	return -1;
}

static struct timespec bounded(struct timespec time)
{
	return time.tv_sec < 0 || time.tv_sec >= SECONDS_MAX ? (struct timespec){0} : time;
}

/* As containerd: never read before it was written. */
static void set_times(struct operation *operation, const struct timespec times[2])
{
	struct timespec atime = bounded(times[0]), mtime = bounded(times[1]);
	bool before = atime.tv_sec < mtime.tv_sec || (atime.tv_sec == mtime.tv_sec && atime.tv_nsec < mtime.tv_nsec);
	operation->times[0] = before ? mtime : atime;
	operation->times[1] = mtime;
}

/* Keeps the times of a directory, which making entries in it will change. */
static int remember_directory(struct layer *layer, const struct operation *operation)
{
	size_t bytes = sizeof(struct directory) + strlen(operation->path) + 1;
	layer->directories_bytes += bytes;
	struct directory *directory = layer->directories_bytes > DIRECTORIES_BYTES_MAX ? NULL : malloc(bytes);
	if (directory == NULL) {
		failure_set(layer->failure, FAILURE_LIMIT, "", "layer has too many directories");
		return -1;
	}
	memcpy(directory->times, operation->times, sizeof directory->times);
	strcpy(directory->path, operation->path);
	directory->next = NULL;
	*layer->last_directory = directory;
	layer->last_directory = &directory->next;
	return 0;
}

static int apply_directory(struct layer *layer, const struct operation *operation)
{
	int error = unpack_directory(layer->unpack, operation);
	return checked(layer, operation->path, error) < 0 ? -1 : remember_directory(layer, operation);
}

static int apply_file(struct layer *layer, const struct tar_entry *entry, const struct operation *operation)
{
	struct unpack *unpack = layer->unpack;
	const uint8_t *data;
	size_t size;
	uint64_t position;
	int more, error = unpack_file_begin(unpack, operation);
	while (error == 0 && (more = tar_data(&layer->tar, &data, &size, &position)) != 0) {
		if (more < 0)
			return -1;
		error = unpack_file_write(unpack, data, size, position);
	}
	if (error == 0)
		error = unpack_file_end(unpack, operation, entry->sparse ? (int64_t)entry->size : -1);
	return checked(layer, operation->path, error);
}

static int apply_symlink(struct layer *layer, const struct tar_entry *entry, struct operation *operation)
{
	if (*entry->link == 0)
		return refuse(layer, entry, "symlink without a target");
	operation->link = entry->link;
	return checked(layer, operation->path, unpack_entry(layer->unpack, operation));
}

static int apply_hard_link(struct layer *layer, const struct tar_entry *entry, struct operation *operation)
{
	char target[PATH_MAX];
	int error = clean_name(target, entry->link);
	if (error == -EXDEV)
		return refuse_link(layer, entry, "path leads out of the root file system");
	if (error == 0 && *target == 0)
		return refuse(layer, entry, "hard link to the root directory");
	operation->link = target;
	return checked(layer, operation->path, error ? error : unpack_entry(layer->unpack, operation));
}

static int apply_whiteout(struct layer *layer, const struct tar_entry *entry, struct operation *operation, char *base)
{
	char target[PATH_MAX];
	const char *name = base + strlen(WHITEOUT);
	if (strcmp(base, OPAQUE_NAME) == 0) {
		base[base > operation->path ? -1 : 0] = 0;
		return checked(layer, operation->path, unpack_opaque(layer->unpack, operation->path));
	}
	/* Files of aufs' own, such as .wh..wh.plnk. */
	if (starts_with(base, WHITEOUT_META))
		return 0;
	if (*name == 0 || is_dot(name))
		return refuse(layer, entry, "invalid whiteout name");
	size_t directory = base - operation->path;
	memcpy(target, operation->path, directory);
	strcpy(target + directory, name);
	operation->path = target;
	return checked(layer, target, unpack_whiteout(layer->unpack, operation));
}

static int apply_entry(struct layer *layer, const struct tar_entry *entry)
{
	char path[PATH_MAX];
	int error = clean_name(path, entry->name);
	if (error == -EXDEV)
		return refuse(layer, entry, "path leads out of the root file system");
	if (error < 0)
		return checked(layer, entry->name, error);
	char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
	/* The root directory belongs to the snapshotter. */
	if (*path == 0 || is_below_meta(path, base))
		return 0;
	struct operation operation = {.type = entry->type, .path = path, .mode = entry->mode, .uid = entry->uid,
				      .gid = entry->gid, .major = entry->major, .minor = entry->minor, .pax = entry->pax};
	set_times(&operation, entry->times);
	if (starts_with(base, WHITEOUT))
		return apply_whiteout(layer, entry, &operation, base);
	switch (entry->type) {
	case '0':
		return apply_file(layer, entry, &operation);
	case '1':
		return apply_hard_link(layer, entry, &operation);
	case '2':
		return apply_symlink(layer, entry, &operation);
	case '5':
		return apply_directory(layer, &operation);
	default:
		return checked(layer, path, unpack_entry(layer->unpack, &operation));
	}
}

/* Sets what can only be set when all entries are there. */
static int finish(struct layer *layer)
{
	for (const struct directory *one = layer->directories; one != NULL; one = one->next)
		if (checked(layer, one->path, unpack_directory_times(layer->unpack, one->path, one->times)) < 0)
			return -1;
	return 0;
}

int layer_apply(struct unpack *unpack, struct stream *in, struct failure *failure)
{
	struct layer layer = {.unpack = unpack, .failure = failure, .tar = {.in = in, .failure = failure}};
	struct tar_entry entry;
	int more;
	layer.last_directory = &layer.directories;
	while ((more = tar_next(&layer.tar, &entry)) > 0)
		if (apply_entry(&layer, &entry) < 0) {
			more = -1;
			break;
		}
	int result = more < 0 ? -1 : finish(&layer);
	for (struct directory *next, *one = layer.directories; one != NULL; one = next) {
		next = one->next;
		free(one);
	}
	tar_free(&layer.tar);
	return result;
}
