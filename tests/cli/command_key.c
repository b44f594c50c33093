// SPDX-License-Identifier: GPL-2.0-only
/*
 * command_key.c - encrypted images as they are typed: a program runs in one, what opens it is added, removed and renewed,
 * a passphrase is asked for at a terminal, which shows nothing of it, and stays no terminal of nobody when a signal comes.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <pty.h>
#include <termios.h>

#include "support.h"
#include "thaw.h"

FIXTURE(key)
{
	char *directory, *script, *image, *other;
	struct program program;
	pid_t pid;
	int terminal;
	char *shown;
	size_t bytes;
};
FIXTURE_SETUP(key)
{
	self->directory = support_directory();
	self->script = support_format("%s/counter.js", self->directory);
	self->image = support_format("%s/counter.thaw", self->directory);
	self->other = support_format("%s/spare", self->directory);
	self->shown = calloc(1, 1);
	self->terminal = -1;
	setenv("XDG_CONFIG_HOME", self->directory, 1);
	unsetenv("THAW_KEY");
	unsetenv("THAW_IMAGE_KEY");
	support_write(self->script, "globalThis.aVariable = 'MARKER in the heap ' + 6 * 7\n"
				    "console.log('begun')\n");
}
FIXTURE_TEARDOWN(key)
{
	if (self->pid) {
		kill(self->pid, SIGKILL);
		waitpid(self->pid, NULL, 0);
	}
	if (self->terminal >= 0)
		close(self->terminal);
	program_free(&self->program);
	free(self->shown);
	free(self->other);
	free(self->image);
	free(self->script);
	support_remove(self->directory);
}

#define EXPECT_EXIT(code, ...)                                                         \
	do {                                                                           \
		program_free(&self->program);                                          \
		EXPECT_EQ(code, program_run(&self->program, NULL, THAW(__VA_ARGS__))); \
	} while (0)

static bool file_has(const char *path, const char *text)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat status;
	char *bytes;
	bool has;

	if (fd < 0 || fstat(fd, &status))
		support_die(path);
	bytes = malloc((size_t)status.st_size);
	if (!bytes || read(fd, bytes, (size_t)status.st_size) != status.st_size)
		support_die(path);
	has = memmem(bytes, (size_t)status.st_size, text, strlen(text));
	free(bytes);
	close(fd);
	return has;
}

TEST_F(key, a_program_runs_in_an_image_that_tells_nothing_of_it)
{
	EXPECT_EXIT(0, "run", "--encrypt", self->script);
	EXPECT_EXIT(0, "-i", self->image, "-p", "aVariable");
	EXPECT_STREQ("MARKER in the heap 42\n", self->program.output);
	EXPECT_EXIT(0, "tag", self->image, "a-name-of-it");
	EXPECT_FALSE(file_has(self->image, "MARKER"));
	EXPECT_FALSE(file_has(self->image, "aVariable"));
	EXPECT_FALSE(file_has(self->image, "a-name-of-it"));
	EXPECT_EXIT(0, "verify", "--quiet", self->image);
	EXPECT_EXIT(0, "inspect", self->image);
	EXPECT_NE(NULL, strstr(self->program.output, "encrypted"));
	/* In the clear it is all there. */
	EXPECT_EXIT(0, "compact", "--decrypt", self->image);
	EXPECT_TRUE(file_has(self->image, "MARKER"));
	EXPECT_TRUE(file_has(self->image, "aVariable"));
	EXPECT_TRUE(file_has(self->image, "a-name-of-it"));
	EXPECT_EXIT(76, "run", "--encrypt", self->script);
	EXPECT_NE(NULL, strstr(self->program.errors, "compact --encrypt"));
	EXPECT_EXIT(0, "compact", "--encrypt", self->image);
	EXPECT_FALSE(file_has(self->image, "MARKER"));
	EXPECT_EXIT(0, "run", "--encrypt", self->script);
}

TEST_F(key, keys_are_added_removed_and_renewed)
{
	EXPECT_EXIT(0, "run", "--encrypt", self->script);
	EXPECT_EXIT(0, "key", "--file", self->other, "--name", "the spare one", self->image, "add");
	EXPECT_EXIT(9, "key", "--file", "", self->image, "add");
	EXPECT_EXIT(0, "key", self->image);
	EXPECT_NE(NULL, strstr(self->program.output, "your key"));
	EXPECT_NE(NULL, strstr(self->program.output, "the spare one"));
	EXPECT_EXIT(0, "key", self->image, "remove", "0");
	EXPECT_EXIT(76, "log", self->image);
	EXPECT_EXIT(76, "run", self->script);
	EXPECT_EXIT(9, "key", self->image, "remove", "9");
	EXPECT_EXIT(0, "key", "--json", self->image, "list"); /* without any key */
	setenv("THAW_IMAGE_KEY", self->other, 1);
	EXPECT_EXIT(0, "log", self->image);
	EXPECT_EXIT(0, "key", self->image, "add");
	EXPECT_EXIT(0, "key", self->image, "rotate");
	unsetenv("THAW_IMAGE_KEY");
	EXPECT_EXIT(0, "-i", self->image, "-p", "aVariable");
	EXPECT_STREQ("MARKER in the heap 42\n", self->program.output);
	setenv("THAW_IMAGE_KEY", "neither", 1);
	EXPECT_EXIT(0, "log", self->image);
	setenv("THAW_KEY", self->image, 1);
	EXPECT_EXIT(76, "log", self->image);
	EXPECT_NE(NULL, strstr(self->program.errors, "THAW_IMAGE_KEY is neither"));
	unsetenv("THAW_KEY");
}

