// SPDX-License-Identifier: GPL-2.0-only
/*
 * Where /proc is not mounted, in a chroot say, a program begins, is checkpointed, continued and killed as
 * elsewhere: what comes from /proc is done without, and thaw check says what that is.
 */
#define _GNU_SOURCE

#include "kselftest_harness.h"
#include <sched.h>
#include <sys/mount.h>

#include "support.h"
#include "thaw.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define NEEDS_PLAIN_BUILD SKIP(return, "a sanitizer needs /proc")
#else
#define NEEDS_PLAIN_BUILD (void)0
#endif

FIXTURE(without_proc)
{
	char *directory, *script;
	struct program program;
};
FIXTURE_SETUP(without_proc)
{
	self->directory = support_directory();
	self->script = support_format("%s/app.js", self->directory);
}
FIXTURE_TEARDOWN(without_proc)
{
	program_free(&self->program);
	free(self->script);
	support_remove(self->directory);
}

/* For this test only: each runs in a process of its own. */
static bool take_proc_away(void)
{
	if (unshare(CLONE_NEWNS) && unshare(CLONE_NEWUSER | CLONE_NEWNS))
		return false;
	return !mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) &&
	       !mount("none", "/proc", "tmpfs", 0, NULL) && access("/proc/self", F_OK);
}

#define TAKE_PROC_AWAY                                                                    \
	do {                                                                              \
		if (!take_proc_away())                                                    \
			SKIP(return, "nothing may be mounted here: %s", strerror(errno)); \
	} while (0)

TEST_F(without_proc, a_program_runs_and_is_continued)
{
	NEEDS_PLAIN_BUILD;
	TAKE_PROC_AWAY;
	support_write(
		self->script,
		"import { on, readFile, writeFile } from 'thaw'\n"
		"let n = 1\n"
		"const say = async () => { await writeFile('/dev/null', 'x'); console.log('n is', n++) }\n"
		"on('restore', say)\n"
		"await say()\n");
	for (int start = 1; start <= 3; start++) {
		char *expected = support_format("n is %d\n", start);

		EXPECT_EQ(0, program_run(&self->program, NULL, THAW("run", "-q", self->script)))
		{
			TH_LOG("%s", self->program.errors);
		}
		EXPECT_STREQ(expected, self->program.output);
		EXPECT_STREQ("", self->program.errors);
		program_free(&self->program);
		free(expected);
	}
}

/* That needs another description of the image than the one that it is committed through. */
TEST_F(without_proc, failures_are_counted)
{
	char *image = support_format("%s/heap.thaw", self->directory);
	const struct thaw_options options = {
		.image = image,
		.flags = THAW_CREATE,
		.max_bytes = 1 << 20,
		.engine = "without_proc",
	};
	struct thaw_error error;
	struct thaw *heap;

	TAKE_PROC_AWAY;
	for (int round = 0; round < 3; round++) {
		ASSERT_EQ(0, thaw_open(&options, &heap, &error))
		{
			TH_LOG("%s", error.text);
		}
		if (!round) {
			ASSERT_EQ(0, thaw_resize(heap, 1 << 16));
			memset(thaw_base(heap), 1, 1 << 16);
			ASSERT_EQ(0, thaw_checkpoint(heap, THAW_REASON_EXIT, "", 0, NULL));
		} else {
			EXPECT_EQ(round - 1, thaw_failures(heap));
			EXPECT_EQ(1, *(unsigned char *)thaw_base(heap));
			EXPECT_EQ(round, thaw_failed(heap));
		}
		thaw_close(heap);
	}
	free(image);
}

TEST_F(without_proc, check_says_what_is_missing)
{
	NEEDS_PLAIN_BUILD;
	TAKE_PROC_AWAY;
	ASSERT_EQ(0, program_run(&self->program, NULL, THAW("check")))
	{
		TH_LOG("%s", self->program.errors);
	}
	EXPECT_NE(NULL, strstr(self->program.output, "mount /proc"));
	program_free(&self->program);
	setenv("THAW_READER", "io_uring", 1);
	support_write(self->script, "");
	EXPECT_EQ(69, program_run(&self->program, NULL, THAW("run", self->script)));
	EXPECT_NE(NULL, strstr(self->program.errors, "mount /proc"));
	EXPECT_NE(0, access("app.thaw", F_OK));
}

TEST_HARNESS_MAIN
