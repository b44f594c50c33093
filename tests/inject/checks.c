// SPDX-License-Identifier: GPL-2.0-only
/*
 * checks.c - the invariants of libthaw, executed (see checks.h). It takes the place of uffd/no_checks.c in
 * what is linked with it: the tests, and the `thaw` beside this file's object.
 *
 * After each commit, durable or not, all that the image holds is read from the file by a walk of this file's
 * own, and compared with the map of free space and with the index in memory. An image that was damaged or
 * hostile when it was opened is left alone. Long files are walked after every 32nd commit only.
 *
 * Any thread. Has the file and its memory by mmap(2): injected failures are not for the checks. Where there
 * is no memory, nothing is checked.
 */
#define _GNU_SOURCE
#include "checks.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "checkpoint.h"
#include "image/node.h"
#include "image/store.h"

#define IMAGES 64u
#define ALWAYS_BLOCKS 2048u	/* a file of so many is walked after every commit, */
#define ALWAYS_GENERATIONS 64u	/* with so many generations */
#define SOMETIMES 32u		/* another one after so many */
#define LIVE_STICKY UINT16_MAX	/* as in space.c */
#define WRITTEN_MOST (1u << 16) /* remembered writes of a commit */

/* A failing allocator makes the library leave blocks taken until the next open; so does a read that fails. */
void *__wrap_malloc(size_t bytes) __attribute__((weak));

static struct watch { /* what is known of an open image */
	const struct image *image;
	uint64_t age;
	bool sound; /* whole when it was opened */
	unsigned commits;
	uint16_t *live; /* when the commit began */
	uint64_t blocks;
	struct range *written;
	size_t written_count;
	bool slot_written;
} watches[IMAGES];
static uint64_t watch_age;
static pthread_mutex_t watches_lock = PTHREAD_MUTEX_INITIALIZER;

__attribute__((format(printf, 1, 2))) static _Noreturn void broken(const char *format, ...)
{
	va_list arguments;
	char line[300];

	va_start(arguments, format);
	vsnprintf(line, sizeof(line), format, arguments);
	va_end(arguments);
	dprintf(2, "# an invariant does not hold: %s\n", line);
	abort();
}

static void *memory(size_t bytes)
{
	void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return at == MAP_FAILED ? NULL : at;
}

static void release(void *at, size_t bytes)
{
	if (at)
		munmap(at, bytes);
}

/* The file as it is now: mapped, since some tests count reads. */
struct file {
	const uint8_t *at;
	uint64_t bytes;
};

static bool file_map(struct file *file, int fd)
{
	struct stat stat;

	*file = (struct file){0};
	if (fstat(fd, &stat) || !stat.st_size)
		return false;
	file->bytes = (uint64_t)stat.st_size;
	file->at = mmap(NULL, file->bytes, PROT_READ, MAP_SHARED, fd, 0);
	return file->at != MAP_FAILED;
}

static bool file_read(const struct file *file, void *to, size_t bytes, uint64_t offset)
{
	if (offset > file->bytes || bytes > file->bytes - offset)
		return false;
	memcpy(to, file->at + offset, bytes);
	return true;
}

void check_locked(const pthread_mutex_t *lock)
{
#ifdef __GLIBC__
	if (lock->__data.__owner != (int)syscall(SYS_gettid))
		broken("a lock is not held by the thread that changes what it protects");
#endif
}

/* ---- What the file holds */

#define UNITS (SPACE_BLOCK / EXTENT_UNIT) /* in a block */

struct holding {
	const struct image *image;
	struct file file;
	uint64_t blocks;
	uint32_t *bytes; /* per block: what is in use of it */
	uint64_t *page;	 /* per unit of packed pages: the page that begins there, and 1 */
	uint8_t *seen;	 /* per 8 bytes of the file, a bit: a node begins there, and was visited */
	const char *wrong;
	uint64_t where;
};

static void holding_free(struct holding *holding)
{
	release((void *)holding->file.at, holding->file.bytes);
	release(holding->bytes, holding->blocks * sizeof(*holding->bytes));
	release(holding->page, holding->blocks * UNITS * sizeof(*holding->page));
	release(holding->seen, holding->blocks * SPACE_BLOCK / 64);
}

static bool holding_open(struct holding *holding, const struct image *image)
{
	*holding = (struct holding){.image = image, .blocks = image->space.blocks};
	if (!file_map(&holding->file, image->fd))
		return false;
	holding->bytes = memory(holding->blocks * sizeof(*holding->bytes));
	holding->page = memory(holding->blocks * UNITS * sizeof(*holding->page));
	holding->seen = memory(holding->blocks * SPACE_BLOCK / 64);
	if (holding->bytes && holding->page && holding->seen)
		return true;
	holding_free(holding);
	return false;
}

