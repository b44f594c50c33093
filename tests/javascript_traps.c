// SPDX-License-Identifier: GPL-2.0-only
/*
 * javascript_traps.c - a program whose engine is stopped by its sandbox: it ends with the reason, and
 * the next run goes on from the last generation. One that traps whenever it is continued is not
 * continued for ever.
 *
 * No JavaScript is known to trap the engine. So the test damages a heap: a generation of its own in
 * which the prelude's entry function lies where no memory is.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include "../vm/js/blob.h"
#include "../vm/runtime.h"
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

/* The newest generation again, its entry function in the void. Returns the new one's number. */
static uint64_t damage(const char *image)
{
	struct thaw *heap = open_image(image);
	struct thaw_result result;
	struct thaw_error error;
	struct js_blob blob;
	size_t bytes;
	const void *state = thaw_state(heap, &bytes);
	uint32_t nowhere = 0xf0000000;

	if (js_blob_decode(state, bytes, &blob, &error))
		support_die(error.text);
	memcpy((char *)thaw_base(heap) + blob.enter, &nowhere, sizeof(nowhere));
	if (thaw_checkpoint(heap, THAW_REASON_REQUEST, state, bytes, &result))
		support_die(result.error.text);
	js_blob_clear(&blob);
	thaw_close(heap);
	return result.generation.number;
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

TEST_F(traps, repeated_are_noticed)
{
	char *before, *offer, *at;
	uint64_t number;

	count_some(_metadata, &self->program, THAW("run", self->script));
	before = support_format("%llu", (unsigned long long)newest(self->image));
	number = damage(self->image);
	at = support_format("%llu", (unsigned long long)number);
	offer = support_format("--at %s", before);

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
	/* Not again, unless it is asked for by number. */
	EXPECT_EQ(EXIT_ENGINE_TRAP, program_run(&self->program, NULL, THAW("run", self->script)));
	EXPECT_NE(NULL, strstr(self->program.errors, offer)) TH_LOG("%s", self->program.errors);
	EXPECT_NE(NULL, strstr(self->program.errors, "3 times"));
	program_free(&self->program);
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
			int count = thaw_image_log(self->image, &list, &error);
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
