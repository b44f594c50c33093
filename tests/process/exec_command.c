// SPDX-License-Identifier: GPL-2.0-only
/*
 * exec_command.c - `thaw exec` from end to end: a program's process goes on after kill -9 of its supervisor, of
 * itself, of both; signals, exit codes and refusals are as said.
 *
 * The guest in most tests is this program itself (be_guest()): it counts, and each line says what the count before
 * it came to, so that a life that begins anywhere else than where a generation was taken is seen.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <pthread.h>
#include <sys/syscall.h>

#include "image_forge.h"

#include "support.h"

/* ---- The guest */

#define GUEST_THREADS 3

static uint64_t step(uint64_t sum, uint64_t count)
{
	return (sum ^ count) * 6364136223846793005u + 1442695040888963407u;
}

static void say(const char *format, ...)
{
	char line[256];
	va_list arguments;
	int bytes;

	va_start(arguments, format);
	bytes = vsnprintf(line, sizeof(line), format, arguments);
	va_end(arguments);
	if (write(1, line, (size_t)bytes) != bytes)
		_exit(99);
}

static _Atomic uint64_t spun[GUEST_THREADS];

/* Registers and stack alone hold the state. */
static void *spin(void *arg)
{
	_Atomic uint64_t *at = arg;
	uint64_t sum = 0;

	for (uint64_t count = 1;; count++) {
		sum = step(sum, count);
		if (count % 4096 == 0)
			*at = sum;
		if (count % 65536 == 0)
			support_sleep(0.0005);
	}
	return NULL;
}

static volatile sig_atomic_t asked;

static void on_term(int signo)
{
	asked = signo;
}

static void count_for_ever(void)
{
	uint64_t *heap = calloc(1000, 4096), sum = 0;
	pthread_t thread;

	for (int i = 0; i < GUEST_THREADS; i++)
		pthread_create(&thread, NULL, spin, (void *)&spun[i]);
	signal(SIGTERM, on_term);
	for (uint64_t count = 1; !asked; count++) {
		sum = step(sum, count);
		heap[(count % 1000) * 512] = sum;
		if (count > 1 && heap[((count - 1) % 1000) * 512] == 0)
			say("lost\n");
		say("%llu %llx\n", (unsigned long long)count, (unsigned long long)sum);
		support_sleep(0.002);
	}
	say("asked %d\n", (int)asked);
	_exit(7);
}

static void *hear_nothing(void *arg)
{
	uint64_t all = ~0ull;

	syscall(SYS_rt_sigprocmask, SIG_BLOCK, &all, NULL, sizeof(all));
	for (;;)
		support_sleep(0.001);
	return arg;
}

/* One of its threads cannot be stopped. */
static void count_for_six_seconds(void)
{
	double end = support_seconds() + 6;
	pthread_t thread;

	pthread_create(&thread, NULL, hear_nothing, NULL);
	for (unsigned count = 1; support_seconds() < end; count++) {
		say("%u\n", count);
		support_sleep(0.02);
	}
	_exit(0);
}

__attribute__((constructor)) static void be_guest(int argc, char **argv)
{
	if (argc > 1 && !strcmp(argv[1], "guest-hears-nothing"))
		count_for_six_seconds();
	if (argc > 1 && !strcmp(argv[1], "guest-counts"))
		count_for_ever();
}

/* ---- */

FIXTURE(exec)
{
	char *directory, *image;
	char counter[4096]; /* this program */
	struct program program;
};

FIXTURE_SETUP(exec)
{
	memset(self->counter, 0, sizeof(self->counter));
	self->directory = support_directory();
	self->image = support_format("%s/a.thaw", self->directory);
	self->program = (struct program){.in = -1};
	ASSERT_LT(0, readlink("/proc/self/exe", self->counter, sizeof(self->counter) - 1));
	setenv("THAW_KEY", "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff", 1);
}

FIXTURE_TEARDOWN(exec)
{
	program_free(&self->program);
	free(self->image);
	support_remove(self->directory);
}

