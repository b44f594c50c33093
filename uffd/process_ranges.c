/* SPDX-License-Identifier: MIT */
/*
 * process_ranges.c - which memory of another process is kept: the list of its ranges, their registration with its
 * userfaultfd, what is there, and what was given up.
 *
 * A range comes by process_memory_update(), while the guest is stopped: it is registered, and all that is there counts
 * as written once. What goes (munmap(2), madvise(MADV_DONTNEED), mremap(2)) is told by events, on the fault service's
 * thread, or by a range that is not there any more at the next update. A page that was given up may be there
 * again at the capture, from the same mapping or another one: the capture looks.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "compat.h"
#include "process_memory.h"
#include "region.h"
#include "sys.h"

#define ANSWERS 4096u		 /* of PAGEMAP_SCAN: 96 KiB */
#define ENTRIES (ANSWERS * 3u)	 /* of pagemap, in the same memory */
#define MAPS_BYTES (256u << 10)	 /* at first */
#define ENTRY_THERE (3ull << 62) /* present, or swapped */

static uint64_t page_of(const struct process_memory *memory, uint64_t address)
{
	return address / memory->page_bytes;
}

/* ---- what is there */

/* By PAGEMAP_SCAN. Pages that were read and never written are the kernel's zero page: nothing is there. */
static int scan_present(const struct process_memory *memory, uint64_t start, uint64_t end,
			struct bitmap *pages)
{
	struct page_region *answers = memory->answers;
	struct pm_scan_arg scan = {
		.size = sizeof(scan),
		.start = start,
		.end = end,
		.vec = (uintptr_t)answers,
		.vec_len = ANSWERS,
		.category_inverted = PAGE_IS_PFNZERO,
		.category_mask = PAGE_IS_PFNZERO,
		.category_anyof_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
		.return_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
	};

	while (scan.start < end) {
		int found = sys_ioctl(memory->pagemap, PAGEMAP_SCAN, &scan);

		if (found < 0)
			return found;
		for (int i = 0; i < found; i++)
			bitmap_set_range(pages, page_of(memory, answers[i].start),
					 page_of(memory, answers[i].end - answers[i].start));
		scan.start = pagemap_scanned_to(&scan, answers, found);
	}
	return 0;
}

/* Before Linux 6.7. */
static int read_present(const struct process_memory *memory, uint64_t start, uint64_t end,
			struct bitmap *pages)
{
	uint64_t page = page_of(memory, start), last = page_of(memory, end);
	const uint64_t *entries = memory->answers;

	while (page < last) {
		size_t count = last - page < ENTRIES ? last - page : ENTRIES;
		ssize_t got = pread(memory->pagemap, memory->answers, count * sizeof(*entries),
				    (off_t)(page * sizeof(*entries)));

		if (got <= 0)
			return got ? -errno : -ESRCH;
		count = (size_t)got / sizeof(*entries);
		for (size_t i = 0; i < count; i++)
			if (entries[i] & ENTRY_THERE)
				bitmap_set(pages, page + i);
		page += count;
	}
	return 0;
}

/* What may differ from zero in a range. */
static int find_present(const struct process_memory *memory, const struct process_range *range,
			struct bitmap *pages)
{
	if (range->kind == RANGE_FILE || range->kind == RANGE_SHARED) {
		bitmap_set_range(pages, page_of(memory, range->start),
				 page_of(memory, range->end - range->start));
		return 0;
	}
	return memory->scans ? scan_present(memory, range->start, range->end, pages)
			     : read_present(memory, range->start, range->end, pages);
}

int process_memory_present(struct process_memory *memory, struct bitmap *pages)
{
	int code = 0;

	pthread_mutex_lock(&memory->lock);
	for (size_t i = 0; !code && i < memory->count; i++)
		code = find_present(memory, &memory->ranges[i], pages);
	pthread_mutex_unlock(&memory->lock);
	return code;
}

/* ---- lists of ranges */

struct range_list {
	struct process_range *items;
	size_t count, room;
	bool failed;
};

static void list_add(struct range_list *list, uint64_t start, uint64_t end,
		     enum process_range_kind kind)
{
	struct process_range *last = list->count ? &list->items[list->count - 1] : NULL, *more;

	if (start >= end || list->failed)
		return;
	if (last && last->end == start && last->kind == kind) {
		last->end = end;
		return;
	}
	if (list->count == list->room) {
		size_t room = list->room ? 2 * list->room : 64;

		more = realloc(list->items, room * sizeof(*more));
		if (!more) {
			list->failed = true;
			return;
		}
		list->items = more;
		list->room = room;
	}
	list->items[list->count++] = (struct process_range){start, end, kind};
}

