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

#include <search.h>

#include "load/lines.h"
#include "process/acknowledged.h"

/* ---- The line server: its state is a tree, a number, and a table of counters */

struct taken {
	uint64_t number;
	char id[];
};

static void *taken_ids;
static uint64_t total, counters[1 << 16];

static int compare_ids(const void *a, const void *b)
{
	return strcmp(((const struct taken *)a)->id, ((const struct taken *)b)->id);
}

static struct taken *taken_of(const char *id, bool add)
{
	struct taken *key = malloc(sizeof(*key) + strlen(id) + 1), **found;

	if (!key)
		lines_die("malloc");
	strcpy(key->id, id);
	key->number = 0;
	found = add ? tsearch(key, &taken_ids, compare_ids) : tfind(key, &taken_ids, compare_ids);
	if (add && !found)
		lines_die("malloc");
	if (!found || *found != key)
		free(key);
	return found ? *found : NULL;
}

static uint64_t answer(const char *request)
{
	struct taken *taken;

	if (!strncmp(request, "add ", 4)) {
		taken = taken_of(request + 4, true);
		if (!taken->number)
			taken->number = ++total;
		return taken->number;
	}
	if (!strncmp(request, "get ", 4)) {
		taken = taken_of(request + 4, false);
		return taken ? taken->number : 0;
	}
	if (!strncmp(request, "count ", 6))
		return ++counters[strtoul(request + 6, NULL, 10) %
				  (sizeof(counters) / sizeof(counters[0]))];
	return total;
}

__attribute__((constructor)) static void be_server(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "lines"))
		lines_serve(&(struct lines){.answer = answer}, (unsigned)atoi(argv[2]));
}

/* ---- */

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
