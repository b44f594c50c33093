/* SPDX-License-Identifier: MIT */
/* thread.h - threads beside the program's own. Any thread. */
#ifndef UFFD_THREAD_H
#define UFFD_THREAD_H

#include <pthread.h>
#include <signal.h>

/*
 * One that gets no signal: these are for the program's threads, whose handlers may access a heap, and would wait for this
 * thread on itself. 0 or -errno.
 */
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

#endif