static int by_start(const void *a, const void *b)
{
	const struct process_range *left = a, *right = b;

	return (left->start > right->start) - (left->start < right->start);
}

/* In order, and neighbours of one kind as one. */
static void list_join(struct range_list *list)
{
	struct range_list joined = {.items = list->items, .room = list->room};
	size_t count = list->count;

	if (list->failed)
		return;
	qsort(list->items, count, sizeof(*list->items), by_start);
	for (size_t i = 0; i < count; i++) {
		struct process_range item = list->items[i];

		list_add(&joined, item.start, item.end, item.kind);
	}
	list->count = joined.count;
}

static uint64_t later(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* What stays, what comes and what goes, if the list becomes `ranges`. */
static void compare(const struct process_memory *memory, const struct thaw_range *ranges,
		    size_t count, struct range_list *stay, struct range_list *come,
		    struct range_list *go)
{
	const struct process_range *old = memory->ranges, *end = old + memory->count;
	uint64_t gone_from = 0; /* of `old`: what is before it has been told */

	for (size_t i = 0; i < count; i++) {
		uint64_t at = ranges[i].start;

		for (; old < end && old->start < ranges[i].end; old++) {
			uint64_t from = later(old->start, at),
				 to = earlier(old->end, ranges[i].end);

			list_add(go, later(old->start, gone_from), earlier(old->end, at),
				 RANGE_ANONYMOUS);
			if (from < to) {
				list_add(come, at, from, RANGE_ANONYMOUS);
				list_add(stay, from, to, old->kind);
				at = to;
			}
			gone_from = later(gone_from, to);
			if (old->end > ranges[i].end)
				break;
		}
		list_add(come, at, ranges[i].end, RANGE_ANONYMOUS);
	}
	for (; old < end; old++)
		list_add(go, later(old->start, gone_from), old->end, RANGE_ANONYMOUS);
}

/* ---- kinds of mappings */

static char *read_maps(const struct process_memory *memory)
{
	size_t bytes = 0, room = MAPS_BYTES;
	int fd = process_memory_open(memory, "maps", O_RDONLY);
	char *text = fd < 0 ? NULL : malloc(room + 1);
	ssize_t got = -1;

	while (text && (got = read(fd, text + bytes, room - bytes)) > 0) {
		bytes += (size_t)got;
		if (bytes == room) {
			char *more = realloc(text, (room *= 2) + 1);

			if (!more)
				break;
			text = more;
		}
	}
	if (fd >= 0)
		close(fd);
	if (text)
		text[bytes] = '\0';
	if (got) {
		free(text);
		return NULL;
	}
	return text;
}

/* One line of /proc/PID/maps: "start-end rw-p offset device inode path". */
static const char *parse_mapping(const char *line, struct process_range *mapping)
{
	char *at;
	bool shared;

	mapping->start = strtoull(line, &at, 16);
	mapping->end = *at == '-' ? strtoull(at + 1, &at, 16) : 0;
	shared = strnlen(at, 6) == 6 && at[4] == 's';
	for (unsigned field = 0; field < 4 && *at && *at != '\n'; field++)
		at += strcspn(at, " \n"), at += strspn(at, " ");
	mapping->kind = shared			      ? RANGE_SHARED
			: strtoull(at, NULL, 10) != 0 ? RANGE_FILE
						      : RANGE_ANONYMOUS;
	at += strcspn(at, "\n");
	return *at ? at + 1 : at;
}

/* Each part of what comes, by the mapping that it is in. */
static int split_by_mapping(const struct process_memory *memory, const struct range_list *come,
			    struct range_list *parts)
{
	char *text = read_maps(memory);
	const char *line = text;
	struct process_range mapping = {0};

	if (!text)
		return process_memory_alive(memory) ? -ENOMEM : -ESRCH;
	for (size_t i = 0; i < come->count; i++) {
		const struct process_range *piece = &come->items[i];
		uint64_t at = piece->start;

		while (at < piece->end) {
			while (mapping.end <= at && *line)
				line = parse_mapping(line, &mapping);
			if (mapping.end <= at)
				break;
			if (mapping.start < piece->end)
				list_add(parts, later(at, mapping.start),
					 earlier(mapping.end, piece->end), mapping.kind);
			at = mapping.end;
		}
	}
	free(text);
	return parts->failed ? -ENOMEM : 0;
}

/* ---- registration */

static int watch(const struct region *region, uint64_t start, uint64_t end, uint64_t mode)
{
	struct uffdio_register registration = {
		.range = {.start = start, .len = end - start},
		.mode = mode,
	};

	return sys_ioctl(region->uffd, UFFDIO_REGISTER, &registration);
}

/* Watched for writes from here on; what cannot be says so in its kind. */
static int watch_new(const struct region *region, struct process_range *range)
{
	int code;

	if (region->backends.tracker == TRACKER_HASHED)
		return 0;
	/* Where pages are missing this changes nothing: it is registered already, for more. */
	code = watch(region, range->start, range->end, UFFDIO_REGISTER_MODE_WP);
	if (code == -ESRCH || code == -ENOMEM)
		return code;
	if (code < 0 && range->kind != RANGE_SHARED)
		range->kind = RANGE_UNWATCHED;
	return 0;
}

static int check_ranges(const struct process_memory *memory, const struct thaw_range *ranges,
			size_t count, struct thaw_error *error)
{
	uint64_t before = 0;

	for (size_t i = 0; i < count; before = ranges[i++].end)
		if (ranges[i].start < before || ranges[i].end <= ranges[i].start ||
		    (ranges[i].start | ranges[i].end) % memory->page_bytes ||
		    ranges[i].end > PROCESS_BYTES)
			return error_set(error, -EINVAL,
					 "memory of process %d at %llx-%llx cannot be kept: ranges "
					 "are pages below 2^47, in order",
					 memory->process.pid, (unsigned long long)ranges[i].start,
					 (unsigned long long)ranges[i].end);
	return 0;
}

static int lost(const struct process_memory *memory, int code, const char *doing,
		struct thaw_error *error)
{
	if (!process_memory_alive(memory))
		code = -ESRCH;
	return error_set(error, code, "cannot %s the memory of process %d: %s", doing,
			 memory->process.pid,
			 code == -ESRCH ? "it has ended" : thaw_strerror(code));
}

/* No userfaultfd came with the process: all is loaded before it runs, and compared afterwards. */
static void do_without(struct region *region)
{
	struct backends *backends = &region->backends;

	if (backends->tracker != TRACKER_HASHED)
		snprintf(backends->why, sizeof(backends->why),
			 "the process could not make a userfaultfd");
	backends->delivery = DELIVERY_EAGER;
	backends->tracker = TRACKER_HASHED;
	backends->poison = false;
}

/* All ranges, for what is missing, too: those of a span by one call (0.3 us each instead of 0.8). */
static int watch_missing(const struct region *region)
{
	const struct process_memory *memory = region->process;
	const struct thaw_range *span = memory->process.spans;
	const struct thaw_range *end = span ? span + memory->process.span_count : NULL;
	const uint64_t mode = UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP;
	uint64_t done = 0; /* up to here */
	int code = 0;

	for (size_t i = 0; code >= 0 && i < memory->count; i++) {
		const struct process_range *range = &memory->ranges[i];

		while (span < end && span->end <= range->start)
			span++;
		if (range->end <= done)
			continue;
		if (span < end && span->start <= range->start && span->end >= range->end &&
		    watch(region, range->start, span->end, mode) >= 0)
			done = span->end;
		else
			code = watch(region, range->start, range->end, mode);
	}
	return code;
}

int process_memory_attach(struct region *region, const struct thaw_process *process,
			  const struct thaw_range *ranges, size_t count, struct thaw_error *error)
{
	struct process_memory *memory = region->process;
	struct range_list list = {0};
	int code;

	memory->process = *process;
	code = check_ranges(memory, ranges, count, error);
	if (code)
		return code;
	memory->pagemap = process_memory_open(memory, "pagemap", O_RDONLY);
	if (memory->pagemap < 0)
		return error_set(error, memory->pagemap, "cannot open /proc/%d/pagemap: %s",
				 process->pid, thaw_strerror(memory->pagemap));
	memory->scans = !probe_ask(ASK_PAGEMAP_SCAN);
	memory->answers = malloc(ANSWERS * sizeof(struct page_region));
	for (size_t i = 0; i < count; i++)
		list_add(&list, ranges[i].start, ranges[i].end, RANGE_ANONYMOUS);
	memory->ranges = list.items;
	memory->count = list.count;
	if (list.failed || !memory->answers)
		return error_set(error, -ENOMEM, "no memory for the ranges of process %d",
				 process->pid);
	region->uffd = process->userfaultfd;
	if (region->uffd < 0)
		do_without(region);
	if (process->load_first)
		region->backends.delivery = DELIVERY_EAGER;
	memory->attached = true;
	if (region->backends.delivery == DELIVERY_EAGER)
		return 0;
	code = watch_missing(region);
	memory->process.spans = NULL; /* the caller's */
	return code < 0 ? lost(memory, code, "register", error) : 0;
}

int process_memory_loaded(struct region *region, struct thaw_error *error)
{
	struct process_memory *memory = region->process;
	struct pm_scan_arg scan = {
		.size = sizeof(scan),
		.flags = PM_SCAN_WP_MATCHING,
		.category_anyof_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
		.return_mask = PAGE_IS_PRESENT,
	};

	if (region->backends.tracker == TRACKER_HASHED)
		return 0;
	for (size_t i = 0; i < memory->count; i++) {
		int code = watch(region, memory->ranges[i].start, memory->ranges[i].end,
				 UFFDIO_REGISTER_MODE_WP);

		scan.start = memory->ranges[i].start;
		scan.end = memory->ranges[i].end;
		if (code >= 0)
			code = sys_ioctl(memory->pagemap, PAGEMAP_SCAN, &scan);
		if (code < 0)
			return lost(memory, code, "register", error);
	}
	return 0;
}

/* ---- ranges that come and go */

/* With the lock. */
static int update(struct region *region, const struct thaw_range *ranges, size_t count,
		  struct bitmap *written, struct range_list *stay)
{
	struct process_memory *memory = region->process;
	struct range_list come = {0}, go = {0}, parts = {0};
	int code = 0;

	compare(memory, ranges, count, stay, &come, &go);
	if (come.failed || go.failed || stay->failed)
		code = -ENOMEM;
	if (!code && come.count)
		code = split_by_mapping(memory, &come, &parts);
	for (size_t i = 0; !code && i < parts.count; i++) {
		code = watch_new(region, &parts.items[i]);
		if (!code)
			code = find_present(memory, &parts.items[i], written);
	}
	for (size_t i = 0; !code && i < parts.count; i++)
		list_add(stay, parts.items[i].start, parts.items[i].end, parts.items[i].kind);
	list_join(stay);
	if (stay->failed)
		code = -ENOMEM;
	for (size_t i = 0; !code && i < go.count; i++)
		bitmap_set_range(&memory->removed, page_of(memory, go.items[i].start),
				 page_of(memory, go.items[i].end - go.items[i].start));
	free(come.items);
	free(go.items);
	free(parts.items);
	return code;
}

int process_memory_update(struct region *region, const struct thaw_range *ranges, size_t count,
			  struct bitmap *written, struct thaw_error *error)
{
	struct process_memory *memory = region->process;
	struct range_list stay = {0};
	int code = check_ranges(memory, ranges, count, error);

	if (code)
		return code;
	pthread_mutex_lock(&memory->lock);
	code = update(region, ranges, count, written, &stay);
	if (!code && !process_memory_alive(memory))
		code = -ESRCH;
	if (!code) {
		free(memory->ranges);
		memory->ranges = stay.items;
		memory->count = stay.count;
	} else {
		free(stay.items);
	}
	pthread_mutex_unlock(&memory->lock);
	return code ? lost(memory, code, "follow", error) : 0;
}

uint64_t process_memory_bytes(struct process_memory *memory)
{
	uint64_t bytes = 0;

	pthread_mutex_lock(&memory->lock);
	for (size_t i = 0; i < memory->count; i++)
		bytes += memory->ranges[i].end - memory->ranges[i].start;
	pthread_mutex_unlock(&memory->lock);
	return bytes;
}

static bool overlaps(const struct process_range *range, uint64_t start, uint64_t end)
{
	return range->start < end && range->end > start;
}

/* With the lock. Without memory for a new list, all of a range always counts as written from now on. */
static void forget_range(struct process_memory *memory, uint64_t start, uint64_t end)
{
	struct range_list left = {0};
	size_t touched = 0;

	for (size_t i = 0; i < memory->count; i++)
		touched += overlaps(&memory->ranges[i], start, end);
	if (!touched)
		return;
	for (size_t i = 0; i < memory->count; i++) {
		const struct process_range *range = &memory->ranges[i];

		list_add(&left, range->start, earlier(range->end, start), range->kind);
		list_add(&left, later(range->start, end), range->end, range->kind);
	}
	if (!left.failed) {
		free(memory->ranges);
		memory->ranges = left.items;
		memory->count = left.count;
		return;
	}
	free(left.items);
	for (size_t i = 0; i < memory->count; i++)
		if (overlaps(&memory->ranges[i], start, end))
			memory->ranges[i].kind = RANGE_UNWATCHED;
}

void process_memory_removed(struct process_memory *memory, uint64_t first, uint64_t count,
			    bool unmapped)
{
	pthread_mutex_lock(&memory->lock);
	bitmap_set_range(&memory->removed, first, count);
	if (unmapped)
		forget_range(memory, first * memory->page_bytes,
			     (first + count) * memory->page_bytes);
	pthread_mutex_unlock(&memory->lock);
}

/* ---- what was given up */

/* What is there of [first, end) in the ranges. With the lock. */
static int find_present_in(const struct process_memory *memory, uint64_t first, uint64_t end,
			   struct bitmap *pages)
{
	uint64_t start = first * memory->page_bytes, stop = end * memory->page_bytes;
	size_t low = 0, high = memory->count;
	int code = 0;

	while (low < high) { /* the first range that ends behind its start */
		size_t middle = (low + high) / 2;

		if (memory->ranges[middle].end <= start)
			low = middle + 1;
		else
			high = middle;
	}
	for (; !code && low < memory->count && memory->ranges[low].start < stop; low++) {
		struct process_range part = memory->ranges[low];

		part.start = later(part.start, start);
		part.end = earlier(part.end, stop);
		code = find_present(memory, &part, pages);
	}
	return code;
}

/* Those of these pages that are there. Many in one part of the bitmap are looked at together. With the lock. */
static int find_present_of(struct process_memory *memory, const struct bitmap *of,
			   struct bitmap *pages)
{
	struct bitmap *near = &memory->scratch;
	uint64_t end;
	int code = 0;

	for (uint64_t page = 0; !code && (page = bitmap_next(of, page)) != UINT64_MAX; page = end) {
		uint64_t part_end = (page / BITMAP_PART_BITS + 1) * BITMAP_PART_BITS;

		end = bitmap_next_clear(of, page, of->limit);
		if (end >= part_end || bitmap_next(of, end) >= part_end) {
			code = find_present_in(memory, page, end, pages);
			continue;
		}
		end = part_end;
		bitmap_clear_all(near);
		code = find_present_in(memory, page, end, near);
		for (; (page = bitmap_next(near, page)) != UINT64_MAX; page++)
			if (bitmap_test(of, page))
				bitmap_set(pages, page);
	}
	return code;
}

int process_memory_take_removed(struct process_memory *memory, struct bitmap *gone,
				struct bitmap *written)
{
	int code;

	pthread_mutex_lock(&memory->lock);
	bitmap_merge(gone, &memory->removed);
	bitmap_clear_all(&memory->removed);
	for (size_t i = 0; i < memory->count; i++) {
		const struct process_range *range = &memory->ranges[i];

		if (range->kind == RANGE_SHARED || range->kind == RANGE_UNWATCHED)
			bitmap_set_range(gone, page_of(memory, range->start),
					 page_of(memory, range->end - range->start));
	}
	code = find_present_of(memory, gone, written);
	pthread_mutex_unlock(&memory->lock);
	return code;
}

void process_memory_put_back(struct process_memory *memory, const struct bitmap *gone)
{
	pthread_mutex_lock(&memory->lock);
	bitmap_merge(&memory->removed, gone);
	pthread_mutex_unlock(&memory->lock);
}

void process_memory_set_aside(struct process_memory *memory, struct bitmap *pages,
			      struct bitmap *later_pages)
{
	pthread_mutex_lock(&memory->lock);
	for (uint64_t page = 0; (page = bitmap_next(pages, page)) != UINT64_MAX; page++) {
		if (!bitmap_test(&memory->removed, page))
			continue;
		bitmap_clear(pages, page);
		bitmap_set(later_pages, page);
	}
	pthread_mutex_unlock(&memory->lock);
}

/* By what is set: looking into each of thousands of gaps for bits takes longer than the scan that set them. */
void process_memory_clip(struct process_memory *memory, struct bitmap *pages)
{
	size_t i = 0;

	pthread_mutex_lock(&memory->lock);
	for (uint64_t page = 0; (page = bitmap_next(pages, page)) != UINT64_MAX;) {
		uint64_t start;

		while (i < memory->count && page_of(memory, memory->ranges[i].end) <= page)
			i++;
		start = i < memory->count ? page_of(memory, memory->ranges[i].start) : pages->limit;
		if (page < start)
			bitmap_clear_range(pages, page, start - page);
		page = i < memory->count ? page_of(memory, memory->ranges[i].end) : start;
	}
	pthread_mutex_unlock(&memory->lock);
}
