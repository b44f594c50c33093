/* SPDX-License-Identifier: MIT */
/*
 * pages.c - thaw_image_pages and thaw_image_diff: what a generation's heap is made of, page by page,
 * and in which pages two of them differ. Both read the trees only, no page: a page's contents are what
 * its checksum says.
 *
 * What cannot be read is told as a run of lost pages, and the rest goes on; the first complaint is the
 * result. Any thread, no lock, nothing written; pins keep a writer from reusing what is read. Depth and
 * memory are bounded by the levels of a tree; a node says which pages it stands for, so none can be
 * visited in two places, not even in an image made to do harm.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "format.h"
#include "handle.h"
#include "walk.h"

static int generation_open(struct thaw_image *from, uint64_t generation, struct image **image,
			   struct thaw_error *error)
{
	const struct image_options options = {.generation = generation};
	int code = image_open_listed(from, &options, image, NULL, error);

	if (!code && !image_opened(*image)->number) {
		image_close(*image);
		code = error_set(error, THAW_ENOGEN, "%s: holds no generation yet", from->path);
	}
	return code;
}

static uint64_t heap_pages(const struct image *image)
{
	return image->opened.info.heap_bytes / image->identity.page_bytes;
}

/* How an error about a node is handled: if the generation was dropped, nothing else matters. */
static int node_lost(const struct image *image, const struct thaw_error *why,
		     struct thaw_error *error)
{
	uint64_t number = image->opened.info.number;

	if (!store_retains(image->fd, image->path, number))
		return error_set(error, THAW_ENOGEN,
				 "%s: generation %" PRIu64
				 " was dropped by the program that writes the image",
				 image->path, number);
	if (!error->code)
		*error = *why;
	return 0;
}

/* ---- What a heap is made of */

struct rank {
	uint64_t cluster;
	uint32_t rank;
};

struct listing {
	struct image *image;
	int (*visit)(void *arg, const struct thaw_page_run *run);
	void *arg;
	uint64_t end;		  /* of the heap, in pages */
	uint64_t next;		  /* the next page; all before it are reported, or in `run` */
	struct thaw_page_run run; /* not reported yet: more may join it */
	unsigned cluster_pages;
	struct rank *ranks; /* by cluster; those before `rank` are done */
	unsigned rank_count, rank;
	struct thaw_error *error; /* of the first node that was lost */
};

static int by_cluster(const void *a, const void *b)
{
	const struct rank *left = a, *right = b;

	if (left->cluster != right->cluster)
		return left->cluster < right->cluster ? -1 : 1;
	return left->rank < right->rank ? -1 : left->rank > right->rank;
}

/* A working set that cannot be read gives no ranks: thaw_image_verify() reports why. */
static void ranks_read(struct listing *listing)
{
	uint64_t *pages, generation;
	int count = image_read_working_set(listing->image, &pages, &generation, NULL);

	if (count > 0)
		listing->ranks = malloc((size_t)count * sizeof(*listing->ranks));
	for (int i = 0; listing->ranks && i < count; i++)
		listing->ranks[listing->rank_count++] = (struct rank){
			set_entry_page(pages[i]) / listing->cluster_pages, (uint32_t)i};
	if (listing->rank_count)
		qsort(listing->ranks, listing->rank_count, sizeof(*listing->ranks), by_cluster);
	free(pages);
}

/* The rank of the next page, and how many from there on have the same. */
static uint32_t rank_next(struct listing *listing, uint64_t *pages)
{
	uint64_t cluster = listing->next / listing->cluster_pages, first;

	while (listing->rank < listing->rank_count &&
	       listing->ranks[listing->rank].cluster < cluster)
		listing->rank++;
	*pages = UINT64_MAX;
	if (listing->rank == listing->rank_count)
		return THAW_RANK_NONE;
	first = listing->ranks[listing->rank].cluster * listing->cluster_pages;
	if (first > listing->next) {
		*pages = first - listing->next;
		return THAW_RANK_NONE;
	}
	*pages = first + listing->cluster_pages - listing->next;
	return listing->ranks[listing->rank].rank;
}

static int run_tell(struct listing *listing)
{
	return listing->run.pages ? listing->visit(listing->arg, &listing->run) : 0;
}

static bool run_joins(const struct listing *listing, const struct thaw_page_run *more)
{
	const struct thaw_page_run *run = &listing->run;

	return run->pages && run->kind == more->kind && run->birth == more->birth &&
	       run->rank == more->rank && run->compressed == more->compressed &&
	       (run->kind != THAW_PAGE_STORED || run->offset + run->bytes == more->offset);
}

