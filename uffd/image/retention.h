/* SPDX-License-Identifier: MIT */
/* retention.h - which generations stay, and how those of a list are related. See retention.c. */
#ifndef UFFD_RETENTION_H
#define UFFD_RETENTION_H

#include "store.h"

/* keep[i]: does generation i of the list, the newest of which was just made, stay? */
void retention_mark(const struct retention *retention, const struct record *list, bool *keep);

/*
 * Copy what stays, and name as ancestor of each the nearest one that stays. `kept` has room for all
 * of the list. Returns how many; -ENOMEM.
 */
int retention_apply(const struct generation *list, unsigned count, const bool *keep,
		    struct generation *kept);

/*
 * The record of those that `keep` marks and of their names; where the portable one that a generation
 * names is not among them, it names the next best. Its place is none yet. The caller frees it. -ENOMEM.
 */
int retention_select(const struct record *record, const bool *keep, struct record *kept);

/*
 * The roots of the generations that generation i can share anything with that no other one of them
 * shares too: those adjacent to it, of those that `among` marks (NULL: all before it). `ancestors`:
 * of all, as they are now; NULL: as they are listed. Returns how many, into `roots`.
 */
unsigned retention_adjacent(const struct generation *list, unsigned count,
			    const uint64_t *ancestors, const bool *among, unsigned i,
			    const struct root **roots);

/*
 * Visits a list once, newest first, so that each generation is adjacent to one before it, if to any: then what it shares
 * with those before it, it shares with `adjacent` ones of them, whose `roots` are told beside it. The other such order is
 * the list's own, oldest first. The list is borrowed.
 */
struct retention_tour {
	const struct generation *list;
	unsigned count, done;
	unsigned *order;
	bool *visited;
	const struct root **roots;
	unsigned adjacent;
};

/* -ENOMEM. Ends with retention_tour_end() in any case. */
int retention_tour_begin(struct retention_tour *tour, const struct generation *list,
			 unsigned count);
/* The next one; NULL: there is none. */
const struct generation *retention_tour_next(struct retention_tour *tour);
void retention_tour_end(struct retention_tour *tour);

#endif
