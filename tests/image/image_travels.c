// SPDX-License-Identifier: GPL-2.0-only
/*
 * An image that a machine of another architecture made goes on here: between turns nothing in it is
 * of its machine. scripts/kernels has brought one along, for its guests that are other machines.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include "support.h"

TEST(a_heap_of_another_machine_goes_on_here)
{
	const char *brought = getenv("THAW_OTHER_MACHINE");
	struct program program;
	char *directory, *there, *script, *image;

	if (!brought)
		SKIP(return, "no image of another machine (make check-kernels KERNELS=arm64:6.12)");
	directory = support_directory();
	there = support_format("%s/there", directory);
	script = support_format("%s/travels.js", there);
	image = support_format("%s/travels.thaw", there);
	ASSERT_EQ(0, program_run(&program, NULL,
				 (const char *const[]){"cp", "-r", brought, there, NULL}));
	program_free(&program);
	EXPECT_EQ(0, program_run(&program, NULL, THAW("run", "--every", "0", "--at", "1", script)));
	EXPECT_STREQ("true 2,3 42\n", program.output);
	EXPECT_STREQ("", program.errors);
	program_free(&program);
	EXPECT_EQ(0, program_run(&program, NULL, THAW("verify", image)));
	program_free(&program);
	free(image);
	free(script);
	free(there);
	support_remove(directory);
}

TEST_HARNESS_MAIN
