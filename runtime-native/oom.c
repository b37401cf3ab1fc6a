/*
 * Out-of-memory notices of cgroup v1 come through an eventfd, which libuv cannot watch. A thread with a small stack turns
 * them into bytes on a pipe. It ends when the pipe has no reader; removing the cgroup wakes it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define STACK_SIZE 32768

struct forwarding {
	int event, pipe;
};

static void *forward(void *argument)
{
	struct forwarding *forwarding = argument;
	uint64_t count;

	while (read(forwarding->event, &count, sizeof(count)) == sizeof(count))
		if (write(forwarding->pipe, "o", 1) != 1)
			break;
	close(forwarding->event);
	close(forwarding->pipe);
	free(forwarding);
	return NULL;
}

static int start_thread(int event, int pipe)
{
	struct forwarding *forwarding = malloc(sizeof(*forwarding));
	pthread_attr_t attributes;
	sigset_t all, before;
	pthread_t thread;
	int error;

	if (!forwarding)
		return -ENOMEM;
	*forwarding = (struct forwarding){event, pipe};
	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, STACK_SIZE);
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	error = pthread_create(&thread, &attributes, forward, forwarding);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attributes);
	if (error)
		free(forwarding);
	return -error;
}

static int register_event(int directory, int event)
{
	int notices = openat(directory, "memory.oom_control", O_RDONLY | O_CLOEXEC);
	int control = openat(directory, "cgroup.event_control", O_WRONLY | O_CLOEXEC);
	int result = 0;

	if (notices < 0 || control < 0 || dprintf(control, "%d %d", event, notices) < 0)
		result = -errno;
	if (notices >= 0)
		close(notices);
	if (control >= 0)
		close(control);
	return result;
}

/* The reading end of a pipe that gets a byte per notice of the memory cgroup at path, and one when it is removed. */
int gantry_watch_oom(const char *path)
{
	int fds[2], event, directory, result;

	directory = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (directory < 0)
		return -errno;
	event = eventfd(0, EFD_CLOEXEC);
	if (event < 0 || pipe2(fds, O_CLOEXEC) < 0) {
		result = -errno;
		if (event >= 0)
			close(event);
		close(directory);
		return result;
	}
	result = register_event(directory, event);
	if (!result)
		result = start_thread(event, fds[1]);
	close(directory);
	if (!result)
		return fds[0];
	close(event);
	close(fds[0]);
	close(fds[1]);
	return result;
}
