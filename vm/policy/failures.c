/* SPDX-License-Identifier: MIT */
/*
 * failures.c - what fails again and again: checkpoints that cannot be made, and programs that fail
 * whenever they are continued. Who is told, how often, and what there is to do.
 *
 * Owns the book of both (struct runtime, "failures.c"). Called by checkpoints.c, owner.c and runtime.c
 * on the owner's thread. Must never let a failure keep quiet: a failing checkpoint is warned about
 * again at growing intervals for as long as it fails, its end is told, and an end of the program that
 * loses something says what.
 */
#define _GNU_SOURCE
#define XXH_INLINE_ALL
#include <xxhash.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "internal.h"

/* Between two warnings: twice as long each time. */
#define WARN_FIRST_NS 1000000000ull
#define WARN_MOST_NS 3600000000000ull
/* Without an interval: when what was asked for and failed is tried again. */
#define RETRY_FIRST_NS 1000000000ull
#define RETRY_MOST_NS 60000000000ull

struct words {
	char text[160];
};
struct span {
	char text[32];
};

static struct span duration(uint64_t ns)
{
	static const struct {
		uint64_t ns;
		const char *name;
	} units[] = {{86400000000000ull, "d"},
		     {3600000000000ull, "h"},
		     {60000000000ull, "min"},
		     {1000000000ull, "s"}};
	struct span span = {"under 1 s"};

	for (unsigned i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		if (ns >= units[i].ns) {
			snprintf(span.text, sizeof(span.text), "%llu %s",
				 (unsigned long long)(ns / units[i].ns), units[i].name);
			break;
		}
	}
	return span;
}

/* What is not lost, whatever happens now. */
static struct words newest_durable(struct runtime *rt)
{
	struct thaw_status status;
	struct words words;
	uint64_t now_ns;

	thaw_status(rt->heap, &status);
	now_ns = clock_wall_ns();
	if (!status.generation)
		snprintf(words.text, sizeof(words.text), "no generation is durable yet");
	else
		snprintf(words.text, sizeof(words.text), "newest durable generation %llu, %s old",
			 (unsigned long long)status.generation,
			 duration(now_ns > status.generation_time_ns
					  ? now_ns - status.generation_time_ns
					  : 0)
				 .text);
	return words;
}

/* ---- Checkpoints ---- */

static struct words times_in_a_row(const struct runtime *rt, uint64_t now)
{
	struct words words = {""};

	if (rt->failures.failing > 1)
		snprintf(words.text, sizeof(words.text), " again (%llu times in %s)",
			 (unsigned long long)rt->failures.failing,
			 duration(now - rt->failures.failing_since_ns).text);
	return words;
}

void failures_checkpoint(struct runtime *rt, const char *text)
{
	uint64_t now = clock_monotonic_ns();

	if (!rt->failures.failing++) {
		rt->failures.failing_since_ns = rt->failures.next_warning_ns = now;
		rt->failures.warning_interval_ns = WARN_FIRST_NS;
	}
	snprintf(rt->failures.text, sizeof(rt->failures.text), "%s", text);
	if (rt->checkpoints.last || now < rt->failures.next_warning_ns)
		return; /* failures_at_end() says it, or it was said */
	owner_tell(
		rt,
		"thaw: checkpoint failed%s: %s; %s; the program goes on, its changes stay in memory\n",
		times_in_a_row(rt, now).text, text, newest_durable(rt).text);
	rt->failures.next_warning_ns = now + rt->failures.warning_interval_ns;
	if (rt->failures.warning_interval_ns < WARN_MOST_NS)
		rt->failures.warning_interval_ns *= 2;
}

void failures_recovered(struct runtime *rt, uint64_t generation)
{
	if (rt->failures.failing)
		owner_tell(rt,
			   "thaw: checkpoints work again: generation %llu, after %llu %s in %s\n",
			   (unsigned long long)generation, (unsigned long long)rt->failures.failing,
			   rt->failures.failing == 1 ? "failure" : "failures",
			   duration(clock_monotonic_ns() - rt->failures.failing_since_ns).text);
	rt->failures.failing = 0;
	rt->failures.text[0] = '\0';
}

