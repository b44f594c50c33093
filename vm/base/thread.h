/* SPDX-License-Identifier: MIT */
/*
 * thread.h - threads beside the program's own. Any thread.
 */
#ifndef VM_BASE_THREAD_H
#define VM_BASE_THREAD_H

#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <time.h>

/* One that gets no signal: these are the program's business. 0 or -errno. */
static inline int thread_begin(pthread_t *thread, void *(*run)(void *arg), void *arg)
{
	sigset_t all, before;
	int code;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	code = -pthread_create(thread, NULL, run, arg);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return code;
}

/* Waits for it end by the monotonic clock. */
static inline void cond_init_monotonic(pthread_cond_t *cond)
{
	pthread_condattr_t monotonic;

	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(cond, &monotonic);
	pthread_condattr_destroy(&monotonic);
}

/* Until that time of it. 0, or ETIMEDOUT. */
static inline int cond_wait_until(pthread_cond_t *cond, pthread_mutex_t *lock, uint64_t ns)
{
	struct timespec until = {(time_t)(ns / 1000000000), (long)(ns % 1000000000)};

	return pthread_cond_timedwait(cond, lock, &until);
}

#endif
