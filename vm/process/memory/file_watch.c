// SPDX-License-Identifier: MIT
/*
 * file_watch.c - pages of private mappings of files that a guest writes, told by the kernel instead of looked for.
 *
 * Whether a page is the file's or the process's own is in its struct page: to look at those of a large program takes
 * most of a stop (Node: 25,000 pages, 0.7 ms). So where captures come fast, these mappings are write-protected by a
 * userfaultfd of their own (WP_ASYNC, Linux 6.7), and only pages that are not protected any more are looked at: those
 * that were written, and those that were read for the first time. What was mapped anew is not registered, which
 * PM_SCAN_CHECK_WPASYNC tells: then it is looked at as a whole. Nothing is assumed.
 *
 * It costs the program the kernel's faulting around in what is watched. The owner's thread, while the guest is stopped.
 */
#define _GNU_SOURCE
#include "process/memory/address_space.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "compat.h"

/* So many captures in so long are frequent. */
#define OFTEN_COUNT 16u
#define OFTEN_NS 1600000000ull
/* What is shorter is looked at in the time that asking takes. */
#define LEAST_BYTES (32 * PAGE)
#define REGIONS 256u

void file_watch_close(struct file_watch *watch)
{
	if (watch->made)
		close(watch->uffd);
	free(watch->list);
	*watch = (struct file_watch){0};
}

static void unwatch(const struct file_watch *watch, uint64_t start, uint64_t end)
{
	struct uffdio_range range = {.start = start, .len = end - start};

	/* What is not mapped any more is not registered, either. */
	ioctl(watch->uffd, UFFDIO_UNREGISTER, &range);
}

/* Nobody else takes what the kernel tells of it. */
static int keep_apart(const struct process *process)
{
	const struct file_watch *watch = &process->space->watch;

	return process->heap ? thaw_process_apart(process->heap, watch->list, watch->count) : 0;
}

void file_watch_forget(struct process *process)
{
	struct file_watch *watch = &process->space->watch;

	if (!watch->count)
		return;
	for (size_t i = 0; i < watch->count; i++)
		unwatch(watch, watch->list[i].start, watch->list[i].end);
	watch->count = 0;
	keep_apart(process);
}

/* ---- What was written */

/* What is found is watched again, and looked at. -EPERM: there is something else by now. */
static int scan_watched(struct address_space *space, uint64_t start, uint64_t end)
{
	struct page_region regions[REGIONS];
	struct pm_scan_arg scan = {
		.size = sizeof(scan),
		.flags = PM_SCAN_WP_MATCHING | PM_SCAN_CHECK_WPASYNC,
		.start = start,
		.end = end,
		.vec = (uintptr_t)regions,
		.vec_len = REGIONS,
		.category_mask = PAGE_IS_WRITTEN,
		.category_anyof_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
		.return_mask = PAGE_IS_WRITTEN,
	};

	while (scan.start < end) {
		int found = ioctl(space->pagemap, PAGEMAP_SCAN, &scan), code = 0;

		if (found < 0 && errno == EINTR)
			continue;
		if (found < 0)
			return -EPERM;
		for (int i = 0; i < found && !code; i++)
			code = address_space_scan(space, regions[i].start, regions[i].end);
		if (code)
			return code;
		scan.start = pagemap_scanned_to(&scan, regions, found);
	}
	return 0;
}

int file_watch_scan(struct process *process, uint64_t start, uint64_t end)
{
	struct address_space *space = process->space;
	struct file_watch *watch = &space->watch;
	int code = 0;

	space->run_count = 0;
	for (size_t i = 0; i < watch->count && start < end && !code; i++) {
		uint64_t from = watch->list[i].start, to = watch->list[i].end;
		size_t before;

		if (to <= start || from >= end)
			continue;
		from = from > start ? from : start;
		to = to < end ? to : end;
		if (from > start)
			code = address_space_scan(space, start, from);
		before = space->run_count;
		if (!code)
			code = scan_watched(space, from, to);
		if (code == -EPERM) {
			space->run_count = before;
			unwatch(watch, watch->list[i].start, watch->list[i].end);
			watch->list[i].end =
				watch->list[i].start; /* file_watch_follow() drops it */
			code = address_space_scan(space, from, to);
		}
		start = to;
	}
	if (!code && start < end)
		code = address_space_scan(space, start, end);
	return code;
}

/* ---- What is watched */