uint64_t failures_retry_ns(const struct runtime *rt)
{
	uint64_t wait = RETRY_FIRST_NS;

	for (uint64_t i = 1; i < rt->failures.failing && wait < RETRY_MOST_NS; i++)
		wait *= 2;
	return wait < RETRY_MOST_NS ? wait : RETRY_MOST_NS;
}

void failures_at_end(struct runtime *rt)
{
	if (rt->failures.loss_told)
		return;
	rt->failures.loss_told = true;
	owner_tell(rt, "thaw: the last checkpoint failed%s: %s; what came after is lost: %s\n",
		   times_in_a_row(rt, clock_monotonic_ns()).text, rt->failures.text,
		   newest_durable(rt).text);
}

/* ---- Programs ---- */

struct thaw_error failures_advice(struct runtime *rt, uint64_t generation)
{
	const struct thaw_generation *list = NULL;
	struct thaw_error way = {0};
	unsigned long long before = 0;
	struct thaw_image *image;
	unsigned count = 0;

	if (!thaw_image_of(rt->heap, &image, &way))
		count = thaw_image_log(image, &list);
	for (unsigned i = 0; i < count; i++)
		if (list[i].number < generation)
			before = list[i].number;
	thaw_image_close(image);
	if (before && rt->type->upgrade)
		snprintf(
			way.text, sizeof(way.text),
			"go back to the one before with --at %llu, mend the program and go on with thaw run --upgrade, or start anew with --fresh",
			before);
	else if (before)
		snprintf(way.text, sizeof(way.text),
			 "go back to the one before with --at %llu, or start anew with --fresh",
			 before);
	else
		snprintf(way.text, sizeof(way.text),
			 "the image holds none before it: %sstart anew with --fresh",
			 rt->type->upgrade
				 ? "mend the program and go on with thaw run --upgrade, or "
				 : "");
	return way;
}

void failures_trapped(struct runtime *rt, const char *reason)
{
	struct thaw_status status;
	unsigned long long newest;
	int failures;

	thaw_status(rt->heap, &status);
	newest = status.generation;
	if (!rt->options.image || !newest) {
		owner_tell(rt, "thaw: the engine trapped: %s\n", reason);
		return;
	}
	rt->failures.noted = true;
	failures = thaw_failed(rt->heap);
	if (failures < FAILURES_MAX)
		owner_tell(
			rt,
			"thaw: the engine trapped: %s; the next run continues from generation %llu\n",
			reason, newest);
	else
		owner_tell(
			rt,
			"thaw: the engine trapped: %s; generation %llu was continued %d times and ended like this each time; %s\n",
			reason, newest, failures, failures_advice(rt, newest).text);
}

bool failures_unreadable(struct runtime *rt, int signo)
{
	struct thaw_status status;

	thaw_status(rt->heap, &status);
	if ((signo != SIGBUS && signo != SIGSEGV) || !status.poison_error.code)
		return false;
	owner_tell(rt, "thaw: a page of the program could not be read, which has ended it: %s\n",
		   status.poison_error.text);
	rt->failures.noted = true;
	return true;
}

void failures_ended(struct runtime *rt, const char *how, bool crashed)
{
	struct thaw_status status;

	thaw_status(rt->heap, &status);
	if (!rt->options.quiet && status.generation)
		owner_tell(rt,
			   "thaw: the program %s; the next start goes on from generation %llu\n",
			   how, (unsigned long long)status.generation);
	else if (!rt->options.quiet)
		owner_tell(
			rt,
			"thaw: the program %s; no generation was durable: the next start begins anew\n",
			how);
	rt->failures.noted = true;
	if (crashed)
		failures_crashed(rt, how);
}

void failures_crashed(struct runtime *rt, const char *how)
{
	XXH128_canonical_t hash;
	uint64_t what;
	int failures;

	/* Whoever asks a program something fails for himself. */
	if (!rt->restored || !rt->options.script || rt->evaluation.used)
		return;
	rt->failures.noted = true;
	XXH128_canonicalFromHash(&hash, XXH3_128bits(how, strlen(how)));
	memcpy(&what, hash.digest, sizeof(what));
	failures = thaw_failed_with(rt->heap, what ? what : 1);
	if (failures >= FAILURES_MAX) {
		unsigned long long number = thaw_opened(rt->heap)->number;

		owner_tell(
			rt,
			"thaw: generation %llu was continued %d times and ended like this each time; %s\n",
			number, failures, failures_advice(rt, number).text);
	}
}
