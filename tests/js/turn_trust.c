// SPDX-License-Identifier: GPL-2.0-only
/*
 * turn_trust.c - who may continue a generation in the middle of a turn: another build, another address, a copy, a stranger,
 * a forger, somebody without a key; and what happens instead.
 */
#define _GNU_SOURCE
#include <sys/mman.h>

#include "kselftest_harness.h"

#include "../../vm/js/state/blob.h"
#include "../../vm/policy/runtime.h"
#include "stopped_turn.h"

/* A copy of thaw that is another build: one bit of its build-id differs. */
static char *other_build(const char *directory)
{
	char *path = support_format("%s/thaw-other", directory), *bytes;
	char *copy = support_format("cp %s %s", THAW_BINARY, path);
	uint64_t size;
	FILE *file;
	char *at = NULL;

	if (system(copy))
		support_die(copy);
	free(copy);
	size = support_size(path);
	bytes = malloc(size);
	file = fopen(path, "re");
	if (!bytes || !file || fread(bytes, 1, size, file) != size)
		support_die(path);
	fclose(file);
	/* namesz 4, descsz 20, NT_GNU_BUILD_ID, "GNU" */
	at = memmem(bytes, size, "\4\0\0\0\24\0\0\0\3\0\0\0GNU", 16);
	if (!at)
		support_die("no build-id");
	support_flip(path, (uint64_t)(at + 16 - bytes), 1);
	free(bytes);
	return path;
}

TEST_F(stopping, another_build_goes_back_to_between_turns)
{
	char *other = other_build(self->directory), *at, *line;
	struct thaw_generation between, last;

	leave_in_a_turn(_metadata, self);
	between = newest_of_kind(self->image, THAW_KIND_PORTABLE);
	last = newest(self->image);

	/* Asked for by number, it is that or nothing. */
	at = support_format("%llu", (unsigned long long)last.number);
	EXPECT_EQ(EXIT_IMAGE_FOREIGN,
		  program_run(&self->program, NULL,
			      (const char *const[]){other, "run", "--at", at, self->script, NULL}));
	EXPECT_NE(NULL, strstr(self->program.errors, "only the build that wrote it"))
	TH_LOG("%s", self->program.errors);
	free(at);
	program_free(&self->program);
	EXPECT_EQ(last.number, newest(self->image).number);

	/* Who only asks something gets no answer from an older generation, and gives up nothing. */
	EXPECT_EQ(EXIT_IMAGE_FOREIGN,
		  program_run(&self->program, NULL,
			      (const char *const[]){other, "-i", self->image, "-p", "1", NULL}));
	EXPECT_NE(NULL, strstr(self->program.errors, "only the build that wrote it"));
	program_free(&self->program);
	EXPECT_EQ(last.number, newest(self->image).number);

	self->program = program_start((const char *const[]){other, "run", self->script, NULL});
	ASSERT_TRUE(program_wait_for(&self->program, "loop 0", 60))
	{
		TH_LOG("%s", self->program.errors);
	}
	program_kill(&self->program);
	line = support_format("going on from generation %llu,", (unsigned long long)between.number);
	EXPECT_NE(NULL, strstr(self->program.errors, line)) TH_LOG("%s", self->program.errors);
	EXPECT_EQ(strchr(self->program.errors, '\n'), strrchr(self->program.errors, '\n'));
	free(line);
	free(other);
}

/* Where there is nothing to go back to, nothing is thrown away. */
TEST_F(stopping, another_build_refuses_what_it_cannot_continue)
{
	char *other = other_build(self->directory);
	uint64_t last;

	support_write(self->script, endless);
	self->program = program_start(THAW("run", "--every", "10ms", self->script));
	ASSERT_TRUE(wait_for_generation(&self->program, self->image, 3, THAW_KIND_BOUND, 60));
	kill_and_settle(_metadata, self);
	last = newest(self->image).number;
	EXPECT_EQ(EXIT_IMAGE_FOREIGN,
		  program_run(&self->program, NULL,
			      (const char *const[]){other, "run", self->script, NULL}));
	EXPECT_NE(NULL, strstr(self->program.errors, "--fresh"))
	TH_LOG("%s", self->program.errors);
	EXPECT_EQ(last, newest(self->image).number);
	free(other);
}