static int make_uffd(struct process *process, struct file_watch *watch)
{
	struct remote *remote = &process->remote;
	struct uffdio_api api = {.api = UFFD_API, .features = UFFD_FEATURE_WP_ASYNC};
	uint64_t there = remote_copy(remote, &api, sizeof(api));
	int64_t fd = -ENOSPC, code;

	if (there)
		fd = remote_call(remote, 0, SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY, 0, 0,
				 0, 0, 0);
	if (fd < 0)
		return (int)fd;
	code = remote_call(remote, 0, SYS_ioctl, (uint64_t)fd, UFFDIO_API, there, 0, 0, 0);
	if (!code)
		code = remote_take_fd(remote, 0, (int)fd);
	remote_call(remote, 0, SYS_close, (uint64_t)fd, 0, 0, 0, 0, 0);
	remote_forget(remote);
	if (code < 0)
		return (int)code;
	watch->uffd = (int)code;
	watch->made = true;
	return 0;
}

/* Its pages were all looked at in this stop. False: it cannot be watched. */
static bool watch_range(struct address_space *space, uint64_t start, uint64_t end)
{
	struct uffdio_register registration = {.range = {.start = start, .len = end - start},
					       .mode = UFFDIO_REGISTER_MODE_WP};
	struct pm_scan_arg scan = {
		.size = sizeof(scan),
		.flags = PM_SCAN_WP_MATCHING | PM_SCAN_CHECK_WPASYNC,
		.start = start,
		.end = end,
		.category_mask = PAGE_IS_WRITTEN,
		.category_anyof_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
	};

	if (ioctl(space->watch.uffd, UFFDIO_REGISTER, &registration))
		return false;
	while (scan.start < end) {
		if (ioctl(space->pagemap, PAGEMAP_SCAN, &scan) < 0 || scan.walk_end <= scan.start) {
			unwatch(&space->watch, start, end);
			return false;
		}
		scan.start = scan.walk_end;
	}
	return true;
}

size_t file_watch_files(const struct mappings *mappings, struct thaw_range *list)
{
	size_t count = 0;

	for (size_t i = 0; i < mappings->count; i++) {
		const struct mapping *mapping = &mappings->list[i];

		if (mapping->kind != MAPPING_FILE)
			continue;
		if (count && list[count - 1].end == mapping->start)
			list[count - 1].end = mapping->end;
		else
			list[count++] = (struct thaw_range){mapping->start, mapping->end};
	}
	return count;
}

static bool is_in(const struct thaw_range *list, size_t count, const struct thaw_range *range)
{
	for (size_t i = 0; i < count; i++)
		if (list[i].start == range->start && list[i].end == range->end)
			return true;
	return false;
}

/* What is watched and not one of `files` as it is now: nothing of it is registered afterwards. */
static void drop_others(struct file_watch *watch, const struct thaw_range *files, size_t count)
{
	size_t kept = 0;

	for (size_t i = 0; i < watch->count; i++) {
		struct thaw_range range = watch->list[i];

		if (is_in(files, count, &range))
			watch->list[kept++] = range;
		else if (range.end > range.start)
			unwatch(watch, range.start, range.end);
	}
	watch->count = kept;
}

static bool is_often(struct process *process)
{
	struct address_space *space = process->space;
	struct file_watch *watch = &space->watch;
	uint64_t now;

	if (watch->useless || space->no_scan || space->pagemap < 0)
		return false;
	if (space->capture % OFTEN_COUNT)
		return watch->often;
	now = clock_monotonic_ns();
	watch->often = watch->counted_ns && now - watch->counted_ns < OFTEN_NS;
	watch->counted_ns = now;
	return watch->often;
}

static int by_start(const void *a, const void *b)
{
	const struct thaw_range *one = a, *other = b;

	return one->start < other->start ? -1 : one->start > other->start;
}

static void watch_all(struct process *process, const struct thaw_range *files, size_t count)
{
	struct file_watch *watch = &process->space->watch;

	if (!watch->made && make_uffd(process, watch)) {
		watch->useless = true;
		return;
	}
	for (size_t i = 0; i < count; i++)
		if (files[i].end - files[i].start >= LEAST_BYTES &&
		    !is_in(watch->list, watch->count, &files[i]) &&
		    watch_range(process->space, files[i].start, files[i].end))
			watch->list[watch->count++] = files[i];
	if (watch->count)
		qsort(watch->list, watch->count, sizeof(*watch->list), by_start);
}

void file_watch_follow(struct process *process, const struct mappings *mappings)
{
	struct file_watch *watch = &process->space->watch;
	bool often = is_often(process);
	struct thaw_range *files, *list;
	size_t count;

	if (!often && !watch->count)
		return;
	files = malloc((mappings->count + 1) * sizeof(*files));
	count = files ? file_watch_files(mappings, files) : 0;
	drop_others(watch, files, count);
	/* All that stays, and all that may come. */
	list = files ? realloc(watch->list, (watch->count + count + 1) * sizeof(*list)) : NULL;
	if (list) {
		watch->list = list;
		if (often)
			watch_all(process, files, count);
	}
	free(files);
	if (keep_apart(process))
		file_watch_forget(process);
}
