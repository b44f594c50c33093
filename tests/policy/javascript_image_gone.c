// SPDX-License-Identifier: GPL-2.0-only
/*
 * A program whose image is removed, renamed or replaced while it runs is told: its checkpoints reject, each kind
 * with a code of its own, and its end is no success. A start that fails removes no image but its own, and a start
 * that is killed leaves none that is half made.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <sys/file.h>

#include "support.h"

FIXTURE(gone)
{
	char *directory, *script, *image, *away;
	unsigned files; /* in the directory at the start */
	struct program program;
};
FIXTURE_SETUP(gone)
{
	char *why;

	self->directory = support_directory();
	self->script = support_format("%s/app.js", self->directory);
	self->image = support_format("%s/app.thaw", self->directory);
	self->away = support_format("%s/away.thaw", self->directory);
	why = support_kernel_lacks(self->directory);
	if (why)
		SKIP(return, "%s", why);
	support_write(self->script,
		      "import { checkpoint, on } from 'thaw'\n"
		      "on('restore', (e) => console.log(`restored ${e.generation}.`))\n"
		      "globalThis.n = 0\n"
		      "setInterval(async () => {\n"
		      "	n++\n"
		      "	try { console.log(`durable ${(await checkpoint()).generation}.`) }\n"
		      "	catch (error) { console.log(`rejected ${error.code}: ${error.message}`) }\n"
		      "}, 50)\n");
	self->files = support_files(self->directory);
}
FIXTURE_TEARDOWN(gone)
{
	if (self->program.pid)
		program_kill(&self->program);
	program_free(&self->program);
	free(self->script);
	free(self->image);
	free(self->away);
	support_remove(self->directory);
}

#define START(...)                                                                       \
	do {                                                                             \
		program_free(&self->program);                                            \
		self->program = program_start(THAW("run", "--every", "0", __VA_ARGS__)); \
	} while (0)

#define SAYS(text)                                              \
	ASSERT_TRUE(program_wait_for(&self->program, text, 60)) \
	TH_LOG("%s%s", self->program.output, self->program.errors)

#define ENDS_WITH(code)                                              \
	do {                                                         \
		kill(self->program.pid, SIGTERM);                    \
		ASSERT_EQ(code, program_finish(&self->program, 60)); \
		self->program.pid = 0;                               \
	} while (0)

TEST_F(gone, a_removed_image_is_told_and_its_end_is_no_success)
{
	START(self->script);
	SAYS("durable 2.");
	ASSERT_EQ(0, unlink(self->image));
	SAYS("rejected EGONE: checkpoint failed: ");
	ENDS_WITH(74);
	EXPECT_NE(NULL, strstr(self->program.errors, "removed or renamed"));
}

TEST_F(gone, a_renamed_image_is_told_until_it_is_back)
{
	double end;
	size_t seen;

	START(self->script);
	SAYS("durable 2.");
	ASSERT_EQ(0, rename(self->image, self->away));
	SAYS("rejected EGONE");
	seen = self->program.output_bytes;
	ASSERT_EQ(0, rename(self->away, self->image));
	end = support_deadline(60);
	while (!strstr(self->program.output + seen, "durable ")) {
		ASSERT_LT(support_seconds(), end);
		support_sleep(0.01);
		program_drain(self->program.out, &self->program.output,
			      &self->program.output_bytes);
	}
	ENDS_WITH(143);
	START(self->script);
	SAYS("restored ");
}

TEST_F(gone, a_replaced_image_is_told_from_one_that_is_gone)
{
	START(self->script);
	SAYS("durable 2.");
	support_write(self->away, "somebody's letter");
	ASSERT_EQ(0, rename(self->away, self->image));
	SAYS("rejected EREPLACED");
	ENDS_WITH(74);
	EXPECT_NE(NULL, strstr(self->program.errors, "another file was put in its place"));
}

TEST_F(gone, a_shortened_image_is_told)
{
	START(self->script);
	SAYS("durable 2.");
	ASSERT_EQ(0, truncate(self->image, 20000));
	SAYS("rejected EOVERWRITTEN");
	ENDS_WITH(74);
}

/* Nothing has changed since the last generation, and nothing is there any more. */
TEST_F(gone, an_end_with_nothing_to_write_is_no_success_either)
{
	support_write(self->script, "console.log('made')\nsetTimeout(() => {}, 3600000)\n");
	START("--every", "10ms", self->script);
	SAYS("made");
	while (true) {
		struct program log;
		int code = program_run(&log, NULL, THAW("log", "--json", self->image));
		bool durable = !code && strstr(log.output, "\"generation\":1");

		program_free(&log);
		if (durable)
			break;
		support_sleep(0.02);
	}
	ASSERT_EQ(0, unlink(self->image));
	ENDS_WITH(74);
}

/* ---- Starts */

TEST_F(gone, a_first_start_that_fails_leaves_nothing)
{
	support_write(self->script, "throw new Error('no')\n");
	EXPECT_EQ(1, program_run(&self->program, NULL, THAW("run", self->script)));
	EXPECT_EQ(self->files, support_files(self->directory));
}

/* It waits for the lock of the program that makes the image meanwhile, then fails. */
TEST_F(gone, a_start_that_fails_leaves_what_another_has_made)
{
	char *failing = support_format("%s/failing.js", self->directory);
	struct program other;
	int code;

	support_write(failing, "throw new Error('no')\n");
	for (int round = 0; round < 20; round++) {
		unlink(self->image);
		support_write(self->script, "globalThis.n = 1\n");
		other = program_start(THAW("run", "--fresh", "--image", self->image, failing));
		START(self->script);
		code = program_finish(&other, 60);
		/* One may find it in use by the other for longer than it waits; what ended well is there. */
		ASSERT_TRUE(code == 1 || code == 75)
		TH_LOG("%d: %s", code, other.errors);
		if (!program_finish(&self->program, 60))
			EXPECT_EQ(0, access(self->image, F_OK));
		self->program.pid = 0;
		program_free(&other);
	}
	free(failing);
}

TEST_F(gone, a_start_that_is_killed_leaves_nothing_half_made)
{
	for (int round = 0; round < 40; round++) {
		unlink(self->image);
		START(self->script);
		support_sleep(round * 0.0005);
		program_kill(&self->program);
	}
	unlink(self->image);
	START(self->script);
	SAYS("durable 1.");
	program_kill(&self->program);
	self->program.pid = 0;
	/* The image, and the socket beside it: the next start takes that over. */
	EXPECT_EQ(self->files + 2, support_files(self->directory));
}

TEST_HARNESS_MAIN