static void wrong(struct holding *holding, const char *what, uint64_t where)
{
	if (!holding->wrong) {
		holding->wrong = what;
		holding->where = where;
	}
}

static void hold(struct holding *holding, uint64_t offset, uint64_t bytes)
{
	if (offset > holding->blocks * SPACE_BLOCK ||
	    bytes > holding->blocks * SPACE_BLOCK - offset) {
		wrong(holding, "something in use lies beyond the map of free space", offset);
		return;
	}
	while (bytes) {
		uint64_t part = SPACE_BLOCK - offset % SPACE_BLOCK;

		part = part < bytes ? part : bytes;
		holding->bytes[offset / SPACE_BLOCK] += (uint32_t)part;
		if (holding->bytes[offset / SPACE_BLOCK] > SPACE_BLOCK)
			wrong(holding, "two things in use lie in one place", offset);
		offset += part;
		bytes -= part;
	}
}

static void hold_leaf(struct holding *holding, const struct disk_leaf *leaf)
{
	for (unsigned i = 0; i < FORMAT_FANOUT; i++) {
		struct extent extent;
		uint64_t *page;

		index_decode_entry(&leaf->entries[i], holding->image->identity.page_bytes, &extent);
		if (!extent.bytes)
			continue;
		if (extent.offset / SPACE_BLOCK >= holding->blocks) {
			wrong(holding, "a page lies beyond the map of free space", extent.offset);
			continue;
		}
		page = &holding->page[extent.offset / EXTENT_UNIT];
		if (*page && *page != leaf->node.first_page + i + 1)
			wrong(holding, "two pages lie in one place", extent.offset);
		if (!*page)
			hold(holding, extent.offset, extent_room(&extent));
		*page = leaf->node.first_page + i + 1;
	}
}

static void hold_tree(struct holding *holding, const struct reference *at, unsigned level,
		      uint64_t first)
{
	uint64_t bit = at->offset / 8;
	union disk_any node;

	if (holding->wrong || !at->offset)
		return;
	if (at->offset / SPACE_BLOCK >= holding->blocks) {
		wrong(holding, "a node lies beyond the map of free space", at->offset);
		return;
	}
	if (holding->seen[bit / 8] & 1u << bit % 8)
		return;
	holding->seen[bit / 8] |= (uint8_t)(1u << bit % 8);
	if (!file_read(&holding->file, &node, index_node_bytes(level), at->offset) ||
	    index_open_node(image_key(holding->image), &node, at, level, first)) {
		wrong(holding, "a node that a retained generation needs is damaged", at->offset);
		return;
	}
	hold(holding, at->offset, index_node_bytes(level));
	if (!level) {
		hold_leaf(holding, &node.leaf);
		return;
	}
	for (unsigned i = 0; i < FORMAT_FANOUT; i++) {
		const struct disk_child *child = &node.inner.children[i];
		struct reference below = {child->offset, {child->checksum[0], child->checksum[1]}};

		hold_tree(holding, &below, level - 1, first + i * index_span(level - 1));
	}
}

static void hold_ranges(struct holding *holding, const struct ranges *ranges)
{
	for (size_t i = 0; i < ranges->count; i++)
		hold(holding, ranges->items[i].offset, ranges->items[i].bytes);
}

/* All that must not be written over: what is retained, and what waits to become free. */
static void hold_all(struct holding *holding)
{
	const struct image *image = holding->image;
	const struct record *record = &image->record;

	hold(holding, 0, STORE_HEADER_BYTES);
	hold(holding, record->offset, record->bytes);
	hold(holding, record->working_set.offset, record->working_set.bytes);
	hold(holding, record->log.offset, record->log.bytes);
	hold(holding, image->log.tail.offset, image->log.tail.bytes);
	for (unsigned i = 0; i < record->count && !holding->wrong; i++) {
		const struct generation *generation = &record->generations[i];

		if (generation->root.levels)
			hold_tree(holding, &generation->root.at, generation->root.levels - 1, 0);
		if (generation->state_offset)
			hold(holding, generation->state_offset,
			     (generation->info.state_bytes + 7) & ~7ull);
	}
	hold_ranges(holding, &image->garbage);
	hold_ranges(holding, &image->doubt);
	hold_ranges(holding, &image->held);
}

/* ---- Space: commit.c 1 to 3, and what struct space says of itself */

static bool may_leak(void)
{
	return __wrap_malloc || getenv("THAW_INJECT");
}

