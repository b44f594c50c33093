/* SPDX-License-Identifier: MIT */
/*
 * executor.h - making the calls of a mailbox (control.h). In the guest, on a parked thread; freestanding.
 */
#ifndef VM_PROCESS_STUB_EXECUTOR_H
#define VM_PROCESS_STUB_EXECUTOR_H

#include "process/stub/control.h"

/* The mailbox is MAILBOX_POSTED: make its calls; it is MAILBOX_PARKED again. */
void executor_run(struct mailbox *mailbox);

/* CALL_CLONE and CALL_RESUME, by whoever the executor is part of: a result as the kernel's. */
int64_t executor_special(struct mailbox *mailbox, int64_t number, const uint64_t *arguments);

#endif
