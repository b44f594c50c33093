/* SPDX-License-Identifier: MIT */
/*
 * release.c - thaw_release(): pages whose contents nobody needs become zero, their memory goes back to the kernel, and
 * the next generation has no bytes for them.
 *
 * Runs on the owner's thread. Under userfaultfd a page that was dropped would be missing, and its next reader would
 * get what the image has. So a zero page is put there at once, watched like any other page. What the service has in
 * flight for such a page finds that one; and as the page can never come from the image again, it is never poisoned
 * (tracker_forget()). No page is read of the image for it, except where pages come by SIGSEGV.
 *
 * Everything of a step happens under the tracker's lock, with signals blocked: a collection finds a page written and
 * zero, or neither. Must never touch the region while it holds the lock.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "compat.h"
#include "heap.h"
#include "install.h"
#include "preserve.h"
#include "sys.h"

#define STEP_BYTES (1u << 20) /* for so much the lock is held, some 0.1 ms */
/*
 * How often a page may come between its removal and the zero page, because another thread touches it, or for how
 * long there may be no memory for a page table. To stop then would leave pages missing that have arrived.
 */
#define TRIES 10000u

static bool is_zero(const char *page, size_t bytes)
{
	return !page[0] && !memcmp(page, page + 1, bytes - 1);
}

/* It was given back and nobody has written it since: there is nothing to do. Such a page is never missing. */
static bool is_given_back(const struct thaw *heap, uint64_t page)
{
	const struct region *region = &heap->region;
	off_t offset = (off_t)(page * region->page_bytes);

	if (!bitmap_test(&heap->tracker.released, page))
		return false;
	if (region->backends.backing == BACKING_MEMFD) { /* reading a hole would fill it */
		off_t data = lseek(region->memfd, offset, SEEK_DATA);

		return data < 0 ? errno == ENXIO : data >= offset + (off_t)region->page_bytes;
	}
	return is_zero(region->base + offset, region->page_bytes);
}

static int drop(const struct region *region, uint64_t start, uint64_t bytes)
{
	return sys_advise(region->base + start, bytes, MADV_DONTNEED);
}

static _Noreturn void cannot_go_on(struct thaw *heap, int code)
{
	struct thaw_error error;

	error_set(&error, code, "cannot put zero pages into the heap: %s", thaw_strerror(code));
	if (heap->fatal)
		heap->fatal(heap->fatal_arg, &error);
	abort();
}

/* Zero pages instead of whatever is there, in bytes of the region. */
static int exchange(struct thaw *heap, uint64_t start, uint64_t bytes)
{
	const struct region *region = &heap->region;
	uint64_t most = bytes, advanced;
	int code = drop(region, start, bytes);

	if (code) { /* perhaps behind some that it has removed */
		(void)install_zero(&heap->region, start / region->page_bytes,
				   bytes / region->page_bytes);
		return code;
	}
	for (unsigned tries = 0; bytes;) {
		uint64_t part = bytes < most ? bytes : most;
		struct uffdio_zeropage zero = {
			.range = {.start = (uintptr_t)region->base + start, .len = part}};

		code = sys_ioctl(region->uffd, UFFDIO_ZEROPAGE, &zero);
		switch (install_classify(code, zero.zeropage, part, &advanced)) {
		case INSTALL_DONE:
		case INSTALL_PARTIAL:
			break;
		case INSTALL_EXISTS: /* somebody has touched it, and got what the image has */
			if (!advanced) {
				code = drop(region, start, region->kernel_page_bytes);
				if (code || ++tries > TRIES)
					cannot_go_on(heap, code ? code : -EEXIST);
			}
			break;
		case INSTALL_GONE: /* two mappings meet (install.c) */
			if (most == region->kernel_page_bytes)
				cannot_go_on(heap, code);
			most = region->kernel_page_bytes;
			break;
		default:
			if (++tries > TRIES)
				cannot_go_on(heap, code);
			sched_yield();
		}
		start += advanced;
		bytes -= advanced;
	}
	return 0;
}

/*
 * Pages of which none is poisoned. What was restored has to get zero pages; what is fresh is zero by itself, but
 * where it is watched: then a missing page would count as written as soon as it is read.
 */
