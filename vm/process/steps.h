/* SPDX-License-Identifier: MIT */
/*
 * steps.h - how long each step of a stop or a restore takes, for --verbose. Owner's thread.
 */
#ifndef VM_PROCESS_STEPS_H
#define VM_PROCESS_STEPS_H

#include <stdio.h>

#include "base/clock.h"

#define STEPS 12u

struct steps {
	uint64_t begun_ns, last_ns;
	struct {
		const char *name;
		uint64_t ns;
	} list[STEPS];
	unsigned count;
};

static inline void steps_begin(struct steps *steps)
{
	steps->begun_ns = steps->last_ns = clock_monotonic_ns();
	steps->count = 0;
}

/* What was done since the step before. `name` is kept. */
static inline void steps_done(struct steps *steps, const char *name)
{
	uint64_t now = clock_monotonic_ns();

	if (steps->count < STEPS) {
		steps->list[steps->count].name = name;
		steps->list[steps->count++].ns = now - steps->last_ns;
	}
	steps->last_ns = now;
}

/* "1.234 ms: threads 0.100, mappings 0.300" */
static inline const char *steps_text(const struct steps *steps, char *text, size_t room)
{
	int used =
		snprintf(text, room, "%.3f ms", (double)(steps->last_ns - steps->begun_ns) / 1e6);

	for (unsigned i = 0; i < steps->count && used > 0 && (size_t)used < room; i++)
		used += snprintf(text + used, room - (size_t)used, "%s %s %.3f", i ? "," : ":",
				 steps->list[i].name, (double)steps->list[i].ns / 1e6);
	return text;
}

#endif
