// SPDX-License-Identifier: GPL-2.0-only
/*
 * output_commit.c - a guest that holds its output is told when that may leave: once a generation is durable that has
 * its cause, also where nothing had to be written for it, and never before; what a failed one had goes with the next.
 * The guest is a C function over a counter, which says each number that it reaches.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <sched.h>

#include "../../vm/base/clock.h"
#include "../../vm/guest.h"
#include "../../vm/policy/runtime.h"
#include "support.h"

struct speaker {
	struct guest guest;
	struct thaw *heap;
	bool commits;
	uint64_t said, captured, released; /* numbers */
};

/* What the test wants and finds. */
static struct {
	uint64_t limit;	      /* it counts so far */
	uint64_t silent_from; /* and says nothing from here on; 0: it says all */
	unsigned settled, failed;
	uint64_t released, first_generation;
	bool early; /* something left before its cause was durable */
	uint64_t begun_ns[64];
	const char *image,
		*away; /* the image is taken away at `limit`, and comes back after a failure */
} test;

static struct speaker *speaker_of(struct guest *guest)
{
	return (struct speaker *)guest;
}

static uint64_t *count_of(struct guest *guest)
{
	return thaw_base(speaker_of(guest)->heap);
}

static const struct guest_type speaker_guest;

static struct guest *speaker_open(struct runtime *owner, const struct guest_options *options,
				  struct thaw *heap)
{
	struct speaker *speaker = calloc(1, sizeof(*speaker));

	speaker->guest.type = &speaker_guest;
	speaker->guest.owner = owner;
	speaker->heap = heap;
	speaker->commits = options->commit_output;
	test.first_generation = thaw_opened(heap)->number;
	return &speaker->guest;
}

static void speaker_close(struct guest *guest)
{
	free(guest);
}

static int speaker_restore(struct guest *guest, const void *state, size_t bytes,
			   struct thaw_error *error)
{
	(void)guest, (void)state, (void)bytes, (void)error;
	return 0;
}

static int speaker_prepare(struct guest *guest, struct thaw_error *error)
{
	(void)error;
	return thaw_size(speaker_of(guest)->heap) ? 0 : thaw_resize(speaker_of(guest)->heap, 65536);
}

static int speaker_load(struct guest *guest, struct thaw_error *error)
{
	(void)guest, (void)error;
	return 0;
}

static void say(struct speaker *speaker, uint64_t number)
{
	if (!speaker->commits || (test.silent_from && number >= test.silent_from))
		return;
	speaker->said = number;
	owner_output_held(speaker->guest.owner, 1);
}

static void turn(struct guest *guest)
{
	owner_turn_begins(guest->owner);
	guest->in_turn = true;
	say(speaker_of(guest), ++*count_of(guest));
	if (*count_of(guest) == test.limit && test.away)
		rename(test.image, test.away);
	guest->in_turn = false;
	guest->turns++;
}

static void speaker_resume(struct guest *guest, uint64_t first_waiter)
{
	(void)guest, (void)first_waiter;
}

static void speaker_tell_outcomes(struct guest *guest)
{
	(void)guest;
}

static bool is_waiting(struct speaker *speaker)
{
	return speaker->said > speaker->released;
}

/* It ends once all that it has said is out. */
static bool speaker_run(struct guest *guest, enum guest_until until, int fd)
{
	(void)until, (void)fd;
	while (!owner_stops(guest->owner)) {
		owner_advance(guest->owner);
		if (*count_of(guest) < test.limit)
			turn(guest);
		else if (!is_waiting(speaker_of(guest)))
			return true;
		else
			sched_yield();
	}
	return false;
}

static bool has_work(struct guest *guest)
{
	return *count_of(guest) < test.limit || is_waiting(speaker_of(guest));
}

static bool no(struct guest *guest)
{
	(void)guest;
	return false;
}

static void nothing(struct guest *guest)
{
	(void)guest;
}

