// SPDX-License-Identifier: GPL-2.0-only
/*
 * checkpoint_names.c - a program names the generation that a checkpoint makes: the name is durable with it, or there is
 * neither.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include "named_image.h"

#define HEAP (1u << 20)

static int heap_open(struct thaw **heap)
{
	const struct thaw_options options = {
		.image = model_path, .max_bytes = 2 * HEAP, .retain = 1, .engine = ENGINE};
	int code = thaw_open(&options, heap, &error);

	if (!code && !thaw_size(*heap))
		code = thaw_resize(*heap, HEAP);
	return code;
}

static int heap_checkpoint(struct thaw *heap, struct thaw_result *result, const char *const *names)
{
	int code = thaw_checkpoint_begin(heap, THAW_REASON_TIMER);

	for (; !code && *names; names++)
		code = thaw_checkpoint_name(heap, *names);
	if (!code && thaw_checkpoint_wait(heap) == THAW_READY)
		code = thaw_checkpoint_capture(heap, THAW_KIND_PORTABLE, "state", 5);
	if (!code && thaw_checkpoint_wait(heap) == THAW_WRITING)
		code = -EIO;
	thaw_checkpoint_poll(heap, result);
	return code ? code : result->code;
}
#define CHECKPOINT(...) heap_checkpoint(heap, &result, (const char *const[]){__VA_ARGS__ NULL})

TEST_F(named, a_checkpoint_takes_its_names_along)
{
	struct thaw_result result;
	struct thaw *heap;
	char name[16];
	int code;

	image_close(self->image);
	self->image = NULL;
	code = heap_open(&heap);
	if (code == THAW_EKERNEL)
		SKIP(return, "this kernel cannot hold a heap");
	ASSERT_EQ(0, code) TH_LOG("%s", error.text);
	for (unsigned i = 0; i < sizeof(bad_names) / sizeof(bad_names[0]); i++)
		EXPECT_EQ(-EINVAL, thaw_checkpoint_name(heap, bad_names[i]));
	ASSERT_EQ(0, CHECKPOINT("b", "a", "b", ));
	EXPECT_EQ(1, result.generation.number);
	EXPECT_STREQ("a=1 b=1", names_now());
	ASSERT_EQ(0, CHECKPOINT());
	EXPECT_TRUE(result.unchanged);

	/* Nothing has changed: but a name needs a generation to be on. It is not given twice. */
	ASSERT_EQ(0, CHECKPOINT("c", "a", ));
	EXPECT_FALSE(result.unchanged);
	EXPECT_EQ(2, result.generation.number);
	ASSERT_EQ(0, CHECKPOINT());
	EXPECT_TRUE(result.unchanged);
	EXPECT_EQ(2, result.generation.number);
	EXPECT_STREQ("a=2 b=1 c=2", names_now());

	/* Before one is begun: the next one has it. Once it is captured it is too late. */
	ASSERT_EQ(0, thaw_checkpoint_name(heap, "d"));
	ASSERT_EQ(0, thaw_checkpoint_begin(heap, THAW_REASON_TIMER));
	ASSERT_EQ(THAW_READY, thaw_checkpoint_wait(heap));
	ASSERT_EQ(0, thaw_checkpoint_name(heap, "e"));
	ASSERT_EQ(0, thaw_checkpoint_capture(heap, THAW_KIND_PORTABLE, "state", 5));
	EXPECT_EQ(-EBUSY, thaw_checkpoint_name(heap, "f"));
	ASSERT_EQ(THAW_DONE, thaw_checkpoint_wait(heap));
	EXPECT_EQ(-EBUSY, thaw_checkpoint_name(heap, "f"));
	thaw_checkpoint_poll(heap, &result);
	ASSERT_EQ(0, result.code);
	EXPECT_STREQ("a=2 b=1 c=2 d=3 e=3", names_now());

	/* More than fit are refused before, or with the checkpoint; and the next has none of them. */
	for (unsigned i = 0; i < THAW_NAMES_MAX; i++) {
		snprintf(name, sizeof(name), "x%u", i);
		ASSERT_EQ(0, thaw_checkpoint_name(heap, name));
	}
	EXPECT_EQ(-ENOSPC, thaw_checkpoint_name(heap, "y"));
	EXPECT_EQ(0, thaw_checkpoint_name(heap, "x5"));
	*(int *)thaw_base(heap) = 7;
	EXPECT_EQ(-ENOSPC, CHECKPOINT());
	EXPECT_STREQ("a=2 b=1 c=2 d=3 e=3", names_now());
	ASSERT_EQ(0, CHECKPOINT());
	EXPECT_FALSE(result.unchanged);
	EXPECT_EQ(1, result.generation.pages_stored);
	EXPECT_STREQ("a=2 b=1 c=2 d=3 e=3", names_now());
	thaw_close(heap);
	EXPECT_EQ(0, model_verify());
}

/* A heap in which checkpoint `name` is made, and another one, without a name, if that fails. */
static int named_in_child(const char *inject, unsigned flags)
{
	pid_t child = fork();
	int status;

	if (!child) {
		struct thaw_options options = {.image = model_path,
					       .flags = flags,
					       .max_bytes = 2 * HEAP,
					       .engine = ENGINE};
		struct thaw_result result;
		struct thaw *heap;

		setenv("THAW_INJECT", inject, 1); /* read once in a process, so not in the parent */
		if (thaw_open(&options, &heap, &error))
			_exit(error.code == THAW_EKERNEL ? 4 : 3);
		if (!thaw_size(heap) && thaw_resize(heap, HEAP))
			_exit(3);
		++*(int *)thaw_base(heap);
		_exit(CHECKPOINT("a", ) ? CHECKPOINT() ? 2 : 1 : 0);
	}
	waitpid(child, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

/* Wherever it fails: no name without its generation, and none on a later one. */
TEST(a_failed_checkpoint_gives_no_name)
{
	static const char *const calls[] = {"write:EIO", "write:ENOSPC", "fdatasync:EIO"};
	unsigned call = 0, skip = 0;

	while (call < 3) {
		char inject[64];
		pid_t checker;
		int failed, wrong;

		model_setup("failed");
		failed = named_in_child("", THAW_CREATE);
		if (failed == 4) {
			model_teardown();
			SKIP(return, "this kernel cannot hold a heap");
		}
		ASSERT_EQ(0, failed);
		snprintf(inject, sizeof(inject), "%s:%u", calls[call], skip);
		failed = named_in_child(inject, 0);
		ASSERT_LE(failed, 1) TH_LOG("%s", inject);
		checker = fork();
		if (!checker)
			_exit(strcmp(names_now(), failed ? "a=1" : "a=2") || model_verify());
		waitpid(checker, &wrong, 0);
		EXPECT_EQ(0, wrong) TH_LOG("%s", inject);
		model_teardown();
		if (failed) {
			skip++;
			continue;
		}
		EXPECT_GE(skip, 2) TH_LOG("%s", inject); /* its pages, its slot */
		call++;
		skip = 0;
	}
}

TEST_HARNESS_MAIN
