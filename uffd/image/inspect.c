/* SPDX-License-Identifier: MIT */
/*
 * inspect.c - thaw_image_log and thaw_image_info: what an image says about itself. Any thread, no
 * lock, nothing written; the image may be in use.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bitmap.h"
#include "retention.h"
#include "store.h"
#include "sys.h"
#include "walk.h"

#define SMALL_BYTES (64u << 10)
#define BLOCKS_MAX (1ull << 34) /* of files of up to 64 TiB the unused blocks are counted */

struct opened {
	int fd;
	struct slot slots[2];
	unsigned chosen;
	struct record record;
	struct thaw_error fallback;
};

static int inspect_open(const char *path, struct opened *opened, struct thaw_error *error)
{
	int code;

	memset(opened, 0, sizeof(*opened));
	opened->fd = store_open(path, O_RDONLY, error);
	if (opened->fd < 0)
		return opened->fd;
	code = store_read(opened->fd, path, opened->slots, &opened->chosen, &opened->record,
			  &opened->fallback, error);
	if (code)
		close(opened->fd);
	return code;
}

static void inspect_close(struct opened *opened)
{
	record_free(&opened->record);
	close(opened->fd);
}

int thaw_image_log(const char *path, struct thaw_generation **generations, struct thaw_error *error)
{
	struct thaw_error unused;
	struct opened opened;
	int code;

	*generations = NULL;
	error = error ? error : &unused;
	code = inspect_open(path, &opened, error);
	if (code)
		return code;
	*generations = calloc(opened.record.count + 1, sizeof(**generations));
	code = (int)opened.record.count;
	for (unsigned i = 0; *generations && i < opened.record.count; i++)
		(*generations)[i] = opened.record.generations[i].info;
	if (!*generations)
		code = error_set(error, -ENOMEM, "%s: no memory for its log", path);
	inspect_close(&opened);
	return code;
}

int thaw_image_names(const char *path, struct thaw_name **names, struct thaw_error *error)
{
	struct thaw_error unused;
	struct opened opened;
	int code;

	*names = NULL;
	error = error ? error : &unused;
	code = inspect_open(path, &opened, error);
	if (code)
		return code;
	*names = opened.record.names ? opened.record.names : calloc(1, sizeof(**names));
	opened.record.names = NULL;
	code = (int)opened.record.name_count;
	if (!*names)
		code = error_set(error, -ENOMEM, "%s: no memory for its names", path);
	inspect_close(&opened);
	return code;
}

int thaw_image_find(const char *path, const char *word, uint64_t *generation,
		    struct thaw_error *error)
{
	const struct thaw_name *named;
	struct thaw_error unused;
	struct opened opened;
	uint64_t number;
	char *end;
	int code;

	error = error ? error : &unused;
	code = inspect_open(path, &opened, error);
	if (code)
		return code;
	number = strtoull(word, &end, 10);
	named = record_named(&opened.record, word);
	if (named)
		*generation = named->generation;
	else if (*word >= '0' && *word <= '9' && !*end && record_find(&opened.record, number))
		*generation = number;
	else
		code = error_set(error, THAW_ENOGEN,
				 "%s: no generation is numbered or named '%s' (see thaw log)", path,
				 word);
	inspect_close(&opened);
	return code;
}

struct count {
	uint64_t bytes;		     /* reached */
	struct bitmap used;	     /* blocks of the file; no words: they are not counted */
	uint64_t pages, pieces, end; /* of what was reached: stored pages, in heap order */
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
	count->end = extent->offset + extent->bytes;
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
	return 0; /* what cannot be reached does not count; verify tells about it */
}

/* Newest first, each against those counted before. */
static int count_reached(const char *path, const struct opened *opened,
			 struct thaw_image_info *info)
{
	const struct walk_source source = {opened->fd, path, info->page_bytes};
	const struct record *record = &opened->record;
	const struct working_set *set = &record->working_set;
	const struct root **roots = calloc(record->count + 1, sizeof(*roots));
	unsigned *order = calloc(record->count + 1, sizeof(*order));
	bool *counted = calloc(record->count + 1, sizeof(*counted));
	uint64_t blocks = info->file_bytes / SPACE_BLOCK;
	uint64_t other = STORE_HEADER_BYTES + record->bytes + set->bytes;
	struct count count = {0};
	const struct walk_ops ops = {count_node, count_extent, count_damage, &count};
	int code = roots && order && counted ? 0 : -ENOMEM;

	if (!code)
		code = retention_order(record->generations, record->count, order);
	/* Without memory for it, the rest is told all the same. */
	if (blocks <= BLOCKS_MAX && bitmap_init(&count.used, blocks))
		count.used.words = NULL;
	count_use(&count, 0, STORE_HEADER_BYTES);
	count_use(&count, record->offset, record->bytes);
	count_use(&count, set->offset, set->bytes);
	for (unsigned i = 0; !code && i < record->count; i++) {
		const struct generation *generation = &record->generations[order[i]];
		unsigned adjacent = retention_adjacent(record->generations, record->count, NULL,
						       counted, order[i], roots);

		code = walk_difference(&source, &generation->root, roots, adjacent, false, &ops);
		count.bytes += generation->info.state_bytes;
		count_use(&count, generation->state_offset, generation->info.state_bytes);
		counted[order[i]] = true;
		if (i)
			continue;
		info->live_bytes = count.bytes;
		info->newest_pages = count.pages;
		info->newest_pieces = count.pieces;
	}
	count_unused(&count, info);
	bitmap_free(&count.used);
	free(counted);
	free(order);
	free(roots);
	info->retained_bytes = count.bytes;
	if (info->file_bytes > count.bytes + other)
		info->free_bytes = info->file_bytes - count.bytes - other;
	return code;
}

int thaw_image_info(const char *path, bool deep, struct thaw_image_info *info,
		    struct thaw_error *error)
{
	struct thaw_error unused;
	const struct slot *slot;
	struct opened opened;
	struct stat stat;
	int code;

	memset(info, 0, sizeof(*info));
	error = error ? error : &unused;
	code = inspect_open(path, &opened, error);
	if (code)
		return code;
	slot = &opened.slots[opened.chosen];
	info->format = slot->format;
	info->page_bytes = slot->page_bytes;
	memcpy(info->uuid, slot->uuid, sizeof(info->uuid));
	memcpy(info->engine, slot->engine, sizeof(info->engine));
	if (!fstat(opened.fd, &stat)) {
		info->file_bytes = (uint64_t)stat.st_size;
		info->allocated_bytes = (uint64_t)stat.st_blocks * 512;
	}
	info->holder = image_holder(opened.fd);
	info->generations = opened.record.count;
	info->fallback = opened.fallback;
	info->working_set_clusters = opened.record.working_set.bytes / sizeof(uint64_t);
	info->working_set_generation = opened.record.working_set.generation;
	for (unsigned i = 0; deep && i < opened.record.count; i++)
		pin_take(opened.fd, opened.record.generations[i].info.number);
	if (deep) {
		code = count_reached(path, &opened, info);
		if (code)
			error_set(error, code, "%s: cannot count its bytes: %s", path,
				  thaw_strerror(code));
	}
	inspect_close(&opened);
	return code;
}
