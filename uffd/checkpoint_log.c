/* SPDX-License-Identifier: MIT */
/*
 * checkpoint_log.c - which generations are written to the image's log (image/log.c), and when the log is folded. The
 * checkpoint thread; but where one small generation follows another, the owner begins it, and writes it if it is one of
 * a process, which goes on meanwhile: to wake a thread, and to be woken by it, takes as long as the disk does.
 */
#define _GNU_SOURCE
#include "checkpoint_log.h"

#include <errno.h>

#include "capture.h"
#include "sys.h"

/* So many generations in a row, each begun so soon after the one before it was durable: then the image gets a log. */
#define LOG_SOON_LEAST 16u
#define LOG_SOON_NS 50000000ull
/* What is in the log is listed after so long, if no generation does it before. */
#define FOLD_NS 1000000000ull

bool checkpoint_log_follows(const struct checkpointer *checkpointer)
{
	return checkpointer->soon > LOG_SOON_LEAST && image_log_goes_on(checkpointer->image) &&
	       checkpointer->begun_ns < checkpointer->made_ns + LOG_SOON_NS;
}

bool checkpoint_log_begin(struct checkpointer *checkpointer)
{
	bool at_once = checkpointer->at_once && checkpointer->preserver.stops;
	struct thaw_error unused;

	if (checkpointer->busy || checkpointer->folding ||
	    (!at_once && !checkpoint_log_follows(checkpointer)))
		return false;
	if (commit_begin(checkpointer->image, &checkpointer->commit, &unused)) {
		checkpointer->commit = NULL;
		return false;
	}
	checkpointer->rounds = 1;
	return true;
}

void checkpoint_log_owner_writes(struct checkpointer *checkpointer)
{
	if (checkpointer->owner_writes && checkpointer->phase == THAW_WRITING)
		checkpoint_write(checkpointer);
}

/*
 * Who makes generations one soon after another has them in the image's log (image/log.c); but not the last one, nor
 * those that somebody looks for by their names.
 */
int checkpoint_log_write(struct checkpointer *checkpointer, struct thaw_error *error)
{
	struct thaw_generation *generation = &checkpointer->generation;
	bool soon = checkpointer->logs && checkpointer->made_ns &&
		    checkpointer->begun_ns < checkpointer->made_ns + LOG_SOON_NS;
	int code = 1;

	checkpointer->soon = soon ? checkpointer->soon + 1 : 0;
	if (checkpointer->soon == LOG_SOON_LEAST)
		image_log_wanted(checkpointer->image);
	if (soon && checkpointer->soon > LOG_SOON_LEAST &&
	    (generation->reason == THAW_REASON_TIMER || generation->reason == THAW_REASON_REQUEST ||
	     generation->reason == THAW_REASON_OUTPUT))
		code = commit_log(checkpointer->commit, generation, checkpointer->state,
				  checkpointer->state_bytes, error);
	return code <= 0 ? code
			 : commit_finish(checkpointer->commit, generation, checkpointer->state,
					 checkpointer->state_bytes, error);
}

/* When what is in the log is to be listed, if nothing happens before; 0: there is nothing. With the lock. */
static uint64_t fold_due(struct checkpointer *checkpointer)
{
	uint64_t began;

	if (!checkpointer_rests(checkpointer))
		checkpointer->fold_waits = true;
	if (checkpointer->held || checkpointer->fold_waits)
		return 0;
	began = image_log_began(checkpointer->image);
	if (began && checkpointer->folded_ns > began) /* it failed */
		began = checkpointer->folded_ns;
	return began ? began + FOLD_NS : 0;
}

/* With the lock, which is given up meanwhile. If it fails, all is durable as it is, and it is tried again. */
static void fold(struct checkpointer *checkpointer)
{
	struct thaw_error error;

	checkpointer->folding = true;
	pthread_mutex_unlock(&checkpointer->lock);
	image_fold(checkpointer->image, &error);
	pthread_mutex_lock(&checkpointer->lock);
	checkpointer->folded_ns = sys_monotonic_ns();
	checkpointer->folding = false;
	pthread_cond_broadcast(&checkpointer->changed);
}

bool checkpoint_log_wait(struct checkpointer *checkpointer, uint64_t until)
{
	uint64_t fold_at = fold_due(checkpointer);
	uint64_t due = fold_at && (!until || fold_at < until) ? fold_at : until;
	struct timespec at = {(time_t)(due / 1000000000), (long)(due % 1000000000)};

	if (!due) {
		pthread_cond_wait(&checkpointer->changed, &checkpointer->lock);
		return false;
	}
	if (pthread_cond_clockwait(&checkpointer->changed, &checkpointer->lock, CLOCK_MONOTONIC,
				   &at) != ETIMEDOUT ||
	    checkpointer->stop)
		return false;
	if (due == until)
		return true;
	if (fold_due(checkpointer) == due)
		fold(checkpointer);
	return false;
}
