// SPDX-License-Identifier: GPL-2.0-only
/*
 * support.h - what the tests share: a directory that goes away, files, and running a program to
 * its end or to its death. Failures in here end the test with a message: they are never what is
 * being tested.
 */
#ifndef TESTS_SUPPORT_H
#define TESTS_SUPPORT_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "patience.h"

#define SUPPORT __attribute__((unused)) static

SUPPORT _Noreturn void support_die(const char *what)
{
	fprintf(stderr, "# support: %s: %s\n", what, strerror(errno));
	abort();
}

SUPPORT double support_seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* When to stop waiting for what should have happened within so many seconds. */
SUPPORT double support_deadline(double seconds)
{
	return support_seconds() + seconds * test_patience_now();
}

SUPPORT void support_sleep(double seconds)
{
	struct timespec pause = {(time_t)seconds,
				 (long)((seconds - (double)(time_t)seconds) * 1e9)};

	while (nanosleep(&pause, &pause) && errno == EINTR)
		;
}

/* Bytes that a process can have without being killed for it, as far as the kernel can tell. */
SUPPORT uint64_t support_free_memory(void)
{
	FILE *file = fopen("/proc/meminfo", "re");
	unsigned long long kib = 0;
	char line[256];

	if (!file)
		support_die("/proc/meminfo");
	while (fgets(line, sizeof(line), file))
		if (sscanf(line, "MemAvailable: %llu", &kib) == 1)
			break;
	fclose(file);
	return kib << 10;
}

/* ---- files ---- */

SUPPORT char *support_format(const char *format, ...)
{
	char *text;
	va_list arguments;

	va_start(arguments, format);
	if (vasprintf(&text, format, arguments) < 0)
		support_die("asprintf");
	va_end(arguments);
	return text;
}

SUPPORT char *support_directory(void)
{
	const char *parent = getenv("TMPDIR");
	char *path = support_format("%s/thaw-test-XXXXXX", parent ? parent : "/tmp");

	if (!mkdtemp(path))
		support_die(path);
	return path;
}

/* Programs that are started from here have a key there, which is made when it is needed: not that of whoever runs this. */
SUPPORT void support_own_key(const char *directory)
{
	char *key = support_format("%s/key", directory);

	setenv("THAW_KEY", key, 1);
	free(key);
}

/* How many files are in a directory, those with hidden names too. */
SUPPORT unsigned support_files(const char *path)
{
	DIR *directory = opendir(path);
	unsigned count = 0;

	if (!directory)
		support_die(path);
	for (struct dirent *entry; (entry = readdir(directory));)
		count += strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..");
	closedir(directory);
	return count;
}

SUPPORT void support_remove(char *path)
{
	pid_t child = fork();

	if (!child) {
		execlp("rm", "rm", "-rf", path, NULL);
		_exit(127);
	}
	waitpid(child, NULL, 0);
	free(path);
}

SUPPORT void support_write(const char *path, const char *text)
{
	FILE *file = fopen(path, "w");

	if (!file || fputs(text, file) < 0 || fclose(file))
		support_die(path);
}

SUPPORT void support_flip(const char *path, uint64_t offset, uint8_t mask)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	uint8_t byte;

	if (fd < 0 || pread(fd, &byte, 1, (off_t)offset) != 1)
		support_die(path);
	byte ^= mask;
	if (pwrite(fd, &byte, 1, (off_t)offset) != 1 || close(fd))
		support_die(path);
}

SUPPORT uint64_t support_size(const char *path)
{
	struct stat status;

	if (stat(path, &status))
		support_die(path);
	return (uint64_t)status.st_size;
}

/* ---- programs ---- */

/*
 * A child that is killed when its parent ends, also if that is before it could say so. Else it would stay, with its
 * parent's stdout, and who reads that would wait for ever.
 */
SUPPORT pid_t support_fork(void)
{
	pid_t parent = getpid(), child = fork();

	if (!child) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(1);
	}
	return child;
}

struct program {
	pid_t pid;
	int out, err;	       /* its stdout and stderr, to read */
	int in;		       /* its stdin, to write; -1 once closed */
	char *output, *errors; /* what it has said so far */
	size_t output_bytes, errors_bytes;
};

SUPPORT struct program program_start(const char *const arguments[])
{
	struct program program = {.output = calloc(1, 1), .errors = calloc(1, 1)};
	int in[2], out[2], err[2];

	if (pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC) || pipe2(err, O_CLOEXEC))
		support_die("pipe");
	/* A test that fails leaves no endless loop behind, to slow down the tests after it. */
	program.pid = support_fork();
	if (program.pid < 0)
		support_die("fork");
	if (!program.pid) {
		dup2(in[0], 0);
		dup2(out[1], 1);
		dup2(err[1], 2);
		execvp(arguments[0], (char *const *)arguments);
		_exit(127);
	}
	close(in[0]);
	close(out[1]);
	close(err[1]);
	program.in = in[1];
	program.out = out[0];
	program.err = err[0];
	fcntl(program.out, F_SETFL, O_NONBLOCK);
	fcntl(program.err, F_SETFL, O_NONBLOCK);
	return program;
}

/* Takes what there is; false once the stream has ended. */
SUPPORT bool program_drain(int fd, char **text, size_t *bytes)
{
	char buffer[65536];
	ssize_t got;

	while ((got = read(fd, buffer, sizeof(buffer))) > 0) {
		*text = realloc(*text, *bytes + (size_t)got + 1);
		if (!*text)
			support_die("realloc");
		memcpy(*text + *bytes, buffer, (size_t)got);
		*bytes += (size_t)got;
		(*text)[*bytes] = '\0';
	}
	return got < 0 && (errno == EAGAIN || errno == EINTR);
}

