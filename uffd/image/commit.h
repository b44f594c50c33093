/* SPDX-License-Identifier: MIT */
/* commit.h - a commit under way, which commit.c and log.c finish: see there. */
#ifndef UFFD_COMMIT_H
#define UFFD_COMMIT_H

#include "encoders.h"
#include "store.h"
#include "writer.h"

struct commit {
	struct image *image;
	uint64_t number;
	uint64_t pages; /* stored, each counted once */
	uint64_t dropped;
	bool failed, in_doubt;
	bool touched; /* it has changed the index */
	bool large;   /* too much for the log: pages go straight into the file */
	bool renamed; /* it has changed the names */

	struct thaw_name *names; /* the new list of names; generation 0: the one that is made */
	unsigned name_count;
	uint64_t *working_set; /* NULL: the one before stays */
	unsigned working_set_count;
	uint64_t working_set_generation;

	/*
	 * Whole pages, which begin at a block, and what is packed. What follows the pages, from the nodes on, goes on where
	 * the packed ones end, if there are any.
	 */
	struct writer writer, packed;
	struct ranges superseded; /* taken by this commit, and not needed by it any more */

	/* See page_add(): how many pages it was asked to store; threads; there are none; no page from this one on is with them. */
	uint64_t added;
	struct encoders *encoders;
	bool alone;
	uint64_t under_way_end;
};

static inline struct writer *commit_tail(struct commit *commit)
{
	return commit->packed.run_used ? &commit->packed : &commit->writer;
}

/* ---- commit.c */

/* It cannot be finished any more. Returns code. */
int commit_fail(struct commit *commit, int code, const char *doing, struct thaw_error *error);
/* All of a commit that makes no generation, but a record of what there is. */
int commit_record(struct image *image, struct thaw_error *error);
/* It is durable, or undone. */
void commit_free(struct commit *commit);

/* ---- commit_pages.c */

/* Stores page `number`, which the extent describes but for its place, encoding and length. -ENOMEM, -errno. */
int commit_put(struct commit *commit, uint64_t number, const void *bytes, struct extent *extent);
/* The same later, and the index is told: of a page that this commit has staged. Until commit_pages_settle(). */
int commit_place(struct commit *commit, uint64_t number, const struct extent *extent,
		 const void *bytes);
/* The threads that encode end. What they have and is not stored is not: for a commit that is going to be undone. */
void commit_pages_stop(struct commit *commit);

/* ---- log.c */

/* Is there room in memory for one more page of it? */
bool log_has_room(const struct commit *commit);
/* Put what is staged into the file: the commit is too large for the log. */
int log_spill(struct commit *commit, struct thaw_error *error);
/* Put what is staged, or in the log alone, into the file, for a commit that is going to hold it all. */
int log_place(struct commit *commit);
/* Room for a log, if the owner wants one, in the record that is going to be written. */
int log_make(struct commit *commit, struct log_area *area);

#endif
