// SPDX-License-Identifier: GPL-2.0-only
/*
 * service_manager.c - what a service manager hears (this test is one: sd_notify(3)): that the program runs, once; that its
 * generations are made, as long as they are, between turns, in a turn that does not end, in a whole process; and the
 * unit that make install installs is one that systemd takes.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "support.h"

#define PATIENCE_MS 200

FIXTURE(manager)
{
	char *directory, *name, *script;
	int socket;
	struct program program;
};
FIXTURE_SETUP(manager)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	self->directory = support_directory();
	self->name = support_format("%s/notify", self->directory);
	self->script = support_format("%s/a.js", self->directory);
	self->socket = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", self->name);
	if (bind(self->socket, (struct sockaddr *)&address, sizeof(address)))
		support_die("bind");
	setenv("NOTIFY_SOCKET", self->name, 1);
	setenv("WATCHDOG_USEC", "200000", 1);
	unsetenv("WATCHDOG_PID");
	support_write(self->script,
		      "setInterval(() => globalThis.n = (globalThis.n ?? 0) + 1, 2)\n");
}
FIXTURE_TEARDOWN(manager)
{
	close(self->socket);
	program_free(&self->program);
	free(self->script);
	free(self->name);
	support_remove(self->directory);
}

/* The next that comes, within so long. False: nothing does. */
static bool hear(FIXTURE_DATA(manager) * self, char text[256], double seconds)
{
	double end = support_seconds() + seconds;
	ssize_t got;

	do {
		got = recv(self->socket, text, 255, MSG_DONTWAIT);
		text[got > 0 ? got : 0] = '\0';
		if (got > 0)
			return true;
		program_wait_for(&self->program, NULL, 0.005);
	} while (support_seconds() < end);
	return false;
}

static unsigned forget(FIXTURE_DATA(manager) * self)
{
	char text[256];
	unsigned count = 0;

	while (recv(self->socket, text, sizeof(text), MSG_DONTWAIT) > 0)
		count++;
	return count;
}

static void hears_that_it_lives(struct __test_metadata *_metadata, FIXTURE_DATA(manager) * self,
				unsigned times)
{
	char text[256];

	for (unsigned i = 0; i < times; i++) {
		ASSERT_TRUE(hear(self, text, support_deadline(30) - support_seconds()))
		TH_LOG("%s", self->program.errors);
		EXPECT_EQ(0, strncmp(text, "WATCHDOG=1", 10)) TH_LOG("%s", text);
	}
}

static void hears_that_it_runs(struct __test_metadata *_metadata, FIXTURE_DATA(manager) * self)
{
	char text[256];

	ASSERT_TRUE(hear(self, text, support_deadline(30) - support_seconds()))
	TH_LOG("%s", self->program.errors);
	EXPECT_EQ(0, strncmp(text, "READY=1", 7)) TH_LOG("%s", text);
	hears_that_it_lives(_metadata, self, 3);
}

/* It is told so before the last generation, which may take its time. */
static void ends(struct __test_metadata *_metadata, FIXTURE_DATA(manager) * self)
{
	char text[256] = "";

	kill(self->program.pid, SIGTERM);
	EXPECT_EQ(128 + SIGTERM, program_finish(&self->program, 30));
	while (recv(self->socket, text, 255, MSG_DONTWAIT) > 0 && strncmp(text, "STOPPING=1\n", 11))
		memset(text, 0, sizeof(text));
	EXPECT_EQ(0, strncmp(text, "STOPPING=1\n", 11));
}

TEST_F(manager, hears_of_a_program_with_turns)
{
	self->program = program_start(THAW("run", "--every", "20ms", self->script));
	hears_that_it_runs(_metadata, self);
	ends(_metadata, self);
}

/* Nothing is ever due. */
TEST_F(manager, hears_of_one_that_takes_no_generations_by_itself)
{
	self->program = program_start(THAW("run", "--every", "0", self->script));
	hears_that_it_runs(_metadata, self);
	ends(_metadata, self);
}

