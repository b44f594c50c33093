/* SPDX-License-Identifier: MIT */
/*
 * retention.c - which generations stay, and how those of a list are related. Any thread; no state.
 *
 * Generations form a tree of descent. Most of it is dropped; `ancestor` of a generation is the nearest one
 * still listed that it descends from. Two are *adjacent* if one is the other's ancestor, or both have the same:
 *
 *	1 --- 4 --- 5		4 and 7 have the same ancestor: 3, which both were made
 *	 `--- 7 --- 8		from, was dropped. 5 and 8 share nothing that 4 and 7 do not.
 *
 * Changed contents never return, so the generations that share a block are connected in the tree, and through
 * adjacent ones. Visited in an order in which each new one is adjacent to one before, a generation finds all
 * that it shares with any of those by comparing it with its adjacent ones alone.
 */
#include "retention.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static unsigned list_position(const struct generation *list, unsigned count, uint64_t number)
{
	const struct record record = {.generations = (struct generation *)list, .count = count};
	const struct generation *found = record_find(&record, number);

	return found ? (unsigned)(found - list) : count;
}

static bool period_is_among(uint64_t period, const uint64_t *periods, unsigned count)
{
	/* If the clock went backwards: the time of the one before. */
	while (count-- > 0)
		if (periods[count] == period)
			return true;
	return false;
}

/*
 * The newest of each of the last `count` periods that have one. The clock may have been set between
 * any two: "newest" means made last, whatever its time says, and a period counts once.
 */
static void thin(const struct thaw_thinning *rule, const struct record *list, bool *keep)
{
	uint64_t periods[STORE_THINNED_MAX], lowest = UINT64_MAX;
	unsigned found = 0;

	for (unsigned i = list->count; i-- > 0 && found < rule->count;) {
		uint64_t period = list->generations[i].info.time_ns / rule->period_ns;

		if (period >= lowest && period_is_among(period, periods, found))
			continue;
		keep[i] = true;
		periods[found++] = period;
		lowest = period < lowest ? period : lowest;
	}
}

void retention_mark(const struct retention *retention, const struct record *list, bool *keep)
{
	const struct generation *newest = &list->generations[list->count - 1];
	unsigned portable = list_position(list->generations, list->count, newest->info.portable);

	for (unsigned i = 0; i < list->count; i++)
		keep[i] = retention->all || list->count - i <= retention->newest;
	if (portable < list->count)
		keep[portable] = true;
	for (unsigned i = 0; i < list->name_count; i++) {
		unsigned named =
			list_position(list->generations, list->count, list->names[i].generation);

		if (named < list->count)
			keep[named] = true;
	}
	for (unsigned i = 0; i < retention->thinning_count; i++)
		thin(&retention->thinning[i], list, keep);
}

int retention_apply(const struct generation *list, unsigned count, const bool *keep,
		    struct generation *kept)
{
	/* For each: the nearest one that stays, itself included. */
	uint64_t *nearest = calloc(count + 1, sizeof(*nearest));
	unsigned stay = 0;

	if (!nearest)
		return -ENOMEM;
	for (unsigned i = 0; i < count; i++) {
		unsigned ancestor = list_position(list, i, list[i].info.ancestor);
		uint64_t above = ancestor < i ? nearest[ancestor] : 0;

		nearest[i] = keep[i] ? list[i].info.number : above;
		if (keep[i]) {
			kept[stay] = list[i];
			kept[stay++].info.ancestor = above;
		}
	}
	free(nearest);
	return (int)stay;
}

int retention_select(const struct record *record, const bool *keep, struct record *kept)
{
	int stay;

	*kept = (struct record){.working_set = record->working_set};
	kept->generations = calloc(record->count + 1, sizeof(*kept->generations));
	kept->names = calloc(record->name_count + 1, sizeof(*kept->names));
	stay = kept->generations && kept->names
		       ? retention_apply(record->generations, record->count, keep,
					 kept->generations)
		       : -ENOMEM;
	if (stay < 0) {
		record_free(kept);
		return stay;
	}
	kept->count = (unsigned)stay;
	for (unsigned i = 0; i < record->name_count; i++)
		if (record_find(kept, record->names[i].generation))
			kept->names[kept->name_count++] = record->names[i];
	for (unsigned i = 0; i < kept->count; i++) { /* those before are right already */
		struct thaw_generation *info = &kept->generations[i].info;
		const struct generation *above = record_find(kept, info->ancestor);

		if (record_find(record, info->portable) && !record_find(kept, info->portable))
			info->portable = above ? above->info.portable : 0;
	}
	return 0;
}

unsigned retention_adjacent(const struct generation *list, unsigned count,
			    const uint64_t *ancestors, const bool *among, unsigned i,
			    const struct root **roots)
{
	uint64_t above = ancestors ? ancestors[i] : list[i].info.ancestor;
	unsigned found = 0;

	for (unsigned j = 0; j < (among ? count : i); j++) {
		uint64_t other = ancestors ? ancestors[j] : list[j].info.ancestor;

		if (j != i && (!among || among[j]) &&
		    (other == above || other == list[i].info.number ||
		     above == list[j].info.number))
			roots[found++] = &list[j].root;
	}
	return found;
}

static int order_of(const struct generation *list, unsigned count, unsigned *order)
{
	bool *reached = calloc(count + 1, sizeof(*reached)), *visited;
	unsigned ordered = 0;

	visited = calloc(count + 1, sizeof(*visited));
	if (!reached || !visited) {
		free(reached);
		free(visited);
		return -ENOMEM;
	}
	while (ordered < count) {
		unsigned next = count;

		for (unsigned i = count;
		     i-- > 0;) { /* the newest that was reached, or of the rest */
			if (!visited[i] && (next == count || (reached[i] && !reached[next])))
				next = i;
			if (next < count && reached[next])
				break;
		}
		visited[next] = true;
		order[ordered++] = next;
		for (unsigned j = 0; j < count; j++)
			reached[j] |= list[j].info.ancestor == list[next].info.ancestor ||
				      list[j].info.ancestor == list[next].info.number ||
				      list[next].info.ancestor == list[j].info.number;
	}
	free(reached);
	free(visited);
	return 0;
}

int retention_tour_begin(struct retention_tour *tour, const struct generation *list, unsigned count)
{
	*tour = (struct retention_tour){
		.list = list,
		.count = count,
		.order = calloc(count + 1, sizeof(*tour->order)),
		.visited = calloc(count + 1, sizeof(*tour->visited)),
		.roots = calloc(count + 1, sizeof(*tour->roots)),
	};
	if (!tour->order || !tour->visited || !tour->roots)
		return -ENOMEM;
	return order_of(list, count, tour->order);
}

const struct generation *retention_tour_next(struct retention_tour *tour)
{
	unsigned i;

	if (tour->done == tour->count)
		return NULL;
	i = tour->order[tour->done++];
	tour->adjacent =
		retention_adjacent(tour->list, tour->count, NULL, tour->visited, i, tour->roots);
	tour->visited[i] = true;
	return &tour->list[i];
}

void retention_tour_end(struct retention_tour *tour)
{
	free(tour->order);
	free(tour->visited);
	free(tour->roots);
}