static const char *name(const struct guest *guest)
{
	(void)guest;
	return "/speaker";
}

static const char *not_trapped(struct guest *guest)
{
	(void)guest;
	return NULL;
}

static void *speaker_save(struct guest *guest, bool changed, size_t *bytes,
			  struct thaw_error *error)
{
	(void)guest, (void)changed, (void)error;
	*bytes = 1;
	return calloc(1, 1);
}

static void speaker_captured(struct guest *guest, int code)
{
	if (!code)
		speaker_of(guest)->captured = speaker_of(guest)->said;
}

static void speaker_settled(struct guest *guest, int code)
{
	struct speaker *speaker = speaker_of(guest);
	struct thaw_status status;

	thaw_status(speaker->heap, &status);
	if (code) {
		test.failed++;
		if (test.away)
			rename(test.away, test.image);
		return;
	}
	/* What no new generation has, none of this process can have. */
	test.early |= speaker->captured > speaker->released &&
		      status.generation <= test.first_generation;
	test.settled += speaker->captured > speaker->released;
	speaker->released = speaker->captured;
	test.released = speaker->released;
}

static void numbers(struct guest *guest, struct guest_numbers *numbers)
{
	*numbers = (struct guest_numbers){.heap_bytes = thaw_size(speaker_of(guest)->heap)};
}

static const struct guest_type speaker_guest = {
	.identity = "speaker-1",
	.max_bytes = 1 << 20,
	.open = speaker_open,
	.close = speaker_close,
	.restore = speaker_restore,
	.prepare = speaker_prepare,
	.load = speaker_load,
	.start = turn,
	.resume = speaker_resume,
	.run = speaker_run,
	.tell_outcomes = speaker_tell_outcomes,
	.has_work = has_work,
	.unsettled = no,
	.settle = nothing,
	.name = name,
	.save = speaker_save,
	.captured = speaker_captured,
	.output_settled = speaker_settled,
	.poll_soon = nothing,
	.poll_next = nothing,
	.wake = nothing,
	.trapped = not_trapped,
	.numbers = numbers,
};

FIXTURE(speaker)
{
	char *directory, *image;
	struct runtime_options options;
	struct runtime *runtime;
	struct thaw_error error;
	struct runtime_stats stats;
};

FIXTURE_SETUP(speaker)
{
	self->directory = support_directory();
	self->image = support_format("%s/a.thaw", self->directory);
	self->options = (struct runtime_options){.guest = &speaker_guest,
						 .image = self->image,
						 .script = "/speaker",
						 .quiet = true,
						 .commit_output = true};
	memset(&test, 0, sizeof(test));
	test.image = self->image;
}

FIXTURE_TEARDOWN(speaker)
{
	support_remove(self->directory);
}

/* To its end. */
static int run(struct __test_metadata *_metadata, FIXTURE_DATA(speaker) * self)
{
	int code;

	ASSERT_EQ(0, runtime_open(&self->options, &self->runtime, &self->error))
	TH_LOG("%s", self->error.text);
	code = runtime_restored(self->runtime) ? 0 : runtime_start(self->runtime);
	EXPECT_EQ(0, code);
	code = runtime_run(self->runtime);
	runtime_stats(self->runtime, &self->stats);
	runtime_close(self->runtime);
	return code;
}

/* How many generations of that reason the image lists. */
static unsigned listed(const char *image, enum thaw_reason reason)
{
	const struct thaw_generation *list;
	struct thaw_image *opened;
	unsigned count = 0;

	thaw_image_settle(image, NULL);
	if (thaw_image_open(image, &opened, NULL))
		return 0;
	for (unsigned i = thaw_image_log(opened, &list); i--;)
		count += list[i].reason == (uint32_t)reason;
	thaw_image_close(opened);
	return count;
}