TEST_F(manager, hears_of_one_in_a_turn_without_end)
{
	support_write(self->script, "for (let n = 0; ; n++) globalThis.n = n\n");
	self->program = program_start(THAW("run", "--every", "0", self->script));
	hears_that_it_runs(_metadata, self);
	ends(_metadata, self);
}

TEST_F(manager, hears_of_a_process)
{
	self->program = program_start(THAW("exec", "-q", "--every", "20ms", "--image",
					   support_format("%s/a.thaw", self->directory), "/bin/sh",
					   "-c", "while :; do :; done"));
	program_wait_for(&self->program, NULL, 0.1);
	if (waitpid(self->program.pid, NULL, WNOHANG))
		SKIP(return, "%s", self->program.errors);
	hears_that_it_runs(_metadata, self);
	ends(_metadata, self);
}

/* It lives, and what it does is not kept: the manager may decide. */
TEST_F(manager, hears_nothing_while_no_generation_can_be_made)
{
	struct rlimit none = {.rlim_cur = RLIM_INFINITY, .rlim_max = RLIM_INFINITY}, full = none;
	char text[256];

	support_write(self->script,
		      "const all = []\n"
		      "setInterval(() => all.push(new Array(1000).fill(all.length)), 2)\n");
	self->program = program_start(THAW("run", "--every", "20ms", self->script));
	hears_that_it_runs(_metadata, self);
	full.rlim_cur = 1;
	ASSERT_EQ(0, prlimit(self->program.pid, RLIMIT_FSIZE, &full, NULL));
	ASSERT_TRUE(program_wait_for_complaint(&self->program, "checkpoint failed", 30));
	forget(self);
	EXPECT_FALSE(hear(self, text, 4 * PATIENCE_MS / 1000.0)) TH_LOG("%s", text);
	ASSERT_EQ(0, prlimit(self->program.pid, RLIMIT_FSIZE, &none, NULL));
	hears_that_it_lives(_metadata, self, 2);
	ends(_metadata, self);
}

TEST_F(manager, who_watches_another_process_hears_that_it_runs_and_no_more)
{
	char text[256];

	setenv("WATCHDOG_PID", "1", 1);
	self->program = program_start(THAW("run", "--every", "20ms", self->script));
	ASSERT_TRUE(hear(self, text, support_deadline(30) - support_seconds()));
	EXPECT_EQ(0, strncmp(text, "READY=1", 7)) TH_LOG("%s", text);
	EXPECT_FALSE(hear(self, text, 2 * PATIENCE_MS / 1000.0)) TH_LOG("%s", text);
	ends(_metadata, self);
}

/* A manager that is gone, or whose queue is full, holds nobody up. */
TEST_F(manager, that_does_not_listen_is_not_waited_for)
{
	unlink(self->name);
	self->program = program_start(THAW("-p", "await new Promise(r => setTimeout(r, 300)), 7"));
	EXPECT_EQ(0, program_finish(&self->program, 30));
	EXPECT_EQ(NULL, strstr(self->program.errors, "NOTIFY")) TH_LOG("%s", self->program.errors);
}

TEST(the_unit_is_one)
{
	char *directory = support_directory();
	char *unit = support_format("%s/thaw@.service", directory), *command;

	if (access("/usr/bin/systemd-analyze", X_OK))
		SKIP(return, "systemd-analyze is not here");
	command = support_format("sed 's,@BINDIR@,%.*s,' %s/scripts/thaw@.service.in > '%s' && "
				 "cd %s && systemd-analyze verify --man=no thaw@x.service 2>&1 | "
				 "grep 'thaw@'",
				 (int)(strlen(THAW_BINARY) - strlen("/thaw")), THAW_BINARY,
				 THAW_SOURCE, unit, directory);
	EXPECT_NE(0, system(command));
	free(command);
	free(unit);
	support_remove(directory);
}

TEST_HARNESS_MAIN
