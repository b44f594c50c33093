// SPDX-License-Identifier: MIT
/*
 * address_space.c - what /proc tells of a guest's mappings (address_space.h): lines of maps, pages that are the
 * process's own, flags of smaps. Called by mappings*.c while the guest is stopped, on the owner's thread:
 * a process has thousands of mappings, and each microsecond per line is felt.
 */
#define _GNU_SOURCE
#include "process/memory/address_space.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/array.h"
#include "base/clock.h"
#include "compat.h"

/* Of pagemap: Documentation/admin-guide/mm/pagemap.rst. */
#define PAGEMAP_FILE (1ull << 61)
#define PAGEMAP_SWAPPED (1ull << 62)
#define PAGEMAP_PRESENT (1ull << 63)
#define SCAN_REGIONS 512u

char *proc_read(pid_t pid, const char *name, size_t *bytes, int *error)
{
	size_t used = 0, room = 256 << 10;
	char path[64], *text;
	ssize_t got;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	text = fd < 0 ? NULL : malloc(room);
	*error = fd < 0 ? -errno : text ? 0 : -ENOMEM;
	while (text) {
		if (used + 4096 + 1 > room) {
			char *more = realloc(text, room *= 2);

			if (!more) {
				*error = -ENOMEM;
				break;
			}
			text = more;
		}
		got = read(fd, text + used, room - used - 1);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			*error = -errno;
		if (got <= 0)
			break;
		used += (size_t)got;
	}
	if (fd >= 0)
		close(fd);
	if (*error) {
		free(text);
		return NULL;
	}
	text[used] = '\0';
	if (bytes)
		*bytes = used;
	return text;
}

static const char *take_hex(const char *at, uint64_t *number)
{
	uint64_t value = 0;

	for (;; at++) {
		unsigned digit = (unsigned)(*at - '0');

		if (digit > 9) {
			digit = (unsigned)(*at - 'a') + 10;
			if (digit < 10 || digit > 15)
				break;
		}
		value = value << 4 | digit;
	}
	*number = value;
	return at;
}

/* 55cd22dc8000-55cd22dcb000 r-xp 00003000 fe:00 248030                     /usr/bin/sed */
bool seen_mapping_parse(const char **text, struct seen_mapping *seen)
{
	const char *at = *text, *end;
	uint64_t major, minor;

	if (!*at)
		return false;
	at = take_hex(at, &seen->start);
	if (*at != '-')
		return false;
	at = take_hex(at + 1, &seen->end);
	if (strnlen(at, 6) < 6)
		return false;
	seen->protection = (at[1] == 'r' ? PROT_READ : 0u) | (at[2] == 'w' ? PROT_WRITE : 0u) |
			   (at[3] == 'x' ? PROT_EXEC : 0u);
	seen->shared = at[4] == 's';
	at = take_hex(at + 6, &seen->offset);
	at = take_hex(at + (*at == ' '), &major);
	at = take_hex(at + (*at == ':'), &minor);
	seen->device = makedev((unsigned)major, (unsigned)minor);
	at += *at == ' ';
	for (seen->inode = 0; *at >= '0' && *at <= '9'; at++)
		seen->inode = seen->inode * 10 + (uint64_t)(*at - '0');
	while (*at == ' ')
		at++;
	end = strchrnul(at, '\n');
	seen->name = at;
	seen->name_bytes = (size_t)(end - at);
	*text = *end ? end + 1 : end;
	return true;
}

bool address_is_local(uint64_t start, uint64_t end)
{
	return start < LOCAL_END && end > LOCAL_START;
}

struct address_space *address_space_get(struct process *process)
{
	struct address_space *space = process->space;
	char path[64];

	if (!space) {
		space = process->space = calloc(1, sizeof(*space));
		if (!space)
			return NULL;
		space->pagemap = -1;
	}
	if (space->pid != process->remote.pid) {
		if (space->pagemap >= 0)
			close(space->pagemap);
		snprintf(path, sizeof(path), "/proc/%d/pagemap", (int)process->remote.pid);
		space->pagemap = open(path, O_RDONLY | O_CLOEXEC);
		space->pid = process->remote.pid;
	}
	return space;
}

static bool add_run(struct address_space *space, uint64_t start, uint64_t end)
{
	struct thaw_range *runs;

	if (space->run_count && space->runs[space->run_count - 1].end == start) {
		space->runs[space->run_count - 1].end = end;
		return true;
	}
	runs = array_grow(space->runs, space->run_count, &space->run_room, sizeof(*runs));
	if (!runs)
		return false;
	space->runs = runs;
	runs[space->run_count++] = (struct thaw_range){start, end};
	return true;
}