/* All pages from the next one up to `end`: of those that are stored, one, which has the extent. */
static int list_pages(struct listing *listing, uint64_t end, enum thaw_page_kind kind,
		      const struct extent *extent)
{
	if (end > listing->end)
		end = listing->end;
	while (listing->next < end) {
		struct thaw_page_run more = {
			.first = listing->next,
			.kind = kind,
			.birth = extent->birth,
			.offset = extent->offset,
			.bytes = extent->bytes ? extent_room(extent) : 0,
			.compressed = extent_is_packed(extent),
		};

		more.rank = rank_next(listing, &more.pages);
		if (more.pages > end - listing->next)
			more.pages = end - listing->next;
		listing->next += more.pages;
		if (run_joins(listing, &more)) {
			listing->run.pages += more.pages;
			listing->run.bytes += more.bytes;
		} else {
			int code = run_tell(listing);

			if (code)
				return code;
			listing->run = more;
		}
	}
	return 0;
}

static int list_node(void *arg, uint64_t offset, uint32_t bytes)
{
	(void)arg, (void)offset, (void)bytes;
	return 0;
}

static const struct extent nothing = {.encoding = EXTENT_ABSENT};

static int list_extent(void *arg, uint64_t page, const struct extent *extent)
{
	int code = list_pages(arg, page, THAW_PAGE_ABSENT, &nothing);

	if (code)
		return code;
	return list_pages(arg, page + 1,
			  extent_is_stored(extent) ? THAW_PAGE_STORED : THAW_PAGE_ZERO, extent);
}

static int list_lost(void *arg, uint64_t first_page, uint64_t pages, uint64_t offset,
		     uint32_t bytes, const struct thaw_error *error)
{
	struct listing *listing = arg;
	int code = list_pages(listing, first_page, THAW_PAGE_ABSENT, &nothing);

	(void)offset, (void)bytes;
	if (!code)
		code = node_lost(listing->image, error, listing->error);
	return code ? code : list_pages(listing, first_page + pages, THAW_PAGE_LOST, &nothing);
}

int thaw_image_pages(struct thaw_image *image, uint64_t generation,
		     int (*visit)(void *arg, const struct thaw_page_run *run), void *arg,
		     struct thaw_error *error)
{
	struct listing listing = {.visit = visit, .arg = arg};
	const struct walk_ops ops = {list_node, list_extent, list_lost, &listing};
	struct walk_source source = {.path = image->path};
	struct thaw_error unused;
	int code;

	error = error ? error : &unused;
	code = generation_open(image, generation, &listing.image, error);
	if (code)
		return code;
	*error = (struct thaw_error){0};
	listing.error = error;
	listing.end = heap_pages(listing.image);
	listing.cluster_pages = page_cluster(listing.image->identity.page_bytes);
	ranks_read(&listing);
	source.fd = listing.image->fd;
	source.key = listing.image->identity.key;
	source.page_bytes = listing.image->identity.page_bytes;
	code = walk_difference(&source, &listing.image->opened.root, NULL, 0, false, &ops);
	if (!code)
		code = list_pages(&listing, listing.end, THAW_PAGE_ABSENT, &nothing);
	if (!code)
		code = run_tell(&listing);
	if (code == -ENOMEM)
		error_set(error, code, "%s: no memory to list its pages", image->path);
	free(listing.ranks);
	image_close(listing.image);
	return code ? code : error->code;
}

/* ---- In what two of them differ */

enum { FROM, TO, SIDES };

struct place { /* one side's subtree; offset 0: nothing is stored there */
	struct reference at;
	unsigned level;
};

struct difference {
	struct image *image[SIDES];
	uint64_t end[SIDES]; /* of the heaps, in pages */
	int (*visit)(void *arg, const struct thaw_page_change *change);
	void *arg;
	struct thaw_page_change change; /* not reported yet: more pages may join it */
	struct thaw_error *error;
};

static int change_tell(struct difference *difference)
{
	return difference->change.pages ? difference->visit(difference->arg, &difference->change)
					: 0;
}

static int change_add(struct difference *difference, uint64_t first, uint64_t pages,
		      enum thaw_change_kind kind)
{
	struct thaw_page_change *change = &difference->change;
	uint64_t end = difference->end[FROM] > difference->end[TO] ? difference->end[FROM]
								   : difference->end[TO];
	int code;