static int ask(const char *image, const char *name)
{
	struct program asking;
	int code = name ? program_run(&asking, NULL, THAW("checkpoint", "--name", name, image))
			: program_run(&asking, NULL, THAW("checkpoint", image));

	if (code)
		fprintf(stderr, "# checkpoint: %s", asking.errors);
	program_free(&asking);
	return code;
}

/* As soon as somebody listens. */
static bool ask_until_heard(const char *image)
{
	double end = support_deadline(20);

	while (support_seconds() < end) {
		struct program asking;
		int code = program_run(&asking, NULL, THAW("checkpoint", image));

		program_free(&asking);
		if (!code)
			return true;
		support_sleep(0.01);
	}
	return false;
}

/* Each line is what the one before it makes it; the first of a life may be any. 0: something is wrong. */
static uint64_t check_lines(const char *output, uint64_t *first)
{
	uint64_t before = 0, sum = 0;

	*first = 0;
	for (const char *line = output; *line;) {
		const char *end = strchr(line, '\n');
		unsigned long long count, said;

		if (!end)
			break;
		if (sscanf(line, "%llu %llx", &count, &said) != 2) {
			fprintf(stderr, "# line: %.*s\n", (int)(end - line), line);
			return 0;
		}
		if (!*first) {
			*first = count;
			for (uint64_t i = 1; i < count; i++)
				sum = step(sum, i);
		} else if (count != before + 1) {
			fprintf(stderr, "# %llu after %llu\n", count, (unsigned long long)before);
			return 0;
		}
		sum = step(sum, count);
		if (sum != said) {
			fprintf(stderr, "# %llu has another sum\n", count);
			return 0;
		}
		before = count;
		line = end + 1;
	}
	return before;
}

enum whom { SUPERVISOR, GUEST, BOTH, WHOM };

static void kill_whom(pid_t supervisor, enum whom whom)
{
	pid_t guest = support_child(supervisor);

	if (whom != SUPERVISOR)
		kill(guest, SIGKILL);
	if (whom != GUEST)
		kill(supervisor, SIGKILL);
}

TEST_F(exec, goes_on_after_each_kind_of_kill)
{
	uint64_t first, newest = 0;

	SKIP_SANITIZED();
	for (unsigned life = 0; life < 2 * WHOM; life++) {
		enum whom whom = life % WHOM;
		uint64_t last;
		int code;

		self->program = program_start(THAW("exec", "--every", "50ms", "--image",
						   self->image, self->counter, "guest-counts"));
		ASSERT_TRUE(program_wait_for(&self->program, "\n", 60))
		TH_LOG("%s", self->program.errors);
		ASSERT_TRUE(ask_until_heard(self->image))
		TH_LOG("%s", self->program.errors);
		kill_whom(self->program.pid, whom);
		code = program_finish(&self->program, 30);
		EXPECT_EQ(128 + SIGKILL, code);
		last = check_lines(self->program.output, &first);
		ASSERT_NE(0, last)
		TH_LOG("%s", self->program.errors);
		EXPECT_EQ(!life, first == 1);
		EXPECT_LE(first, newest + 1);
		newest = last;
		program_free(&self->program);
	}
}

TEST_F(exec, what_is_asked_to_end_loses_nothing)
{
	uint64_t first, last;
	char *asked;

	SKIP_SANITIZED();
	/* No generation but the one that SIGTERM brings. */
	self->program = program_start(THAW("exec", "--every", "0", "--image", self->image,
					   self->counter, "guest-counts"));
	ASSERT_TRUE(program_wait_for(&self->program, "3 ", 60))
	TH_LOG("%s", self->program.errors);
	kill(self->program.pid, SIGTERM);
	EXPECT_EQ(7, program_finish(&self->program, 30));
	EXPECT_NE(NULL, strstr(self->program.errors, "goes on from generation"))
	TH_LOG("%s", self->program.errors);
	asked = strstr(self->program.output, "asked 15\n");
	ASSERT_NE(NULL, asked);
	*asked = '\0';
	last = check_lines(self->program.output, &first);
	ASSERT_NE(0, last);
	program_free(&self->program);

	/* It has not finished, and nobody has asked it yet. */
	self->program =
		program_start(THAW("exec", "--image", self->image, self->counter, "guest-counts"));
	ASSERT_TRUE(program_wait_for(&self->program, "\n", 60));
	program_kill(&self->program);
	ASSERT_NE(0, check_lines(self->program.output, &first));
	EXPECT_GT(first, 1);
	EXPECT_LE(last, first + 1); /* a line that was under way is said after the signal */
}

