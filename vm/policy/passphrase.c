/* SPDX-License-Identifier: MIT */
/*
 * passphrase.c - asking somebody at the terminal for a passphrase, which is not shown. One thread.
 *
 * The terminal must not stay silent, whatever ends the process: signals that do wait meanwhile, and are looked for
 * beside what is typed; when one is there, the terminal is as it was, and then the signal does what it does. Ctrl-Z stops the
 * process with a terminal that shows what is typed, and asks again afterwards. What was typed lies in the caller's memory alone.
 */
#define _GNU_SOURCE
#include "passphrase.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sodium.h>
#include <string.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <unistd.h>

#include "base/failure.h"

struct asking {
	int terminal, signals;
	struct termios before;
	sigset_t mask;
};

static void say(const struct asking *asking, const char *text)
{
	size_t left = strlen(text);

	while (left) {
		ssize_t wrote = write(asking->terminal, text, left);

		if (wrote <= 0)
			return;
		text += wrote;
		left -= (size_t)wrote;
	}
}

static int be_silent(struct asking *asking)
{
	struct termios silent = asking->before;

	silent.c_lflag &= ~(tcflag_t)(ECHO | ECHOE | ECHOK);
	silent.c_lflag |= ECHONL | ICANON;
	return tcsetattr(asking->terminal, TCSAFLUSH, &silent) ? -errno : 0;
}

static void be_as_before(const struct asking *asking)
{
	tcsetattr(asking->terminal, TCSAFLUSH, &asking->before);
}

static int begin(struct asking *asking)
{
	sigset_t ends;
	int code;

	asking->terminal = open("/dev/tty", O_RDWR | O_CLOEXEC);
	if (asking->terminal < 0 || tcgetattr(asking->terminal, &asking->before)) {
		if (asking->terminal >= 0)
			close(asking->terminal);
		return -ENOTTY;
	}
	sigemptyset(&ends);
	for (const int *at = (const int[]){SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, 0}; *at; at++)
		sigaddset(&ends, *at);
	asking->signals = signalfd(-1, &ends, SFD_CLOEXEC);
	if (asking->signals < 0) {
		code = -errno;
		close(asking->terminal);
		return code;
	}
	pthread_sigmask(SIG_BLOCK, &ends, &asking->mask);
	return 0;
}

static void end(struct asking *asking)
{
	be_as_before(asking);
	close(asking->signals);
	close(asking->terminal);
	pthread_sigmask(SIG_SETMASK, &asking->mask, NULL);
}

/* A signal waits. If it is that of Ctrl-Z, it has done its work when this returns. */
static int signal_came(struct asking *asking, const char *prompt)
{
	sigset_t waiting, stop;

	sigpending(&waiting);
	if (!sigismember(&waiting, SIGTSTP))
		return -ECANCELED;
	be_as_before(asking);
	sigemptyset(&stop);
	sigaddset(&stop, SIGTSTP);
	pthread_sigmask(SIG_UNBLOCK, &stop, NULL);
	pthread_sigmask(SIG_BLOCK, &stop, NULL);
	say(asking, prompt);
	return be_silent(asking);
}

/* A line, which a terminal gives as a whole, or up to `room` of it. */
static int read_line(struct asking *asking, const char *prompt, char *to, size_t room)
{
	size_t got = 0;

	for (;;) {
		struct pollfd ready[] = {{asking->terminal, POLLIN, 0},
					 {asking->signals, POLLIN, 0}};
		ssize_t count;
		int code;

		if (poll(ready, 2, -1) < 0 && errno != EINTR)
			return -errno;
		if (ready[1].revents) {
			code = signal_came(asking, prompt);
			if (code)
				return code;
			got = 0;
			continue;
		}
		if (!ready[0].revents)
			continue;
		count = read(asking->terminal, to + got, 1);
		if (count < 0 && errno != EINTR)
			return -errno;
		if (!count && !got)
			return -ECANCELED;
		if (!count || (count > 0 && to[got] == '\n'))
			return (int)got;
		got += count > 0;
		if (got == room)
			return -EMSGSIZE;
	}
}

int passphrase_ask(const char *prompt, char *to, size_t room, struct thaw_error *error)
{
	struct asking asking;
	int code = begin(&asking);

	if (code)
		return failure(error, code,
			       "a passphrase is needed, and there is no terminal to ask for it");
	code = be_silent(&asking);
	if (!code) {
		say(&asking, prompt);
		code = read_line(&asking, prompt, to, room);
	}
	end(&asking);
	if (code < 0)
		sodium_memzero(to, room);
	if (code == -ECANCELED)
		return failure(error, code, "no passphrase was given");
	return code < 0 ? failure(error, code, "cannot ask for a passphrase: %s", strerror(-code))
			: code;
}
