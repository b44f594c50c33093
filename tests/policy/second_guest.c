// SPDX-License-Identifier: GPL-2.0-only
/*
 * second_guest.c - the wall between policy and guests holds more than one kind: a guest that is a C function over a
 * counter, without a language, a loop of libuv, or any of the optional abilities, is run, checkpointed, restored and
 * ended by the same policy as JavaScript, and what it cannot do is refused in one line.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>

#include "../../vm/guest.h"
#include "../../vm/policy/runtime.h"
#include "support.h"

/* Its state: what it is, then what its owner knows. */
struct state {
	char magic[8];
	struct guest_common common;
};
static const char magic[8] = "COUNTER";

struct counter {
	struct guest guest;
	struct thaw *heap;
	bool restored;
};

static uint64_t limit;	     /* it counts so far, and has nothing left to do then */
static unsigned generations; /* it was told of */
static uint64_t signal_at;   /* somebody asks for its end there */
static bool asks_at_limit;   /* it asks for a checkpoint with a name there */

static uint64_t *count_of(struct guest *guest)
{
	return thaw_base(((struct counter *)guest)->heap);
}

static const struct guest_type counter_guest;

static struct guest *counter_open(struct runtime *owner, const struct guest_options *options,
				  struct thaw *heap)
{
	struct counter *counter = calloc(1, sizeof(*counter));

	(void)options;
	counter->guest.type = &counter_guest;
	counter->guest.owner = owner;
	counter->heap = heap;
	return &counter->guest;
}

static void counter_close(struct guest *guest)
{
	free(guest);
}

static int counter_restore(struct guest *guest, const void *data, size_t bytes,
			   struct thaw_error *error)
{
	const struct state *state = data;

	if (bytes != sizeof(*state) || memcmp(state->magic, magic, sizeof(magic))) {
		snprintf(error->text, sizeof(error->text), "this is no counter");
		return error->code = THAW_EDAMAGED;
	}
	guest->common = state->common;
	((struct counter *)guest)->restored = true;
	return 0;
}

static int counter_prepare(struct guest *guest, struct thaw_error *error)
{
	(void)error;
	return ((struct counter *)guest)->restored
		       ? 0
		       : thaw_resize(((struct counter *)guest)->heap, 65536);
}

static int counter_load(struct guest *guest, struct thaw_error *error)
{
	(void)guest, (void)error;
	return 0;
}

static void turn(struct guest *guest)
{
	owner_turn_begins(guest->owner);
	guest->in_turn = true;
	++*count_of(guest);
	if (asks_at_limit && *count_of(guest) == limit)
		owner_checkpoint(guest->owner, 1, "limit");
	guest->in_turn = false;
	guest->turns++;
}

static void counter_resume(struct guest *guest, uint64_t first_waiter)
{
	(void)guest, (void)first_waiter;
}

static void counter_tell_outcomes(struct guest *guest)
{
	struct guest_outcome outcome;

	while (owner_take_outcome(guest->owner, &outcome))
		generations += !outcome.result.code;
}

static bool counter_has_work(struct guest *guest)
{
	return *count_of(guest) < limit || owner_has_work(guest->owner);
}

