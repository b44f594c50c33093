/* SPDX-License-Identifier: MIT */
/*
 * atomic_output.c - the file of -o. It is written under a temporary name and renamed when it is
 * complete, so a command that fails leaves the old file as it was. A pipe or a device is written
 * directly. The file has the mode 0600, whatever the umask: the contents of an image are private.
 * One thread.
 */
#define _GNU_SOURCE
#include "atomic_output.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/failure.h"

static int cannot_write(const char *path, int reason, struct thaw_error *error)
{
	return failure(error, -reason, "%s: cannot write it: %s", path, strerror(reason));
}

/* A damaged one counts, too: it may be the only copy, and thaw repair can save a part of it. */
static bool is_image(const char *path, const struct stat *status, const char *image)
{
	struct thaw_image *opened;
	struct stat other;
	int code;

	if (!stat(image, &other) && other.st_dev == status->st_dev &&
	    other.st_ino == status->st_ino)
		return true;
	code = thaw_image_open(path, &opened, NULL);
	thaw_image_close(opened);
	return !code || code == THAW_EDAMAGED || code == THAW_EFORMAT || code == THAW_EENGINE ||
	       code == THAW_EKEY;
}

static const char *volatile half_written; /* removed when a signal ends the command */

static void take_away(int number)
{
	const char *temporary = half_written;

	if (temporary)
		unlink(temporary);
	raise(number); /* its action is the default again (SA_RESETHAND) */
}

static void take_away_on_signals(const char *temporary)
{
	struct sigaction action = {.sa_handler = take_away, .sa_flags = (int)SA_RESETHAND};
	static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};

	half_written = temporary;
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		struct sigaction before;

		if (!sigaction(numbers[i], NULL, &before) && before.sa_handler != SIG_IGN)
			sigaction(numbers[i], &action, NULL);
	}
}

static int open_temporary(struct atomic_output *output, struct thaw_error *error)
{
	sigset_t all, before;
	int fd;

	if (asprintf(&output->temporary, "%s.XXXXXX", output->path) < 0) {
		output->temporary = NULL;
		return failure(error, -ENOMEM, "%s: no memory to write it", output->path);
	}
	sigfillset(&all); /* until the name to remove is known */
	sigprocmask(SIG_BLOCK, &all, &before);
	fd = mkostemp(output->temporary, O_CLOEXEC);
	if (fd >= 0)
		take_away_on_signals(output->temporary);
	sigprocmask(SIG_SETMASK, &before, NULL);
	if (fd < 0)
		return cannot_write(output->path, errno, error);
	/* mkstemp() gives no more, but the umask may have taken some of the owner's bits. */
	(void)fchmod(fd, 0600);
	output->to = fdopen(fd, "w");
	if (output->to)
		return 0;
	close(fd);
	unlink(output->temporary);
	return failure(error, -ENOMEM, "%s: no memory to write it", output->path);
}

int atomic_output_open(struct atomic_output *output, const char *path, const char *image,
		       struct thaw_error *error)
{
	struct stat status;
	bool exists;

	*output = (struct atomic_output){.to = stdout};
	if (!path || !strcmp(path, "-"))
		return 0;
	output->to = NULL;
	exists = !stat(path, &status);
	if (exists && !S_ISREG(status.st_mode)) {
		output->to = fopen(path, "we");
		return output->to ? 0 : cannot_write(path, errno, error);
	}
	if (exists && is_image(path, &status, image))
		return failure(error, -EEXIST, "%s: is an image: name another file to write to",
			       path);
	/* A symbolic link stays: the file that it leads to is replaced. */
	output->path = exists ? realpath(path, NULL) : strdup(path);
	if (!output->path)
		return cannot_write(path, errno, error);
	return open_temporary(output, error);
}

int atomic_output_close(struct atomic_output *output, int code, struct thaw_error *error)
{
	const char *path = output->path ? output->path : "standard output";

	if (output->to) {
		bool wrong = fflush(output->to) || ferror(output->to);

		if (output->to != stdout)
			wrong |= fclose(output->to) != 0;
		if (wrong && !code)
			code = cannot_write(path, errno ? errno : EIO, error);
		if (output->temporary && !code && rename(output->temporary, output->path))
			code = cannot_write(path, errno, error);
		if (output->temporary && code)
			unlink(output->temporary);
	}
	half_written = NULL;
	free(output->temporary);
	free(output->path);
	return code;
}

int atomic_output_fail(const struct thaw_error *error, int code)
{
	if (code == -EEXIST || code == -EISDIR)
		return cli_fail(code == -EEXIST ? EXIT_USAGE : EXIT_IO, "%s", error->text);
	return cli_fail_error(error, code);
}
