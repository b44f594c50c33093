// SPDX-License-Identifier: GPL-2.0-only
/*
 * top_terminal.c - thaw top at a terminal: keys, its size, and that the terminal is as before
 * whatever ends it. It runs as a job of a small shell here, which says on the terminal what becomes
 * of it, and what the terminal is like then.
 */
#define _GNU_SOURCE
#include <pty.h>
#include <sys/resource.h>
#include <termios.h>

#include "kselftest_harness.h"
#include "support.h"

static const char script_text[] = "import { checkpoint } from 'thaw'\n"
				  "await checkpoint()\n"
				  "console.log('one')\n"
				  "await new Promise(resolve => setTimeout(resolve, 3600e3))\n";

#define PROGRAMS 3u
#define LEAVE "\033[?25h\033[?1049l"

FIXTURE(screen)
{
	char *directory, *script;
	char *images[PROGRAMS], *pids[PROGRAMS];
	struct program programs[PROGRAMS];
	pid_t shell;
	int fd;
	char *shown; /* what the terminal was sent since the last key */
	size_t bytes;
};
FIXTURE_SETUP(screen)
{
	self->directory = support_directory();
	self->script = support_format("%s/app.js", self->directory);
	self->shown = calloc(1, 1);
	support_write(self->script, script_text);
	setenv("TERM", "xterm", 1);
	setenv("LC_ALL", "C.UTF-8", 1);
	for (unsigned i = 0; i < PROGRAMS; i++) {
		self->images[i] = support_format("%s/\xc3\xa9-%u.thaw", self->directory, i);
		self->programs[i] = program_start(THAW("run", "-q", "--every", "0", "--image",
						       self->images[i], self->script));
		self->pids[i] = support_format("%d", self->programs[i].pid);
	}
}
FIXTURE_TEARDOWN(screen)
{
	if (self->shell > 0) {
		kill(self->shell, SIGKILL);
		waitpid(self->shell, NULL, 0);
		close(self->fd);
	}
	for (unsigned i = 0; i < PROGRAMS; i++) {
		program_kill(&self->programs[i]);
		program_free(&self->programs[i]);
		free(self->images[i]);
		free(self->pids[i]);
	}
	free(self->shown);
	free(self->script);
	support_remove(self->directory);
}

/* ---- The shell ---- */

static void say(const char *what, int number)
{
	struct termios terminal;
	char *line;

	if (tcgetattr(STDIN_FILENO, &terminal))
		support_die("tcgetattr");
	line = support_format("[%s %d %s]\n", what, number,
			      terminal.c_lflag & ICANON && terminal.c_lflag & ECHO ? "cooked"
										   : "raw");
	if (write(STDOUT_FILENO, line, strlen(line)) < 0)
		_exit(1);
	free(line);
}

/*
 * Runs the job in the foreground. Stopped: takes the terminal, and waits for SIGUSR1 to give it
 * back.
 */
static _Noreturn void be_shell(const char *const *arguments)
{
	static const int usual[] = {SIGINT, SIGQUIT, SIGHUP, SIGTERM, SIGTSTP, SIGTTOU};
	sigset_t go;
	pid_t job;
	int status;

	signal(SIGTTOU, SIG_IGN);
	sigemptyset(&go);
	sigaddset(&go, SIGUSR1);
	sigprocmask(SIG_BLOCK, &go, NULL);
	job = fork();
	if (!job) {
		setpgid(0, 0);
		tcsetpgrp(STDIN_FILENO, getpid());
		/* As an interactive shell does, even if whoever began the tests ignores some. */
		for (unsigned i = 0; i < sizeof(usual) / sizeof(usual[0]); i++)
			signal(usual[i], SIG_DFL);
		sigprocmask(SIG_UNBLOCK, &go, NULL);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		execv(arguments[0], (char *const *)arguments);
		_exit(127);
	}
	setpgid(job, job);
	tcsetpgrp(STDIN_FILENO, job);
	while (waitpid(job, &status, WUNTRACED) == job && WIFSTOPPED(status)) {
		tcsetpgrp(STDIN_FILENO, getpid());
		say("stopped by", WSTOPSIG(status));
		sigwaitinfo(&go, NULL);
		tcsetpgrp(STDIN_FILENO, job);
		kill(-job, SIGCONT);
	}
	tcsetpgrp(STDIN_FILENO, getpid());
	if (WIFEXITED(status))
		say("exit", WEXITSTATUS(status));
	else
		say("signal", WTERMSIG(status));
	for (;;) /* the terminal stays */
		pause();
}

