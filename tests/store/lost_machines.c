// SPDX-License-Identifier: GPL-2.0-only
/*
 * lost_machines.c - a service under `thaw exec --commit output --durable remote` whose machine is lost with all of its files, at
 * random moments, again and again: another machine goes on from the object store, and each write that was acknowledged is there
 * with the number that its client was told, and none was counted twice (process/acknowledged.h).
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include "process/acknowledged.h"
#include "process/line_server.h"
#include "store_server.h"
#include "machines.h"

static struct machines machines;
static const char *const options[] = {"--every", "100ms", "--durable", "remote", NULL};

FIXTURE(lost)
{
	const char *place;
};
FIXTURE_VARIANT(lost)
{
	struct service service;
	int kills;
};
FIXTURE_VARIANT_ADD(lost, lines){.service = {.kind = "lines", .protocol = LOAD_LINE}, .kills = 8};
FIXTURE_VARIANT_ADD(lost, node){
	.service = {"node", "acknowledges.js", "http", NULL, LOAD_HTTP, false}, .kills = 2};
FIXTURE_SETUP(lost)
{
	machines_begin(&machines);
	self->place = machines.store.place;
}
FIXTURE_TEARDOWN(lost)
{
	machines_end(&machines);
}

/* Nothing is left of the machine that it was on. */
static void on_another_machine(struct acknowledged *test)
{
	machines_lose(&machines, (unsigned)test->life % 2);
	machines_go(&machines, (unsigned)test->life % 2);
}

TEST_F_TIMEOUT(lost, what_was_acknowledged_is_there, 7200)
{
	struct acknowledged test = {.service = &variant->service,
				    .image = self->place,
				    .options = options,
				    .prepare = on_another_machine,
				    .commit_output = true};

	SKIP_SANITIZED();
	if (variant->service.program && !kills_have(variant->service.program))
		SKIP(return, "there is no %s here", variant->service.program);
	ASSERT_TRUE(acknowledged_kills(&test, kills_wanted(variant->kills)));
}

TEST_HARNESS_MAIN