TEST_F(speaker, what_is_held_leaves_once_its_cause_is_durable)
{
	test.limit = 200;
	EXPECT_EQ(0, run(_metadata, self));
	EXPECT_EQ(200, test.released);
	EXPECT_FALSE(test.early);
	EXPECT_EQ(0, test.failed);
	EXPECT_LE(1, test.settled);
	EXPECT_EQ(200, self->stats.output_committed);
	EXPECT_EQ(0, self->stats.output_held);
	EXPECT_EQ(test.settled, self->stats.output_generations);
	EXPECT_LT(0, self->stats.held_ns_p50);
	EXPECT_LE(self->stats.held_ns_p50, self->stats.held_ns_p99);
	EXPECT_LE(self->stats.held_ns_p99, self->stats.held_ns_max);
	EXPECT_LE(1, listed(self->image, THAW_REASON_OUTPUT));
	EXPECT_STREQ("output", thaw_reason_name(THAW_REASON_OUTPUT));
}

TEST_F(speaker, nothing_is_begun_for_a_guest_that_says_nothing)
{
	test.limit = 200;
	test.silent_from = 1;
	EXPECT_EQ(0, run(_metadata, self));
	EXPECT_EQ(0, self->stats.output_generations);
	EXPECT_EQ(0, listed(self->image, THAW_REASON_OUTPUT));
}

TEST_F(speaker, many_that_wait_share_a_generation)
{
	test.limit = 100000;
	EXPECT_EQ(0, run(_metadata, self));
	EXPECT_EQ(100000, test.released);
	EXPECT_LT(self->stats.output_generations, 50000);
}

TEST_F(speaker, such_generations_keep_their_distance)
{
	uint64_t began = clock_monotonic_ns();

	self->options.commit_interval_ns = 20000000;
	test.limit = 1;
	EXPECT_EQ(0, run(_metadata, self));
	test.limit = 100000;
	EXPECT_EQ(0, run(_metadata, self));
	EXPECT_EQ(100000, test.released);
	EXPECT_LE(self->stats.output_generations,
		  (clock_monotonic_ns() - began) / self->options.commit_interval_ns + 1);
}

TEST_F(speaker, what_a_failed_generation_had_goes_with_the_next)
{
	test.limit = 1;
	EXPECT_EQ(0, run(_metadata, self));
	EXPECT_EQ(1, test.released);
	test.away = support_format("%s/away.thaw", self->directory);
	test.limit = 2;
	test.released = 0;
	EXPECT_EQ(0, run(_metadata, self));
	EXPECT_LE(1, test.failed);
	EXPECT_EQ(2, test.released);
	EXPECT_FALSE(test.early);
	EXPECT_EQ(1, self->stats.output_committed);
}

TEST_F(speaker, without_the_option_nothing_is_held)
{
	self->options.commit_output = false;
	test.limit = 200;
	EXPECT_EQ(0, run(_metadata, self));
	EXPECT_EQ(0, test.settled);
	EXPECT_EQ(0, listed(self->image, THAW_REASON_OUTPUT));
}

TEST_F(speaker, there_is_more_to_go_back_to_than_the_last_milliseconds)
{
	const struct thaw_generation *list;
	struct thaw_image *image;
	unsigned count;

	/* Two seconds of the clock, each with more generations than are kept by default. */
	for (unsigned second = 0; second < 2; second++) {
		uint64_t now = clock_wall_ns();

		while (second && clock_wall_ns() / 1000000000 == now / 1000000000)
			sched_yield();
		for (unsigned i = 0; i < 10; i++) {
			test.limit++;
			EXPECT_EQ(0, run(_metadata, self));
		}
	}
	thaw_image_settle(self->image, NULL);
	ASSERT_EQ(0, thaw_image_open(self->image, &image, NULL));
	count = thaw_image_log(image, &list);
	EXPECT_LT(8, count);
	EXPECT_GT(list[count - 1].time_ns / 1000000000, list[0].time_ns / 1000000000);
	thaw_image_close(image);
}

TEST_HARNESS_MAIN
