/* SPDX-License-Identifier: MIT */
/* commit.h - a commit under way, which commit.c and log.c finish: see there. */
#ifndef UFFD_COMMIT_H
#define UFFD_COMMIT_H

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

	uint8_t *sealed; /* room for a page; NULL: nothing is enciphered */
	struct writer writer;
	struct ranges superseded; /* taken by this commit, and not needed by it any more */
};

/* ---- commit.c */

/* It cannot be finished any more. Returns code. */
int commit_fail(struct commit *commit, int code, const char *doing, struct thaw_error *error);
/* What the file is to have of a page, until the next one is asked for. Of an extent that is complete but for its place. */
const void *commit_seal(struct commit *commit, uint64_t page, const struct extent *extent,
			const void *bytes);
/* It is durable, or undone. */
void commit_free(struct commit *commit);

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