TEST_F(exec, exit_codes_are_the_programs)
{
	EXPECT_EQ(3, program_run(&self->program, NULL,
				 THAW("exec", "--fresh", "--image", self->image, "sh", "-c",
				      "exit 3")));
	program_free(&self->program);
	EXPECT_EQ(128 + SIGSEGV, program_run(&self->program, NULL,
					     THAW("exec", "--fresh", "--image", self->image, "sh",
						  "-c", "kill -SEGV $$")));
	EXPECT_NE(NULL, strstr(self->program.errors, "signal 11"));
	program_free(&self->program);
	EXPECT_EQ(69,
		  program_run(&self->program, NULL,
			      (const char *const[]){"sh", "-c", "ulimit -f 100; exec \"$0\" \"$@\"",
						    support_thaw(), "exec", "--fresh", "--image",
						    self->image, "cat", NULL}));
	EXPECT_NE(NULL, strstr(self->program.errors, "ulimit -f"))
	TH_LOG("%s", self->program.errors);
	program_free(&self->program);
	EXPECT_EQ(66, program_run(&self->program, NULL,
				  THAW("exec", "--fresh", "--image", self->image, "/no/such")));
	program_free(&self->program);
	EXPECT_EQ(0, program_run(&self->program, "typed\n",
				 THAW("exec", "--fresh", "--image", self->image, "cat")));
	EXPECT_STREQ("typed\n", self->program.output);
	program_free(&self->program);
	/* It has finished: the next start says so. */
	EXPECT_EQ(0,
		  program_run(&self->program, NULL, THAW("exec", "--image", self->image, "cat")));
	EXPECT_NE(NULL, strstr(self->program.errors, "nothing is left to do"))
	TH_LOG("%s", self->program.errors);
}

/* Also in the instant in which it goes on: it has not finished then. */
TEST_F(exec, killed_while_it_is_restored_it_is_said_to_be_killed)
{
	SKIP_SANITIZED();
	self->program = program_start(THAW("exec", "--every", "0", "--image", self->image,
					   self->counter, "guest-counts"));
	ASSERT_TRUE(program_wait_for(&self->program, "3 ", 60))
	TH_LOG("%s", self->program.errors);
	ASSERT_EQ(0, ask(self->image, NULL));
	program_kill(&self->program);
	program_free(&self->program);
	for (unsigned i = 0; i < 60; i++) {
		double end = support_deadline(20);
		pid_t guest;
		int code;

		self->program = program_start(THAW("exec", "--every", "0", "--image", self->image,
						   self->counter, "guest-counts"));
		while (!(guest = support_child(self->program.pid)) && support_seconds() < end)
			;
		ASSERT_NE(0, guest);
		support_sleep(i * 0.0003);
		kill(guest, SIGKILL);
		code = program_finish(&self->program, 30);
		EXPECT_TRUE(code == 128 + SIGKILL || code == 74)
		TH_LOG("%d after %u: %s", code, i, self->program.errors);
		/* Nothing else is said to be wrong. */
		EXPECT_TRUE(code != 74 || strstr(self->program.errors, "killed while it was") ||
			    strstr(self->program.errors, "(Killed) ended it"))
		TH_LOG("%d after %u: %s", code, i, self->program.errors);
		program_free(&self->program);
	}
}

TEST_F(exec, what_cannot_be_stopped_does_not_stand_still)
{
	const char *last;

	program_run(&self->program, NULL,
		    THAW("exec", "--every", "50ms", "--image", self->image, self->counter,
			 "guest-hears-nothing"));
	EXPECT_NE(NULL, strstr(self->program.errors, "does not stop"))
	TH_LOG("%s", self->program.errors);
	self->program.output[strlen(self->program.output) - 1] = '\0';
	last = strrchr(self->program.output, '\n');
	ASSERT_NE(NULL, last);
	/* Of 6 seconds it has stood still for 2. */
	EXPECT_LT(60, atoi(last + 1));
}

