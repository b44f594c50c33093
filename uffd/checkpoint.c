/* SPDX-License-Identifier: MIT */
/*
 * checkpoint.c - see checkpoint.h for the states and invariants.
 *
 * Pre-copy writes pages into the file at once instead of gathering them in memory: the first
 * checkpoint of a heap of gigabytes must not need as much again. What it writes for a page that
 * changes once more before the capture is given back to the free space; no generation ever refers
 * to it. Few written pages skip pre-copy: the capture copies them in well under the time of a
 * second scan, and nothing is written twice.
 */
#define _GNU_SOURCE
#include "checkpoint.h"

#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "capture.h"
#include "checkpoint_log.h"
#include "checks.h"
#include "process_memory.h"
#include "sys.h"
#include "thread.h"

/* A pre-copy pass is worth its time above this amount of written pages. */
#define PRECOPY_BYTES (8u << 20)
/* At most so many passes, if the program writes faster than they copy. */
#define PRECOPY_PASSES 4u

/* So many generations it is not tried again, where that has not helped. */
#define PRECOPY_RESTS 3u
/* What a guest gets new while it rests is mostly gone at the next generation: so much is copied while the guest is stopped. */
#define PRECOPY_RESTED_BYTES (64u << 20)

#define PRECOPY_ROUNDS 3u  /* of a guest with much new memory */
#define PRECOPY_BATCH 256u /* pages of another process that are read at once */

static void *page_address(const struct checkpointer *checkpointer, uint64_t page)
{
	return checkpointer->region->alias + page * checkpointer->region->page_bytes;
}

/*
 * Copy pages, of those in `pages` from *next on, to `to`, which has room for so many. How many; *next is behind them.
 * Of another process: those that cannot be read are not in `pages` any more, but in `vanished`. Or -errno.
 */
static int64_t pages_copy(const struct checkpointer *checkpointer, struct bitmap *pages,
			  uint64_t *next, unsigned room, char *to, struct bitmap *vanished)
{
	uint32_t page_bytes = checkpointer->region->page_bytes;
	int64_t copied = 0;

	if (checkpointer->region->process)
		return process_memory_read(checkpointer->region->process, pages, next, room, to,
					   vanished);
	for (; copied < room && (*next = bitmap_next(pages, *next)) != UINT64_MAX; ++*next) {
		memcpy(to, page_address(checkpointer, *next), page_bytes);
		to += page_bytes;
		copied++;
	}
	return copied;
}

/* There is memory to collect: ours, or that of a process that is there. */
bool checkpoint_memory_is_there(const struct checkpointer *checkpointer)
{
	const struct process_memory *process = checkpointer->region->process;

	return !process || (process->attached && !process->gone);
}

void checkpoint_phase_set(struct checkpointer *checkpointer, enum thaw_phase phase)
{
	pthread_mutex_lock(&checkpointer->lock);
	checkpointer->phase = phase;
	check_phase(checkpointer);
	if (phase != THAW_WRITING || !checkpointer->owner_writes)
		pthread_cond_broadcast(&checkpointer->changed);
	pthread_mutex_unlock(&checkpointer->lock);
}

/* ---- the thread's half ---- */

int checkpoint_cannot_collect(int code, struct thaw_error *error)
{
	return error_set(error, code, "cannot collect the written pages: %s", thaw_strerror(code));
}

/* Copy what is written now into the commit while the program runs. `copy`: room for so many pages. */
static int precopy_pass(struct checkpointer *checkpointer, char *copy, unsigned room,
			struct thaw_error *error)
{
	uint32_t page_bytes = checkpointer->region->page_bytes;
	struct bitmap *pages = &checkpointer->residual;
	struct tracker *tracker = checkpointer->tracker;
	uint64_t next = 0, page = 0;
	int64_t copied;
	int code;

	bitmap_clear_all(pages);
	code = tracker_collect(tracker, pages);
	bitmap_merge(&checkpointer->taken, pages);
	if (code)
		return checkpoint_cannot_collect(code, error);
	/* What was moved from there and has not arrived may still come from what is stored. */
	if (checkpointer->region->process)
		process_memory_set_aside(checkpointer->region->process, pages, &tracker->put_back);
	/*
	 * The program may write pages meanwhile. The private copy is what is hashed and stored; if it
	 * is torn, the capture collects the page again, since the write that tore it marked it. What
	 * cannot be read any more, the capture looks at.
	 */
	while ((copied = pages_copy(checkpointer, pages, &next, room, copy, &tracker->put_back)) >
	       0) {
		for (int64_t i = 0; i < copied; i++, page++) {
			bool stored;

			page = bitmap_next(pages, page);
			code = commit_page(checkpointer->commit, page, copy + i * page_bytes,
					   &stored, error);
			if (code)
				return code;
		}
	}
	return copied ? checkpoint_cannot_collect((int)copied, error) : 0;
}

