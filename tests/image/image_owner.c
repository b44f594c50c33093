// SPDX-License-Identifier: GPL-2.0-only
/*
 * An image that nobody named, the one beside the script or the shell's own, is gone on from only if it
 * is this user's or root's: whoever owns it decides what is in it. --image and --trust choose it on purpose.
 */
#define _GNU_SOURCE

#include "kselftest_harness.h"
#include "support.h"
#include "thaw.h"

#define STRANGER 54321

FIXTURE(image_owner)
{
	char *directory, *script, *image;
	struct program program;
};
FIXTURE_SETUP(image_owner)
{
	self->directory = support_directory();
	self->script = support_format("%s/count.js", self->directory);
	self->image = support_format("%s/count.thaw", self->directory);
	support_write(self->script, "globalThis.n = 0; console.log('n is', ++n)\n"
				    "const { on } = await import('thaw')\n"
				    "on('restore', () => console.log('n is', ++n))\n");
	ASSERT_EQ(0, program_run(&self->program, NULL, THAW("run", self->script)));
	program_free(&self->program);
}
FIXTURE_TEARDOWN(image_owner)
{
	program_free(&self->program);
	free(self->script);
	free(self->image);
	support_remove(self->directory);
}

static int give_away(const char *path)
{
	return lchown(path, STRANGER, STRANGER);
}

#define NEEDS_ROOT                                                     \
	do {                                                           \
		if (geteuid())                                         \
			SKIP(return, "only root can give files away"); \
	} while (0)

static void expect_refused(struct __test_metadata *_metadata, struct program *program, int code,
			   const char *image)
{
	EXPECT_EQ(76, code);
	EXPECT_NE(NULL, strstr(program->errors, image));
	EXPECT_NE(NULL, strstr(program->errors, "uid 54321"))
	{
		TH_LOG("%s", program->errors);
	}
	EXPECT_NE(NULL, strstr(program->errors, "--trust"));
	EXPECT_NE(NULL, strstr(program->errors, "--image"));
	EXPECT_EQ(NULL, strstr(program->output, "n is"));
	EXPECT_EQ(strchr(program->errors, '\n') + 1, strrchr(program->errors, '\n') + 1);
	program_free(program);
}

TEST_F(image_owner, a_strangers_beside_the_script_is_refused)
{
	uint64_t before;

	NEEDS_ROOT;
	ASSERT_EQ(0, give_away(self->image));
	before = support_size(self->image);
	expect_refused(_metadata, &self->program,
		       program_run(&self->program, NULL, THAW("run", self->script)), self->image);
	/* Nor is anything of ours written into it. */
	expect_refused(_metadata, &self->program,
		       program_run(&self->program, NULL, THAW("run", "--fresh", self->script)),
		       self->image);
	expect_refused(_metadata, &self->program,
		       program_run(&self->program, NULL, THAW("run", "--at", "1", self->script)),
		       self->image);
	EXPECT_EQ(before, support_size(self->image));
}

TEST_F(image_owner, what_a_link_leads_to_is_what_counts)
{
	char *target = support_format("%s/target", self->directory);

	NEEDS_ROOT;
	ASSERT_EQ(0, rename(self->image, target));
	ASSERT_EQ(0, symlink(target, self->image));
	ASSERT_EQ(0, give_away(target));
	expect_refused(_metadata, &self->program,
		       program_run(&self->program, NULL, THAW("run", self->script)), self->image);
	ASSERT_EQ(0, lchown(target, geteuid(), getegid()));
	ASSERT_EQ(0, give_away(self->image));
	EXPECT_EQ(0, program_run(&self->program, NULL, THAW("run", self->script)));
	EXPECT_STREQ("n is 2\n", self->program.output);
	free(target);
}

TEST_F(image_owner, it_can_be_chosen_on_purpose)
{
	NEEDS_ROOT;
	ASSERT_EQ(0, give_away(self->image));
	EXPECT_EQ(0, program_run(&self->program, NULL,
				 THAW("run", "--image", self->image, self->script)));
	EXPECT_STREQ("n is 2\n", self->program.output);
	program_free(&self->program);
	EXPECT_EQ(0, program_run(&self->program, NULL, THAW("run", "--trust", self->script)));
	EXPECT_STREQ("n is 3\n", self->program.output);
	program_free(&self->program);
	EXPECT_EQ(0, program_run(&self->program, NULL, THAW("-i", self->image, "-p", "3")));
	EXPECT_NE(NULL, strstr(self->program.output, "3\n"));
}

TEST_F(image_owner, the_shells_own_is_no_exception)
{
	char *image = support_format("%s/thaw/repl.thaw", self->directory);

	NEEDS_ROOT;
	setenv("XDG_STATE_HOME", self->directory, 1);
	ASSERT_EQ(0, program_run(&self->program, "a = 1\n", THAW("repl")));
	program_free(&self->program);
	ASSERT_EQ(0, give_away(image));
	expect_refused(_metadata, &self->program, program_run(&self->program, "a\n", THAW("repl")),
		       image);
	EXPECT_EQ(0, program_run(&self->program, "a\n", THAW("repl", image)));
	EXPECT_STREQ("1\n", self->program.output);
	free(image);
}

TEST_F(image_owner, roots_is_fine_for_everybody)
{
	pid_t child;
	int status;

	NEEDS_ROOT;
	chmod(self->image, 0666);
	chmod(self->directory, 0777);
	child = fork();
	if (!child) {
		struct thaw_options options = {
			.image = self->image,
			.flags = THAW_OWN,
			.max_bytes = 1 << 20,
			.engine = "nobody's",
		};
		struct thaw_error error = {0};
		struct thaw *heap;

		if (setgid(STRANGER) || setuid(STRANGER))
			_exit(2);
		/* Refused for what is in it, so it was read. */
		_exit(thaw_open(&options, &heap, &error) != THAW_EENGINE);
	}
	ASSERT_EQ(child, waitpid(child, &status, 0));
	EXPECT_EQ(0, status);
}

TEST_HARNESS_MAIN
