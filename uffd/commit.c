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

#include "retention.h"
#include "store.h"
#include "sys.h"
#include "walk.h"

#define BUFFER_BYTES (1u << 20) /* one write; at 1 MiB the disk is at its best (NUMBERS.md) */
#define BUFFER_BLOCKS (BUFFER_BYTES / SPACE_BLOCK)
#define HELD_BYTES (256u << 20) /* and a quarter of the file: so much waits for readers */
#define TRIM_BYTES (1u << 20)	/* a shorter free tail is kept: the next commit needs it */

struct commit {
	struct image *image;
	uint64_t number;
	uint64_t pages;	  /* stored, each counted once */
	uint64_t written; /* bytes */
	bool failed, in_doubt;

	uint64_t run, run_used, run_bytes; /* the open run: where, how much is used, how long */
	struct thaw_name *names; /* the new list of names; generation 0: the one that is made */
	unsigned name_count;
	uint64_t *working_set; /* NULL: the one before stays */
	unsigned working_set_count;
	uint64_t working_set_generation;

	struct ranges taken;	  /* closed runs: what is used of them */
	struct ranges superseded; /* of that, what this same commit no longer needs */

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
	code = record_read(image->fd, image->path, &slots[!image->slot], &other, &ignored);
	if (code == THAW_EDAMAGED)
		return 0; /* it leads nowhere */
	for (unsigned i = 0; i < count; i++)
		roots[i] = &image->record.generations[i].root;
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
		struct reach reach = {&image->space, &image->garbage, true};

		code = reach_bytes(&reach, other.offset, other.bytes);
		if (!code && other.working_set.offset != set->offset)
			code = reach_bytes(&reach, other.working_set.offset,
					   working_set_taken(&other));
	}
	record_free(&other);
	return code;
}