SUPPORT bool program_listen(struct program *program, bool complaints, const char *text, double end)
{
	for (;;) {
		struct pollfd ready[2] = {{program->out, POLLIN, 0}, {program->err, POLLIN, 0}};
		bool out = program_drain(program->out, &program->output, &program->output_bytes);
		bool err = program_drain(program->err, &program->errors, &program->errors_bytes);

		if (text && strstr(complaints ? program->errors : program->output, text))
			return true;
		if (!(complaints ? err : out) || support_seconds() > end)
			return false;
		poll(ready, 2, 20);
	}
}

/*
 * Listen until `text` has been said on stdout (true), or the program closed it, or `seconds`
 * passed (false): as a time limit. Without a text, for that long.
 */
SUPPORT bool program_wait_for(struct program *program, const char *text, double seconds)
{
	return program_listen(program, false, text,
			      text ? support_deadline(seconds) : support_seconds() + seconds);
}

/* The same on stderr. */
SUPPORT bool program_wait_for_complaint(struct program *program, const char *text, double seconds)
{
	return program_listen(program, true, text, support_deadline(seconds));
}

/* The same on stdout, as the time that the program has, on a slow machine too (tests/patience.h). */
SUPPORT bool program_says_within(struct program *program, const char *text, double seconds)
{
	return program_listen(program, false, text, support_seconds() + seconds);
}

/* The first child of a process; 0: there is none. */
SUPPORT pid_t support_child(pid_t pid)
{
	char *path = support_format("/proc/%d/task/%d/children", (int)pid, (int)pid);
	FILE *file = fopen(path, "re");
	int child = 0;

	free(path);
	if (file && fscanf(file, "%d", &child) != 1)
		child = 0;
	if (file)
		fclose(file);
	return child;
}

/* A process that has ended lives no more, whether its parent has been told or not. */
SUPPORT bool support_lives(pid_t pid)
{
	char *path = support_format("/proc/%d/stat", (int)pid), state = 'Z';
	FILE *file = fopen(path, "re");

	free(path);
	if (file && fscanf(file, "%*d %*s %c", &state) != 1)
		state = 'Z';
	if (file)
		fclose(file);
	return state != 'Z' && state != 'X';
}

SUPPORT void program_close_input(struct program *program)
{
	if (program->in >= 0)
		close(program->in);
	program->in = -1;
}

/*
 * To its end: returns the exit code, or 128 + the signal; 124 if it had to be killed, because it was
 * still running at `end`.
 */
SUPPORT int program_finish_by(struct program *program, double end)
{
	int status, result = 124;

	program_close_input(program);
	for (;;) {
		struct pollfd ready[2] = {{program->out, POLLIN, 0}, {program->err, POLLIN, 0}};
		pid_t done = waitpid(program->pid, &status, WNOHANG);

		program_drain(program->out, &program->output, &program->output_bytes);
		program_drain(program->err, &program->errors, &program->errors_bytes);
		if (done == program->pid) {
			result = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
			break;
		}
		if (support_seconds() > end) {
			kill(program->pid, SIGKILL);
			waitpid(program->pid, &status, 0);
			break;
		}
		poll(ready, 2, 5);
	}
	close(program->out);
	close(program->err);
	return result;
}

/* With a time limit. */
SUPPORT int program_finish(struct program *program, double seconds)
{
	return program_finish_by(program, support_deadline(seconds));
}

SUPPORT void program_kill(struct program *program)
{
	kill(program->pid, SIGKILL);
	program_finish(program, 10);
}

SUPPORT void program_free(struct program *program)
{
	if (!program->output) /* never started */
		return;
	program_close_input(program);
	free(program->output);
	free(program->errors);
	*program = (struct program){.in = -1};
}

/* Start, feed `input` (may be NULL), finish. */
SUPPORT int program_run(struct program *program, const char *input, const char *const arguments[])
{
	struct sigaction ignored = {.sa_handler = SIG_IGN}, before;

	*program = program_start(arguments);
	sigaction(SIGPIPE, &ignored, &before); /* it may have ended, and read nothing */
	if (input && write(program->in, input, strlen(input)) < 0 && errno != EPIPE)
		support_die("write to a program");
	sigaction(SIGPIPE, &before, NULL);
	return program_finish(program, 100);
}

#ifdef THAW_BINARY
/* What is installed; or, where failures are asked for, the same with what makes them (tests/inject). */
SUPPORT const char *support_thaw(void)
{
	return getenv("THAW_INJECT") ? THAW_INJECTING : THAW_BINARY;
}

#define THAW(...) ((const char *const[]){support_thaw(), __VA_ARGS__, NULL})

/*
 * Why nothing can persist here, with the back ends that the environment names: a line for SKIP(),
 * which the caller frees. NULL: it can.
 */
SUPPORT char *support_kernel_lacks(const char *directory)
{
	char *script = support_format("%s/nothing.js", directory), *why = NULL;
	struct program program;

	support_write(script, "");
	if (program_run(&program, NULL, THAW("run", "--every", "0", script)) == 69)
		why = support_format("%.*s", (int)strcspn(program.errors, "\n"), program.errors);
	program_free(&program);
	free(script);
	return why;
}
#endif

/* In a TEST, or in its setup, whose guest of `thaw exec` is the test's own program, or thaw. */
#ifdef __SANITIZE_ADDRESS__
/* Its heap lies where the control block and the restorer do, and its runtime wants to be the first library. */
#define SKIP_SANITIZED() SKIP(return, "a program with AddressSanitizer cannot be a guest")
#else
#define SKIP_SANITIZED()
#endif

#endif
