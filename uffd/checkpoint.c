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
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "checks.h"
#include "sys.h"

/* A pre-copy pass is worth its time above this amount of written pages. */
#define PRECOPY_BYTES (8u << 20)
/* At most so many passes, if the program writes faster than they copy. */
#define PRECOPY_PASSES 4u
#define STAGING_KEPT (16u << 20)

static void *page_address(const struct checkpointer *checkpointer, uint64_t page)
{
	return checkpointer->region->alias + page * checkpointer->region->page_bytes;
}

static void phase_set(struct checkpointer *checkpointer, enum thaw_phase phase)
{
	pthread_mutex_lock(&checkpointer->lock);
	checkpointer->phase = phase;
	check_phase(checkpointer);
	pthread_cond_broadcast(&checkpointer->changed);
	pthread_mutex_unlock(&checkpointer->lock);
}

/* ---- the thread's half ---- */

/* Copy what is written now into the commit while the program runs. `copy`: room for a page. */
static int precopy_pass(struct checkpointer *checkpointer, void *copy, struct thaw_error *error)
{
	struct bitmap *pages = &checkpointer->residual;
	int code;

	bitmap_clear_all(pages);
	code = tracker_collect(checkpointer->tracker, pages);
	bitmap_merge(&checkpointer->taken, pages);
	if (code)
		return error_set(error, code, "cannot collect the written pages: %s",
				 thaw_strerror(code));
	for (uint64_t page = 0; (page = bitmap_next(pages, page)) != UINT64_MAX; page++) {
		bool stored;

		/*
		 * The program may write the page meanwhile. The private copy is what is hashed and
		 * stored; if it is torn, the capture collects the page again, since the write that
		 * tore it marked it.
		 */
		memcpy(copy, page_address(checkpointer, page), checkpointer->region->page_bytes);
		code = commit_page(checkpointer->commit, page, copy, &stored, error);
		if (code)
			return code;
	}
	return 0;
}

static int precopy(struct checkpointer *checkpointer, struct thaw_error *error)
{
	uint32_t page_bytes = checkpointer->region->page_bytes;
	int64_t before = INT64_MAX;
	void *copy = NULL;
	int code = 0;

	for (unsigned pass = 0; !code && pass < PRECOPY_PASSES; pass++) {
		int64_t written = tracker_count(checkpointer->tracker, UINT32_MAX);

		if (written < 0) {
			code = error_set(error, (int)written, "cannot count the written pages: %s",
					 thaw_strerror((int)written));
			break;
		}
		if (written <= PRECOPY_BYTES / page_bytes || written > before / 2)
			break;
		before = written;
		/* Not on the stack, which may have no more than 64 KiB (ulimit -s). */
		copy = copy ? copy : malloc(page_bytes);
		code = copy ? precopy_pass(checkpointer, copy, error)
			    : error_set(error, -ENOMEM, "no memory to copy a page");
	}
	free(copy);
	return code;
}

static void checkpoint_done(struct checkpointer *checkpointer, int code)
{
	struct thaw_result *result = &checkpointer->result;

	if (checkpointer->commit)
		commit_abort(checkpointer->commit);
	checkpointer->commit = NULL;
	result->code = code;
	if (code) {
		result->error.code = code;
		tracker_put_back(checkpointer->tracker, &checkpointer->taken);
		check_put_back(checkpointer);
	} else {
		result->error.code = 0;
		result->durable_ns = sys_monotonic_ns() - checkpointer->begun_ns;
	}
	bitmap_clear_all(&checkpointer->taken);
	free(checkpointer->state);
	checkpointer->state = NULL;
	if (checkpointer->staging && checkpointer->staging_bytes > STAGING_KEPT) {
		munmap(checkpointer->staging, checkpointer->staging_bytes);
		checkpointer->staging = NULL;
	}
	/*
	 * Both under one lock: a name that is given between them would be for the next checkpoint.
	 */
	pthread_mutex_lock(&checkpointer->lock);
	checkpointer->name_count = 0;
	checkpointer->phase = THAW_DONE;
	check_phase(checkpointer);
	pthread_cond_broadcast(&checkpointer->changed);
	pthread_mutex_unlock(&checkpointer->lock);
}

