// SPDX-License-Identifier: GPL-2.0-only
/*
 * output_kills.c - what a service acknowledged under `thaw exec --commit output` is there after SIGKILL (acknowledged.h), and
 * a service without it loses what it acknowledged, which the same audit says. A few kills here; 200 of each in make
 * crash-exec, where tests/exec/output_servers.c has the services of npm's packages.
 *
 * The line server in C is this program itself.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include "process/acknowledged.h"
#include "process/line_server.h"

FIXTURE(output)
{
	char *directory, *image;
};
FIXTURE_VARIANT(output)
{
	struct service service;
};
FIXTURE_VARIANT_ADD(output, lines){.service = {.kind = "lines", .protocol = LOAD_LINE}};
FIXTURE_VARIANT_ADD(output,
		    node){.service = {"node", "acknowledges.js", "http", NULL, LOAD_HTTP, false}};
FIXTURE_VARIANT_ADD(output, python){
	.service = {.program = "python3", .script = "acknowledges.py", .protocol = LOAD_LINE}};
FIXTURE_VARIANT_ADD(output, redis){
	.service = {.program = "redis-server", .protocol = LOAD_REDIS, .redis = true}};
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

static bool have(const struct service *service)
{
	return !service->program || kills_have(service->program);
}

TEST_F_TIMEOUT(output, that_was_acknowledged_is_there, 7200)
{
	SKIP_SANITIZED();
	if (!have(&variant->service))
		SKIP(return, "there is no %s here", variant->service.program);
	ASSERT_TRUE(acknowledged_run(&variant->service, self->image, kills_wanted(4)));
}

/* The audit sees it: the generation that is restored has none of what is acknowledged after it. */
TEST_F(output, that_does_not_wait_is_lost)
{
	struct acknowledged test = {.service = &variant->service, .image = self->image};
	struct program checkpoint;

	SKIP_SANITIZED();
	if (!have(&variant->service))
		SKIP(return, "there is no %s here", variant->service.program);
	ASSERT_TRUE(acknowledged_begin(&test, kills_seed()));
	acknowledged_start(&test);
	ASSERT_TRUE(acknowledged_load(&test, 60 * test_patience_now(), true))
	TH_LOG("%s", test.program.errors);
	ASSERT_EQ(0, program_run(&checkpoint, NULL, THAW("checkpoint", self->image)))
	TH_LOG("%s", checkpoint.errors);
	program_free(&checkpoint);
	ASSERT_TRUE(acknowledged_load(&test, 60 * test_patience_now(), true));
	ASSERT_TRUE(load_settle(test.load, 60 * test_patience_now()));
	ASSERT_TRUE(acknowledged_kill(&test));
	acknowledged_start(&test);
	EXPECT_FALSE(load_audit(test.load, 60 * test_patience_now()));
	EXPECT_LT(0, load_counts(test.load)->missing);
	EXPECT_GT(load_counts(test.load)->acknowledged, load_counts(test.load)->total);
	acknowledged_end(&test);
}

TEST_HARNESS_MAIN
