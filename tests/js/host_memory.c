// SPDX-License-Identifier: GPL-2.0-only
/*
 * Whatever a program is given from outside is bounded by what its heap could take: files and what has no
 * end, modules, scripts, lines of the shell. More is refused, early, with the limit in the error, and
 * nothing of the host's memory is taken for it. Each program has a limit of its own, so that nothing that
 * goes wrong hurts the machine.
 */
#define _GNU_SOURCE

#include "kselftest_harness.h"
#include <sys/resource.h>

#include "support.h"

#define MIB (1ull << 20)
#define GIB (1ull << 30)
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define ADDRESS_SPACE RLIM_INFINITY /* a sanitizer takes its own, and more memory for everything */
#define RESIDENT (2 * GIB)
#else
#define ADDRESS_SPACE (16 * GIB)
#define RESIDENT (700 * MIB)
#endif

FIXTURE(host_memory)
{
	char *directory, *script;
	struct program program;
	struct rlimit before;
};
FIXTURE_SETUP(host_memory)
{
	self->directory = support_directory();
	self->script = support_format("%s/app.js", self->directory);
	ASSERT_EQ(0, chdir(self->directory));
	getrlimit(RLIMIT_AS, &self->before);
	setrlimit(RLIMIT_AS, &(struct rlimit){ADDRESS_SPACE, self->before.rlim_max});
}
FIXTURE_TEARDOWN(host_memory)
{
	setrlimit(RLIMIT_AS, &self->before);
	program_free(&self->program);
	free(self->script);
	support_remove(self->directory);
}

/* Of all programs of this test so far. */
static uint64_t most_resident(void)
{
	struct rusage usage;

	getrusage(RUSAGE_CHILDREN, &usage);
	return (uint64_t)usage.ru_maxrss << 10;
}

#define RUN(code)                                                                        \
	({                                                                               \
		support_write(self->script, code);                                       \
		program_run(&self->program, NULL, THAW("run", "--fresh", self->script)); \
	})

static char *sparse(const char *directory, const char *name, uint64_t bytes)
{
	char *path = support_format("%s/%s", directory, name);

	support_write(path, "");
	if (truncate(path, (off_t)bytes))
		support_die(path);
	return path;
}

TEST_F(host_memory, what_has_no_end_is_read_up_to_a_limit)
{
	EXPECT_EQ(
		0,
		RUN("import { readFile } from 'thaw'\n"
		    "for (const type of [undefined, 'utf8'])\n"
		    "  await readFile('/dev/zero', type).catch(e => console.log(e.code, e.message))\n"));
	EXPECT_STREQ(
		"EFBIG EFBIG: what has no size is read up to 256.0 MiB, and there is more, read '/dev/zero'\n"
		"EFBIG EFBIG: what has no size is read up to 256.0 MiB, and there is more, read '/dev/zero'\n",
		self->program.output);
	EXPECT_GT(RESIDENT, most_resident());
}

TEST_F(host_memory, a_file_that_the_heap_cannot_take_is_not_begun)
{
	char *path = sparse(self->directory, "large", 1024 * GIB);

	EXPECT_EQ(
		0,
		RUN("import { readFile } from 'thaw'\n"
		    "await readFile('large').catch(e => console.log(e.code, e.message))\n"
		    "await readFile('large', 'utf8').catch(e => console.log(e.code, e.message))\n"));
	EXPECT_NE(NULL, strstr(self->program.output,
			       "EFBIG EFBIG: 1024.0 GiB are more than the 2.0 GiB that "
			       "the heap can take now (of 4.0 GiB), read 'large'"))
	{
		TH_LOG("%s%s", self->program.output, self->program.errors);
	}
	EXPECT_NE(NULL, strstr(self->program.output, "than the 1.0 GiB"));
	EXPECT_GT(RESIDENT, most_resident());
	free(path);
}

