// SPDX-License-Identifier: GPL-2.0-only
/*
 * thaw log and thaw inspect tell which build can go on from a generation.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include "support.h"
#include "thaw.h"

FIXTURE(told)
{
	char *directory, *path;
	struct program program;
};
FIXTURE_SETUP(told)
{
	self->directory = support_directory();
	self->path = support_format("%s/heap.thaw", self->directory);
}
FIXTURE_TEARDOWN(told)
{
	program_free(&self->program);
	free(self->path);
	support_remove(self->directory);
}

/* One generation for each letter: P is portable, B is bound. A stroke starts afresh. */
static int make_image(const char *path, const char *kinds)
{
	struct thaw_options options = {
		.image = path, .flags = THAW_CREATE, .max_bytes = 1u << 20, .engine = "test"};
	struct thaw_error error;
	struct thaw *heap;
	int code = thaw_open(&options, &heap, &error);

	if (code)
		return code;
	for (; !code && *kinds; kinds++) {
		if (*kinds == '/') {
			thaw_close(heap);
			options.flags = THAW_FRESH;
			code = thaw_open(&options, &heap, &error);
			if (code)
				return code;
			continue;
		}
		thaw_checkpoint_begin(heap, THAW_REASON_TIMER);
		thaw_checkpoint_wait(heap);
		code = thaw_checkpoint_capture(
			heap, *kinds == 'B' ? THAW_KIND_BOUND : THAW_KIND_PORTABLE, kinds, 1);
		thaw_checkpoint_wait(heap);
		thaw_checkpoint_poll(heap, NULL);
		thaw_resize(heap, thaw_size(heap) + 65536);
	}
	thaw_close(heap);
	return code;
}

#define MAKE_IMAGE(kinds)                                               \
	do {                                                            \
		int made_ = make_image(self->path, kinds);              \
		if (made_ == THAW_EKERNEL)                              \
			SKIP(return, "this kernel cannot hold a heap"); \
		ASSERT_EQ(0, made_);                                    \
	} while (0)

/* Every text, in this order. */
static bool says(const char *output, const char *const texts[])
{
	for (; *texts; texts++) {
		output = strstr(output, *texts);
		if (!output) {
			fprintf(stderr, "# missing: %s\n", *texts);
			return false;
		}
		output += strlen(*texts);
	}
	return true;
}
#define EXPECT_SAYS(...)                                                                  \
	EXPECT_TRUE(says(self->program.output, (const char *const[]){__VA_ARGS__, NULL})) \
	TH_LOG("%s", self->program.output)

#define RUN(...)                                                                    \
	do {                                                                        \
		program_free(&self->program);                                       \
		EXPECT_EQ(0, program_run(&self->program, NULL, THAW(__VA_ARGS__))); \
	} while (0)

TEST_F(told, by_log)
{
	MAKE_IMAGE("PBP");
	RUN("log", self->path);
	EXPECT_SAYS("reason  kind\n", "timer   between turns\n", "timer   mid-turn\n",
		    "timer   between turns\n");
	RUN("log", "--json", self->path);
	EXPECT_SAYS("\"generation\":1,", "\"kind\":\"between turns\"}", "\"generation\":2,",
		    "\"kind\":\"mid-turn\"}", "\"generation\":3,", "\"kind\":\"between turns\"}");
}

TEST_F(told, by_inspect_between_turns)
{
	MAKE_IMAGE("BP");
	RUN("inspect", self->path);
	EXPECT_SAYS("newest       between turns: any build goes on from it\n");
	EXPECT_EQ(NULL, strstr(self->program.output, "mid-turn"));
	RUN("inspect", "--json", self->path);
	EXPECT_SAYS("\"newest\":2,\"newestKind\":\"between turns\",\"newestBetweenTurns\":2,");
}

TEST_F(told, by_inspect_mid_turn)
{
	MAKE_IMAGE("PPBB");
	RUN("inspect", self->path);
	EXPECT_SAYS("newest         mid-turn: only the build that took it goes on from it\n",
		    "between turns  the newest is 2 (");
	RUN("inspect", "--json", self->path);
	EXPECT_SAYS("\"newest\":4,\"newestKind\":\"mid-turn\",\"newestBetweenTurns\":2,");
}

/* Listed, between turns, and nothing that the newest can go back to. */
TEST_F(told, by_inspect_of_another_line)
{
	MAKE_IMAGE("PPB/BB");
	RUN("inspect", self->path);
	EXPECT_SAYS("newest         mid-turn", "between turns  none\n");
	RUN("inspect", "--json", self->path);
	EXPECT_SAYS("\"newest\":5,\"newestKind\":\"mid-turn\",\"newestBetweenTurns\":0,");
}

TEST_F(told, by_inspect_of_nothing_but_mid_turn)
{
	MAKE_IMAGE("BB");
	RUN("inspect", self->path);
	EXPECT_SAYS("newest         mid-turn", "between turns  none\n");
	RUN("inspect", "--json", self->path);
	EXPECT_SAYS("\"newest\":2,\"newestKind\":\"mid-turn\",\"newestBetweenTurns\":0,");
}

TEST_F(told, by_inspect_of_a_new_image)
{
	MAKE_IMAGE("");
	RUN("inspect", self->path);
	EXPECT_SAYS("generations  none yet\n");
	RUN("inspect", "--json", self->path);
	EXPECT_SAYS("\"newest\":0,\"newestBetweenTurns\":0,");
	RUN("log", self->path);
	EXPECT_STREQ("no generations yet\n", self->program.output);
}

TEST_HARNESS_MAIN
