// SPDX-License-Identifier: MIT
/*
 * push.c - an image that nobody has open is replicated, until its store has it; then the replication ends. It is locked meanwhile.
 */
#include "store/push.h"

#include <errno.h>

#include "base/clock.h"
#include "base/failure.h"
#include "store/replication.h"

#define PROGRESS_NS 500000000u
/* Nothing is lost by giving up: the same command sends the rest. */
#define PATIENCE_NS 60000000000u

/* Has the store failed for too long? At once where it answers that this may not be: somebody waits, and wants to know it now. */
static bool gives_up(const struct replication_status *status, uint64_t *failing_ns)
{
	uint64_t now_ns = clock_monotonic_ns();

	if (!status->error.code) {
		*failing_ns = 0;
		return false;
	}
	if (!*failing_ns)
		*failing_ns = now_ns;
	return status->error.code == -EACCES || status->error.code == -ENODEV ||
	       now_ns - *failing_ns >= PATIENCE_NS;
}

/* Until it is there, or given up; somebody is told now and then how far it is. */
static int wait_for_end(struct replication *replication, const struct push_options *options,
			struct replication_status *status, struct thaw_error *error)
{
	uint64_t failing_ns = 0;

	for (;;) {
		uint64_t until_ns = clock_monotonic_ns() + PROGRESS_NS;
		bool last = options->deadline_ns && until_ns >= options->deadline_ns;
		int code = replicate_finish(replication, false,
					    last ? options->deadline_ns : until_ns, error);

		replicate_status(replication, status);
		if (options->progress && !options->progress(options->arg, status))
			return code ? failure(error, -ECANCELED, "it was given up") : 0;
		if (code != -ETIMEDOUT || last)
			return code;
		if (gives_up(status, &failing_ns)) {
			*error = status->error;
			return error->code;
		}
	}
}

static bool goes_on(void *arg)
{
	(void)arg;
	return false;
}

/* What earlier ones have left behind, now and then. If that fails, the next one does it. */
static void collect(const struct push_options *options)
{
	struct thaw_error error;
	uint64_t deleted;
	struct s3 *s3;

	if (s3_open(options->place, NULL, &s3, &error))
		return;
	garbage_collect(s3, options->least_age_ns ? options->least_age_ns : STORE_LEAST_AGE_NS,
			goes_on, NULL, &deleted, &error);
	s3_close(s3);
}

static int push(const struct push_options *options, struct thaw_mirror *mirror,
		struct replication_status *status, struct thaw_error *error)
{
	const struct replicate_options replicate = {.place = options->place,
						    .image = options->image,
						    .program = "thaw push",
						    .flags = options->flags,
						    .connect_ns = 10000000000u,
						    .least_age_ns = options->least_age_ns};
	struct replication *replication;
	int code = replicate_open(&replicate, &replication, error);

	/* A store that does not answer, or refuses: here somebody waits, and wants to know it now. */
	if (code == 1)
		code = error->code ? error->code : -EIO;
	if (!code)
		code = replicate_start(replication, mirror, error);
	if (!code)
		code = wait_for_end(replication, options, status, error);
	if (!code && !(status->epoch % 8))
		collect(options);
	replicate_close(replication);
	return code;
}

int push_image(const struct push_options *options, struct replication_status *status,
	       struct thaw_error *error)
{
	struct thaw_mirror *mirror;
	struct thaw_mirror_news news;
	int code = thaw_mirror_open_file(options->image, &mirror, error);

	*status = (struct replication_status){0};
	if (code)
		return code;
	thaw_mirror_news(mirror, &news);
	if (news.generation)
		code = push(options, mirror, status, error);
	else
		code = failure(error, THAW_ENOGEN, "%s holds no generation yet", options->image);
	thaw_mirror_close(mirror);
	return code;
}
