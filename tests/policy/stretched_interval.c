// SPDX-License-Identifier: GPL-2.0-only
/*
 * stretched_interval.c - a program that writes so much that generations at every interval would take a large part of its time
 * gets them less often, and --stats says how often.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include "by_path.h"
#include "support.h"
#include "thaw.h"

#define ASKED_NS 10000000ull

FIXTURE(interval)
{
	char *directory, *script, *image;
	struct program program;
};
FIXTURE_SETUP(interval)
{
	self->directory = support_directory();
	self->script = support_format("%s/app.js", self->directory);
	self->image = support_format("%s/app.thaw", self->directory);
}
FIXTURE_TEARDOWN(interval)
{
	program_free(&self->program);
	free(self->script);
	free(self->image);
	support_remove(self->directory);
}

TEST_F_TIMEOUT(interval, is_longer_where_generations_cost_much, 120)
{
	const char *arguments[] = {support_thaw(), "run",     "--every",   "10ms",	 "--stats",
				   "--json",	   "--image", self->image, self->script, NULL};
	unsigned long long asked = 0, achieved = 0;
	const char *at;

	support_write(self->script, "import { checkpoint, on } from 'thaw'\n"
				    "const all = new Uint8Array(48 << 20)\n"
				    "let n = 0, generations = 0\n"
				    "on('checkpoint', () => generations++)\n"
				    "setInterval(() => { all.fill(++n % 251); if (generations > 4) "
				    "process_ends() }, 1)\n"
				    "function process_ends() { console.log('enough'); all.fill(0); "
				    "generations = -1e9 }\n");
	self->program = program_start(arguments);
	ASSERT_TRUE(program_wait_for(&self->program, "enough", 60))
	{
		TH_LOG("%s", self->program.errors);
	}
	kill(self->program.pid, SIGTERM);
	program_wait_for_complaint(&self->program, "achievedNs", 60);
	program_wait_for_complaint(&self->program, "}\n", 60);
	at = strstr(self->program.errors, "\"everyNs\":");
	ASSERT_NE(NULL, at);
	ASSERT_EQ(2, sscanf(at, "\"everyNs\":%llu,\"achievedNs\":%llu", &asked, &achieved));
	ASSERT_EQ(ASKED_NS, asked);
	/* A first write to each of 12,288 pages takes longer than an interval. */
	ASSERT_GE(achieved, 5 * ASKED_NS);
}

TEST_HARNESS_MAIN