static void start(FIXTURE_DATA(screen) * self, struct winsize size, const char *interval)
{
	self->bytes = 0;
	self->shown[0] = '\0';
	self->shell = forkpty(&self->fd, NULL, NULL, &size);
	if (self->shell < 0)
		support_die("forkpty");
	if (!self->shell) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		be_shell(THAW("top", "-d", interval, "--sort", "image", self->pids[0],
			      self->pids[1], self->pids[2]));
	}
	fcntl(self->fd, F_SETFL, O_NONBLOCK);
}

static void forget(FIXTURE_DATA(screen) * self)
{
	self->bytes = 0;
	self->shown[0] = '\0';
}

static void stop(FIXTURE_DATA(screen) * self)
{
	kill(self->shell, SIGKILL);
	waitpid(self->shell, NULL, 0);
	close(self->fd);
	self->shell = 0;
}

/* The job: the only child of the shell. */
static pid_t job_of(pid_t shell)
{
	pid_t job = support_child(shell);

	if (!job)
		support_die("the children of the shell");
	return job;
}

/* ---- The terminal ---- */

static bool shows(FIXTURE_DATA(screen) * self, const char *text)
{
	double end = support_deadline(60);

	while (program_drain(self->fd, &self->shown, &self->bytes) &&
	       !memmem(self->shown, self->bytes, text, strlen(text)) && support_seconds() < end)
		poll(&(struct pollfd){self->fd, POLLIN, 0}, 1, 20);
	return memmem(self->shown, self->bytes, text, strlen(text));
}

static void press(FIXTURE_DATA(screen) * self, const char *keys)
{
	forget(self);
	if (write(self->fd, keys, strlen(keys)) != (ssize_t)strlen(keys))
		support_die("write to the terminal");
}

/* The last whole frame: from the cursor's move home to the clearing of what is below. */
static char *frame(FIXTURE_DATA(screen) * self)
{
	char *last = NULL, *at = self->shown, *to;

	while ((at = strstr(at, "\033[H"))) {
		to = strstr(at, "\033[J");
		if (!to)
			break;
		last = at;
		at = to;
	}
	to = last ? strstr(last, "\033[J") : NULL;
	return support_format("%.*s", last ? (int)(to - last) : 0, last ? last : "");
}

#define EXPECT_SHOWS(text) \
	EXPECT_TRUE(shows(self, text)) TH_LOG("%.*s", (int)self->bytes, self->shown)
#define ASSERT_SHOWS(text) \
	ASSERT_TRUE(shows(self, text)) TH_LOG("%.*s", (int)self->bytes, self->shown)

static const struct winsize wide = {.ws_row = 24, .ws_col = 200};

static bool ready(FIXTURE_DATA(screen) * self)
{
	for (unsigned i = 0; i < PROGRAMS; i++)
		if (!program_wait_for(&self->programs[i], "one\n", 60))
			return false;
	return true;
}

#define READY() ASSERT_TRUE(ready(self)) TH_LOG("%s", self->programs[0].errors)

/* The interval is so long that nothing is drawn but for what the test does. */
#define LONG "1h"

TEST_F(screen, q_ends_it)
{
	char *drawn;

	READY();
	start(self, wide, LONG);
	ASSERT_SHOWS("\033[?1049h");
	ASSERT_SHOWS("\033[J");
	drawn = frame(self);
	EXPECT_NE(NULL, strstr(drawn, "thaw top - "));
	EXPECT_NE(NULL, strstr(drawn, " 3 programs, every 3600 s, by IMAGE"));
	EXPECT_NE(NULL, strstr(drawn, "q quit"));
	for (unsigned i = 0; i < PROGRAMS; i++) {
		EXPECT_NE(NULL, strstr(drawn, self->pids[i]));
		EXPECT_NE(NULL, strstr(drawn, self->images[i])) TH_LOG("%s", drawn);
	}
	free(drawn);
	press(self, "q");
	EXPECT_SHOWS(LEAVE);
	EXPECT_SHOWS("[exit 0 cooked]");
}

