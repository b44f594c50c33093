/* SPDX-License-Identifier: MIT */
/*
 * clone.c - thaw_image_clone: a copy of the file, made another image. Any thread, no lock on the old
 * image, nothing written to it.
 *
 *	pin what is listed, and see that it still is	-> its blocks stay as they are (pins.c)
 *	copy the file: FICLONE, or all that is no hole	-> what the writer changes meanwhile is anything
 *	two new records behind its end, both slots	-> nothing else of it counts
 *
 * What was listed before and after the copy was never written over. What was dropped meanwhile was
 * pinned, but a writer waits for readers only up to a bound: then all is read again, and checked.
 *
 * Stale records are copied along. None has a sequence as high as the new ones have, so that repair,
 * which may have to search for records, finds those.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "copying.h"
#include "fill.h"
#include "format.h"
#include "lock.h"
#include "retention.h"
#include "sys.h"

#define ATTEMPTS 100
#define PIECE_BYTES (16u << 20) /* between two reports of progress */
#define BUFFER_BYTES (1u << 20)
#define SEQUENCES_AHEAD 16 /* more than a writer has begun to write records of */

struct clone {
	const char *path;
	int fd;
	struct slot slots[2];
	unsigned chosen;
	struct record record; /* what is listed, all of it pinned */
	struct newfile to;
	struct copying copying;
	bool reflink;
};

/* ---- What is copied */

static int clone_error(const struct clone *clone, int code, struct thaw_error *error)
{
	return error_set(error, code, "%s: cannot be cloned: %s", clone->path, thaw_strerror(code));
}

static int clone_read(struct clone *clone, struct record *record, struct thaw_error *error)
{
	struct thaw_error fallback;
	int code;

	memset(record, 0, sizeof(*record));
	code = store_read(clone->fd, clone->path, clone->slots, &clone->chosen, record, &fallback,
			  error);
	if (!code && fallback.code) {
		record_free(record);
		return error_set(error, fallback.code,
				 "%.350s: thaw repair makes a new image of it", fallback.text);
	}
	if (!code && !record->count)
		code = error_set(error, THAW_ENOGEN, "%s: holds no generation yet", clone->path);
	if (code)
		record_free(record);
	return code;
}

/* The generations of the record that the other one lists too. */
static int record_both(const struct record *record, const struct record *other, struct record *both)
{
	bool *keep = calloc(record->count + 1, sizeof(*keep));
	int code = -ENOMEM;

	for (unsigned i = 0; keep && i < record->count; i++)
		keep[i] = record_find(other, record->generations[i].info.number);
	if (keep)
		code = retention_select(record, keep, both);
	free(keep);
	return code;
}

/* Pins that were not needed stay: they cost nothing and end with the descriptor. */
static int clone_pin(struct clone *clone, struct thaw_error *error)
{
	struct record before;
	int code = clone_read(clone, &before, error);

	for (int attempt = 0; !code; attempt++) {
		struct record after;

		for (unsigned i = 0; i < before.count; i++)
			pin_take(clone->fd, before.generations[i].info.number);
		code = clone_read(clone, &after, error);
		if (code)
			break;
		code = record_both(&after, &before, &clone->record);
		if (code)
			clone_error(clone, code, error);
		record_free(&before);
		before = after;
		if (code || clone->record.count)
			break;
		record_free(&clone->record);
		if (attempt == ATTEMPTS)
			code = clone_error(clone, -EAGAIN, error);
	}
	record_free(&before);
	return code;
}

/* ---- Copying bytes */

static int copy_by_hand(struct clone *clone, uint64_t offset, uint64_t end)
{
	void *buffer = malloc(BUFFER_BYTES);
	int code = buffer ? 0 : -ENOMEM;

	while (!code && offset < end) {
		size_t part = end - offset < BUFFER_BYTES ? end - offset : BUFFER_BYTES;

		code = sys_pread(clone->fd, buffer, part, offset);
		if (code == -ENODATA) { /* the writer truncated it: what was there was free */
			code = 0;
			break;
		}
		if (!code)
			code = sys_pwrite(clone->to.fd, buffer, part, offset);
		if (!code)
			code = copying_advance(&clone->copying, part);
		offset += part;
	}
	free(buffer);
	return code;
}

