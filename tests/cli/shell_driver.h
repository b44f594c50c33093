/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * shell_driver.h - thaw repl at a terminal of its own, with hands that type and eyes that wait for what is shown. One thread.
 */
#ifndef TESTS_CLI_SHELL_DRIVER_H
#define TESTS_CLI_SHELL_DRIVER_H

#include <pty.h>
#include <termios.h>

#include "support.h"

struct shell {
	char *directory, *image;
	pid_t pid; /* 0: it does not run */
	int fd;
	char *shown; /* what the terminal was sent, from the last key on */
	size_t bytes;
};

/* A home without history and settings, in which it will run. */
SUPPORT void shell_open(struct shell *shell)
{
	*shell = (struct shell){.directory = support_directory(), .shown = calloc(1, 1)};
	shell->image = support_format("%s/shell.thaw", shell->directory);
	setenv("HOME", shell->directory, 1);
	unsetenv("XDG_STATE_HOME");
	unsetenv("EDITRC");
	setenv("TERM", "xterm", 1);
	setenv("LC_ALL", "C.UTF-8", 1);
}

SUPPORT void shell_close(struct shell *shell)
{
	if (shell->pid > 0) {
		kill(shell->pid, SIGKILL);
		waitpid(shell->pid, NULL, 0);
		close(shell->fd);
	}
	free(shell->shown);
	free(shell->image);
	support_remove(shell->directory);
}

SUPPORT bool shell_shows(struct shell *shell, const char *text)
{
	double end = support_deadline(60);

	while (program_drain(shell->fd, &shell->shown, &shell->bytes) &&
	       !memmem(shell->shown, shell->bytes, text, strlen(text)) && support_seconds() < end)
		poll(&(struct pollfd){shell->fd, POLLIN, 0}, 1, 20);
	return memmem(shell->shown, shell->bytes, text, strlen(text));
}

SUPPORT void shell_press_bytes(struct shell *shell, const char *keys, size_t bytes)
{
	shell->bytes = 0;
	shell->shown[0] = '\0';
	while (bytes) {
		ssize_t put = write(shell->fd, keys, bytes);

		if (put < 0 && errno != EAGAIN)
			support_die("write to the terminal");
		if (put <= 0) {
			program_drain(shell->fd, &shell->shown, &shell->bytes);
			poll(&(struct pollfd){shell->fd, POLLIN | POLLOUT, 0}, 1, 20);
			continue;
		}
		keys += put;
		bytes -= (size_t)put;
	}
}

/* Now, whatever the shell is doing. */
SUPPORT void shell_press(struct shell *shell, const char *keys)
{
	shell_press_bytes(shell, keys, strlen(keys));
}

/*
 * Between two lines the terminal is the kernel's, which takes some keys for its own: until libedit makes it raw, when it
 * reads the first key after the prompt.
 */
SUPPORT void shell_wait_raw(struct shell *shell)
{
	double end = support_deadline(60);
	struct termios terminal;

	while (!tcgetattr(shell->fd, &terminal) && terminal.c_lflag & ICANON &&
	       support_seconds() < end)
		support_sleep(0.002);
}

/* After the prompt. */
SUPPORT void shell_type(struct shell *shell, const char *keys)
{
	double end = support_deadline(60);

	while ((shell->bytes < 2 || memcmp(shell->shown + shell->bytes - 2, "> ", 2)) &&
	       program_drain(shell->fd, &shell->shown, &shell->bytes) && support_seconds() < end)
		poll(&(struct pollfd){shell->fd, POLLIN, 0}, 1, 20);
	shell_wait_raw(shell);
	shell_press(shell, keys);
}

/* Until its first prompt. */
SUPPORT bool shell_start(struct shell *shell, unsigned short columns)
{
	struct winsize size = {.ws_row = 24, .ws_col = columns};

	shell->pid = forkpty(&shell->fd, NULL, NULL, &size);
	if (shell->pid < 0)
		support_die("forkpty");
	if (!shell->pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (!chdir(shell->directory))
			execv(THAW_BINARY, (char *const *)THAW("repl", "-q", shell->image));
		_exit(127);
	}
	fcntl(shell->fd, F_SETFL, O_NONBLOCK);
	return shell_shows(shell, "> ");
}

#define EXPECT_SHOWS(text)                           \
	EXPECT_TRUE(shell_shows(&self->shell, text)) \
	TH_LOG("%.*s", (int)self->shell.bytes, self->shell.shown)

#endif