TEST_F(screen, keys_sort_and_refresh)
{
	char *one, *other;

	READY();
	start(self, wide, LONG);
	ASSERT_SHOWS("\033[J");
	press(self, "r");
	ASSERT_SHOWS("by IMAGE reversed");
	ASSERT_SHOWS("\033[J");
	one = strstr(self->shown, self->images[0]);
	other = strstr(self->shown, self->images[1]);
	EXPECT_LT(other, one);
	press(self, "p");
	ASSERT_SHOWS("by PID");
	/* One column further, whatever is in it: the user. */
	press(self, ">");
	ASSERT_SHOWS("by USER");
	press(self, "<<");
	ASSERT_SHOWS("by COMMAND");
	press(self, "D");
	ASSERT_SHOWS("by DIRTY/s");
	ASSERT_SHOWS("\033[J");
	press(self, "d");
	ASSERT_SHOWS("by DIRTY/s reversed");
	press(self, "h");
	ASSERT_SHOWS("any key: back");
	/* All of it, on a screen of 24 lines. */
	ASSERT_SHOWS("COMMAND");
	press(self, "q");
	ASSERT_SHOWS("by DIRTY/s reversed");
	/* A new sample: one of the programs is not there any more. */
	ASSERT_SHOWS("\033[J");
	kill(self->programs[1].pid, SIGKILL);
	while (waitid(P_PID, (id_t)self->programs[1].pid, &(siginfo_t){0}, WEXITED | WNOWAIT))
		;
	press(self, " ");
	ASSERT_SHOWS(" 2 programs,");
	ASSERT_SHOWS("\033[J");
	EXPECT_EQ(NULL, strstr(self->shown, self->images[1]));
	/* What is no key. */
	press(self, "!\033[Z\033q");
	EXPECT_SHOWS("[exit 0 cooked]");
}

/* It is drawn again at once, in what room there is. */
TEST_F(screen, its_size_changes)
{
	static const struct winsize sizes[] = {{.ws_row = 24, .ws_col = 80},
					       {.ws_row = 6, .ws_col = 40},
					       {.ws_row = 2, .ws_col = 10},
					       {.ws_row = 1, .ws_col = 1}};
	struct winsize size = wide;
	char *drawn;

	READY();
	start(self, wide, LONG);
	/* The first figures come after a second, all others after the interval. */
	ASSERT_SHOWS("\033[J");
	EXPECT_SHOWS("COMMAND");
	forget(self);
	ASSERT_SHOWS("\033[J");
	for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		unsigned lines = 1, columns = 0, most = 0;

		size = sizes[i];
		forget(self);
		ASSERT_EQ(0, ioctl(self->fd, TIOCSWINSZ, &size));
		ASSERT_SHOWS("\033[J");
		drawn = frame(self);
		EXPECT_EQ(NULL, strstr(drawn, "COMMAND"));
		for (const char *at = drawn; *at; at++) {
			if (*at == '\033') {
				at += strcspn(at, "hlHJKm");
				continue;
			}
			lines += *at == '\n';
			columns = *at == '\n' || *at == '\r' ? 0 : columns + ((*at & 0xc0) != 0x80);
			most = columns > most ? columns : most;
		}
		EXPECT_LT(most, size.ws_col + (size.ws_col == 1));
		EXPECT_LE(lines, size.ws_row);
		if (size.ws_col == 40) {
			/* The end of a path is what tells it from others. */
			EXPECT_NE(NULL, strstr(drawn, "...")) TH_LOG("%s", drawn);
			EXPECT_NE(NULL, strstr(drawn, "\xc3\xa9-0.thaw")) TH_LOG("%s", drawn);
		}
		free(drawn);
	}
	/* Two lines: the titles and one program. */
	size = (struct winsize){.ws_row = 2, .ws_col = 200};
	forget(self);
	ASSERT_EQ(0, ioctl(self->fd, TIOCSWINSZ, &size));
	ASSERT_SHOWS(self->images[0]);
	press(self, "\033[B");
	ASSERT_SHOWS(self->images[1]);
	press(self, "\033OB");
	ASSERT_SHOWS(self->images[2]);
	press(self, "\033[5~");
	ASSERT_SHOWS(self->images[1]);
	press(self, "\033[H");
	ASSERT_SHOWS(self->images[0]);
	press(self, "\033[F");
	ASSERT_SHOWS(self->images[2]);
	press(self, "q");
	EXPECT_SHOWS("[exit 0 cooked]");
}

