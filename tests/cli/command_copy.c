// SPDX-License-Identifier: GPL-2.0-only
/*
 * command_copy.c - thaw clone, thaw compact, thaw repair as they are typed: what they print, what they
 * do to the image of a program, and what happens when they cannot.
 */
#include "kselftest_harness.h"

#include "by_path.h"
#include "../../vm/js/engine/engine.h"
#include "support.h"
#include "thaw.h"

static const char counter_text[] =
	"import { on } from 'thaw'\n"
	"globalThis.ballast = Array.from({ length: 20000 }, (_, i) => ({ i, name: 'item ' + i }))\n"
	"let n = 0\n"
	"on('restore', () => console.log('restored at', n))\n"
	"setInterval(() => { n++; ballast[n].i = -n; console.log('n', n, ballast.length) }, 5)\n";

FIXTURE(copy)
{
	char *directory, *script, *image, *other;
	struct program program;
};

FIXTURE_SETUP(copy)
{
	self->directory = support_directory();
	self->script = support_format("%s/counter.js", self->directory);
	self->image = support_format("%s/counter.thaw", self->directory);
	self->other = support_format("%s/other.thaw", self->directory);
	support_write(self->script, counter_text);
}
FIXTURE_TEARDOWN(copy)
{
	if (self->program.pid)
		kill(self->program.pid, SIGKILL);
	program_free(&self->program);
	free(self->other);
	free(self->image);
	free(self->script);
	support_remove(self->directory);
}

static uint64_t newest_of(const char *image)
{
	struct thaw_generation *log;
	int count = path_log(image, &log, NULL);
	uint64_t newest = count > 0 ? log[count - 1].number : 0;

	if (count >= 0)
		free(log);
	return newest;
}

/* Runs until six more generations are durable, and ends it by SIGTERM: the last is what it printed last. */
static int count_some(struct program *program, const char *script, const char *image)
{
	uint64_t before = newest_of(image);

	program_free(program);
	*program = program_start(THAW("run", "--every", "20ms", "--image", image, script));
	for (double end = support_deadline(60);
	     newest_of(image) < before + 6 && support_seconds() < end;)
		program_wait_for(program, NULL, 0.02);
	kill(program->pid, SIGTERM);
	return program_finish(program, 60);
}

static unsigned lines(const char *text)
{
	unsigned count = 0;

	for (; *text; text++)
		count += *text == '\n';
	return count;
}

#define EXPECT_EXIT(code, ...)                                                         \
	do {                                                                           \
		program_free(&self->program);                                          \
		EXPECT_EQ(code, program_run(&self->program, NULL, THAW(__VA_ARGS__))); \
		if (self->program.errors[0])                                           \
			TH_LOG("%.300s", self->program.errors);                        \
	} while (0)

#define EXPECT_REFUSED(code, words, ...)                                  \
	do {                                                              \
		EXPECT_EXIT(code, __VA_ARGS__);                           \
		EXPECT_EQ(1, lines(self->program.errors));                \
		EXPECT_EQ(0, strncmp(self->program.errors, "thaw: ", 6)); \
		EXPECT_NE(NULL, strstr(self->program.errors, words));     \
	} while (0)

TEST_F(copy, a_clone_goes_on_by_itself)
{
	char *at;
	uint64_t older;

	ASSERT_EQ(143, count_some(&self->program, self->script, self->image));
	EXPECT_EXIT(0, "clone", self->image, self->other);
	EXPECT_NE(NULL, strstr(self->program.output, "generations, the newest is "));
	EXPECT_EXIT(0, "verify", self->other);
	ASSERT_EQ(143, count_some(&self->program, self->script, self->other));
	EXPECT_NE(NULL, strstr(self->program.output, "restored at"));
	EXPECT_LT(newest_of(self->image), newest_of(self->other));
	EXPECT_EXIT(0, "verify", self->image);
	EXPECT_EXIT(0, "verify", self->other);

	unlink(self->other);
	older = newest_of(self->image) - 2;
	at = support_format("%lu", (unsigned long)older);
	EXPECT_EXIT(0, "clone", "--at", at, "--json", self->image, self->other);
	EXPECT_NE(NULL, strstr(self->program.output, "\"generations\":"));
	EXPECT_NE(NULL, strstr(self->program.output, "\"reflink\":"));
	EXPECT_NE(NULL,
		  strstr(self->program.output, "\"generationsDropped\":0,\"namesDropped\":0,"));
	EXPECT_LT(newest_of(self->image), newest_of(self->other));
	EXPECT_EXIT(0, "verify", self->other);
	free(at);
}

