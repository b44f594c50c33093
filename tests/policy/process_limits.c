// SPDX-License-Identifier: GPL-2.0-only
/*
 * The limits of a process (ulimit): under each of them a program runs, or one line says which limit it
 * was, with exit code 69; nothing ends without a word. Where thaw check says ok, a program starts, is
 * continued and reads its files; where it does not, the line says "not ok".
 */
#define _GNU_SOURCE

#include "kselftest_harness.h"
#include <sys/resource.h>

#include "support.h"

#define MIB (1ull << 20)
#define GIB (1ull << 30)
#define NOBODY 54321

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define NEEDS_PLAIN_BUILD SKIP(return, "a sanitizer takes address space and threads of its own")
#else
#define NEEDS_PLAIN_BUILD (void)0
#endif

FIXTURE(limits)
{
	char *directory, *script;
	struct program program;
};
FIXTURE_SETUP(limits)
{
	self->directory = support_directory();
	self->script = support_format("%s/app.js", self->directory);
	ASSERT_EQ(0, chdir(self->directory));
	setenv("TMPDIR", self->directory, 1);
	support_write("module.js", "export default 'a module'\n");
	support_write(self->script,
		      "import { readFile, writeFile, on } from 'thaw'\n"
		      "import text from './module.js'\n"
		      "await writeFile('file', text)\n"
		      "console.log(await readFile('file', 'utf8'))\n"
		      "on('restore', async () => console.log(await readFile('file', 'utf8')))\n");
}
FIXTURE_TEARDOWN(limits)
{
	program_free(&self->program);
	free(self->script);
	support_remove(self->directory);
}

/* What the next programs get; this process goes on with what it had. */
static int run_limited(struct program *program, int resource, uint64_t limit,
		       const char *const arguments[])
{
	struct rlimit before;
	int code;

	/* Of descriptors, the test itself needs some: only the program gets few. */
	if (resource == RLIMIT_NOFILE) {
		char *command = support_format("ulimit -n %d && exec \"$@\"", (int)limit);
		const char *all[16] = {"/bin/sh", "-c", command, "sh"};

		for (unsigned i = 0; i < 11 && arguments[i]; i++)
			all[i + 4] = arguments[i];
		code = program_run(program, NULL, all);
		free(command);
		return code;
	}
	getrlimit(resource, &before);
	setrlimit(resource, &(struct rlimit){limit, before.rlim_max});
	code = program_run(program, NULL, arguments);
	setrlimit(resource, &before);
	return code;
}

#define LIMITED(resource, limit, ...)  \
	(program_free(&self->program), \
	 run_limited(&self->program, resource, limit, THAW(__VA_ARGS__)))

/* One line, and it names the limit. */
static bool is_one_line(const char *text, const char *word)
{
	const char *end = strchr(text, '\n');

	return end && !end[1] && strstr(text, word);
}

/*
 * Under this limit: check, a first start, and one that continues. `word` is in each line that is said about
 * it. Returns whether check said ok.
 */
static bool all_agree(struct __test_metadata *_metadata, FIXTURE_DATA(limits) * self, int resource,
		      uint64_t limit, const char *word)
{
	int check = LIMITED(resource, limit, "check"), code;
	bool ok = !check;

	EXPECT_EQ(ok, !!strstr(self->program.output, "ok: thaw runs here"));
	EXPECT_EQ(!ok, !!strstr(self->program.errors, "thaw: not ok: "));
	EXPECT_TRUE(ok || is_one_line(self->program.errors, word))
	{
		TH_LOG("%llu: check: %d: %s", (unsigned long long)limit, check,
		       self->program.errors);
	}
	EXPECT_TRUE(ok || check == 69)
	{
		TH_LOG("%llu: check: %d: %s", (unsigned long long)limit, check,
		       self->program.errors);
	}
	for (int start = 0; start < 2; start++) {
		code = LIMITED(resource, limit, "run", "-q", self->script);
		EXPECT_GT(128, code)
		{
			TH_LOG("%llu: start %d: %d: %s", (unsigned long long)limit, start, code,
			       self->program.errors);
		}
		EXPECT_TRUE(!code || !ok)
		{
			TH_LOG("%llu: start %d, where check is ok: %d: %s",
			       (unsigned long long)limit, start, code, self->program.errors);
		}
		EXPECT_TRUE(!code || *self->program.errors)
		{
			TH_LOG("%llu: start %d: %d without a word", (unsigned long long)limit,
			       start, code);
		}
		EXPECT_TRUE(code || !strcmp(self->program.output, "a module\n"));
	}
	unlink("app.thaw");
	return ok;
}

TEST_F(limits, open_files)
{
	unsigned good = 0;

	for (int limit = 4; limit <= 24; limit++)
		good += all_agree(_metadata, self, RLIMIT_NOFILE, limit, "open files");
	EXPECT_LT(0, good);
	EXPECT_GT(21, good);
}

TEST_F(limits, few_open_files_are_said_with_their_exit_code)
{
	for (int limit = 4; limit <= 12; limit++) {
		EXPECT_EQ(69, LIMITED(RLIMIT_NOFILE, limit, "run", "-q", self->script))
		{
			TH_LOG("%d", limit);
		}
		EXPECT_TRUE(is_one_line(self->program.errors, "open files"))
		{
			TH_LOG("%d: %s", limit, self->program.errors);
		}
		EXPECT_NE(NULL, strstr(self->program.errors, "ulimit -n"));
	}
}

