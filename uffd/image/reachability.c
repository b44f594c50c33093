/* SPDX-License-Identifier: MIT */
/*
 * reachability.c - which bytes of the file a generation reaches: from that, which blocks are in
 * use, and which a dropped generation frees. Only on the thread that commits; reads the trees from
 * the file (walk.c).
 */
#include "reachability.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "extent_codec.h"
#include "retention.h"
#include "walk.h"

struct reachability {
	struct space *space;
	struct ranges *ranges; /* may be NULL */
	bool strict;	       /* a node that cannot be read (but may be there) ends it */
};

/*
 * Ranges that a damaged image claims behind its end are counted too: they will be given back like
 * all others, and by then a commit may have stored something there.
 */
static int reached_bytes(struct reachability *reachability, uint64_t offset, uint64_t bytes)
{
	if (reachability->space && bytes) {
		int code = space_cover(reachability->space,
				       bytes <= UINT64_MAX - offset ? offset + bytes : UINT64_MAX);

		if (code)
			return code;
		space_add(reachability->space, offset, bytes);
	}
	return reachability->ranges ? ranges_add(reachability->ranges, offset, bytes) : 0;
}

static int reached_node(void *arg, uint64_t offset, uint32_t bytes)
{
	return reached_bytes(arg, offset, bytes);
}

static int reached_extent(void *arg, uint64_t page, const struct extent *extent)
{
	(void)page;
	return extent->bytes ? reached_bytes(arg, extent->offset, extent_room(extent)) : 0;
}

/*
 * What is below a damaged node can never be reached again, so its blocks are free. But a read that
 * failed may succeed another time: then the commit has to fail, or it might overwrite good blocks.
 */
static int reached_damage(void *arg, uint64_t first_page, uint64_t pages, uint64_t offset,
			  uint32_t bytes, const struct thaw_error *error)
{
	struct reachability *reachability = arg;

	(void)first_page, (void)pages, (void)offset, (void)bytes;
	return reachability->strict && error->code != THAW_EDAMAGED ? error->code : 0;
}

static uint64_t state_taken(const struct generation *generation)
{
	return (generation->info.state_bytes + 7) & ~7ull;
}

/* What `generation` reaches and none of the others does. */
static int reached_difference(const struct image *image, const struct generation *generation,
			      const struct root *const *others, unsigned count, bool careful,
			      struct reachability *reachability)
{
	const struct walk_source source = {image->fd, image->path, image->identity.key,
					   image->identity.page_bytes};
	const struct walk_ops ops = {reached_node, reached_extent, reached_damage, reachability};
	int code = walk_difference(&source, &generation->root, others, count, careful, &ops);

	if (!code && generation->state_offset)
		code = reached_bytes(reachability, generation->state_offset,
				     state_taken(generation));
	return code;
}

static uint64_t working_set_taken(const struct record *record)
{
	return record->working_set.bytes; /* whole words */
}

/*
 * Generations that only the other slot's record still lists wait with the garbage, as if this
 * process had dropped them.
 */
static int space_build_other(struct image *image, const struct root **roots)
{
	const struct working_set *set = &image->record.working_set;
	struct thaw_error ignored;
	struct slot slots[2];
	struct record other;
	int code = header_read(image->fd, image->path, slots, &ignored);
	unsigned count = image->record.count;

	if (code)
		return code;
	if (slots[!image->slot].state != SLOT_VALID)
		return 0;
	slots[!image->slot].key = image->identity.key;
	code = record_read(image->fd, image->path, &slots[!image->slot], &other, &ignored);
	if (code == THAW_EDAMAGED)
		return 0; /* it leads nowhere */
	for (unsigned i = 0; i < count; i++)
		roots[i] = &image->record.generations[i].root;
	for (unsigned i = 0; !code && i < other.count; i++) {
		struct reachability reachability = {&image->space, &image->garbage, true};

		if (record_find(&image->record, other.generations[i].info.number))
			continue;
		code = reached_difference(image, &other.generations[i], roots, count, false,
					  &reachability);
		/* The next one is compared with this one too; it may name what this one does. */
		if (!code)
			roots[count++] = &other.generations[i].root;
	}
	if (!code) {
		struct reachability reachability = {&image->space, &image->garbage, true};

		code = reached_bytes(&reachability, other.offset, other.bytes);
		if (!code && other.working_set.offset != set->offset)
			code = reached_bytes(&reachability, other.working_set.offset,
					     working_set_taken(&other));
		if (!code && other.log.offset != image->record.log.offset)
			code = reached_bytes(&reachability, other.log.offset, other.log.bytes);
	}
	record_free(&other);
	return code;
}

