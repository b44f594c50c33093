/* SPDX-License-Identifier: MIT */
/*
 * store.h - what the files of the image share among themselves: struct image, and reading slots and
 * records. Not for the rest of libthaw, which uses image.h.
 */
#ifndef UFFD_STORE_H
#define UFFD_STORE_H

#include "image.h"
#include "index.h"
#include "page.h"
#include "space.h"

_Static_assert(PAGE_BYTES_LEAST % SPACE_BLOCK == 0, "a page takes whole blocks");
_Static_assert(IMAGE_LEAF_PAGES % (PAGE_CLUSTER_BYTES / PAGE_BYTES_LEAST) == 0,
	       "a leaf has whole clusters");

#define STORE_HEADER_BYTES (2 * SPACE_BLOCK) /* blocks 0 and 1: the slots */
/* At once, of each: what it takes to hold the newest, the thinned, the named and a portable one. */
#define STORE_GENERATIONS_MAX 4096u
#define STORE_RETAIN_MAX 2000u
#define STORE_THINNED_MAX 1000u
#define STORE_NAMES_MAX THAW_NAMES_MAX
#define STORE_RETAIN_DEFAULT 8u
#define STORE_WORKING_SET_MAX (1u << 16) /* clusters */
#define STORE_NUMBER_MAX (1ull << 55)	 /* births have 56 bits; no count gets near it */
/*
 * The longest state blob, of which a native stack may be a part: a file that claims more is damaged.
 * Nor does one get memory for what it claims beyond its own length (image_read_state).
 */
#define STORE_STATE_MAX (320ull << 20)

/*
 * With a quarter of what is retained, what waits for readers at most. The file is shortened where it is longer than
 * 3/2 of what is in use and 32 MiB (relocate.c): so with what waits, too, it stays within twice what is retained
 * and 64 MiB.
 */
#define STORE_HELD_MOST (16ull << 20)

#define STORE_FAILURES_MAX (1u << 30)

/* Which generation failed, how often in a row (0: none did), and of what: see thaw_failed_with(). */
struct note {
	uint64_t generation;
	uint32_t failures;
	uint64_t what;
};

enum slot_state {
	SLOT_FOREIGN, /* no magic */
	SLOT_OTHER,   /* magic, but of another format version */
	SLOT_DAMAGED, /* magic, but the checksum or a value is wrong */
	SLOT_VALID,
};

struct slot {
	enum slot_state state;
	bool whole; /* its checksum is right */
	uint32_t format, page_bytes;
	uint8_t uuid[16];
	char engine[64];
	uint64_t sequence;
	uint64_t record_offset, record_bytes; /* 0: nothing was ever committed */
	XXH128_hash_t record_checksum;
	struct note note; /* that lies behind it, whatever the slot is worth */
};

/* A generation as a record lists it. */
struct generation {
	struct thaw_generation info;
	struct root root;
	uint64_t state_offset;
	XXH128_hash_t state_checksum;
};

/* Pages in the order of their first touch after a restore: a blob of 8-byte numbers. */
struct working_set {
	uint64_t generation; /* that was restored */
	uint64_t offset, bytes;
	XXH128_hash_t checksum;
};

struct record {
	uint64_t offset, bytes;
	unsigned count, name_count;
	struct generation *generations; /* oldest first; malloc'ed */
	struct thaw_name *names;	/* malloc'ed, or NULL */
	struct working_set working_set;
};

struct retention {
	bool all; /* for those who do not know what the image's program wants */
	unsigned newest;
	unsigned thinning_count;
	struct thaw_thinning thinning[THAW_THINNING_MAX];
};

/* See relocate.c. */
struct relocation {
	uint64_t cut;	 /* byte offset: what lies beyond is to be moved */
	uint64_t front;	 /* block: the next search for room before it */
	uint64_t *pages; /* malloc'ed: those that wait, from `next` on */
	size_t count, next;
	bool set;		/* the working set waits, too */
	unsigned pause, pauses; /* commits to wait; how often in a row nothing could be moved */
};

/* The last block in use, as it was when the last commit had ended: see settle.c. */
struct tail {
	uint64_t offset, bytes; /* 0 bytes: not known */
	XXH128_hash_t checksum;
};

struct image {
	int fd;
	char *path;	/* as it was given: for messages */
	char *absolute; /* the same file, wherever the process goes */
	bool read_only;
	bool made; /* by this process: it is no one else's, until its first generation is durable */
	struct thaw_image *from; /* who reads: fd and path are this one's (handle.h) */
	struct image *next_reader;
	bool record_lent; /* and so is the record */
	struct retention retention;
	struct slot identity;	  /* uuid, engine, page size */
	struct record record;	  /* the one that `slot` names */
	struct generation opened; /* number 0: fresh */
	struct generation base;	  /* in the working index: opened, then the last one committed */
	struct index index;
	struct note note;     /* as it stands beside the other slot */
	struct note failures; /* of the opened generation, as noted when it was opened */
	struct note said;     /* of it, since then; failures 0: nothing */

	/* Commits; see commit.c. */
	unsigned slot; /* the valid slot; the next commit writes the other one */
	uint64_t next; /* its number: next % 2 != slot */
	bool committing;
	bool space_known;
	bool settled; /* what was found is on the disk, for certain */
	/* What nobody else may change: settle.c. */
	bool overwritten; /* somebody has, and it stays so */
	struct slot slots[2];
	bool slots_known[2]; /* not while a commit that wrote one is in doubt */
	uint64_t file_bytes;
	struct tail tail;
	bool no_holes; /* the file system cannot punch them */
	struct space space;
	/* Free once the other slot is overwritten: what only that slot reaches, and what a failed
	 * commit wrote whose slot may yet be found on the disk. */
	struct ranges garbage, doubt;
	struct relocation relocation;
	struct ranges held; /* dropped, and a reader may still be at it; see pins.c */
	uint64_t
		held_most; /* so much of it waits, and a quarter of what is retained (pins_may_hold) */
};