/*
 * Where the tracker stops writers, the capture copies nothing, however much was written. And what the program writes
 * again meanwhile was copied in vain, and has to be searched and copied again.
 */
static bool precopy_is_of_use(struct checkpointer *checkpointer)
{
	const struct preserver *preserver = &checkpointer->preserver;

	if (!checkpoint_memory_is_there(checkpointer))
		return false;
	if (preserver->stops && (!preserver->shields || checkpointer->at_once))
		return false;
	if (checkpoint_log_follows(
		    checkpointer)) /* what was written in so short a time is little */
		return false;
	if (!checkpointer->precopy_rests)
		return true;
	checkpointer->precopy_rests--;
	return false;
}

/* What came of it. */
static void precopy_judge(struct checkpointer *checkpointer)
{
	uint64_t residual = bitmap_count(&checkpointer->residual);

	if (checkpointer->precopied && residual > checkpointer->precopied / 2)
		checkpointer->precopy_rests = PRECOPY_RESTS;
	checkpointer->precopied = 0;
}

static int precopy(struct checkpointer *checkpointer, struct thaw_error *error)
{
	unsigned room = checkpointer->region->process ? PRECOPY_BATCH : 1;
	uint32_t page_bytes = checkpointer->region->page_bytes;
	int64_t before = INT64_MAX;
	char *copy = NULL;
	int code = 0;

	if (!precopy_is_of_use(checkpointer))
		return 0;
	code = fault_service_settle(checkpointer->service, error);
	for (unsigned pass = 0; !code && pass < PRECOPY_PASSES; pass++) {
		uint64_t few = PRECOPY_BYTES / page_bytes;
		int64_t written = tracker_count(checkpointer->tracker, few + 1);

		if (written > (int64_t)few)
			written = tracker_count(checkpointer->tracker, UINT32_MAX);
		if (written < 0) {
			code = error_set(error, (int)written, "cannot count the written pages: %s",
					 thaw_strerror((int)written));
			break;
		}
		if (written <= (int64_t)few || written > before / 2)
			break;
		before = written;
		/* Not on the stack, which may have no more than 64 KiB (ulimit -s). */
		copy = copy ? copy : malloc((size_t)room * page_bytes);
		code = copy ? precopy_pass(checkpointer, copy, room, error)
			    : error_set(error, -ENOMEM, "no memory to copy a page");
		checkpointer->precopied = (uint64_t)written;
	}
	free(copy);
	return checkpoint_memory_is_there(checkpointer) ? code : 0;
}

void checkpoint_done(struct checkpointer *checkpointer, int code)
{
	struct thaw_result *result = &checkpointer->result;

	if (checkpointer->commit)
		commit_abort(checkpointer->commit);
	checkpointer->commit = NULL;
	checkpointer->void_copies = false;
	result->code = code;
	if (code) {
		result->error.code = code;
		tracker_put_back(checkpointer->tracker, &checkpointer->taken);
		if (checkpointer->region->process)
			process_memory_put_back(checkpointer->region->process, &checkpointer->gone);
		check_put_back(checkpointer);
	} else {
		result->error.code = 0;
		result->durable_ns = sys_monotonic_ns() - checkpointer->begun_ns;
	}
	cold_generation(&checkpointer->cold, &checkpointer->taken);
	bitmap_clear_all(&checkpointer->taken);
	if (checkpointer->region->process)
		bitmap_clear_all(&checkpointer->gone);
	free(checkpointer->state);
	checkpointer->state = NULL;
	preserver_end(&checkpointer->preserver);
	/*
	 * Both under one lock: a name that is given between them would be for the next checkpoint.
	 */
	pthread_mutex_lock(&checkpointer->lock);
	checkpointer->name_count = 0;
	checkpointer->phase = THAW_DONE;
	check_phase(checkpointer);
	if (!checkpointer->owner_writes || checkpointer->fold_waits)
		pthread_cond_broadcast(&checkpointer->changed);
	checkpointer->fold_waits = false;
	pthread_mutex_unlock(&checkpointer->lock);
}

