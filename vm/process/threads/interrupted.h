/* SPDX-License-Identifier: MIT */
/*
 * interrupted.h - what interrupted.c and its neighbours share: interrupted_timeouts.c, interrupted_restored.c. Behind
 * process.h; the owner's thread.
 */
#ifndef VM_PROCESS_INTERRUPTED_H
#define VM_PROCESS_INTERRUPTED_H

#include <stddef.h>
#include <ucontext.h>

#include "process/process.h"

#define SYSCALL_BYTES 2u     /* 0f 05 */
#define FUTEX_OPERATION 127u /* without FUTEX_PRIVATE_FLAG, FUTEX_CLOCK_REALTIME */

enum timeout {
	TIMEOUT_NONE, /* it has none, or one that is absolute, or the kernel writes back what is left */
	TIMEOUT_MS,	  /* milliseconds, in a register; negative: none */
	TIMEOUT_RELATIVE, /* a struct timespec */
	TIMEOUT_SLEEP, /* ... and in the argument after it, where the kernel writes what is left, or NULL */
	TIMEOUT_RECEIVING, /* of the socket */
	TIMEOUT_SENDING,
};

#define NO_MASK -1

struct call_kind {
	int16_t number;
	uint8_t timeout; /* enum timeout */
	int8_t argument; /* where the timeout is */
	int8_t mask; /* where the signals are that it lets through or waits for instead; NO_MASK */
	bool restartable; /* the kernel restarts it where SA_RESTART is set, and there is no timeout */
};

struct waiting { /* a thread in a call that was made again */
	int32_t tid;
	int64_t number;
	uint64_t arguments[6]; /* as they are now */
	uint64_t stack, program;
	uint64_t deadline_ns; /* of its timeout; 0: it has none */
	bool current;	      /* of this stop */
};

#define SITES 1024u

struct site { /* where a thread was found in that call once */
	int32_t tid;
	int32_t number;
	uint64_t stack, program, arguments[2];
};

struct interrupted {
	struct waiting *list;
	size_t count, room;
	struct site sites[SITES]; /* the newest ones, in a ring */
	unsigned next_site;
};

/* One stop. */
struct stop {
	struct process *process;
	struct interrupted *known;
	uint64_t now_ns;
	uint64_t caught, caught_restart; /* signals; those with SA_RESTART */
	bool caught_known;
	uint64_t signals[CONTROL_THREADS]; /* for struct stub_restart, by mailbox */
	uint64_t contexts[CONTROL_THREADS];
	bool slot_taken[CONTROL_THREADS];
	unsigned mailboxes;
};

#define TEXT_BEFORE 9u /* an instruction that loads a number, and the call */

struct frame { /* of one parked thread */
	struct thread *thread;
	ucontext_t context; /* as far as its mask */
	/* Around where it is: the instructions before, and one there. text_code: they cannot be read. */
	uint8_t text[TEXT_BEFORE + SYSCALL_BYTES];
	int text_code;
	greg_t *registers;
	uint64_t arguments[6];
	const struct call_kind *kind;
	struct waiting
		*waiting; /* it was in this call when it went on last; NULL: not, or nobody knows */
};

const struct call_kind *interrupted_kind(int64_t number);
/* Registers of arguments, in order. */
extern const int interrupted_registers[6];

static inline uint64_t scratch_address(const struct process *process)
{
	return process->stub + offsetof(struct stub_memory, scratch);
}

/* The piece of the scratch whose timeout lies at that address; -1: none. */
static inline int slot_of(const struct process *process, uint64_t address)
{
	uint64_t offset = address - scratch_address(process);

	if (offset >= sizeof(struct stub_restart) * CONTROL_THREADS ||
	    offset % sizeof(struct stub_restart))
		return -1;
	return (int)(offset / sizeof(struct stub_restart));
}

/* ---- interrupted_timeouts.c */

/*
 * A call is made again with what is left of its timeout; *deadline_ns is when that has run out, 0: it has none, or the
 * kernel knows. `over`: what the call returns after all; 0: it is made again. False: the frame stays as it is.
 */
bool interrupted_cut_timeout(struct stop *stop, struct frame *frame, uint64_t *deadline_ns,
			     int *over);

#endif