static int copy_segment(struct clone *clone, uint64_t offset, uint64_t end)
{
	while (offset < end) {
		uint64_t part = end - offset < PIECE_BYTES ? end - offset : PIECE_BYTES;
		int code = sys_copy_range(clone->fd, clone->to.fd, offset, part);

		if (code == -EOPNOTSUPP)
			return copy_by_hand(clone, offset, end);
		if (code <= 0)
			return code;
		offset += (uint64_t)code;
		code = copying_advance(&clone->copying, (uint64_t)code);
		if (code)
			return code;
	}
	return 0;
}

static int copy_bytes(struct clone *clone, uint64_t bytes)
{
	uint64_t offset = 0;
	int code = fill_need_all(clone->fd);

	if (code)
		return code;
	code = sys_reflink(clone->fd, clone->to.fd);
	clone->reflink = !code;
	if (code != -EOPNOTSUPP)
		return code ? code : copying_advance(&clone->copying, bytes);
	code = sys_truncate(clone->to.fd, bytes);
	while (!code && offset < bytes) {
		off_t data = lseek(clone->fd, (off_t)offset, SEEK_DATA), hole;

		if (data < 0 && errno == ENXIO) /* only a hole is left */
			return 0;
		if (data < 0 || (uint64_t)data < offset) /* it knows no holes */
			return copy_segment(clone, offset, bytes);
		hole = lseek(clone->fd, data, SEEK_HOLE);
		if (hole <= data || (uint64_t)hole > bytes)
			hole = (off_t)bytes;
		code = copy_segment(clone, (uint64_t)data, (uint64_t)hole);
		offset = (uint64_t)hole;
	}
	return code;
}

/* ---- What it amounts to */

/* The generations that are certainly whole in the copy. */
static int clone_keep(struct clone *clone, struct record *kept, bool *moved,
		      struct thaw_error *error)
{
	const struct walk_source copy = {clone->to.fd, clone->to.path,
					 clone->slots[clone->chosen].key,
					 clone->slots[clone->chosen].page_bytes};
	uint64_t sequence = clone->slots[clone->chosen].sequence;
	struct thaw_damage *causes = calloc(clone->record.count + 1, sizeof(*causes));
	bool *whole = calloc(clone->record.count + 1, sizeof(*whole));
	struct record now = {0};
	bool all = true;
	int code = causes && whole ? 0 : clone_error(clone, -ENOMEM, error);

	if (!code)
		code = clone_read(clone, &now, error);
	*moved = !code &&
		 (clone->slots[clone->chosen].sequence != sequence || lock_is_held(clone->fd));
	for (unsigned i = 0; !code && i < clone->record.count; i++)
		all &= !!record_find(&now, clone->record.generations[i].info.number);
	if (!code && !all) {
		code = salvage_find_whole(&copy, &clone->record, &clone->copying, whole, causes);
		if (code)
			clone_error(clone, code, error);
	}
	/* A damaged generation that is still listed was damaged before the copy. */
	for (unsigned i = 0; !code && i < clone->record.count; i++)
		whole[i] |= !!record_find(&now, clone->record.generations[i].info.number);
	if (!code) {
		code = retention_select(&clone->record, whole, kept);
		if (code)
			clone_error(clone, code, error);
	}
	record_free(&now);
	free(causes);
	free(whole);
	return code;
}

/* Checks whose cost does not depend on the size of the heap. */
static int roots_check(const struct clone *clone, const struct record *record,
		       struct thaw_error *error)
{
	for (unsigned i = 0; i < record->count; i++) {
		const struct root *root = &record->generations[i].root;
		union disk_any node;

		if (root->levels &&
		    index_read_node(clone->to.fd, clone->path, clone->slots[clone->chosen].key,
				    &root->at, root->levels - 1, 0, &node, error))
			return error_set(
				error, error->code,
				"%s: the root of generation %" PRIu64 " at offset %" PRIu64
				" cannot be read: thaw repair makes a new image of the rest",
				clone->path, record->generations[i].info.number, root->at.offset);
	}
	return 0;
}

static const struct note *note_of(const struct clone *clone, uint64_t number)
{
	for (unsigned i = 0; i < 2; i++)
		if (clone->slots[i].note.failures && clone->slots[i].note.generation == number)
			return &clone->slots[i].note;
	return NULL;
}

static int clone_seal(struct clone *clone, const struct record *kept, bool moved,
		      struct thaw_error *error)
{
	const struct slot *slots = clone->slots;
	struct slot identity = slots[clone->chosen];
	uint64_t sequence = slots[0].sequence > slots[1].sequence ? slots[0].sequence
								  : slots[1].sequence;
	struct stat stat;
	int code = fstat(clone->to.fd, &stat) ? -errno : 0;