/* COPYING: up to READY, or straight to DONE. */
static void checkpoint_copy(struct checkpointer *checkpointer)
{
	struct thaw_error *error = &checkpointer->result.error;
	int code = 0;

	if (!checkpointer->rounds++)
		code = commit_begin(checkpointer->image, &checkpointer->commit, error);
	if (code)
		checkpointer->commit = NULL;
	else
		code = precopy(checkpointer, error);
	if (code)
		checkpoint_done(checkpointer, code);
	else
		checkpoint_phase_set(checkpointer, THAW_READY);
}

static bool state_is_durable(const struct checkpointer *checkpointer)
{
	return checkpointer->durable &&
	       checkpointer->durable_kind == checkpointer->generation.kind &&
	       checkpointer->durable_heap_bytes == checkpointer->generation.heap_bytes &&
	       checkpointer->durable_state_bytes == checkpointer->state_bytes &&
	       (!checkpointer->state_bytes ||
		!memcmp(checkpointer->durable_state, checkpointer->state,
			checkpointer->state_bytes));
}

/* Of these pages, what is stored and not kept. */
static int drop_range(struct checkpointer *checkpointer, uint64_t first, uint64_t end,
		      const struct bitmap *kept, struct thaw_error *error)
{
	int code = 0;

	while (!code && first < end) {
		uint64_t next = bitmap_next(kept, first);

		next = next < end ? next : end;
		if (next > first)
			code = commit_drop(checkpointer->commit, first, next - first, error);
		first = bitmap_next_clear(kept, next, end);
	}
	return code;
}

static int drop_gone(struct checkpointer *checkpointer, struct thaw_error *error)
{
	const struct bitmap *gone = &checkpointer->gone;
	uint64_t end;
	int code = 0;

	if (!checkpointer->captured)
		return 0;
	/* Where nothing tells what was given up, it is whatever is not there. */
	if (checkpointer->region->backends.tracker == TRACKER_HASHED ||
	    checkpointer->epoch != checkpointer->durable_epoch)
		code = drop_range(checkpointer, 0, gone->bits, &checkpointer->taken, error);
	for (uint64_t page = 0; !code && (page = bitmap_next(gone, page)) != UINT64_MAX;
	     page = end) {
		end = bitmap_next_clear(gone, page, gone->limit);
		code = drop_range(checkpointer, page, end, &checkpointer->residual, error);
	}
	return code;
}

/* WRITING: the pages of another process, which were copied in their order. */
static int write_process(struct checkpointer *checkpointer, struct thaw_error *error)
{
	const char *from = checkpointer->preserver.slots;
	int code = drop_gone(checkpointer, error);

	for (uint64_t page = 0;
	     !code && (page = bitmap_next(&checkpointer->residual, page)) != UINT64_MAX; page++) {
		bool stored;

		code = commit_page(checkpointer->commit, page, from, &stored, error);
		from += checkpointer->region->page_bytes;
	}
	return code;
}

/* ... and ours, of which some are copied only now. */
static int write_own(struct checkpointer *checkpointer, struct thaw_error *error)
{
	uint64_t pages[PRESERVE_BATCH];
	const char *copies;
	int code = 0, count;

	while (!code && (count = preserver_take(&checkpointer->preserver, pages, &copies)) != 0) {
		if (count < 0)
			return error_set(error, count,
					 "cannot make the heap's pages writable again: %s",
					 thaw_strerror(count));
		for (int i = 0; !code && i < count; i++) {
			bool stored;

			code = commit_page(checkpointer->commit, pages[i],
					   copies + (size_t)i * checkpointer->region->page_bytes,
					   &stored, error);
		}
		preserver_done(&checkpointer->preserver, (unsigned)count);
	}
	return code;
}

static int write_pages(struct checkpointer *checkpointer, struct thaw_error *error)
{
	int code = 0;

	if (checkpointer->anew) {
		commit_abort(checkpointer->commit);
		checkpointer->commit = NULL;
		code = commit_begin(checkpointer->image, &checkpointer->commit, error);
	}
	if (code)
		return code;
	code = checkpointer->region->process ? write_process(checkpointer, error)
					     : write_own(checkpointer, error);
	return code ? code : commit_pages_settle(checkpointer->commit, error);
}

