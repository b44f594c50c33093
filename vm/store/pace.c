// SPDX-License-Identifier: MIT
/*
 * pace.c - when the next record of a replication may begin. The replication's thread.
 */
#include "base/clock.h"
#include "store/replication.h"

#define SECOND 1000000000ull
/* Of so many times what a record takes, a pause of so many: a twentieth of the time. */
#define BREATH_EVERY 120u
#define BREATH 6u
#define BREATH_LEAST_NS (SECOND / 10) /* where all are busy, too */
#define BREATH_MOST_NS (2 * SECOND)

static void wait_ns(struct replication *r, uint64_t ns)
{
	thaw_mirror_wait(r->mirror, UINT64_MAX, (int)(ns / 1000000 + 1), NULL);
}

/*
 * Whoever takes over lists, reads the newest record, and puts the seal behind it: if records follow each other without a pause, that
 * comes too late each time. So there is one every now and then that is long enough. True: it was waited.
 */
static bool breathe(struct replication *r, uint64_t now_ns)
{
	uint64_t pause_ns = BREATH * r->put_ns, paused_ns = now_ns - r->put_end_ns;

	if (pause_ns < BREATH_LEAST_NS)
		pause_ns = BREATH_LEAST_NS;
	if (pause_ns > BREATH_MOST_NS)
		pause_ns = BREATH_MOST_NS;
	if (paused_ns >= pause_ns)
		r->breath_ns = now_ns;
	if (now_ns - r->breath_ns < BREATH_EVERY / BREATH * pause_ns)
		return false;
	wait_ns(r, pause_ns - paused_ns);
	return true;
}

bool pace_waits(struct replication *r, bool hurry)
{
	uint64_t now_ns = clock_monotonic_ns(), due_ns = r->taken_ns + r->interval_ns;

	if (r->interval_ns && now_ns < due_ns && !hurry) {
		wait_ns(r, due_ns - now_ns);
		return true;
	}
	return breathe(r, now_ns);
}

void pace_put(struct replication *r, uint64_t began_ns)
{
	r->put_end_ns = clock_monotonic_ns();
	r->put_ns = r->put_end_ns - began_ns;
}
