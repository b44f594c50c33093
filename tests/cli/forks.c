// SPDX-License-Identifier: GPL-2.0-only
/*
 * forks.c - thaw run --fork-of: many programs begin as one generation of an image is, share the memory that they do not write,
 * and go ways of their own. The image may be in use, or go; forks may be killed; and what cannot be forked is refused.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <sys/file.h>

#include "shell_line.h"

#define MIB (1u << 20)
#define FORKS 50

FIXTURE(forks)
{
	char *directory;
	struct program program;
	struct program forks[FORKS];
};
FIXTURE_SETUP(forks)
{
	char *why;

	self->directory = support_directory();
	ASSERT_EQ(0, chdir(self->directory));
	why = support_kernel_lacks(self->directory);
	if (why)
		SKIP(return, "%s", why);
	setenv("THAW_KEY", "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff", 1);
	support_write(
		"a.js",
		"import { on, args, effectId, checkpoint, generation } from 'thaw'\n"
		"globalThis.n = 0\n"
		"globalThis.effect = effectId()\n"
		"on('restore', async (e) => {\n"
		"	again = true\n"
		"	console.log(JSON.stringify([n, args, e.generation, e.fork, e.restores]))\n"
		"	console.log('own', Math.random(), crypto.randomUUID(), effectId())\n"
		"	if (args[0] === 'writes') try { await checkpoint() } catch (error) { console.log(error.message) }\n"
		"	if (args[0] !== 'goes-on') exit(7)\n"
		"})\n"
		"import { exit } from 'thaw'\n"
		"let again = false\n"
		"setTimeout(function later() {\n"
		"	again ? console.log('later', ++n) : setTimeout(later, 3)\n"
		"}, 3)\n"
		"setInterval(() => {}, 1e9)\n"
		"console.log('started')\n");
	program_free(&self->program);
	self->program = program_start(THAW("run", "--every", "0", "a.js"));
	ASSERT_TRUE(program_wait_for(&self->program, "started", 60));
	kill(self->program.pid, SIGTERM);
	ASSERT_EQ(128 + SIGTERM, program_finish(&self->program, 60))
	TH_LOG("%s", self->program.errors);
}
FIXTURE_TEARDOWN(forks)
{
	for (unsigned i = 0; i < FORKS; i++)
		program_free(&self->forks[i]);
	program_free(&self->program);
	ASSERT_EQ(0, chdir("/"));
	support_remove(self->directory);
}

/* Files that forks share, beside the image. */
static unsigned flat_files(void)
{
	DIR *directory = opendir(".");
	unsigned count = 0;

	for (struct dirent *entry; directory && (entry = readdir(directory));)
		count += strstr(entry->d_name, ".thaw-flat-") != NULL;
	if (directory)
		closedir(directory);
	return count;
}

static char *line_with(const char *text, const char *begin)
{
	const char *at = strstr(text, begin);

	return at ? strndup(at, strcspn(at, "\n")) : strdup("");
}

TEST_F(forks, each_is_itself_and_the_image_stays)
{
	char *first, *second;

	SHELL(0, "cat a.thaw >before");
	SHELL(7, "'%s' run --fork-of a.thaw x y", THAW_BINARY);
	EXPECT_EQ(self->program.output,
		  strstr(self->program.output, "[0,[\"x\",\"y\"],1,true,1]\n"))
	TH_LOG("%s", self->program.output);
	EXPECT_STREQ("", self->program.errors);
	first = line_with(self->program.output, "own");
	SHELL(7, "'%s' run --fork-of a.thaw x y", THAW_BINARY);
	second = line_with(self->program.output, "own");
	/* Random numbers, and the ids of effects. */
	for (char *save_first, *save_second, *one = strtok_r(first, " ", &save_first),
					     *two = strtok_r(second, " ", &save_second);
	     one && two;
	     one = strtok_r(NULL, " ", &save_first), two = strtok_r(NULL, " ", &save_second)) {
		if (strcmp(one, "own"))
			EXPECT_STRNE(one, two);
	}
	free(first);
	free(second);
	/* It has no generations, and says so. */
	SHELL(7, "'%s' run --fork-of a.thaw writes", THAW_BINARY);
	EXPECT_NE(NULL, strstr(self->program.output, "there is no image"))
	TH_LOG("%s", self->program.output);
	/* Timers go on, and it ends when a signal says so. */
	self->forks[0] = program_start(THAW("run", "--fork-of", "a.thaw", "goes-on"));
	ASSERT_TRUE(program_wait_for(&self->forks[0], "later 1", 60));
	EXPECT_EQ(1, flat_files());
	SHELL(0,
	      "'%s' top --once >top; ! grep 'fork-of a.thaw goes-on' top && ! grep thaw-flat top",
	      THAW_BINARY);
	kill(self->forks[0].pid, SIGTERM);
	EXPECT_EQ(128 + SIGTERM, program_finish(&self->forks[0], 60));
	EXPECT_STREQ("", self->forks[0].errors);
	EXPECT_EQ(0, flat_files());
	SHELL(0, "cmp before a.thaw && '%s' log a.thaw | grep -c signal", THAW_BINARY);
	EXPECT_STREQ("1\n", self->program.output);
}

