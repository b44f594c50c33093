/* SPDX-License-Identifier: MIT */
/*
 * frozen_scan.c - which pages of a heap that maps a base privately are its own. Those are anonymous, in memory or in swap;
 * a page of the base is the file's, or not mapped at all. So nothing is tracked, and nothing can be missed: a
 * page that was written once stays the heap's own, whatever was written.
 *
 * By PAGEMAP_SCAN (Linux 6.7), else by /proc/self/pagemap (bits 61 to 63, which need no privileges), else by comparing
 * contents. Owner thread. Nothing is touched but by comparing.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "compat.h"
#include "frozen.h"
#include "sys.h"

#define ANSWERS 1024u
#define ENTRIES 4096u /* of pagemap, read at a time */
#define ENTRY_SHARED (1ull << 61)
#define ENTRY_SWAPPED (1ull << 62)
#define ENTRY_PRESENT (1ull << 63)
#define COMPARED_BYTES (256u << 10)

int runs_add(struct page_runs *runs, uint64_t first, uint64_t end)
{
	struct page_run *last = runs->count ? &runs->list[runs->count - 1] : NULL;

	runs->pages += end - first;
	if (last && last->end == first) {
		last->end = end;
		return 0;
	}
	if (runs->count == runs->room) {
		size_t room = runs->room ? 2 * runs->room : 64;
		struct page_run *list = realloc(runs->list, room * sizeof(*list));

		if (!list)
			return -ENOMEM;
		runs->list = list;
		runs->room = room;
	}
	runs->list[runs->count++] = (struct page_run){first, end};
	return 0;
}

void runs_free(struct page_runs *runs)
{
	free(runs->list);
	*runs = (struct page_runs){0};
}

static int scan_kernel(int fd, const struct region *region, uint64_t bytes, struct page_runs *runs)
{
	struct page_region ranges[ANSWERS];
	uint64_t start = (uintptr_t)region->base, page = region->kernel_page_bytes;
	struct pm_scan_arg scan = {
		.size = sizeof(scan),
		.start = start,
		.end = start + bytes,
		.vec = (uintptr_t)ranges,
		.vec_len = ANSWERS,
		.category_inverted = PAGE_IS_FILE | PAGE_IS_PFNZERO,
		.category_mask = PAGE_IS_FILE | PAGE_IS_PFNZERO,
		.category_anyof_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
		.return_mask = PAGE_IS_PRESENT,
	};
	int code = 0;

	while (!code && scan.start < scan.end) {
		int found = sys_ioctl(fd, PAGEMAP_SCAN, &scan);

		if (found < 0)
			return found;
		for (int i = 0; !code && i < found; i++)
			code = runs_add(runs, (ranges[i].start - start) / page,
					(ranges[i].end - start) / page);
		scan.start = pagemap_scanned_to(&scan, ranges, found);
	}
	return code;
}

static int scan_entries(int fd, const struct region *region, uint64_t bytes, struct page_runs *runs)
{
	uint64_t page_bytes = region->kernel_page_bytes, pages = bytes / page_bytes;
	uint64_t first = (uintptr_t)region->base / page_bytes;
	uint64_t *entries = malloc(ENTRIES * sizeof(*entries));
	int code = entries ? 0 : -ENOMEM;

	for (uint64_t at = 0; !code && at < pages; at += ENTRIES) {
		uint64_t count = pages - at < ENTRIES ? pages - at : ENTRIES;

		code = sys_pread(fd, entries, count * sizeof(*entries),
				 (first + at) * sizeof(*entries));
		for (uint64_t i = 0; !code && i < count; i++)
			if (entries[i] & (ENTRY_PRESENT | ENTRY_SWAPPED) &&
			    !(entries[i] & ENTRY_SHARED))
				code = runs_add(runs, at + i, at + i + 1);
	}
	free(entries);
	return code;
}

int scan_own(const struct region *region, uint64_t bytes, struct page_runs *runs)
{
	int code, fd;

	if (!bytes)
		return 0;
	if (probe_denies("pagemap"))
		return -EPERM;
	/* One for each search: 1,000 heaps have no descriptor of their own. */
	fd = sys_open("/proc/self/pagemap", O_RDONLY, 0);
	if (fd < 0)
		return fd;
	code = probe_denies("pagemap-scan") ? -ENOTTY : scan_kernel(fd, region, bytes, runs);
	if (code && code != -ENOMEM) {
		runs_free(runs);
		code = scan_entries(fd, region, bytes, runs);
	}
	close(fd);
	return code;
}

/* Pages [at, at + count) against the base's bytes, or zeros. */
static int compare_part(const char *region, const char *base, uint64_t at, uint64_t count,
			size_t page_bytes, struct page_runs *runs)
{
	int code = 0;

	for (uint64_t i = 0; !code && i < count; i++) {
		const char *page = region + (at + i) * page_bytes;

		if (base ? memcmp(page, base + i * page_bytes, page_bytes) != 0
			 : !page_is_zero(page, page_bytes))
			code = runs_add(runs, at + i, at + i + 1);
	}
	return code;
}

int scan_compare(const struct region *region, uint64_t bytes, const struct layers *layers,
		 struct page_runs *runs)
{
	uint64_t based = layers ? layers->base_bytes : 0, part;
	size_t page_bytes = region->kernel_page_bytes;
	char *buffer = malloc(COMPARED_BYTES);
	int code = buffer ? 0 : -ENOMEM;

	for (uint64_t at = 0; !code && at < bytes; at += part) {
		uint64_t end = at < based && based < bytes ? based : bytes;

		part = end - at < COMPARED_BYTES ? end - at : COMPARED_BYTES;
		if (at < based)
			code = sys_pread(layers->base->fd, buffer, part, at);
		if (!code)
			code = compare_part(region->base, at < based ? buffer : NULL,
					    at / page_bytes, part / page_bytes, page_bytes, runs);
	}
	free(buffer);
	return code;
}