/* COPYING: up to READY, or straight to DONE. */
static void checkpoint_copy(struct checkpointer *checkpointer)
{
	struct thaw_error *error = &checkpointer->result.error;
	int code = commit_begin(checkpointer->image, &checkpointer->commit, error);

	if (code)
		checkpointer->commit = NULL;
	else
		code = precopy(checkpointer, error);
	if (code)
		checkpoint_done(checkpointer, code);
	else
		phase_set(checkpointer, THAW_READY);
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

/* WRITING: up to DONE. */
static void checkpoint_write(struct checkpointer *checkpointer)
{
	struct thaw_error *error = &checkpointer->result.error;
	struct thaw_generation *generation = &checkpointer->generation;
	uint32_t page_bytes = checkpointer->region->page_bytes;
	const char *from = checkpointer->staging;
	bool recorded = false;
	int code = 0;

	for (uint64_t page = 0; (page = bitmap_next(&checkpointer->residual, page)) != UINT64_MAX;
	     page++) {
		bool stored;

		code = commit_page(checkpointer->commit, page, from, &stored, error);
		if (code)
			break;
		from += page_bytes;
	}
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
				   &(uint64_t){COMMIT_ITSELF}, error);
	if (!code && checkpointer->recorder && checkpointer->region->device >= 0)
		working_set_take(checkpointer->recorder, checkpointer->region->device);
	if (!code && checkpointer->recorder)
		recorded = working_set_offer(checkpointer->recorder, checkpointer->image,
					     checkpointer->commit, generation->reason);
	if (!code) {
		generation->pages_written = bitmap_count(&checkpointer->taken);
		generation->durable_ns = sys_monotonic_ns() - checkpointer->begun_ns;
		code = commit_finish(checkpointer->commit, generation, checkpointer->state,
				     checkpointer->state_bytes, error);
	}
	if (!code) {
		checkpointer->commit = NULL;
		if (recorded)
			working_set_stored(checkpointer->recorder);
		free(checkpointer->durable_state);
		checkpointer->durable_state = checkpointer->state;
		checkpointer->durable_state_bytes = checkpointer->state_bytes;
		checkpointer->state = NULL;
		checkpointer->durable_heap_bytes = generation->heap_bytes;
		checkpointer->durable_kind = generation->kind;
		checkpointer->durable = true;
		checkpointer->result.unchanged = false;
		checkpointer->result.generation = *generation;
	}
	checkpoint_done(checkpointer, code);
}

static void *checkpointer_main(void *arg)
{
	struct checkpointer *checkpointer = arg;

	pthread_setname_np(pthread_self(), "thaw-checkpoint");
	for (;;) {
		enum thaw_phase phase;

		pthread_mutex_lock(&checkpointer->lock);
		while (!checkpointer->stop && checkpointer->phase != THAW_COPYING &&
		       checkpointer->phase != THAW_WRITING)
			pthread_cond_wait(&checkpointer->changed, &checkpointer->lock);
		phase = checkpointer->phase;
		if (checkpointer->stop) {
			pthread_mutex_unlock(&checkpointer->lock);
			return NULL;
		}
		pthread_mutex_unlock(&checkpointer->lock);
		if (phase == THAW_COPYING)
			checkpoint_copy(checkpointer);
		else
			checkpoint_write(checkpointer);
		if (checkpointer->notify)
			checkpointer->notify(checkpointer->notify_arg);
	}
}

/* ---- the owner's half ---- */

/* The thread is started by the first checkpoint: a program that ends before it never pays for it. */
static int thread_start(struct checkpointer *checkpointer)
{
	sigset_t all, before;
	int code;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	code = pthread_create(&checkpointer->thread, NULL, checkpointer_main, checkpointer);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	checkpointer->started = !code;
	return -code;
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
		checkpointer->phase = THAW_COPYING;
		check_phase(checkpointer);
		pthread_cond_broadcast(&checkpointer->changed);
	}
	pthread_mutex_unlock(&checkpointer->lock);
	return code;
}

static int name_add(struct checkpointer *checkpointer, const char *name)
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
	strcpy(names[checkpointer->name_count++].name, name);
	return 0;
}

int checkpointer_name(struct checkpointer *checkpointer, const char *name)
{
	int code = -EBUSY;

	pthread_mutex_lock(&checkpointer->lock);
	if (checkpointer->phase != THAW_WRITING && checkpointer->phase != THAW_DONE)
		code = name_add(checkpointer, name);
	pthread_mutex_unlock(&checkpointer->lock);
	return code;
}

static int staging_reserve(struct checkpointer *checkpointer, size_t bytes)
{
	if (checkpointer->staging && bytes <= checkpointer->staging_bytes)
		return 0;
	if (checkpointer->staging)
		munmap(checkpointer->staging, checkpointer->staging_bytes);
	checkpointer->staging = NULL;
	if (sys_injected(SYS_CALL_MMAP))
		return -ENOMEM;
	bytes = (bytes + (1u << 20)) & ~((size_t)(1u << 20) - 1);
	checkpointer->staging =
		mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (checkpointer->staging == MAP_FAILED) {
		checkpointer->staging = NULL;
		return -ENOMEM;
	}
	checkpointer->staging_bytes = bytes;
	return 0;
}