	if (first >= end)
		return 0;
	if (pages > end - first)
		pages = end - first;
	if (change->pages && change->kind == kind && change->first + change->pages == first) {
		change->pages += pages;
		return 0;
	}
	code = change_tell(difference);
	*change = (struct thaw_page_change){first, pages, kind};
	return code;
}

static int compare_entries(struct difference *difference, uint64_t page,
			   const struct disk_entry *from, const struct disk_entry *to)
{
	bool before = from && from->encoding >= EXTENT_RAW && page < difference->end[FROM];
	bool after = to && to->encoding >= EXTENT_RAW && page < difference->end[TO];

	if (!before && !after)
		return 0;
	if (!before)
		return change_add(difference, page, 1, THAW_CHANGE_APPEARED);
	if (!after)
		return change_add(difference, page, 1, THAW_CHANGE_VANISHED);
	/* The same contents may have been stored twice. */
	if (from->checksum[0] == to->checksum[0] && from->checksum[1] == to->checksum[1])
		return 0;
	return change_add(difference, page, 1, THAW_CHANGE_CHANGED);
}

/* This side's subtree below the child, of a node or of a tree with fewer levels. */
static struct place place_below(const struct place *place, unsigned level, unsigned child,
				const union disk_any *node)
{
	if (!place->at.offset)
		return (struct place){.at.offset = 0};
	if (place->level == level)
		return (struct place){index_child(node, child), level - 1};
	return child ? (struct place){.at.offset = 0} : *place;
}

static int compare_subtrees(struct difference *difference, unsigned level, uint64_t first,
			    const struct place places[SIDES])
{
	union disk_any nodes[SIDES];
	bool here[SIDES];
	int code = 0;

	if (!places[FROM].at.offset && !places[TO].at.offset)
		return 0;
	if (places[FROM].at.offset == places[TO].at.offset && places[FROM].level == level &&
	    places[TO].level == level)
		return 0; /* one node for both */
	for (unsigned side = 0; side < SIDES; side++) {
		const struct image *image = difference->image[side];
		struct thaw_error why;

		here[side] = places[side].at.offset && places[side].level == level;
		if (!here[side] ||
		    !index_read_node(image->fd, image->path, image->identity.key, &places[side].at,
				     level, first, &nodes[side], &why))
			continue;
		code = node_lost(image, &why, difference->error);
		return code ? code
			    : change_add(difference, first, index_span(level), THAW_CHANGE_LOST);
	}
	for (unsigned i = 0; i < FORMAT_FANOUT && !code; i++) {
		struct place below[SIDES];

		if (!level) {
			code = compare_entries(difference, first + i,
					       here[FROM] ? &nodes[FROM].leaf.entries[i] : NULL,
					       here[TO] ? &nodes[TO].leaf.entries[i] : NULL);
			continue;
		}
		for (unsigned side = 0; side < SIDES; side++)
			below[side] = place_below(&places[side], level, i, &nodes[side]);
		code = compare_subtrees(difference, level - 1, first + i * index_span(level - 1),
					below);
	}
	return code;
}

static int compare_trees(struct difference *difference)
{
	struct place places[SIDES];
	unsigned level = 0;
	int code;

	for (unsigned side = 0; side < SIDES; side++) {
		const struct root *root = &difference->image[side]->opened.root;

		places[side] = (struct place){.at = root->at};
		if (!root->levels)
			places[side].at.offset = 0;
		else
			places[side].level = root->levels - 1;
		if (places[side].level > level)
			level = places[side].level;
	}
	code = compare_subtrees(difference, level, 0, places);
	return code ? code : change_tell(difference);
}

int thaw_image_diff(struct thaw_image *image, uint64_t from, uint64_t to,
		    int (*visit)(void *arg, const struct thaw_page_change *change), void *arg,
		    struct thaw_error *error)
{
	struct difference difference = {.visit = visit, .arg = arg};
	struct thaw_error unused;
	int code;

	error = error ? error : &unused;
	code = generation_open(image, from, &difference.image[FROM], error);
	if (code)
		return code;
	code = generation_open(image, to, &difference.image[TO], error);
	if (code) {
		image_close(difference.image[FROM]);
		return code;
	}
	*error = (struct thaw_error){0};
	difference.error = error;
	for (unsigned side = 0; side < SIDES; side++)
		difference.end[side] = heap_pages(difference.image[side]);
	code = compare_trees(&difference);
	image_close(difference.image[FROM]);
	image_close(difference.image[TO]);
	return code ? code : error->code;
}
