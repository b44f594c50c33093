/* SPDX-License-Identifier: MIT */
/*
 * epoch.h - who continues a store. Whoever wants to appends a seal, a record that begins an epoch of a random id; from then on no
 * record of an older epoch can be appended.
 *
 *	look    the newest record n, and whether this file may continue it
 *	seal    the id is durable in IMAGE.store first; then record n + 1 is put with If-None-Match. Is it taken: look again
 *
 * 1. Of each number there is one record, since they are created and never replaced, and seals never deleted.
 * 2. A writer puts record n + 1 only after n, which was the newest, is there and is his own: its epoch is his.
 * 3. So when a seal of another's is record n + 1, the writer of n finds its next number taken, now or whenever it comes to it:
 *    it has no other number to try, and nothing that it does is acknowledged any more.
 * 4. IMAGE.store has the newest record's epoch if and only if no other file has continued the store since.
 *
 * Waits for the store; any thread but those of done()s, one at a time for each image.
 */
#ifndef VM_STORE_EPOCH_H
#define VM_STORE_EPOCH_H

#include "store/record.h"
#include "store/sidefile.h"

enum epoch_flags {
	EPOCH_BEGIN = 1, /* a store that is empty is begun; else that is -ENOENT */
	/* Whoever continued it last, and whatever the file has: the file becomes what the record says (a restore), or */
	EPOCH_TAKE_OVER = 2,
	/* ... the store becomes what the file has, of the same image (uuid). */
	EPOCH_REPLACE = 4,
};

struct epoch_wish {
	const char *place;   /* s3://BUCKET/PREFIX */
	const char *image;   /* path of its file, beside which IMAGE.store is or will be */
	const char *program; /* for messages to whoever is fenced */
	unsigned flags;
	/* With EPOCH_TAKE_OVER: the file has not all of the record's blocks. What IMAGE.store said before is forgotten. */
	bool incomplete;
	/* What the file has; not looked at with EPOCH_TAKE_OVER. What is zero is not known, and not looked at. */
	uint8_t uuid[16];
	char engine[64];
	uint32_t page_bytes;
	uint64_t generation, sequence;
};

struct store_claim {
	/* The file has nothing but what this record says (a restore has just made it): the first take need not compare. */
	bool same;
	struct store_record record; /* the newest; after epoch_seal() the seal */
	struct store_index index;
	bool sealed;
};

/*
 * Fills `claim`; record.number 0: the store is empty. As requests end (s3.h), as records are read (record.h), and
 *	-EBUSY	it was continued elsewhere: by whom and since when
 *	-ESTALE	the file is older than the newest record: it was restored from a backup, say
 *	-EXDEV	the store has another image, or IMAGE.store names another store
 *	-ENOENT	it is empty
 * The caller frees it (claim_free), also after a failure.
 */
int epoch_look(struct s3 *s3, const struct epoch_wish *wish, uint64_t deadline_ns,
	       struct store_claim *claim, struct thaw_error *error);
/*
 * Puts the seal behind claim->record, which becomes it. Of claim->index only level[0] is read, and it is left as it is. IMAGE.store
 * keeps what it has, and has the new epoch before. -EAGAIN: there is another record by now; look again.
 */
int epoch_seal(struct s3 *s3, const struct epoch_wish *wish, uint64_t deadline_ns,
	       struct store_claim *claim, struct thaw_error *error);
void claim_free(struct store_claim *claim);

/* Of epoch_look(), for who knows later what the file has: 0 or -ESTALE. */
int epoch_check_age(const struct epoch_wish *wish, const struct store_record *record,
		    struct thaw_error *error);
/* Who writes it, and now. */
void epoch_sign(struct store_record *record, const char *program);

#endif