/* Again and again, while the program runs: each is whole, and it never notices. */
TEST_F(copy, a_program_that_runs_is_cloned)
{
	struct program running =
		program_start(THAW("run", "--every", "10ms", "--image", self->image, self->script));

	ASSERT_TRUE(program_wait_for(&running, "n 20 ", 60));
	for (unsigned i = 0; i < 10; i++) {
		unlink(self->other);
		EXPECT_EXIT(0, "clone", self->image, self->other);
		EXPECT_EXIT(0, "verify", self->other);
	}
	/* The program does it itself; what it does not do is refused. */
	EXPECT_REFUSED(75, "has it open", "compact", "--newest", self->image);
	EXPECT_EXIT(0, "compact", self->image);
	EXPECT_EXIT(0, "verify", self->image);
	kill(running.pid, SIGTERM);
	EXPECT_EQ(143, program_finish(&running, 60));
	program_free(&running);
	ASSERT_EQ(143, count_some(&self->program, self->script, self->other));
	EXPECT_NE(NULL, strstr(self->program.output, "restored at"));
}

TEST_F(copy, a_compacted_image_is_gone_on_from)
{
	uint64_t newest, before;

	ASSERT_EQ(143, count_some(&self->program, self->script, self->image));
	newest = newest_of(self->image);
	before = support_size(self->image);
	EXPECT_EXIT(0, "compact", self->image);
	EXPECT_EQ(1, lines(self->program.output));
	EXPECT_NE(NULL, strstr(self->program.output, " before, "));
	EXPECT_NE(NULL, strstr(self->program.output, " after; "));
	EXPECT_EQ(newest, newest_of(self->image));
	EXPECT_LE(support_size(self->image), before + 65536);
	EXPECT_EXIT(0, "verify", self->image);
	EXPECT_EXIT(0, "compact", "--newest", "--json", "--quiet", self->image);
	EXPECT_NE(NULL, strstr(self->program.output, "\"generationsDropped\":"));
	EXPECT_EQ(newest, newest_of(self->image));
	EXPECT_EXIT(0, "verify", self->image);
	ASSERT_EQ(143, count_some(&self->program, self->script, self->image));
	EXPECT_NE(NULL, strstr(self->program.output, "restored at"));
	EXPECT_EQ(2, support_files(self->directory));
}

TEST_F(copy, a_damaged_image_is_repaired)
{
	ASSERT_EQ(143, count_some(&self->program, self->script, self->image));
	support_flip(self->image, 100, 1);
	support_flip(self->image, 4196, 1);
	EXPECT_REFUSED(65, "both header slots", "log", self->image);
	EXPECT_EXIT(0, "repair", self->image, self->other);
	EXPECT_NE(NULL, strstr(self->program.output, "whole: generation "));
	EXPECT_NE(NULL, strstr(self->program.output, "generations, the newest is "));
	EXPECT_EXIT(0, "verify", self->other);
	ASSERT_EQ(143, count_some(&self->program, self->script, self->other));
	EXPECT_NE(NULL, strstr(self->program.output, "restored at"));
}

/* Every page is damaged: it is told what of each generation, and nothing is made. */
TEST_F(copy, an_image_that_cannot_be_repaired)
{
	uint64_t bytes;

	ASSERT_EQ(143, count_some(&self->program, self->script, self->image));
	bytes = support_size(self->image);
	for (uint64_t offset = 8192; offset < bytes; offset += 4096)
		for (unsigned i = 0; i < 8; i++)
			support_flip(self->image,
				     offset + i * 512 + 40 < bytes ? offset + i * 512 + 40
								   : bytes - 1,
				     1);
	EXPECT_REFUSED(65, "restore the file from a backup", "repair", self->image, self->other);
	EXPECT_EXIT(65, "repair", "--json", self->image, self->other);
	EXPECT_NE(NULL, strstr(self->program.output, "\"ok\":false"));
	EXPECT_EQ(-1, access(self->other, F_OK));
	EXPECT_EQ(2, support_files(self->directory));
}