/* Whatever ends it. */
TEST_F(screen, signals_give_the_terminal_back)
{
	static const int ending[] = {SIGTERM, SIGHUP, SIGQUIT};
	static const int fatal[] = {SIGSEGV, SIGABRT, SIGBUS};

	READY();
	start(self, wide, LONG);
	ASSERT_SHOWS("\033[J");
	press(self, "\x03");
	EXPECT_SHOWS(LEAVE);
	EXPECT_SHOWS("[exit 130 cooked]");
	stop(self);
	for (unsigned i = 0; i < 3; i++) {
		char *said = support_format("[exit %d cooked]", 128 + ending[i]);

		start(self, wide, LONG);
		ASSERT_SHOWS("\033[J");
		kill(job_of(self->shell), ending[i]);
		EXPECT_SHOWS(LEAVE);
		EXPECT_SHOWS(said);
		stop(self);
		free(said);
	}
	for (unsigned i = 0; i < 3; i++) {
		char *said = support_format("[signal %d cooked]", fatal[i]);
		struct rlimit none = {0};

		start(self, wide, LONG);
		ASSERT_SHOWS("\033[J");
		prlimit(job_of(self->shell), RLIMIT_CORE, &none, NULL);
		kill(job_of(self->shell), fatal[i]);
		EXPECT_SHOWS(LEAVE);
#ifndef __SANITIZE_ADDRESS__
		EXPECT_SHOWS(said);
#endif
		stop(self);
		free(said);
	}
}

TEST_F(screen, it_is_stopped_and_continued)
{
	READY();
	start(self, wide, LONG);
	ASSERT_SHOWS("\033[J");
	press(self, "\x1a");
	ASSERT_SHOWS(LEAVE);
	ASSERT_SHOWS("[stopped by 20 cooked]");
	forget(self);
	kill(self->shell, SIGUSR1);
	ASSERT_SHOWS("\033[?1049h");
	ASSERT_SHOWS("\033[J");
	EXPECT_NE(NULL, strstr(self->shown, self->images[2]));
	press(self, "p");
	ASSERT_SHOWS("by PID");
	/* By a signal that it cannot catch; and again. */
	kill(job_of(self->shell), SIGSTOP);
	ASSERT_SHOWS("[stopped by 19 raw]");
	forget(self);
	kill(self->shell, SIGUSR1);
	ASSERT_SHOWS("\033[?1049h");
	ASSERT_SHOWS("\033[J");
	press(self, "\x1a");
	ASSERT_SHOWS("[stopped by 20 cooked]");
	forget(self);
	kill(self->shell, SIGUSR1);
	ASSERT_SHOWS("\033[J");
	press(self, "q");
	EXPECT_SHOWS("[exit 0 cooked]");
}

/* The terminal is closed: nobody is there to press a key. */
TEST_F(screen, the_terminal_goes_away)
{
	double end = support_deadline(60);
	pid_t job;

	READY();
	start(self, wide, LONG);
	ASSERT_SHOWS("\033[J");
	job = job_of(self->shell);
	close(self->fd);
	self->fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	while (!kill(job, 0) && support_seconds() < end)
		support_sleep(0.01);
	EXPECT_NE(0, kill(job, 0));
}

/* A count of refreshes: the last one stays on the screen. */
TEST_F(screen, it_ends_by_itself)
{
	READY();
	start(self, wide, "0.1");
	for (unsigned i = 0; i < 3; i++)
		ASSERT_SHOWS("\033[J");
	press(self, "q");
	EXPECT_SHOWS("[exit 0 cooked]");
	stop(self);
	self->bytes = 0;
	self->shell = forkpty(&self->fd, NULL, NULL, &(struct winsize){.ws_row = 24, .ws_col = 90});
	if (!self->shell) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		be_shell(THAW("top", "-d", "0.1", "-n", "2", self->images[0]));
	}
	fcntl(self->fd, F_SETFL, O_NONBLOCK);
	ASSERT_SHOWS("[exit 0 cooked]");
	EXPECT_NE(NULL, strstr(strstr(self->shown, LEAVE), "COMMAND"));
	EXPECT_NE(NULL, strstr(strstr(self->shown, LEAVE), self->images[0]));
}

TEST_HARNESS_MAIN