	if (!code && getrandom(identity.uuid, sizeof(identity.uuid), 0) != sizeof(identity.uuid))
		code = -EIO;
	if (!code)
		code = newfile_seal(&clone->to, ((uint64_t)stat.st_size + 7) & ~7ull, &identity,
				    sequence + (moved ? SEQUENCES_AHEAD : 0), kept,
				    note_of(clone, kept->generations[kept->count - 1].info.number));
	return code ? newfile_error(clone->to.path, code, error) : 0;
}

static int clone_roll_back(struct clone *clone, uint64_t generation, struct thaw_generation *made,
			   struct thaw_error *error)
{
	struct thaw_error why;
	char path[PATH_MAX];
	int code;

	newfile_path(&clone->to, path);
	lock_release(clone->to.fd); /* no name leads to it any more */
	code = thaw_image_rollback(path, generation, made, &why);
	return code ? error_set(error, code,
				"%s: cannot be rolled back to generation %" PRIu64 ": %.350s",
				clone->to.path, generation, why.text)
		    : 0;
}

/* ---- All of it */

static int clone_make(struct clone *clone, uint64_t generation, struct thaw_copy_summary *summary,
		      struct thaw_error *error)
{
	struct thaw_generation newest;
	struct record kept = {0};
	struct stat stat;
	bool moved;
	int code;

	if (fstat(clone->fd, &stat))
		return clone_error(clone, -errno, error);
	summary->bytes_before = clone->copying.total = (uint64_t)stat.st_size;
	code = copy_bytes(clone, clone->copying.total);
	if (code)
		return newfile_error(clone->to.path, code, error);
	code = clone_keep(clone, &kept, &moved, error);
	if (!code && (!kept.count || (generation && !record_find(&kept, generation))))
		code = error_set(
			error, -EAGAIN,
			"%s: the program that writes it dropped what was being copied: try "
			"again, stop it first, or name the generation (thaw tag)",
			clone->path);
	if (!code)
		code = roots_check(clone, &kept, error);
	if (!code)
		code = clone_seal(clone, &kept, moved, error);
	if (!code) {
		newest = kept.generations[kept.count - 1].info;
		summary->generations = kept.count;
		if (generation && generation != newest.number) {
			code = clone_roll_back(clone, generation, &newest, error);
			summary->generations++;
		}
	}
	if (!code) {
		summary->newest = newest.number;
		summary->names = kept.name_count;
		summary->generations_lost = clone->record.count - kept.count;
		summary->names_lost = clone->record.name_count - kept.name_count;
		summary->reflink = clone->reflink;
		if (!fstat(clone->to.fd, &stat))
			summary->bytes_after = (uint64_t)stat.st_size;
		code = newfile_name_or_nothing(&clone->to, error);
	}
	record_free(&kept);
	return code;
}

static int clone_run(struct clone *clone, const char *new_path, uint64_t generation,
		     struct thaw_copy_summary *summary, struct thaw_error *error)
{
	int code = clone_pin(clone, error);

	if (code)
		return code;
	if (generation && !record_find(&clone->record, generation))
		return error_set(error, THAW_ENOGEN, "%s: no generation %" PRIu64 " (see thaw log)",
				 clone->path, generation);
	newfile_sweep(new_path);
	code = newfile_open(&clone->to, new_path);
	if (code)
		return newfile_error(new_path, code, error);
	code = clone_make(clone, generation, summary, error);
	if (code)
		newfile_drop(&clone->to);
	else
		close(clone->to.fd);
	return code;
}

int thaw_image_clone(const char *path, const char *new_path, uint64_t generation,
		     const struct thaw_copy_ops *ops, struct thaw_copy_summary *summary,
		     struct thaw_error *error)
{
	struct clone clone = {.path = path, .copying = {.ops = ops}};
	struct thaw_copy_summary unused_summary;
	struct thaw_error unused;
	int code;

	error = error ? error : &unused;
	summary = summary ? summary : &unused_summary;
	memset(summary, 0, sizeof(*summary));
	code = newfile_free(new_path, error);
	if (code)
		return code;
	clone.fd = store_open(path, O_RDONLY, error);
	if (clone.fd < 0)
		return clone.fd;
	code = clone_run(&clone, new_path, generation, summary, error);
	record_free(&clone.record);
	close(clone.fd);
	return code;
}
