/* SPDX-License-Identifier: MIT */
/*
 * inspect.c - thaw_image_info: what an image is, and how its bytes are used. Any thread, no lock,
 * nothing written; the image may be in use.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "bitmap.h"
#include "handle.h"
#include "lock.h"
#include "retention.h"
#include "walk.h"

#define SMALL_BYTES (64u << 10)
#define BLOCKS_MAX (1ull << 34) /* of files of up to 64 TiB the unused blocks are counted */

struct count {
	uint64_t bytes;		     /* reached */
	struct bitmap used;	     /* blocks of the file; no words: they are not counted */
	uint64_t pages, pieces, end; /* of what was reached: stored pages, in heap order */
	uint64_t page_bytes, compressed, zstd;
};

static void count_use(struct count *count, uint64_t offset, uint64_t bytes)
{
	uint64_t block = offset / SPACE_BLOCK,
		 end = (offset + bytes + SPACE_BLOCK - 1) / SPACE_BLOCK;

	if (!count->used.words || !bytes)
		return;
	for (end = end > count->used.bits ? count->used.bits : end; block < end; block++)
		bitmap_set(&count->used, block);
}

static int count_node(void *arg, uint64_t offset, uint32_t bytes)
{
	struct count *count = arg;

	count->bytes += bytes;
	count_use(count, offset, bytes);
	return 0;
}

static int count_extent(void *arg, uint64_t page, const struct extent *extent)
{
	struct count *count = arg;

	(void)page;
	if (!extent->bytes)
		return 0;
	count->bytes += extent->bytes;
	count->pages++;
	count->pieces += extent->offset != count->end;
	count->end = extent_end(extent);
	count->page_bytes += extent->bytes;
	count->compressed += extent_is_packed(extent);
	count->zstd += extent->encoding >= EXTENT_ZSTD;
	count_use(count, extent->offset, extent->bytes);
	return 0;
}

static void count_unused(const struct count *count, struct thaw_image_info *info)
{
	uint64_t blocks = count->used.words ? count->used.bits : 0, block = 0;

	while (block < blocks) {
		uint64_t next = bitmap_next(&count->used, block), bytes;

		next = next < blocks ? next : blocks;
		bytes = (next - block) * SPACE_BLOCK;
		info->unused_bytes += bytes;
		info->unused_pieces += !!bytes;
		if (bytes < SMALL_BYTES)
			info->unused_small_bytes += bytes;
		block = next < blocks ? next + bitmap_run(&count->used, next) : blocks;
	}
}

static int count_damage(void *arg, uint64_t first_page, uint64_t pages, uint64_t offset,
			uint32_t bytes, const struct thaw_error *error)
{
	(void)arg, (void)first_page, (void)pages, (void)offset, (void)bytes, (void)error;
	return 0; /* unreadable nodes are skipped here; verify reports them */
}

/* Newest first, each compared with those counted before. */
static int count_reached(const struct thaw_image *image, struct thaw_image_info *info)
{
	const struct walk_source source = {image->fd, image->path, image->slots[image->slot].key,
					   info->page_bytes};
	const struct record *record = &image->record;
	const struct working_set *set = &record->working_set;
	const struct generation *generation;
	struct retention_tour tour;
	uint64_t blocks = info->file_bytes / SPACE_BLOCK;
	uint64_t other = STORE_HEADER_BYTES + record->bytes + set->bytes;
	struct count count = {0};
	const struct walk_ops ops = {count_node, count_extent, count_damage, &count};
	int code = retention_tour_begin(&tour, record->generations, record->count);

	/* Without memory for it the rest is reported all the same. */
	if (blocks <= BLOCKS_MAX && bitmap_init(&count.used, blocks))
		count.used.words = NULL;
	count_use(&count, 0, STORE_HEADER_BYTES);
	count_use(&count, record->offset, record->bytes);
	count_use(&count, set->offset, set->bytes);
	while (!code && (generation = retention_tour_next(&tour))) {
		code = walk_difference(&source, &generation->root, tour.roots, tour.adjacent, false,
				       &ops);
		count.bytes += generation->info.state_bytes;
		count_use(&count, generation->state_offset, generation->info.state_bytes);
		if (tour.done > 1)
			continue;
		info->live_bytes = count.bytes;
		info->newest_pages = count.pages;
		info->newest_pieces = count.pieces;
		info->newest_page_bytes = count.page_bytes;
		info->newest_compressed = count.compressed;
		info->newest_zstd = count.zstd;
	}
	count_unused(&count, info);
	bitmap_free(&count.used);
	retention_tour_end(&tour);
	info->retained_bytes = count.bytes;
	if (info->file_bytes > count.bytes + other)
		info->free_bytes = info->file_bytes - count.bytes - other;
	return code;
}

int thaw_image_info(const struct thaw_image *image, bool deep, struct thaw_image_info *info,
		    struct thaw_error *error)
{
	const struct slot *slot = &image->slots[image->slot];
	struct thaw_error unused;
	struct stat stat;
	int code;

	memset(info, 0, sizeof(*info));
	info->format = slot->format;
	info->page_bytes = slot->page_bytes;
	memcpy(info->uuid, slot->uuid, sizeof(info->uuid));
	memcpy(info->engine, slot->engine, sizeof(info->engine));
	if (!fstat(image->fd, &stat)) {
		info->file_bytes = (uint64_t)stat.st_size;
		info->allocated_bytes = (uint64_t)stat.st_blocks * 512;
	}
	info->holder = lock_holder(image->fd);
	info->generations = image->record.count;
	info->fallback = image->fallback;
	info->keyed = slot->key;
	info->encrypted = slot->enciphered;
	info->working_set_clusters = image->record.working_set.bytes / sizeof(uint64_t);
	info->working_set_generation = image->record.working_set.generation;
	code = deep ? count_reached(image, info) : 0;
	return code ? error_set(error ? error : &unused, code, "%s: cannot count its bytes: %s",
				image->path, thaw_strerror(code))
		    : 0;
}
