/* SPDX-License-Identifier: MIT */
/*
 * snapshot_diff.c - in what two snapshots differ: by pages, which libthaw compares (thaw_frozen_diff), and by what the program
 * calls it, which vm/inspect reads of the heaps. Any thread.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/failure.h"
#include "embed.h"
#include "inspect/heap_diff.h"

struct counting {
	const struct thaw_frozen *sides[2];
	char *pages[2];
	struct heap_diff_pages kinds;
	uint64_t bytes;
	struct thaw_error *error;
};

/* Zeros behind its end. */
static int read_page(const struct counting *counting, unsigned side, uint64_t number)
{
	size_t page_bytes = thaw_frozen_page_bytes();
	const struct thaw_frozen *frozen = counting->sides[side];

	memset(counting->pages[side], 0, page_bytes);
	if ((number + 1) * page_bytes > thaw_frozen_bytes(frozen))
		return 0;
	return thaw_frozen_read(frozen, number * page_bytes, counting->pages[side], page_bytes,
				counting->error);
}

static int count(void *arg, const struct thaw_page_change *change)
{
	struct counting *counting = arg;
	uint64_t *kind = change->kind == THAW_CHANGE_APPEARED	? &counting->kinds.appeared
			 : change->kind == THAW_CHANGE_VANISHED ? &counting->kinds.vanished
								: &counting->kinds.changed;
	int code = 0;

	*kind += change->pages;
	for (uint64_t i = 0; !code && i < change->pages; i++) {
		code = read_page(counting, 0, change->first + i);
		if (!code)
			code = read_page(counting, 1, change->first + i);
		for (size_t at = 0; !code && at < thaw_frozen_page_bytes(); at++)
			counting->bytes += counting->pages[0][at] != counting->pages[1][at];
	}
	return code;
}

static int count_pages(struct counting *counting)
{
	int code;

	counting->pages[0] = malloc(2 * thaw_frozen_page_bytes());
	if (!counting->pages[0])
		return failure(counting->error, -ENOMEM, "no memory to compare snapshots");
	counting->pages[1] = counting->pages[0] + thaw_frozen_page_bytes();
	code = thaw_frozen_diff(counting->sides[0], counting->sides[1], count, counting,
				counting->error);
	free(counting->pages[0]);
	return code;
}

static int read_frozen(void *arg, uint64_t offset, void *buffer, size_t bytes,
		       struct thaw_error *error)
{
	return thaw_frozen_read(arg, offset, buffer, bytes, error);
}

static int open_side(struct inspection *inspection, struct thaw_frozen *frozen,
		     struct thaw_error *error)
{
	const struct graph_source source = {.read = read_frozen,
					    .arg = frozen,
					    .bytes = thaw_frozen_bytes(frozen),
					    .name = "the snapshot"};
	size_t bytes;
	const void *state = thaw_frozen_state(frozen, &bytes);

	*inspection = (struct inspection){.path = source.name};
	return inspection_open_heap(inspection, &source, state, bytes, error);
}

static int compare_objects(struct inspection sides[2], const struct heap_diff_pages *pages,
			   char **json, struct thaw_error *error)
{
	const struct heap_diff_options options = {.json = true, .pages = *pages};
	size_t bytes;
	FILE *to = open_memstream(json, &bytes);
	int code;

	if (!to)
		return failure(error, -ENOMEM, "no memory to compare snapshots");
	code = heap_diff_write(sides, &options, to, error);
	if ((ferror(to) | fclose(to)) && !code)
		code = failure(error, -ENOMEM, "no memory to compare snapshots");
	if (code) {
		free(*json);
		*json = NULL;
	}
	return code;
}

static int compare(struct thaw_frozen *const frozen[2], const struct heap_diff_pages *pages,
		   char **json, struct thaw_error *error)
{
	struct inspection sides[2];
	int code = open_side(&sides[0], frozen[0], error);

	if (code)
		return code;
	code = open_side(&sides[1], frozen[1], error);
	if (!code) {
		code = compare_objects(sides, pages, json, error);
		inspection_close(&sides[1]);
	}
	inspection_close(&sides[0]);
	return code;
}

int thaw_vm_snapshot_diff(struct thaw_vm_snapshot *from, struct thaw_vm_snapshot *to,
			  struct thaw_vm_difference *difference, char **json,
			  struct thaw_error *error)
{
	struct thaw_frozen *const frozen[2] = {snapshot_frozen(from), snapshot_frozen(to)};
	struct counting counting = {.sides = {frozen[0], frozen[1]}, .error = error};
	int code;

	if (json)
		*json = NULL;
	counting.kinds.bytes_each = (uint32_t)thaw_frozen_page_bytes();
	code = count_pages(&counting);
	if (code)
		return code;
	*difference = (struct thaw_vm_difference){counting.kinds.changed + counting.kinds.appeared +
							  counting.kinds.vanished,
						  counting.bytes};
	return json ? compare(frozen, &counting.kinds, json, error) : 0;
}
