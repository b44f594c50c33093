// SPDX-License-Identifier: GPL-2.0-only
/*
 * output_servers.c - what servers of npm's packages acknowledged under `thaw exec --commit output` is there after SIGKILL, as
 * in tests/process/output_kills.c: 20 times each in make check-exec, 200 times in make crash-exec.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include "process/acknowledged.h"

FIXTURE(output)
{
	char *directory, *image;
};
FIXTURE_VARIANT(output)
{
	struct service service;
};
FIXTURE_VARIANT_ADD(output, express){
	.service = {"node", "acknowledges.js", "express", NULL, LOAD_HTTP, false}};
FIXTURE_VARIANT_ADD(output,
		    hono){.service = {"node", "acknowledges.js", "hono", NULL, LOAD_HTTP, false}};
FIXTURE_SETUP(output)
{
	self->directory = support_directory();
	self->image = support_format("%s/service.thaw", self->directory);
}
FIXTURE_TEARDOWN(output)
{
	free(self->image);
	support_remove(self->directory);
}

TEST_F_TIMEOUT(output, that_was_acknowledged_is_there, 7200)
{
	if (!kills_have(variant->service.program))
		SKIP(return, "there is no %s here", variant->service.program);
	ASSERT_TRUE(acknowledged_run(&variant->service, self->image, kills_wanted(20)));
}

TEST_HARNESS_MAIN
