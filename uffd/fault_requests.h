/* SPDX-License-Identifier: MIT */
/*
 * fault_requests.h - the pages that handlers of SIGSEGV wait for: how a touch reaches the fault service where there is no
 * userfaultfd to tell of it.
 *
 * A handler takes a slot, leaves its page there, wakes the service and sleeps on the slot (futex(2)) until the
 * service has answered. As many threads as there are slots wait at once; others wait for a slot.
 */
#ifndef UFFD_FAULT_REQUESTS_H
#define UFFD_FAULT_REQUESTS_H

#include <stdatomic.h>
#include <stdint.h>

#define FAULT_REQUEST_SLOTS 64u

struct fault_requests { /* zeroed: no requests */
	struct {
		_Atomic uint32_t state;
		uint64_t page;
	} slots[FAULT_REQUEST_SLOTS];
};

/*
 * Asks for a page and waits for the answer; `wake` gets the service to look. Any thread but the
 * service's; async-signal-safe.
 */
void fault_requests_ask(struct fault_requests *requests, uint64_t page, void (*wake)(void *arg),
			void *arg);

/* The next page that is newly asked for; UINT64_MAX: none. The service's thread. */
uint64_t fault_requests_take(struct fault_requests *requests);
/* Whoever asked for one of these pages may look again. The service's thread. */
void fault_requests_answer(struct fault_requests *requests, uint64_t first, uint64_t count);

#endif
