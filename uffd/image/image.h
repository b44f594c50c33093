/* SPDX-License-Identifier: MIT */
/*
 * image.h - the store of pages behind a heap: one file that holds every retained generation.
 *
 * The format is described in format.h. This header is internal to libthaw: the fault service looks
 * pages up, checkpoint.c writes generations, verify.c and the tools walk them.
 *
 * Threads: after image_open(), image_lookup() may run on the fault service's thread while one
 * commit runs on the checkpoint thread; a lock inside the image orders them. Everything else: the
 * owner, with no commit under way.
 */
#ifndef UFFD_IMAGE_H
#define UFFD_IMAGE_H

#include "checksum.h"
#include "error.h"
#include "thaw.h"

/* Pages per leaf of the index: what one lookup returns. A whole number of clusters (page.h). */
#define IMAGE_LEAF_PAGES 16u

enum extent_encoding {
	EXTENT_ABSENT = 0, /* no page was ever stored here: its contents are zero */
	EXTENT_ZERO = 1,   /* stored, and all zero: no bytes in the file */
	EXTENT_RAW = 2,	   /* the page as it is */
	EXTENT_LZ4 = 3,	   /* one block of LZ4 */
	/* One frame of Zstandard, of level 1 to 19: only the nonce that it is enciphered under differs (cipher.c). */
	EXTENT_ZSTD = 4,
	EXTENT_ZSTD_LAST = 22,
};

/* Where one page's contents are. */
struct extent {
	uint64_t offset;  /* byte offset in the file; 0 where the encoding has no bytes */
	uint32_t bytes;	  /* stored length, at most a page; 0 where the encoding has no bytes */
	uint8_t encoding; /* enum extent_encoding */
	bool own;	  /* stored by the commit under way; never because the file says so */
	uint64_t birth;	  /* the generation that wrote it */
	XXH128_hash_t checksum; /* of the *decoded* page, where the encoding has bytes */
};

struct image;

struct image_options {
	const char *path;
	bool create;	     /* make the file where there is none */
	bool fresh;	     /* the next commit starts from an empty index */
	bool read_only;	     /* take no lock; no commit is possible */
	bool keyed;	     /* it must be a keyed one, and is made so: else THAW_EKEY */
	bool encrypted;	     /* it must be an enciphered one, and is made so: else THAW_EKEY */
	bool own;	     /* it must be this user's or root's: else THAW_EOWNER */
	bool portable;	     /* the newest whole *portable* one that the newest descends from */
	uint64_t generation; /* 0: newest whole one */
	unsigned retain;     /* 0: 8; see retention_mark() */
	const struct thaw_thinning *thinning;
	unsigned thinning_count;
	bool retain_all;    /* for tools: drop nothing; engine may be any then */
	const char *engine; /* required unless read_only or retain_all */
	unsigned compress;  /* THAW_COMPRESS_*, of what is written from now on */
	/*
	 * The kernel's: a new image gets it, and one whose pages are smaller is refused (page.h). 0, for
	 * those who only read or retain_all: any.
	 */
	uint32_t page_bytes;
};

/*
 * O(1) in the size of the heap: reads the header slots, the commit record and the root, nothing
 * else. If the newest generation's record or root node is damaged, opens the newest one that is
 * not, and says why in `fallback` (code 0 otherwise). With `generation` given, opens exactly that
 * one or fails with THAW_ENOGEN. With `portable`, the newest whole one of the portable ones in the
 * newest generation's line of descent: the one that it names, which is no fallback, or one before it,
 * which is; THAW_ENOGEN if none of them is listed (an image that holds no generation is fresh).
 * Errors: THAW_EFOREIGN, THAW_EFORMAT, THAW_EENGINE, THAW_EINUSE, THAW_EDAMAGED, -errno.
 */
int image_open(const struct image_options *options, struct image **image,
	       struct thaw_error *fallback, struct thaw_error *error);
void image_close(struct image *image);
/*
 * The same; and the file is removed if this image_open() created it and no generation was
 * committed.
 */
void image_discard(struct image *image);
/*
 * Is the generation that was found at open, or committed since, on the disk, in the file that has
 * the image's name? See settle.c. Not while a commit is being written. THAW_EGONE, THAW_EREPLACED,
 * THAW_EOVERWRITTEN, -errno.
 */
int image_settle(struct image *image, struct thaw_error *error);
int image_check_file(struct image *image, struct thaw_error *error);

int image_fd(const struct image *image);
const char *image_path(const struct image *image);
uint32_t image_page_bytes(const struct image *image);
/* What its checksums are computed with. */
const struct checksum_key *image_key(const struct image *image);
/* The generation that lookups see when nothing has been committed yet; number 0: a fresh heap. */
const struct thaw_generation *image_opened(const struct image *image);
/* As thaw_history(), but for damage. Not while a commit is under way. */
void image_history(const struct image *image, struct thaw_history *history);
/*
 * The durable generation that the working index started from: the opened one (number 0: none), then
 * each that was committed. It is what an unchanged heap still is; the file may hold a newer one if
 * an older one was opened.
 */
const struct thaw_generation *image_newest(const struct image *image);
/*
 * How many times in a row the opened generation was reported to have failed with `what` 0; and
 * reporting a failure, which counts once per open image. Returns the new count, or -errno. Not
 * while a commit is being finished. `what`: see thaw_failed_with().
 */
