/* SPDX-License-Identifier: MIT */
/*
 * resident.c - which pages of a heap are in the memory of the process that has it open. The kernel
 * says it to the user of that process and to root. The process is neither stopped nor changed, so
 * the answer may be a moment old.
 *
 * The heap is the only part of the address space that is registered with userfaultfd, which the
 * kernel shows as "um", "uw" or "ui" among the VmFlags in /proc/PID/smaps (proc_pid_smaps(5)). It
 * begins with the first page of the heap (uffd/region.h). That of a process (thaw exec) is its address space.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "compat.h"
#include "map.h"

#define PRESENT (1ull << 63) /* in an entry of /proc/PID/pagemap: the page is in memory */
#define ENTRIES 8192u	     /* read per call */
#define RANGES 1024u	     /* ranges per call */

struct heap_range {
	uint64_t from, to;
	bool several;
};

/* `line` is like "rd wr mr mw me um uw": is one of them a flag of userfaultfd? */
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

/* Runs of pages in ascending order; one may begin in the page in which the one before ends. */
struct runs {
	uint64_t first, pages; /* the run that may still grow */
	void (*run)(void *arg, uint64_t first, uint64_t pages);
	void *arg;
};

static void runs_add(struct runs *runs, uint64_t first, uint64_t end)
{
	if (runs->pages && runs->first + runs->pages < first) {
		runs->run(runs->arg, runs->first, runs->pages);
		runs->pages = 0;
	}
	if (!runs->pages)
		runs->first = first;
	runs->pages = end - runs->first;
}

/*
 * Finds which of `count` pages of the kernel are in memory. `each` of them make one page of the
 * image, which counts as in memory if any of them is. The kernel returns ranges and skips the rest
 * (Linux 6.7). False: this kernel cannot.
 */
static bool scan_entries(int pagemap, uint64_t from, uint64_t count, unsigned each,
			 struct runs *runs)
{
	uint64_t bytes = (uint64_t)sysconf(_SC_PAGESIZE), next = from * bytes;
	struct page_region *ranges = malloc(RANGES * sizeof(*ranges));
	bool told = ranges;

	while (told && next < (from + count) * bytes) {
		struct pm_scan_arg scan = {
			.size = sizeof(scan),
			.start = next,
			.end = (from + count) * bytes,
			.vec = (uintptr_t)ranges,
			.vec_len = RANGES,
			.category_mask = PAGE_IS_PRESENT,
			.return_mask = PAGE_IS_PRESENT,
		};
		int found = ioctl(pagemap, PAGEMAP_SCAN, &scan);

		if (found < 0 && errno == EINTR)
			continue;
		if (found < 0) { /* or the process has ended meanwhile */
			told = next != from * bytes;
			break;
		}
		for (int i = 0; i < found; i++)
			runs_add(runs, (ranges[i].start / bytes - from) / each,
				 ((ranges[i].end - 1) / bytes - from) / each + 1);
		next = pagemap_scanned_to(&scan, ranges, found);
	}
	free(ranges);
	return told;
}

/* The same before Linux 6.7: reads an entry for each page. */
static void read_entries(int pagemap, uint64_t from, uint64_t count, unsigned each,
			 struct runs *runs)
{
	uint64_t *entries = malloc(ENTRIES * sizeof(*entries));

	for (uint64_t entry = 0; entries && entry < count;) {
		size_t wish = count - entry < ENTRIES ? (size_t)(count - entry) : ENTRIES;
		ssize_t got = pread(pagemap, entries, wish * sizeof(*entries),
				    (off_t)((from + entry) * sizeof(*entries)));

		if (got < 0 && errno == EINTR)
			continue;
		if (got < (ssize_t)sizeof(*entries)) /* the process has ended */
			break;
		for (size_t i = 0; i < (size_t)got / sizeof(*entries); i++, entry++) {
			if (entries[i] & PRESENT)
				runs_add(runs, entry / each, entry / each + 1);
		}
	}
	free(entries);
}

const char *resident_pages(uint64_t pid, uint64_t pages, uint32_t page_bytes,
			   void (*run)(void *arg, uint64_t first, uint64_t pages), void *arg)
{
	uint64_t kernel_bytes = (uint64_t)sysconf(_SC_PAGESIZE);
	struct runs runs = {.run = run, .arg = arg};
	struct heap_range heap;
	unsigned each;
	char path[64];
	int pagemap;

	if (!pid)
		return "not running";
	if (page_bytes %
	    kernel_bytes) /* the image is of a machine with larger pages: no process here has it open */
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
	each = (unsigned)(page_bytes / kernel_bytes);
	if (!scan_entries(pagemap, heap.from / kernel_bytes, pages * each, each, &runs))
		read_entries(pagemap, heap.from / kernel_bytes, pages * each, each, &runs);
	if (runs.pages)
		run(arg, runs.first, runs.pages);
	close(pagemap);
	return NULL;
}

/* The process whose memory another one serves: its child, under any of its threads; 0: it has none. */
static uint64_t child_of(uint64_t pid)
{
	char path[64];
	unsigned long long child = 0;
	FILE *children;

	snprintf(path, sizeof(path), "/proc/%llu/task/%llu/children", (unsigned long long)pid,
		 (unsigned long long)pid);
	children = fopen(path, "re");
	if (!children)
		return 0;
	if (fscanf(children, "%llu", &child) != 1)
		child = 0;
	fclose(children);
	return child;
}

struct areas_run { /* the runs of an area count from its beginning */
	uint64_t from;
	void (*run)(void *arg, uint64_t first, uint64_t pages);
	void *arg;
};

static void areas_run(void *arg, uint64_t first, uint64_t pages)
{
	const struct areas_run *to = arg;

	to->run(to->arg, to->from + first, pages);
}

const char *resident_areas(uint64_t pid, const struct description *description, uint32_t page_bytes,
			   void (*run)(void *arg, uint64_t first, uint64_t pages), void *arg)
{
	uint64_t kernel_bytes = (uint64_t)sysconf(_SC_PAGESIZE), child;
	char path[64];
	int pagemap;

	if (!pid)
		return "not running";
	if (page_bytes != kernel_bytes)
		return "unknown: its pages are not this machine's";
	child = child_of(pid);
	if (!child)
		return "unknown: its process is not found";
	snprintf(path, sizeof(path), "/proc/%llu/pagemap", (unsigned long long)child);
	pagemap = open(path, O_RDONLY | O_CLOEXEC);
	if (pagemap < 0)
		return "unknown: only the user of its process may look into it";
	for (size_t i = 0; i < description->area_count; i++) {
		const struct area *area = &description->areas[i];
		uint64_t first = area->start / kernel_bytes;
		uint64_t pages = (area->end - area->start) / kernel_bytes;
		struct areas_run to = {first, run, arg};
		struct runs runs = {.run = areas_run, .arg = &to};

		if (area->kind == AREA_RESERVED || area->kind == AREA_KERNEL)
			continue;
		if (!scan_entries(pagemap, first, pages, 1, &runs))
			read_entries(pagemap, first, pages, 1, &runs);
		if (runs.pages)
			areas_run(&to, runs.first, runs.pages);
	}
	close(pagemap);
	return NULL;
}
