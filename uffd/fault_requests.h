/* SPDX-License-Identifier: MIT */
/*
 * fault_requests.h - the pages that SIGSEGV handlers wait for: how an access reaches the fault
 * service where there is no userfaultfd to report it.
 *
 * A handler takes a slot, stores its page there, wakes the service and sleeps on the slot
 * (futex(2)) until the service has answered. As many threads as there are slots wait at once;
 * others wait for a slot.
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
 * Asks for a page and waits for the answer; `wake` wakes the service. Any thread but the service's;
 * async-signal-safe.
 */
void fault_requests_ask(struct fault_requests *requests, uint64_t page, void (*wake)(void *arg),
			void *arg);

/* The next page that was asked for and not taken yet; UINT64_MAX: none. The service's thread. */
uint64_t fault_requests_take(struct fault_requests *requests);
/* Wakes the handlers that asked for one of these pages. The service's thread. */
void fault_requests_answer(struct fault_requests *requests, uint64_t first, uint64_t count);

#endif
