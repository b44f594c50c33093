/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * disk.h - a disk that may lose power: what it may hold at any moment while the library writes an
 * image. See disk.c.
 */
#ifndef TESTS_CRASH_DISK_H
#define TESTS_CRASH_DISK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SECTOR 512u

/* splitmix64: every 64-bit seed is as good as any other. */
static inline uint64_t mix(uint64_t seed)
{
	seed += 0x9e3779b97f4a7c15ull;
	seed = (seed ^ (seed >> 30)) * 0xbf58476d1ce4e5b9ull;
	seed = (seed ^ (seed >> 27)) * 0x94d049bb133111ebull;
	return seed ^ (seed >> 31);
}

struct dice {
	uint64_t state;
};

static inline uint64_t dice_next(struct dice *dice)
{
	return mix(dice->state++);
}

/* 0 to limit - 1. */
static inline unsigned dice_below(struct dice *dice, unsigned limit)
{
	return (unsigned)((dice_next(dice) >> 32) * limit >> 32);
}

/* The calls that change files. */
enum disk_call {
	DISK_WRITE,
	DISK_SYNC,
	DISK_TRUNCATE,
	DISK_PUNCH,
	DISK_RENAME,
	DISK_DIRECTORY_SYNC,
	DISK_CALLS,
};

/* How much of what is not synced a power cut leaves. */
enum leaves {
	LEAVES_NOTHING,	    /* what was synced, and no more */
	LEAVES_ALL,	    /* everything, as if it had been synced */
	LEAVES_PREFIX,	    /* everything up to some call */
	LEAVES_TORN_PREFIX, /* that, and of the next call some sectors */
	LEAVES_CALLS,	    /* of some calls everything, of the others nothing */
	LEAVES_SECTORS,	    /* of each sector any one of its contents */
	LEAVES_ALL_BUT_ONE, /* everything but one sector */
	LEAVES_ONLY_ONE,    /* nothing but one sector */
	LEAVES_STRANGERS, /* as LEAVES_SECTORS, and what was not written holds another file's bytes */
	LEAVES_TORN_SECTORS, /* as LEAVES_SECTORS, and the header slots are torn within a sector */
	LEAVES_KINDS,
};
extern const char *const leaves_names[LEAVES_KINDS];

/* Ways in which the disk breaks its promises, or the writer its protocol: the checks must see them. */
enum lie {
	LIE_NONE,
	LIE_NO_BARRIER,	       /* the sync before the header slot does nothing */
	LIE_SLOT_FIRST,	       /* the header slot is on the disk before what it names */
	LIE_NO_COMMIT_POINT,   /* the sync of the header slot does nothing */
	LIE_LENGTH,	       /* a sync does not cover the file's length */
	LIE_NO_DIRECTORY_SYNC, /* the sync of the directory does nothing */
	LIE_LOST_WRITE,	       /* one write in fifty never reaches the disk */
	LIE_EARLY_REUSE,       /* not here: what is dropped is used again at once (scenario.c) */
	LIE_DOUBT_FORGOTTEN,   /* not here: what a failed commit wrote is used again at once */
	LIE_UNSETTLED,	       /* not here: what is found at a start is acknowledged as it is */
	LIE_LOG_UNSYNCED,      /* the sync of the log does nothing */
	LIE_LOG_DOUBT,	       /* not here: the log goes on behind what is in doubt */
};

struct disk_failure {	/* what the calls that match are to do */
	unsigned calls; /* bits 1 << enum disk_call */
	unsigned skip;	/* so many succeed first */
	unsigned count; /* then so many fail; UINT_MAX: all */
	int error;	/* with this -errno */
	bool dead;	/* and nothing is done from there on: the process was killed */
	unsigned fired; /* how many did */
};

struct disk_hooks {
	/* Before a call (`what`: its name), and after some: a power cut is possible here. */
	void (*moment)(const char *what, bool sync);
	/*
	 * A header slot of the file with the image's name was written, and perhaps the note behind
	 * it, or the name is another file's now: something new may be listed.
	 */
	void (*header_written)(bool note);
};

/* `path`: the image's name, in a directory that no other test uses. Nothing is there yet. */
void disk_open(const char *path, enum lie lie, const struct disk_hooks *hooks, uint64_t seed);
void disk_close(void);
/* Calls are recorded from here to disk_pause(): the writer's. Those of who only looks are not. */
void disk_resume(void);
void disk_pause(void);
void disk_fail(const struct disk_failure *failure);
/* This file system makes files without a name, or does not. */
void disk_nameless(bool possible);
unsigned disk_fired(void);  /* how many calls did since then */
unsigned disk_failed(void); /* how many calls did since then; and no more will */
/*
 * An empty file with the image's name was put there by somebody, and is on the disk: what is there
 * now is only looked at from here on.
 */
void disk_adopt_empty(void);
/* The writer writes to its log, or does not any more. */
void disk_logging(bool logging);
/* Something was reported durable: what was a state to be in before is another one now. */
void disk_reported(void);
/* How many holes were punched, and how often the file was shortened. */
void disk_count(uint64_t *punches, uint64_t *truncates);
/* The calls so far, for messages. */
uint64_t disk_events(void);
/* Does the cache hold what the file that the library wrote holds? Every write came by here, then. */
bool disk_is_complete(void);

/* ---- A power cut */

struct cut {
	enum leaves leaves;
	uint64_t seed;
	uint64_t event; /* LEAVES_PREFIX and the like */
	uint64_t hash;	/* of what is left, and of what was reported */
	bool named;	/* the image's name is there */
	bool torn_slot;
};
/* Decide what is left; the same `leaves` and seed decide the same at the same moment. */
void cut_choose(struct cut *cut, enum leaves leaves, uint64_t seed);
/* Make cut_path() what is left: a file that no other test sees, or no file. */
void cut_make(const struct cut *cut);
const char *cut_path(const struct cut *cut);
/* Tells which sectors are not as the writer saw them last. */
void cut_print(const struct cut *cut);
/* The power is cut in earnest: the writer's own file becomes what is left, and all of it is on the disk. */
void cut_apply(const struct cut *cut);

#endif
