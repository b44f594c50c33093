/* SPDX-License-Identifier: MIT */
/*
 * place.h - an image that is in a store, as a file here: `thaw run --image s3://BUCKET/PREFIX`. The file is sparse at first; what
 * is missing comes when it is read (fetch.h), and all else in the background, until it is an image as any other.
 *
 *	place_open()      the newest record is found, sealed (it is ours from here on: epoch.h), and the file is there
 *	thaw_open()       of place_path()
 *	place_fill()      what is missing comes in the background; when it is all there, IMAGE.store says so
 *	replicate_start() with place_store() and place_claim()
 *	replicate_close(), thaw_close(), place_close()
 *
 * Killed at any moment, the same call goes on with the same file: what is missing are its holes. A file here that the store's
 * newest record continues is used as it is, and nothing of it is asked for again.
 *
 * Threads: the owner's, but for place_status().
 */
#ifndef VM_STORE_PLACE_H
#define VM_STORE_PLACE_H

#include "store/epoch.h"
#include "store/fetch.h"
#include "store/s3.h"

enum place_flags {
	/* Where the store went on elsewhere since this file continued it, the file is refused (-EBUSY) instead of put aside. */
	PLACE_KEEP = 1,
	/* Everything is fetched before place_open() returns: no hole is left. */
	PLACE_WHOLE = 2,
};

struct place_options {
	const char *place; /* s3://BUCKET/PREFIX */
	const char *cache; /* path of the file; NULL: $XDG_CACHE_HOME/thaw/HASH.thaw, or ~/.cache */
	const char *program; /* for messages to whoever is fenced */
	unsigned flags;
	/*
	 * May this program go on from the image at all (its key, the generation that is asked for)? The file can be opened; nothing
	 * of the store has changed yet, and nobody is fenced. Another code than 0 is what place_open() returns. It costs a start
	 * the round trips that it takes. NULL: it may.
	 */
	int (*check)(void *arg, const char *path, struct thaw_error *error);
	uint64_t deadline_ns; /* of place_open(), by the monotonic clock; 0: 5 min from now */
	uint64_t patience_ns; /* fetch.h; 0: 5 min */
	/*
	 * Lines for the user, without a newline: the store fails, and why; it answers again; all is here. From any thread; in no
	 * time. NULL: none.
	 */
	void (*tell)(void *arg, const char *line);
	void *arg;
};

struct place;
/*
 * Returns when the store is sealed, and the file can be opened. Codes:
 *	-ENOENT	the store is empty: there is no file, or one that was never replicated. `place` is there all the same, with a path
 *		and nothing else, for a program that begins there
 *	-EBUSY	PLACE_KEEP; or it is continued elsewhere again and again meanwhile
 *	-ESTALE	the file is older than the record that it wrote itself: it was restored from a backup
 *	-EXDEV	the file is another image, or another store's
 *	THAW_EINUSE	a process has the file
 * and those of s3.h, record.h and of files. The caller closes it, also after a failure (NULL then, but for -ENOENT).
 */
int place_open(const struct place_options *options, struct place **place, struct thaw_error *error);

/* Of the file. As long as it is open. */
const char *place_path(const struct place *place);
/* What replicate_start() takes. Of an empty store: the store, and a claim that is not sealed. */
struct s3 *place_store(struct place *place);
struct store_claim *place_claim(struct place *place);

/* The rest comes in the background from now on. 0, also if nothing is missing; -errno: no thread, and it comes when it is read. */
int place_fill(struct place *place, struct thaw_error *error);

struct place_status {
	bool complete; /* nothing is missing: an image as any other */
	bool filling;  /* in the background */
	uint64_t
		failing_since_ns; /* monotonic clock; since when the store does not answer; 0: all is well */
	struct fetch_status fetch;
};
void place_status(struct place *place, struct place_status *status);

/*
 * While it is on, whoever waits for a block, or would, gets -ECANCELED at once; all else goes on: for whoever closes the image, to open
 * it again or not, although the store does not answer. Any thread, not a signal handler.
 */
void place_interrupt(struct place *place, bool on);
/* Nobody has the image open through the library any more; the background ends. What is missing stays missing. NULL is allowed. */
void place_close(struct place *place);

/*
 * Is that a file of which parts are in a store only? 1, and one line that says so and what to do; 0; or -errno. For commands that
 * read images and do not fetch.
 */
int place_is_incomplete(const char *image, struct thaw_error *error);

#endif
