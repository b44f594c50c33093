/* SPDX-License-Identifier: MIT */
/*
 * fault_settle.c - before a capture: all that the guest has done to its memory until it was stopped is known, and what is
 * due has been brought (fault_events.c).
 *
 * To wake the service, and to be woken by it, takes as long as the rest of a small stop. So the service also says when it
 * rests: then whoever stops the guest asks the kernel alone whether there is anything to be told.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>

#include "fault_process.h"

/* ---- The service's thread */

/* With the lock. */
static void note(struct fault_process *process)
{
	const struct served *guest = process->all[0];

	process->settle_gone = guest->gone;
	process->settle_damaged = guest->poisoned.moved;
}

void fault_events_settle(struct fault_service *service)
{
	struct fault_process *process = service->process;
	unsigned asked;

	pthread_mutex_lock(&process->lock);
	asked = process->settle_asked;
	pthread_mutex_unlock(&process->lock);
	if (asked == process->settle_done)
		return;
	fault_events_read_all(service);
	fault_process_serve(service);
	while (process->due_count) {
		bool more = fault_events_due_step(service);

		if (service->in_flight)
			service_wait(service, more ? READER_NOW : READER_READ);
	}
	pthread_mutex_lock(&process->lock);
	process->settle_done = asked;
	note(process);
	pthread_cond_broadcast(&process->settled);
	pthread_mutex_unlock(&process->lock);
}

void fault_events_rest(struct fault_service *service)
{
	struct fault_process *process = service->process;

	if (process->due_count || process->fault_count || service->in_flight)
		return;
	pthread_mutex_lock(&process->lock);
	note(process);
	pthread_mutex_unlock(&process->lock);
	atomic_store(&process->rests, true);
}

/* ---- Who stops the guest */

/*
 * Nothing is told that it has not done? It takes its rest back before it reads what is told: if nothing is there to be
 * read, and it rests after that look, it has not read anything since.
 */
static bool is_settled(struct fault_process *process)
{
	struct pollfd told = {.fd = process->epoll, .events = POLLIN};

	return poll(&told, 1, 0) == 0 && atomic_load(&process->rests);
}

int fault_service_settle(struct fault_service *service, struct thaw_error *error)
{
	struct fault_process *process = service ? service->process : NULL;
	unsigned asked;
	bool damaged, gone;

	if (!process || !service->started)
		return 0;
	pthread_mutex_lock(&process->lock);
	if (!is_settled(process)) {
		asked = ++process->settle_asked;
		reader_wake(service->reader);
		while ((int)(process->settle_done - asked) < 0)
			pthread_cond_wait(&process->settled, &process->lock);
	}
	damaged = process->settle_damaged;
	gone = process->settle_gone;
	pthread_mutex_unlock(&process->lock);
	if (gone)
		return error_set(error, -ESRCH, "the guest is gone");
	if (!damaged)
		return 0;
	if (!fault_service_last_poison(service, error))
		error_set(error, THAW_EDAMAGED, "memory that was moved cannot be read");
	return THAW_EDAMAGED;
}
