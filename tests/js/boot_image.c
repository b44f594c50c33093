// SPDX-License-Identifier: GPL-2.0-only
/*
 * boot_image.c - the heap that programs start from has the same bytes whenever and wherever it is made, so that a package
 * has; and what has to be different from start to start is.
 */
#include "kselftest_harness.h"

#include <libgen.h>

#include "support.h"

FIXTURE(boot)
{
	char *directory, *maker;
	struct program program;
};
FIXTURE_SETUP(boot)
{
	char *binary = strdup(THAW_BINARY);

	self->directory = support_directory();
	self->maker = support_format("%s/boot-maker", dirname(binary));
	free(binary);
}
FIXTURE_TEARDOWN(boot)
{
	program_free(&self->program);
	free(self->maker);
	support_remove(self->directory);
}

#define RUN(...)                       \
	(program_free(&self->program), \
	 program_run(&self->program, NULL, (const char *const[]){__VA_ARGS__, NULL}))

TEST_F(boot, the_same_sources_give_the_same_bytes)
{
	char *first = support_format("%s/first", self->directory);
	char *second = support_format("%s/second", self->directory);
	char *source = support_format("%s/library.js", self->directory);

	if (access(self->maker, X_OK))
		SKIP(return, "no program here that makes one");
	ASSERT_EQ(0, RUN(self->maker, first)) TH_LOG("%s", self->program.errors);
	/* At another time, in another place. */
	support_sleep(0.01);
	ASSERT_EQ(0, RUN("env", "-i", "TZ=Asia/Tokyo", "LC_ALL=C", self->maker, second));
	EXPECT_LT(100000, support_size(first));
	EXPECT_EQ(0, RUN("cmp", first, second)) TH_LOG("%s", self->program.output);
	support_write(source, "(function (a) { return [a, Math.PI, 'text', /x+/u] })");
	ASSERT_EQ(0, RUN(self->maker, first, source, "thaw:library/x"));
	ASSERT_EQ(0, RUN("env", "-i", self->maker, second, source, "thaw:library/x"));
	EXPECT_EQ(0, RUN("cmp", first, second)) TH_LOG("%s", self->program.output);
	free(first);
	free(second);
	free(source);
}

/* Neither the random numbers nor the time of who made it. */
TEST_F(boot, each_program_has_randomness_and_a_beginning_of_its_own)
{
	static const char code[] = "[Math.random(), crypto.randomUUID()].join() + "
				   "(Math.abs(performance.timeOrigin - Date.now()) < 3600000 && "
				   "performance.now() < 3600000)";
	char *first;

	ASSERT_EQ(0, RUN(THAW_BINARY, "-p", code));
	first = strdup(self->program.output);
	EXPECT_NE(NULL, strstr(first, "true\n")) TH_LOG("%s", first);
	ASSERT_EQ(0, RUN(THAW_BINARY, "-p", code));
	EXPECT_STRNE(first, self->program.output);
	EXPECT_NE(strtod(first, NULL), strtod(self->program.output, NULL));
	free(first);
}

TEST_HARNESS_MAIN