/* WRITING: up to DONE. */
void checkpoint_write(struct checkpointer *checkpointer)
{
	struct thaw_error *error = &checkpointer->result.error;
	struct thaw_generation *generation = &checkpointer->generation;
	bool recorded = false;
	int code;

	precopy_judge(checkpointer);
	code = write_pages(checkpointer, error);

	if (!code && commit_is_empty(checkpointer->commit) && state_is_durable(checkpointer) &&
	    !checkpointer->name_count) {
		code = image_check_file(checkpointer->image, error);
		checkpointer->result.unchanged = !code;
		checkpointer->result.generation = *image_newest(checkpointer->image);
		checkpoint_done(checkpointer, code);
		return;
	}
	for (unsigned i = 0; !code && i < checkpointer->name_count; i++)
		code = commit_name(checkpointer->commit, checkpointer->names[i].name,
				   &checkpointer->names[i].generation, error);
	if (!code && checkpointer->recorder && checkpointer->region->device >= 0)
		working_set_take(checkpointer->recorder, checkpointer->region->device);
	if (!code && checkpointer->recorder)
		recorded = working_set_offer(checkpointer->recorder, checkpointer->image,
					     checkpointer->commit, generation->reason);
	if (!code) {
		uint64_t pause = atomic_load(&checkpointer->pause_ns);

		if (pause) /* the owner is long on its way */
			generation->pause_ns = pause;
		generation->pages_written = bitmap_count(&checkpointer->taken);
		generation->durable_ns = sys_monotonic_ns() - checkpointer->begun_ns;
		code = checkpoint_log_write(checkpointer, error);
	}
	if (!code) {
		checkpointer->commit = NULL;
		checkpointer->made_ns = sys_monotonic_ns();
		if (recorded)
			working_set_stored(checkpointer->recorder);
		free(checkpointer->durable_state);
		checkpointer->durable_state = checkpointer->state;
		checkpointer->durable_state_bytes = checkpointer->state_bytes;
		checkpointer->state = NULL;
		checkpointer->durable_heap_bytes = generation->heap_bytes;
		checkpointer->durable_kind = generation->kind;
		checkpointer->durable = true;
		if (checkpointer->captured)
			checkpointer->durable_epoch = checkpointer->epoch;
		checkpointer->result.unchanged = false;
		checkpointer->result.generation = *generation;
	}
	checkpoint_done(checkpointer, code);
}

/* Parts of the job, as long as there are any. */
static void job_work(struct checkpoint_job *job)
{
	uint64_t first;

	while ((first = atomic_fetch_add(&job->next, job->batch)) < job->count)
		job->work(job->arg, first,
			  first + job->batch < job->count ? first + job->batch : job->count);
}

/* With the lock, which is given up meanwhile. */
static void job_help(struct checkpointer *checkpointer)
{
	struct checkpoint_job *job = checkpointer->job;

	checkpointer->job = NULL; /* one helper is enough */
	job->helped = true;
	pthread_mutex_unlock(&checkpointer->lock);
	job_work(job);
	pthread_mutex_lock(&checkpointer->lock);
	job->helped = false;
	pthread_cond_broadcast(&checkpointer->changed);
}

/* Nothing to do: with the lock, which is given up meanwhile. */
static void idle(struct checkpointer *checkpointer)
{
	bool rests = checkpointer_rests(checkpointer);
	uint64_t due = rests ? cold_due(&checkpointer->cold, checkpointer->done_ns) : 0;

	/* One that goes to the log may have begun meanwhile, which wakes nobody: the tracker is its. */
	if (!checkpoint_log_wait(checkpointer, due) || !checkpointer_rests(checkpointer))
		return;
	checkpointer->busy = true;
	pthread_mutex_unlock(&checkpointer->lock);
	cold_work(&checkpointer->cold);
	pthread_mutex_lock(&checkpointer->lock);
	checkpointer->busy = false;
}

/* The next phase that is the thread's; THAW_IDLE: it ends. */
static enum thaw_phase phase_wait(struct checkpointer *checkpointer)
{
	enum thaw_phase phase;

	pthread_mutex_lock(&checkpointer->lock);
	checkpointer->done_ns = sys_monotonic_ns();
	while (!checkpointer->stop && checkpointer->phase != THAW_COPYING &&
	       (checkpointer->phase != THAW_WRITING || checkpointer->owner_writes)) {
		if (checkpointer->job)
			job_help(checkpointer);
		else
			idle(checkpointer);
	}
	phase = checkpointer->stop ? THAW_IDLE : checkpointer->phase;
	pthread_mutex_unlock(&checkpointer->lock);
	return phase;
}

