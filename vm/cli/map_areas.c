/* SPDX-License-Identifier: MIT */
/*
 * map_areas.c - thaw map of a process: which of its address space is drawn, and where. An address space is almost
 * empty, so only clusters in which something is stored are drawn: area by area, those that belong together in one
 * group with a name. The cells of all groups stand for the same number of pages.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/array.h"
#include "base/failure.h"
#include "map.h"

#define SPAN_PAGES 16u
#define GROUPS_MOST 250u /* keeps the picture small: the last one has all the rest */

/* ---- Groups */

static bool is_anonymous(const struct area *area)
{
	return !*area->name && (area->kind == AREA_MEMORY || area->kind == AREA_CODE ||
				area->kind == AREA_RESERVED);
}

/* Allocators map and unmap all the time: what they have lies in many pieces. The parts of a file are mapped one by one. */
static bool belong_together(const struct area *one, const struct area *next)
{
	if (is_anonymous(one) || is_anonymous(next))
		return is_anonymous(one) && is_anonymous(next);
	if (!strncmp(next->name, "data of ", 8))
		return !strcmp(next->name + 8, area_short_name(one));
	return one->kind == next->kind && !strcmp(area_short_name(one), area_short_name(next));
}

static struct map_group *group_for(struct map *map, const struct area *area)
{
	struct map_group *group = map->group_count ? &map->group[map->group_count - 1] : NULL;

	if (group && (group->last == area || map->group_count == GROUPS_MOST ||
		      belong_together(group->last, area)))
		return group;
	group = array_grow(map->group, map->group_count, &map->group_room, sizeof(*group));
	if (!group) {
		map->failed = true;
		return NULL;
	}
	map->group = group;
	group += map->group_count++;
	*group = (struct map_group){.first = area};
	return group;
}

/* ---- What is drawn of them */

static void add_span(void *arg, const struct area *area, uint64_t first, uint64_t pages)
{
	struct map *map = arg;
	struct map_span *span = map->span_count ? &map->span[map->span_count - 1] : NULL;
	uint64_t end = first + pages;
	struct map_group *group;

	if (!area || map->failed)
		return;
	group = group_for(map, area);
	if (!group)
		return;
	if (group->last != area) {
		group->last = area;
		group->areas++;
		group->bytes += area->end - area->start;
	}
	/* Whole clusters, within the area. */
	first -= first % SPAN_PAGES;
	end += SPAN_PAGES - 1 - (end - 1) % SPAN_PAGES;
	if (first < area->start / map->page_bytes)
		first = area->start / map->page_bytes;
	if (end > area->end / map->page_bytes)
		end = area->end / map->page_bytes;
	if (span && span->first + span->pages > first)
		first = span->first + span->pages;
	if (first >= end)
		return;
	if (!span || span->first + span->pages != first ||
	    span->group != (uint32_t)(group - map->group)) {
		span = array_grow(map->span, map->span_count, &map->span_room, sizeof(*span));
		if (!span) {
			map->failed = true;
			return;
		}
		map->span = span;
		span += map->span_count++;
		*span = (struct map_span){first, 0, (uint32_t)(group - map->group), group->pages};
	}
	span->pages += end - first;
	group->pages += end - first;
}

static int add_stored(void *arg, const struct thaw_page_run *run)
{
	struct map *map = arg;

	if (run->kind == THAW_PAGE_STORED || run->kind == THAW_PAGE_LOST ||
	    run->birth == map->generation.number)
		description_split(&map->description, map->page_bytes, run->first, run->pages,
				  add_span, map);
	return map->failed ? -ENOMEM : 0;
}

static void place_cells(struct map *map)
{
	map->cell_pages = 1;
	do {
		map->cells = 0;
		for (size_t i = 0; i < map->group_count; i++) {
			struct map_group *group = &map->group[i];

			group->cell = map->cells;
			group->cells = (group->pages + map->cell_pages - 1) / map->cell_pages;
			map->cells += group->cells;
		}
		map->cell_pages *= 2;
	} while (map->cells > MAP_CELLS_MAX);
	map->cell_pages /= 2;
}

int map_areas_open(struct map *map, struct thaw_image *image, struct thaw_error *error)
{
	int code = description_read(image, map->generation.number, map->path, &map->description,
				    error);

	if (code)
		return code;
	code = thaw_image_pages(image, map->generation.number, add_stored, map, error);
	if (code && code != THAW_EDAMAGED)
		return code == -ENOMEM
			       ? failure(error, code, "%s: no memory for its map", map->path)
			       : code;
	place_cells(map);
	return 0;
}

void map_areas_close(struct map *map)
{
	description_free(&map->description);
	free(map->group);
	free(map->span);
}

/* ---- Counting */

struct adding {
	struct map *map;
	const struct map_counts *kind;
	uint32_t rank;
};

static size_t first_span(const struct map *map, uint64_t page)
{
	size_t low = 0, high = map->span_count;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (map->span[middle].first + map->span[middle].pages <= page)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static void add_part(void *arg, const struct area *area, uint64_t first, uint64_t pages)
{
	const struct adding *adding = arg;
	struct map *map = adding->map;
	struct map_counts kind = *adding->kind;
	uint64_t end = first + pages;

	if (!area || area->kind == AREA_KERNEL || (kind.free && area->kind == AREA_RESERVED))
		return;
	if (kind.free && (area->kind == AREA_FILE || area->kind == AREA_SHARED_FILE)) {
		kind.free = 0;
		kind.file = 1;
	}
	map_counts_add(&map->counts, &kind, pages);
	for (size_t i = first_span(map, first); i < map->span_count && map->span[i].first < end;
	     i++) {
		const struct map_span *span = &map->span[i];
		struct map_group *group = &map->group[span->group];
		uint64_t from = first > span->first ? first : span->first;
		uint64_t to = end < span->first + span->pages ? end : span->first + span->pages;

		group->stored += (kind.stored + kind.dirty) * (to - from);
		map_add(map, group->cell, span->at + (from - span->first), to - from, &kind,
			adding->rank);
	}
}

void map_areas_add(struct map *map, uint64_t first, uint64_t pages, const struct map_counts *kind,
		   uint32_t rank)
{
	struct adding adding = {map, kind, rank};

	description_split(&map->description, map->page_bytes, first, pages, add_part, &adding);
}
