/*
 * A warmed-up Node process that forks shims on request. It waits here, in C, so that no socket, timer or thread of Node is
 * at work in the moment of a fork; the child goes on in JavaScript after its event loop has been renewed.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define BACKLOG 128
#define LISTEN_FD 3
#define LOG_FD 2

/* Which step of a fork failed; the numbers are those of daemon/tasks/zygote.ts. */
enum step { STEP_BUNDLE = 1, STEP_LOG, STEP_SOCKET, STEP_FORK };

struct request {
	const char *bundle, *log, *socket;
};

struct reply {
	int32_t result; /* pid or -errno */
	int32_t step;
};

/* V8 excludes its heap from forks; a child without it would die at once. */
static int include_all_memory(void)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	unsigned long start, end;
	char line[4352];

	if (!maps)
		return -errno;
	while (fgets(line, sizeof(line), maps))
		if (sscanf(line, "%lx-%lx", &start, &end) == 2 && !strstr(line, "[v"))
			madvise((void *)start, end - start, MADV_DOFORK);
	fclose(maps);
	return 0;
}

static int read_all(int fd, void *buffer, size_t size)
{
	char *at = buffer;

	while (size > 0) {
		ssize_t got = read(fd, at, size);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return got < 0 ? -errno : -EPIPE;
		at += got;
		size -= (size_t)got;
	}
	return 0;
}

/* Nobody listens only where the kernel says so: without descriptors to ask with, the socket of a live shim stays. */
static int is_abandoned(const struct sockaddr_un *address)
{
	int refused, fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return 0;
	refused = connect(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 && errno == ECONNREFUSED;
	close(fd);
	return refused;
}

/* A listening socket that only the owner may use, in the place of one that nobody listens on. */
static int listen_at(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	mode_t mask = umask(0177);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), result = fd < 0 ? -errno : -ENAMETOOLONG;

	if (fd >= 0 && strlen(path) < sizeof(address.sun_path)) {
		strcpy(address.sun_path, path);
		result = bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ? -errno : 0;
		if (result == -EADDRINUSE && is_abandoned(&address)) {
			unlink(path);
			result = bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ? -errno : 0;
		}
		if (!result && listen(fd, BACKLOG) < 0)
			result = -errno;
	}
	umask(mask);
	if (!result)
		return fd;
	if (fd >= 0)
		close(fd);
	return result;
}

static void become_shim(int control, int bundle, int log, int listener)
{
	signal(SIGCHLD, SIG_DFL);
	setsid();
	if (fchdir(bundle) < 0 || dup2(log, LOG_FD) < 0)
		_exit(1);
	close(control);
	close(bundle);
	close(log);
	if (listener != LISTEN_FD) {
		dup3(listener, LISTEN_FD, O_CLOEXEC);
		close(listener);
	}
}

/* Forks for one request. 0 in the child. */
static struct reply fork_shim(int control, const struct request *request)
{
	int bundle, log = -1, listener = -1, pid = -1;
	enum step step = STEP_BUNDLE;

	bundle = open(request->bundle, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (bundle >= 0) {
		step = STEP_LOG;
		/* For reading as well: a fifo opened like this neither waits for a reader nor fails without one. */
		log = open(request->log, O_RDWR | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	}
	if (log >= 0) {
		step = STEP_SOCKET;
		listener = listen_at(request->socket);
		if (listener < 0)
			errno = -listener;
	}
	if (listener >= 0) {
		step = STEP_FORK;
		pid = fork();
	}
	if (pid == 0) {
		become_shim(control, bundle, log, listener);
		return (struct reply){0, 0};
	}
	struct reply reply = {pid > 0 ? pid : -errno, pid > 0 ? 0 : (int32_t)step};
	if (bundle >= 0)
		close(bundle);
	if (log >= 0)
		close(log);
	if (listener >= 0)
		close(listener);
	if (step == STEP_FORK && pid < 0)
		unlink(request->socket);
	return reply;
}

static const char *next_string(char **at, const char *end)
{
	char *start = *at, *stop = memchr(start, 0, (size_t)(end - start));

	if (!stop)
		return NULL;
	*at = stop + 1;
	return start;
}

/*
 * Serves requests until the other end of `control` is closed. A request is its length (32 bits) and then bundle, log and
 * socket, each ended by a NUL, and bytes for the child. Every request is answered with a struct reply.
 * Returns in each child the length of its bytes, which `buffer` starts with; in the zygote 0 at the end, or -errno.
 */
int gantry_zygote_serve(int control, void *buffer, int64_t size)
{
	int result = include_all_memory();

	if (result < 0)
		return result;
	signal(SIGCHLD, SIG_IGN); /* The kernel reaps. */
	for (;;) {
		struct request request;
		struct reply reply;
		uint32_t length;
		char *at = buffer, *end;

		result = read_all(control, &length, sizeof(length));
		if (result < 0)
			return result == -EPIPE ? 0 : result;
		if (length > size)
			return -EMSGSIZE;
		result = read_all(control, buffer, length);
		if (result < 0)
			return result;
		end = at + length;
		request.bundle = next_string(&at, end);
		request.log = request.bundle ? next_string(&at, end) : NULL;
		request.socket = request.log ? next_string(&at, end) : NULL;
		if (!request.socket)
			return -EBADMSG;
		reply = fork_shim(control, &request);
		if (reply.result == 0) {
			memmove(buffer, at, (size_t)(end - at));
			return (int)(end - at);
		}
		if (send(control, &reply, sizeof(reply), MSG_NOSIGNAL) != sizeof(reply))
			return -EPIPE;
	}
}

/* Forks once: 0 in the child, the pid in the parent. */
int gantry_zygote_fork(void)
{
	int result = include_all_memory(), pid;

	if (result < 0)
		return result;
	pid = fork();
	return pid < 0 ? -errno : pid;
}

/* To be called first in a child: gives it an event loop of its own (uv_loop_fork). */
int gantry_zygote_renew_loop(void)
{
	void *(*default_loop)(void) = (void *(*)(void))dlsym(RTLD_DEFAULT, "uv_default_loop");
	int (*loop_fork)(void *) = (int (*)(void *))dlsym(RTLD_DEFAULT, "uv_loop_fork");

	if (!default_loop || !loop_fork)
		return -ENOSYS;
	return loop_fork(default_loop());
}

/* The pid that the kernel knows. */
int gantry_zygote_pid(void)
{
	return getpid();
}

/* Ends the process without the exit handlers of C++, which wait for threads that only the zygote has. */
void gantry_exit_now(int status)
{
	_exit(status);
}