/*
 * Readers use generations that a previous writer dropped, and nothing tells which of the free
 * blocks are theirs. So all free blocks are held, as those dropped from now on are
 * (garbage_release).
 */
static int hold_free(struct image *image)
{
	struct space *space = &image->space;
	int code = 0;

	if (!space->free || !pins_may_hold(image, space->free * SPACE_BLOCK) ||
	    !pins_hold(image->fd, &image->record))
		return 0;
	for (uint64_t block = 0; !code && block < space->blocks; block++)
		if (!space->live[block])
			code = ranges_add(&image->held, block * SPACE_BLOCK, SPACE_BLOCK);
	for (size_t i = 0; !code && i < image->held.count; i++)
		space_add(space, image->held.items[i].offset, image->held.items[i].bytes);
	return code;
}

int reachability_find_all(struct image *image, struct thaw_error *error)
{
	const struct record *record = &image->record;
	uint64_t blocks = (image_file_bytes(image) + SPACE_BLOCK - 1) / SPACE_BLOCK;
	const struct root **roots =
		calloc(record->count + STORE_GENERATIONS_MAX + 1, sizeof(*roots));
	int code = roots ? space_open(&image->space, blocks) : -ENOMEM;

	if (!code) {
		struct reachability reachability = {&image->space, NULL, true};

		space_add(&image->space, 0, STORE_HEADER_BYTES);
		space_add(&image->space, record->offset, record->bytes);
		code = reached_bytes(&reachability, record->working_set.offset,
				     working_set_taken(record));
		if (!code)
			code = reached_bytes(&reachability, record->log.offset, record->log.bytes);
		if (!code)
			code = reached_bytes(&reachability, image->log.tail.offset,
					     image->log.tail.bytes);
	}
	for (unsigned i = 0; !code && i < record->count; i++) {
		struct reachability reachability = {&image->space, NULL, true};
		unsigned adjacent = retention_adjacent(record->generations, record->count, NULL,
						       NULL, i, roots);

		code = reached_difference(image, &record->generations[i], roots, adjacent, false,
					  &reachability);
	}
	if (!code)
		code = space_build_other(image, roots);
	if (!code)
		code = hold_free(image);
	free(roots);
	if (code) {
		space_close(&image->space);
		ranges_free(&image->garbage);
		ranges_free(&image->held);
		return error_set(error, code, "%s: cannot find the free space: %s", image->path,
				 thaw_strerror(code));
	}
	image->space_known = true;
	space_tell_free(&image->space, 0, UINT64_MAX);
	return 0;
}

int reachability_find_dropped(struct image *image, const struct record *all, const bool *keep,
			      const struct record *kept, struct ranges *garbage)
{
	const struct root **roots = calloc(all->count + 1, sizeof(*roots));
	uint64_t *ancestors = calloc(all->count + 1, sizeof(*ancestors));
	bool *there = calloc(all->count + 1, sizeof(*there));
	int code = roots && ancestors && there ? 0 : -ENOMEM;

	for (unsigned i = 0; !code && i < all->count; i++) {
		ancestors[i] = all->generations[i].info.ancestor;
		there[i] = true;
	}
	for (unsigned i = 0; !code && i < all->count; i++) {
		/*
		 * Careful: blocks whose use is not known now stay taken; the next open finds them.
		 */
		struct reachability reachability = {NULL, garbage, false};
		unsigned adjacent;

		if (keep[i])
			continue;
		adjacent = retention_adjacent(all->generations, all->count, ancestors, there, i,
					      roots);
		code = reached_difference(image, &all->generations[i], roots, adjacent, true,
					  &reachability);
		there[i] = false;
		for (unsigned j = i + 1; j < all->count; j++)
			if (ancestors[j] == all->generations[i].info.number)
				ancestors[j] = ancestors[i];
	}
	free(there);
	free(ancestors);
	free(roots);
	if (!code)
		code = ranges_add(garbage, image->record.offset, image->record.bytes);
	if (!code && kept->working_set.offset != image->record.working_set.offset)
		code = ranges_add(garbage, image->record.working_set.offset,
				  working_set_taken(&image->record));
	if (!code && kept->log.offset != image->record.log.offset)
		code = ranges_add(garbage, image->record.log.offset, image->record.log.bytes);
	return code;
}