static void *checkpointer_main(void *arg)
{
	struct checkpointer *checkpointer = arg;
	enum thaw_phase phase;

	pthread_setname_np(pthread_self(), "thaw-checkpoint");
	while ((phase = phase_wait(checkpointer)) != THAW_IDLE) {
		if (phase == THAW_COPYING)
			checkpoint_copy(checkpointer);
		else
			checkpoint_write(checkpointer);
		if (checkpointer->notify)
			checkpointer->notify(checkpointer->notify_arg);
	}
	return NULL;
}

/* ---- the owner's half ---- */

void checkpointer_share(struct checkpointer *checkpointer,
			void (*work)(void *arg, uint64_t first, uint64_t end), void *arg,
			uint64_t count, uint64_t batch, uint64_t alone)
{
	struct checkpoint_job job = {.work = work, .arg = arg, .count = count, .batch = batch};

	if (count <= alone || !checkpointer->helps) {
		if (count)
			work(arg, 0, count);
		return;
	}
	pthread_mutex_lock(&checkpointer->lock);
	checkpointer->job = &job;
	pthread_cond_broadcast(&checkpointer->changed);
	pthread_mutex_unlock(&checkpointer->lock);
	job_work(&job);
	pthread_mutex_lock(&checkpointer->lock);
	checkpointer->job = NULL;
	while (job.helped)
		pthread_cond_wait(&checkpointer->changed, &checkpointer->lock);
	pthread_mutex_unlock(&checkpointer->lock);
}

/* The thread is started by the first checkpoint: a program that ends before it never pays for it. */
static int thread_start(struct checkpointer *checkpointer)
{
	int code = thread_begin(&checkpointer->thread, checkpointer_main, checkpointer);

	checkpointer->started = !code;
	return code;
}

int checkpointer_begin(struct checkpointer *checkpointer, enum thaw_reason reason)
{
	int code = 0;

	pthread_mutex_lock(&checkpointer->lock);
	if (checkpointer->phase != THAW_IDLE)
		code = -EBUSY;
	else if (!checkpointer->started)
		code = thread_start(checkpointer);
	if (!code) {
		checkpointer->begun_ns = sys_monotonic_ns();
		checkpointer->generation = (struct thaw_generation){.reason = reason};
		checkpointer->result = (struct thaw_result){0};
		checkpointer->rounds = 0;
		checkpointer->owner_writes = false;
		checkpointer->phase = checkpoint_log_begin(checkpointer) ? THAW_READY
									 : THAW_COPYING;
		check_phase(checkpointer);
		if (checkpointer->phase == THAW_COPYING)
			pthread_cond_broadcast(&checkpointer->changed);
	}
	pthread_mutex_unlock(&checkpointer->lock);
	return code;
}

bool checkpointer_copy_again(struct checkpointer *checkpointer)
{
	uint64_t few, page_bytes = checkpointer->region->page_bytes;
	bool again;

	if (checkpointer_wait(checkpointer) != THAW_READY)
		return false;
	few = checkpointer->precopy_rests ? PRECOPY_RESTED_BYTES : PRECOPY_BYTES;
	again = checkpointer->rounds < PRECOPY_ROUNDS &&
		bitmap_count(&checkpointer->tracker->put_back) > few / page_bytes;
	if (again)
		checkpointer->precopy_rests = 0;
	if (again)
		checkpoint_phase_set(checkpointer, THAW_COPYING);
	return again;
}

static int name_add(struct checkpointer *checkpointer, const char *name, uint64_t generation)
{
	struct thaw_name *names = checkpointer->names;

	if (!names)
		names = checkpointer->names = calloc(THAW_NAMES_MAX, sizeof(*names));
	if (!names)
		return -ENOMEM;
	for (unsigned i = 0; i < checkpointer->name_count; i++)
		if (!strcmp(names[i].name, name))
			return 0;
	if (checkpointer->name_count == THAW_NAMES_MAX)
		return -ENOSPC;
	names[checkpointer->name_count].generation = generation;
	strcpy(names[checkpointer->name_count++].name, name);
	return 0;
}