/* ---- header.c */

/* Both slots and the notes behind them, as they are. Fails only if the file cannot be read. */
int header_read(int fd, const char *path, struct slot slots[2], struct thaw_error *error);
/* The newest valid slot's number (0 or 1), or THAW_EFOREIGN, THAW_EFORMAT, THAW_EDAMAGED. */
int header_newest(const char *path, const struct slot slots[2], struct thaw_error *error);
/* The whole block: a note in it goes. */
int header_write(int fd, unsigned number, const struct slot *slot);
/* The slot alone, as it is read now, and synced. */
int header_write_again(int fd, unsigned number);
/* Into the block of that slot, and synced. */
int note_write(int fd, unsigned number, const struct note *note);

/* ---- record.c */

/* The record that a valid slot names; count 0 if it names none. */
int record_read(int fd, const char *path, const struct slot *slot, struct record *record,
		struct thaw_error *error);
/* As it is going to stand beside that slot, of which everything but the record's place is known. */
size_t record_encoded_bytes(const struct record *record);
void record_encode(const struct record *record, const struct slot *slot, void *bytes);
/*
 * For a record that was come across without a slot. Its first RECORD_START_BYTES tell how long it claims
 * to be (0: it is no record) and its sequence; all of it, whether it is whole: then `slot` is what it
 * would be but for the record's place. 0 or THAW_EDAMAGED.
 */
#define RECORD_START_BYTES 160u
size_t record_claims(const void *start);
uint64_t record_sequence(const void *start);
int record_parse(const void *bytes, struct slot *slot, struct record *record);
void record_free(struct record *record);
/* The entry with that number, or NULL: there is no number 0. */
const struct generation *record_find(const struct record *record, uint64_t number);
const struct thaw_name *record_named(const struct record *record, const char *name);

/* ---- header.c */

/*
 * For readers without the lock: slots, then the record of the newest that can be read, tried again
 * for as long as a writer moves on meanwhile. `chosen` is the slot it came from; `fallback` says
 * why if the newest could not be used, or might be lost (one slot is damaged).
 */
int store_read(int fd, const char *path, struct slot slots[2], unsigned *chosen,
	       struct record *record, struct thaw_error *fallback, struct thaw_error *error);
/*
 * Is the generation still listed, now? Tells damage from blocks that a writer has recycled
 * meanwhile.
 */
bool store_retains(int fd, const char *path, uint64_t number);

/* ---- file.c */

/* A descriptor of a regular file; everything else is an error. */
int store_open(const char *path, int flags, struct thaw_error *error);
/* The descriptor of the image that the options name, locked, or an error. `made`: there was none before. */
int file_open_locked(const struct image_options *options, bool *made, struct thaw_error *error);
/* Does the name (still) stand for this file? 1: yes; 0: for another one; -errno: for none, or it cannot be told. */
int file_is_at(int fd, const char *path);
bool file_is_same(int a, int b);

/* ---- choose.c */

/* Can whoever opens the image with these options use it: its engine, its page size? THAW_EFORMAT, THAW_EENGINE. */
int image_check_identity(const struct image_options *options, const struct slot *slot,
			 struct thaw_error *error);
/* With the slots and the record read: which generation it shows (image->opened; none: a fresh heap). */
int image_choose(struct image *image, const struct image_options *options,
		 const struct slot slots[2], struct thaw_error *fallback, struct thaw_error *error);

/* ---- settle.c */

/* The same file from any working directory: malloc'ed. NULL: no memory. */
char *path_absolute(const char *path);
/* Are the bytes that this process left in the file still there? THAW_EOVERWRITTEN, -errno. */
int image_check_bytes(struct image *image, struct thaw_error *error);
/* The file is what it is now by this process's own doing. */
void image_note_extent(struct image *image);

/* ---- blobs.c */

/*
 * malloc'ed; NULL if the set is empty. THAW_EDAMAGED: its checksum is wrong; -ENODATA, -EINVAL: it lies beyond
 * the end of the file; -ENOMEM, -errno.
 */
int working_set_read(int fd, const struct working_set *set, uint64_t **pages);
/* Say so. THAW_EDAMAGED for all that the file is to blame for. */
int working_set_error(const char *path, const struct working_set *set, int code,
		      struct thaw_error *error);
/*
 * Compare a generation's state with its checksum, by the `room` of the buffer. `copying` may be NULL. As
 * working_set_read(), and -ECANCELED.
 */
struct copying;
int state_check(int fd, const struct generation *generation, void *buffer, size_t room,
		struct copying *copying);

/* ---- history.c */

/*
 * For tools that change an image: locked, nothing is dropped by a commit, and that generation (0: the
 * newest) can be read, with nothing to repair in what leads to it. `error` must not be NULL.
 */
int history_open(const char *path, uint64_t generation, struct image **image,
		 struct thaw_error *error);

/* ---- pins.c */

/* store_read(), and all that the record lists is pinned. */
int pins_read(int fd, const char *path, struct slot slots[2], unsigned *chosen,
	      struct record *record, struct thaw_error *fallback, struct thaw_error *error);
/* Keep what that generation reaches from being written over, until the descriptor is closed. */
void pin_take(int fd, uint64_t number);
void pin_release(int fd, uint64_t number);
/* Are so many bytes that nothing retained reaches few enough to wait for readers? Once space is known. */
bool pins_may_hold(const struct image *image, uint64_t bytes);
/* Is there a pin on a generation that the record does not list any more? */
bool pins_hold(int fd, const struct record *record);

#endif
