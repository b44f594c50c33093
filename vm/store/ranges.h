/* SPDX-License-Identifier: MIT */
/*
 * ranges.h - one object, or a part of it, by several requests at once. A fresh connection of TCP sends 14 KiB in its first round
 * trip and twice as much in each that follows, so 400 KiB take five round trips on one and two on sixteen.
 */
#ifndef VM_STORE_RANGES_H
#define VM_STORE_RANGES_H

#include "store/s3.h"

/*
 * These bytes of an object that is at least so long, into `into`. As requests end (s3.h); after a failure `into` has anything. Any
 * thread but those of done()s.
 */
int ranges_get(struct s3 *s3, const char *key, uint64_t offset, size_t bytes, void *into,
	       uint64_t deadline_ns, struct thaw_error *error);

#endif
