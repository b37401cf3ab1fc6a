/* Executes batches of operations on a thread of their own, while the caller reads on and collects the next one: making
 * files and reading the archive take about the same time. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "unpack.h"

static void run_batch(struct unpack *u)
{
	struct executor *e = &u->executor;
	e->result = 0;
	for (e->done = 0; e->done < e->count && e->result == 0; e->done += e->result == 0)
		e->result = unpack_run(u, &e->batch, &e->operations[e->done]);
}

static void *execute(void *argument)
{
	struct unpack *u = argument;
	struct executor *e = &u->executor;
	pthread_mutex_lock(&e->lock);
	for (;;) {
		while (!e->busy && !e->ending)
			pthread_cond_wait(&e->changed, &e->lock);
		if (!e->busy)
			break;
		pthread_mutex_unlock(&e->lock);
		run_batch(u);
		pthread_mutex_lock(&e->lock);
		e->busy = false;
		pthread_cond_broadcast(&e->changed);
	}
	pthread_mutex_unlock(&e->lock);
	return NULL;
}

/* Signals are for the threads of the caller. */
static int start_thread(struct unpack *u)
{
	sigset_t all, before;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int error = pthread_create(&u->executor.thread, NULL, execute, u);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	u->executor.started = error == 0;
	return -error;
}

/* Strings and data follow the operations. */
static int copy_batch(struct executor *e, const void *operations, uint32_t count, const void *strings,
		      uint32_t strings_size, const void *data, uint32_t data_size)
{
	size_t operations_size = count * sizeof(struct operation);
	size_t size = operations_size + strings_size + data_size;
	if (size > e->capacity) {
		free(e->buffer);
		e->buffer = malloc(size);
		e->capacity = e->buffer == NULL ? 0 : size;
		if (e->buffer == NULL)
			return -ENOMEM;
	}
	uint8_t *copied_strings = e->buffer + operations_size, *copied_data = copied_strings + strings_size;
	memcpy(e->buffer, operations, operations_size);
	memcpy(copied_strings, strings, strings_size);
	if (data_size > 0)
		memcpy(copied_data, data, data_size);
	e->operations = (const struct operation *)e->buffer;
	e->batch = (struct batch){.strings = (const char *)copied_strings, .data = copied_data};
	e->count = count;
	return 0;
}

/* Waits for the batch that runs. Returns its result, once: 0, or the -errno of the operation after the first *done. */
int gantry_unpack_wait(struct unpack *u, uint32_t *done)
{
	struct executor *e = &u->executor;
	pthread_mutex_lock(&e->lock);
	while (e->busy)
		pthread_cond_wait(&e->changed, &e->lock);
	pthread_mutex_unlock(&e->lock);
	int result = e->result;
	*done = e->done;
	e->result = 0;
	return result;
}

/* Has a batch executed in order until an operation fails; no other one may run. 0, or -errno when it was not begun. */
int gantry_unpack_start(struct unpack *u, const void *operations, uint32_t count, const void *strings,
			uint32_t strings_size, const void *data, uint32_t data_size)
{
	struct executor *e = &u->executor;
	int error = e->started ? 0 : start_thread(u);
	if (error == 0)
		error = copy_batch(e, operations, count, strings, strings_size, data, data_size);
	if (error)
		return error;
	pthread_mutex_lock(&e->lock);
	e->busy = true;
	pthread_cond_broadcast(&e->changed);
	pthread_mutex_unlock(&e->lock);
	return 0;
}

void unpack_end_executor(struct executor *e)
{
	if (e->started) {
		pthread_mutex_lock(&e->lock);
		e->ending = true;
		pthread_cond_broadcast(&e->changed);
		pthread_mutex_unlock(&e->lock);
		pthread_join(e->thread, NULL);
	}
	pthread_mutex_destroy(&e->lock);
	pthread_cond_destroy(&e->changed);
	free(e->buffer);
}
