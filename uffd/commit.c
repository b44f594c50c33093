/* SPDX-License-Identifier: MIT */
/*
 * commit.c - writing a generation. The order of the writes and what it guarantees are told at the
 * top of image.c.
 *
 *	begin --> page ... page --> finish --> (durable, freed)
 *	  |         |                 | error
 *	  |         '------ error ----+--> abort
 *
 * The thread that checkpoints; one commit at a time. It changes the working index in place (other
 * threads look up pages that have not arrived yet, which nobody can have changed) and takes blocks;
 * abort undoes both.
 *
 * Invariants
 *  1. A block that is written to had no live byte when the commit began: no slot reaches it.
 *  2. Every byte the commit took is in `taken` or in the open run, so that abort can give it back.
 *  3. From the first write to the slot on, the commit is in doubt: what it took is not given back but
 *     waits in image->doubt until the slot has been overwritten.
 *  4. Nothing can fail between the last fdatasync and the new state of struct image: memory is got
 *     before.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "store.h"
#include "sys.h"
#include "walk.h"

#define BUFFER_BYTES (1u << 20) /* one write; at 1 MiB the disk is at its best (NUMBERS.md) */
#define BUFFER_BLOCKS (BUFFER_BYTES / SPACE_BLOCK)
#define TRIM_BYTES (1u << 20) /* a shorter free tail is kept: the next commit needs it */

struct commit {
	struct image *image;
	uint64_t number;
	uint64_t pages;	  /* stored, each counted once */
	uint64_t written; /* bytes */
	bool failed, in_doubt;

	uint64_t run, run_used, run_bytes; /* the open run: where, how much is used, how long */
	struct ranges taken;		   /* closed runs: what is used of them */
	struct ranges superseded;	   /* of that, what this same commit no longer needs */

	uint8_t *buffer; /* bytes [buffer_offset, + filled) of the file, not yet written */
	uint64_t buffer_offset;
	size_t filled;
};

/* ---- What is in use */

struct reach {
	struct space *space;
	struct ranges *ranges; /* may be NULL */
	bool strict;	       /* a node that cannot be read (but may be there) ends it */
};

static int reach_bytes(struct reach *reach, uint64_t offset, uint64_t bytes)
{
	if (reach->space)
		space_add(reach->space, offset, bytes);
	return reach->ranges ? ranges_add(reach->ranges, offset, bytes) : 0;
}

static int reach_node(void *arg, uint64_t offset, uint32_t bytes)
{
	return reach_bytes(arg, offset, bytes);
}

static int reach_extent(void *arg, uint64_t page, const struct extent *extent)
{
	(void)page;
	return extent->bytes ? reach_bytes(arg, extent->offset, extent->bytes) : 0;
}

/*
 * What is below a damaged node cannot be reached any more, so its blocks are free. But a read that
 * failed may succeed another time: then the commit has to fail, or it might overwrite what is still
 * good.
 */
static int reach_damage(void *arg, uint64_t first_page, uint64_t pages, uint64_t offset,
			uint32_t bytes, const struct thaw_error *error)
{
	struct reach *reach = arg;

	(void)first_page, (void)pages, (void)offset, (void)bytes;
	return reach->strict && error->code != THAW_EDAMAGED ? error->code : 0;
}

static uint64_t state_taken(const struct generation *generation)
{
	return (generation->info.state_bytes + 7) & ~7ull;
}

/* What `generation` reaches and none of the others does. */
static int reach_difference(const struct image *image, const struct generation *generation,
			    const struct root *const *others, unsigned count, bool careful,
			    struct reach *reach)
{
	const struct walk_source source = {image->fd, image->path, image->identity.page_bytes};
	const struct walk_ops ops = {reach_node, reach_extent, reach_damage, reach};
	int code = walk_difference(&source, &generation->root, others, count, careful, &ops);

	if (!code && generation->state_offset)
		code = reach_bytes(reach, generation->state_offset, state_taken(generation));
	return code;
}

/*
 * Generations that only the other slot's record still lists wait with the garbage, as if this
 * process had dropped them.
 */
