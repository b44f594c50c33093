/* SPDX-License-Identifier: MIT */
/*
 * output_memory.h - output commit's part of the control block: which of the guest's descriptors lead outside, and rings
 * through which bytes for those reach the supervisor without a system call (stub/output.c writes, output/ring.c reads).
 *
 * Only what succeeds whole and at once goes through a ring. All else (a large write, a bad pointer, a full queue, an
 * error that is the writer's) is libc's plain call, which the supervisor is asked about (SECCOMP_RET_USER_NOTIF).
 *
 * Each thread has a slot of its own; which one is in the stub's memory, so in the image. It copies a record behind what
 * is published and then publishes it by one compare-and-exchange of {token, tail}: what a stop finds is published, or
 * is not there. Nothing of this is in an image: a restored guest finds another token, which makes a thread that was in
 * the middle of a record begin the whole call again.
 */
#ifndef VM_PROCESS_STUB_OUTPUT_MEMORY_H
#define VM_PROCESS_STUB_OUTPUT_MEMORY_H

#include <stdint.h>

#define OUTPUT_DESCRIPTORS 65536u /* of higher numbers nothing is remembered */
#define OUTPUT_OUTLETS 65536u
#define OUTPUT_SLOTS 64u
#define OUTPUT_SLOT_BYTES (256u << 10)
/* Of one record. Whoever writes more has a system call's price for little. */
#define OUTPUT_RECORD_BYTES (32u << 10)
#define OUTPUT_ALIGNMENT 32u

/*
 * What is known of a descriptor's number:
 *	bits 0-1	ENTRY_UNKNOWN, ENTRY_DIRECT, ENTRY_HELD
 *	bit 2		ENTRY_ASK: always the plain call, until the next stop
 *	bit 3		ENTRY_SOCKET: send(2) and sendmsg(2) may be used on it
 *	bits 8-15	how many threads are in the stub's close(2), dup2(2) ... of it: the plain call, and nothing is noted
 *	bits 16-31	a number that each close changes, so that nothing is noted that was looked up before it
 *	bits 32-63	ENTRY_HELD: the outlet
 */
#define ENTRY_UNKNOWN 0ull
#define ENTRY_DIRECT 1ull
#define ENTRY_HELD 2ull
#define ENTRY_KIND 3ull
#define ENTRY_ASK 4ull
#define ENTRY_SOCKET 8ull
#define ENTRY_CLOSER 0x100ull
#define ENTRY_CLOSERS 0xff00ull
#define ENTRY_VERSION 0x10000ull
#define ENTRY_VERSIONS 0xffff0000ull
#define ENTRY_OUTLET_SHIFT 32

/* Of the number of an outlet: its index in `outlets`; the rest says how often that has been another's. Never 0. */
#define OUTLET_INDEX(outlet) ((outlet) & (OUTPUT_OUTLETS - 1))

#define RECORD_PADDING 0x80000000u /* in place of flags: nothing but room up to the slot's end */

/* Then the bytes; the next is at a multiple of OUTPUT_ALIGNMENT. */
struct output_record {
	uint32_t bytes;
	uint32_t flags; /* MSG_... */
	uint32_t outlet;
	uint32_t unused;
	uint64_t
		stamp; /* lower than that of every record that was begun after this one was published */
	uint64_t unused_too;
};

/* What a record of so many bytes takes of its slot. */
static inline uint32_t output_record_room(uint32_t bytes)
{
	return (uint32_t)sizeof(struct output_record) +
	       ((bytes + (OUTPUT_ALIGNMENT - 1)) & ~(OUTPUT_ALIGNMENT - 1));
}

struct output_slot {
	uint64_t published; /* token << 32 | how many bytes have been written (modulo 2^32) */
	uint64_t unused[7];
	uint32_t read; /* how many the supervisor has read */
	uint32_t unused_too[15];
};

struct output_memory {
	uint32_t token;	      /* of this process, random; 0: no ring is used */
	uint32_t asleep;      /* 1: who publishes makes it 0, and counts `wakes` up */
	uint32_t wakes;	      /* futex */
	uint32_t slots;	      /* those from here on have never been used */
	uint32_t descriptors; /* ... and of these numbers nothing was ever noted */
	uint32_t unused[11];
	uint64_t stamp; /* the next */
	uint64_t unused_too[7];
	/* The outlet of that index, if bytes for it may go through a ring; or 0. */
	uint32_t outlets[OUTPUT_OUTLETS];
	uint64_t entries[OUTPUT_DESCRIPTORS];
	struct output_slot slot[OUTPUT_SLOTS] __attribute__((aligned(64)));
	uint8_t data[OUTPUT_SLOTS][OUTPUT_SLOT_BYTES] __attribute__((aligned(4096)));
};

#endif
