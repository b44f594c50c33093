/* SPDX-License-Identifier: MIT */
/*
 * commit.c - writing a generation; format.h describes the order of the writes. The thread that checkpoints;
 * one commit at a time. It changes the working index in place (other threads look up only pages that have
 * not arrived yet, which nobody can have changed, but see relocate.c) and takes blocks; abort undoes both.
 *
 *	begin --> page ... page --> finish --> (durable, freed); after an error anywhere: abort
 *
 * Invariants (tests/inject/checks.c executes them)
 *  1. A block that is written to had no live byte when the commit began: no slot reaches it.
 *  2. Every byte the commit took is in the writer's `taken` or open run, so that abort can give it back.
 *  3. From the first write to the slot on, the commit is in doubt: what it took is not given back but
 *     waits in image->doubt until the slot has been overwritten.
 *  4. Nothing can fail between the last fdatasync and the new state of struct image: all memory is
 *     allocated before.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "checks.h"
#include "cipher.h"
#include "commit.h"
#include "mirror.h"
#include "reachability.h"
#include "relocate.h"
#include "retention.h"
#include "sys.h"

#define PUNCHES 8u	      /* at most, in one commit */
#define TRIM_BYTES (1u << 20) /* a shorter free tail is kept: the next commit needs it */

int commit_fail(struct commit *commit, int code, const char *doing, struct thaw_error *error)
{
	commit->failed = true;
	if (code == -ENOSPC || code == -EDQUOT || code == -EFBIG)
		commit->image->space.cramped =
			true; /* the next one makes do with what the file has */
	return error_set(error, code, "%s: cannot %s generation %" PRIu64 ": %s",
			 commit->image->path, doing, commit->number, thaw_strerror(code));
}

int commit_begin(struct image *image, struct commit **commit, struct thaw_error *error)
{
	struct commit *begun;
	int code;

	*commit = NULL;
	if (image->committing)
		return error_set(error, -EBUSY, "%s: a commit is under way", image->path);
	code = image_settle(image, error);
	if (!code && !image->space_known) {
		code = reachability_find_all(image, error);
		image_note_extent(image);
		if (!code)
			check_space_found(image);
	}
	if (!code && image->log.stale)
		code = log_restore(image, error);
	if (code)
		return code;
	begun = calloc(1, sizeof(*begun));
	if (begun)
		begun->names = calloc(image->record.name_count + 1, sizeof(*begun->names));
	if (!begun || !begun->names ||
	    writer_open(&begun->writer, image->fd, image->file_bytes, &image->space) ||
	    writer_open(&begun->packed, image->fd, image->file_bytes, &image->space)) {
		if (begun) {
			writer_close(&begun->writer);
			free(begun->names);
		}
		free(begun);
		return error_set(error, -ENOMEM, "%s: no memory for a commit", image->path);
	}
	if (image->record.name_count)
		memcpy(begun->names, image->record.names,
		       image->record.name_count * sizeof(*begun->names));
	begun->name_count = image->record.name_count;
	begun->image = image;
	begun->number = image->next;
	begun->large = !image->log.wanted;
	space_restart(&image->space);
	image->committing = true;
	check_commit_begun(image);
	*commit = begun;
	return 0;
}

bool commit_is_empty(const struct commit *commit)
{
	return !commit->pages && !commit->dropped;
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
	commit->renamed = true;
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
	struct log_state state; /* of what is made, for the log that follows */
};

static void change_free(struct change *change)
{
	record_free(&change->all);
	record_free(&change->kept);
	free(change->keep);
	ranges_free(&change->garbage);
	free(change->state.bytes);
}