int checkpointer_name(struct checkpointer *checkpointer, const char *name, uint64_t generation)
{
	int code = -EBUSY;

	pthread_mutex_lock(&checkpointer->lock);
	if (checkpointer->phase != THAW_WRITING && checkpointer->phase != THAW_DONE)
		code = name_add(checkpointer, name, generation);
	pthread_mutex_unlock(&checkpointer->lock);
	return code;
}

enum thaw_phase checkpointer_poll(struct checkpointer *checkpointer, struct thaw_result *result)
{
	enum thaw_phase phase;

	checkpoint_log_owner_writes(checkpointer);
	pthread_mutex_lock(&checkpointer->lock);
	phase = checkpointer->phase;
	if (phase == THAW_DONE) {
		if (result)
			*result = checkpointer->result;
		checkpointer->phase = THAW_IDLE;
	}
	pthread_mutex_unlock(&checkpointer->lock);
	return phase;
}

enum thaw_phase checkpointer_wait(struct checkpointer *checkpointer)
{
	enum thaw_phase phase;

	checkpoint_log_owner_writes(checkpointer);
	pthread_mutex_lock(&checkpointer->lock);
	while (checkpointer->phase == THAW_COPYING || checkpointer->phase == THAW_WRITING)
		pthread_cond_wait(&checkpointer->changed, &checkpointer->lock);
	phase = checkpointer->phase;
	pthread_mutex_unlock(&checkpointer->lock);
	return phase;
}

void checkpointer_settle(struct checkpointer *checkpointer)
{
	checkpoint_log_owner_writes(checkpointer);
	pthread_mutex_lock(&checkpointer->lock);
	checkpointer->held = true;
	while (checkpointer->phase == THAW_WRITING || checkpointer->folding)
		pthread_cond_wait(&checkpointer->changed, &checkpointer->lock);
	pthread_mutex_unlock(&checkpointer->lock);
}

void checkpointer_go_on(struct checkpointer *checkpointer)
{
	pthread_mutex_lock(&checkpointer->lock);
	checkpointer->held = false;
	pthread_cond_broadcast(&checkpointer->changed);
	pthread_mutex_unlock(&checkpointer->lock);
}

void checkpointer_left(struct checkpointer *checkpointer)
{
	pthread_mutex_lock(&checkpointer->lock);
	while (checkpointer->phase == THAW_COPYING)
		pthread_cond_wait(&checkpointer->changed, &checkpointer->lock);
	checkpointer->void_copies = checkpointer->phase == THAW_READY;
	pthread_mutex_unlock(&checkpointer->lock);
}

int checkpointer_start(struct checkpointer *checkpointer, struct thaw_error *error)
{
	uint64_t pages = checkpointer->region->max_bytes / checkpointer->region->page_bytes;

	cpu_set_t processors;

	/* More than this machine can have: then there are two, too. */
	checkpointer->helps = sched_getaffinity(0, sizeof(processors), &processors) ||
			      CPU_COUNT(&processors) > 1;
	pthread_mutex_init(&checkpointer->lock, NULL);
	pthread_cond_init(&checkpointer->changed, NULL);
	cold_init(&checkpointer->cold, checkpointer->region, checkpointer->tracker);
	if (bitmap_init(&checkpointer->taken, pages) ||
	    bitmap_init(&checkpointer->residual, pages) ||
	    (checkpointer->region->process && bitmap_init(&checkpointer->gone, pages)) ||
	    preserver_init(&checkpointer->preserver, checkpointer->region, checkpointer->touches,
			   checkpointer->copy_bytes))
		return error_set(error, -ENOMEM, "no memory for the bitmaps of a checkpoint");
	return 0;
}

void checkpointer_stop(struct checkpointer *checkpointer)
{
	if (checkpointer->started) {
		pthread_mutex_lock(&checkpointer->lock);
		checkpointer->stop = true;
		pthread_cond_broadcast(&checkpointer->changed);
		pthread_mutex_unlock(&checkpointer->lock);
		pthread_join(checkpointer->thread, NULL);
		checkpointer->started = false;
	}
	if (checkpointer->commit)
		commit_abort(checkpointer->commit);
	checkpointer->commit = NULL;
	preserver_free(&checkpointer->preserver);
	cold_free(&checkpointer->cold);
	free(checkpointer->state);
	free(checkpointer->durable_state);
	free(checkpointer->names);
	checkpointer->names = NULL;
	checkpointer->state = checkpointer->durable_state = NULL;
	bitmap_free(&checkpointer->taken);
	bitmap_free(&checkpointer->residual);
	bitmap_free(&checkpointer->gone);
}
