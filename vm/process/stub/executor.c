// SPDX-License-Identifier: MIT
/*
 * executor.c - making the calls of a mailbox. Part of the stub and of the restorer; runs in the guest while it is
 * parked, so: no libc, no errno, no thread-local storage, little stack.
 */
#include <errno.h>
#include <stdbool.h>

#include "process/stub/executor.h"
#include "process/stub/gate.h"

static int64_t executor_call(struct mailbox *mailbox, const struct call *call)
{
	uint64_t arguments[6];

	for (unsigned i = 0; i < 6; i++)
		arguments[i] = call->from[i] ? (uint64_t)mailbox->calls[call->from[i] - 1].result
					     : call->arguments[i];
	switch (call->number) {
	case CALL_COPY:
		raw_copy((void *)arguments[0], (const void *)arguments[1], arguments[2]);
		return (int64_t)arguments[2];
	case CALL_CLONE:
	case CALL_RESUME:
		return executor_special(mailbox, call->number, arguments);
	default:
		return gate_call(call->number, arguments[0], arguments[1], arguments[2],
				 arguments[3], arguments[4], arguments[5]);
	}
}

void executor_run(struct mailbox *mailbox)
{
	bool failed = false;

	for (uint32_t i = 0; i < mailbox->count && i < CONTROL_CALLS; i++) {
		struct call *call = &mailbox->calls[i];

		call->result = failed ? -ECANCELED : executor_call(mailbox, call);
		failed |= raw_failed(call->result) && !(call->flags & CALL_MAY_FAIL);
	}
	mailbox->count = 0;
	__atomic_store_n(&mailbox->state, MAILBOX_PARKED, __ATOMIC_SEQ_CST);
	raw_futex_wake(&mailbox->state);
}
