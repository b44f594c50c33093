/* SPDX-License-Identifier: MIT */
/*
 * key_change.c - thaw_image_keys, thaw_image_key_add, thaw_image_key_remove: what opens an enciphered image. Any thread;
 * to change it, nothing else may have the image open.
 *
 * The key slots lie in both blocks of the header, and a commit writes one of them. So a change is two commits that make
 * no generation: whenever it ends, one block is whole, and once both are durable, nothing of a slot that was removed is
 * left in the file. Between them either state may be found, and a change that failed is done again.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "commit.h"

int thaw_image_keys(const char *path, struct thaw_key_slot slots[THAW_KEY_SLOTS],
		    struct thaw_error *error)
{
	struct thaw_error unused;
	struct slot found[2];
	int fd, newest;

	error = error ? error : &unused;
	memset(slots, 0, THAW_KEY_SLOTS * sizeof(*slots));
	fd = store_open(path, O_RDONLY, error);
	if (fd < 0)
		return fd;
	newest = header_read(fd, path, found, error);
	if (!newest)
		newest = header_newest(path, found, error);
	close(fd);
	if (newest < 0)
		return newest;
	for (unsigned i = 0; found[newest].enciphered && i < THAW_KEY_SLOTS; i++) {
		const struct key_slot *from = &found[newest].keys.slot[i];

		slots[i].kind = (enum thaw_key_kind)from->kind;
		slots[i].time_ns = from->time_ns;
		slots[i].passes = from->passes;
		slots[i].memory = from->memory;
		memcpy(slots[i].name, from->name, sizeof(slots[i].name) - 1);
	}
	return 0;
}

/* An enciphered image, to be changed. */
static int change_begin(const char *path, struct image **image, struct thaw_error *error)
{
	int code = history_open(path, 0, image, error);

	if (code || (*image)->identity.enciphered)
		return code;
	image_close(*image);
	return error_set(error, -EINVAL,
			 "%s: it is not encrypted, so no key opens it: thaw compact --encrypt",
			 path);
}

/* With the slots as they are to be. */
static int change_end(struct image *image, const struct key_slots *slots, struct thaw_error *error)
{
	int code;

	image->identity.keys = *slots;
	image->identity.keys.changes++;
	code = commit_record(image, error);
	if (!code)
		code = commit_record(image, error);
	image_close(image);
	return code;
}

int thaw_image_key_add(const char *path, const struct thaw_key_secret *secret,
		       struct thaw_error *error)
{
	struct key_slots slots;
	struct thaw_error unused;
	struct image *image;
	int code, number;

	error = error ? error : &unused;
	code = change_begin(path, &image, error);
	if (code)
		return code;
	slots = image->identity.keys;
	number = keys_add(path, &slots, secret, error);
	if (number < 0) {
		image_close(image);
		return number;
	}
	code = change_end(image, &slots, error);
	return code ? code : number;
}

/* The block that the newest slot is not in has it still: who removed it was killed before he had done. */
static bool is_half_removed(const struct image *image, unsigned slot)
{
	const struct slot *newest = &image->slots[image->slot],
			  *other = &image->slots[!image->slot];
	bool torn = other->keys.changes == newest->keys.changes && /* they are the newest's, then */
		    !checksum_same(other->keys_sum, newest->keys_sum);

	return torn || other->keys.slot[slot].kind;
}

int thaw_image_key_remove(const char *path, unsigned slot, struct thaw_error *error)
{
	struct thaw_error unused;
	struct key_slots slots;
	struct image *image;
	unsigned used = 0;
	int code;

	error = error ? error : &unused;
	code = change_begin(path, &image, error);
	if (code)
		return code;
	slots = image->identity.keys;
	for (unsigned i = 0; i < KEY_SLOTS; i++)
		used += slots.slot[i].kind != THAW_KEY_NONE;
	if (slot >= KEY_SLOTS || (!slots.slot[slot].kind && !is_half_removed(image, slot)))
		code = error_set(error, -EINVAL, "%s: its key slot %u is free (see thaw key list)",
				 path, slot);
	else if (used == 1 && slots.slot[slot].kind)
		code = error_set(error, -EINVAL,
				 "%s: slot %u is the only one that opens it: add another first",
				 path, slot);
	if (code) {
		image_close(image);
		return code;
	}
	memset(&slots.slot[slot], 0, sizeof(slots.slot[slot]));
	return change_end(image, &slots, error);
}
