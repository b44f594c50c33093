// SPDX-License-Identifier: GPL-2.0-only
/*
 * ends_in_a_capture.c - a program under thaw exec that is killed in the middle of a capture has ended, and that is all that
 * is said of it: no checkpoint has failed, and nothing goes on. Before each part of the capture in turn (ld's --wrap), with
 * the process gone when the part begins, or only about to go.
 */
#define _GNU_SOURCE
#include <getopt.h>
#include <poll.h>
#include <sys/syscall.h>

#include "kselftest_harness.h"

#include "../../vm/cli/cli.h"
#include "../../vm/policy/key.h"
#include "process/process.h"
#include "process/stub/embedded.h"
#include "support.h"

static const char *const parts[] = {"stop",	"mappings",    "calls",	 "threads", "kernel",
				    "identity", "descriptors", "clocks", "pages"};
#define PARTS (sizeof(parts) / sizeof(parts[0]))
#define CAPTURES 2 /* it is in the second */

static const char *fatal; /* the part */
static bool at_once;	  /* it does not wait for the end */
static unsigned captures;
static const struct process *known;

/* A part begins, of that process. */
static void part(const struct process *process, const char *name)
{
	struct pollfd gone = {.fd = process->remote.pidfd, .events = POLLIN};

	known = process;
	if (!fatal || strcmp(name, fatal) || ++captures != CAPTURES)
		return;
	kill(process->remote.pid, SIGKILL);
	if (!at_once)
		poll(&gone, 1, 20000);
}

#define WRAP(name, result, function, parameters, arguments)       \
	result __real_##function parameters;                      \
	result __wrap_##function parameters;                      \
	__attribute__((used)) result __wrap_##function parameters \
	{                                                         \
		part(process, name);                              \
		return __real_##function arguments;               \
	}

WRAP("stop", int, process_stop, (struct process * process, struct thaw_error *error),
     (process, error))
WRAP("mappings", int, mappings_capture,
     (struct process * process, struct mappings *mappings, struct thaw_error *error),
     (process, mappings, error))
WRAP("calls", int, interrupted_restart, (struct process * process, struct thaw_error *error),
     (process, error))
WRAP("threads", int, threads_capture, (struct process * process, struct thaw_error *error),
     (process, error))
WRAP("kernel", int, kernel_facts_capture,
     (struct process * process, struct kernel_facts *facts, struct thaw_error *error),
     (process, facts, error))
WRAP("identity", int, identity_capture,
     (struct process * process, const struct mappings *mappings, struct identity **identity,
      struct thaw_error *error),
     (process, mappings, identity, error))
WRAP("descriptors", int, descriptors_capture,
     (struct process * process, struct descriptors **descriptors, struct thaw_error *error),
     (process, descriptors, error))
WRAP("clocks", int, clocks_capture,
     (struct process * process, const struct mappings *mappings, struct clocks *clocks,
      struct thaw_error *error),
     (process, mappings, clocks, error))

int __real_thaw_checkpoint_capture(struct thaw *heap, enum thaw_kind kind, const void *state,
				   size_t bytes);
int __wrap_thaw_checkpoint_capture(struct thaw *heap, enum thaw_kind kind, const void *state,
				   size_t bytes);
int __wrap_thaw_checkpoint_capture(struct thaw *heap, enum thaw_kind kind, const void *state,
				   size_t bytes)
{
	part(known, "pages");
	return __real_thaw_checkpoint_capture(heap, kind, state, bytes);
}

/* This program is thaw exec, in a process of its own. */
static _Noreturn void be_thaw(const char *image, int err)
{
	char *arguments[] = {"thaw",	    "exec",
			     "-q",	    "--every",
			     "5ms",	    "--image",
			     (char *)image, "/bin/sh",
			     "-c",	    "n=0; while :; do n=$((n + 1)); done",
			     NULL};

	dup2(err, STDERR_FILENO);
	/* The harness has used getopt(3), which remembers its way with operands. */
	optind = 0;
	getopt(1, arguments, "+");
	key_serve_images();
	signals_begin(true);
	_exit(cli_dispatch(&command_exec, 9, arguments + 1));
}

FIXTURE(ends)
{
	char *directory, *image, *says;
};
FIXTURE_VARIANT(ends)
{
	bool at_once;
};
FIXTURE_VARIANT_ADD(ends, gone){.at_once = false};
FIXTURE_VARIANT_ADD(ends, going){.at_once = true};

FIXTURE_SETUP(ends)
{
	self->directory = support_directory();
	self->image = support_format("%s/program.thaw", self->directory);
	self->says = support_format("%s/says", self->directory);
	if (!process_stub_bytes)
		SKIP(return, "process guests are for x86-64");
}
FIXTURE_TEARDOWN(ends)
{
	free(self->says);
	free(self->image);
	support_remove(self->directory);
}

TEST_F(ends, and_no_checkpoint_has_failed)
{
	for (size_t i = 0; i < PARTS; i++) {
		int err = open(self->says, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
		int status = 0;
		char text[4096];
		ssize_t got;
		pid_t pid;

		fatal = parts[i];
		at_once = variant->at_once;
		unlink(self->image);
		pid = support_fork();
		if (!pid)
			be_thaw(self->image, err);
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		got = pread(err, text, sizeof(text) - 1, 0);
		text[got > 0 ? got : 0] = '\0';
		close(err);
		EXPECT_TRUE(WIFSIGNALED(status) ? WTERMSIG(status) == SIGKILL
						: WEXITSTATUS(status) == 128 + SIGKILL)
		TH_LOG("%s: status %#x: %s", parts[i], status, text);
		EXPECT_EQ(NULL, strstr(text, "checkpoint failed"))
		TH_LOG("%s: %s", parts[i], text);
		EXPECT_EQ(NULL, strstr(text, "goes on"))
		TH_LOG("%s: %s", parts[i], text);
	}
}

TEST_HARNESS_MAIN
