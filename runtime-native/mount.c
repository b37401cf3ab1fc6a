/* Mounting for the host: what snapshotters return. The container's own mounts are made by init. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FD_PATH_SIZE 32

/* <sys/mount.h> and <linux/mount.h> exclude each other in older C libraries. */
int mount(const char *source, const char *target, const char *type, unsigned long flags, const void *data);
int umount2(const char *target, int flags);
#define MNT_DETACH 2
#define UMOUNT_NOFOLLOW 8

struct request {
	const char *source, *type, *data, *directory;
	uint64_t flags;
	int target, result;
};

static int mount_on(const struct request *request)
{
	char target[FD_PATH_SIZE];

	snprintf(target, sizeof(target), "/proc/self/fd/%d", request->target);
	return mount(request->source, target, request->type, request->flags, request->data) < 0 ? -errno : 0;
}

/* The working directory of this thread alone changes. */
static void *mount_from_directory(void *argument)
{
	struct request *request = argument;

	if (unshare(CLONE_FS) < 0 || chdir(request->directory) < 0)
		request->result = -errno;
	else
		request->result = mount_on(request);
	return NULL;
}

/* A descriptor (O_PATH) of path, resolved inside root: links and ".." lead nowhere else. */
int gantry_open_inside(const char *root, const char *path)
{
	struct open_how how = {.flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS};
	int directory = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC), fd;

	if (directory < 0)
		return -errno;
	fd = (int)syscall(SYS_openat2, directory, path[0] ? path : ".", &how, sizeof(how));
	if (fd < 0)
		fd = -errno;
	close(directory);
	return fd;
}

/* mount(2) onto a descriptor. With a directory (else ""), relative paths in data start there. */
int gantry_mount(const char *source, int target, const char *type, uint64_t flags, const char *data, const char *directory)
{
	struct request request = {
		.source = source,
		.type = type,
		.data = data,
		.directory = directory,
		.flags = flags,
		.target = target,
	};
	pthread_t thread;

	if (!directory[0])
		return mount_on(&request);
	int error = pthread_create(&thread, NULL, mount_from_directory, &request);
	if (error)
		return -error;
	pthread_join(thread, NULL);
	return request.result;
}

int gantry_unmount(const char *target, int lazy)
{
	return umount2(target, UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0)) < 0 ? -errno : 0;
}

/* A copy of the mount at path, attached nowhere; with a propagation other than 0 it does not keep that of the mount. */
int gantry_open_tree(const char *path, int recursive, uint64_t propagation)
{
	struct mount_attr attributes = {.propagation = propagation & ~(uint64_t)MS_REC};
	int fd = (int)syscall(SYS_open_tree, AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (recursive ? AT_RECURSIVE : 0));
	int result = fd < 0 ? -errno : fd;

	if (fd >= 0 && propagation != 0 &&
	    syscall(SYS_mount_setattr, fd, "", AT_EMPTY_PATH | AT_RECURSIVE, &attributes, sizeof(attributes)) < 0) {
		result = -errno;
		close(fd);
	}
	return result;
}

/* Attaches such a copy to a descriptor. */
int gantry_attach_tree(int tree, int target)
{
	return syscall(SYS_move_mount, tree, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0 ? -errno : 0;
}

/* Shows the files of a tree that is attached nowhere with the ids of a user namespace. */
int gantry_idmap_tree(int tree, int namespace, int recursive)
{
	struct mount_attr attributes = {.attr_set = MOUNT_ATTR_IDMAP, .userns_fd = (uint64_t)namespace};
	unsigned flags = AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0);

	return syscall(SYS_mount_setattr, tree, "", flags, &attributes, sizeof(attributes)) < 0 ? -errno : 0;
}