TEST_F(forks, of_a_generation)
{
	SHELL(0, "'%s' -i a.thaw -p 'n = 5' && '%s' tag a.thaw five 2 && '%s' -i a.thaw -p 'n = 6'",
	      THAW_BINARY, THAW_BINARY, THAW_BINARY);
	SHELL(7, "'%s' run --fork-of a.thaw", THAW_BINARY);
	EXPECT_EQ(self->program.output, strstr(self->program.output, "[6,[],4,true,"))
	TH_LOG("%s", self->program.output);
	SHELL(7, "'%s' run --fork-of a.thaw --at five", THAW_BINARY);
	EXPECT_EQ(self->program.output, strstr(self->program.output, "[5,[],2,true,"));
	SHELL(7, "'%s' run --at 1 --fork-of a.thaw", THAW_BINARY);
	EXPECT_EQ(self->program.output, strstr(self->program.output, "[0,[],1,true,"));
	SHELL(66, "'%s' run --fork-of a.thaw --at nothing", THAW_BINARY);
}

/* A clone, which is told that it is one until it has a generation of its own. */
TEST_F(forks, with_an_image_of_its_own)
{
	char *effect;

	SHELL(7, "'%s' run --fork-of a.thaw --image b.thaw one", THAW_BINARY);
	EXPECT_EQ(self->program.output, strstr(self->program.output, "[0,[\"one\"],1,true,"));
	effect = line_with(self->program.output, "own");
	/* It has ended: exit() is final, in this one. */
	SHELL(7, "'%s' run --fork-of a.thaw --image b.thaw two", THAW_BINARY);
	EXPECT_STREQ("", self->program.output);
	EXPECT_NE(NULL, strstr(self->program.errors, "b.thaw is there"));
	/* One that dies before its first generation begins as a fork again, in the same line. */
	for (unsigned i = 0; i < 2; i++) {
		self->forks[i] = program_start(THAW("run", "--every", "0", "--fork-of", "a.thaw",
						    "--image", "c.thaw", "goes-on"));
		ASSERT_TRUE(program_wait_for(&self->forks[i], "later 1", 60))
		TH_LOG("%s", self->forks[i].errors);
		EXPECT_NE(NULL, strstr(self->forks[i].output, "[0,[\"goes-on\"],1,true,"));
		program_kill(&self->forks[i]);
	}
	EXPECT_STREQ(strrchr(line_with(self->forks[0].output, "own"), ' '),
		     strrchr(line_with(self->forks[1].output, "own"), ' '));
	EXPECT_STRNE(strrchr(line_with(self->forks[0].output, "own"), ' '), strrchr(effect, ' '));
	free(effect);
	self->forks[2] = program_start(THAW("run", "--every", "10ms", "--fork-of", "a.thaw",
					    "--image", "c.thaw", "goes-on"));
	ASSERT_TRUE(program_wait_for(&self->forks[2], "later 1", 60));
	kill(self->forks[2].pid, SIGTERM);
	ASSERT_EQ(128 + SIGTERM, program_finish(&self->forks[2], 60));
	SHELL(7, "'%s' run --fork-of a.thaw --image c.thaw", THAW_BINARY);
	EXPECT_EQ(self->program.output, strstr(self->program.output, "[1,[],"))
	TH_LOG("%s", self->program.output);
	EXPECT_NE(NULL, strstr(self->program.output, ",null,2]\n"));
	SHELL(9, "'%s' run --fork-of a.thaw --image a.thaw", THAW_BINARY);
	EXPECT_NE(NULL, strstr(self->program.errors, "fork of itself"));
}

