/* SPDX-License-Identifier: MIT */
/*
 * lease.h - says in a store, each minute, that somebody reads a record of it: so that nothing goes that this one or a later one
 * needs (format.h, readers/).
 */
#ifndef VM_STORE_LEASE_H
#define VM_STORE_LEASE_H

#include "store/s3.h"

struct lease;
/*
 * Begins a thread, which puts the lease, again and again. Nothing waits for it: what a store needs is not deleted for longer than it
 * takes (replicate_options.least_age_ns), and a store that refuses it is read all the same. -ENOMEM, -errno: NULL then.
 */
int lease_take(struct s3 *s3, uint64_t record, struct lease **lease, struct thaw_error *error);
/*
 * Deletes it, or tries to, for at most so long, and stops the thread. Before s3_close(). NULL is allowed.
 */
void lease_drop(struct lease *lease, uint64_t most_ns);

#endif
