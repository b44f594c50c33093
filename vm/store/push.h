/* SPDX-License-Identifier: MIT */
/*
 * push.h - stores an image in a store, as it is, once: what replicate.h does for a program that runs, for an image that nobody
 * has open. What the store has already is not sent again.
 */
#ifndef VM_STORE_PUSH_H
#define VM_STORE_PUSH_H

#include "store/replicate.h"

struct push_options {
	const char *place; /* s3://BUCKET/PREFIX */
	const char *image; /* path */
	unsigned flags;	   /* EPOCH_BEGIN, EPOCH_REPLACE */
	uint64_t least_age_ns;
	uint64_t deadline_ns; /* of the monotonic clock; 0: none */
	/* Each second or so, and at the end. Returns false: it is given up, -ECANCELED. May be NULL. */
	bool (*progress)(void *arg, const struct replication_status *status);
	void *arg;
};
/* Waits for the thread, which is replicate.c's. 0: the store has this generation, acknowledged. As epoch_look(), thaw_mirror.h, THAW_EINUSE. */
int push_image(const struct push_options *options, struct replication_status *status,
	       struct thaw_error *error);

#endif