TEST_F(limits, address_space)
{
	NEEDS_PLAIN_BUILD;
	EXPECT_FALSE(all_agree(_metadata, self, RLIMIT_AS, GIB, "ulimit -v"));
	EXPECT_EQ(69, LIMITED(RLIMIT_AS, GIB, "run", self->script));
	EXPECT_TRUE(is_one_line(self->program.errors, "ulimit -v allows 1024 MiB"))
	{
		TH_LOG("%s", self->program.errors);
	}
	EXPECT_NE(0, access("app.thaw", F_OK));
	/* Just below and above of what is needed, wherever that is. */
	for (uint64_t limit = 8300 * MIB; limit <= 9000 * MIB; limit += 100 * MIB)
		all_agree(_metadata, self, RLIMIT_AS, limit, "ulimit -v");
	EXPECT_TRUE(all_agree(_metadata, self, RLIMIT_AS, 14000000ull << 10, "ulimit -v"));
}

TEST_F(limits, data_segment)
{
	NEEDS_PLAIN_BUILD;
	EXPECT_FALSE(all_agree(_metadata, self, RLIMIT_DATA, 100 * MIB, "ulimit -d"));
	EXPECT_EQ(69, LIMITED(RLIMIT_DATA, 100 * MIB, "run", self->script));
	EXPECT_TRUE(is_one_line(self->program.errors, "ulimit -d allows 100 MiB"))
	{
		TH_LOG("%s", self->program.errors);
	}
	for (uint64_t limit = 200 * MIB; limit <= 500 * MIB; limit += 100 * MIB)
		all_agree(_metadata, self, RLIMIT_DATA, limit, "ulimit -d");
	EXPECT_TRUE(all_agree(_metadata, self, RLIMIT_DATA, 1000000ull << 10, "ulimit -d"));
}

/* The kernel counts all of a user's; root has no limit. */
TEST_F(limits, threads)
{
	unsigned good = 0;

	NEEDS_PLAIN_BUILD;
	if (geteuid())
		SKIP(return, "only root can become a user who has no other processes");
	ASSERT_EQ(0, chown(self->directory, NOBODY, NOBODY));
	ASSERT_EQ(0, setgid(NOBODY));
	ASSERT_EQ(0, setuid(NOBODY));
	if (access(THAW_BINARY, X_OK))
		SKIP(return, "the build's directory is not for everybody");
	setenv("HOME", self->directory, 1);
	for (int limit = 2; limit <= 12; limit++)
		good += all_agree(_metadata, self, RLIMIT_NPROC, limit, "ulimit -u");
	EXPECT_LT(0, good);
	EXPECT_GT(11, good);
}

static bool refuses(struct __test_metadata *_metadata, FIXTURE_DATA(limits) * self, int limit,
		    int code)
{
	EXPECT_TRUE(!code || (code == 69 && is_one_line(self->program.errors, "ulimit -u allows")))
	{
		TH_LOG("%d: %d: %s", limit, code, self->program.errors);
	}
	return code;
}

/* Without the thread that makes it durable. */
TEST_F(limits, a_program_that_could_not_be_durable_does_not_begin)
{
	NEEDS_PLAIN_BUILD;
	if (geteuid())
		SKIP(return, "only root can become a user who has no other processes");
	ASSERT_EQ(0, chown(self->directory, NOBODY, NOBODY));
	ASSERT_EQ(0, setgid(NOBODY));
	ASSERT_EQ(0, setuid(NOBODY));
	if (access(THAW_BINARY, X_OK))
		SKIP(return, "the build's directory is not for everybody");
	setenv("HOME", self->directory, 1);
	unlink(self->script);
	support_write(self->script, "console.log('it runs')\n");
	/* This process is one of the user's; how many the program needs depends on the kernel. */
	for (int limit = 2; limit <= 6; limit++) {
		int code = LIMITED(RLIMIT_NPROC, limit, "run", "--every", "50ms", self->script);
		bool refused = refuses(_metadata, self, limit, code);

		EXPECT_TRUE(refused || limit > 2);
		EXPECT_FALSE(refused && limit > 5);
		EXPECT_STREQ(refused ? "" : "it runs\n", self->program.output);
		EXPECT_EQ(refused, !!access("app.thaw", F_OK));
		unlink("app.thaw");
		code = LIMITED(RLIMIT_NPROC, limit, "-i", "app.thaw", "-e", "1");
		EXPECT_EQ(refused, refuses(_metadata, self, limit, code));
		unlink("app.thaw");
	}
}

TEST_F(limits, a_check_leaves_nothing_behind)
{
	unsigned before = support_files(self->directory);

	ASSERT_EQ(0, program_run(&self->program, NULL, THAW("check")));
	EXPECT_EQ(before, support_files(self->directory));
	/* Nor needs a place. */
	setenv("TMPDIR", "/nonexistent", 1);
	program_free(&self->program);
	EXPECT_EQ(0, program_run(&self->program, NULL, THAW("check")));
}

TEST_HARNESS_MAIN