/* The engine's place, and the heap's. (This test is another build as well; addresses come first.) */
TEST_F(stopping, a_taken_address_goes_back_to_between_turns)
{
	void *const places[] = {JS_PLACE_ADDRESS, JS_HEAP_ADDRESS};
	struct runtime_options options = {.image = self->image, .script = self->script};
	struct runtime *runtime;
	struct thaw_error error;
	void *there;

	leave_in_a_turn(_metadata, self);
	for (unsigned i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		there = mmap(places[i], 4096, PROT_NONE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
		ASSERT_EQ(places[i], there);
		options.generation = newest(self->image).number;
		EXPECT_EQ(THAW_EENGINE, runtime_open(&options, &runtime, &error));
		EXPECT_NE(NULL, strstr(error.text, "addresses")) TH_LOG("%s", error.text);
		options.generation = 0;
		ASSERT_EQ(0, runtime_open(&options, &runtime, &error)) TH_LOG("%s", error.text);
		EXPECT_EQ(newest_of_kind(self->image, THAW_KIND_PORTABLE).number,
			  thaw_opened(runtime_heap(runtime))->number);
		runtime_close(runtime);
		munmap(there, 4096);
	}
}

/* Cloned, written anew, or made the newest again: it is the same stack over the same heap. */
TEST_F(stopping, a_copy_goes_on_in_its_turn)
{
	char *copy = support_format("%s/copy.thaw", self->directory), *number;

	leave_in_a_turn(_metadata, self);
	number = support_format("%llu", (unsigned long long)number_before_newest(self->image));
	EXPECT_EQ(0, program_run(&self->program, NULL, THAW("clone", self->image, copy)));
	program_free(&self->program);
	EXPECT_EQ(0, program_run(&self->program, NULL, THAW("compact", copy)));
	program_free(&self->program);
	for (int i = 0; i < 2; i++) {
		self->program = program_start(
			THAW("run", "-v", "--every", "0", "--image", copy, self->script));
		ASSERT_TRUE(program_wait_for(&self->program, "n ", 60))
		{
			TH_LOG("%s", self->program.errors);
		}
		program_kill(&self->program);
		EXPECT_NE(NULL, strstr(self->program.errors, "in the middle of a turn"))
		TH_LOG("%s", self->program.errors);
		EXPECT_EQ(NULL, strstr(self->program.output, "loop"));
		program_free(&self->program);
		EXPECT_EQ(0, program_run(&self->program, NULL, THAW("rollback", copy, number)));
		program_free(&self->program);
	}
	free(number);
	free(copy);
}

TEST_F(stopping, a_stranger_is_not_continued_but_trusted)
{
	leave_in_a_turn(_metadata, self);

	setenv("THAW_KEY", "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff", 1);
	self->program = program_start(THAW("run", "--every", "0", self->script));
	ASSERT_TRUE(program_wait_for(&self->program, "loop 0", 60));
	program_kill(&self->program);
	EXPECT_NE(NULL, strstr(self->program.errors, "not made with your key"))
	TH_LOG("%s", self->program.errors);
	program_free(&self->program);

	self->program = program_start(THAW("run", "--trust", "-v", self->script));
	ASSERT_TRUE(program_wait_for(&self->program, "n ", 60));
	program_kill(&self->program);
	EXPECT_EQ(NULL, strstr(self->program.output, "loop"));
	EXPECT_NE(NULL, strstr(self->program.errors, "in the middle of a turn"));
	program_free(&self->program);

	/* Nobody's key: the same refusal, and it says what is missing. */
	setenv("THAW_KEY", "/nonexistent/key", 1);
	self->program = program_start(THAW("run", "--every", "0", self->script));
	ASSERT_TRUE(program_wait_for(&self->program, "loop 0", 60));
	program_kill(&self->program);
	EXPECT_NE(NULL, strstr(self->program.errors, "/nonexistent/key"))
	TH_LOG("%s", self->program.errors);
}

/* Every byte of the blob is under the MAC: also what a fix of all the image's checksums changes. */
TEST_F(stopping, a_forged_stack_is_not_continued)
{
	struct thaw_options options = {
		.image = self->image,
		.max_bytes = JS_HEAP_MAX_BYTES,
		.guard_bytes = JS_HEAP_GUARD_BYTES,
		.engine = js_engine_identity,
	};
	struct thaw_error error;
	uint64_t number;
	size_t bytes, places[4];

	leave_in_a_turn(_metadata, self);
	number = newest(self->image).number;

	for (unsigned i = 0; i < 4; i++) {
		struct thaw *heap;
		uint8_t *state;

		options.generation = number;
		ASSERT_EQ(0, thaw_open(&options, &heap, &error)) TH_LOG("%s", error.text);
		state = (uint8_t *)thaw_state(heap, &bytes);
		state = memcpy(malloc(bytes), state, bytes);
		places[0] = 8;		 /* the shadow stack's pointer */
		places[1] = bytes - 33;	 /* the last byte of the stack */
		places[2] = bytes - 200; /* a return address, or near one */
		places[3] = bytes - 1;	 /* the MAC */
		state[places[i]] ^= i ? 1 : 16;
		ASSERT_EQ(0, thaw_checkpoint_begin(heap, THAW_REASON_REQUEST));
		ASSERT_EQ(THAW_READY, thaw_checkpoint_wait(heap));
		ASSERT_EQ(0, thaw_checkpoint_capture(heap, THAW_KIND_BOUND, state, bytes));
		ASSERT_EQ(THAW_DONE, thaw_checkpoint_wait(heap));
		thaw_checkpoint_poll(heap, NULL);
		thaw_close(heap);
		free(state);
		self->program = program_start(THAW("run", "--every", "0", self->script));
		ASSERT_TRUE(program_wait_for(&self->program, "loop 0", 60))
		{
			TH_LOG("place %u: %s%s", i, self->program.output, self->program.errors);
		}
		program_kill(&self->program);
		EXPECT_NE(NULL, strstr(self->program.errors, "not made with your key"))
		TH_LOG("%s", self->program.errors);
		program_free(&self->program);
	}
}

/* Without a key no generation in the middle of a turn is taken: said once, and the program runs. */
TEST_F(stopping, without_a_key_turns_are_left_alone)
{
	long long counted;
	char *more;

	setenv("THAW_KEY", "neither a key nor a path", 1);
	support_write(self->script, later_endless);
	self->program = program_start(THAW("run", "--every", "10ms", self->script));
	ASSERT_TRUE(program_wait_for_complaint(&self->program, "THAW_KEY", 60));
	counted = last_number(self->program.output, "n ");
	more = support_format("n %lld\n", (counted < 0 ? 0 : counted) + 5000000);
	ASSERT_TRUE(program_wait_for(&self->program, more, 60));
	free(more);
	program_kill(&self->program);
	EXPECT_EQ(0, count_of_kind(self->image, THAW_KIND_BOUND));
	/* It may be said again, a second later and so on: nothing else is. */
	for (char *line = self->program.errors, *end; (end = strchr(line, '\n')); line = end + 1) {
		EXPECT_EQ(0, strncmp(line, "thaw: THAW_KEY", 14))
		{
			TH_LOG("%s", line);
		}
	}
}

TEST_HARNESS_MAIN
