// SPDX-License-Identifier: GPL-2.0-only
/*
 * javascript_traps.c - a program whose engine is stopped by its sandbox: it ends with the reason, and
 * the next run goes on from the last generation. One that traps whenever it is continued is not
 * continued for ever.
 *
 * No JavaScript is known to trap the engine. So the test damages a heap: a generation of its own in
 * which the prelude's entry function lies where no memory is, or what a turn that was stopped works on.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include "by_path.h"
#include "../../vm/js/state/blob.h"
#include "../../vm/policy/runtime.h"
#include "support.h"

FIXTURE(traps)
{
	char *directory, *script, *image;
	struct program program;
};
FIXTURE_SETUP(traps)
{
	self->directory = support_directory();
	self->script = support_format("%s/app.js", self->directory);
	self->image = support_format("%s/app.thaw", self->directory);
	support_own_key(self->directory);
	support_write(self->script, "let n = 0\n"
				    "setInterval(() => console.log('n', ++n), 10)\n");
}
FIXTURE_TEARDOWN(traps)
{
	program_free(&self->program);
	free(self->script);
	free(self->image);
	support_remove(self->directory);
}

static struct thaw *open_image(const char *image)
{
	const struct thaw_options options = {
		.image = image,
		.max_bytes = JS_HEAP_MAX_BYTES,
		.guard_bytes = JS_HEAP_GUARD_BYTES,
		.engine = js_engine_identity,
	};
	struct thaw_error error;
	struct thaw *heap;

	if (thaw_open(&options, &heap, &error))
		support_die(error.text);
	return heap;
}

#define NOWHERE 0xf0000000u

static uint64_t store_again(struct thaw *heap, enum thaw_kind kind)
{
	struct thaw_result result = {.code = -ECANCELED};
	size_t bytes;
	const void *state = thaw_state(heap, &bytes);

	if (thaw_checkpoint_begin(heap, THAW_REASON_REQUEST) ||
	    thaw_checkpoint_wait(heap) != THAW_READY ||
	    thaw_checkpoint_capture(heap, kind, state, bytes) ||
	    thaw_checkpoint_wait(heap) != THAW_DONE ||
	    thaw_checkpoint_poll(heap, &result) != THAW_DONE || result.code)
		support_die("no generation could be made");
	return result.generation.number;
}

/* What the state of the heap says. The caller clears it. */
static struct js_blob blob_of(struct thaw *heap)
{
	struct thaw_error error;
	struct js_blob blob;
	size_t bytes;
	const void *state = thaw_state(heap, &bytes);

	if (js_blob_decode(state, bytes, &blob, &error))
		support_die(error.text);
	return blob;
}

/* The newest generation again, its entry function in the void. Returns the new one's number. */
static uint64_t damage(const char *image)
{
	struct thaw *heap = open_image(image);
	struct js_blob blob = blob_of(heap);
	const uint32_t nowhere = NOWHERE;
	uint64_t number;

	memcpy((char *)thaw_base(heap) + blob.enter, &nowhere, sizeof(nowhere));
	number = store_again(heap, THAW_KIND_PORTABLE);
	js_blob_clear(&blob);
	thaw_close(heap);
	return number;
}

/* The same of one in the middle of a turn: every object that a frame of it knows is in the void. */
static uint64_t damage_turn(const char *image)
{
	struct thaw *heap = open_image(image);
	struct js_blob blob = blob_of(heap);
	const uint64_t nowhere = 0xffffffffull << 32 | NOWHERE;
	char *frames = (char *)thaw_base(heap) + blob.small.stack_pointer;
	uint64_t number, word;

	for (unsigned i = 0; i < 4096; i += sizeof(word)) {
		memcpy(&word, frames + i, sizeof(word));
		if (word >> 32 == 0xffffffff) /* the tag of objects */
			memcpy(frames + i, &nowhere, sizeof(nowhere));
	}
	number = store_again(heap, THAW_KIND_BOUND);
	js_blob_clear(&blob);
	thaw_close(heap);
	return number;
}

static uint64_t newest(const char *image)
{
	struct thaw *heap = open_image(image);
	uint64_t number = thaw_opened(heap)->number;

	thaw_close(heap);
	return number;
}

/* Run the program until it has counted for a while, then end it. */
static void count_some(struct __test_metadata *_metadata, struct program *program,
		       const char *const arguments[])
{
	*program = program_start(arguments);
	ASSERT_TRUE(program_wait_for(program, "n ", 60)) TH_LOG("%s", program->errors);
	support_sleep(0.1);
	kill(program->pid, SIGTERM);
	EXPECT_EQ(143, program_finish(program, 60));
	program_free(program);
}

