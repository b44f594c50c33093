// SPDX-License-Identifier: GPL-2.0-only
/*
 * program_kills.c - unmodified programs go on after SIGKILL at random moments (kills.h). Those that only make check-exec
 * and make crash-exec run are in tests/exec/programs.c.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include "kills.h"

FIXTURE(kills)
{
	char *directory, *image;
};
FIXTURE_VARIANT(kills)
{
	struct victim victim;
};
FIXTURE_VARIANT_ADD(kills, node){.victim = {"node", "node.js", NULL, "100ms", 600, NULL}};
FIXTURE_VARIANT_ADD(kills,
		    node_workers){.victim = {"node", "workers.js", NULL, "100ms", 600, NULL}};
FIXTURE_VARIANT_ADD(kills, python){.victim = {"python3", "python.py", NULL, "50ms", 400, NULL}};
FIXTURE_SETUP(kills)
{
	self->directory = support_directory();
	self->image = support_format("%s/program.thaw", self->directory);
}
FIXTURE_TEARDOWN(kills)
{
	free(self->image);
	support_remove(self->directory);
}

TEST_F_TIMEOUT(kills, it_goes_on_where_it_was, 7200)
{
	if (!kills_have(variant->victim.program))
		SKIP(return, "there is no %s here", variant->victim.program);
	ASSERT_TRUE(kills_run(&variant->victim, self->image, kills_wanted(6)));
}

TEST_HARNESS_MAIN
