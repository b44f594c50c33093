/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * scenario.h - what the parts of a scenario share: states of the disk and what may be found in them (scenario_states.c), the
 * program that changes an image (scenario_changes.c), and what happens to it (scenario.c). One scenario at a time, one thread.
 */
#ifndef TESTS_CRASH_SCENARIO_H
#define TESTS_CRASH_SCENARIO_H

#include "crash.h"

extern struct scenario {
	const struct scenario_options *options;
	struct tally *tally;
	struct dice dice;
	char directory[128], path[192];
	struct truth truth;
	struct image *image;
	struct contents now;	     /* what the program has in memory */
	const struct contents *next; /* what a generation that appears holds */
	const char *doing;
	unsigned step;
	uint64_t states; /* tried so far */
	uint64_t *seen;	 /* hashes of states */
	size_t seen_capacity, seen_count;
	uint64_t time_ns;	 /* the clock */
	bool thinned;		 /* older generations are kept by their age */
	unsigned bound;		 /* of ten generations, so many are bound */
	uint64_t log;		 /* bytes of a log; 0: none is made */
	bool over;		 /* something was wrong: the rest means nothing */
	bool naming;		 /* the commit under way makes no generation */
	bool quiet;		 /* no power cut for now */
	struct thaw_error error; /* of the last change */
} scenario;

static inline unsigned below(unsigned limit)
{
	return dice_below(&scenario.dice, limit);
}

/* ---- States, and what is known (scenario_states.c) */

/* Something is wrong: it is told, with how to see it again, and the scenario is over. */
__attribute__((format(printf, 2, 3))) void violation(const struct cut *cut, const char *format,
						     ...);
/* The power may be cut here. The disk calls it, and header_written() (struct disk_hooks). */
void moment(const char *what, bool sync);
/* What that generation holds; NULL: nobody knows it any more. */
void generation_know(uint64_t number, const struct contents *contents);
void note_add(struct failures_note note);
void header_written(bool note);
/* Something new may be found from here on: an entry of the log, if that is what the commit writes. */
void log_expect(uint64_t number);
/* The library said so. */
void reported_durable(void);

/* ---- The program (scenario_changes.c) */

struct image_options image_options(void);
/* A process is started, or another after it. False: it failed, as it was meant to. */
bool writer_start(struct image_options options);
void writer_end(void);
void writer_restart(struct image_options options);
/* One commit. Its code; whatever it is, the program goes on. */
int commit_contents(const struct contents *to);
/* The listing as a reader sees it now. False: it is empty. */
bool listing_now(struct listing *listing);
uint64_t any_listed(const struct listing *listing);
/* By a process that was started again, before it does anything else: what it found is said to be durable. */
int acknowledged(void);
/* Any of what makes something durable, and may fail. */
int change_any(void);

#endif