TEST_F(exec, who_may_not_go_on_is_refused)
{
	SKIP_SANITIZED();
	self->program =
		program_start(THAW("exec", "--image", self->image, self->counter, "guest-counts"));
	ASSERT_TRUE(program_wait_for(&self->program, "3 ", 60))
	TH_LOG("%s", self->program.errors);
	EXPECT_EQ(0, ask(self->image, "here"));
	EXPECT_EQ(75,
		  program_run(&(struct program){0}, NULL,
			      THAW("exec", "--image", self->image, self->counter, "guest-counts")));
	program_kill(&self->program);
	program_free(&self->program);

	EXPECT_EQ(76, program_run(&self->program, NULL,
				  THAW("exec", "--image", self->image, "cat", "x")));
	EXPECT_NE(NULL, strstr(self->program.errors, "another command"));
	program_free(&self->program);
	setenv("THAW_KEY", "ff112233445566778899aabbccddeeff00112233445566778899aabbccddeeff", 1);
	EXPECT_EQ(76,
		  program_run(&self->program, NULL,
			      THAW("exec", "--image", self->image, self->counter, "guest-counts")));
	EXPECT_NE(NULL, strstr(self->program.errors, "another key than yours"));
	program_free(&self->program);
	EXPECT_EQ(76, program_run(&self->program, NULL,
				  THAW("run", "--image", self->image, self->counter)));
	program_free(&self->program);
	EXPECT_EQ(66, program_run(&self->program, NULL, THAW("checkpoint", self->image)));
	program_free(&self->program);

	/* Who can write to the file could put back what went on before. */
	ASSERT_EQ(0, chmod(self->image, 0620));
	EXPECT_EQ(76,
		  program_run(&self->program, NULL,
			      THAW("exec", "--image", self->image, self->counter, "guest-counts")));
	EXPECT_NE(NULL, strstr(self->program.errors, "chmod go-w"));
}

/* Nothing of it runs, and it is refused in one line with these words in it. */
static bool refused(const char *image, const char *counter, const char *why)
{
	struct program program;
	int code = program_run(&program, NULL,
			       THAW("exec", "--image", image, counter, "guest-counts"));
	bool right = (code == 76 || code == 65) && !*program.output && strstr(program.errors, why);

	if (!right)
		fprintf(stderr, "# %d, not refused with '%s': %s%s", code, why, program.output,
			program.errors);
	program_free(&program);
	return right;
}

TEST_F(exec, what_somebody_without_the_key_made_of_it_does_not_run)
{
	struct bytes bytes, forged;
	struct disk_generation *generation;

	SKIP_SANITIZED();
	self->program =
		program_start(THAW("exec", "--image", self->image, self->counter, "guest-counts"));
	ASSERT_TRUE(program_wait_for(&self->program, "3 ", 60))
	TH_LOG("%s", self->program.errors);
	EXPECT_EQ(0, ask(self->image, "here"));
	program_kill(&self->program);
	bytes = file_bytes(self->image);

	/* An image without a key, every checksum of which is right. */
	take_the_key_away(&bytes);
	file_write(self->image, &bytes);
	EXPECT_TRUE(refused(self->image, self->counter, "not authenticated"));
	/* The same, and it says that it has a key: a list of generations that nobody has signed. */
	forged = (struct bytes){malloc(bytes.count), bytes.count};
	memcpy(forged.at, bytes.at, bytes.count);
	for (unsigned i = 0; i < 2; i++) {
		memset(slot_at(&forged, i)->key_salt, 1, 32);
		memset(newest_record(&forged)->key_salt, 1, 32);
		fix_slot(&forged, slot_at(&forged, i));
	}
	file_write(self->image, &forged);
	EXPECT_TRUE(refused(self->image, self->counter, "another key than yours"));
	/* Nor does it begin anew in it: that is not asked for. */
	generation = newest_generation(&bytes);
	ASSERT_LT(0, generation->state_bytes);
	bytes.at[generation->state_offset] ^= 1;
	file_write(self->image, &bytes);
	EXPECT_TRUE(refused(self->image, self->counter, "not authenticated"));
	free(forged.at);
	free(bytes.at);
}

