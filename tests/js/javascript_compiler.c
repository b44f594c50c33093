// SPDX-License-Identifier: GPL-2.0-only
/*
 * A program that nobody wrote for Thaw: TypeScript's compiler, from npm, checks and compiles a real
 * project in one turn of some seconds (tests/programs/compile_typescript.js). Killed every 200 ms it
 * can only end if it is continued in the middle of that turn; and what it emits must not differ, by
 * one byte, from what it emits in peace or under node.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include "support.h"

#define KILL_SECONDS 0.2
#define KILLS_LEAST 10 /* fewer: this machine is so fast that nothing was tested */
/*
 * A life that brought nothing forward (a slow disk, a busy machine) is followed by one that is
 * longer by this much. So often in a row, 40 seconds in all: it does not get on, and never will.
 */
#define STUCK_MOST 20

/* For node, what compile_typescript.js imports from "thaw". */
static const char node_module[] =
	"export { readFile, writeFile } from 'node:fs/promises'\n"
	"export const args = process.argv.slice(2), exit = process.exit\n"
	"export const checkpoint = async () => {}\n"
	"export const stats = () => ({ heapBytes: process.memoryUsage().heapUsed })\n";

FIXTURE(compiler)
{
	char *directory, *script, *image, *peace, *other;
	struct program program;
	double seconds; /* in peace */
};

/* What the compiler emits in peace. */
FIXTURE_SETUP(compiler)
{
	double start = support_seconds();
	int code;

	self->directory = support_directory();
	self->script = support_format("%s/tests/programs/compile_typescript.js", THAW_SOURCE);
	self->image = support_format("%s/compiler.thaw", self->directory);
	self->peace = support_format("%s/peace.txt", self->directory);
	self->other = support_format("%s/other.txt", self->directory);
	self->program = program_start(THAW("run", "--every", "0", "--image", self->image,
					   self->script, THAW_NPM "/node_modules", self->peace));
	code = program_finish(&self->program, 100);
	self->seconds = support_seconds() - start;
	TH_LOG("in peace, %.1f s: %s", self->seconds, self->program.output);
	/* The two are the program's own: without them nothing would tell that types were checked. */
	ASSERT_TRUE(!code && strstr(self->program.output, ", 2 diagnostics"))
	{
		TH_LOG("exit code %d: %s", code, self->program.errors);
	}
	program_free(&self->program);
	unlink(self->image);
}
FIXTURE_TEARDOWN(compiler)
{
	program_free(&self->program);
	free(self->script);
	free(self->image);
	free(self->peace);
	free(self->other);
	support_remove(self->directory);
}

/* Does the program's other output equal what it wrote in peace? If not, `program` says where. */
static bool outputs_equal(struct program *program, const char *peace, const char *other)
{
	program_free(program);
	return !program_run(program, NULL, (const char *const[]){"cmp", peace, other, NULL});
}

TEST_F_TIMEOUT(compiler, emits_what_it_emits_under_node, 300)
{
	char *modules = support_format("%s/node_modules", self->directory);
	char *module = support_format("%s/thaw", modules);
	char *index = support_format("%s/index.js", module);
	char *package = support_format("%s/package.json", self->directory);
	char *package_of_module = support_format("%s/package.json", module);
	char *script = support_format("%s/compile.js", self->directory);
	int code;

	ASSERT_EQ(0, mkdir(modules, 0700));
	ASSERT_EQ(0, mkdir(module, 0700));
	support_write(package, "{\"type\":\"module\"}\n");
	support_write(package_of_module, "{\"type\":\"module\",\"main\":\"index.js\"}\n");
	support_write(index, node_module);
	/* A copy: node looks for "thaw" from where the importing file is. */
	ASSERT_EQ(0, program_run(&self->program, NULL,
				 (const char *const[]){"cp", self->script, script, NULL}));
	program_free(&self->program);
	code = program_run(
		&self->program, NULL,
		(const char *const[]){"node", script, THAW_NPM "/node_modules", self->other, NULL});
	if (code == 127)
		SKIP(goto out, "node is not installed");
	EXPECT_EQ(0, code)
	{
		TH_LOG("%s%s", self->program.output, self->program.errors);
	}
	EXPECT_TRUE(outputs_equal(&self->program, self->peace, self->other))
	{
		TH_LOG("%s%s", self->program.output, self->program.errors);
	}
out:
	free(modules);
	free(module);
	free(index);
	free(package);
	free(package_of_module);
	free(script);
}

/* The generation a process started from, as --verbose tells; 0: it began anew, or did not get there. */
static unsigned long long restored_generation(const char *errors)
{
	const char *at = strstr(errors, "restored generation ");

	return at ? strtoull(at + strlen("restored generation "), NULL, 10) : 0;
}

TEST_F_TIMEOUT(compiler, killed_every_200_ms_emits_the_same, 400)
{
	const char *const *command = THAW("run", "--every", "50ms", "--verbose", "--image",
					  self->image, self->script, THAW_NPM "/node_modules",
					  self->other);
	unsigned long long generation = 0, newest = 0;
	int kills = 0, stuck = 0, code;
	double start = support_seconds();

	for (;;) {
		self->program = program_start(command);
		/* It parses nine megabytes in one call, which nothing can stop in the middle. */
		if (!kills)
			ASSERT_TRUE(program_wait_for(&self->program, "loaded ", 60))
			{
				TH_LOG("%s%s", self->program.output, self->program.errors);
			}
		code = program_finish_by(&self->program,
					 support_seconds() + KILL_SECONDS * (stuck + 1));
		if (code != 124)
			break;
		newest = restored_generation(self->program.errors);
		stuck = newest > generation ? 0 : stuck + 1;
		ASSERT_TRUE(newest >= generation || !*self->program.errors)
		{
			TH_LOG("kill %d went back from %llu: %s", kills, generation,
			       self->program.errors);
		}
		generation = newest > generation ? newest : generation;
		kills++;
		ASSERT_LT(stuck, STUCK_MOST)
		{
			TH_LOG("no end after %d kills; the last %d went on from generation %llu: %s",
			       kills, stuck, generation, self->program.errors);
		}
		program_free(&self->program);
	}
	TH_LOG("%d kills, %.1f s instead of %.1f s, up to generation %llu", kills,
	       support_seconds() - start, self->seconds, generation);
	ASSERT_EQ(0, code)
	{
		TH_LOG("%s%s", self->program.output, self->program.errors);
	}
	EXPECT_GT(kills, KILLS_LEAST);
	EXPECT_TRUE(outputs_equal(&self->program, self->peace, self->other))
	{
		TH_LOG("%s%s", self->program.output, self->program.errors);
	}
}

TEST_HARNESS_MAIN
