/* SPDX-License-Identifier: MIT */
/*
 * relocate.c - background compaction: each commit moves a little from the end of a file that is too long for
 * its contents. The thread that commits, only.
 *
 *	in use  xxxxxx..xxx...xxxx....x...........x.......x....x..	the file can be shortened only
 *	                          ^ cut					where its end is free
 *
 * When less than two thirds of the file are in use, one walk lists the pages and nodes of the newest
 * generation beyond `cut`. Each commit copies some of them, and the working set once, into free blocks at the
 * front. Older generations free their part of the end when they are dropped; one that is kept by a name
 * keeps it (thaw compact moves that, too). A moved page keeps its contents, checksum and birth. It may not
 * have arrived in the heap yet: the index names the new place only when the bytes are there, and the fault
 * service looks again when it does not find at a place what the index said (page_moved).
 */
#include "relocate.h"

#include <errno.h>
#include <stdlib.h>

#include "cipher.h"
#include "sys.h"
#include "walk.h"

#define SLACK_BLOCKS (16u << 8) /* 16 MiB: shorter files are left alone */
#define PART_BYTES (1u << 20)	/* moved with a commit, at least */
#define PARTS_MOST 256u		/* or so many commits for all of a round, however long it is */
#define PAUSE_COMMITS 64u
#define PAUSES_MAX 6u /* 2^6 times as long at most */
#define LISTED_MAX (1u << 20)

struct listing {
	struct relocation *relocation;
	size_t room;
	bool node; /* a node beyond the cut: the next page below it represents it */
};

static int list_node(void *arg, uint64_t offset, uint32_t bytes)
{
	struct listing *listing = arg;

	(void)bytes;
	listing->node |= offset >= listing->relocation->cut;
	return 0;
}

static int list_extent(void *arg, uint64_t page, const struct extent *extent)
{
	struct listing *listing = arg;
	struct relocation *relocation = listing->relocation;

	if (!listing->node && (!extent->bytes || extent->offset < relocation->cut))
		return 0;
	listing->node = false;
	if (relocation->count == LISTED_MAX)
		return 1; /* the rest another time */
	if (relocation->count == listing->room) {
		size_t room = listing->room ? 2 * listing->room : 1024;
		uint64_t *more = realloc(relocation->pages, room * sizeof(*more));

		if (!more)
			return -ENOMEM;
		relocation->pages = more;
		listing->room = room;
	}
	relocation->pages[relocation->count++] = page;
	return 0;
}

static int list_damage(void *arg, uint64_t first_page, uint64_t pages, uint64_t offset,
		       uint32_t bytes, const struct thaw_error *error)
{
	(void)arg, (void)first_page, (void)pages, (void)offset, (void)bytes, (void)error;
	return 0; /* it stays where it is */
}

void relocate_free(struct relocation *relocation)
{
	free(relocation->pages);
	relocation->pages = NULL;
	relocation->count = relocation->next = 0;
	relocation->set = false;
}

void relocate_pause(struct relocation *relocation)
{
	relocate_free(relocation);
	relocation->pause = PAUSE_COMMITS << relocation->pauses;
	relocation->pauses += relocation->pauses < PAUSES_MAX;
}

static bool is_too_long(const struct image *image)
{
	uint64_t used = image->space.blocks - image->space.free;

	return image->space.blocks > used + used / 2 + 2 * SLACK_BLOCKS;
}

bool relocate_due(struct image *image)
{
	struct relocation *relocation = &image->relocation;

	if (relocation->count || relocation->set)
		return true;
	if (relocation->pause) {
		relocation->pause--;
		return false;
	}
	return is_too_long(image);
}

/* Is the file too long? And how long ago was that checked? */
static bool round_begin(struct image *image)
{
	struct relocation *relocation = &image->relocation;
	const struct walk_source source = {image->fd, image->path, image->identity.key,
					   image->identity.page_bytes};
	struct listing listing = {.relocation = relocation};
	const struct walk_ops ops = {list_node, list_extent, list_damage, &listing};
	uint64_t used = image->space.blocks - image->space.free;
	int code;

	if (relocation->pause) {
		relocation->pause--;
		return false;
	}
	if (!is_too_long(image))
		return false;
	relocation->cut = (used + used / 4 + SLACK_BLOCKS) * SPACE_BLOCK;
	code = walk_difference(&source, &image->base.root, NULL, 0, false, &ops);
	relocation->set = image->record.working_set.bytes &&
			  image->record.working_set.offset >= relocation->cut;
	if (code < 0 || (!relocation->count && !relocation->set)) { /* others keep the file long */
		relocate_pause(relocation);
		return false;
	}
	relocation->pauses = 0;
	return true;
}

/* Room for a page before the cut. 1: there is none, so it stays. */
static int room_make(struct image *image, struct writer *writer, uint32_t bytes)
{
	struct relocation *relocation = &image->relocation;
	uint64_t run, blocks;

	if (writer->run < relocation->cut && writer->run_bytes - writer->run_used >= bytes)
		return 0;
	if (!space_allocate_between(&image->space, &relocation->front,
				    relocation->cut / SPACE_BLOCK, bytes / SPACE_BLOCK,
				    PART_BYTES / SPACE_BLOCK, &run, &blocks))
		return 1;
	return writer_go_on_in(writer, run, blocks);
}

