/* SPDX-License-Identifier: MIT */
/*
 * process_limits.c - the limits of the process (setrlimit, ulimit): which of them stopped a start, and asking
 * beforehand for what libuv would call abort() over, without a word.
 *
 * Called by runtime.c, loop.c and files.c, owner's thread. What is asked for is given back at once: other
 * threads of this process may take it meanwhile, but a program that starts has none that do.
 */
#define _GNU_SOURCE /* tgkill() */
#include "process_limits.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "failure.h"

#define MIB (1ull << 20)
#define POOL_MAX 1024u /* libuv's */

/* What a program needs besides its heap: most of it is reserved and never touched. */
static const struct limit {
	int resource;
	const char *option, *needs;
	uint64_t unit;
} limits[] = {
	{RLIMIT_AS, "ulimit -v", "10 GiB of address space (14 GiB without userfaultfd)", MIB},
	{RLIMIT_DATA, "ulimit -d", "1 GiB and its heap", MIB},
	{RLIMIT_NOFILE, "ulimit -n", "64 open files", 1},
	{RLIMIT_NPROC, "ulimit -u", "16 threads", 1},
};
enum { LIMIT_SPACE, LIMIT_DATA, LIMIT_FILES, LIMIT_THREADS };

static bool is_set(unsigned which, uint64_t *value)
{
	struct rlimit limit;

	if (getrlimit(limits[which].resource, &limit) || limit.rlim_cur == RLIM_INFINITY)
		return false;
	*value = limit.rlim_cur / limits[which].unit;
	return true;
}

static void explain(struct thaw_error *error, unsigned which)
{
	const struct limit *limit = &limits[which];
	struct thaw_error why = *error;
	uint64_t value;

	if (is_set(which, &value) &&
	    !strstr(why.text, limit->option)) /* libthaw may have said it */
		failure(error, why.code, "%s; %s allows %llu%s, and a program needs %s: raise it",
			why.text, limit->option, (unsigned long long)value,
			limit->unit == MIB ? " MiB" : "", limit->needs);
}

void limits_explain(struct thaw_error *error, int code)
{
	uint64_t value;

	/* For a thread it is said of everything that there is none of, its stack too: pthread_create(3). */
	if (code == -ENOMEM || code == -EAGAIN) {
		explain(error, LIMIT_SPACE);
		explain(error, LIMIT_DATA);
	}
	if (code == -EMFILE)
		explain(error, LIMIT_FILES);
	if (code == -EAGAIN && !is_set(LIMIT_SPACE, &value) && !is_set(LIMIT_DATA, &value))
		explain(error, LIMIT_THREADS);
}

int limits_want_descriptors(unsigned count)
{
	int taken[16], code = 0;
	unsigned have = 0;

	while (!code && have < count && have < sizeof(taken) / sizeof(taken[0])) {
		/* Standard error is always there (keep_standard_streams). */
		taken[have] = dup(STDERR_FILENO);
		if (taken[have] < 0)
			code = -errno;
		else
			have++;
	}
	while (have)
		close(taken[--have]);
	return code;
}

/* One of the threads that are asked for. */
struct asked {
	pthread_t thread;
	pthread_mutex_t *all_are_there;
	pid_t id;
};

static void *wait_for_the_others(void *arg)
{
	struct asked *asked = arg;

	asked->id = gettid();
	pthread_mutex_lock(asked->all_are_there);
	pthread_mutex_unlock(asked->all_are_there);
	return NULL;
}

/* A thread that was joined still counts for a moment: until the kernel does not know it any more. */
static void give_back(struct asked *asked)
{
	pthread_join(asked->thread, NULL);
	for (unsigned looks = 0; looks < 1000 && !tgkill(getpid(), asked->id, 0); looks++)
		usleep(10);
}

static int want_threads(unsigned wanted, const pthread_attr_t *attributes)
{
	struct asked *asked = calloc(wanted, sizeof(*asked));
	pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	unsigned started = 0;
	int code = 0;

	if (!asked)
		return -ENOMEM;
	pthread_mutex_lock(&lock);
	while (!code && started < wanted) {
		asked[started].all_are_there = &lock;
		code = -pthread_create(&asked[started].thread, attributes, wait_for_the_others,
				       &asked[started]);
		started += !code;
	}
	pthread_mutex_unlock(&lock);
	while (started)
		give_back(&asked[--started]);
	free(asked);
	return code;
}

int limits_want_thread(void)
{
	return want_threads(1, NULL);
}

/* How many threads libuv's pool will have, each with a stack as large as the main thread's may become. */
static unsigned pool_threads(void)
{
	const char *said = getenv("UV_THREADPOOL_SIZE");
	long count = said ? strtol(said, NULL, 10) : 4;

	return count < 1 ? 1 : count > (long)POOL_MAX ? POOL_MAX : (unsigned)count;
}

int limits_want_pool(void)
{
	struct rlimit stack;
	pthread_attr_t attributes;
	int code;

	pthread_attr_init(&attributes);
	if (!getrlimit(RLIMIT_STACK, &stack) && stack.rlim_cur != RLIM_INFINITY &&
	    stack.rlim_cur >= (rlim_t)PTHREAD_STACK_MIN)
		pthread_attr_setstacksize(&attributes, stack.rlim_cur & ~(rlim_t)0xffff);
	code = want_threads(pool_threads(), &attributes);
	pthread_attr_destroy(&attributes);
	return code;
}