/* Before 6.7: one number a page. */
static int read_pagemap(struct address_space *space, uint64_t start, uint64_t end)
{
	uint64_t entries[1024];

	while (start < end) {
		size_t count = (end - start) / PAGE < 1024 ? (end - start) / PAGE : 1024;
		ssize_t got = pread(space->pagemap, entries, count * sizeof(*entries),
				    (off_t)(start / PAGE * sizeof(*entries)));

		if (got <= 0)
			return got ? -errno : -EIO;
		for (size_t i = 0; i < (size_t)got / sizeof(*entries); i++, start += PAGE)
			if (entries[i] & (PAGEMAP_PRESENT | PAGEMAP_SWAPPED) &&
			    !(entries[i] & PAGEMAP_FILE) && !add_run(space, start, start + PAGE))
				return -ENOMEM;
	}
	return 0;
}

int address_space_scan(struct address_space *space, uint64_t start, uint64_t end)
{
	struct page_region regions[SCAN_REGIONS];
	struct pm_scan_arg scan = {
		.size = sizeof(scan),
		.start = start,
		.end = end,
		.vec = (uintptr_t)regions,
		.vec_len = SCAN_REGIONS,
		.category_inverted = PAGE_IS_FILE,
		.category_mask = PAGE_IS_FILE,
		.category_anyof_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
		.return_mask = PAGE_IS_PRESENT,
	};

	size_t before = space->run_count;

	if (space->pagemap < 0)
		return -EACCES;
	while (!space->no_scan && scan.start < end) {
		int found = ioctl(space->pagemap, PAGEMAP_SCAN, &scan);

		if (found < 0 && errno == EINTR)
			continue;
		if (found < 0 && (errno == ENOTTY || errno == EINVAL)) {
			space->no_scan = true;
			break;
		}
		if (found < 0)
			return -errno;
		for (int i = 0; i < found; i++)
			if (!add_run(space, regions[i].start, regions[i].end))
				return -ENOMEM;
		if (scan.walk_end <= scan.start)
			return -EIO;
		scan.start = scan.walk_end;
	}
	if (!space->no_scan)
		return 0;
	space->run_count = before;
	return read_pagemap(space, start, end);
}

/* ---- Flags: /proc/PID/smaps */

static uint32_t parse_flags(const char *at, const char *end, const char **refusal)
{
	static const struct {
		char name[3];
		uint32_t flag;
	} known[] = {{"gd", MAPPING_GROWS_DOWN}, {"wf", MAPPING_WIPE_ON_FORK},
		     {"dc", MAPPING_DONT_FORK},	 {"hg", MAPPING_HUGE},
		     {"nh", MAPPING_NO_HUGE},	 {"dd", MAPPING_DONT_DUMP},
		     {"lo", MAPPING_LOCKED},	 {"dp", MAPPING_DROPPABLE}};
	uint32_t flags = 0;

	for (; at + 2 <= end; at += 3) {
		for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++)
			if (!memcmp(at, known[i].name, 2))
				flags |= known[i].flag;
		if (!memcmp(at, "ht", 2))
			*refusal = "it is of huge pages (hugetlbfs)";
		if (!memcmp(at, "ss", 2))
			*refusal = "it is a shadow stack (CET)";
	}
	return flags;
}

int address_space_read_flags(struct address_space *space)
{
	uint64_t begun = clock_monotonic_ns();
	struct known_flags *list = NULL;
	struct seen_mapping seen = {0};
	size_t count = 0, room = 0;
	const char *at, *line;
	uint32_t key = 0;
	int rc;
	char *text = proc_read(space->pid, "smaps", NULL, &rc);

	if (!text)
		return rc;
	for (at = text; *at;) {
		struct known_flags *more;

		line = at;
		at = strchrnul(at, '\n');
		at += *at == '\n';
		if (!(line[0] >= 'A' && line[0] <= 'Z')) {
			seen_mapping_parse(&line, &seen);
			key = 0;
			continue;
		}
		if (!strncmp(line, "ProtectionKey:", 14))
			key = (uint32_t)strtoul(line + 14, NULL, 10);
		if (strncmp(line, "VmFlags: ", 9))
			continue;
		more = array_grow(list, count, &room, sizeof(*list));
		if (!more) {
			rc = -ENOMEM;
			break;
		}
		list = more;
		list[count] =
			(struct known_flags){.start = seen.start, .end = seen.end, .key = key};
		list[count].flags = parse_flags(line + 9, at, &list[count].refusal);
		count++;
	}
	free(text);
	if (rc) {
		free(list);
		return rc;
	}
	free(space->flags);
	space->flags = list;
	space->flag_count = count;
	space->flags_read_ns = clock_monotonic_ns();
	space->flags_cost_ns = space->flags_read_ns - begun;
	return 0;
}

const struct known_flags *address_space_flags(const struct address_space *space, uint64_t start,
					      uint64_t end)
{
	size_t low = 0, high = space->flag_count;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (space->flags[middle].end <= start)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == space->flag_count || space->flags[low].start >= end)
		return NULL;
	return &space->flags[low];
}