/* A page that has been copied, and where: until its bytes are in the file, the index says where it was. */
struct moved {
	uint64_t page;
	struct extent extent;
};

/*
 * Copy one page; or, if the page is in a good place, only look up its entry, so that the nodes
 * above it are written again. 1: there is nothing to do.
 */
static int page_copy(struct image *image, struct writer *writer, struct moved *moved, void *buffer)
{
	struct relocation *relocation = &image->relocation;
	uint32_t bytes = image->identity.page_bytes;
	struct extent *extent = &moved->extent;
	int code;

	/* Nor pages that this commit has stored. */
	if (index_get(&image->index, moved->page, extent, NULL) ||
	    extent->encoding == EXTENT_ABSENT || extent->own)
		return 1;
	if (extent->encoding != EXTENT_RAW || extent->offset < relocation->cut)
		return 0;
	if (sys_pread(image->fd, buffer, bytes, extent->offset) ||
	    !extent_open(image->identity.key, moved->page, extent, buffer, buffer, bytes))
		return 1; /* damaged: reported to whoever reads it */
	code = room_make(image, writer, bytes);
	cipher_page(image->identity.key, moved->page, extent, buffer, buffer, bytes);
	return code ? code : writer_append(writer, buffer, bytes, bytes, &extent->offset);
}

static int part_move(struct image *image, struct writer *writer, struct moved *moved, size_t part,
		     void *buffer)
{
	struct relocation *relocation = &image->relocation;
	size_t count = 0;
	int code = 0;

	while (part-- && relocation->next < relocation->count) {
		moved[count].page = relocation->pages[relocation->next++];
		code = page_copy(image, writer, &moved[count], buffer);
		if (code < 0)
			return code;
		count += !code;
	}
	/* The fault service may be asked for any of them next. */
	code = writer_flush(writer);
	for (size_t i = 0; !code && i < count; i++)
		code = index_set(&image->index, moved[i].page, &moved[i].extent, NULL);
	return code;
}

static bool set_read(struct image *image, const struct working_set *set, void *buffer)
{
	const struct checksum_key *key = image->identity.key;
	bool whole = !sys_pread(image->fd, buffer, set->bytes, set->offset);

	if (!whole)
		return false;
	cipher(key, CHECKSUM_WORKING_SET, set->checksum, set->generation, buffer, buffer,
	       set->bytes, 0);
	whole = checksum_is(key, CHECKSUM_WORKING_SET, buffer, set->bytes, set->checksum);
	/* It goes to another place as it is. */
	cipher(key, CHECKSUM_WORKING_SET, set->checksum, set->generation, buffer, buffer,
	       set->bytes, 0);
	return whole;
}

/* While there is no room for all of it, it waits. */
static int set_move(struct image *image, struct writer *writer, struct working_set *set)
{
	struct relocation *relocation = &image->relocation;
	uint32_t bytes = (uint32_t)((set->bytes + SPACE_BLOCK - 1) / SPACE_BLOCK * SPACE_BLOCK);
	void *buffer;
	int code = 0;

	if (!set->bytes || set->offset < relocation->cut) { /* another one by now */
		relocation->set = false;
		return 0;
	}
	buffer = malloc(bytes);
	if (!buffer)
		return -ENOMEM;
	if (!set_read(image, set, buffer)) {
		relocation->set = false; /* damaged: whoever needs it will be told */
	} else {
		code = room_make(image, writer, bytes);
		if (!code)
			code = writer_append(writer, buffer, set->bytes, set->bytes, &set->offset);
		if (!code)
			writer_settle(writer); /* the pages after it begin at a block */
		relocation->set = code > 0;
	}
	free(buffer);
	return code < 0 ? code : 0;
}

int relocate_some(struct image *image, struct writer *writer, struct working_set *set)
{
	struct relocation *relocation = &image->relocation;
	struct moved *moved;
	void *buffer;
	size_t part;
	int code;

	if (!relocation->count && !relocation->set && !round_begin(image))
		return 0;
	relocation->front = 0;
	if (relocation->set && set) {
		code = set_move(image, writer, set);
		if (code)
			return code;
		relocation->front = 0; /* what is too short for it has room for pages */
	}
	part = PART_BYTES / image->identity.page_bytes + relocation->count / PARTS_MOST;
	buffer = malloc(image->identity.page_bytes);
	moved = calloc(part, sizeof(*moved));
	code = buffer && moved ? part_move(image, writer, moved, part, buffer) : -ENOMEM;
	free(moved);
	free(buffer);
	if (!code && relocation->next == relocation->count) {
		/*
		 * What older generations use at the end is freed when they are dropped, not before.
		 */
		relocate_free(relocation);
		relocation->pause = PAUSE_COMMITS;
	}
	return code;
}
