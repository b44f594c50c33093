// SPDX-License-Identifier: GPL-2.0-only
/*
 * exec_inspect.c - images of `thaw exec`, as people see and use them: inspect, map, diff and log say what is in them,
 * also while the program runs; and what tag, rollback, clone, compact and repair leave goes on.
 *
 * The guest is this program itself (be_guest()): it does one step for each letter on its standard input, and says
 * how many it has done.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

#include "process/descriptors/descriptors.h"
#include "support.h"

#define HEAP_PAGES 300
#define MORE_PAGES 40

/* ---- The guest */

static void *wait_for_ever(void *arg)
{
	for (;;)
		pause();
	return arg;
}

static void start_thread(const char *name)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, wait_for_ever, NULL) || pthread_setname_np(thread, name))
		_exit(97);
}

static void say(unsigned steps)
{
	char line[32];
	int bytes = snprintf(line, sizeof(line), "%u steps\n", steps);

	if (write(1, line, (size_t)bytes) != bytes)
		_exit(99);
}

static void map_more(void)
{
	uint8_t *more = mmap(NULL, MORE_PAGES * PAGE, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	for (unsigned i = 0; i < MORE_PAGES; i++)
		more[i * PAGE] = (uint8_t)(i + 1);
}

static void step_by_step(const char *file)
{
	uint8_t *heap = sbrk(HEAP_PAGES * PAGE);
	unsigned steps = 0;
	char letter;

	memset(heap, 7, HEAP_PAGES * PAGE);
	if (eventfd(42, 0) < 0 || open(file, O_RDONLY) < 0)
		_exit(98);
	start_thread("first-thread");
	say(steps);
	while (read(0, &letter, 1) == 1) {
		if (letter == '\n')
			continue;
		steps++;
		heap[steps * PAGE]++;
		if (letter == 'q')
			_exit(0);
		if (letter == 'm')
			map_more();
		else if (letter == 't')
			start_thread("late-thread");
		else if (letter == 'f' && eventfd(43, 0) < 0)
			_exit(98);
		say(steps);
	}
	for (;;)
		pause();
}

__attribute__((constructor)) static void be_guest(int argc, char **argv)
{
	if (argc > 2 && !strcmp(argv[1], "guest-steps"))
		step_by_step(argv[2]);
}

/* ---- */

FIXTURE(image)
{
	char *directory, *path, *file;
	char guest[4096]; /* this program */
	struct program program, command;
};

FIXTURE_SETUP(image)
{
#ifdef __SANITIZE_ADDRESS__
	/* Its heap lies where the control block and the restorer do. */
	SKIP(return, "a program with AddressSanitizer cannot be a guest");
#endif
	memset(self->guest, 0, sizeof(self->guest));
	self->directory = support_directory();
	self->path = support_format("%s/a.thaw", self->directory);
	self->file = support_format("%s/read.txt", self->directory);
	support_write(self->file, "what it reads\n");
	self->program = self->command = (struct program){.in = -1};
	ASSERT_LT(0, readlink("/proc/self/exe", self->guest, sizeof(self->guest) - 1));
	setenv("THAW_KEY", "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff", 1);
}

FIXTURE_TEARDOWN(image)
{
	if (!self->directory)
		return;
	program_free(&self->program);
	program_free(&self->command);
	free(self->path);
	free(self->file);
	support_remove(self->directory);
}

/* Runs a command to its end: what it said is in self->command. */
#define COMMAND(expected, ...)                                                            \
	do {                                                                              \
		program_free(&self->command);                                             \
		ASSERT_EQ(expected, program_run(&self->command, NULL, THAW(__VA_ARGS__))) \
		TH_LOG("%s%s", self->command.output, self->command.errors);               \
	} while (0)
#define SAYS(text)                                          \
	EXPECT_NE(NULL, strstr(self->command.output, text)) \
	TH_LOG("no '%s' in: %s", text, self->command.output)
#define DOES_NOT_SAY(text)                                  \
	EXPECT_EQ(NULL, strstr(self->command.output, text)) \
	TH_LOG("'%s' in: %s", text, self->command.output)
#define COMPLAINS(text)                                     \
	EXPECT_NE(NULL, strstr(self->command.errors, text)) \
	TH_LOG("no '%s' in: %s", text, self->command.errors)

static bool starts(FIXTURE_DATA(image) * self, const char *path, const char *at, const char *said)
{
	program_free(&self->program);
	self->program = at ? program_start(THAW("exec", "--every", "0", "--image", path, "--at", at,
						self->guest, "guest-steps", self->file))
			   : program_start(THAW("exec", "--every", "0", "--image", path,
						self->guest, "guest-steps", self->file));
	if (!at && !said[0]) /* it was restored: it says something when it is asked */
		return true;
	return program_wait_for(&self->program, said, 60);
}

static bool does(FIXTURE_DATA(image) * self, const char *letters, const char *said)
{
	return write(self->program.in, letters, strlen(letters)) == (ssize_t)strlen(letters) &&
	       program_wait_for(&self->program, said, 60);
}

/* A generation of a program that runs; it may not listen yet. */
static bool takes(const char *path, const char *name)
{
	double end = support_deadline(30);
	int code = 1;

	while (code && support_seconds() < end) {
		struct program asking;

		code = program_run(&asking, NULL, THAW("checkpoint", "--name", name, path));
		if (code && code != 66)
			fprintf(stderr, "# checkpoint: %s", asking.errors);
		program_free(&asking);
		if (code)
			support_sleep(0.02);
	}
	return !code;
}

/* An image with two generations, "one" after no step and "two" after three, of a program that runs on. */
static bool makes_two(FIXTURE_DATA(image) * self)
{
	return starts(self, self->path, NULL, "0 steps\n") && takes(self->path, "one") &&
	       does(self, "mtf", "3 steps\n") && takes(self->path, "two");
}

/* The number behind a key; -1: there is none. */
static long long number_of(const char *json, const char *key)
{
	char *name = support_format("\"%s\":", key);
	const char *at = strstr(json, name);
	long long number = at ? atoll(at + strlen(name)) : -1;

	free(name);
	return number;
}

static pid_t guest_of(pid_t supervisor)
{
	pid_t guest = support_child(supervisor);

	if (!guest)
		support_die("children");
	return guest;
}

static long long resident_bytes(pid_t pid)
{
	char *path = support_format("/proc/%d/statm", (int)pid);
	FILE *file = fopen(path, "r");
	long long pages = 0;

	free(path);
	if (!file || fscanf(file, "%*u %lld", &pages) != 1)
		support_die("statm");
	fclose(file);
	return pages * PAGE;
}

/* Until its main thread waits for a letter; false: it does not, or that may not be looked at. */
static bool waits_for_letter(pid_t pid)
{
	char *path = support_format("/proc/%d/syscall", (int)pid);
	double end = support_deadline(20);
	bool waits = false;

	while (!waits && support_seconds() < end) {
		FILE *file = fopen(path, "r");
		char line[32] = "";

		if (!file || !fgets(line, sizeof(line), file))
			break;
		fclose(file);
		waits = !strncmp(line, "0 0x0 ", 6);
		support_sleep(0.001);
	}
	free(path);
	return waits;
}

TEST_F(image, inspect_shows_what_the_program_is)
{
	bool waits;

	ASSERT_TRUE(makes_two(self))
	TH_LOG("%s", self->program.errors);
	waits = waits_for_letter(guest_of(self->program.pid));
	ASSERT_TRUE(takes(self->path, "three"));
	COMMAND(0, "inspect", self->path); /* while it runs */
	SAYS("guest-steps");
	SAYS("a process: thaw exec goes on from it");
	SAYS(self->guest);
	SAYS("heap (brk)");
	SAYS("stacks of threads");
	SAYS("libc.so.6");
	SAYS("first-thread");
	SAYS("late-thread");
	SAYS("3 threads");
	if (waits)
		SAYS("  read\n");
	SAYS("counter with 42");
	SAYS("counter with 43");
	SAYS(self->file);
	SAYS("sse2");
	DOES_NOT_SAY("128 TiB");
	DOES_NOT_SAY("128.0 TiB");
	COMMAND(0, "inspect", "--all", self->path);
	SAYS("[stack]");
	SAYS("stack of first-thread");
	COMMAND(0, "inspect", "--json", self->path);
	SAYS("\"command\":[\"");
	SAYS("\"name\":\"late-thread\"");
	SAYS("\"afterRestore\":\"counter with 42\"");
	SAYS("\"kind\":\"heap (brk)\"");
	SAYS("\"newestKind\":\"process\"");
	DOES_NOT_SAY("heapBytes");
	/* It is the program's memory that counts, which waits; its supervisor has several times as much. */
	COMMAND(0, "top", "--once", "--json", "-d", "0.1", self->path);
	SAYS("\"heapBytes\":null");
	EXPECT_EQ(resident_bytes(guest_of(self->program.pid)),
		  number_of(self->command.output, "residentBytes"));
	program_kill(&self->program);
	COMMAND(0, "inspect", self->path);
	SAYS("late-thread");
	COMMAND(0, "log", self->path);
	SAYS("process");
	DOES_NOT_SAY("mid-turn");
	COMMAND(0, "log", "--json", self->path);
	SAYS("\"kind\":\"process\"");
	DOES_NOT_SAY("heapBytes");
}

TEST_F(image, map_draws_what_is_stored)
{
	ASSERT_TRUE(makes_two(self))
	TH_LOG("%s", self->program.errors);
	COMMAND(0, "map", self->path);
	SAYS("<svg");
	SAYS("</svg>");
	SAYS("[heap] at ");
	SAYS("[stack] at ");
	SAYS("stack of late-thread");
	SAYS("libc.so.6");
	SAYS("resident: in the memory of what runs under process");
	EXPECT_GT(300000, self->command.output_bytes);
	COMMAND(0, "map", "--json", self->path);
	EXPECT_LE(HEAP_PAGES, number_of(self->command.output, "storedPages") +
				      number_of(self->command.output, "dirtyPages"));
	EXPECT_LE(MORE_PAGES, number_of(self->command.output, "dirtyPages"));
	EXPECT_LE(HEAP_PAGES, number_of(self->command.output, "residentPages"));
	EXPECT_GT(100000, number_of(self->command.output, "pages"));
	SAYS("\"name\":\"[heap]\"");
	program_kill(&self->program);
	COMMAND(0, "map", "--at", "one", self->path);
	SAYS("resident: not running");
	DOES_NOT_SAY("late-thread");
}

TEST_F(image, diff_goes_by_threads_descriptors_and_areas)
{
	ASSERT_TRUE(makes_two(self))
	TH_LOG("%s", self->program.errors);
	COMMAND(0, "diff", self->path, "one", "two");
	SAYS("pages: ");
	SAYS("late-thread\n");
	SAYS("+ thread ");
	SAYS(": eventfd, counter with 43\n");
	SAYS("+ descriptor ");
	SAYS("[heap]: pages ");
	SAYS("pages 40 appeared (160 KiB)");
	DOES_NOT_SAY("first-thread\n");
	COMMAND(0, "diff", self->path, "two", "one"); /* the other way round */
	SAYS("- thread ");
	SAYS("- descriptor ");
	SAYS("pages 40 vanished (160 KiB)");
	COMMAND(0, "diff", "--limit", "1", self->path, "one", "two");
	SAYS(" more (--limit)");
	COMMAND(0, "diff", "--json", self->path, "one", "two");
	SAYS("\"threads\":[{\"change\":\"appeared\"");
	SAYS("\"notShown\":0}");
	EXPECT_LE(MORE_PAGES, number_of(self->command.output, "appeared"));
	COMMAND(0, "diff", "--pages", self->path, "one", "two");
	SAYS("+ pages ");
	SAYS(" at address ");
}

TEST_F(image, a_program_that_has_ended_has_no_process)
{
	ASSERT_TRUE(makes_two(self))
	TH_LOG("%s", self->program.errors);
	ASSERT_EQ(1, write(self->program.in, "q", 1));
	EXPECT_EQ(0, program_finish(&self->program, 60));
	COMMAND(0, "inspect", self->path);
	SAYS("guest-steps");
	SAYS("with exit code 0");
	DOES_NOT_SAY("descriptor");
	COMMAND(0, "inspect", "--json", self->path);
	SAYS("\"finished\":true");
	COMMAND(0, "diff", self->path);
	SAYS("- the process: the program ended with exit code 0\n");
	DOES_NOT_SAY("thread");
	COMMAND(0, "map", self->path);
	SAYS("</svg>");
	COMMAND(0, "rollback", self->path, "two");
	ASSERT_TRUE(starts(self, self->path, NULL, ""));
	EXPECT_TRUE(does(self, "x", "4 steps\n"))
	TH_LOG("%s", self->program.errors);
	program_kill(&self->program);
}

TEST_F(image, other_commands_say_whose_image_it_is)
{
	char *script = support_format("%s/a.js", self->directory);
	char *other = support_format("%s/b.thaw", self->directory);

	ASSERT_TRUE(makes_two(self))
	TH_LOG("%s", self->program.errors);
	program_kill(&self->program);
	support_write(script, "console.log(1)");
	COMMAND(76, "run", "--image", self->path, script);
	COMPLAINS("an image of thaw exec");
	COMMAND(76, "repl", self->path);
	COMPLAINS("an image of thaw exec");
	COMMAND(76, "-p", "1", "--image", self->path);
	COMPLAINS("an image of thaw exec");
	COMMAND(76, "export", self->path);
	COMPLAINS("an image of thaw exec");
	COMMAND(0, "run", "--image", other, script);
	COMMAND(76, "exec", "--image", other, self->guest, "guest-steps", self->file);
	COMPLAINS("an image of thaw run");
	free(script);
	free(other);
}

/* What one() leaves goes on after so many steps. */
#define GOES_ON(path, at, letter, said)                                     \
	do {                                                                \
		program_free(&self->program);                               \
		ASSERT_TRUE(starts(self, path, at, ""));                    \
		ASSERT_TRUE(does(self, letter, said))                       \
		TH_LOG("%s", self->program.errors);                         \
		EXPECT_EQ(NULL, strstr(self->program.errors, "thaw: no ")); \
	} while (0)

TEST_F(image, goes_back_by_at_and_rollback)
{
	ASSERT_TRUE(makes_two(self))
	TH_LOG("%s", self->program.errors);
	program_kill(&self->program);
	GOES_ON(self->path, NULL, "x", "4 steps\n");
	program_kill(&self->program);
	GOES_ON(self->path, "one", "x", "1 steps\n");
	program_kill(&self->program);
	COMMAND(0, "rollback", self->path, "one");
	SAYS("thaw exec continues from it");
	GOES_ON(self->path, NULL, "xx", "2 steps\n");
	ASSERT_TRUE(takes(self->path, "three"));
	program_kill(&self->program);
	GOES_ON(self->path, NULL, "x", "3 steps\n");
	program_kill(&self->program);
	GOES_ON(self->path, "two", "x", "4 steps\n");
	program_kill(&self->program);
	COMMAND(0, "tag", self->path, "again", "one");
	COMMAND(0, "tag", self->path);
	SAYS("again");
	SAYS("process");
}

TEST_F(image, copies_go_on_like_it)
{
	char *clone = support_format("%s/clone.thaw", self->directory);
	char *repaired = support_format("%s/repaired.thaw", self->directory);

	ASSERT_TRUE(makes_two(self))
	TH_LOG("%s", self->program.errors);
	COMMAND(0, "clone", self->path, clone); /* while it runs */
	program_kill(&self->program);
	COMMAND(0, "verify", clone);
	COMMAND(0, "compact", self->path);
	COMMAND(0, "verify", self->path);
	GOES_ON(self->path, NULL, "x", "4 steps\n");
	program_kill(&self->program);
	GOES_ON(clone, "one", "xx", "2 steps\n");
	program_kill(&self->program);
	/* The newest header slot: the generations are found all the same. */
	support_flip(clone, 0, 0xff);
	COMMAND(0, "repair", clone, repaired);
	COMMAND(0, "verify", repaired);
	GOES_ON(repaired, NULL, "x", "4 steps\n");
	program_kill(&self->program);
	COMMAND(0, "compact", "--newest", repaired);
	GOES_ON(repaired, NULL, "xx", "5 steps\n");
	program_kill(&self->program);
	free(clone);
	free(repaired);
}

/* ---- The manual */

/* Words with one blank between them. */
static char *words_of(const char *text)
{
	char *words = malloc(strlen(text) + 1), *to = words;

	for (; *text; text++)
		if (*text != ' ' && *text != '\n')
			*to++ = *text;
		else if (to > words && to[-1] != ' ')
			*to++ = ' ';
	while (to > words && to[-1] == ' ')
		to--;
	*to = '\0';
	return words;
}

TEST(the_manual_has_the_table_of_descriptors)
{
	const char *kind, *happens;
	char *text = calloc(1, 1 << 20), *words;
	FILE *manual = fopen(THAW_SOURCE "/vm/cli/manual/exec.mdoc", "r");
	unsigned rows = 0;

	if (!manual)
		SKIP(return, "the sources are not there");
	ASSERT_LT(0, fread(text, 1, (1 << 20) - 1, manual));
	fclose(manual);
	words = words_of(text);
	for (; descriptors_table(rows, &kind, &happens); rows++) {
		char *row = support_format(".It %s %s .", kind, happens);

		EXPECT_NE(NULL, strstr(words, row))
		TH_LOG("thaw-exec(1) does not have the row: %s", row);
		free(row);
	}
	EXPECT_LT(10, rows);
	free(words);
	free(text);
}

TEST_HARNESS_MAIN