static int release_run(struct thaw *heap, uint64_t first, uint64_t count)
{
	struct region *region = &heap->region;
	uint64_t start = first * region->page_bytes, bytes = count * region->page_bytes;
	bool watched = region->backends.tracker == TRACKER_WP_ASYNC ||
		       region->backends.tracker == TRACKER_WP_SYNC;
	uint64_t restored = watched ? start + bytes : region->restored_bytes;
	int code = 0;

	if (region->backends.backing == BACKING_MEMFD)
		return sys_punch(region->memfd, start, bytes);
	if (delivery_without_uffd(region->backends.delivery) || start >= restored)
		return drop(region, start, bytes);
	if (start + bytes > restored) {
		code = drop(region, restored, start + bytes - restored);
		bytes = restored - start;
	}
	if (!code)
		code = exchange(heap, start, bytes);
	if (!code && watched)
		code = install_protection(region, first, count, true);
	return code;
}

/* One step: whatever of it is not poisoned. */
static int release_step(struct thaw *heap, uint64_t first, uint64_t end)
{
	struct tracker *tracker = &heap->tracker;
	sigset_t all, before;
	int code = 0;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	pthread_mutex_lock(&tracker->lock);
	while (!code && first < end) {
		uint64_t poisoned = bitmap_next(&tracker->poisoned, first);
		uint64_t next = poisoned < end ? poisoned : end;

		if (next > first) {
			/* Even if it fails: some of it may be zero by then. */
			bitmap_set_range(&tracker->released, first, next - first);
			bitmap_set_range(&tracker->zeroed, first, next - first);
			code = release_run(heap, first, next - first);
		}
		first = next + (next < end);
	}
	pthread_mutex_unlock(&tracker->lock);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return code;
}

/*
 * The module has no way yet to take memory back: pages that have not arrived do so as zero, without being read, and
 * the others are overwritten. They take no bytes of an image.
 */
static int clear_by_device(struct thaw *heap, uint64_t first, uint64_t end)
{
	struct region *region = &heap->region;
	uint64_t restored = region->restored_bytes / region->page_bytes;
	int code = 0;

	if (first < restored)
		code = install_zero(region, first, (end < restored ? end : restored) - first);
	for (; !code && first < end; first++) {
		char *page = region->base + first * region->page_bytes;

		if (!tracker_forgot(&heap->tracker, first) && !is_zero(page, region->page_bytes))
			memset(page, 0, region->page_bytes);
	}
	return code;
}

/*
 * Where pages come by SIGSEGV, the image may be being read straight into these pages: they have to be there before
 * they can go.
 */
static void bring(struct thaw *heap, uint64_t first, uint64_t end)
{
	uint64_t restored = heap->region.restored_bytes / heap->region.page_bytes;

	end = end < restored ? end : restored;
	for (; first < end; first++)
		if (!tracker_is_here(&heap->tracker, first))
			fault_service_fetch(heap->service, first);
}

static int release_pages(struct thaw *heap, uint64_t first, uint64_t end)
{
	uint64_t step = STEP_BYTES / heap->region.page_bytes;
	int code = 0;

	/* What a capture needs of them is copied first; only this thread captures. */
	preserve_pages(&heap->checkpointer.preserver, first, end - first);
	if (heap->region.backends.backing == BACKING_KMOD)
		return clear_by_device(heap, first, end);
	while (!code && first < end) {
		uint64_t next = first;

		if (is_given_back(heap, first)) {
			first++;
			continue;
		}
		while (next < end && next - first < step && !is_given_back(heap, next))
			next++;
		if (heap->region.backends.delivery == DELIVERY_SIGNAL)
			bring(heap, first, next);
		code = release_step(heap, first, next);
		first = next;
	}
	return code;
}

int thaw_release(struct thaw *heap, size_t offset, size_t bytes)
{
	struct region *region = &heap->region;
	uint64_t first, end;

	if (region->process)
		return -EINVAL;
	if (offset > region->bytes || bytes > region->bytes - offset)
		return -ERANGE;
	first = (offset + region->page_bytes - 1) / region->page_bytes;
	end = (offset + bytes) / region->page_bytes;
	if (first >= end)
		return 0;
	if (!heap->image)
		return frozen_heap_release(heap, first * region->page_bytes,
					   end * region->page_bytes);
	return release_pages(heap, first, end);
}