TEST_F(exec, image_without_its_key_is_refused_by_every_command)
{
	char *key = support_format("%s/key", self->directory);
	char *away = support_format("%s/away", self->directory);
	char *copy = support_format("%s/copy.thaw", self->directory);
	/* An image of processes has no variables to be exported, nor code to be evaluated. */
	static const struct {
		const char *command;
		int code; /* with the key */
	} commands[] = {
		{"log", 0}, {"verify", 0},  {"map", 0},	  {"inspect", 0},
		{"tag", 0}, {"compact", 0}, {"diff", 66}, {"export", 76},
	};

	SKIP_SANITIZED();
	setenv("THAW_KEY", key, 1); /* made with the image */
	self->program =
		program_start(THAW("exec", "--image", self->image, self->counter, "guest-counts"));
	ASSERT_TRUE(program_wait_for(&self->program, "3 ", 60))
	TH_LOG("%s", self->program.errors);
	EXPECT_EQ(0, ask(self->image, NULL));
	program_kill(&self->program);
	program_free(&self->program);

	EXPECT_EQ(0, chmod(key, 0644));
	EXPECT_TRUE(refused(self->image, self->counter, "chmod 600"));
	EXPECT_EQ(0, chmod(key, 0600));
	EXPECT_EQ(0, rename(key, away));
	EXPECT_TRUE(refused(self->image, self->counter, "there is no key file"));
	EXPECT_NE(0, access(key, F_OK)); /* a new one would be of no use */
	for (unsigned i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		EXPECT_EQ(76,
			  program_run(&self->program, NULL, THAW(commands[i].command, self->image)))
		TH_LOG("%s: %s", commands[i].command, self->program.errors);
		EXPECT_NE(NULL, strstr(self->program.errors, key));
		program_free(&self->program);
		EXPECT_EQ(commands[i].code,
			  program_run(&self->program, NULL,
				      THAW(commands[i].command, "--key", away, self->image)))
		TH_LOG("%s: %s", commands[i].command, self->program.errors);
		program_free(&self->program);
	}
	EXPECT_EQ(76, program_run(&self->program, NULL, THAW("clone", self->image, copy)));
	program_free(&self->program);
	EXPECT_EQ(0, program_run(&self->program, NULL,
				 THAW("clone", "--key", away, self->image, copy)))
	TH_LOG("%s", self->program.errors);
	program_free(&self->program);
	EXPECT_EQ(0, unlink(copy));
	EXPECT_EQ(76, program_run(&self->program, NULL, THAW("repair", self->image, copy)));
	program_free(&self->program);
	EXPECT_EQ(0, program_run(&self->program, NULL,
				 THAW("repair", "--key", away, self->image, copy)))
	TH_LOG("%s", self->program.errors);
	free(copy);
	free(away);
	free(key);
}

TEST_F(exec, goes_on_by_itself_where_it_is_to)
{
	SKIP_SANITIZED();
	self->program = program_start(THAW("exec", "--restart", "on-failure", "--image",
					   self->image, self->counter, "guest-counts"));
	ASSERT_TRUE(program_wait_for(&self->program, "3 ", 60))
	TH_LOG("%s", self->program.errors);
	ASSERT_EQ(0, ask(self->image, NULL));
	kill_whom(self->program.pid, GUEST);
	EXPECT_TRUE(program_wait_for_complaint(&self->program, "goes on in", 30));
	ASSERT_TRUE(ask_until_heard(self->image));
	kill(self->program.pid, SIGTERM);
	EXPECT_EQ(7, program_finish(&self->program, 30));
}

TEST_F(exec, a_program_that_another_one_executes_goes_on)
{
	char *script = support_format("exec '%s' guest-counts", self->counter);

	SKIP_SANITIZED();
	for (unsigned life = 0; life < 2; life++) {
		uint64_t first;

		self->program =
			program_start(THAW("exec", "--image", self->image, "sh", "-c", script));
		ASSERT_TRUE(program_wait_for(&self->program, "\n", 60))
		TH_LOG("%s", self->program.errors);
		ASSERT_TRUE(ask_until_heard(self->image))
		TH_LOG("%s", self->program.errors);
		program_kill(&self->program);
		ASSERT_NE(0, check_lines(self->program.output, &first));
		EXPECT_EQ(!life, first == 1);
		program_free(&self->program);
	}
	free(script);
}