static int space_build_other(struct image *image, const struct root **roots)
{
	struct thaw_error ignored;
	struct slot slots[2];
	struct record other;
	int code = header_read(image->fd, image->path, slots, &ignored);
	unsigned count = image->record.count;

	if (code)
		return code;
	if (slots[!image->slot].state != SLOT_VALID)
		return 0;
	code = record_read(image->fd, image->path, &slots[!image->slot], &other, &ignored);
	if (code == THAW_EDAMAGED)
		return 0; /* it leads nowhere */
	for (unsigned i = 0; !code && i < other.count; i++) {
		struct reach reach = {&image->space, &image->garbage, true};

		if (record_find(&image->record, other.generations[i].info.number))
			continue;
		code = reach_difference(image, &other.generations[i], roots, count, false, &reach);
		/* The next one is compared with this one too; it may name what this one does. */
		if (!code)
			roots[count++] = &other.generations[i].root;
	}
	if (!code) {
		space_add(&image->space, other.offset, other.bytes);
		code = ranges_add(&image->garbage, other.offset, other.bytes);
	}
	record_free(&other);
	return code;
}

static int space_build(struct image *image, struct thaw_error *error)
{
	const struct record *record = &image->record;
	bool line = record_is_line(record->generations, record->count);
	uint64_t blocks = (image_file_bytes(image) + SPACE_BLOCK - 1) / SPACE_BLOCK;
	const struct root **roots =
		calloc(record->count + STORE_GENERATIONS_MAX + 1, sizeof(*roots));
	int code = roots ? space_open(&image->space, blocks) : -ENOMEM;

	space_add(&image->space, 0, STORE_HEADER_BYTES);
	space_add(&image->space, record->offset, record->bytes);
	for (unsigned i = 0; !code && i < record->count; i++) {
		struct reach reach = {&image->space, NULL, true};
		unsigned from = line && i ? i - 1 : 0;

		code = reach_difference(image, &record->generations[i], roots + from, i - from,
					false, &reach);
		roots[i] = &record->generations[i].root;
	}
	if (!code)
		code = space_build_other(image, roots);
	free(roots);
	if (code) {
		space_close(&image->space);
		ranges_free(&image->garbage);
		return error_set(error, code, "%s: cannot find the free space: %s", image->path,
				 thaw_strerror(code));
	}
	image->space_known = true;
	return 0;
}

/* ---- Taking blocks and writing them */

static void run_close(struct commit *commit)
{
	space_subtract(&commit->image->space, commit->run + commit->run_used,
		       commit->run_bytes - commit->run_used);
	/* run_open() has reserved the place. */
	ranges_add(&commit->taken, commit->run, commit->run_used);
	commit->run_bytes = commit->run_used = 0;
}

/*
 * Room for `bytes` that lie together, 8-byte aligned; if a new run is needed for it, one of `wish`
 * bytes.
 */
static int commit_take(struct commit *commit, uint64_t bytes, uint64_t wish, uint64_t *offset)
{
	if (commit->run_bytes - commit->run_used < bytes) {
		uint64_t least = (bytes + SPACE_BLOCK - 1) / SPACE_BLOCK;
		uint64_t most = (wish + SPACE_BLOCK - 1) / SPACE_BLOCK, blocks;

		run_close(commit);
		if (ranges_reserve(&commit->taken, 2) ||
		    space_allocate(&commit->image->space, least, most < least ? least : most,
				   &commit->run, &blocks))
			return -ENOMEM;
		commit->run_bytes = blocks * SPACE_BLOCK;
	}
	*offset = commit->run + commit->run_used;
	commit->run_used += (bytes + 7) & ~7ull;
	return 0;
}

static int commit_flush(struct commit *commit)
{
	int code = 0;

	if (commit->filled)
		code = sys_pwrite(commit->image->fd, commit->buffer, commit->filled,
				  commit->buffer_offset);
	commit->written += commit->filled;
	commit->filled = 0;
	return code;
}

/* Through the buffer, which gathers what lies together. */
static int commit_write(struct commit *commit, uint64_t offset, const void *bytes, uint64_t count)
{
	const uint8_t *from = bytes;

	while (count) {
		size_t part = BUFFER_BYTES - commit->filled;

		if (!part || (commit->filled && commit->buffer_offset + commit->filled != offset)) {
			int code = commit_flush(commit);

			if (code)
				return code;
			continue;
		}
		if (!commit->filled)
			commit->buffer_offset = offset;
		if (part > count)
			part = count;
		memcpy(commit->buffer + commit->filled, from, part);
		commit->filled += part;
		from += part;
		offset += part;
		count -= part;
	}
	return 0;
}

