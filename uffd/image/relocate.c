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
 * front. Packed pages, several to a block, leave blocks behind of which little is in use: when a quarter of all
 * blocks in use is lost so, a round does the same with those of them that are in such blocks, wherever they go. Older generations free their part of the end when they are dropped; one that is kept by a name
 * keeps it (thaw compact moves that, too). A moved page keeps its contents, checksum and birth. It may not
 * have arrived in the heap yet: the index names the new place only when the bytes are there, and the fault
 * service looks again when it does not find at a place what the index said (page_moved).
 */
#include "relocate.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cipher.h"
#include "commit.h"
#include "sys.h"
#include "walk.h"

#define SLACK_BLOCKS (16u << 8) /* 16 MiB: shorter files are left alone */
#define PART_BYTES (1u << 20)	/* moved with a commit, at least */
#define PARTS_MOST 256u		/* or so many commits for all of a round, however long it is */
#define PAUSE_COMMITS 64u
#define SPARSE_PAUSE 4u /* each round walks the tree */
#define PAUSES_MAX 6u	/* 2^6 times as long at most */
#define LISTED_MAX (1u << 20)
#define SPARSE_BYTES (4u << 20) /* less is left alone */
#define SPARSE_MOVES 2u		/* pages moved for each one that is written, at least */

struct listing {
	const struct space *space;
	struct relocation *relocation;
	size_t room;
	bool node; /* a node beyond the cut: the next page below it represents it */
};

/* The block that it begins in. */
static bool extent_is_sparse(const struct space *space, const struct extent *extent)
{
	uint64_t block = extent->offset / SPACE_BLOCK;

	return extent_is_packed(extent) && block < space->blocks &&
	       space->live[block] < SPACE_BLOCK - SPACE_BLOCK / 4;
}

static bool is_to_move(const struct relocation *relocation, const struct space *space,
		       const struct extent *extent)
{
	if (relocation->sparse)
		return extent_is_sparse(space, extent);
	return extent_is_stored(extent) && extent->offset >= relocation->cut;
}

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

	if (!listing->node && !is_to_move(relocation, listing->space, extent))
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

/* What is in use of the blocks in use is less than three quarters of them. */
static bool is_sparse(const struct image *image)
{
	uint64_t used = (image->space.blocks - image->space.free) * SPACE_BLOCK;

	return used > image->space.bytes + image->space.bytes / 3 + SPARSE_BYTES;
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
	return is_too_long(image) || is_sparse(image);
}