/* False: more counts as in use than is. */
static bool check_live(const struct holding *holding, bool may_leak)
{
	const struct space *space = &holding->image->space;

	for (uint64_t block = 0; block < space->blocks; block++) {
		uint32_t live = space->live[block], held = holding->bytes[block];

		if (live == LIVE_STICKY)
			continue;
		if (live < held)
			broken("block %" PRIu64 " has %u bytes in use, and counts as having %u",
			       block, held, live);
		if (live > held && may_leak)
			return false;
		if (live > held)
			broken("block %" PRIu64 " has %u bytes in use, but counts as having %u",
			       block, held, live);
	}
	return true;
}

static void check_space(const struct space *space)
{
	uint64_t unused = 0, run = 0, longest = 0;

	for (uint64_t block = 0; block < space->blocks; block++) {
		run = space->live[block] ? 0 : run + 1;
		longest = run > longest ? run : longest;
		unused += !space->live[block];
		if (space->live[block] && space->idle[block])
			broken("block %" PRIu64 " is in use and idle", block);
	}
	if (unused != space->free)
		broken("%" PRIu64 " blocks are free, not %" PRIu64, unused, space->free);
	if (space->known_none && longest >= space->known_none)
		broken("a run of %" PRIu64 " blocks is free, and none of %" PRIu64 " is said to be",
		       longest, space->known_none);
	if (space->cursor > space->blocks || space->blocks > space->capacity)
		broken("the map of free space ends before its own marks");
}

/* ---- The index: index.c 1 and 2 */

static void check_leaf(const struct index *index, const struct node *node,
		       const union disk_any *disk)
{
	for (unsigned i = 0; i < FORMAT_FANOUT; i++) {
		const struct extent *have = &node->extent[i];
		struct extent extent;

		index_decode_entry(&disk->leaf.entries[i], index->page_bytes, &extent);
		if (have->own)
			broken("page %" PRIu64 " belongs to a commit, and there is none",
			       node->first + i);
		if (have->encoding != extent.encoding || have->offset != extent.offset ||
		    have->bytes != extent.bytes || have->birth < extent.birth ||
		    (extent_is_stored(&extent) && !XXH128_isEqual(have->checksum, extent.checksum)))
			broken("page %" PRIu64 " is elsewhere in the file than in memory",
			       node->first + i);
	}
}

/* Between commits nothing is dirty, and what is loaded is what the file holds at its place. */
static void check_node(const struct index *index, const struct file *file, const struct node *node,
		       const struct reference *at, unsigned level, uint64_t first)
{
	union disk_any disk;

	if (node->dirty)
		broken("a node of level %u, page %" PRIu64 ", is dirty, and there is no commit",
		       level, first);
	if (node->level != level || node->first != first)
		broken("a node of level %u, page %" PRIu64 ", is in the place of another", level,
		       first);
	if (!at->offset)
		return; /* made by a lookup that failed half way: empty, and in no file */
	if (!file_read(file, &disk, index_node_bytes(level), at->offset) ||
	    index_open_node(index->key, &disk, at, level, first))
		broken("the node of level %u, page %" PRIu64 ", at offset %" PRIu64
		       " is not what the index refers to",
		       level, first, at->offset);
	if (!level) {
		check_leaf(index, node, &disk);
		return;
	}
	for (unsigned i = 0; i < FORMAT_FANOUT; i++) {
		const struct disk_child *child = &disk.inner.children[i];

		if (node->inner.at[i].offset != child->offset ||
		    node->inner.at[i].checksum.low64 != child->checksum[0])
			broken("child %u of the node of level %u, page %" PRIu64
			       ", is elsewhere in the file than in memory",
			       i, level, first);
		if (node->inner.child[i])
			check_node(index, file, node->inner.child[i], &node->inner.at[i], level - 1,
				   first + i * index_span(level - 1));
	}
}

static void check_index(const struct image *image, const struct file *file)
{
	struct index *index = (struct index *)&image->index;

	if (image->log.chain.position) /* pages are in the log alone: check_log_pages() */
		return;

	pthread_mutex_lock(&index->lock);
	if (index->levels != index->root.levels)
		broken("the index has %u levels between commits, and its root %u", index->levels,
		       index->root.levels);
	if (index->top)
		check_node(index, file, index->top, &index->root.at, index->levels - 1, 0);
	pthread_mutex_unlock(&index->lock);
}

/* ---- The slots: commit.c 4 */