/* Everything about the change that is known before anything is written. */
static int change_begin(struct commit *commit, const struct thaw_generation *generation,
			size_t state_bytes, struct change *change)
{
	struct image *image = commit->image;
	const struct thaw_generation *base = &image->base.info;
	struct retention retention = image->retention;
	struct record *all = &change->all, *kept = &change->kept;
	bool fold = !generation && log_pending(image);
	unsigned count = image->record.count + (generation || fold);
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
	if (fold) { /* the newest of those in the log, as it was reported */
		struct thaw_generation *info = &all->generations[count - 1].info;

		*info = *base;
		info->ancestor = log_ancestor(image);
	} else if (generation) {
		struct thaw_generation *info = &all->generations[count - 1].info;

		*info = *generation;
		info->number = commit->number;
		info->parent = base->number;
		info->ancestor = log_ancestor(image);
		info->portable = info->kind == THAW_KIND_PORTABLE ? commit->number
								  : log_portable(image);
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
	/* A new heap has no restore that the old working set would describe. */
	if (!generation || base->number)
		kept->working_set = image->record.working_set;
	kept->log = image->record.log;
	if (generation || fold)
		change->made = &kept->generations[stay - 1];
	return 0;
}

/* ---- Finishing */

struct emission {
	struct commit *commit;
	uint64_t left; /* bytes of nodes still to come */
};

static int emit_node(void *arg, const void *node, size_t bytes, uint64_t *offset)
{
	struct emission *emission = arg;
	int code =
		writer_append(commit_tail(emission->commit), node, bytes, emission->left, offset);

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
				    .checksum = checksum_of(commit->image->identity.key,
							    CHECKSUM_WORKING_SET,
							    commit->working_set, bytes)};
	cipher(commit->image->identity.key, CHECKSUM_WORKING_SET, set->checksum, set->generation,
	       commit->working_set, commit->working_set, bytes, 0);
	return writer_append(commit_tail(commit), commit->working_set, bytes, wish, &set->offset);
}

/* `made` has its checksum by now. */
static int write_state(struct commit *commit, struct generation *made, const void *state,
		       uint64_t wish)
{
	const struct checksum_key *key = commit->image->identity.key;
	uint64_t bytes = made->info.state_bytes;
	void *sealed = NULL;
	int code;

	if (cipher_is_on(key)) {
		sealed = malloc(bytes);
		if (!sealed)
			return -ENOMEM;
		cipher(key, CHECKSUM_STATE, made->state_checksum, made->info.number, state, sealed,
		       bytes, 0);
		state = sealed;
	}
	code = writer_append(commit_tail(commit), state, bytes, wish, &made->state_offset);
	free(sealed);
	return code;
}

static int write_record(struct commit *commit, struct change *change)
{
	size_t bytes = record_encoded_bytes(&change->kept, &change->slot);
	void *encoded = malloc(bytes);
	int code = encoded ? 0 : -ENOMEM;

	if (!code) {
		record_encode(&change->kept, &change->slot, encoded);
		code = writer_append(commit_tail(commit), encoded, bytes, bytes,
				     &change->slot.record_offset);
	}
	free(encoded);
	return code;
}

/* Step 1: nodes, state, working set, record. */
static int commit_write_all(struct commit *commit, struct change *change, const void *state,
			    bool fold, uint64_t began)
{
	struct generation *made = change->made;
	struct emission emission = {commit, 0};
	uint64_t state_bytes = made ? made->info.state_bytes : 0;
	uint64_t record_bytes = record_encoded_bytes(&change->kept, &change->slot);
	uint64_t rest = state_bytes + record_bytes + 24 +
			commit->working_set_count * sizeof(*commit->working_set);
	int code = log_make(commit, &change->kept.log);

	commit->touched = true;
	if (!code && made)
		code = log_place(commit);
	if (!code && made)
		code = relocate_some(commit,
				     commit->working_set ? NULL : &change->kept.working_set);
	if (code)
		return code;
	emission.left = index_dirty_bytes(&commit->image->index);
	emission.left += rest; /* ask for one run for all of it */
	if (made)
		code = index_write(&commit->image->index, commit->number, emit_node, &emission,
				   &made->root);
	if (!code && state_bytes) {
		made->state_checksum =
			checksum_of(change->slot.key, CHECKSUM_STATE, state, state_bytes);
		code = write_state(commit, made, state, rest);
	}
	if (!code)
		code = write_working_set(commit, rest - state_bytes, &change->kept.working_set);
	if (code)
		return code;
	if (made && !fold) {
		made->info.pages_stored = commit->pages;
		made->info.bytes_written = writer_bytes(&commit->writer) +
					   writer_bytes(&commit->packed) + record_bytes +
					   SPACE_BLOCK;
		made->info.durable_ns += sys_monotonic_ns() - began;
	}
	if (made) {
		change->all.generations[change->all.count - 1] = *made;
	}
	code = write_record(commit, change);
	if (!code)
		code = writer_flush(&commit->writer);
	return code ? code : writer_flush(&commit->packed);
}

