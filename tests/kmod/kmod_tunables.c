// SPDX-License-Identifier: GPL-2.0-only
/*
 * kmod_tunables.c - thaw top --set: what is set, what is said then, and what is refused; also where
 * there is no kernel module, which is where most of these tests run.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include "kmod.h"
#include "support.h"
#include "top/kmod_regions.h"

FIXTURE(set)
{
	struct program program;
	struct kmod *kmod; /* NULL: there is no module */
	struct kmod_tunables before;
	struct thaw_error error;
};

FIXTURE_SETUP(set)
{
	if (kmod_open(&self->kmod, &self->error))
		return;
	ASSERT_EQ(0, kmod_tunables_read(self->kmod, &self->before, &self->error));
}

FIXTURE_TEARDOWN(set)
{
	if (self->kmod)
		kmod_tunables_set(self->kmod, &self->before, &self->error);
	kmod_close(self->kmod);
	program_free(&self->program);
}

#define EXPECT_SAID(text)                                   \
	EXPECT_NE(NULL, strstr(self->program.errors, text)) \
	{                                                   \
		TH_LOG("%s", self->program.errors);         \
	}

TEST_F(set, words_that_are_no_tunables_are_refused)
{
	static const char *const wrong[][2] = {
		{"", "''"},
		{"cluster-bytes", "cluster-bytes=BYTES"},
		{"cluster-bytes=64k", "'64k'"},
		{"ring-entries=0", "'0'"},
		{"ring=64", "'ring'"},
		{"cluster-bytes=65536,", "''"},
	};

	for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		EXPECT_EQ(9, program_run(&self->program, NULL, THAW("top", "--set", wrong[i][0])));
		EXPECT_SAID(wrong[i][1]);
		program_free(&self->program);
	}
}

TEST_F(set, it_goes_alone)
{
	EXPECT_EQ(9, program_run(&self->program, NULL,
				 THAW("top", "--once", "--set", "cluster-bytes=65536")));
	EXPECT_SAID("give it alone");
	program_free(&self->program);
	EXPECT_EQ(9, program_run(&self->program, NULL,
				 THAW("top", "--set", "cluster-bytes=65536", "1")));
	EXPECT_SAID("give it alone");
}

TEST_F(set, without_the_module_it_says_what_is_missing)
{
	if (self->kmod)
		SKIP(return, "the kernel module is loaded");
	EXPECT_EQ(69,
		  program_run(&self->program, NULL, THAW("top", "--set", "cluster-bytes=65536")));
	EXPECT_SAID("module thaw is not loaded");
	EXPECT_STREQ("", self->program.output);
}

TEST_F(set, what_is_set_is_told_and_stays)
{
	struct kmod_tunables now;

	if (!self->kmod)
		SKIP(return, "there is no " THAW_KMOD_DEVICE ": the kernel module is not loaded");
	ASSERT_EQ(0, program_run(&self->program, NULL,
				 THAW("top", "--set", "cluster-bytes=131072,ring-entries=256")))
	{
		TH_LOG("%s", self->program.errors);
	}
	EXPECT_STREQ("cluster-bytes=131072\nring-entries=256\n", self->program.output);
	ASSERT_EQ(0, kmod_tunables_read(self->kmod, &now, &self->error));
	EXPECT_EQ(131072, now.cluster_bytes);
	EXPECT_EQ(256, now.ring_entries);
	program_free(&self->program);

	EXPECT_EQ(9, program_run(&self->program, NULL, THAW("top", "--set", "ring-entries=32")));
	EXPECT_SAID(" ring-entries: integer out of range (64 to 1048576)");
	program_free(&self->program);
	EXPECT_EQ(9,
		  program_run(&self->program, NULL, THAW("top", "--set", "cluster-bytes=196608")));
	EXPECT_SAID("must be a power of two");
	ASSERT_EQ(0, kmod_tunables_read(self->kmod, &now, &self->error));
	EXPECT_EQ(131072, now.cluster_bytes);
	EXPECT_EQ(256, now.ring_entries);
}

TEST_HARNESS_MAIN
