/* SPDX-License-Identifier: MIT */
/*
 * store.h - what the files of the image share among themselves: struct image, and reading slots and
 * records. Not for the rest of libthaw, which uses image.h.
 */
#ifndef UFFD_STORE_H
#define UFFD_STORE_H

#include "extent_codec.h"
#include "image.h"
#include "index.h"
#include "keys.h"
#include "log.h"
#include "page.h"
#include "space.h"

_Static_assert(PAGE_BYTES_LEAST % SPACE_BLOCK == 0, "a page takes whole blocks");
_Static_assert(IMAGE_LEAF_PAGES % (PAGE_CLUSTER_BYTES / PAGE_BYTES_LEAST) == 0,
	       "a leaf has whole clusters");

_Static_assert(SPACE_BLOCK % EXTENT_UNIT == 0, "what is packed can begin where a block does");

#define STORE_HEADER_BYTES (2 * SPACE_BLOCK) /* blocks 0 and 1: the slots */
/*
 * The most generations in a file at once: room for the newest, the thinned, the named ones and a
 * portable one.
 */
#define STORE_GENERATIONS_MAX 4096u
#define STORE_RETAIN_MAX 2000u
#define STORE_THINNED_MAX 1000u
#define STORE_NAMES_MAX THAW_NAMES_MAX
#define STORE_RETAIN_DEFAULT 8u
#define STORE_WORKING_SET_MAX (1u << 16) /* clusters */
#define STORE_NUMBER_MAX (1ull << 55)	 /* births have 56 bits; no count gets near it */
/*
 * The longest state blob, which may include a native stack. A file that claims more is damaged. Nor
 * is memory allocated for more than the file holds (image_read_state).
 */
#define STORE_STATE_MAX (320ull << 20)

/*
 * The most that is held back for readers, together with a quarter of what is retained. The file is
 * shortened when it is longer than 3/2 of what is in use and 32 MiB (relocate.c); so even with what
 * is held back it stays within twice what is retained and 64 MiB.
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
	struct key_mark mark;
	bool enciphered;
	struct key_slots keys; /* of an enciphered image: those of its block, or of the other one */
	XXH128_hash_t keys_sum; /* of what its own block has there: has somebody changed it? */
	const struct checksum_key
		*key; /* of all that it leads to, once slot_find_key() has found it */
	uint64_t sequence;
	uint64_t record_offset, record_bytes; /* 0: nothing was ever committed */
	XXH128_hash_t record_checksum;
	struct note note; /* behind the slot, whether the slot is valid or not */
};

/* A generation as a record lists it. */
struct generation {
	struct thaw_generation info;
	struct root root;
	uint64_t state_offset;
	XXH128_hash_t state_checksum;
};

/* Pages in the order of their first access after a restore: a blob of 8-byte numbers. */
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
	struct log_area log;
};

struct retention {
	bool all; /* for tools that do not know the program's rules */
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
	bool sparse; /* they are moved out of blocks of which little is in use; `cut` means nothing */
	bool set;    /* the working set waits, too */
	unsigned pause, pauses; /* commits to wait; how often in a row nothing could be moved */
};

/* The last block in use, as it was when the last commit had ended: see settle.c. */
struct tail {
	uint64_t offset, bytes; /* 0 bytes: not known */
	XXH128_hash_t checksum;
};

/* See log.c. */
struct log {
	bool wanted;		 /* the owner makes small generations often */
	uint64_t bytes, fold_ns; /* LOG_BYTES, LOG_FOLD_NS; others in tests */
	uint64_t bytes_large; /* so long it becomes where an entry does not fit; 0: it does not */
	bool usable; /* this process wrote the record that it follows, and nothing is in doubt since */
	bool stale; /* pages that are in it alone are not in the index: log_restore() */
	bool found; /* entries, which another process wrote, and which are perhaps not on the disk */
	struct log_chain chain;
	uint64_t used; /* bytes of its area */
	uint64_t
		listed; /* the newest generation that is in the record, of those before the entries */
	uint64_t first_ns; /* when the first entry was made durable */
	struct log_pages pages;
	struct log_state state; /* of the newest generation */
	struct range tail; /* where the pages are that an open found in it, until all is folded */
	uint8_t *buffer;   /* for an entry */
	size_t buffer_bytes;
};

struct image {
	int fd;
	char *path;	/* as it was given: for messages */
	char *absolute; /* the same file, wherever the process goes */
	bool read_only;
	pid_t opener; /* a child of that by fork() has a copy, and takes nothing away */
	bool made; /* created by this process: nobody else uses it until its first generation is durable */
	struct thaw_image *from; /* for readers: the owner of fd and path (handle.h) */
	struct image *next_reader;
	bool record_lent; /* and so is the record */
	struct retention retention;
	struct slot identity;	  /* uuid, engine, page size */
	struct record record;	  /* the one that `slot` names */
	struct generation opened; /* number 0: fresh */
	struct generation base;	  /* in the working index: opened, then the last one committed */
	struct index index;
	struct note note;     /* as it is in the block of the other slot */
	struct note failures; /* of the opened generation, as noted when it was opened */
	struct note said;     /* reported for it since then; failures 0: nothing */
	struct log log;

