/* SPDX-License-Identifier: MIT */
/* place_private.h - what place.c (the life of one) and place_claim.c (what a start asks of the store) share. */
#ifndef VM_STORE_PLACE_PRIVATE_H
#define VM_STORE_PLACE_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>

#include "store/lease.h"
#include "store/place.h"
#include "thaw_fill.h"

struct place {
	char *url, *path, *program;
	unsigned flags;
	uint64_t deadline_ns, patience_ns;
	int (*check)(void *arg, const char *path, struct thaw_error *error);
	bool checked; /* of a new file: it was, and said nothing */
	void (*tell)(void *arg, const char *line);
	void *arg;

	struct s3 *s3;
	struct store_claim claim;
	int fd;		 /* of the file, locked; -1 */
	bool made;	 /* by this */
	bool incomplete; /* when it was opened */
	_Atomic bool complete;
	struct store_index index; /* of the newest record, until the claim has it */
	struct store_level level, hot;
	uint64_t hot_record; /* 0: there is no hot object, or none that can be used */
	struct fetch *fetch;
	struct thaw_fill *fill;
	struct lease *lease;
	pthread_t filler;
	bool fills; /* the thread was begun */
	_Atomic bool filling;
	_Atomic uint64_t failing_since_ns;
};

/* One line for the user, if he wants any. */
__attribute__((format(printf, 2, 3))) void place_tell(struct place *place, const char *format, ...);

/* All is there and durable: IMAGE.store says so, and nobody asks for anything any more. */
int place_finish(struct place *place, struct thaw_error *error);
/* All that was read of a record, and what was begun for it. */
void place_forget(struct place *place);
/* What the file lacks of that record is asked for from now on, the hot object first. `held`: fetch.h. */
int place_fetch(struct place *place, const struct store_record *record, bool held,
		struct thaw_error *error);
/* And comes when it is read; or right now, where it has to. */
int place_attach(struct place *place, struct thaw_error *error);

/*
 * place_claim.c: finds the newest record, decides what becomes of the file that is here, seals, and reads what the record refers
 * to. -EAGAIN: another record came meanwhile.
 */
int place_claim_once(struct place *place, struct thaw_error *error);

#endif
