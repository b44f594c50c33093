/* SPDX-License-Identifier: MIT */
/*
 * resident.c - which pages of a heap are in the memory of the process that has it open, as far as the
 * kernel tells whoever asks (who may look into that process: its user, or root). Nothing of the process
 * is stopped or touched, so what is told may be a moment old.
 *
 * The heap is the one stretch of its address space that is registered with userfaultfd, which the
 * kernel shows as "um", "uw" or "ui" among the VmFlags in /proc/PID/smaps (proc_pid_smaps(5)). Its
 * first page is the heap's first page (uffd/region.h).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "map.h"

#define PRESENT (1ull << 63) /* in an entry of /proc/PID/pagemap: the page is in memory */
#define ENTRIES 8192u	     /* read at once */

struct heap_range {
	uint64_t from, to;
	bool several;
};

/* "rd wr mr mw me um uw": is one of them userfaultfd's? */
static bool flags_tracked(const char *line)
{
	return strstr(line, " um") || strstr(line, " uw") || strstr(line, " ui");
}

static bool find_heap(uint64_t pid, struct heap_range *heap)
{
	unsigned long long from = 0, to = 0;
	char path[64], *line = NULL;
	size_t room = 0;
	FILE *smaps;

	*heap = (struct heap_range){0};
	snprintf(path, sizeof(path), "/proc/%llu/smaps", (unsigned long long)pid);
	smaps = fopen(path, "re");
	if (!smaps)
		return false;
	while (getline(&line, &room, smaps) > 0) {
		unsigned long long first, end;
		char protection;

		if (sscanf(line, "%llx-%llx %c", &first, &end, &protection) == 3) {
			from = first;
			to = end;
		} else if (!strncmp(line, "VmFlags:", 8) && flags_tracked(line)) {
			heap->several |= heap->to && heap->to != from;
			if (!heap->to)
				heap->from = from;
			heap->to = to;
		}
	}
	free(line);
	fclose(smaps);
	return true;
}

/*
 * From one file of entries, those of the heap: `count` of the kernel's pages, of which `each` make one of
 * the image. That is in memory if some of it is.
 */
static void read_entries(int pagemap, uint64_t from, uint64_t count, unsigned each,
			 void (*run)(void *arg, uint64_t first, uint64_t pages), void *arg)
{
	uint64_t *entries = malloc(ENTRIES * sizeof(*entries)), run_first = 0, run_pages = 0;

	for (uint64_t entry = 0; entries && entry < count;) {
		size_t wish = count - entry < ENTRIES ? (size_t)(count - entry) : ENTRIES;
		ssize_t got = pread(pagemap, entries, wish * sizeof(*entries),
				    (off_t)((from + entry) * sizeof(*entries)));

		if (got < 0 && errno == EINTR)
			continue;
		if (got < (ssize_t)sizeof(*entries)) /* the process has ended */
			break;
		for (size_t i = 0; i < (size_t)got / sizeof(*entries); i++, entry++) {
			uint64_t page = entry / each;

			if (!(entries[i] & PRESENT))
				continue;
			if (run_pages && run_first + run_pages < page) {
				run(arg, run_first, run_pages);
				run_pages = 0;
			}
			run_first = run_pages ? run_first : page;
			run_pages = page + 1 - run_first;
		}
	}
	if (run_pages)
		run(arg, run_first, run_pages);
	free(entries);
}

const char *resident_pages(uint64_t pid, uint64_t pages, uint32_t page_bytes,
			   void (*run)(void *arg, uint64_t first, uint64_t pages), void *arg)
{
	uint64_t kernel_bytes = (uint64_t)sysconf(_SC_PAGESIZE);
	struct heap_range heap;
	char path[64];
	int pagemap;

	if (!pid)
		return "not running";
	if (page_bytes % kernel_bytes) /* then no process of this machine has it open */
		return "unknown: its pages are smaller than this machine's";
	if (!find_heap(pid, &heap))
		return "unknown: only the user of its process may look into it";
	if (heap.several)
		return "unknown: its process has several heaps open";
	if (!heap.to)
		return "unknown: its process shows no heap";
	snprintf(path, sizeof(path), "/proc/%llu/pagemap", (unsigned long long)pid);
	pagemap = open(path, O_RDONLY | O_CLOEXEC);
	if (pagemap < 0)
		return "unknown: only the user of its process may look into it";
	if (pages > (heap.to - heap.from) / page_bytes)
		pages = (heap.to - heap.from) / page_bytes;
	read_entries(pagemap, heap.from / kernel_bytes, pages * (page_bytes / kernel_bytes),
		     page_bytes / kernel_bytes, run, arg);
	close(pagemap);
	return NULL;
}