static void check_slot(const struct image *image, const struct file *file)
{
	const struct record *record = &image->record;
	struct disk_slot slot;

	if (!file_read(file, &slot, sizeof(slot), image->slot * SPACE_BLOCK))
		return;
	if (slot.sequence != image->next - 1 - 2 * image->log.chain.position ||
	    slot.record_offset != record->offset || slot.record_bytes != record->bytes)
		broken("slot %u names commit %" PRIu64 ", and the last durable one is %" PRIu64,
		       image->slot, slot.sequence, image->next - 1);
	if (image->next % 2 == image->slot)
		broken("the next commit would overwrite the slot of the newest generation");
}

/* ---- The commit */

static struct watch *watch_of(const struct image *image)
{
	struct watch *found = NULL;

	pthread_mutex_lock(&watches_lock);
	for (unsigned i = 0; i < IMAGES && !found; i++)
		if (watches[i].image == image && watches[i].sound)
			found = &watches[i];
	pthread_mutex_unlock(&watches_lock);
	return found;
}

static void forget_commit(struct watch *watch)
{
	release(watch->live, watch->blocks * sizeof(*watch->live));
	release(watch->written, WRITTEN_MOST * sizeof(*watch->written));
	watch->live = NULL;
	watch->written = NULL;
	watch->written_count = 0;
	watch->slot_written = false;
}

void check_space_found(const struct image *image)
{
	struct watch *watch = &watches[0];
	struct holding holding;

	pthread_mutex_lock(&watches_lock);
	for (unsigned i = 0; i < IMAGES; i++) {
		if (watches[i].image == image) {
			watch = &watches[i];
			break;
		}
		if (watches[i].age < watch->age)
			watch = &watches[i];
	}
	forget_commit(watch);
	*watch = (struct watch){.image = image, .age = ++watch_age};
	pthread_mutex_unlock(&watches_lock);

	/* What is claimed beyond the end of the file is a damaged image's. */
	if (image->space.beyond || image->space.blocks > image->file_bytes / SPACE_BLOCK + 1 ||
	    !holding_open(&holding, image))
		return;
	hold_all(&holding);
	/* What an image claims twice that was made to do harm is counted twice. */
	watch->sound = !holding.wrong && check_live(&holding, true);
	holding_free(&holding);
}

void check_commit_begun(const struct image *image)
{
	struct watch *watch = watch_of(image);

	if (!watch)
		return;
	forget_commit(watch);
	watch->blocks = image->space.blocks;
	watch->live = memory(watch->blocks * sizeof(*watch->live));
	watch->written = memory(WRITTEN_MOST * sizeof(*watch->written));
	if (watch->live)
		memcpy(watch->live, image->space.live, watch->blocks * sizeof(*watch->live));
}

void check_write(const struct space *space, uint64_t offset, uint64_t bytes)
{
	struct watch *watch = watch_of(
		(const struct image *)((const char *)space - offsetof(struct image, space)));

	if (!watch || !watch->live)
		return;
	for (uint64_t block = offset / SPACE_BLOCK;
	     block < watch->blocks && block * SPACE_BLOCK < offset + bytes; block++)
		if (watch->live[block])
			broken("a commit writes to block %" PRIu64
			       ", which had %u bytes in use when it began",
			       block, watch->live[block]);
	if (watch->written && watch->written_count < WRITTEN_MOST)
		watch->written[watch->written_count++] = (struct range){offset, bytes};
}

/* log.c 1 and 2 */
void check_log_write(const struct image *image, uint64_t offset, uint64_t bytes)
{
	const struct log *log = &image->log;
	const struct slot *slot = &image->slots[image->slot];
	const struct log_area *area = &image->record.log;

	if (!log->usable || log->found || !image->settled || log->stale)
		broken("an entry of the log is written that may follow nothing durable");
	if (!checksum_same(log->chain.seed, slot->record_checksum) || !image->slots_known[0] ||
	    !image->slots_known[1])
		broken("an entry of the log follows another record than the newest");
	if (offset != area->offset + log->used || bytes > area->bytes - log->used ||
	    offset % SPACE_BLOCK || bytes % SPACE_BLOCK)
		broken("an entry of the log is written at offset %" PRIu64
		       ", where it does not belong",
		       offset);
}

/* log.c 3: whatever is in the index, and not in the file, is in memory. */
static void check_log_pages(const struct image *image)
{
	const struct log_pages *pages = &image->log.pages;
	size_t count;
	struct log_page **list = log_pages_unplaced(pages, &count);
	struct extent extent;

	if (pages->staged_count)
		broken("%zu pages are staged, and there is no commit", pages->staged_count);
	for (size_t i = 0; list && !image->log.stale && i < count; i++) {
		if (index_get((struct index *)&image->index, list[i]->page, &extent, NULL))
			continue;
		if (!list[i]->known || extent.own || extent.offset != list[i]->extent.offset ||
		    extent.encoding != list[i]->extent.encoding ||
		    !checksum_same(extent.checksum, list[i]->extent.checksum) ||
		    (list[i]->bytes && !extent_matches(image->identity.key, &extent, list[i]->bytes,
						       pages->page_bytes)))
			broken("page %" PRIu64 " of the log is another one in the index",
			       list[i]->page);
	}
	free(list);
}