/* Truncates the file if its free tail is long. A failure does no harm. */
static void file_trim(struct image *image)
{
	if (!space_trim(&image->space) ||
	    image_file_bytes(image) <= image->space.blocks * SPACE_BLOCK + TRIM_BYTES)
		return;
	mirror_cuts(image->space.mirror, image->space.blocks * SPACE_BLOCK);
	sys_truncate(image->fd, image->space.blocks * SPACE_BLOCK);
}

/*
 * Punches out blocks that have stayed free, in the middle of the file. They are free, so no slot
 * reaches them. A failure does no harm; where the file system does not support it, it is not tried
 * again.
 */
static void file_punch(struct image *image)
{
	uint64_t offset, bytes;

	for (unsigned i = 0;
	     i < PUNCHES && !image->no_holes && space_find_idle(&image->space, &offset, &bytes);
	     i++) {
		if (sys_punch(image->fd, offset, bytes))
			image->no_holes = true;
		else
			space_returned(&image->space, offset, bytes);
	}
}

void commit_free(struct commit *commit)
{
	commit->image->committing = false;
	writer_close(&commit->writer);
	writer_close(&commit->packed);
	ranges_free(&commit->superseded);
	free(commit->working_set);
	free(commit->names);
	free(commit);
}

/*
 * This garbage was dropped by the commit before; this commit has overwritten the last slot that
 * could reach it. It is free now, unless a reader has it pinned, or a take of the mirror needs it. Ranges
 * that there is no memory to remember stay taken until the next open.
 */
static void garbage_release(struct image *image)
{
	uint64_t bytes = ranges_bytes(&image->held) + ranges_bytes(&image->garbage);

	if (bytes && pins_may_hold(image, bytes) &&
	    (mirror_holds(image->space.mirror) || pins_hold(image->fd, &image->record))) {
		(void)ranges_add_all(&image->held, &image->garbage);
	} else {
		if (bytes)
			mirror_overrun(image->space.mirror);
		ranges_subtract(&image->held, &image->space);
		ranges_subtract(&image->garbage, &image->space);
		ranges_free(&image->held);
	}
	ranges_free(&image->garbage);
}

/*
 * A commit of names alone makes no progress, so the note of failures stays true. If writing it
 * fails, or power is lost before, failures are counted from zero again.
 */
static void note_settle(struct image *image, bool generation)
{
	if (generation)
		image->note = (struct note){0};
	else if (image->note.failures)
		note_write(image->fd, !image->slot, &image->note);
}

/*
 * The generation is durable: blocks that only the overwritten slot reached are free now. Cannot
 * fail.
 */
static void commit_adopt(struct commit *commit, struct change *change)
{
	struct image *image = commit->image;

	writer_settle(&commit->writer);
	writer_settle(&commit->packed);
	ranges_subtract(&commit->superseded, &image->space);
	ranges_subtract(&image->doubt, &image->space);
	ranges_free(&image->doubt);
	garbage_release(image);
	image->garbage = change->garbage;
	change->garbage = (struct ranges){0};

	if (change->made) {
		index_committed(&image->index, &change->made->root);
		image->base = *change->made;
		if (image->opened.info.number == image->base.info.number) /* it was in the log */
			image->opened = image->base;
		space_subtract(&image->space, image->log.tail.offset, image->log.tail.bytes);
		image->log.tail = (struct range){0};
	}
	record_free(&image->record);
	image->record = change->kept;
	image->record.offset = change->slot.record_offset;
	image->record.bytes = change->slot.record_bytes;
	change->kept = (struct record){0};
	image->slot = commit->number % 2;
	image->next = commit->number + 1;
	image->slots[image->slot] = change->slot;
	image->slots[image->slot].state = SLOT_VALID;
	image->identity.sequence = commit->number;
	image->slots_known[image->slot] = true;
	image->made = false;
	if (change->made)
		log_folded(image, &change->state);
	else
		log_follow(image);
	file_trim(image);
	file_punch(image);
	image_note_extent(image);
	commit_free(commit);
	check_commit_ended(image, true);
}

