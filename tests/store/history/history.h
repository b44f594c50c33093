/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * history.h - random histories of an image whose generations are replicated to a store: what the program was at each moment that
 * a replica may show (struct line), the program (program.c), and what the store has to give back of it (judge.c).
 */
#ifndef TESTS_STORE_HISTORY_H
#define TESTS_STORE_HISTORY_H

#include <stdatomic.h>

#include "crash/crash.h"

#define POINTS 512u
#define POINTS_IN_DOUBT (MAYBE_MAX - 2) /* not acknowledged yet: no program gets further ahead */

/* What the file was from one change of what is durable to the next. */
struct point {
	uint64_t sequence; /* of its header */
	struct listing listing;
};

/* What became of one image file; in memory that the programs share with whoever judges. */
struct line {
	char path[192];
	_Atomic unsigned
		count; /* points; each is complete before it is counted, and before a replica can be of it */
	_Atomic unsigned
		acknowledged; /* so many of them, at least, the store has: said by replicate.h */
	struct point points[POINTS];
	bool known[NUMBERS_MAX];
	struct contents contents[NUMBERS_MAX]; /* by generation */
	/* What is being committed: if a generation appears that nobody knows, it holds this. */
	bool has_next;
	struct contents next;
	_Atomic unsigned steps; /* of the program that runs */
	unsigned found;	    /* of a program that took over: from which point of the other line */
	char problem[1200]; /* what was wrong; "": nothing */
};

struct history_options { /* of the image */
	bool keyed, encrypted, thinned;
	uint32_t page_bytes;
	unsigned retain;
	uint64_t log; /* bytes; 0: none */
	char place[600];
};

enum program_end { /* exit codes */
		   PROGRAM_ENDED,
		   PROGRAM_WRONG = 2, /* line->problem */
		   PROGRAM_FENCED,
};

/* How a program is to run. */
struct life {
	uint64_t seed;
	unsigned steps;
	unsigned flags; /* enum epoch_flags */
	bool killed;	/* by itself, after its last step */
	bool quiet;	/* does not wait for the store before its end */
	/* It takes the store over from the program of that line, which may run: its own file is made from the store. */
	const struct line *from;
	bool whole; /* all of it, before it begins */
};

/* ---- program.c */

__attribute__((format(printf, 2, 3))) void line_problem(struct line *line, const char *format, ...);
/* How images are opened for writing here. */
struct image_options history_image(const struct history_options *options, const char *path);
/* In a process of its own, which ends with it. */
_Noreturn void life_run(struct line *line, const struct history_options *options,
			const struct life *life);
/* A change of a file that no program has open: tags, a rollback, compaction, keys. */
void change_offline(struct line *line, const struct history_options *options, struct dice *dice);

/* ---- judge.c */

/*
 * Pulls the store into the file `path` alone, and compares: it is one of the line's points, no older than what was acknowledged, whole,
 * and can be gone on from. NULL, or what is wrong. `found`: which point; UINT32_MAX: the store has no generation.
 */
const char *judge(const struct line *line, const struct history_options *options, const char *path,
		  struct dice *dice, unsigned *found);
/* Into that file, which nobody has open. */
const char *judge_pull(const struct history_options *options, const char *path);
/* The line goes on from the point that was found, in that file. */
void line_cut(struct line *line, unsigned found);

#endif
