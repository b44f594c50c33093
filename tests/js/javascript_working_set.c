// SPDX-License-Identifier: GPL-2.0-only
/*
 * thaw run --prefetch working-set: what a restored JavaScript program read first, the next one has in
 * memory before it asks for it.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include "support.h"

/*
 * Some 40 MiB, of which a restored program reads a part, for longer than a start lasts; or nothing, and
 * says when as many pages have come as it was told to expect.
 */
static const char program_text[] =
	"import { on, exit, stats, args } from 'thaw'\n"
	"const table = []\n"
	"for (let i = 0; i < 100000; i++) table.push({ id: i, name: 'record ' + i, tags: ['a', i % 7] })\n"
	"on('restore', () => {\n"
	"	const began = Date.now(), expected = Number(args[0])\n"
	"	if (!expected) {\n"
	"		let sum = 0\n"
	"		for (let i = 40000; i < 60000; i++) sum += table[i].tags[1]\n"
	"		console.log('read', sum)\n"
	"		setTimeout(() => exit(0), 2500)\n"
	"	} else setInterval(() => {\n"
	"		if (stats().pagesRestored < expected && Date.now() - began < 30000) return\n"
	"		console.log('here', stats().pagesRestored >= expected)\n"
	"		exit(0)\n"
	"	}, 20)\n"
	"})\n";

FIXTURE(start)
{
	char *directory, *script, *image;
	struct program program;
};
FIXTURE_SETUP(start)
{
	self->directory = support_directory();
	self->script = support_format("%s/table.js", self->directory);
	self->image = support_format("%s/table.thaw", self->directory);
	support_write(self->script, program_text);
}
FIXTURE_TEARDOWN(start)
{
	program_free(&self->program);
	free(self->image);
	free(self->script);
	support_remove(self->directory);
}

#define RUN(...)                                                                    \
	do {                                                                        \
		program_free(&self->program);                                       \
		ASSERT_EQ(0, program_run(&self->program, NULL, THAW(__VA_ARGS__)))  \
		{                                                                   \
			TH_LOG("%s%s", self->program.output, self->program.errors); \
		}                                                                   \
	} while (0)

TEST_F(start, brings_what_another_one_read)
{
	char *pages;
	long clusters;

	RUN("run", "--every", "0", self->script);
	RUN("inspect", "--json", self->image);
	EXPECT_NE(NULL, strstr(self->program.output, "\"workingSet\":{\"clusters\":0,"));
	RUN("run", "--every", "0", self->script);
	EXPECT_NE(NULL, strstr(self->program.output, "read "));
	RUN("inspect", "--json", self->image);
	ASSERT_EQ(1, sscanf(strstr(self->program.output, "\"clusters\":"), "\"clusters\":%ld",
			    &clusters));
	TH_LOG("%ld clusters", clusters);
	/* A fifth of the table, and what the engine needs; not all of it. */
	EXPECT_GT(clusters, 20);
	/* Not all of their pages need be stored. */
	pages = support_format("%ld", clusters * (65536 / sysconf(_SC_PAGESIZE)) / 2);
	RUN("run", "--every", "0", "--at", "1", "--prefetch", "working-set", self->script, pages);
	EXPECT_STREQ("here true\n", self->program.output);
	free(pages);
}

TEST_HARNESS_MAIN
