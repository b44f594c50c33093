/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * crash.h - a program that writes an image on a disk that may lose power: what it was told is durable
 * (struct truth), checking a state of the disk against that (check.c), and the program itself, a
 * random history (scenario.c).
 */
#ifndef TESTS_CRASH_CRASH_H
#define TESTS_CRASH_CRASH_H

#include "disk.h"
#include "image/image.h"

#define HEAP_PAGES 96u
#define STATE_USUAL (1400u << 10)
#define STATE_MAX (36u << 20) /* a file so long that background compaction sets in */
#define LISTED_MAX 64u
#define MAYBE_MAX 96u
#define NUMBERS_MAX 2048u
#define CRASH_ENGINE "crash"

/*
 * What a generation holds. Smaller than tests/image_model.h has it, and of either page size: each of
 * thousands of states is read several times over.
 */
struct contents {
	uint32_t version[HEAP_PAGES]; /* 0: a zero page */
	uint32_t state, state_bytes;
};

struct listing { /* what thaw log says */
	int count, name_count;
	uint64_t
		opened; /* the generation that a program goes on from: the newest one of these, or of the log */
	struct thaw_generation generation[LISTED_MAX];
	struct thaw_name name[LISTED_MAX];
};

struct failures_note {
	uint64_t generation;
	unsigned count;
};

/* What the writer was told, and so what has to be on the disk. */
struct truth {
	const char *path;
	uint32_t page_bytes;
	bool keyed, encrypted;
	unsigned retain;
	bool exists;	   /* the image's name was reported durable */
	bool empty;	   /* an empty file may be there */
	bool creating;	   /* no header there yet that could be listed */
	bool slot_suspect; /* a header slot was torn, and is not written again yet */
	struct listing durable;
	struct listing maybe[MAYBE_MAX]; /* written since, not reported durable */
	unsigned maybe_count;
	struct failures_note note[MAYBE_MAX]; /* any one of them */
	unsigned note_count;
	bool note_gone;			     /* by the change that is under way, if it succeeds */
	struct contents *known[NUMBERS_MAX]; /* by generation */
};

/* Counted over all states and scenarios of a run. */
struct tally {
	uint64_t scenarios, keyed, encrypted, key_changes, states, repeated, by_kind[LEAVES_KINDS];
	uint64_t at_sync, elsewhere, nameless, torn;
	uint64_t logged, folded, log_replayed;
	uint64_t commits, failed_commits, kills, cuts, reopened, notes, aborted, creations;
	uint64_t named, rolled_back, punches, truncates, settled, long_files, relocated, compacted;
	uint64_t violations;
};

/* ---- contents.c */

/* What is not as it has to be, in words that stay until the next ones. */
__attribute__((format(printf, 1, 2))) const char *wrong(const char *format, ...);
/* The page number of page i: the last ones are scattered, so that the tree has several levels. */
uint64_t heap_page(unsigned i);
unsigned heap_pages(uint32_t page_bytes);
void contents_fill_page(const struct contents *contents, unsigned i, uint32_t page_bytes,
			void *page);
void contents_fill_state(const struct contents *contents, void *state);
/* Pages and state of the opened generation, or of the working index alone. NULL: the same. */
const char *contents_compare(struct image *image, const struct contents *contents, bool state,
			     uint32_t page_bytes);
struct commit_extras { /* what else a commit may bring */
	uint32_t kind;
	bool twice;	  /* pages pass through other contents first, as pre-copy has it */
	const char *name; /* may be NULL */
	uint64_t time_ns;
	unsigned touched;	       /* pages in its working set; 0: none is written */
	uint64_t log;		       /* it may be in a log of so many bytes; 0: not */
	bool *logged;		       /* it is there; may be NULL */
	void (*logging)(bool logging); /* told while it is written; may be NULL */
};
/* All of it through one commit that is given up if it fails. */
int contents_commit(struct image *image, const struct contents *before,
		    const struct contents *contents, const struct commit_extras *extras,
		    struct dice *dice, struct thaw_error *error);
/* Is the working set, if there is one, the kind that is written here? */
const char *working_set_check(struct image *image);
int listing_read(const char *path, struct listing *listing, struct thaw_error *error);

/* ---- check.c */

bool listing_same(const struct listing *a, const struct listing *b);

/* Is that file right? NULL, or one line that says what is not. It is changed. `torn`: one of its headers may be. */
const char *check_image(const struct truth *truth, const char *path, bool torn, struct dice *dice);
/* Where there is no image, one can be made. */
const char *check_creation(const struct truth *truth, const char *path);
/* What the disk holds after that power cut (scenario_states.c). */
const char *check_cut(const struct truth *truth, const struct cut *cut, struct dice *dice);

/* ---- scenario.c */

struct scenario_options {
	uint64_t seed, number; /* which run, which scenario of it */
	enum lie lie;
	uint64_t only;	     /* check this state alone, and say what it is; 0: all */
	bool quiet;	     /* a violation is what is expected */
	const char *keep;    /* a directory for the states that are wrong */
	const char *program; /* argv[0] */
};

/* One random history, in this process, which may not survive a wrong one. */
void scenario_run(const struct scenario_options *options, struct tally *tally);

#endif
