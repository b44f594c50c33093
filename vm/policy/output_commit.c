/* SPDX-License-Identifier: MIT */
/*
 * output_commit.c - generations that output waits for: when one is begun, and what it lets go.
 *
 * Whatever leaves a program that commits its output is held, by its guest or by streams.c, until the generation that has
 * its cause is durable. Owns the account of what is held; not the bytes. Called by checkpoints.c on the owner's thread,
 * but for owner_output_held(). Must never let anything go that a crash could still take back, nor forget that something
 * waits: what was held when a capture was taken goes with that one; if it fails, with the next.
 *
 *	held --capture--> captured --durable--> may leave
 *	  ^------- failed -------+
 *
 * One generation is enough for all that came up to its capture, so the more is said, the more goes with each.
 */
#include "internal.h"

/* After a generation has failed, the next for output comes later and later, but soon enough for who waits for it. */
#define RETRY_FIRST_NS 50000000ull
#define RETRY_MOST_NS 1000000000ull

bool output_commit_note(struct runtime *rt, size_t bytes)
{
	struct output_commit *own = &rt->output_commit;
	uint64_t none = 0;

	atomic_fetch_add(&own->held, bytes);
	if (atomic_load(&own->oldest_ns))
		return false; /* somebody has said so, and no capture has been taken since */
	return atomic_compare_exchange_strong(&own->oldest_ns, &none, clock_monotonic_ns());
}

void owner_output_held(struct runtime *rt, size_t bytes)
{
	if (output_commit_note(rt, bytes))
		rt->type->wake(rt->guest);
}

bool output_commit_waits(const struct runtime *rt)
{
	return rt->options.commit_output && atomic_load(&rt->output_commit.oldest_ns);
}

uint64_t output_commit_due_ns(const struct runtime *rt)
{
	uint64_t oldest = atomic_load(&rt->output_commit.oldest_ns);

	if (!rt->options.commit_output || !oldest || rt->checkpoints.in_flight ||
	    replica_awaits(rt)) /* that lets go what it has, and the next begins */
		return 0;
	return oldest > rt->output_commit.not_before_ns ? oldest : rt->output_commit.not_before_ns;
}

void output_commit_begun(struct runtime *rt)
{
	rt->output_commit.not_before_ns = rt->checkpoints.begun_ns + rt->options.commit_interval_ns;
}

void output_commit_captured(struct runtime *rt)
{
	struct output_commit *own = &rt->output_commit;

	own->captured_oldest_ns = atomic_exchange(&own->oldest_ns, 0);
	own->captured = atomic_load(&own->held);
	if (rt->options.commit_output)
		streams_captured(rt);
}

/* Eighths of powers of two: a number is told to within an eighth. */
static unsigned bucket_of(uint64_t ns)
{
	unsigned power = ns < 8 ? 3 : 63 - (unsigned)__builtin_clzll(ns);

	return 8 * power + (unsigned)(ns >> (power - 3) & 7);
}

static uint64_t bucket_end(unsigned bucket)
{
	unsigned power = bucket / 8;

	return (9 + (uint64_t)(bucket & 7)) << (power - 3);
}

static void note_time(struct output_commit *own, uint64_t ns)
{
	own->times[bucket_of(ns)]++;
	own->time_count++;
	if (ns > own->time_max_ns)
		own->time_max_ns = ns;
}

static void join_the_next(struct runtime *rt)
{
	struct output_commit *own = &rt->output_commit;
	uint64_t wait = RETRY_FIRST_NS, soonest;

	if (own->captured_oldest_ns) /* older than what has come meanwhile */
		atomic_store(&own->oldest_ns, own->captured_oldest_ns);
	for (uint64_t i = 1; i < rt->failures.failing && wait < RETRY_MOST_NS; i++)
		wait *= 2;
	soonest = clock_monotonic_ns() + (wait < RETRY_MOST_NS ? wait : RETRY_MOST_NS);
	if (own->not_before_ns < soonest)
		own->not_before_ns = soonest;
}

void output_commit_settled(struct runtime *rt, int code)
{
	struct output_commit *own = &rt->output_commit;

	if (!rt->options.commit_output)
		return;
	if (code) {
		join_the_next(rt);
	} else {
		own->committed = own->captured;
		if (own->captured_oldest_ns) {
			own->generations++;
			note_time(own, clock_monotonic_ns() - own->captured_oldest_ns);
		}
	}
	own->captured_oldest_ns = 0;
	streams_settled(rt, code);
	if (rt->type->output_settled)
		rt->type->output_settled(rt->guest, code);
}

/* ---- Numbers ---- */

/* So long at most were `per_mille` of a thousand held. */
static uint64_t time_of(const struct output_commit *own, uint64_t per_mille)
{
	uint64_t left = (own->time_count * per_mille + 999) / 1000;

	for (unsigned i = 0; left && i < OUTPUT_COMMIT_BUCKETS; i++) {
		if (own->times[i] >= left)
			return bucket_end(i) < own->time_max_ns ? bucket_end(i) : own->time_max_ns;
		left -= own->times[i];
	}
	return 0;
}

void output_commit_stats(const struct runtime *rt, struct runtime_stats *stats)
{
	const struct output_commit *own = &rt->output_commit;

	stats->commits_output = rt->options.commit_output;
	stats->output_generations = own->generations;
	stats->output_held = atomic_load(&own->held) - own->committed;
	stats->output_committed = own->committed;
	stats->held_ns_p50 = time_of(own, 500);
	stats->held_ns_p99 = time_of(own, 990);
	stats->held_ns_max = own->time_max_ns;
}
