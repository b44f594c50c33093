/* SPDX-License-Identifier: MIT */
/*
 * pull.c - the newest image of a store as a file of its own (pull.h). The file has no name while it is filled, where the file system
 * can do that, so that a pull that is killed leaves nothing.
 */
#define _GNU_SOURCE
#include "store/pull.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/failure.h"
#include "store/lease.h"
#include "store/place_file.h"
#include "store/sidefile.h"

#define PATIENCE_NS (300ull * 1000000000)
#define LEASE_DROP_NS 2000000000ull
#define CONNECTIONS 16u

struct pull {
	const struct pull_options *options;
	struct pull_status *status;
	struct s3 *s3;
	struct store_index index;
	struct store_level level;
	struct lease *lease;
	struct fetch *fetch;
	char *temporary; /* the file's name, until it has its own; NULL: none */
	int fd;
	uint64_t patience_ns;
};

/* ---- The file */

static int file_failure(const struct pull *pull, int code, const char *what,
			struct thaw_error *error)
{
	return failure(error, code, "%s: %s: %s", pull->options->image, what, thaw_strerror(code));
}

/* What has the name now: 0, nothing, or what may be replaced. */
static int check_name(const struct pull *pull, struct thaw_error *error)
{
	const char *image = pull->options->image;
	struct stat stat;
	bool made;
	int fd;

	if (lstat(image, &stat))
		return errno == ENOENT ? 0 : file_failure(pull, -errno, "cannot look at it", error);
	if (!(pull->options->flags & PULL_REPLACE))
		return failure(error, -EEXIST, "%s: there is a file of that name already", image);
	if (!S_ISREG(stat.st_mode))
		return failure(error, -EXDEV, "%s: not a regular file: name another", image);
	if (stat.st_nlink > 1)
		return failure(error, -EMLINK, "%s: it has several names: name another", image);
	fd = place_file_open(image, &made, error);
	if (fd < 0)
		return fd;
	close(fd);
	return place_file_unused(image, error);
}

static int file_new(struct pull *pull, struct thaw_error *error)
{
	pull->fd = place_file_scratch(pull->options->image, &pull->temporary);
	return pull->fd < 0 ? file_failure(pull, pull->fd, "cannot make it", error) : 0;
}

/* A name for a file that has none: its own, if nothing may be replaced, else another. */
static int file_link(struct pull *pull)
{
	char open[64], *name = NULL;
	int code = -EEXIST;

	snprintf(open, sizeof(open), "/proc/self/fd/%d", pull->fd);
	if (!(pull->options->flags & PULL_REPLACE))
		return linkat(AT_FDCWD, open, AT_FDCWD, pull->options->image, AT_SYMLINK_FOLLOW)
			       ? -errno
			       : 0;
	for (unsigned i = 0; i < 100 && code == -EEXIST; i++) {
		free(name);
		if (asprintf(&name, "%s.pull-%d-%u", pull->options->image, (int)getpid(), i) < 0)
			return -ENOMEM;
		code = linkat(AT_FDCWD, open, AT_FDCWD, name, AT_SYMLINK_FOLLOW) ? -errno : 0;
	}
	if (code)
		free(name);
	else
		pull->temporary = name;
	return code;
}

/* Whole and durable: it gets its name. */
static int file_name(struct pull *pull, struct thaw_error *error)
{
	bool replace = pull->options->flags & PULL_REPLACE;
	const char *image = pull->options->image;
	int code = fsync(pull->fd) ? -errno : 0;

	if (code)
		return file_failure(pull, code, "cannot be made durable", error);
	if (!pull->temporary)
		code = file_link(pull);
	/* What IMAGE.store says is true of the file that goes. */
	if (!code && replace)
		code = sidefile_remove(image, error);
	if (!code && pull->temporary) {
		code = renameat2(AT_FDCWD, pull->temporary, AT_FDCWD, image,
				 replace ? 0 : RENAME_NOREPLACE)
			       ? -errno
			       : 0;
		if (!code) {
			free(pull->temporary);
			pull->temporary = NULL;
		}
	}
	if (code)
		return file_failure(pull, code, "cannot get its name", error);
	code = sidefile_sync_folder(image);
	return code ? file_failure(pull, code, "its name cannot be made durable", error) : 0;
}

/* ---- What is in it */

static bool progress(void *arg)
{
	struct pull *pull = arg;

	fetch_status(pull->fetch, &pull->status->fetch);
	s3_count(pull->s3, &pull->status->counts);
	return !pull->options->progress ||
	       pull->options->progress(pull->options->arg, pull->status);
}

static int find(struct pull *pull, struct thaw_error *error)
{
	uint64_t deadline_ns = clock_monotonic_ns() + pull->patience_ns;
	struct store_record *record = &pull->status->record;
	void *tail = NULL;
	int code = record_newest(pull->s3, deadline_ns, record, &tail, error);

	if (!code && !record->number)
		code = failure(error, -ENOENT, "%s is empty", pull->options->place);
	/* Without one, what is read stays for as long as a store keeps what nobody needs. */
	if (!code && lease_take(pull->s3, record->number, &pull->lease, NULL))
		pull->lease = NULL;
	if (!code)
		code = record_index(pull->s3, record, tail, deadline_ns, &pull->index, error);
	free(tail);
	if (code)
		return code;
	code = index_merge(&pull->index, &pull->level);
	return code ? failure(error, code, "%s: %s", pull->options->place, thaw_strerror(code)) : 0;
}

static int bring(struct pull *pull, struct thaw_error *error)
{
	struct fetch_options options = {
		.s3 = pull->s3,
		.fd = pull->fd,
		.level = &pull->level,
		.bytes = pull->status->record.file_bytes,
		.patience_ns = pull->patience_ns,
	};
	int code;

	if (ftruncate(pull->fd, (off_t)pull->status->record.file_bytes))
		return file_failure(pull, -errno, "cannot be made so long", error);
	code = fetch_open(&options, &pull->fetch, error);
	if (!code)
		code = fetch_fill(pull->fetch, FETCH_FAST, progress, pull, error);
	if (!code && !progress(pull))
		code = failure(error, -ECANCELED, "%s: %s", pull->options->place,
			       thaw_strerror(-ECANCELED));
	return code;
}

static void pull_free(struct pull *pull)
{
	if (pull->fetch)
		fetch_stop(pull->fetch);
	if (pull->s3)
		lease_drop(pull->lease, LEASE_DROP_NS);
	fetch_close(pull->fetch);
	s3_close(pull->s3);
	level_free(&pull->level);
	index_free(&pull->index);
	if (pull->fd >= 0)
		close(pull->fd);
	if (pull->temporary)
		unlink(pull->temporary);
	free(pull->temporary);
}

int pull_image(const struct pull_options *options, struct pull_status *status,
	       struct thaw_error *error)
{
	struct s3_settings settings = {0};
	struct pull_status own = {0};
	struct pull pull = {
		.options = options,
		.status = status ? status : &own,
		.fd = -1,
		.patience_ns = options->patience_ns ? options->patience_ns : PATIENCE_NS,
	};
	int code;

	memset(pull.status, 0, sizeof(*pull.status));
	code = check_name(&pull, error);
	if (!code)
		code = s3_open(options->place, &settings, &pull.s3, error);
	if (!code) {
		s3_warm(pull.s3, CONNECTIONS);
		code = find(&pull, error);
	}
	if (!code)
		code = file_new(&pull, error);
	if (!code)
		code = bring(&pull, error);
	if (!code)
		code = check_name(&pull, error);
	if (!code)
		code = file_name(&pull, error);
	pull_free(&pull);
	return code;
}