static int space_build(struct image *image, struct thaw_error *error)
{
	const struct record *record = &image->record;
	uint64_t blocks = (image_file_bytes(image) + SPACE_BLOCK - 1) / SPACE_BLOCK;
	const struct root **roots =
		calloc(record->count + STORE_GENERATIONS_MAX + 1, sizeof(*roots));
	int code = roots ? space_open(&image->space, blocks) : -ENOMEM;

	if (!code) {
		space_add(&image->space, 0, STORE_HEADER_BYTES);
		space_add(&image->space, record->offset, record->bytes);
		space_add(&image->space, record->working_set.offset, working_set_taken(record));
	}
	for (unsigned i = 0; !code && i < record->count; i++) {
		struct reach reach = {&image->space, NULL, true};
		unsigned adjacent = retention_adjacent(record->generations, record->count, NULL,
						       NULL, i, roots);

		code = reach_difference(image, &record->generations[i], roots, adjacent, false,
					&reach);
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
	begun->names = calloc(image->record.name_count + 1, sizeof(*begun->names));
	if (!begun->names) {
		ranges_free(&begun->taken);
		free(begun->buffer);
		free(begun);
		return error_set(error, -ENOMEM, "%s: no memory for a commit", image->path);
	}
	if (image->record.name_count)
		memcpy(begun->names, image->record.names,
		       image->record.name_count * sizeof(*begun->names));
	begun->name_count = image->record.name_count;
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

/* ---- Names and the working set */

int commit_name(struct commit *commit, const char *name, const uint64_t *generation,
		struct thaw_error *error)
{
	struct image *image = commit->image;
	struct record list = {.names = commit->names, .name_count = commit->name_count};
	struct thaw_name *named = (struct thaw_name *)record_named(&list, name), *more;

	if (generation && !name_is_sound(name))
		return error_set(
			error, -EINVAL,
			"'%.63s' cannot name a generation: use 1 to 63 of A-Z a-z 0-9 . _ / : "
			"@ + -, not beginning with '-' and not digits alone",
			name);
	if (generation && *generation != COMMIT_ITSELF && !record_find(&image->record, *generation))
		return error_set(error, THAW_ENOGEN, "%s: no generation %" PRIu64 " (see thaw log)",
				 image->path, *generation);
	if (!generation && !named)
		return error_set(error, THAW_ENOGEN, "%s: no generation is named '%.63s'",
				 image->path, name);
	if (!generation) { /* the last one takes its place */
		*named = commit->names[--commit->name_count];
		return 0;
	}
	if (!named && commit->name_count == STORE_NAMES_MAX)
		return error_set(error, -ENOSPC,
				 "%s: there are %u names already: take one away with thaw tag -d",
				 image->path, STORE_NAMES_MAX);
	if (!named) {
		more = realloc(commit->names, (commit->name_count + 1) * sizeof(*more));
		if (!more)
			return error_set(error, -ENOMEM, "%s: no memory for a name", image->path);
		commit->names = more;
		named = &more[commit->name_count++];
		memset(named, 0, sizeof(*named));
		strncpy(named->name, name, sizeof(named->name) - 1);
	}
	named->generation = *generation;
	return 0;
}

int commit_working_set(struct commit *commit, const uint64_t *pages, unsigned count,
		       uint64_t generation, struct thaw_error *error)
{
	uint64_t *copy;

	if (!count || count > STORE_WORKING_SET_MAX)
		return error_set(error, -EINVAL, "a working set of %u clusters", count);
	copy = malloc(count * sizeof(*copy));
	if (!copy)
		return error_set(error, -ENOMEM, "%s: no memory for the working set",
				 commit->image->path);
	memcpy(copy, pages, count * sizeof(*copy));
	free(commit->working_set);
	commit->working_set = copy;
	commit->working_set_count = count;
	commit->working_set_generation = generation;
	return 0;
}

/* ---- What becomes of the list of generations */

struct change {
	struct record all;  /* the list before, and the new one */
	struct record kept; /* of that, what stays */
	bool *keep;
	struct generation *made; /* in `kept`; NULL: only the record is made */
	struct slot slot;
	struct ranges garbage;
};

static void change_free(struct change *change)
{
	record_free(&change->all);
	record_free(&change->kept);
	free(change->keep);
	ranges_free(&change->garbage);
}

/* Everything about the change that is known before anything is written. */
static int change_begin(struct commit *commit, const struct thaw_generation *generation,
			size_t state_bytes, struct change *change)
{
	struct image *image = commit->image;
	const struct thaw_generation *base = &image->base.info;
	struct retention retention = image->retention;
	struct record *all = &change->all, *kept = &change->kept;
	unsigned count = image->record.count + !!generation;
	int stay;

	memset(change, 0, sizeof(*change));
	change->slot = image->identity;
	change->slot.sequence = commit->number;
	change->keep = calloc(count + 1, sizeof(*change->keep));
	all->generations = calloc(count + 1, sizeof(*all->generations));
	kept->generations = calloc(count + 1, sizeof(*kept->generations));
	kept->names = calloc(commit->name_count + 1, sizeof(*kept->names));
	if (!change->keep || !all->generations || !kept->generations || !kept->names)
		return -ENOMEM;
	all->count = count;
	if (image->record.count)
		memcpy(all->generations, image->record.generations,
		       image->record.count * sizeof(*all->generations));
	for (unsigned i = 0; i < commit->name_count; i++) {
		kept->names[i] = commit->names[i];
		if (kept->names[i].generation == COMMIT_ITSELF)
			kept->names[i].generation = commit->number;
	}
	kept->name_count = commit->name_count;
	if (generation) {
		struct thaw_generation *info = &all->generations[count - 1].info;

		*info = *generation;
		info->number = commit->number;
		info->parent = base->number;
		info->ancestor = record_find(&image->record, base->number) ? base->number : 0;
		info->portable = info->kind == THAW_KIND_PORTABLE ? commit->number : base->portable;
		info->state_bytes = state_bytes;
	} else {
		retention.all = true;
	}
	if (!count)
		return -EINVAL;	  /* a record of nothing */
	all->names = kept->names; /* lent */
	all->name_count = kept->name_count;
	retention_mark(&retention, all, change->keep);
	all->names = NULL;
	all->name_count = 0;
	stay = retention_apply(all->generations, count, change->keep, kept->generations);
	if (stay < 0)
		return stay;
	if (stay > (int)STORE_GENERATIONS_MAX)
		return -ENOSPC;
	kept->count = (unsigned)stay;
	kept->working_set = image->record.working_set;
	if (generation)
		change->made = &kept->generations[stay - 1];
	return 0;
}

/*
 * What the new list of generations leaves out and nothing else reaches; the record before, and the
 * working set if there is a new one. Those that are dropped go one by one, each compared with what is
 * adjacent to it among those that are still there.
 */
static int garbage_find(struct image *image, struct change *change)
{
	const struct record *all = &change->all;
	const struct root **roots = calloc(all->count + 1, sizeof(*roots));
	uint64_t *ancestors = calloc(all->count + 1, sizeof(*ancestors));
	bool *there = calloc(all->count + 1, sizeof(*there));
	struct ranges *garbage = &change->garbage;
	int code = roots && ancestors && there ? 0 : -ENOMEM;

	for (unsigned i = 0; !code && i < all->count; i++) {
		ancestors[i] = all->generations[i].info.ancestor;
		there[i] = true;
	}
	for (unsigned i = 0; !code && i < all->count; i++) {
		/* Careful: what cannot be told apart now stays taken; the next open finds it. */
		struct reach reach = {NULL, garbage, false};
		unsigned adjacent;

		if (change->keep[i])
			continue;
		adjacent = retention_adjacent(all->generations, all->count, ancestors, there, i,
					      roots);
		code = reach_difference(image, &all->generations[i], roots, adjacent, true, &reach);
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
	if (!code && change->kept.working_set.offset != image->record.working_set.offset)
		code = ranges_add(garbage, image->record.working_set.offset,
				  working_set_taken(&image->record));
	return code;
}

/* ---- Finishing */

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

static int write_working_set(struct commit *commit, uint64_t wish, struct working_set *set)
{
	uint64_t bytes = commit->working_set_count * sizeof(*commit->working_set);

	if (!commit->working_set)
		return 0;
	*set = (struct working_set){.generation = commit->working_set_generation,
				    .bytes = bytes,
				    .checksum = XXH3_128bits(commit->working_set, bytes)};
	return commit_append(commit, commit->working_set, bytes, wish, &set->offset);
}

static int write_record(struct commit *commit, struct change *change)
{
	size_t bytes = record_encoded_bytes(&change->kept);
	void *encoded = malloc(bytes);
	int code = encoded ? 0 : -ENOMEM;

	if (!code) {
		record_encode(&change->kept, &change->slot, encoded);
		change->slot.record_bytes = bytes;
		change->slot.record_checksum = XXH3_128bits(encoded, bytes);
		code = commit_append(commit, encoded, bytes, bytes, &change->slot.record_offset);
	}
	free(encoded);
	return code;
}

/* Step 1: nodes, state, working set, record. */
static int commit_write_all(struct commit *commit, struct change *change, const void *state,
			    uint64_t began)
{
	struct generation *made = change->made;
	struct emission emission = {commit, index_dirty_bytes(&commit->image->index)};
	uint64_t state_bytes = made ? made->info.state_bytes : 0;
	uint64_t record_bytes = record_encoded_bytes(&change->kept);
	uint64_t rest = state_bytes + record_bytes + 24 +
			commit->working_set_count * sizeof(*commit->working_set);
	int code = 0;

	emission.left += rest; /* wish for one run for all of it */
	if (made)
		code = index_write(&commit->image->index, commit->number, emit_node, &emission,
				   &made->root);
	if (!code && state_bytes) {
		made->state_checksum = XXH3_128bits(state, state_bytes);
		code = commit_append(commit, state, state_bytes, rest, &made->state_offset);
	}
	if (!code)
		code = write_working_set(commit, rest - state_bytes, &change->kept.working_set);
	if (code)
		return code;
	if (made) {
		made->info.pages_stored = commit->pages;
		made->info.bytes_written =
			commit->written + commit->filled + record_bytes + SPACE_BLOCK;
		made->info.durable_ns += sys_monotonic_ns() - began;
		change->all.generations[change->all.count - 1] = *made;
	}
	code = write_record(commit, change);
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
	free(commit->working_set);
	free(commit->names);
	free(commit->buffer);
	free(commit);
}

/*
 * The commit before this one has made it; this one has overwritten the last slot that could reach
 * it. Unless a reader does. What there is no memory to remember stays taken until the next open.
 */
static void garbage_release(struct image *image)
{
	uint64_t bytes = ranges_bytes(&image->held) + ranges_bytes(&image->garbage);

	if (bytes && bytes <= HELD_BYTES + image_file_bytes(image) / 4 &&
	    pins_hold(image->fd, &image->record)) {
		for (size_t i = 0; i < image->garbage.count; i++)
			if (ranges_add(&image->held, image->garbage.items[i].offset,
				       image->garbage.items[i].bytes))
				break;
	} else {
		ranges_subtract(&image->held, &image->space);
		ranges_subtract(&image->garbage, &image->space);
		ranges_free(&image->held);
	}
	ranges_free(&image->garbage);
}

/*
 * The generation is durable: what only the slot just overwritten reached is free now. Cannot fail.
 */
static void commit_adopt(struct commit *commit, struct change *change)
{
	struct image *image = commit->image;

	run_close(commit);
	ranges_subtract(&commit->superseded, &image->space);
	ranges_subtract(&image->doubt, &image->space);
	ranges_free(&image->doubt);
	garbage_release(image);
	image->garbage = change->garbage;
	change->garbage = (struct ranges){0};

	if (change->made) {
		index_committed(&image->index, &change->made->root);
		image->base = *change->made;
	}
	record_free(&image->record);
	image->record = change->kept;
	image->record.offset = change->slot.record_offset;
	image->record.bytes = change->slot.record_bytes;
	change->kept = (struct record){0};
	image->slot = commit->number % 2;
	image->next = commit->number + 1;
	file_trim(image);
	commit_free(commit);
}

int commit_finish(struct commit *commit, struct thaw_generation *generation, const void *state,
		  size_t state_bytes, struct thaw_error *error)
{
	struct image *image = commit->image;
	struct change change = {0};
	uint64_t began = sys_monotonic_ns();
	const char *doing = "write";
	int code = 0;

	if (commit->failed || (!generation && commit->pages)) /* a generation with holes */
		code = -EIO;
	if (!code && state_bytes > STORE_STATE_MAX) {
		doing = "store a state of more than 320 MiB in";
		code = -EFBIG;
	}
	if (!code && commit->number > STORE_NUMBER_MAX)
		code = -EOVERFLOW;
	if (!code)
		code = change_begin(commit, generation, generation ? state_bytes : 0, &change);
	if (!code)
		code = commit_write_all(commit, &change, state, began);
	if (!code)
		code = garbage_find(image, &change);
	if (code)
		goto failed;
	doing = "sync";
	code = sys_fdatasync(image->fd);
	if (code)
		goto failed;
	doing = "write the header of";
	commit->in_doubt = true;
	code = header_write(image->fd, commit->number % 2, &change.slot);
	if (code)
		goto failed;
	doing = "sync the header of";
	code = sys_fdatasync(image->fd);
	if (code)
		goto failed;
	if (generation) {
		/*
		 * What the record on the disk could not know yet: the syncs. The next record will
		 * have it.
		 */
		change.made->info.durable_ns = generation->durable_ns + sys_monotonic_ns() - began;
		*generation = change.made->info;
	}
	commit_adopt(commit, &change);
	change_free(&change);
	return 0;
failed:
	change_free(&change);
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