/* ---- Many ---- */

static const char large[] =
	"import { on } from 'thaw'\n"
	"globalThis.large = new Uint8Array(64 << 20)\n"
	"for (let i = 0; i < large.length; i += 4096) large[i] = 1 + i / 4096 % 255\n"
	"on('restore', () => {\n"
	"	for (let i = 0; i < 1 << 20; i += 4096) large[i]++\n"
	"	console.log('ready', large[(64 << 20) - 4096])\n"
	"})\n"
	"setInterval(() => {}, 1e9)\n"
	"console.log('started')\n";

static bool make_large(struct program *program)
{
	bool made;

	support_write("large.js", large);
	program_free(program);
	*program = program_start(THAW("run", "--every", "0", "large.js"));
	made = program_wait_for(program, "started", 60);
	kill(program->pid, SIGTERM);
	return program_finish(program, 60) == 128 + SIGTERM && made;
}

/* KiB; 0: it cannot be read. */
static uint64_t pss_of(pid_t pid)
{
	char *path = support_format("/proc/%d/smaps_rollup", (int)pid), line[256];
	FILE *file = fopen(path, "re");
	unsigned long long kib = 0;

	free(path);
	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, "Pss: %llu", &kib) == 1)
			break;
	if (file)
		fclose(file);
	return kib;
}

static bool all_ready(struct program forks[FORKS])
{
	for (unsigned i = 0; i < FORKS; i++)
		if (!program_wait_for(&forks[i], "ready 64\n", 100)) {
			fprintf(stderr, "# fork %u: %s%s\n", i, forks[i].output, forks[i].errors);
			return false;
		}
	return true;
}

/*
 * Each writes 1 MiB of 64. The page cache holds them once: what of that is counted, each has its part of. With copies, it
 * would be 3.2 GiB.
 */
TEST_F(forks, fifty_share_what_they_do_not_write)
{
	uint64_t sum = 0, one;

	ASSERT_TRUE(make_large(&self->program)) TH_LOG("%s", self->program.errors);
	for (unsigned i = 0; i < FORKS; i++)
		self->forks[i] = program_start(THAW("run", "--fork-of", "large.thaw"));
	ASSERT_TRUE(all_ready(self->forks));
	EXPECT_EQ(1, flat_files());
	for (unsigned i = 0; i < FORKS; i++) {
		one = pss_of(self->forks[i].pid);
		EXPECT_LT(1024, one);
		EXPECT_STREQ("", self->forks[i].errors);
		sum += one;
	}
	TH_LOG("%u forks of 64 MiB: %llu MiB in all", FORKS, (unsigned long long)sum >> 10);
#ifndef __SANITIZE_ADDRESS__
	EXPECT_GT((64 + FORKS * 4) << 10, sum);
#endif
	/* Killed ones leave the file to the others, and the last of them to whoever forks next. */
	for (unsigned i = 0; i < FORKS; i++)
		program_kill(&self->forks[i]);
	EXPECT_EQ(1, flat_files());
	program_free(&self->forks[0]);
	self->forks[0] = program_start(THAW("run", "--fork-of", "large.thaw"));
	ASSERT_TRUE(program_wait_for(&self->forks[0], "ready 64\n", 60));
	EXPECT_EQ(1, flat_files());
	kill(self->forks[0].pid, SIGINT);
	EXPECT_EQ(128 + SIGINT, program_finish(&self->forks[0], 60));
	EXPECT_EQ(0, flat_files());
}

