/* SPDX-License-Identifier: MIT */
/*
 * fault_requests.c - see fault_requests.h. The state of a slot says who owns it; every change of it
 * is atomic.
 */
#define _GNU_SOURCE
#include "fault_requests.h"

#include <linux/futex.h>
#include <sched.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
	FREE,
	CLAIMED,  /* its handler fills it in */
	ASKED,	  /* the service has not seen it */
	TAKEN,	  /* the service brings the page */
	ANSWERED, /* the handler's again */
};

static unsigned claim(struct fault_requests *requests)
{
	for (;;) {
		for (unsigned i = 0; i < FAULT_REQUEST_SLOTS; i++) {
			uint32_t free_slot = FREE;

			if (atomic_compare_exchange_strong(&requests->slots[i].state, &free_slot,
							   CLAIMED))
				return i;
		}
		sched_yield();
	}
}

void fault_requests_ask(struct fault_requests *requests, uint64_t page, void (*wake)(void *arg),
			void *arg)
{
	unsigned slot = claim(requests);
	_Atomic uint32_t *state = &requests->slots[slot].state;
	uint32_t now;

	requests->slots[slot].page = page;
	atomic_store(state, ASKED);
	wake(arg);
	/*
	 * If the state has changed already, or a signal comes, the call returns at once, and the
	 * loop checks again.
	 */
	while ((now = atomic_load(state)) != ANSWERED)
		syscall(SYS_futex, state, FUTEX_WAIT_PRIVATE, now, NULL, NULL, 0);
	atomic_store(state, FREE);
}

uint64_t fault_requests_take(struct fault_requests *requests)
{
	for (unsigned i = 0; i < FAULT_REQUEST_SLOTS; i++) {
		uint32_t asked = ASKED;

		if (atomic_compare_exchange_strong(&requests->slots[i].state, &asked, TAKEN))
			return requests->slots[i].page;
	}
	return UINT64_MAX;
}

void fault_requests_answer(struct fault_requests *requests, uint64_t first, uint64_t count)
{
	for (unsigned i = 0; i < FAULT_REQUEST_SLOTS; i++) {
		_Atomic uint32_t *state = &requests->slots[i].state;

		if (atomic_load(state) != TAKEN || requests->slots[i].page - first >= count)
			continue;
		atomic_store(state, ANSWERED);
		syscall(SYS_futex, state, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
	}
}
