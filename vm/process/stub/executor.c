// SPDX-License-Identifier: MIT
/*
 * executor.c - making the calls of a mailbox. Part of the stub and of the restorer; runs in the guest while it is
 * parked, so: no libc, no errno, no thread-local storage, little stack.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* F_GETOWN_EX */
#endif
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "process/stub/executor.h"
#include "process/stub/gate.h"

static int32_t executor_ask(int64_t number, const struct look *look, uint64_t b, uint64_t c,
			    uint64_t d, uint64_t e)
{
	return (int32_t)gate_call(number, (uint64_t)look->number, b, c, d, e, 0);
}

static void executor_look(struct look *look)
{
	look->descriptor_flags = executor_ask(SYS_fcntl, look, F_GETFD, 0, 0, 0);
	if (look->descriptor_flags < 0)
		return;
	look->flags = executor_ask(SYS_fcntl, look, F_GETFL, 0, 0, 0);
	look->owned = executor_ask(SYS_fcntl, look, F_GETOWN_EX, (uintptr_t)look->owner, 0, 0);
	if (look->kind == LOOK_SOCKET) {
		look->cookie_bytes = sizeof(look->cookie);
		look->peer_bytes = sizeof(look->peer);
		look->cookied = executor_ask(SYS_getsockopt, look, SOL_SOCKET, SO_COOKIE,
					     (uintptr_t)&look->cookie,
					     (uintptr_t)&look->cookie_bytes);
		look->named = executor_ask(SYS_getpeername, look, (uintptr_t)look->peer,
					   (uintptr_t)&look->peer_bytes, 0, 0);
	} else if (look->kind == LOOK_PIPE) {
		look->stated = executor_ask(SYS_fstat, look, (uintptr_t)&look->stat, 0, 0, 0);
		look->capacity = executor_ask(SYS_fcntl, look, F_GETPIPE_SZ, 0, 0, 0);
		look->counted =
			executor_ask(SYS_ioctl, look, FIONREAD, (uintptr_t)&look->waiting, 0, 0);
	}
}

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
	case CALL_LOOK:
		for (uint64_t i = 0; i < arguments[1]; i++)
			executor_look((struct look *)arguments[0] + i);
		return (int64_t)arguments[1];
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