static bool counter_run(struct guest *guest, enum guest_until until, int fd)
{
	(void)until, (void)fd;
	while (!owner_stops(guest->owner)) {
		owner_advance(guest->owner);
		counter_tell_outcomes(guest);
		if (!counter_has_work(guest))
			return true;
		if (*count_of(guest) < limit)
			turn(guest);
		else
			sched_yield();
	}
	return false;
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

static const char *counter_name(const struct guest *guest)
{
	(void)guest;
	return "/counter";
}

static const char *counter_trapped(struct guest *guest)
{
	(void)guest;
	return NULL;
}

static void *counter_save(struct guest *guest, bool changed, size_t *bytes,
			  struct thaw_error *error)
{
	struct state *state = calloc(1, sizeof(*state));

	(void)changed, (void)error;
	memcpy(state->magic, magic, sizeof(magic));
	state->common = guest->common;
	state->common.output = NULL;
	state->common.output_bytes = 0;
	*bytes = sizeof(*state);
	return state;
}

static void counter_numbers(struct guest *guest, struct guest_numbers *numbers)
{
	*numbers = (struct guest_numbers){.heap_bytes = thaw_size(((struct counter *)guest)->heap)};
}

static const struct guest_type counter_guest = {
	.identity = "counter-1",
	.max_bytes = 1 << 20,
	.open = counter_open,
	.close = counter_close,
	.restore = counter_restore,
	.prepare = counter_prepare,
	.load = counter_load,
	.start = turn,
	.resume = counter_resume,
	.run = counter_run,
	.tell_outcomes = counter_tell_outcomes,
	.has_work = counter_has_work,
	.unsettled = no,
	.settle = nothing,
	.name = counter_name,
	.save = counter_save,
	.poll_soon = nothing,
	.poll_next = nothing,
	.wake = nothing,
	.trapped = counter_trapped,
	.numbers = counter_numbers,
};

/* ---- The same as a process has it: one turn from beginning to end, which is captured where it stands ---- */

static const struct guest_type one_turn_guest;

static struct guest *process_open(struct runtime *owner, const struct guest_options *options,
				  struct thaw *heap)
{
	struct guest *guest = counter_open(owner, options, heap);

	guest->type = &one_turn_guest;
	return guest;
}

static void *process_save(struct guest *guest, bool changed, size_t *bytes,
			  struct thaw_error *error)
{
	struct state *state = counter_save(guest, changed, bytes, error);

	*bytes += GUEST_MAC_BYTES;
	return realloc(state, *bytes);
}

static int process_restore(struct guest *guest, const void *data, size_t bytes,
			   struct thaw_error *error)
{
	guest->mid_turn = true;
	return counter_restore(guest, data, bytes - GUEST_MAC_BYTES, error);
}

static const char *process_turn_refusal(struct guest *guest)
{
	(void)guest;
	return NULL;
}

static int process_restore_turn(struct guest *guest)
{
	(void)guest;
	return 0;
}

static void process_start(struct guest *guest)
{
	owner_turn_begins(guest->owner);
	guest->turn_began_ns = 1; /* long ago: nothing has to wait for its end */
	guest->in_turn = true;
}

static bool process_run(struct guest *guest, enum guest_until until, int fd)
{
	(void)until, (void)fd;
	while (!owner_poll(guest->owner)) {
		counter_tell_outcomes(guest);
		if (!counter_has_work(guest))
			return true;
		if (*count_of(guest) < limit) {
			if (++*count_of(guest) == limit && asks_at_limit)
				owner_checkpoint(guest->owner, 1, NULL);
			if (*count_of(guest) == signal_at)
				raise(SIGTERM);
		} else {
			sched_yield();
		}
	}
	return false;
}

static bool process_stoppable(struct guest *guest)
{
	return guest->in_turn;
}

static const struct guest_type one_turn_guest = {
	.identity = "process-1",
	.max_bytes = 1 << 20,
	.open = process_open,
	.close = counter_close,
	.restore = process_restore,
	.turn_refusal = process_turn_refusal,
	.restore_turn = process_restore_turn,
	.prepare = counter_prepare,
	.load = counter_load,
	.start = process_start,
	.resume_turn = process_start,
	.resume = counter_resume,
	.run = process_run,
	.tell_outcomes = counter_tell_outcomes,
	.has_work = counter_has_work,
	.unsettled = no,
	.settle = nothing,
	.name = counter_name,
	.stoppable = process_stoppable,
	.save = process_save,
	.poll_soon = nothing,
	.poll_next = nothing,
	.wake = nothing,
	.trapped = counter_trapped,
	.numbers = counter_numbers,
};

FIXTURE(guest)
{
	char *directory, *image;
	struct runtime_options options;
	struct runtime *runtime;
	struct thaw_error error;
};

FIXTURE_SETUP(guest)
{
	self->directory = support_directory();
	self->image = support_format("%s/a.thaw", self->directory);
	self->options = (struct runtime_options){
		.guest = &counter_guest, .image = self->image, .script = "/counter", .quiet = true};
	generations = 0;
	asks_at_limit = false;
}

FIXTURE_TEARDOWN(guest)
{
	support_remove(self->directory);
}

TEST_F(guest, is_run_checkpointed_and_restored)
{
	limit = 5;
	asks_at_limit = true;
	ASSERT_EQ(0, runtime_open(&self->options, &self->runtime, &self->error))
	TH_LOG("%s", self->error.text);
	EXPECT_FALSE(runtime_restored(self->runtime));
	EXPECT_EQ(0, runtime_start(self->runtime));
	EXPECT_EQ(0, runtime_run(self->runtime));
	EXPECT_EQ(1, generations);
	runtime_close(self->runtime);

	limit = 9;
	ASSERT_EQ(0, runtime_open(&self->options, &self->runtime, &self->error))
	TH_LOG("%s", self->error.text);
	EXPECT_TRUE(runtime_restored(self->runtime));
	EXPECT_EQ(5, *(uint64_t *)thaw_base(runtime_heap(self->runtime)));
	EXPECT_EQ(0, runtime_run(self->runtime));
	EXPECT_EQ(9, *(uint64_t *)thaw_base(runtime_heap(self->runtime)));
	runtime_close(self->runtime);
}

TEST_F(guest, that_is_always_in_a_turn_is_captured_in_it)
{
	setenv("THAW_KEY", "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff", 1);
	self->options.guest = &one_turn_guest;
	limit = 5;
	asks_at_limit = true;
	ASSERT_EQ(0, runtime_open(&self->options, &self->runtime, &self->error))
	TH_LOG("%s", self->error.text);
	EXPECT_EQ(0, runtime_start(self->runtime));
	EXPECT_EQ(0, runtime_run(self->runtime));
	EXPECT_EQ(1, generations);
	runtime_close(self->runtime);

	limit = 9;
	asks_at_limit = false; /* its last generation is that of its end, in the turn as well */
	ASSERT_EQ(0, runtime_open(&self->options, &self->runtime, &self->error))
	TH_LOG("%s", self->error.text);
	EXPECT_EQ(5, *(uint64_t *)thaw_base(runtime_heap(self->runtime)));
	EXPECT_EQ(THAW_KIND_BOUND, thaw_opened(runtime_heap(self->runtime))->kind);
	EXPECT_EQ(0, runtime_run(self->runtime));
	runtime_close(self->runtime);

	ASSERT_EQ(0, runtime_open(&self->options, &self->runtime, &self->error))
	TH_LOG("%s", self->error.text);
	EXPECT_EQ(9, *(uint64_t *)thaw_base(runtime_heap(self->runtime)));
	runtime_close(self->runtime);

	/* Signed, as every generation of that kind is. */
	setenv("THAW_KEY", "ff112233445566778899aabbccddeeff00112233445566778899aabbccddeeff", 1);
	EXPECT_EQ(THAW_EENGINE, runtime_open(&self->options, &self->runtime, &self->error));
	EXPECT_NE(NULL, strstr(self->error.text, "not made with your key"));
	unsetenv("THAW_KEY");
}

TEST_F(guest, that_is_always_in_a_turn_is_ended_by_a_signal)
{
	setenv("THAW_KEY", "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff", 1);
	self->options.guest = &one_turn_guest;
	limit = UINT64_MAX;
	signal_at = 5;
	ASSERT_EQ(0, runtime_open(&self->options, &self->runtime, &self->error))
	TH_LOG("%s", self->error.text);
	EXPECT_EQ(0, runtime_start(self->runtime));
	EXPECT_EQ(128 + SIGTERM, runtime_run(self->runtime));
	limit = *(uint64_t *)thaw_base(runtime_heap(self->runtime));
	EXPECT_LE(5, limit);
	runtime_close(self->runtime);

	ASSERT_EQ(0, runtime_open(&self->options, &self->runtime, &self->error))
	TH_LOG("%s", self->error.text);
	EXPECT_EQ(limit, *(uint64_t *)thaw_base(runtime_heap(self->runtime)));
	EXPECT_EQ(THAW_REASON_SIGNAL, thaw_opened(runtime_heap(self->runtime))->reason);
	runtime_close(self->runtime);
	unsetenv("THAW_KEY");
}

TEST_F(guest, another_kind_does_not_continue_its_image)
{
	limit = 2;
	ASSERT_EQ(0, runtime_open(&self->options, &self->runtime, &self->error));
	EXPECT_EQ(0, runtime_start(self->runtime));
	EXPECT_EQ(0, runtime_run(self->runtime));
	runtime_close(self->runtime);
	self->options.guest = NULL; /* JavaScript */
	EXPECT_EQ(THAW_EENGINE, runtime_open(&self->options, &self->runtime, &self->error));
}

TEST_F(guest, what_it_cannot_do_is_refused_in_one_line)
{
	char *path = support_format("%s/stderr", self->directory), said[256] = "";
	int before = dup(STDERR_FILENO), file = open(path, O_RDWR | O_CREAT, 0600);
	struct runtime_answer answer;
	int code;

	limit = 2;
	ASSERT_LE(0, file);
	ASSERT_EQ(0, runtime_open(&self->options, &self->runtime, &self->error));
	EXPECT_EQ(0, runtime_start(self->runtime));
	dup2(file, STDERR_FILENO);
	code = runtime_eval(self->runtime, "1", 1, "test", &answer);
	runtime_close(self->runtime);
	dup2(before, STDERR_FILENO);
	EXPECT_EQ(EXIT_USAGE, code);
	EXPECT_EQ(NULL, answer.text);
	EXPECT_LT(0, pread(file, said, sizeof(said) - 1, 0));
	EXPECT_NE(NULL, strstr(said, "cannot evaluate code"));
	EXPECT_EQ(strchr(said, '\n'), strrchr(said, '\n'));
	close(file);
	close(before);
	free(path);
}

TEST_HARNESS_MAIN