/* ---- At a terminal */

static void begin(FIXTURE_DATA(key) * self, const char *const arguments[])
{
	self->bytes = 0;
	self->pid = forkpty(&self->terminal, NULL, NULL, NULL);
	if (!self->pid) {
		execv(arguments[0], (char *const *)arguments);
		_exit(127);
	}
	if (self->pid < 0)
		support_die("forkpty");
	fcntl(self->terminal, F_SETFL, O_NONBLOCK);
}

static bool shows(FIXTURE_DATA(key) * self, const char *text)
{
	double end = support_deadline(60);

	while (program_drain(self->terminal, &self->shown, &self->bytes) &&
	       !memmem(self->shown, self->bytes, text, strlen(text)) && support_seconds() < end)
		poll(&(struct pollfd){self->terminal, POLLIN, 0}, 1, 20);
	return memmem(self->shown, self->bytes, text, strlen(text));
}

static void type(FIXTURE_DATA(key) * self, const char *text)
{
	if (write(self->terminal, text, strlen(text)) != (ssize_t)strlen(text))
		support_die("write to the terminal");
}

static bool echoes(FIXTURE_DATA(key) * self)
{
	struct termios terminal;

	return !tcgetattr(self->terminal, &terminal) && terminal.c_lflag & ECHO;
}

/* What is typed from now on is not shown. */
static bool is_silent(FIXTURE_DATA(key) * self)
{
	for (double end = support_deadline(60); echoes(self) && support_seconds() < end;)
		support_sleep(0.005);
	return !echoes(self);
}

static int finish(FIXTURE_DATA(key) * self)
{
	struct program program = {.pid = self->pid,
				  .out = self->terminal,
				  .err = open("/dev/null", O_RDONLY | O_CLOEXEC),
				  .in = -1};
	int code = program_finish(&program, 60);

	self->shown = realloc(self->shown, self->bytes + program.output_bytes + 1);
	if (program.output_bytes)
		memcpy(self->shown + self->bytes, program.output, program.output_bytes);
	self->bytes += program.output_bytes;
	self->pid = 0;
	self->terminal = -1;
	free(program.output);
	free(program.errors);
	return code;
}

TEST_F(key, a_passphrase_is_asked_for_and_not_shown)
{
	EXPECT_EXIT(0, "run", "--encrypt", self->script);
	begin(self, THAW("key", "--passphrase", self->image, "add"));
	ASSERT_TRUE(shows(self, "New passphrase: ") && is_silent(self));
	type(self, "correct horse\n");
	ASSERT_TRUE(shows(self, "once more: ") && is_silent(self));
	type(self, "correct horse\n");
	EXPECT_EQ(0, finish(self)) TH_LOG("%.*s", (int)self->bytes, self->shown);
	EXPECT_EQ(NULL, memmem(self->shown, self->bytes, "horse", 5));
	EXPECT_EXIT(0, "key", self->image, "remove", "0");
	/* Nobody is there to be asked. */
	EXPECT_EXIT(76, "log", self->image);
	begin(self, THAW("-i", self->image, "-p", "aVariable"));
	ASSERT_TRUE(shows(self, "Passphrase of ") && is_silent(self));
	type(self, "battery staple\n");
	ASSERT_TRUE(shows(self, "That one is not") && is_silent(self));
	type(self, "correct horse\n");
	EXPECT_TRUE(shows(self, "MARKER in the heap 42"));
	EXPECT_EQ(0, finish(self)) TH_LOG("%.*s", (int)self->bytes, self->shown);
	EXPECT_EQ(NULL, memmem(self->shown, self->bytes, "horse", 5));
	/* Ctrl-C, and a signal from elsewhere: the terminal is as it was. */
	for (unsigned i = 0; i < 2; i++) {
		int other;

		begin(self, THAW("log", self->image));
		other = open(ptsname(self->terminal), O_RDWR | O_NOCTTY | O_CLOEXEC);
		ASSERT_TRUE(shows(self, "Passphrase of ") && is_silent(self));
		if (i)
			kill(self->pid, SIGTERM);
		else
			type(self, "\x03");
		for (double end = support_deadline(60); !echoes(self) && support_seconds() < end;)
			support_sleep(0.005);
		EXPECT_TRUE(echoes(self));
		EXPECT_NE(0, finish(self));
		close(other);
	}
}

TEST_HARNESS_MAIN
