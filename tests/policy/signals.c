// SPDX-License-Identifier: GPL-2.0-only
/*
 * signals.c - what a signal does to a program that is only starting, that runs, or that is about to
 * be gone: it is acted on as soon as the program is there, and never by the default action.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <sys/syscall.h>

#include "by_path.h"
#include "../../vm/js/engine/engine.h"
#include "support.h"
#include "thaw.h"

FIXTURE(signals)
{
	char *directory, *script, *image;
	struct program program;
};
FIXTURE_SETUP(signals)
{
	self->directory = support_directory();
	self->script = support_format("%s/app.js", self->directory);
	self->image = support_format("%s/app.thaw", self->directory);
	support_own_key(self->directory);
}
FIXTURE_TEARDOWN(signals)
{
	program_free(&self->program);
	free(self->script);
	free(self->image);
	support_remove(self->directory);
}

static struct thaw *hold_image(const char *image)
{
	const struct thaw_options options = {
		.image = image,
		.max_bytes = JS_HEAP_MAX_BYTES,
		.guard_bytes = JS_HEAP_GUARD_BYTES,
		.engine = js_engine_identity,
	};
	struct thaw_error error;
	struct thaw *heap;

	if (thaw_open(&options, &heap, &error))
		support_die(error.text);
	return heap;
}

/* Does it sleep, or has it ended? */
static bool sleeps(pid_t pid)
{
	char *path = support_format("/proc/%d/syscall", (int)pid), line[64] = "";
	FILE *file = fopen(path, "re");
	long number = -1;

	free(path);
	if (!file)
		return false;
	if (fgets(line, sizeof(line), file))
		number = strtol(line, NULL, 10);
	fclose(file);
	return number == SYS_clock_nanosleep;
}

/*
 * A program that is starting, in the half second that it waits for an image which somebody else still
 * holds. Sends it the signal there, then lets go of the image. False: it did not wait long enough.
 */
static bool signal_a_start(struct program *program, const char *script, const char *image,
			   int signo)
{
	struct thaw *heap = hold_image(image);
	bool sent = false;
	double end = support_deadline(30);

	*program = program_start(THAW("run", "--every", "0", script));
	while (!sent && support_seconds() < end &&
	       program_listen(program, true, NULL, support_seconds()) == false) {
		siginfo_t gone = {0};

		if (!waitid(P_PID, (id_t)program->pid, &gone, WEXITED | WNOHANG | WNOWAIT) &&
		    gone.si_pid)
			break;
		if (sleeps(program->pid)) {
			kill(program->pid, signo);
			sent = true;
		}
	}
	thaw_close(heap);
	return sent;
}

static const char counting[] = "let n = 0\n"
			       "console.log('started')\n"
			       "setInterval(() => console.log('n', ++n), 10)\n";

/* An image with a generation in it, whose program was ended by a signal. */
static void leave_image(struct __test_metadata *_metadata, FIXTURE_DATA(signals) * self)
{
	support_write(self->script, counting);
	self->program = program_start(THAW("run", "--every", "0", self->script));
	ASSERT_TRUE(program_wait_for(&self->program, "n 2\n", 60));
	kill(self->program.pid, SIGTERM);
	ASSERT_EQ(143, program_finish(&self->program, 60)) TH_LOG("%s", self->program.errors);
	program_free(&self->program);
}

TEST_F(signals, a_start_is_not_killed_by_sigusr2)
{
	struct thaw_generation before;

	leave_image(_metadata, self);
	before = path_newest(self->image);
	for (int attempt = 0; attempt < 20; attempt++) {
		bool sent = signal_a_start(&self->program, self->script, self->image, SIGUSR2);
		bool runs = program_wait_for(&self->program, "n ", 60);

		if (sent) {
			double end = support_deadline(60);

			ASSERT_TRUE(runs) TH_LOG("%s", self->program.errors);
			/* With --every 0, nothing else makes one. */
			while (path_newest(self->image).number == before.number &&
			       support_seconds() < end)
				program_wait_for(&self->program, NULL, 0.01);
			EXPECT_GT(path_newest(self->image).number, before.number);
			EXPECT_EQ(THAW_REASON_REQUEST, path_newest(self->image).reason);
			program_kill(&self->program);
			return;
		}
		program_kill(&self->program);
		program_free(&self->program);
	}
	SKIP(return, "no start was slow enough");
}

/* It ends in order, before anything of the program has run. */
TEST_F(signals, a_start_ends_in_order_on_sigterm)
{
	struct thaw_generation before;

	leave_image(_metadata, self);
	before = path_newest(self->image);
	for (int attempt = 0; attempt < 20; attempt++) {
		if (signal_a_start(&self->program, self->script, self->image, SIGTERM)) {
			siginfo_t gone = {0};

			ASSERT_EQ(0,
				  waitid(P_PID, (id_t)self->program.pid, &gone, WEXITED | WNOWAIT));
			EXPECT_EQ(CLD_EXITED, gone.si_code);
			EXPECT_EQ(143, program_finish(&self->program, 60));
			EXPECT_STREQ("", self->program.output);
			EXPECT_EQ(before.number, path_newest(self->image).number);
			return;
		}
		program_kill(&self->program);
		program_free(&self->program);
	}
	SKIP(return, "no start was slow enough");
}

/* A start that does not get on, because its script is a pipe which nobody writes to. */
TEST_F(signals, a_start_that_hangs_is_ended)
{
	double end = support_deadline(60);

	ASSERT_EQ(0, mkfifo(self->script, 0600));
	self->program = program_start(THAW("run", self->script));
	while (access(self->image, F_OK) && support_seconds() < end)
		support_sleep(0.01);
	support_sleep(0.1);
	kill(self->program.pid, SIGTERM);
	EXPECT_EQ(143, program_finish(&self->program, 60));
}

/* Whatever comes while it ends, it ends with its own code. */
TEST_F(signals, an_end_is_not_killed_by_sigusr2)
{
	support_write(self->script, "import { exit, env } from 'thaw'\n"
				    "console.log('ready')\n"
				    "setTimeout(() => exit(7), 5)\n");
	for (int i = 0; i < 20; i++) {
		siginfo_t gone = {0};

		self->program = program_start(THAW("run", "--fresh", self->script));
		ASSERT_TRUE(program_wait_for(&self->program, "ready", 60));
		while (!waitid(P_PID, (id_t)self->program.pid, &gone,
			       WEXITED | WNOHANG | WNOWAIT) &&
		       !gone.si_pid)
			kill(self->program.pid, SIGUSR2);
		ASSERT_EQ(7, program_finish(&self->program, 60)) TH_LOG("round %d", i);
		program_free(&self->program);
	}
}

/* The soft limit of CPU time: a last generation, as for SIGTERM. The kernel repeats it. */
TEST_F(signals, sigxcpu_takes_a_last_generation)
{
	support_write(self->script, "console.log('started')\nlet n = 0\nfor (;;) n++\n");
	self->program = program_start(THAW("run", "--every", "0", self->script));
	ASSERT_TRUE(program_wait_for(&self->program, "started", 60));
	kill(self->program.pid, SIGXCPU);
	kill(self->program.pid, SIGXCPU);
	EXPECT_EQ(128 + SIGXCPU, program_finish(&self->program, 60));
	EXPECT_EQ(THAW_REASON_SIGNAL, path_newest(self->image).reason);
}

TEST_HARNESS_MAIN
