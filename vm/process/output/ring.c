// SPDX-License-Identifier: MIT
/*
 * ring.c - see ring.h.
 *
 * Order. A record's stamp is taken within its call, from one counter. ring_drain() reads that counter first and each
 * slot's tail after it, and takes what has a lower stamp, lowest first. If A was published before B was begun, A's stamp
 * is lower; and if B is taken, its stamp was there when the counter was read, so A was published by then, and is taken
 * before it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "process/output/ring.h"

static uint32_t new_token(uint32_t before)
{
	uint32_t token = 0;

	while (!token || token == before)
		if (getrandom(&token, sizeof(token), GRND_NONBLOCK) != sizeof(token))
			token = (uint32_t)(clock_monotonic_ns() >> 8) ^ (uint32_t)getpid() << 16;
	return token;
}

void ring_begin(struct ring *ring, struct output_memory *memory)
{
	uint32_t before = (uint32_t)(memory->slot[0].published >> 32), token = new_token(before);

	*ring = (struct ring){.memory = memory};
	for (unsigned i = 0; i < OUTPUT_SLOTS; i++) {
		memory->slot[i].published = (uint64_t)token << 32;
		memory->slot[i].read = 0;
	}
	if (before) { /* memory that was never written need not be there */
		memset(memory->entries, 0, sizeof(memory->entries));
		memset(memory->outlets, 0, sizeof(memory->outlets));
	}
	memory->slots = memory->descriptors = memory->asleep = 0;
	__atomic_store_n(&memory->token, token, __ATOMIC_SEQ_CST);
}

void ring_off(struct ring *ring)
{
	__atomic_store_n(&ring->memory->token, 0, __ATOMIC_SEQ_CST);
}

/* ---- Draining */

/* What is published and was not read, of each slot. */
struct drain {
	struct ring *ring;
	unsigned slots;
	uint32_t tail[OUTPUT_SLOTS];
	const struct output_record *next[OUTPUT_SLOTS]; /* NULL: no more */
	uint64_t stamp[OUTPUT_SLOTS];			/* of that */
	struct ring_piece piece[OUTPUT_SLOTS];
};

static unsigned slots_used(const struct output_memory *memory)
{
	uint32_t slots = __atomic_load_n(&memory->slots, __ATOMIC_SEQ_CST);

	return slots < OUTPUT_SLOTS ? slots : OUTPUT_SLOTS;
}

static void skip(struct ring *ring, unsigned slot, uint32_t bytes)
{
	ring->read[slot] += bytes;
	__atomic_store_n(&ring->memory->slot[slot].read, ring->read[slot], __ATOMIC_RELEASE);
}

/* Nothing can be made of what is there. */
static void give_up(struct drain *drain, unsigned slot)
{
	drain->ring->damaged[slot] = true;
	drain->next[slot] = NULL;
}

/* The slot's next record; all of it was checked. */
static void find_next(struct drain *drain, unsigned slot)
{
	struct ring *ring = drain->ring;
	const struct output_memory *memory = ring->memory;

	drain->next[slot] = NULL;
	while (!ring->damaged[slot] && ring->read[slot] != drain->tail[slot]) {
		uint32_t left = drain->tail[slot] - ring->read[slot];
		uint32_t at = ring->read[slot] % OUTPUT_SLOT_BYTES;
		const struct output_record *record = (const void *)(memory->data[slot] + at);
		/* Once each: the guest can write here. */
		uint32_t bytes = __atomic_load_n(&record->bytes, __ATOMIC_RELAXED);
		uint32_t flags = __atomic_load_n(&record->flags, __ATOMIC_RELAXED);
		uint32_t whole = output_record_room(bytes);

		if (flags & RECORD_PADDING)
			whole = OUTPUT_SLOT_BYTES - at;
		else if (bytes > OUTPUT_RECORD_BYTES || whole > OUTPUT_SLOT_BYTES - at)
			whole = UINT32_MAX;
		if (whole > left) {
			give_up(drain, slot);
			return;
		}
		if (flags & RECORD_PADDING) {
			skip(ring, slot, whole);
			continue;
		}
		drain->next[slot] = record;
		drain->stamp[slot] = __atomic_load_n(&record->stamp, __ATOMIC_RELAXED);
		drain->piece[slot] = (struct ring_piece){
			.outlet = __atomic_load_n(&record->outlet, __ATOMIC_RELAXED),
			.flags = flags,
			.data = record + 1,
			.bytes = bytes};
		return;
	}
}

static void drain_begin(struct drain *drain, struct ring *ring)
{
	drain->ring = ring;
	drain->slots = slots_used(ring->memory);
	for (unsigned i = 0; i < drain->slots; i++) {
		drain->tail[i] = (uint32_t)__atomic_load_n(&ring->memory->slot[i].published,
							   __ATOMIC_SEQ_CST);
		if (drain->tail[i] - ring->read[i] > OUTPUT_SLOT_BYTES ||
		    drain->tail[i] % OUTPUT_ALIGNMENT)
			give_up(drain, i);
		find_next(drain, i);
	}
}

int ring_drain(struct ring *ring, ring_append_type *append, void *context)
{
	uint64_t limit = __atomic_load_n(&ring->memory->stamp, __ATOMIC_SEQ_CST);
	struct drain drain;
	int pieces = 0, code;

	drain_begin(&drain, ring);
	for (;;) {
		unsigned first = OUTPUT_SLOTS;

		for (unsigned i = 0; i < drain.slots; i++)
			if (drain.next[i] && drain.stamp[i] < limit &&
			    (first == OUTPUT_SLOTS || drain.stamp[i] < drain.stamp[first]))
				first = i;
		if (first == OUTPUT_SLOTS)
			break;
		code = append(context, &drain.piece[first]);
		if (code)
			return code;
		pieces += pieces < INT_MAX;
		skip(ring, first, output_record_room(drain.piece[first].bytes));
		find_next(&drain, first);
	}
	for (unsigned i = 0; i < drain.slots; i++)
		if (ring->damaged[i])
			return -EIO;
	return pieces;
}