	/* Commits; see commit.c. */
	unsigned slot; /* the valid slot; the next commit writes the other one */
	uint64_t next; /* its number: next % 2 != slot */
	bool committing;
	bool space_known;
	bool settled; /* what was found is on the disk, for certain */
	/* Of the file that is open: which it is (0: not asked yet); when it was as it was left; and whether to look once more. */
	uint64_t inode, device, checked_ns;
	bool check_put_off;
	/* For noticing changes by others: settle.c. */
	bool overwritten; /* somebody has, and it stays so */
	struct slot slots[2];
	bool slots_known[2]; /* not while a commit that wrote one is in doubt */
	uint64_t file_bytes;
	struct tail tail;
	bool no_holes;		   /* the file system cannot punch them */
	struct extent_codec codec; /* of what is written from now on */
	struct extent_scratch scratch;
	uint8_t *encoded; /* room for a page; NULL: not needed yet */
	struct space space;
	/*
	 * Free once the other slot is overwritten: what only that slot reaches, and what a failed
	 * commit wrote whose slot may still be found on the disk.
	 */
	struct ranges garbage, doubt;
	struct relocation relocation;
	struct ranges held; /* dropped, but a reader may still use it; see pins.c */
	uint64_t
		held_most; /* the limit for `held`, besides a quarter of what is retained (pins_may_hold) */
};

/* ---- header.c */

/* Both slots and the notes behind them, as they are. Fails only if the file cannot be read. */
int header_read(int fd, const char *path, struct slot slots[2], struct thaw_error *error);
/* The same of a block that is in memory, by itself. */
void header_parse(const void *block, unsigned number, struct slot *slot);
/* The newest valid slot's number (0 or 1), or THAW_EFOREIGN, THAW_EFORMAT, THAW_EDAMAGED. */
int header_newest(const char *path, const struct slot slots[2], struct thaw_error *error);
/* THAW_EKEY and what keys_find() says. */
int slot_find_key(const char *path, struct slot *slot, struct thaw_error *error);
struct disk_keys;
void key_slots_encode(const struct key_slots *keys, struct disk_keys *disk);
/* Writes the whole block: a note in it is removed. The slot has its keys_sum then. */
int header_write(int fd, unsigned number, struct slot *slot);
/* Writes the slot and the key slots again as they are read now, without the note, and syncs them. */
int header_write_again(int fd, unsigned number);
/* Writes the note into the block of that slot, and syncs it. */
int note_write(int fd, unsigned number, const struct note *note);

/* ---- record.c */

/* The record that a valid slot names; count 0 if it names none. */
int record_read(int fd, const char *path, const struct slot *slot, struct record *record,
		struct thaw_error *error);
/* The encoding for that slot, of which then everything but the place of the record is known. */
size_t record_encoded_bytes(const struct record *record, const struct slot *slot);
void record_encode(const struct record *record, struct slot *slot, void *bytes);
/*
 * For a record that was found without a slot: do these 8 bytes begin one? Its first RECORD_START_BYTES give its claimed
 * length (0: it is no record) and its sequence; all of it tells whether it is whole. Then `slot` is what
 * its slot would be, without the record's place and the key slots. 0, THAW_EDAMAGED, or what keys_find() says. What is
 * enciphered is deciphered where it is, with `key`, that of the image, if it is at hand; NULL: such are none.
 */
#define RECORD_START_BYTES 240u
bool record_may_begin(const void *bytes);
size_t record_claims(const struct checksum_key *key, void *start, uint64_t *sequence);
int record_parse(const struct checksum_key *key, void *bytes, size_t count, const char *path,
		 struct slot *slot, struct record *record, struct thaw_error *error);
void record_free(struct record *record);
struct disk_generation;
void generation_encode(const struct generation *from, struct disk_generation *disk);
/* False: it is impossible. */
bool generation_decode(const struct disk_generation *disk, struct generation *into);
/* The entry with that number, or NULL: there is no number 0. */
const struct generation *record_find(const struct record *record, uint64_t number);
const struct thaw_name *record_named(const struct record *record, const char *name);

/* ---- header.c */

/*
 * For readers without the lock: reads the slots, then the newest record that can be read, and
 * retries for as long as a writer moves on meanwhile. `chosen` is the slot it came from; `fallback`
 * says why if the newest could not be used, or might be lost (one slot is damaged).
 */