/* Is the file too long? And how long ago was that checked? */
static bool round_begin(struct image *image)
{
	struct relocation *relocation = &image->relocation;
	const struct walk_source source = {image->fd, image->path, image->identity.key,
					   image->identity.page_bytes};
	struct listing listing = {.space = &image->space, .relocation = relocation};
	const struct walk_ops ops = {list_node, list_extent, list_damage, &listing};
	uint64_t used = image->space.blocks - image->space.free;
	int code;

	if (relocation->pause) {
		relocation->pause--;
		return false;
	}
	relocation->sparse = !is_too_long(image);
	if (relocation->sparse && !is_sparse(image))
		return false;
	relocation->cut = relocation->sparse ? UINT64_MAX
					     : (used + used / 4 + SLACK_BLOCKS) * SPACE_BLOCK;
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

/* Room for so many bytes before the cut. 1: there is none, so they stay. */
static int room_make(struct image *image, struct writer *writer, uint64_t bytes)
{
	struct relocation *relocation = &image->relocation;
	uint64_t run, blocks;

	if (relocation->sparse ||
	    (writer->run < relocation->cut && writer->run_bytes - writer->run_used >= bytes))
		return 0;
	if (!space_allocate_between(&image->space, &relocation->front,
				    relocation->cut / SPACE_BLOCK,
				    (bytes + SPACE_BLOCK - 1) / SPACE_BLOCK,
				    PART_BYTES / SPACE_BLOCK, &run, &blocks))
		return 1;
	return writer_go_on_in(writer, run, blocks);
}

/* A page that has been copied, and where: until its bytes are in the file, the index says where it was. */
struct moved {
	uint64_t page;
	struct extent extent;
};

/* The bytes as they are stored, and the page that they stand for, which nobody needs. */
struct copied {
	uint8_t *stored, *page;
};

static bool page_read(struct image *image, uint64_t page, const struct extent *extent,
		      struct copied *copied)
{
	memset(copied->stored + extent->bytes, 0, extent_room(extent) - extent->bytes);
	return !sys_pread(image->fd, copied->stored, extent->bytes, extent->offset) &&
	       !extent_decode(&image->scratch, image->identity.key, page, extent, copied->stored,
			      copied->page, image->identity.page_bytes);
}

/*
 * Copy one page; or, if the page is in a good place, only look up its entry, so that the nodes
 * above it are written again. 1: there is nothing to do.
 */
static int page_copy(struct commit *commit, struct moved *moved, struct copied *copied)
{
	struct image *image = commit->image;
	struct extent *extent = &moved->extent;
	struct writer *writer;
	int code;

	/* Nor pages that this commit has stored. */
	if (index_get(&image->index, moved->page, extent, NULL) ||
	    extent->encoding == EXTENT_ABSENT || extent->own)
		return 1;
	if (!is_to_move(&image->relocation, &image->space, extent))
		return 0;
	if (!page_read(image, moved->page, extent, copied))
		return 1; /* damaged: reported to whoever reads it */
	writer = extent_is_whole(extent) ? &commit->writer : &commit->packed;
	code = room_make(image, writer, extent_room(extent));
	return code ? code
		    : writer_append(writer, copied->stored, extent_room(extent), PART_BYTES,
				    &extent->offset);
}

static int part_move(struct commit *commit, struct moved *moved, size_t part, struct copied *copied)
{
	struct relocation *relocation = &commit->image->relocation;
	size_t count = 0;
	int code = 0;

	while (part-- && relocation->next < relocation->count) {
		moved[count].page = relocation->pages[relocation->next++];
		code = page_copy(commit, &moved[count], copied);
		if (code < 0)
			return code;
		count += !code;
	}
	/* The fault service may be asked for any of them next. */
	code = writer_flush(&commit->writer);
	if (!code)
		code = writer_flush(&commit->packed);
	for (size_t i = 0; !code && i < count; i++)
		code = index_set(&commit->image->index, moved[i].page, &moved[i].extent, NULL);
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

int relocate_some(struct commit *commit, struct working_set *set)
{
	struct image *image = commit->image;
	struct relocation *relocation = &image->relocation;
	uint32_t page_bytes = image->identity.page_bytes;
	struct copied copied;
	struct moved *moved;
	size_t part;
	int code;

	if (!relocation->count && !relocation->set && !round_begin(image))
		return 0;
	relocation->front = 0;
	if (relocation->set && set) {
		code = set_move(image, &commit->writer, set);
		if (code)
			return code;
		relocation->front = 0; /* what is too short for it has room for pages */
	}
	part = PART_BYTES / page_bytes + relocation->count / PARTS_MOST;
	/* Each page that is written leaves a hole in some block, in which there are others. */
	if (relocation->sparse)
		part += SPARSE_MOVES * commit->pages;
	copied.stored = malloc(2 * (size_t)page_bytes);
	copied.page = copied.stored + page_bytes;
	moved = calloc(part, sizeof(*moved));
	code = copied.stored && moved ? part_move(commit, moved, part, &copied) : -ENOMEM;
	free(moved);
	free(copied.stored);
	if (!code && relocation->next == relocation->count) {
		/*
		 * What older generations use at the end is freed when they are dropped, not before.
		 */
		relocation->pause = relocation->sparse ? SPARSE_PAUSE : PAUSE_COMMITS;
		relocate_free(relocation);
	}
	return code;
}
