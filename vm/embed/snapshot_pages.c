/* SPDX-License-Identifier: MIT */
/* snapshot_pages.c - see snapshot_pages.h. */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/failure.h"
#include "snapshot_pages.h"

#define THREADS_MOST 8u
#define THREAD_STACK (256u << 10)

snapshot_sum sum_pages(uint64_t first, const uint8_t *pages, uint64_t count)
{
	snapshot_sum sum = 0;
	uint64_t part[2];

	for (uint64_t i = 0; i < count; i++) {
		thaw_frozen_sum_of(first + i, pages + i * SNAPSHOT_PAGE, part);
		sum += sum_from(part);
	}
	return sum;
}

struct taking {
	const struct thaw_frozen *frozen;
	uint64_t from; /* page */
	snapshot_sum *sum;
	struct thaw_error *error;
};

static int take_pages(void *arg, uint64_t first, uint64_t pages)
{
	const struct taking *taking = arg;
	uint64_t each = thaw_frozen_page_bytes() / SNAPSHOT_PAGE, end = (first + pages) * each;
	uint64_t at = first * each > taking->from ? first * each : taking->from;
	uint8_t page[SNAPSHOT_PAGE];
	int code = 0;

	for (; !code && at < end; at++) {
		code = read_pages(taking->frozen, at, 1, page, taking->error);
		if (!code)
			*taking->sum -= sum_pages(at, page, 1);
	}
	return code;
}

int sum_take_behind(const struct thaw_frozen *frozen, uint64_t bytes, snapshot_sum *sum,
		    struct thaw_error *error)
{
	struct taking taking = {frozen, bytes / SNAPSHOT_PAGE, sum, error};
	int code;

	if (bytes >= thaw_frozen_bytes(frozen))
		return 0;
	code = thaw_frozen_pages(frozen, take_pages, &taking);
	return code && error->code != code
		       ? failure(error, code, "cannot read a snapshot: %s", thaw_strerror(code))
		       : code;
}

int runs_append(struct snapshot_runs *runs, uint64_t first, uint64_t pages)
{
	struct disk_snapshot_run *last = runs->count ? &runs->list[runs->count - 1] : NULL;

	runs->pages += pages;
	if (last && last->first + (uint64_t)last->pages == first) {
		last->pages += (uint32_t)pages;
		return 0;
	}
	if (runs->count == runs->room) {
		uint32_t room = runs->room ? 2 * runs->room : 64;
		struct disk_snapshot_run *list = realloc(runs->list, room * sizeof(*list));

		if (!list)
			return -ENOMEM;
		runs->list = list;
		runs->room = room;
	}
	runs->list[runs->count++] = (struct disk_snapshot_run){(uint32_t)first, (uint32_t)pages};
	return 0;
}

struct snapshot_part *parts_of(const struct snapshot_runs *runs, uint32_t *count)
{
	uint32_t most = (uint32_t)((runs->pages + SNAPSHOT_FRAME_PAGES - 1) / SNAPSHOT_FRAME_PAGES);
	struct snapshot_part *parts = calloc(most + 1, sizeof(*parts)), at = {0};
	uint64_t first, pages;

	*count = 0;
	while (parts && *count < most) {
		uint64_t left = runs->pages - (uint64_t)*count * SNAPSHOT_FRAME_PAGES;

		at.pages = left < SNAPSHOT_FRAME_PAGES ? (uint32_t)left : SNAPSHOT_FRAME_PAGES;
		parts[(*count)++] = at;
		while (part_next(runs, &at, &first, &pages))
			;
	}
	return parts;
}

bool part_next(const struct snapshot_runs *runs, struct snapshot_part *part, uint64_t *first,
	       uint64_t *pages)
{
	const struct disk_snapshot_run *run = &runs->list[part->run];
	uint32_t count;

	if (!part->pages)
		return false;
	count = run->pages - part->page < part->pages ? run->pages - part->page : part->pages;
	*first = (uint64_t)run->first + part->page;
	*pages = count;
	part->pages -= count;
	part->page += count;
	if (part->page == run->pages) {
		part->run++;
		part->page = 0;
	}
	return true;
}

int read_pages(const struct thaw_frozen *frozen, uint64_t first, uint64_t pages, uint8_t *to,
	       struct thaw_error *error)
{
	uint64_t all = thaw_frozen_bytes(frozen) / SNAPSHOT_PAGE;
	uint64_t there = first >= all ? 0 : all - first < pages ? all - first : pages;

	memset(to + there * SNAPSHOT_PAGE, 0, (pages - there) * SNAPSHOT_PAGE);
	return there ? thaw_frozen_read(frozen, first * SNAPSHOT_PAGE, to, there * SNAPSHOT_PAGE,
					error)
		     : 0;
}

int read_part(const struct thaw_frozen *frozen, const struct snapshot_runs *runs,
	      struct snapshot_part part, uint8_t *to, struct thaw_error *error)
{
	uint64_t first, pages;
	int code = 0;

	while (!code && part_next(runs, &part, &first, &pages)) {
		code = read_pages(frozen, first, pages, to, error);
		to += pages * SNAPSHOT_PAGE;
	}
	return code;
}

void exclusive_or(uint8_t *to, const uint8_t *with, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		to[i] ^= with[i];
}

/* ---- Threads ---- */

bool parts_take(struct snapshot_parts *parts, uint32_t *number)
{
	*number = atomic_fetch_add(&parts->next, 1);
	return *number < parts->count;
}

void parts_add(struct snapshot_parts *parts, snapshot_sum sum, int code,
	       const struct thaw_error *error)
{
	if (code)
		atomic_store(&parts->next, parts->count);
	pthread_mutex_lock(&parts->lock);
	parts->sum += sum;
	if (code && !parts->code) {
		parts->code = code;
		parts->error = *error;
	}
	pthread_mutex_unlock(&parts->lock);
}

struct workers {
	void (*work)(void *arg);
	void *arg;
};

static void *worker(void *arg)
{
	const struct workers *workers = arg;

	workers->work(workers->arg);
	return NULL;
}

static unsigned processors(void)
{
	cpu_set_t set;

	return sched_getaffinity(0, sizeof(set), &set) ? 1 : (unsigned)CPU_COUNT(&set);
}

void work_together(unsigned most, void (*work)(void *arg), void *arg)
{
	struct workers workers = {work, arg};
	unsigned count = processors(), begun = 0;
	pthread_t threads[THREADS_MOST];
	pthread_attr_t attributes;
	sigset_t all, before;

	count = count < most ? count : most;
	count = count < THREADS_MOST ? count : THREADS_MOST;
	if (count > 1 && !pthread_attr_init(&attributes)) {
		/* Signals are for the host's own threads. */
		sigfillset(&all);
		pthread_attr_setstacksize(&attributes, THREAD_STACK);
		pthread_sigmask(SIG_BLOCK, &all, &before);
		while (begun + 1 < count &&
		       !pthread_create(&threads[begun], &attributes, worker, &workers))
			begun++;
		pthread_sigmask(SIG_SETMASK, &before, NULL);
		pthread_attr_destroy(&attributes);
	}
	work(arg);
	while (begun)
		pthread_join(threads[--begun], NULL);
}