TEST_F(exec, a_child_is_gone_as_the_program_is_told)
{
	const char *const *command = THAW("exec", "--image", self->image, "sh", "-c",
					  "sleep 1000 & echo $!; wait $!; echo waited $?");
	double end = support_deadline(20);
	pid_t child;

	self->program = program_start(command);
	ASSERT_TRUE(program_wait_for(&self->program, "\n", 60))
	TH_LOG("%s", self->program.errors);
	child = atoi(self->program.output);
	ASSERT_EQ(0, ask(self->image, NULL));
	program_kill(&self->program);
	program_free(&self->program);
	EXPECT_TRUE(support_lives(child));

	EXPECT_EQ(0, program_run(&self->program, NULL, command));
	EXPECT_STREQ("waited 137\n", self->program.output)
	TH_LOG("%s", self->program.errors);
	while (support_lives(child) && support_seconds() < end)
		support_sleep(0.01);
	EXPECT_FALSE(support_lives(child));
}

/* ---- Programs that people have */

static bool is_there(const char *program)
{
	struct program which;
	bool there =
		!program_run(&which, NULL,
			     (const char *const[]){"sh", "-c", "command -v \"$0\"", program, NULL});

	program_free(&which);
	return there;
}

/* It prints a number a line, from 1: after the kills it goes on from where it was. */
static void kill_and_go_on(struct __test_metadata *_metadata, FIXTURE_DATA(exec) * self,
			   const char *program, const char *option, const char *code)
{
	unsigned long newest = 0;

	for (unsigned life = 0; life < WHOM + 1; life++) {
		unsigned long first, before, number;
		char *line;

		self->program = program_start(THAW("exec", "--every", "100ms", "--image",
						   self->image, program, option, code));
		ASSERT_TRUE(program_wait_for(&self->program, "\n", 60))
		TH_LOG("%s", self->program.errors);
		ASSERT_TRUE(ask_until_heard(self->image))
		TH_LOG("%s", self->program.errors);
		kill_whom(self->program.pid, life % WHOM);
		EXPECT_EQ(128 + SIGKILL, program_finish(&self->program, 30));
		first = before = strtoul(self->program.output, &line, 10);
		while ((number = strtoul(line, &line, 10))) {
			EXPECT_EQ(before + 1, number);
			before = number;
		}
		EXPECT_EQ(!life, first == 1)
		TH_LOG("%s", self->program.errors);
		EXPECT_LE(first, newest + 1);
		newest = before;
		program_free(&self->program);
	}
}

TEST_F(exec, python_goes_on)
{
	if (!is_there("python3"))
		SKIP(return, "there is no python3");
	kill_and_go_on(_metadata, self, "python3", "-c",
		       "import time\n"
		       "n = 0\n"
		       "while True:\n"
		       "    n += 1\n"
		       "    print(n, flush=True)\n"
		       "    time.sleep(0.005)\n");
}

TEST_F(exec, node_goes_on)
{
	if (!is_there("node"))
		SKIP(return, "there is no node");
	kill_and_go_on(_metadata, self, "node", "-e",
		       "let n = 0; setInterval(() => console.log(++n), 5)");
}

/* Its memory goes before it has ended: no checkpoint that fails for that is told. */
TEST_F(exec, what_ends_while_it_is_captured_has_just_ended)
{
	if (!is_there("node"))
		SKIP(return, "there is no node");
	for (unsigned i = 0; i < 15; i++) {
		EXPECT_EQ(9, program_run(&self->program, NULL,
					 THAW("exec", "--fresh", "--every", "2ms", "--image",
					      self->image, "node", "-e",
					      "setTimeout(() => process.exit(9), 20)")));
		EXPECT_EQ(NULL, strstr(self->program.errors, "failed"))
		TH_LOG("%s", self->program.errors);
		program_free(&self->program);
	}
}

TEST_HARNESS_MAIN