/* With zeros up to the next 8-byte boundary, where the next one begins. */
static int commit_append(struct commit *commit, const void *bytes, uint64_t count, uint64_t wish,
			 uint64_t *offset)
{
	static const uint8_t zeros[8];
	int code = commit_take(commit, count, wish, offset);

	if (!code)
		code = commit_write(commit, *offset, bytes, count);
	if (!code)
		code = commit_write(commit, *offset + count, zeros, -count % 8);
	return code;
}

/* Once more a page that this commit has stored already: in its place, buffered or written. */
static int commit_rewrite(struct commit *commit, uint64_t offset, const void *bytes, uint32_t count)
{
	if (offset >= commit->buffer_offset &&
	    offset + count <= commit->buffer_offset + commit->filled) {
		memcpy(commit->buffer + (offset - commit->buffer_offset), bytes, count);
		return 0;
	}
	if (offset < commit->buffer_offset + commit->filled &&
	    offset + count > commit->buffer_offset) {
		/* Half of it: a 64 KiB page across the end of the buffer. */
		int code = commit_flush(commit);

		if (code)
			return code;
	}
	commit->written += count;
	return sys_pwrite(commit->image->fd, bytes, count, offset);
}

/* ---- The interface */

static int commit_fail(struct commit *commit, int code, const char *doing, struct thaw_error *error)
{
	commit->failed = true;
	return error_set(error, code, "%s: cannot %s generation %" PRIu64 ": %s",
			 commit->image->path, doing, commit->number, thaw_strerror(code));
}

int commit_begin(struct image *image, struct commit **commit, struct thaw_error *error)
{
	struct commit *begun;
	int code = 0;

	*commit = NULL;
	if (image->read_only)
		return error_set(error, -EROFS, "%s: the image is open for reading only",
				 image->path);
	if (image->committing)
		return error_set(error, -EBUSY, "%s: a commit is under way", image->path);
	if (!image->space_known)
		code = space_build(image, error);
	if (code)
		return code;
	begun = calloc(1, sizeof(*begun));
	if (begun)
		begun->buffer = aligned_alloc(SPACE_BLOCK, BUFFER_BYTES);
	if (!begun || !begun->buffer || ranges_reserve(&begun->taken, 2)) {
		if (begun)
			free(begun->buffer);
		free(begun);
		return error_set(error, -ENOMEM, "%s: no memory for a commit", image->path);
	}
	begun->image = image;
	begun->number = image->next;
	space_restart(&image->space);
	image->committing = true;
	*commit = begun;
	return 0;
}

static int page_store(struct commit *commit, const void *bytes, const struct extent *old,
		      struct extent *extent)
{
	uint32_t count = commit->image->identity.page_bytes;
	bool again = old->encoding == EXTENT_RAW && old->birth == commit->number;

	if (extent->encoding ==
	    EXTENT_ZERO) /* what was stored before in this commit is of no use to anyone */
		return again ? ranges_add(&commit->superseded, old->offset, old->bytes) : 0;
	extent->bytes = count;
	if (!again)
		return commit_append(commit, bytes, count, BUFFER_BYTES, &extent->offset);
	extent->offset = old->offset;
	return commit_rewrite(commit, old->offset, bytes, count);
}

int commit_page(struct commit *commit, uint64_t page, const void *bytes, bool *stored,
		struct thaw_error *error)
{
	struct image *image = commit->image;
	uint32_t count = image->identity.page_bytes;
	const struct extent zero = {.encoding = EXTENT_ZERO};
	struct extent old, extent = {.encoding = EXTENT_RAW, .birth = commit->number};
	int code;

	*stored = false;
	if (page >= INDEX_PAGES_MAX)
		return commit_fail(commit, -EFBIG, "store a page above 2^40 in", error);
	code = index_get(&image->index, page, &old, error);
	if (code) {
		commit->failed = true;
		return code;
	}
	if (extent_matches(&zero, bytes, count)) {
		if (old.encoding != EXTENT_RAW)
			return 0;
		extent.encoding = EXTENT_ZERO;
	} else {
		extent.checksum = XXH3_128bits(bytes, count);
		if (old.encoding == EXTENT_RAW && XXH128_isEqual(old.checksum, extent.checksum))
			return 0;
	}
	code = page_store(commit, bytes, &old, &extent);
	if (code)
		return commit_fail(commit, code, "write a page of", error);
	code = index_set(&image->index, page, &extent, error);
	if (code) {
		commit->failed = true;
		return code;
	}
	commit->pages += old.birth != commit->number;
	*stored = true;
	return 0;
}