/* Three times it is tried again, then not any more, and the generation before is offered. */
static void try_again(struct __test_metadata *_metadata, FIXTURE_DATA(traps) * self,
		      uint64_t number, const char *offer)
{
	for (int i = 1; i <= 3; i++) {
		EXPECT_EQ(EXIT_ENGINE_TRAP,
			  program_run(&self->program, NULL, THAW("run", self->script)));
		EXPECT_NE(NULL, strstr(self->program.errors, "trapped"))
		TH_LOG("%s", self->program.errors);
		/* The first two say where the next run goes on, the third offers the one before. */
		EXPECT_EQ(i == 3, strstr(self->program.errors, offer) != NULL)
		TH_LOG("%d: %s", i, self->program.errors);
		program_free(&self->program);
		EXPECT_EQ(number, newest(self->image));
	}
	EXPECT_EQ(EXIT_ENGINE_TRAP, program_run(&self->program, NULL, THAW("run", self->script)));
	EXPECT_NE(NULL, strstr(self->program.errors, offer)) TH_LOG("%s", self->program.errors);
	EXPECT_NE(NULL, strstr(self->program.errors, "3 times"));
	program_free(&self->program);
}

TEST_F(traps, repeated_are_noticed)
{
	char *before, *offer, *at;
	uint64_t number;

	count_some(_metadata, &self->program, THAW("run", self->script));
	before = support_format("%llu", (unsigned long long)newest(self->image));
	number = damage(self->image);
	at = support_format("%llu", (unsigned long long)number);
	offer = support_format("--at %s", before);

	try_again(_metadata, self, number, offer);
	/* Not again, unless it is asked for by number. */
	EXPECT_EQ(EXIT_ENGINE_TRAP,
		  program_run(&self->program, NULL, THAW("run", "--at", at, self->script)));
	EXPECT_NE(NULL, strstr(self->program.errors, "trapped:"))
	TH_LOG("%s", self->program.errors);
	program_free(&self->program);
	/* The offer holds, and after it all is as before. */
	count_some(_metadata, &self->program, THAW("run", "--at", before, self->script));
	EXPECT_GT(newest(self->image), number);
	count_some(_metadata, &self->program, THAW("run", self->script));
	free(before);
	free(offer);
	free(at);
}

TEST_F(traps, in_a_turn_that_is_continued_are_noticed)
{
	char *before, *offer;

	support_write(self->script,
		      "setTimeout(() => {\n"
		      "	const counted = { n: 0 }\n"
		      "	for (;;) if (++counted.n % 100000 === 0) console.log('n', counted.n)\n"
		      "}, 1)\n");
	self->program = program_start(THAW("run", "--every", "10ms", self->script));
	ASSERT_TRUE(program_wait_for(&self->program, "n ", 60)) TH_LOG("%s", self->program.errors);
	kill(self->program.pid, SIGTERM);
	EXPECT_EQ(143, program_finish(&self->program, 60));
	program_free(&self->program);
	before = support_format("%llu", (unsigned long long)newest(self->image));
	offer = support_format("--at %s", before);

	try_again(_metadata, self, damage_turn(self->image), offer);
	/* The one before is in the middle of the turn, too. */
	self->program = program_start(THAW("run", "-v", "--at", before, self->script));
	ASSERT_TRUE(program_wait_for(&self->program, "n ", 60)) TH_LOG("%s", self->program.errors);
	EXPECT_NE(NULL, strstr(self->program.errors, "in the middle of a turn"))
	TH_LOG("%s", self->program.errors);
	program_kill(&self->program);
	free(before);
	free(offer);
}

/* Each life got on before it trapped: nothing is refused, however often. */
TEST_F(traps, progress_in_between_counts)
{
	for (int i = 0; i < 5; i++) {
		count_some(_metadata, &self->program, THAW("run", self->script));
		damage(self->image);
		EXPECT_EQ(EXIT_ENGINE_TRAP,
			  program_run(&self->program, NULL, THAW("run", self->script)));
		EXPECT_EQ(NULL, strstr(self->program.errors, "--at"))
		TH_LOG("%s", self->program.errors);
		program_free(&self->program);
		{
			struct thaw_generation *list;
			struct thaw_error error;
			int count = path_log(self->image, &list, &error);
			char *at;

			ASSERT_GT(count, 1);
			at = support_format("%llu", (unsigned long long)list[count - 2].number);
			count_some(_metadata, &self->program,
				   THAW("run", "--at", at, self->script));
			free(at);
			free(list);
		}
	}
}

TEST_HARNESS_MAIN
