/* SPDX-License-Identifier: MIT */
/* log.h - small generations, durable with one write and one sync: their pages in memory, their entries. See log.c. */
#ifndef UFFD_LOG_H
#define UFFD_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "checksum.h"
#include "image.h"

#define LOG_BYTES (4u << 20)	    /* of a log's area: so much is read at most when it is opened */
#define LOG_BYTES_LARGE (32u << 20) /* ... where entries do not fit into that */
#define LOG_BYTES_MOST (64u << 20)  /* what claims more is damaged */
#define LOG_ENTRY_MOST \
	(256u << 10) /* bytes; a larger generation is written as any other; see log_entry_most() */
#define LOG_STAGED_MOST (4u << 20)  /* bytes of whole pages, before their patches are made */
#define LOG_HELD_MOST (64u << 20)   /* bytes of pages in memory: then all is folded */
#define LOG_STATE_MOST (1u << 20)   /* bytes of a state */
#define LOG_FOLD_NS (1000000000ull) /* so long after the first of them, all is folded */

/* Where the log of an image lies. 0 bytes: it has none. */
struct log_area {
	uint64_t offset, bytes;
};

/* Of the entries in it. An open looks at twice as much to see whether there are any. */
static inline uint64_t log_entry_most(const struct log_area *area)
{
	return area->bytes > LOG_BYTES ? area->bytes / 16 : LOG_ENTRY_MOST;
}

/* ---- log_pages.c: pages whose newest contents are in memory */

struct log_page {
	struct log_page *next_in_bucket;
	uint64_t page;
	struct extent
		extent; /* as it is durable; RAW with offset 0: in the log and here, in no other place */
	uint8_t *bytes; /* NULL: zeros, or not known */
	bool known;	/* `bytes` are what is durable */
	bool pending;	/* ... in the log alone */
	bool staged;	/* the commit under way has other contents for it: */
	bool written;	/* the commit under way has put it in its place, or dropped it */
	struct extent next;
	uint8_t *next_bytes;
	unsigned cycle; /* when it was in the log last */
};

struct log_pages {
	struct log_page **buckets; /* NULL: none yet */
	size_t count, pending;	   /* all, and those in the log alone */
	struct log_page **staged;
	size_t staged_count, staged_room;
	uint32_t page_bytes;
	uint64_t held; /* bytes of pages */
	unsigned cycle;
};

struct log_page *log_pages_find(const struct log_pages *pages, uint64_t page);
/* The commit under way has this for the page. -ENOMEM. */
int log_pages_stage(struct log_pages *pages, uint64_t page, const struct extent *extent,
		    const void *bytes);
/* The commit under way has put the page, or its absence, into its place. */
void log_pages_wrote(struct log_pages *pages, uint64_t page);
/* So it has with all that was staged, which is staged no more. */
void log_pages_spilled(struct log_pages *pages);
/* What is staged is durable: in the log. Cannot fail. */
void log_pages_logged(struct log_pages *pages);
/* All that was staged or pending is durable at `next`; what was not needed since the last time is forgotten. */
void log_pages_folded(struct log_pages *pages);
/* What is staged is forgotten. */
void log_pages_unstage(struct log_pages *pages);
/* malloc'ed: those that are staged or pending and not in their place yet, in page order. NULL: no memory. */
struct log_page **log_pages_unplaced(const struct log_pages *pages, size_t *count);
void log_pages_free(struct log_pages *pages);

/* ---- log_entry.c: what is in the file */

/* What changed, or 0: that would not be shorter than `room`. Of `count` bytes, a multiple of 8. */
size_t patch_make(const void *before, const void *after, size_t count, void *to, size_t room);
/* False: it is no patch of that many bytes. */
bool patch_apply(const void *patch, size_t bytes, void *target, size_t count);

/* What an entry follows: it is of no use behind anything else. */
struct log_chain {
	const struct checksum_key *key;
	uint8_t *opened; /* room for an entry, to decipher it; NULL: for none */
	size_t opened_bytes;
	uint8_t uuid[16];
	XXH128_hash_t seed;   /* checksum of the commit record */
	XXH128_hash_t before; /* of the entry before, or zero */
	uint32_t position;    /* how many are before */
};

/* A copy of the newest state. */
struct log_state {
	uint8_t *bytes; /* malloc'ed, and zero up to whole words */
	size_t count;
	bool known;
};
/* -ENOMEM. */
int log_state_copy(struct log_state *to, const void *state, size_t bytes);

struct generation;
/*
 * Encode what is staged as an entry that follows the chain, which goes on. How many bytes it takes, whole blocks,
 * of which `info.bytes_written` tells; 0: it does not fit. `state`: zero up to whole words.
 */
size_t log_encode(struct log_chain *chain, struct generation *generation, const void *state,
		  const struct log_state *before, const struct log_pages *pages, void *to,
		  size_t room);

/*
 * The entry at the start of those bytes, if it follows the chain: how many bytes; 0: it does not, or is torn. `entry` is
 * where it can be read, until the next one is looked at.
 */
size_t log_check(const struct log_chain *chain, const void *bytes, size_t count,
		 const void **entry);
/* Is it whole, and of this cycle, but further on in it? Its number; 0: no. */
uint64_t log_follows(const struct log_chain *chain, const void *bytes, size_t count);
/* The number in a checked entry. */
uint64_t log_number(const void *entry);
/* What a checked entry holds. False: nothing that could be. The chain goes on behind it. */
bool log_decode(struct log_chain *chain, const void *entry, struct generation *generation);
/* Its state, on top of the one before. -ENOMEM, THAW_EDAMAGED. */
int log_decode_state(const struct checksum_key *key, const void *entry,
		     const struct generation *generation, struct log_state *state);
/*
 * Its pages, in turn: *at is 0 at first. `before` finds the contents that a patch is for, into `bytes`.
 * 1: there is one, 0: no more. THAW_EDAMAGED, and what `before` returns.
 */
struct log_change {
	uint64_t page;
	struct extent extent;
	uint8_t *bytes; /* room for a page */
};
int log_decode_page(const struct checksum_key *key, const void *entry, size_t *at,
		    uint32_t page_bytes, int (*before)(void *arg, uint64_t page, void *bytes),
		    void *arg, struct log_change *change);

#endif