int commit_finish(struct commit *commit, struct thaw_generation *generation, const void *state,
		  size_t state_bytes, struct thaw_error *error)
{
	struct image *image = commit->image;
	struct change change = {0};
	uint64_t began = sys_monotonic_ns();
	const char *doing = "write";
	int code = 0;

	bool fold = !generation && log_pending(image);

	if (!commit->failed)
		code = commit_pages_settle(commit, error);
	if (code)
		return code;
	if (commit->failed ||
	    (!generation && !commit_is_empty(commit))) /* a generation with holes */
		code = -EIO;
	if (fold) {
		state = image->log.state.bytes;
		state_bytes = image->log.state.count;
	}
	if (!code && state_bytes > STORE_STATE_MAX) {
		doing = "store a state of more than 320 MiB in";
		code = -EFBIG;
	}
	if (!code && commit->number > STORE_NUMBER_MAX)
		code = -EOVERFLOW;
	if (!code && image->check_put_off) {
		code = image_check_file(image, error);
		if (code) {
			commit->failed = true;
			return code;
		}
	}
	if (!code)
		code = change_begin(commit, generation, generation ? state_bytes : 0, &change);
	if (!code && change.made && image->log.wanted && state_bytes <= LOG_STATE_MOST)
		code = log_state_copy(&change.state, state, state_bytes);
	if (!code)
		code = commit_write_all(commit, &change, state, fold, began);
	if (!code)
		code = reachability_find_dropped(image, &change.all, change.keep, &change.kept,
						 &change.garbage);
	if (code)
		goto failed;
	doing = "sync";
	code = sys_fdatasync(image->fd);
	if (code)
		goto failed;
	doing = "write the header of";
	commit->in_doubt = true;
	check_slot_write(image);
	image->slots_known[commit->number % 2] = false;
	mirror_window_open(image->space.mirror, (int)(commit->number % 2));
	code = header_write(image->fd, commit->number % 2, &change.slot);
	if (code)
		goto failed;
	doing = "sync the header of";
	code = sys_fdatasync(image->fd);
	if (code)
		goto failed;
	/*
	 * A synced generation is durable only if the next open will find this file under its name.
	 */
	code = image_check_file(image, error);
	if (code) {
		mirror_window_close(image->space.mirror, MIRROR_DOUBT);
		change_free(&change);
		commit->failed = true;
		return code;
	}
	if (generation) {
		/*
		 * The record on the disk could not contain the duration of the syncs. The next
		 * record will.
		 */
		change.made->info.durable_ns = generation->durable_ns + sys_monotonic_ns() - began;
		*generation = change.made->info;
	}
	commit_adopt(commit, &change);
	note_settle(image, generation);
	mirror_window_close(image->space.mirror, fold ? MIRROR_FOLDED : MIRROR_NEWS);
	change_free(&change);
	return 0;
failed:
	if (commit->in_doubt)
		mirror_window_close(image->space.mirror, MIRROR_DOUBT);
	change_free(&change);
	return commit_fail(commit, code, doing, error);
}

int commit_record(struct image *image, struct thaw_error *error)
{
	struct commit *commit;
	int code = commit_begin(image, &commit, error);

	if (code)
		return code;
	code = commit_finish(commit, NULL, NULL, 0, error);
	if (code)
		commit_abort(commit);
	return code;
}

void commit_abort(struct commit *commit)
{
	struct image *image;

	if (!commit)
		return;
	image = commit->image;
	commit_pages_stop(commit);
	log_pages_unstage(&image->log.pages);
	if (commit->touched) {
		image->log.stale = log_pending(image);
		index_revert(&image->index, image->log.stale);
		if (image->log.stale)
			log_restore(image, NULL); /* or the next commit tries it again */
	}
	if (commit->failed)
		relocate_pause(&image->relocation);
	writer_settle(&commit->writer);
	writer_settle(&commit->packed);
	if (commit->in_doubt) {
		/*
		 * Without memory for the list they stay taken until the next open, which does no
		 * harm.
		 */
		if (!ranges_add_all(&image->doubt, &commit->writer.taken))
			(void)ranges_add_all(&image->doubt, &commit->packed.taken);
		image->next += 2;
		image->log.usable = false;
	} else {
		ranges_subtract(&commit->writer.taken, &image->space);
		ranges_subtract(&commit->packed.taken, &image->space);
	}
	/*
	 * If another process has truncated the file, that must not be recorded as this process's
	 * change.
	 */
	if (!image_check_bytes(image, NULL)) {
		if (!commit->in_doubt) {
			mirror_window_open(image->space.mirror, -1);
			file_trim(image);
			mirror_window_close(image->space.mirror, MIRROR_NOTHING);
		}
		image_note_extent(image);
	}
	commit_free(commit);
	check_commit_ended(image, false);
}