TEST_F(copy, wrong_input)
{
	static const char *const commands[] = {"clone", "repair"};
	char *missing = support_format("%s/missing.thaw", self->directory);
	char *nowhere = support_format("%s/nowhere/new.thaw", self->directory);

	ASSERT_EQ(143, count_some(&self->program, self->script, self->image));
	support_write(self->other, "mine");
	for (unsigned i = 0; i < 2; i++) {
		EXPECT_REFUSED(9, "exists already", commands[i], self->image, self->other);
		EXPECT_REFUSED(9, "exists already", commands[i], self->image, self->image);
		EXPECT_REFUSED(66, "missing.thaw", commands[i], missing, nowhere);
		EXPECT_REFUSED(66, "nowhere", commands[i], self->image, nowhere);
		EXPECT_REFUSED(76, "not a Thaw image", commands[i], self->script, missing);
		EXPECT_EQ(!i, !!strstr(self->program.errors, "thaw repair"));
		EXPECT_REFUSED(66, "cannot open it: Is a directory", commands[i], self->directory,
			       missing);
		EXPECT_REFUSED(9, "usage", commands[i], self->image);
		EXPECT_REFUSED(9, "one argument too many", commands[i], "a", "b", "c");
	}
	EXPECT_EQ(4, support_size(self->other));
	EXPECT_REFUSED(66, "nobody", "clone", "--at", "nobody", self->image, missing);
	EXPECT_REFUSED(66, "99999", "clone", "--at", "99999", self->image, missing);
	EXPECT_REFUSED(66, "missing.thaw", "compact", missing);
	EXPECT_REFUSED(76, "not a Thaw image", "compact", self->script);
	EXPECT_REFUSED(66, "Is a directory", "compact", self->directory);
	EXPECT_REFUSED(9, "--newst", "compact", "--newst", self->image);
	EXPECT_EQ(3, support_files(self->directory));
	EXPECT_EXIT(0, "verify", self->image);
	free(missing);
	free(nowhere);
}

/*
 * Every write, sync, truncate and read in turn fails: the command says so, the image is what it was, and
 * there is neither a new file nor half of one.
 */
TEST_F(copy, the_disk_fails)
{
	static const char *const failures[] = {"write:ENOSPC", "write:EIO",	  "fdatasync:EIO",
					       "read:EIO",     "truncate:ENOSPC", "open:EACCES"};
	static const char *const commands[] = {"clone", "compact", "repair"};
	unsigned refused = 0;

	ASSERT_EQ(143, count_some(&self->program, self->script, self->image));
	for (unsigned i = 0; i < 3 * 6; i++) {
		const char *command = commands[i / 6], *failure = failures[i % 6];
		unsigned passed = 0;

		/* Not each of hundreds of reads: the first ones, then ever fewer. */
		for (unsigned skip = 0;; skip += 1 + skip / 3) {
			char *injection = support_format("%s:%u", failure, skip);
			bool compact = i / 6 == 1;
			int code;

			unlink(self->other);
			setenv("THAW_INJECT", injection, 1);
			program_free(&self->program);
			code = program_run(&self->program, NULL,
					   compact ? THAW(command, self->image)
						   : THAW(command, self->image, self->other));
			unsetenv("THAW_INJECT");
			free(injection);
			passed = code ? 0 : passed + 1;
			if (passed == 8) /* it makes fewer of these calls, or gets over a failure */
				break;
			if (!code)
				continue;
			refused++;
			ASSERT_TRUE(code == 74 || code == 66 || code == 65)
			TH_LOG("%s %s:%u: %d %s", command, failure, skip, code,
			       self->program.errors);
			ASSERT_EQ(1, lines(self->program.errors));
			ASSERT_EQ(NULL, strstr(self->program.output, "kept"));
			ASSERT_TRUE(!compact || !strstr(self->program.errors, "cannot make it"))
			TH_LOG("%s", self->program.errors);
			ASSERT_EQ(2, support_files(self->directory));
			ASSERT_EQ(0, thaw_image_verify(self->image, NULL, NULL, NULL));
		}
	}
	TH_LOG("%u times refused", refused);
	EXPECT_LT(40, refused);
}

/* Ctrl-C: nothing of it stays. */
TEST_F(copy, interrupted)
{
	static const char *const commands[] = {"clone", "compact", "repair", "verify"};
	static const int signals[] = {SIGINT, SIGTERM};
	unsigned interrupted = 0;

	ASSERT_EQ(143, count_some(&self->program, self->script, self->image));
	for (unsigned i = 0; i < 80; i++) {
		const char *command = commands[i % 4];
		int code, signal = signals[i / 4 % 2];

		unlink(self->other);
		program_free(&self->program);
		self->program = program_start(i % 2 ? THAW(command, self->image)
						    : THAW(command, self->image, self->other));
		support_sleep(0.0005 * i);
		kill(self->program.pid, signal);
		code = program_finish(&self->program, 60);
		ASSERT_TRUE(!code || code == 128 + signal) TH_LOG("%d", code);
		if (code && self->program.errors[0]) {
			interrupted++;
			EXPECT_NE(NULL, strstr(self->program.errors, "nothing was changed"));
			EXPECT_EQ(-1, access(self->other, F_OK));
		}
		ASSERT_EQ(2 + !access(self->other, F_OK), support_files(self->directory));
		ASSERT_EQ(0, thaw_image_verify(self->image, NULL, NULL, NULL));
	}
	TH_LOG("%u of 80 were interrupted at work", interrupted);
}

TEST_HARNESS_MAIN
