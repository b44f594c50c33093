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

/* What the key of an enciphered image is enciphered with: in its header blocks, byte for byte (format.h). */
#define KEY_SLOTS THAW_KEY_SLOTS
struct key_slot {
	uint32_t kind; /* enum thaw_key_kind; 0: free */
	uint32_t zero;
	uint64_t time_ns;
	uint8_t salt[16];
	uint64_t passes, memory;
	uint8_t nonce[24], wrapped[48];
	char name[40];
};
struct key_slots {
	uint64_t known; /* else there are none, or they are damaged */
	uint64_t changes;
	struct key_mark mark;
	struct key_slot slot[KEY_SLOTS];
};
#define IMAGE_KEY_BYTES 32u

/* ---- key_slots.c */

/* What a passphrase costs that is added: to try one takes a good part of a second. Less in tests. */
extern struct key_cost {
	uint64_t passes, memory;
} key_slot_cost;

/*
 * The image's key in a slot that this secret opens: of a passphrase so many passes over so much memory.
 * -ENOMEM, -EINVAL.
 */
int key_slot_close(struct key_slot *slot, const struct key_mark *mark, enum thaw_key_kind kind,
		   const void *secret, size_t bytes, const uint8_t key[IMAGE_KEY_BYTES]);
/* The other way round. -EKEYREJECTED: it is another secret's, or damaged; -ENOMEM. */
int key_slot_open(const struct key_slot *slot, const struct key_mark *mark, const void *secret,
		  size_t bytes, uint8_t key[IMAGE_KEY_BYTES]);
/* Bytes of memory times passes: as much as one slot may cost, all that one passphrase is tried on cost together. */
#define KEY_WORK_MOST (16ull << 30)
/* Is it one that may be tried at all? What an image that was made to do harm asks for is bounded. */
bool key_slot_is_sound(const struct key_slot *slot);

/* ---- keys.c */

/*
 * The key of an image with that mark, which stays for the life of the process; NULL for a mark of zeros.
 * THAW_EKEY: there is none at hand, or it is another; -ENOMEM, -EIO. `path` is for the message. Any thread.
 */
int keys_find(const char *path, const struct key_mark *mark, const struct checksum_key **key,
	      struct thaw_error *error);
/* For a new image: a mark of its own, from the user's key, which is made if there is none. */
int keys_make(const char *path, struct key_mark *mark, struct thaw_error *error);

/* The same of an enciphered image, whose key is in those slots. */
int keys_open(const char *path, const struct key_slots *slots, const struct checksum_key **key,
	      struct thaw_error *error);
/* A key of its own for a new one, and a slot that the user's opens. */
int keys_make_enciphering(const char *path, struct key_slots *slots, struct thaw_error *error);
/* The same for an image that takes the place of that one: whatever opens a slot of it opens the new one's. */
int keys_renew(const char *path, const struct key_slots *old, struct key_slots *slots,
	       struct thaw_error *error);
/* Another slot for an image that keys_open() has opened: its number. */
int keys_add(const char *path, struct key_slots *slots, const struct thaw_key_secret *secret,
	     struct thaw_error *error);

#endif