bool ring_pending(const struct ring *ring)
{
	for (unsigned i = 0, slots = slots_used(ring->memory); i < slots; i++)
		if (!ring->damaged[i] &&
		    (uint32_t)__atomic_load_n(&ring->memory->slot[i].published, __ATOMIC_SEQ_CST) !=
			    ring->read[i])
			return true;
	return false;
}

/* ---- Waiting */

bool ring_sleep(struct ring *ring)
{
	__atomic_store_n(&ring->memory->asleep, 1, __ATOMIC_SEQ_CST);
	/* Who has published without seeing that is seen now. */
	if (!ring_pending(ring))
		return true;
	__atomic_store_n(&ring->memory->asleep, 0, __ATOMIC_SEQ_CST);
	return false;
}

bool ring_wait(const struct ring *ring, uint32_t *seen, uint64_t ns)
{
	struct timespec time = {.tv_sec = (time_t)(ns / 1000000000),
				.tv_nsec = (long)(ns % 1000000000)};
	const uint32_t *wakes = &ring->memory->wakes;
	uint32_t before = *seen;

	if (__atomic_load_n(wakes, __ATOMIC_SEQ_CST) == before)
		syscall(SYS_futex, wakes, FUTEX_WAIT, before, ns ? &time : NULL, NULL, 0);
	*seen = __atomic_load_n(wakes, __ATOMIC_SEQ_CST);
	return *seen != before;
}

void ring_wake(struct ring *ring)
{
	__atomic_add_fetch(&ring->memory->wakes, 1, __ATOMIC_SEQ_CST);
	syscall(SYS_futex, &ring->memory->wakes, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

/* ---- The table */

uint64_t ring_seen(const struct ring *ring, unsigned fd)
{
	return fd < OUTPUT_DESCRIPTORS
		       ? __atomic_load_n(&ring->memory->entries[fd], __ATOMIC_SEQ_CST)
		       : ENTRY_ASK;
}

/* Not while it is closed, and not if it has been since it was looked at. */
static bool note(struct ring *ring, unsigned fd, uint64_t seen, uint64_t entry)
{
	struct output_memory *memory = ring->memory;

	if (fd >= OUTPUT_DESCRIPTORS || seen & (ENTRY_ASK | ENTRY_CLOSERS))
		return false;
	if (fd >= __atomic_load_n(&memory->descriptors, __ATOMIC_SEQ_CST))
		__atomic_store_n(&memory->descriptors, fd + 1, __ATOMIC_SEQ_CST);
	return __atomic_compare_exchange_n(&memory->entries[fd], &seen,
					   entry | (seen & ENTRY_VERSIONS), false, __ATOMIC_SEQ_CST,
					   __ATOMIC_SEQ_CST);
}

void ring_direct(struct ring *ring, unsigned fd, uint64_t seen)
{
	note(ring, fd, seen, ENTRY_DIRECT);
}

bool ring_held(struct ring *ring, unsigned fd, uint64_t seen, uint32_t outlet, bool is_socket)
{
	return note(ring, fd, seen,
		    (uint64_t)outlet << ENTRY_OUTLET_SHIFT | ENTRY_HELD |
			    (is_socket ? ENTRY_SOCKET : 0));
}

static void forget(struct ring *ring, unsigned fd)
{
	uint64_t seen, now;

	if (fd >= __atomic_load_n(&ring->memory->descriptors, __ATOMIC_SEQ_CST))
		__atomic_store_n(&ring->memory->descriptors, fd + 1, __ATOMIC_SEQ_CST);
	seen = __atomic_load_n(&ring->memory->entries[fd], __ATOMIC_SEQ_CST);
	do /* the stub says when its own call is over */
		now = ((seen + ENTRY_VERSION) & ENTRY_VERSIONS) |
		      (seen & (ENTRY_CLOSERS | ENTRY_ASK)) | (seen & ENTRY_CLOSERS ? 0 : ENTRY_ASK);
	while (!__atomic_compare_exchange_n(&ring->memory->entries[fd], &seen, now, false,
					    __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
}

/* Of many, those of which anything was ever noted. */
void ring_forget(struct ring *ring, unsigned from, unsigned to)
{
	uint32_t count = __atomic_load_n(&ring->memory->descriptors, __ATOMIC_SEQ_CST);

	if (from == to || count > OUTPUT_DESCRIPTORS)
		count = OUTPUT_DESCRIPTORS;
	for (unsigned fd = from; fd <= to && fd < count; fd++)
		forget(ring, fd);
}

void ring_parked(struct ring *ring)
{
	struct output_memory *memory = ring->memory;
	uint32_t count = __atomic_load_n(&memory->descriptors, __ATOMIC_SEQ_CST);

	for (uint32_t i = 0; i < count && i < OUTPUT_DESCRIPTORS; i++)
		if (__atomic_load_n(&memory->entries[i], __ATOMIC_RELAXED) & ENTRY_ASK)
			__atomic_and_fetch(&memory->entries[i], ~ENTRY_ASK, __ATOMIC_SEQ_CST);
}

void ring_fast(struct ring *ring, uint32_t outlet, bool fast)
{
	__atomic_store_n(&ring->memory->outlets[OUTLET_INDEX(outlet)], fast ? outlet : 0,
			 __ATOMIC_SEQ_CST);
}