bool commit_is_empty(const struct commit *commit)
{
	return !commit->pages;
}

struct emission {
	struct commit *commit;
	uint64_t left; /* bytes of nodes still to come */
};

static int emit_node(void *arg, const void *node, size_t bytes, uint64_t *offset)
{
	struct emission *emission = arg;
	int code = commit_append(emission->commit, node, bytes, emission->left, offset);

	emission->left -= bytes;
	return code;
}

/*
 * What the new list of generations leaves out and nothing else reaches, and the record before.
 *
 * Each dropped generation is compared with those that stay and with those that are dropped after it,
 * so that what several of them share is found once, with the last of them. In a line, two are enough:
 * the next one, and the nearest one before it that stays (store.h: record_is_line).
 */
static int garbage_find(struct image *image, const struct generation *all, unsigned count,
			const struct retention *retention, struct ranges *garbage)
{
	const struct root **others = calloc(count, sizeof(*others));
	bool line = record_is_line(all, count);
	unsigned stay = 0; /* of those before the one at hand */
	int code = others ? 0 : -ENOMEM;

	for (unsigned i = 0; !code && i < retention->from; i++) {
		/* Careful: what cannot be told apart now stays taken; the next open finds it. */
		struct reach reach = {NULL, garbage, false};
		unsigned compared = stay;

		if (retention_keeps(retention, i)) {
			others[stay++] = &all[i].root;
			continue;
		}
		for (unsigned j = i + 1; j < (line ? i + 2 : count); j++)
			others[compared++] = &all[j].root;
		code = reach_difference(image, &all[i], others, compared, true, &reach);
	}
	free(others);
	return code ? code : ranges_add(garbage, image->record.offset, image->record.bytes);
}

static unsigned retention_count(const struct retention *retention, unsigned count)
{
	return count - retention->from + (retention->lone < retention->from);
}

static int write_record(struct commit *commit, const struct generation *all, unsigned count,
			const struct retention *retention, struct slot *slot)
{
	unsigned stay = retention_count(retention, count);
	struct generation *kept = calloc(stay, sizeof(*kept));
	size_t bytes = record_encoded_bytes(stay);
	void *encoded = malloc(bytes);
	int code = kept && encoded ? 0 : -ENOMEM;

	if (!code) {
		retention_apply(retention, all, count, kept);
		record_encode(kept, stay, commit->number, encoded);
		slot->record_bytes = bytes;
		slot->record_checksum = XXH3_128bits(encoded, bytes);
		code = commit_append(commit, encoded, bytes, bytes, &slot->record_offset);
	}
	free(encoded);
	free(kept);
	return code;
}

/* Step 1: nodes, state, record. The last entry of `all` becomes this generation. */
static int commit_write_all(struct commit *commit, struct generation *all, unsigned count,
			    const struct retention *retention, const void *state,
			    size_t state_bytes, uint64_t began, struct slot *slot)
{
	struct generation *new = &all[count - 1];
	struct emission emission = {commit, index_dirty_bytes(&commit->image->index)};
	uint64_t record_bytes = record_encoded_bytes(retention_count(retention, count));
	uint64_t rest = state_bytes + record_bytes + 16;
	int code;

	emission.left += rest; /* wish for one run for all of it */
	code = index_write(&commit->image->index, commit->number, emit_node, &emission, &new->root);
	if (!code && state_bytes) {
		new->state_checksum = XXH3_128bits(state, state_bytes);
		code = commit_append(commit, state, state_bytes, rest, &new->state_offset);
	}
	if (code)
		return code;
	new->info.pages_stored = commit->pages;
	new->info.bytes_written = commit->written + commit->filled + record_bytes + SPACE_BLOCK;
	new->info.durable_ns += sys_monotonic_ns() - began;
	code = write_record(commit, all, count, retention, slot);
	return code ? code : commit_flush(commit);
}

/* Gives back the tail of the file if it is long and free. Failing is no harm. */
static void file_trim(struct image *image)
{
	if (space_trim(&image->space) &&
	    image_file_bytes(image) > image->space.blocks * SPACE_BLOCK + TRIM_BYTES)
		sys_truncate(image->fd, image->space.blocks * SPACE_BLOCK);
}