void check_commit_logged(const struct image *image)
{
	struct watch *watch = watch_of(image);

	check_log_pages(image);
	if (watch)
		forget_commit(watch);
}

void check_slot_write(const struct image *image)
{
	struct watch *watch = watch_of(image);

	if (watch)
		watch->slot_written = true;
}

/* commit.c 3: what the slot on the disk may name is not free. */
static void check_doubt(const struct watch *watch, const struct space *space)
{
	for (size_t i = 0; i < watch->written_count; i++)
		if (watch->written[i].offset / SPACE_BLOCK < space->blocks &&
		    !space->live[watch->written[i].offset / SPACE_BLOCK])
			broken("block %" PRIu64
			       " of a commit that may be found on the disk is free",
			       watch->written[i].offset / SPACE_BLOCK);
}

void check_commit_ended(const struct image *image, bool durable)
{
	struct watch *watch = watch_of(image);
	struct holding holding;

	if (!watch)
		return;
	if (!durable && watch->slot_written)
		check_doubt(watch, &image->space);
	forget_commit(watch);
	/* Others have changed the file: none of it can be relied on. */
	if (image->overwritten) {
		watch->sound = false;
		return;
	}
	if (watch->commits++ % SOMETIMES &&
	    (image->space.blocks > ALWAYS_BLOCKS || image->record.count > ALWAYS_GENERATIONS))
		return;
	check_space(&image->space);
	check_log_pages(image);
	if (!holding_open(&holding, image))
		return;
	if (durable)
		check_slot(image, &holding.file);
	check_index(image, &holding.file);
	hold_all(&holding);
	if (holding.wrong)
		broken("%s, at offset %" PRIu64, holding.wrong, holding.where);
	check_live(&holding, may_leak());
	holding_free(&holding);
}

/* ---- The checkpoint: checkpoint.h 1 and 2 */

static void check_subset(const struct bitmap *pages, const struct bitmap *of, const char *what)
{
	for (uint64_t page = 0; (page = bitmap_next(pages, page)) != UINT64_MAX; page++)
		if (!bitmap_test(of, page))
			broken("page %" PRIu64 " %s", page, what);
}

void check_phase(const struct checkpointer *checkpointer)
{
	bool commit = checkpointer->commit, state = checkpointer->state,
	     stopping = checkpointer->stop;
	bool taken = bitmap_next(&checkpointer->taken, 0) != UINT64_MAX;
	const char *phase = "";

	check_locked(&checkpointer->lock);
	switch (checkpointer->phase) {
	case THAW_READY:
		if (!commit || state)
			phase = "ready";
		break;
	case THAW_WRITING:
		if (!commit || !state)
			phase = "writing";
		check_subset(&checkpointer->residual, &checkpointer->taken,
			     "was captured, and is not remembered");
		break;
	default: /* idle, done, and copying, which has not begun, but for what is copied again */
		if (checkpointer->phase == THAW_COPYING && checkpointer->rounds)
			break;
		if (commit || state || taken)
			phase = "without a commit";
		break;
	}
	if (*phase && !stopping)
		broken("a checkpoint is %s, with commit %d, state %d, pages %d", phase, commit,
		       state, taken);
}

/* What was copied before the program was stopped, and not again, is what is in memory now. */
void check_captured(const struct checkpointer *checkpointer)
{
	const struct region *region = checkpointer->region;
	struct extent extents[IMAGE_LEAF_PAGES];

	if (region->process) /* its memory is not here */
		return;
	for (uint64_t page = 0; (page = bitmap_next(&checkpointer->taken, page)) != UINT64_MAX;
	     page++) {
		uint64_t leaf = page - page % IMAGE_LEAF_PAGES;

		if (bitmap_test(&checkpointer->residual, page) ||
		    image_lookup(checkpointer->image, leaf, extents, NULL))
			continue;
		if (!extent_matches(image_key(checkpointer->image), &extents[page - leaf],
				    region->alias + page * region->page_bytes, region->page_bytes))
			broken("page %" PRIu64
			       " has changed since it was copied, and is not copied again",
			       page);
	}
}

void check_put_back(const struct checkpointer *checkpointer)
{
	check_subset(&checkpointer->taken, &checkpointer->tracker->put_back,
		     "was collected by a checkpoint that failed, and is lost");
}
