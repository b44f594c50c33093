/* SPDX-License-Identifier: MIT */
/* keys.h - the keys of images whose checksums are MACs. See keys.c. */
#ifndef UFFD_KEYS_H
#define UFFD_KEYS_H

#include "checksum.h"
#include "error.h"

/* Which key an image has: in its slots and records. No key: all zero. */
struct key_mark {
	uint8_t salt[16];  /* random: what the image's key is derived from, with the user's */
	uint8_t check[16]; /* derived from both: another key, or damage? */
};

bool key_mark_set(const struct key_mark *mark);

/*
 * The key of an image with that mark, which stays for the life of the process; NULL for a mark of zeros.
 * THAW_EKEY: there is none at hand, or it is another; -ENOMEM, -EIO. `path` is for the message. Any thread.
 */
int keys_find(const char *path, const struct key_mark *mark, const struct checksum_key **key,
	      struct thaw_error *error);
/* For a new image: a mark of its own, from the user's key, which is made if there is none. */
int keys_make(const char *path, struct key_mark *mark, struct thaw_error *error);

#endif