unsigned image_failures(const struct image *image);
int image_failed(struct image *image, uint64_t what);
/* State blob of the opened generation, checked, malloc'ed, the caller frees. 0 or error. */
int image_read_state(struct image *image, void **state, size_t *bytes, struct thaw_error *error);
uint64_t image_file_bytes(const struct image *image);
/* The working set, malloc'ed, the caller frees: how many pages. THAW_EDAMAGED, -errno. */
int image_read_working_set(struct image *image, uint64_t **pages, uint64_t *generation,
			   struct thaw_error *error);

/*
 * The extents of the IMAGE_LEAF_PAGES pages that start at `first_page` (a multiple of it), as the
 * working index has them: the opened generation plus whatever was committed since. Reads and checks
 * index nodes on demand and keeps them. THAW_EDAMAGED (error says where) if a node on the way is
 * damaged; -errno if it cannot be read.
 */
int image_lookup(struct image *image, uint64_t first_page, struct extent extents[IMAGE_LEAF_PAGES],
		 struct thaw_error *error);

/*
 * The first page at or after this one that may be stored: all pages before it are absent, as
 * image_lookup() would report. UINT64_MAX: none follows. Where the index is damaged, pages count as
 * stored. Any thread.
 */
uint64_t image_next(struct image *image, uint64_t page);

/* Does the page in memory have the contents that the extent describes? */
bool extent_matches(const struct checksum_key *key, const struct extent *extent, const void *page,
		    uint32_t page_bytes);

/*
 * One commit: begin, any number of pages (each page any number of times, last one wins), finish or
 * abort.
 *
 * commit_page compares with the index first: an unchanged page is not stored. Changed pages are
 * gathered into large sequential writes; in a large commit threads may be encoding them when it returns. *stored: false: it is
 * unchanged; true where that is not known yet, too. commit_pages_settle(): all that was given is stored, or why not; what follows
 * calls it. An error from any of these leaves the commit to be aborted; abort restores the working index and the free space exactly, and
 * the previous generation is untouched.
 */
struct commit;
/* What commit_name() calls the generation that the commit makes. */
#define COMMIT_ITSELF 0u
int commit_begin(struct image *image, struct commit **commit, struct thaw_error *error);
int commit_page(struct commit *commit, uint64_t page, const void *bytes, bool *stored,
		struct thaw_error *error);
int commit_pages_settle(struct commit *commit, struct thaw_error *error);
/*
 * From here on nothing is stored for these pages: they are absent. Costs what is stored of them, and of the
 * index around them what is in no memory yet.
 */
int commit_drop(struct commit *commit, uint64_t first, uint64_t count, struct thaw_error *error);
/* True if nothing changed so far: no page was stored or dropped. After commit_pages_settle(). */
bool commit_is_empty(const struct commit *commit);
/* Can it be the name of a generation? See struct thaw_name. */
bool name_is_sound(const char *name);
/*
 * Give a generation a name, taking the name from another one if necessary, or (with `generation`
 * NULL) remove the name. -EINVAL: not a valid name; -ENOSPC: too many names; THAW_ENOGEN: no
 * generation has the name.
 */
int commit_name(struct commit *commit, const char *name, const uint64_t *generation,
		struct thaw_error *error);
/*
 * The order of first accesses after `generation` was restored; copied. Replaces the working set of
 * the image.
 */
int commit_working_set(struct commit *commit, const uint64_t *pages, unsigned count,
		       uint64_t generation, struct thaw_error *error);
/*
 * Write the index, the state blob and the record, fdatasync, write the header slot, fdatasync.
 * `generation`: the caller has filled time_ns, heap_bytes, pages_written, pause_ns, durable_ns
 * (so far), reason, restores, kind; the rest is filled here. durable_ns grows by what this call took
 * (in the file: until the record was made; the next record corrects it). A commit in which
 * nothing changed may be finished too: a generation with the same pages (that is how a rollback
 * becomes the newest); and with `generation` NULL no generation is made at all, only a new record: for
 * names, with no page stored. On success the generation is durable, generations beyond `retain` are
 * dropped (but for the portable one that this one names), and the commit is freed. On failure nothing
 * counts as durable, and the caller must abort.
 */
int commit_finish(struct commit *commit, struct thaw_generation *generation, const void *state,
		  size_t state_bytes, struct thaw_error *error);
void commit_abort(struct commit *commit);

/* See thaw_tag() and thaw_untag(). Not while a commit is under way. */
int image_tag(struct image *image, const char *name, uint64_t *generation, unsigned flags,
	      struct thaw_error *error);
int image_untag(struct image *image, const char *name, struct thaw_error *error);

/*
 * The owner is going to make small generations often: the next commit_finish() makes a log, and from then on
 * commit_page() keeps what little is stored in memory.
 */
void image_log_wanted(struct image *image);
/*
 * The same as commit_finish(), with one write and one fdatasync, of a small generation. It is not listed before a
 * later commit_finish(), or image_fold(). 1: this one cannot be written so, and nothing was done: commit_finish()
 * can.
 */
int commit_log(struct commit *commit, struct thaw_generation *generation, const void *state,
	       size_t state_bytes, struct thaw_error *error);
/* List the newest one of those in the log; if there are none, it does nothing. */
int image_fold(struct image *image, struct thaw_error *error);
/* The same at an end: what this process has made. */
void image_fold_own(struct image *image);
/* Since when (sys_monotonic_ns()) there are any; 0: there are none. */
uint64_t image_log_began(const struct image *image);
/* There are some, and another small one most likely becomes an entry, too. Nothing else uses the image meanwhile. */
bool image_log_goes_on(const struct image *image);

#endif
