// SPDX-License-Identifier: MIT
/*
 * output_entries.c - what the table says of a descriptor (output_memory.h) ends when its number is closed or replaced.
 *
 * While a thread is in such a call nothing may be noted: another one may use the old descriptor until the kernel has
 * closed it, and the number may be another descriptor's before the call returns. So the entry counts who is in one, and
 * has a version, which a look-up that began before the call finds changed.
 *
 * In signal handlers, too: no locks, no libc.
 */
#include "process/stub/gate.h"
#include "process/stub/output.h"

/* True: the supervisor keeps something for it. */
static bool begin_one(uint64_t *entry)
{
	uint64_t seen = __atomic_load_n(entry, __ATOMIC_SEQ_CST), now;

	do {
		now = (seen & (ENTRY_CLOSERS | ENTRY_ASK)) |
		      ((seen + ENTRY_VERSION) & ENTRY_VERSIONS);
		/* Not more than there is room for. */
		now += (seen & ENTRY_CLOSERS) == ENTRY_CLOSERS ? 0 : ENTRY_CLOSER;
	} while (!__atomic_compare_exchange_n(entry, &seen, now, false, __ATOMIC_SEQ_CST,
					      __ATOMIC_SEQ_CST));
	return (seen & ENTRY_KIND) == ENTRY_HELD || seen & (ENTRY_ASK | ENTRY_CLOSERS);
}

/* Who was restored in between finds an entry that it has not counted in. */
static void end_one(uint64_t *entry)
{
	uint64_t seen = __atomic_load_n(entry, __ATOMIC_SEQ_CST), now;

	do {
		now = (seen & (ENTRY_CLOSERS | ENTRY_ASK)) |
		      ((seen + ENTRY_VERSION) & ENTRY_VERSIONS);
		now -= seen & ENTRY_CLOSERS ? ENTRY_CLOSER : 0;
	} while (!__atomic_compare_exchange_n(entry, &seen, now, false, __ATOMIC_SEQ_CST,
					      __ATOMIC_SEQ_CST));
}

/* One number is always counted in: it may be noted for the first time just now. Of many, those that ever were. */
static unsigned end_of_range(unsigned first, unsigned last)
{
	uint32_t count = __atomic_load_n(&CONTROL->output.descriptors, __ATOMIC_SEQ_CST);

	if (first == last || count > OUTPUT_DESCRIPTORS)
		count = OUTPUT_DESCRIPTORS;
	return last < count ? last + 1 : count;
}

struct closing output_closing(unsigned first, unsigned last)
{
	struct closing closing = {
		.kind = CLOSING_PLAIN, .first = first, .inside = output_thread.inside};

	output_thread.inside = 1;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	if (!output_on())
		return closing;
	closing.kind = output_thread.vforked	    ? CLOSING_CHILD
		       : last >= OUTPUT_DESCRIPTORS ? CLOSING_ASKED
						    : CLOSING_GATE;
	if (closing.kind != CLOSING_CHILD)
		closing.end = end_of_range(first, last);
	for (unsigned fd = first; fd < closing.end; fd++)
		if (begin_one(&CONTROL->output.entries[fd]))
			closing.kind = CLOSING_ASKED;
	return closing;
}

void output_closed(struct closing closing)
{
	for (unsigned fd = closing.first; fd < closing.end; fd++)
		end_one(&CONTROL->output.entries[fd]);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	output_thread.inside = closing.inside;
}

int64_t output_close_call(struct closing closing, long number, uint64_t a, uint64_t b, uint64_t c)
{
	if (closing.kind == CLOSING_GATE || closing.kind == CLOSING_CHILD)
		return gate_call(number, a, b, c, 0, 0, 0);
	return raw_call(number, a, b, c, 0, 0, 0);
}