/* Also where no file can be made that they share: that is told, and they are right. */
TEST_F(forks, without_room_for_the_file)
{
	char name[201];

	memset(name, 'a', sizeof(name));
	name[200] = '\0';
	SHELL(7, "cp a.thaw %s; '%s' run --fork-of %s", name, THAW_BINARY, name);
	EXPECT_NE(NULL, strstr(self->program.errors, "its pages are its own"))
	TH_LOG("%s", self->program.errors);
	EXPECT_EQ(self->program.output, strstr(self->program.output, "[0,[],1,true,1]\n"));
	SHELL(7, "'%s' run -q --fork-of %s", THAW_BINARY, name);
	EXPECT_STREQ("", self->program.errors);
	/* And where there is no memory either, it does not begin. */
	SHELL(74, "ulimit -f 1; '%s' run --fork-of a.thaw", THAW_BINARY);
	EXPECT_STREQ("", self->program.output);
}

/* Each fork sees the writer's state of one instant: two numbers that always go together. */
TEST_F(forks, beside_the_program_that_writes_the_image)
{
	static const char writer[] =
		"import { on, exit, checkpoint } from 'thaw'\n"
		"globalThis.a = new Uint32Array(1 << 18)\n"
		"on('restore', (e) => { console.log(a.every((x) => x === a[0]) ? 'whole' : 'torn'); exit(0) })\n"
		"let n = 0\n"
		"setInterval(() => { a.fill(++n); if (n === 5) console.log('writes') }, 1)\n";
	struct program *run = &self->forks[0];

	support_write("w.js", writer);
	*run = program_start(THAW("run", "--every", "5ms", "--retain", "1", "w.js"));
	ASSERT_TRUE(program_wait_for(run, "writes", 60));
	for (unsigned i = 0; i < 10; i++) {
		SHELL(0, "'%s' run --fork-of w.thaw", THAW_BINARY);
		EXPECT_STREQ("whole\n", self->program.output);
		EXPECT_STREQ("", self->program.errors);
	}
	EXPECT_TRUE(support_lives(run->pid));
	program_kill(run);
	EXPECT_EQ(0, flat_files());
}

TEST_F(forks, the_image_may_go)
{
	self->forks[0] = program_start(THAW("run", "--fork-of", "a.thaw", "goes-on"));
	ASSERT_TRUE(program_wait_for(&self->forks[0], "later 1", 60));
	SHELL(66, "rm a.thaw; '%s' run --fork-of a.thaw", THAW_BINARY);
	kill(self->forks[0].pid, SIGTERM);
	EXPECT_EQ(128 + SIGTERM, program_finish(&self->forks[0], 60));
	EXPECT_STREQ("", self->forks[0].errors);
	EXPECT_EQ(0, flat_files());
}

/* ---- Refused ---- */

static void expect_refused(struct __test_metadata *_metadata, const struct program *program,
			   const char *what)
{
	EXPECT_NE(NULL, strstr(program->errors, what)) TH_LOG("%s", program->errors);
	EXPECT_EQ(program->errors + strlen(program->errors) - 1, strchr(program->errors, '\n'));
	EXPECT_STREQ("", program->output);
}

#define REFUSED(code, what, ...)                                 \
	do {                                                     \
		SHELL(code, __VA_ARGS__);                        \
		expect_refused(_metadata, &self->program, what); \
	} while (0)

TEST_F(forks, what_makes_no_sense_is_refused)
{
	static const char *const options[] = {"--commit output", "--prefetch all", "--retain 3",
					      "--metrics-listen 127.0.0.1:1"};

	for (unsigned i = 0; i < sizeof(options) / sizeof(*options); i++)
		REFUSED(9, "an image of its own", "'%s' run --fork-of a.thaw %s", THAW_BINARY,
			options[i]);
	REFUSED(9, "exclude each other", "'%s' run --fork-of a.thaw --fresh", THAW_BINARY);
	REFUSED(9, "exclude each other", "'%s' run --fork-of a.thaw --upgrade", THAW_BINARY);
	REFUSED(9, "compact --encrypt", "'%s' run --fork-of a.thaw --image e.thaw --encrypt",
		THAW_BINARY);
	REFUSED(9, "usage", "'%s' run", THAW_BINARY);
	REFUSED(66, "none.thaw", "'%s' run --fork-of none.thaw", THAW_BINARY);
	REFUSED(76, "thaw repl", "echo 1 | '%s' repl s.thaw >said; '%s' run --fork-of s.thaw",
		THAW_BINARY, THAW_BINARY);
	REFUSED(76, "thaw repl", "'%s' run --fork-of s.thaw --image t.thaw", THAW_BINARY);
}