static void commit_free(struct commit *commit)
{
	commit->image->committing = false;
	ranges_free(&commit->taken);
	ranges_free(&commit->superseded);
	free(commit->buffer);
	free(commit);
}

/*
 * The generation is durable: what only the slot just overwritten reached is free now. Cannot fail.
 */
static void commit_adopt(struct commit *commit, struct generation *all, unsigned count,
			 const struct retention *retention, const struct slot *slot,
			 const struct ranges *garbage)
{
	struct image *image = commit->image;

	index_committed(&image->index, &all[count - 1].root);
	run_close(commit);
	ranges_subtract(&commit->superseded, &image->space);
	ranges_subtract(&image->doubt, &image->space);
	ranges_subtract(&image->garbage, &image->space);
	ranges_free(&image->doubt);
	ranges_free(&image->garbage);
	image->garbage = *garbage;

	image->base = all[count - 1];
	free(image->record.generations);
	count = retention_apply(retention, all, count, all);
	image->record = (struct record){slot->record_offset, slot->record_bytes, count, all};
	image->slot = commit->number % 2;
	image->next = commit->number + 1;
	file_trim(image);
	commit_free(commit);
}

int commit_finish(struct commit *commit, struct thaw_generation *generation, const void *state,
		  size_t state_bytes, struct thaw_error *error)
{
	struct image *image = commit->image;
	unsigned count = image->record.count + 1;
	struct retention retention;
	struct generation *all = calloc(count, sizeof(*all));
	struct slot slot = image->identity;
	struct ranges garbage = {0};
	uint64_t began = sys_monotonic_ns();
	const char *doing = "write";
	int code = all ? 0 : -ENOMEM;

	if (commit->failed) /* an error was passed over: a generation with holes */
		code = -EIO;
	if (!code && state_bytes > STORE_STATE_MAX) {
		doing = "store a state of more than 320 MiB in";
		code = -EFBIG;
	}
	if (!code && commit->number > STORE_NUMBER_MAX)
		code = -EOVERFLOW;
	if (code)
		goto failed;
	if (image->record.count)
		memcpy(all, image->record.generations, image->record.count * sizeof(*all));
	all[count - 1].info = *generation;
	all[count - 1].info.number = commit->number;
	all[count - 1].info.parent = image->base.info.number;
	all[count - 1].info.portable =
		generation->kind == THAW_KIND_PORTABLE ? commit->number : image->base.info.portable;
	all[count - 1].info.state_bytes = state_bytes;
	retention = record_retention(all, count, image->retain);
	slot.sequence = commit->number;
	code = commit_write_all(commit, all, count, &retention, state, state_bytes, began, &slot);
	if (!code)
		code = garbage_find(image, all, count, &retention, &garbage);
	if (code)
		goto failed;
	doing = "sync";
	code = sys_fdatasync(image->fd);
	if (code)
		goto failed;
	doing = "write the header of";
	commit->in_doubt = true;
	code = header_write(image->fd, commit->number % 2, &slot);
	if (code)
		goto failed;
	doing = "sync the header of";
	code = sys_fdatasync(image->fd);
	if (code)
		goto failed;
	/*
	 * What the record on the disk could not know yet: the syncs. The next record will have
	 * it.
	 */
	all[count - 1].info.durable_ns = generation->durable_ns + sys_monotonic_ns() - began;
	*generation = all[count - 1].info;
	commit_adopt(commit, all, count, &retention, &slot, &garbage);
	return 0;
failed:
	free(all);
	ranges_free(&garbage);
	return commit_fail(commit, code, doing, error);
}

void commit_abort(struct commit *commit)
{
	struct image *image;

	if (!commit)
		return;
	image = commit->image;
	index_revert(&image->index);
	run_close(commit);
	if (commit->in_doubt) {
		/* Without memory for the list, they stay taken until the next open: no harm. */
		for (size_t i = 0; i < commit->taken.count; i++)
			if (ranges_add(&image->doubt, commit->taken.items[i].offset,
				       commit->taken.items[i].bytes))
				break;
		image->next += 2;
	} else {
		ranges_subtract(&commit->taken, &image->space);
		file_trim(image);
	}
	commit_free(commit);
}