/* The pause: everything from here to the return is time the program does not run. */
static int capture_pages(struct checkpointer *checkpointer, const void *state, size_t state_bytes)
{
	struct bitmap *pages = &checkpointer->residual;
	uint32_t page_bytes = checkpointer->region->page_bytes;
	char *to;
	int code;

	bitmap_clear_all(pages);
	code = tracker_collect(checkpointer->tracker, pages);
	bitmap_merge(&checkpointer->taken, pages);
	if (code)
		return error_set(&checkpointer->result.error, code,
				 "cannot collect the written pages: %s", thaw_strerror(code));
	checkpointer->state = malloc(state_bytes ? state_bytes : 1);
	if (!checkpointer->state || staging_reserve(checkpointer, bitmap_count(pages) * page_bytes))
		return error_set(&checkpointer->result.error, -ENOMEM,
				 "no memory to copy %llu written pages",
				 (unsigned long long)bitmap_count(pages));
	if (state_bytes)
		memcpy(checkpointer->state, state, state_bytes);
	checkpointer->state_bytes = state_bytes;
	to = checkpointer->staging;
	for (uint64_t page = 0; (page = bitmap_next(pages, page)) != UINT64_MAX; page++) {
		memcpy(to, page_address(checkpointer, page), page_bytes);
		to += page_bytes;
	}
	return 0;
}

int checkpointer_capture(struct checkpointer *checkpointer, enum thaw_kind kind, const void *state,
			 size_t state_bytes)
{
	uint64_t start = checkpointer->stopped_ns ? checkpointer->stopped_ns : sys_monotonic_ns();
	int code;

	checkpointer->stopped_ns = 0;

	if (kind != THAW_KIND_PORTABLE && kind != THAW_KIND_BOUND)
		return -EINVAL;
	/* Only the owner leaves READY, so the phase needs no lock beyond this look. */
	if (checkpointer_wait(checkpointer) != THAW_READY)
		return -EINVAL;
	code = capture_pages(checkpointer, state, state_bytes);
	if (code) {
		checkpoint_done(checkpointer, code);
		if (checkpointer->notify)
			checkpointer->notify(checkpointer->notify_arg);
		return code;
	}
	check_captured(checkpointer);
	checkpointer->generation.time_ns = sys_realtime_ns();
	checkpointer->generation.heap_bytes = checkpointer->region->bytes;
	checkpointer->generation.restores = checkpointer->restores;
	checkpointer->generation.kind = kind;
	checkpointer->generation.pause_ns = sys_monotonic_ns() - start;
	phase_set(checkpointer, THAW_WRITING);
	return 0;
}

int checkpointer_abandon(struct checkpointer *checkpointer, int code, const char *why)
{
	checkpointer->stopped_ns = 0;
	if (code >= 0 || checkpointer_wait(checkpointer) != THAW_READY)
		return -EINVAL;
	error_set(&checkpointer->result.error, code, "%s", why);
	checkpoint_done(checkpointer, code);
	if (checkpointer->notify)
		checkpointer->notify(checkpointer->notify_arg);
	return 0;
}

enum thaw_phase checkpointer_poll(struct checkpointer *checkpointer, struct thaw_result *result)
{
	enum thaw_phase phase;

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

	pthread_mutex_lock(&checkpointer->lock);
	while (checkpointer->phase == THAW_COPYING || checkpointer->phase == THAW_WRITING)
		pthread_cond_wait(&checkpointer->changed, &checkpointer->lock);
	phase = checkpointer->phase;
	pthread_mutex_unlock(&checkpointer->lock);
	return phase;
}

void checkpointer_settle(struct checkpointer *checkpointer)
{
	pthread_mutex_lock(&checkpointer->lock);
	while (checkpointer->phase == THAW_WRITING)
		pthread_cond_wait(&checkpointer->changed, &checkpointer->lock);
	pthread_mutex_unlock(&checkpointer->lock);
}

int checkpointer_start(struct checkpointer *checkpointer, struct thaw_error *error)
{
	uint64_t pages = checkpointer->region->max_bytes / checkpointer->region->page_bytes;

	pthread_mutex_init(&checkpointer->lock, NULL);
	pthread_cond_init(&checkpointer->changed, NULL);
	if (bitmap_init(&checkpointer->taken, pages) || bitmap_init(&checkpointer->residual, pages))
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
	if (checkpointer->staging)
		munmap(checkpointer->staging, checkpointer->staging_bytes);
	checkpointer->staging = NULL;
	free(checkpointer->state);
	free(checkpointer->durable_state);
	free(checkpointer->names);
	checkpointer->names = NULL;
	checkpointer->state = checkpointer->durable_state = NULL;
	bitmap_free(&checkpointer->taken);
	bitmap_free(&checkpointer->residual);
}