/* What only a key opens is not written beside it for all to read; nor is it lost in a clone. */
TEST_F(forks, of_an_encrypted_image)
{
	support_write("e.js", "import { on } from 'thaw'\n"
			      "globalThis.secret = 'a secret '.repeat(1000)\n"
			      "on('restore', (e) => console.log('ready', e.fork))\n"
			      "setInterval(() => {}, 1e9)\n"
			      "console.log('started')\n");
	self->forks[0] = program_start(THAW("run", "--every", "0", "--encrypt", "e.js"));
	ASSERT_TRUE(program_wait_for(&self->forks[0], "started", 60));
	kill(self->forks[0].pid, SIGTERM);
	ASSERT_EQ(128 + SIGTERM, program_finish(&self->forks[0], 60));
	self->forks[1] = program_start(THAW("run", "--fork-of", "e.thaw"));
	self->forks[2] = program_start(
		THAW("run", "--every", "0", "--fork-of", "e.thaw", "--image", "f.thaw"));
	for (unsigned i = 1; i < 3; i++) {
		ASSERT_TRUE(program_wait_for(&self->forks[i], "ready true", 60))
		TH_LOG("%s", self->forks[i].errors);
	}
	EXPECT_EQ(0, flat_files());
	EXPECT_NE(NULL, strstr(self->forks[1].errors, "its pages are its own"));
	SHELL(1, "grep -rl 'a secret a secret' .");
	SHELL(76,
	      "THAW_KEY=ff112233445566778899aabbccddeeff00112233445566778899aabbccddeeff '%s' run --fork-of e.thaw",
	      THAW_BINARY);
	for (unsigned i = 1; i < 3; i++)
		program_kill(&self->forks[i]);
}

/* A process, whose memory lies at addresses of its own. */
TEST_F(forks, of_thaw_exec_is_refused)
{
	SKIP_SANITIZED();
	SHELL(0, "'%s' exec --every 0 --image p.thaw sh -c 'thaw=1' || true", THAW_BINARY);
	if (access("p.thaw", R_OK))
		SKIP(return, "thaw exec does not run here: %s", self->program.errors);
	REFUSED(76, "an image of thaw exec", "'%s' run --fork-of p.thaw", THAW_BINARY);
	REFUSED(76, "an image of thaw exec", "'%s' run --fork-of p.thaw --image q.thaw",
		THAW_BINARY);
	EXPECT_NE(0, access("q.thaw", F_OK));
}

/* In the middle of a turn: with this build and this key there, else a generation between turns is offered. */
TEST_F(forks, in_the_middle_of_a_turn)
{
	support_write("m.js", "console.log('begun'); await null\n"
			      "for (let i = 0; i < 4e8; i++) if (i === 1e5) console.log('middle')\n"
			      "console.log('end')\n");
	self->forks[0] = program_start(THAW("run", "--every", "0", "m.js"));
	ASSERT_TRUE(program_wait_for(&self->forks[0], "middle", 60));
	kill(self->forks[0].pid, SIGTERM);
	ASSERT_EQ(128 + SIGTERM, program_finish(&self->forks[0], 60));
	REFUSED(76, "none between turns",
		"THAW_KEY=ff112233445566778899aabbccddeeff00112233445566778899aabbccddeeff '%s' run --fork-of m.thaw",
		THAW_BINARY);
	self->forks[1] = program_start(THAW("run", "--fork-of", "m.thaw"));
	EXPECT_FALSE(program_wait_for(&self->forks[1], "nothing", 0.2));
	EXPECT_TRUE(support_lives(self->forks[1].pid)) TH_LOG("%s", self->forks[1].errors);
	kill(self->forks[1].pid, SIGTERM);
	program_finish(&self->forks[1], 60);
	EXPECT_STREQ("", self->forks[1].output);
}

TEST_HARNESS_MAIN