/* In a turn that does not end before all could have been read: what was read waits in the host's memory. */
TEST_F(host_memory, many_files_at_once_all_arrive)
{
	char *path = sparse(self->directory, "piece", 4 * MIB);

	EXPECT_EQ(
		0,
		RUN("import { readFile } from 'thaw'\n"
		    "const all = Array.from({ length: 100 }, () => readFile('piece').then(d => d.length))\n"
		    "const end = performance.now() + 300\n"
		    "while (performance.now() < end);\n"
		    "console.log((await Promise.all(all)).reduce((a, b) => a + b))\n"));
	EXPECT_STREQ("419430400\n", self->program.output)
	{
		TH_LOG("%s", self->program.errors);
	}
	EXPECT_GT(RESIDENT, most_resident());
	free(path);
}

/* Of bytes that are no UTF-8, each becomes three. */
TEST_F(host_memory, text_that_gets_longer_is_counted_as_it_becomes)
{
	char *path = support_format("%s/bytes", self->directory);
	FILE *file = fopen(path, "w");

	ASSERT_NE(NULL, file);
	for (unsigned i = 0; i < 5 * MIB; i++)
		fputc(0xff, file);
	ASSERT_EQ(0, fclose(file));
	EXPECT_EQ(0, RUN("import { readFile } from 'thaw'\n"
			 "const text = await readFile('bytes', 'utf8')\n"
			 "console.log(text.length, text === '\\ufffd'.repeat(text.length))\n"));
	EXPECT_STREQ("5242880 true\n", self->program.output);
	free(path);
}

TEST_F(host_memory, text_that_no_string_can_hold_is_not_made)
{
	EXPECT_EQ(0,
		  RUN("try { new TextDecoder().decode(new Uint8Array(360 * 2 ** 20).fill(255)) }\n"
		      "catch (e) { console.log(e.name, e.message) }\n"));
	EXPECT_STREQ(
		"RangeError the text would be larger than 1024 MiB, the most that a string can be\n",
		self->program.output)
	{
		TH_LOG("%s", self->program.errors);
	}
	EXPECT_GT(2 * RESIDENT, most_resident());
}

TEST_F(host_memory, sources_have_a_limit)
{
	char *path = sparse(self->directory, "large.json", 1024 * GIB);
	char *image = support_format("%s/zero.thaw", self->directory);

	EXPECT_EQ(
		0,
		RUN("for (const name of ['/dev/zero', './large.json'])\n"
		    "  await import(name).catch(e => console.log(e.message.replace(/.*: /, '')))\n"));
	EXPECT_STREQ("it is no regular file; name one\n"
		     "larger than 256 MiB, the most that a source may have\n",
		     self->program.output);
	program_free(&self->program);
	EXPECT_EQ(66, program_run(&self->program, NULL, THAW("run", "-i", image, "/dev/zero")));
	EXPECT_STREQ(
		"thaw: cannot read /dev/zero: larger than 256 MiB, the most that a source may have\n",
		self->program.errors);
	EXPECT_GT(RESIDENT, most_resident());
	free(path);
	free(image);
}

TEST_F(host_memory, lines_of_the_shell_have_a_limit)
{
	char *command =
		support_format("exec " THAW_BINARY " repl %s/x.thaw < /dev/zero", self->directory);

	EXPECT_EQ(1, program_run(&self->program, NULL,
				 (const char *const[]){"/bin/sh", "-c", command, NULL}));
	EXPECT_NE(NULL, strstr(self->program.errors, "longer than 256 MiB"))
	{
		TH_LOG("%s", self->program.errors);
	}
	EXPECT_GT(RESIDENT, most_resident());
	free(command);
}

TEST_F(host_memory, a_pipe_is_read_to_its_end)
{
	char *path = support_format("%s/pipe", self->directory), *command;

	ASSERT_EQ(0, mkfifo(path, 0600));
	support_write(self->script, "import { readFile } from 'thaw'\n"
				    "console.log((await readFile('pipe')).length)\n");
	command = support_format("head -c 20000000 /dev/zero > %s & exec " THAW_BINARY
				 " run --fresh %s",
				 path, self->script);
	EXPECT_EQ(0, program_run(&self->program, NULL,
				 (const char *const[]){"/bin/sh", "-c", command, NULL}));
	EXPECT_STREQ("20000000\n", self->program.output);
	free(path);
	free(command);
}

TEST_HARNESS_MAIN