int store_read(int fd, const char *path, struct slot slots[2], unsigned *chosen,
	       struct record *record, struct thaw_error *fallback, struct thaw_error *error);
/*
 * Is the generation listed now? Distinguishes damage from blocks that a writer has reused
 * meanwhile.
 */
bool store_retains(int fd, const char *path, uint64_t number);

/* ---- file.c */

/* A descriptor of a regular file; everything else is an error. */
int store_open(const char *path, int flags, struct thaw_error *error);
/* The descriptor of the image that the options name, locked, or an error. `made`: there was none before. */
int file_open_locked(const struct image_options *options, bool *made, struct thaw_error *error);
/*
 * Does the name (still) refer to this file? 1: yes; 0: to another one; -errno: to none, or it
 * cannot be determined.
 */
int file_is_at(int fd, const char *path);
bool file_is_same(int a, int b);

/* ---- log.c */

/* Generations are durable in the log alone. */
bool log_pending(const struct image *image);
/* The pages of those generations are in the index again, after a commit that changed it was undone. */
int log_restore(struct image *image, struct thaw_error *error);
/* The nearest listed one in the line of the newest generation, or 0. */
uint64_t log_ancestor(const struct image *image);
/* The newest portable one in that line that is listed, or was dropped. */
uint64_t log_portable(const struct image *image);
/* The commit that is durable holds all, and its record is the one that a log may follow. `state` becomes the image's. */
void log_folded(struct image *image, struct log_state *state);
/* A commit that made no generation is durable, and the log follows it. */
void log_follow(struct image *image);
void log_close(struct image *image);

/* ---- log_replay.c */

/*
 * An image that was just opened for writing at its newest generation: goes on to the newest one in the log.
 * `fallback` says what is damaged. -ENOMEM, -errno.
 */
int log_replay(struct image *image, struct thaw_error *fallback, struct thaw_error *error);
/* Are there generations in the log of an image that was opened at another one? -ENOMEM, -errno. */
int log_is_ahead(struct image *image, struct thaw_error *error);
/*
 * Read and check the entries of an image that may be in use, and was opened at its newest listed generation: of how many
 * bytes. THAW_EDAMAGED: those after these are damaged, or were while the log was written or made void.
 */
int log_verify(struct image *image, uint64_t *bytes);
/* What was found in the log is on the disk. */
int log_settle(struct image *image);

/* ---- choose.c */

/* Can whoever opens the image with these options use it: its engine, its page size, its key? THAW_EFORMAT, THAW_EENGINE, THAW_EKEY. */
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
/* Records the file's state as this process left it. */
void image_note_extent(struct image *image);

/* ---- blobs.c */

/*
 * malloc'ed; NULL if the set is empty. THAW_EDAMAGED: its checksum is wrong; -ENODATA, -EINVAL: it lies beyond
 * the end of the file; -ENOMEM, -errno.
 */
int working_set_read(int fd, const struct checksum_key *key, const struct working_set *set,
		     uint64_t **pages);
/* Report it. THAW_EDAMAGED for everything that is wrong with the file. */
int working_set_error(const char *path, const struct working_set *set, int code,
		      struct thaw_error *error);
/*
 * Compare a generation's state with its checksum, in pieces of `room` bytes. `copying` may be NULL.
 * Errors as of working_set_read(), and -ECANCELED.
 */
struct copying;
int state_check(int fd, const struct checksum_key *key, const struct generation *generation,
		void *buffer, size_t room, struct copying *copying);

/* ---- history.c */

/*
 * For tools: opened with the lock, and commits drop nothing. They do not fall back to an older generation: if the newest is
 * damaged, its owner repairs it first. `generation`: which one to open, 0 is the newest. `error` must not be NULL.
 */
int image_open_tool(const char *path, uint64_t generation, struct image **image,
		    struct thaw_error *error);
/* The same of one that holds a generation, which is whole as far as its root; the newest is listed. */
int history_open(const char *path, uint64_t generation, struct image **image,
		 struct thaw_error *error);

/* ---- pins.c */

/* store_read(), and all that the record lists is pinned. */
int pins_read(int fd, const char *path, struct slot slots[2], unsigned *chosen,
	      struct record *record, struct thaw_error *fallback, struct thaw_error *error);
/* Keep a writer from overwriting what that generation reaches, until the descriptor is closed. */
void pin_take(int fd, uint64_t number);
void pin_release(int fd, uint64_t number);
/*
 * May so many bytes, which nothing retained reaches, be held back for readers? Once space is known.
 */
bool pins_may_hold(const struct image *image, uint64_t bytes);
/* Is there a pin on a generation that the record does not list any more? */
bool pins_hold(int fd, const struct record *record);

#endif
