/* SPDX-License-Identifier: MIT */
/*
 * choose.c - which generation an open image shows: the one asked for, the newest whole one, or the newest
 * whole portable one. What is damaged is passed over for an older generation, and the caller is told.
 *
 * Called while an image is opened (image.c), by its owner. Reads the header slots, the records and the
 * root of each candidate; never writes.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "store.h"

int image_check_identity(const struct image_options *options, const struct slot *slot,
			 struct thaw_error *error)
{
	if (options->page_bytes > slot->page_bytes)
		return error_set(
			error, THAW_EFORMAT,
			"%s: its pages have %u bytes, and this kernel's have %u, which is too "
			"many: run it on a kernel whose pages have at most %u (to read it, "
			"thaw export works here too)",
			options->path, slot->page_bytes, options->page_bytes, slot->page_bytes);
	if (options->engine && strcmp(options->engine, slot->engine))
		return error_set(error, THAW_EENGINE,
				 "%s: an image of engine '%s', and this is '%s': name another "
				 "image, or remove it",
				 options->path, slot->engine, options->engine);
	if (!options->engine || options->read_only || options->retain_all)
		return 0;
	if (options->encrypted && !slot->enciphered)
		return error_set(error, THAW_EKEY,
				 "%s: it is not encrypted: thaw compact --encrypt makes it so",
				 options->path);
	if (slot->enciphered || options->keyed == !!slot->key)
		return 0;
	return error_set(
		error, THAW_EKEY,
		options->keyed
			? "%s: its contents are not authenticated, so anybody who could write the "
			  "file can have made them: remove it, and start anew"
			: "%s: its contents are authenticated with a key, and this program makes "
			  "images without: name another image",
		options->path);
}

static int root_check(const struct image *image, const struct generation *generation,
		      struct thaw_error *error)
{
	uint64_t node[72]; /* more than a union disk_any */
	unsigned levels = generation->root.levels;

	if (!levels)
		return 0;
	return index_read_node(image->fd, image->path, image->identity.key, &generation->root.at,
			       levels - 1, 0, (union disk_any *)node, error);
}

static int choose_exactly(struct image *image, uint64_t number, struct thaw_error *error)
{
	const struct record *record = &image->record;
	const struct generation *found = record_find(record, number);

	if (!found)
		return error_set(
			error, THAW_ENOGEN,
			"%s: no generation %" PRIu64 ": the image holds %" PRIu64 " to %" PRIu64
			" (see thaw log)",
			image->path, number, record->count ? record->generations[0].info.number : 0,
			record->count ? record->generations[record->count - 1].info.number : 0);
	image->opened = *found;
	return root_check(image, found, error);
}

/* This one, if its root is whole. The first error is kept in `fallback`. */
static int choose_whole(struct image *image, const struct generation *generation,
			struct thaw_error *fallback, struct thaw_error *error)
{
	int code = root_check(image, generation, error);

	if (!code)
		image->opened = *generation;
	if (code == THAW_EDAMAGED && !fallback->code)
		*fallback = *error;
	return code;
}

/* The newest whole generation of the record. THAW_ENOGEN, with no message: it lists none. */
static int choose_newest(struct image *image, struct thaw_error *fallback, struct thaw_error *error)
{
	int code = THAW_ENOGEN;

	for (unsigned i = image->record.count; i-- > 0;) {
		code = choose_whole(image, &image->record.generations[i], fallback, error);
		if (code != THAW_EDAMAGED)
			break;
	}
	return code;
}

/*
 * The newest whole portable generation in the line of descent that ends with number `*last`. If the
 * record lists no more of that line, `*last` is the number to continue with in another record.
 * THAW_ENOGEN, with no message: the record lists none.
 */
static int choose_portable(struct image *image, uint64_t *last, struct thaw_error *fallback,
			   struct thaw_error *error)
{
	const struct generation *end, *named;
	int code = THAW_ENOGEN;

	while ((end = record_find(&image->record, *last)) &&
	       (named = record_find(&image->record, end->info.portable))) {
		code = choose_whole(image, named, fallback, error);
		if (code != THAW_EDAMAGED)
			break;
		*last = named->info.parent;
	}
	return code;
}

int image_choose(struct image *image, const struct image_options *options,
		 const struct slot slots[2], struct thaw_error *fallback, struct thaw_error *error)
{
	uint64_t newest, last;
	int code, older_code;

	if (options->fresh)
		return 0;
	if (options->generation)
		return choose_exactly(image, options->generation, error);
	if (!image->record.count) {
		if (!fallback->code)
			return 0; /* a new image */
		return error_set(
			error, THAW_EDAMAGED,
			"%s: header slot %u at offset %u is damaged, and no generation is left: "
			"restore the file from a backup, or start anew with --fresh",
			image->path, !image->slot, !image->slot * SPACE_BLOCK);
	}
	newest = last = image->record.generations[image->record.count - 1].info.number;
	code = options->portable ? choose_portable(image, &last, fallback, error)
				 : choose_newest(image, fallback, error);
	if (code == THAW_EDAMAGED && slots[!image->slot].state == SLOT_VALID &&
	    slots[!image->slot].sequence < slots[image->slot].sequence) {
		struct record older;

		if (record_read(image->fd, image->path, &slots[!image->slot], &older, NULL))
			return code;
		if (!image->record_lent)
			record_free(&image->record);
		image->record_lent = false;
		image->record = older;
		image->slot = !image->slot;
		older_code = options->portable ? choose_portable(image, &last, fallback, error)
					       : choose_newest(image, fallback, error);
		if (older_code != THAW_ENOGEN)
			code = older_code;
	}
	if (code == THAW_ENOGEN)
		error_set(error, code,
			  "%s: its newest generation, %" PRIu64
			  ", is bound to the build that wrote it, and so is what the image still "
			  "holds of the line it descends from: use that build, or start anew with "
			  "--fresh",
			  image->path, newest);
	return code;
}

/*
 * The next commit's: above every sequence there is or, in a damaged slot, was; of the other's
 * parity.
 */
