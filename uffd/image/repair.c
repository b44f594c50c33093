/* SPDX-License-Identifier: MIT */
/*
 * repair.c - thaw_image_repair: what is still whole of a damaged image, as a new one. Any thread; only
 * reads the old file, which may be in use.
 *
 * A record says what there was: the one that the newest slot names, the one that the other names, or any
 * that is found in the file by its magic, newest first; where a slot or its record is damaged, those that
 * are newer than what the other slot names come before it. The first that leads to a generation which is
 * whole to its last byte (salvage.c) is the one; what else it lists is lost. The whole ones are copied
 * densely (pack.c), which checks everything once more.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "copying.h"
#include "fill.h"
#include "retention.h"
#include "sys.h"

#define SCAN_BYTES (1u << 20)
#define FOUND_MAX 16u /* records that are remembered */

struct found {
	uint64_t sequence, offset, bytes;
};

struct lost { /* a generation of a record that was of no use */
	struct thaw_generation info;
	struct thaw_damage cause;
};

struct repair {
	struct walk_source source; /* page_bytes: as the record says */
	uint64_t file_bytes;
	struct slot slots[2];
	struct copying copying;
	struct found found[FOUND_MAX]; /* newest first */
	unsigned found_count;
	bool scanned;
	struct thaw_error no_key; /* why a record that was found could not be read; code 0: none */
	struct slot
		sealing; /* with the key slots of an enciphered image, and its key; else with none */

	struct slot identity; /* of the record */
	struct record record; /* that was tried last */
	bool *whole;	      /* which of its generations are */
	struct thaw_damage *causes;

	struct lost *lost; /* of those tried before it */
	struct thaw_name *lost_names;
	unsigned lost_count, lost_name_count;
};

/* ---- Records without a slot */

static void found_add(struct repair *repair, const struct found *found)
{
	unsigned at = repair->found_count;

	/*
	 * Of two with the same sequence, the one further back in the file was probably written
	 * later.
	 */
	while (at && repair->found[at - 1].sequence <= found->sequence)
		at--;
	if (at == FOUND_MAX)
		return;
	if (repair->found_count < FOUND_MAX)
		repair->found_count++;
	memmove(&repair->found[at + 1], &repair->found[at],
		(repair->found_count - 1 - at) * sizeof(*repair->found));
	repair->found[at] = *found;
}

/* The record at that place, or an error; the image may be hostile. */
static int record_at(struct repair *repair, uint64_t offset, size_t bytes, struct slot *slot,
		     struct record *record)
{
	struct thaw_error error;
	void *disk = malloc(bytes);
	int code = disk ? sys_pread(repair->source.fd, disk, bytes, offset) : -ENOMEM;

	if (!code)
		code = record_parse(repair->sealing.key, disk, bytes, repair->source.path, slot,
				    record, &error);
	/* It says whose key it is with, and is of no other image. */
	if (!code && slot->enciphered &&
	    memcmp(&slot->mark, &repair->sealing.mark, sizeof(slot->mark))) {
		record_free(record);
		code = THAW_EDAMAGED;
	}
	if (code == THAW_EKEY && !repair->no_key.code)
		repair->no_key = error;
	free(disk);
	if (!code) {
		slot->record_offset = record->offset = offset;
		slot->record_bytes = record->bytes = bytes;
		slot->keys = repair->sealing.keys;
	}
	return code;
}

/* Is there a record? Takes from *budget what it costs to find out. */
static int scan_at(struct repair *repair, uint64_t offset, uint64_t *budget)
{
	uint8_t start[RECORD_START_BYTES];
	struct record record;
	struct found found;
	struct slot slot;
	int code;

	if (sys_pread(repair->source.fd, start, sizeof(start), offset))
		return 0;
	found = (struct found){.offset = offset};
	found.bytes = record_claims(repair->sealing.key, start, &found.sequence);
	if (!found.bytes || found.bytes > repair->file_bytes - offset || found.bytes > *budget)
		return 0;
	*budget -= found.bytes;
	code = record_at(repair, offset, found.bytes, &slot, &record);
	if (!code) {
		record_free(&record);
		found_add(repair, &found);
	}
	return code == -ENOMEM ? code : 0;
}

/* Reads the piece; unreadable parts are filled with zeros. */
static void scan_read(struct repair *repair, uint8_t *piece, size_t bytes, uint64_t offset)
{
	if (!sys_pread(repair->source.fd, piece, bytes, offset))
		return;
	for (size_t at = 0; at < bytes; at += SPACE_BLOCK) {
		size_t part = bytes - at < SPACE_BLOCK ? bytes - at : SPACE_BLOCK;

		if (sys_pread(repair->source.fd, piece + at, part, offset + at))
			memset(piece + at, 0, part);
	}
}

/* Records do not overlap, so the length of the file limits the cost of all real ones. */
static int scan(struct repair *repair)
{
	uint64_t budget = 2 * repair->file_bytes + (64u << 20), offset = 0;
	uint8_t *piece = malloc(SCAN_BYTES);
	int code = piece ? fill_need_all(repair->source.fd) : -ENOMEM;

	while (!code && offset < repair->file_bytes) {
		off_t data = lseek(repair->source.fd, (off_t)offset, SEEK_DATA);
		size_t bytes;

		if (data < 0 && errno == ENXIO) /* the rest is a hole */
			break;
		if (data > (off_t)offset)
			offset = (uint64_t)data & ~7ull;
		if (offset >= repair->file_bytes)
			break;
		bytes = repair->file_bytes - offset < SCAN_BYTES ? repair->file_bytes - offset
								 : SCAN_BYTES;
		scan_read(repair, piece, bytes, offset);
		for (size_t at = 0; at + 8 <= bytes && !code; at += 8)
			if (record_may_begin(piece + at))
				code = scan_at(repair, offset + at, &budget);
		offset += bytes;
		if (!code)
			code = copying_advance(&repair->copying, bytes);
	}
	free(piece);
	return code;
}

/* ---- What is whole */

static bool any_whole(const struct repair *repair)
{
	for (unsigned i = 0; i < repair->record.count; i++)
		if (repair->whole[i])
			return true;
	return false;
}

/*
 * The record tried before was of no use: all its generations are lost, unless another record lists
 * them.
 */
static int repair_give_up(struct repair *repair)
{
	struct record *record = &repair->record;
	struct lost *lost =
		realloc(repair->lost, (repair->lost_count + record->count + 1) * sizeof(*lost));
	struct thaw_name *names =
		realloc(repair->lost_names,
			(repair->lost_name_count + record->name_count + 1) * sizeof(*names));

	repair->lost = lost ? lost : repair->lost;
	repair->lost_names = names ? names : repair->lost_names;
	if (!lost || !names)
		return -ENOMEM;
	for (unsigned i = 0; i < record->count; i++)
		lost[repair->lost_count++] =
			(struct lost){record->generations[i].info, repair->causes[i]};
	for (unsigned i = 0; i < record->name_count; i++)
		names[repair->lost_name_count++] = record->names[i];
	record_free(record);
	free(repair->whole);
	free(repair->causes);
	repair->whole = NULL;
	repair->causes = NULL;
	return 0;
}

/* Adopt the record, and find out which of its generations are whole. */
static int repair_try(struct repair *repair, const struct slot *slot, struct record *record)
{
	int code = repair_give_up(repair);

	if (code) {
		record_free(record);
		return code;
	}
	repair->identity = *slot;
	repair->record = *record;
	repair->source.key = slot->key;
	repair->source.page_bytes = slot->page_bytes;
	repair->whole = calloc(record->count + 1, sizeof(*repair->whole));
	repair->causes = calloc(record->count + 1, sizeof(*repair->causes));
	if (!repair->whole || !repair->causes)
		return -ENOMEM;
	for (unsigned i = 0; i < record->count; i++)
		pin_take(repair->source.fd, record->generations[i].info.number);
	return salvage_find_whole(&repair->source, &repair->record, &repair->copying, repair->whole,
				  repair->causes);
}

static int repair_try_slot(struct repair *repair, unsigned number)
{
	const struct slot *slot = &repair->slots[number];
	struct record record;

	if (slot->state != SLOT_VALID || !slot->record_bytes ||
	    record_read(repair->source.fd, repair->source.path, slot, &record, NULL))
		return 0;
	return repair_try(repair, slot, &record);
}

/* The records that were found, newest first: those above that sequence, or those up to it. */
static int repair_try_found(struct repair *repair, uint64_t sequence, bool above)
{
	int code = 0;

	if (!repair->scanned)
		code = scan(repair);
	repair->scanned = true;
	for (unsigned i = 0; !code && i < repair->found_count && !any_whole(repair); i++) {
		struct record record;
		struct slot slot;

		if ((repair->found[i].sequence > sequence) != above)
			continue;
		code = record_at(repair, repair->found[i].offset, repair->found[i].bytes, &slot,
				 &record);
		if (!code)
			code = repair_try(repair, &slot, &record);
		else if (code != -ENOMEM)
			code = 0; /* written over since */
	}
	return code;
}

/* The key of an enciphered image, whether its slots are whole or not: with it all that was sealed can be told. */
static int sealing_find(struct repair *repair, struct thaw_error *error)
{
	int code = 0;

	for (unsigned i = 0; i < 2 && !repair->sealing.key; i++) {
		const struct slot *slot = &repair->slots[i];

		if (!slot->keys.known || (slot->state == SLOT_VALID && !slot->enciphered))
			continue;
		repair->sealing = *slot;
		repair->sealing.enciphered = true;
		repair->sealing.mark = slot->keys.mark;
		code = slot_find_key(repair->source.path, &repair->sealing, error);
		if (code)
			repair->sealing = (struct slot){.key = NULL};
	}
	return repair->sealing.key ? 0 : code;
}

/* The first record with a generation that is whole. */
static int repair_find(struct repair *repair, struct thaw_error *error)
{
	const char *path = repair->source.path;
	struct record record = {0};
	struct thaw_error fallback;
	unsigned newest;
	int code = pins_read(repair->source.fd, path, repair->slots, &newest, &record, &fallback,
			     error);

	if (code && code != THAW_EDAMAGED && code != THAW_EFOREIGN)
		return code;
	if (sealing_find(repair, error)) {
		record_free(&record);
		return error->code;
	}
	if (!code && record.count) {
		if (fallback.code)
			code = repair_try_found(repair, repair->slots[newest].sequence, true);
		if (!code && !any_whole(repair))
			code = repair_try(repair, &repair->slots[newest], &record);
		else
			record_free(&record);
	} else { /* the header does not lead to a record */
		int number = header_newest(path, repair->slots, NULL);

		newest = number < 0 ? 0 : (unsigned)number;
		code = 0;
	}
	if (!code && !any_whole(repair))
		code = repair_try_slot(repair, !newest);
	if (!code && !any_whole(repair))
		code = repair_try_found(repair, STORE_NUMBER_MAX, false);
	if (code)
		return error_set(error, code, "%s: cannot be repaired: %s", path,
				 thaw_strerror(code));
	if (repair->record.count || repair->lost_count)
		return 0;
	if (repair->no_key.code) {
		*error = repair->no_key;
		return error->code;
	}
	code = header_newest(path, repair->slots, error);
	if (code >= 0 && !repair->slots[code].record_bytes)
		return error_set(error, THAW_ENOGEN, "%s: holds no generation", path);
	if (code >= 0 || code == THAW_EDAMAGED)
		code = error_set(error, THAW_EDAMAGED,
				 "%s: damaged, and no commit record that could be found is whole: "
				 "restore the file from a backup",
				 path);
	if (code == THAW_EFOREIGN)
		code = error_set(error, code,
				 "%s: not a Thaw image, and nothing of one was found in it", path);
	return code;
}

/*
 * If the image is in use, generations that its program has dropped meanwhile are not reported as
 * lost.
 */
static bool was_dropped(const struct repair *repair, uint64_t number)
{
	struct slot now[2];

	if (header_read(repair->source.fd, repair->source.path, now, NULL))
		return false;
	if (now[0].sequence == repair->slots[0].sequence &&
	    now[1].sequence == repair->slots[1].sequence)
		return false;
	return !store_retains(repair->source.fd, repair->source.path, number);
}

struct verdict {
	struct thaw_salvage salvage;
	bool other; /* of a record that was tried before */
};

static int by_number(const void *a, const void *b)
{
	const struct verdict *left = a, *right = b;
	uint64_t first = left->salvage.generation.number;
	uint64_t second = right->salvage.generation.number;

	return first == second ? left->other - right->other : (first > second) - (first < second);
}

/* The generation's names, from both lists, into `names`. */
static unsigned names_of(const struct repair *repair, const struct verdict *verdict,
			 struct thaw_name *names)
{
	const struct thaw_name *from = verdict->other ? repair->lost_names : repair->record.names;
	unsigned count = verdict->other ? repair->lost_name_count : repair->record.name_count;
	unsigned found = 0;

	for (unsigned i = 0; i < count; i++) {
		bool twice = false;

		for (unsigned n = 0; n < found; n++)
			twice |= !strcmp(names[n].name, from[i].name);
		if (!twice && from[i].generation == verdict->salvage.generation.number)
			names[found++] = from[i];
	}
	return found;
}

/* Oldest first, each once: the last record takes precedence over the ones before. */
static int repair_report(const struct repair *repair, struct thaw_copy_summary *summary)
{
	const struct thaw_copy_ops *ops = repair->copying.ops;
	unsigned count = repair->record.count + repair->lost_count;
	struct verdict *verdicts = calloc(count + 1, sizeof(*verdicts));
	struct thaw_name *names =
		calloc(repair->record.name_count + repair->lost_name_count + 1, sizeof(*names));
	uint64_t last = 0;

	for (unsigned i = 0; verdicts && i < repair->record.count; i++)
		verdicts[i].salvage =
			(struct thaw_salvage){.generation = repair->record.generations[i].info,
					      .kept = repair->whole[i],
					      .cause = repair->causes[i]};
	for (unsigned i = 0; verdicts && i < repair->lost_count; i++)
		verdicts[repair->record.count + i] = (struct verdict){
			{.generation = repair->lost[i].info, .cause = repair->lost[i].cause}, true};
	if (verdicts)
		qsort(verdicts, count, sizeof(*verdicts), by_number);
	for (unsigned i = 0; verdicts && names && i < count; i++) {
		struct thaw_salvage *salvage = &verdicts[i].salvage;

		if (salvage->generation.number == last ||
		    (!salvage->kept && was_dropped(repair, salvage->generation.number)))
			continue;
		last = salvage->generation.number;
		salvage->names = names;
		salvage->name_count = names_of(repair, &verdicts[i], names);
		if (!salvage->kept) {
			summary->generations_lost++;
			summary->names_lost += salvage->name_count;
		}
		if (ops && ops->generation)
			ops->generation(ops->arg, salvage);
	}
	free(names);
	free(verdicts);
	return verdicts && names ? 0 : -ENOMEM;
}

/* ---- What is made of it */

/* The working set only makes the next start faster: without it nothing is lost. */
static int working_set_check(struct repair *repair, struct record *kept,
			     struct thaw_copy_summary *summary)
{
	uint64_t *pages;
	int code =
		working_set_read(repair->source.fd, repair->source.key, &kept->working_set, &pages);

	free(pages);
	if (code == -ENOMEM)
		return code;
	summary->working_set_lost = code != 0;
	if (code)
		kept->working_set = (struct working_set){0};
	return 0;
}

static const struct note *note_of(const struct repair *repair, uint64_t number)
{
	for (unsigned i = 0; i < 2; i++)
		if (repair->slots[i].note.failures && repair->slots[i].note.generation == number)
			return &repair->slots[i].note;
	return NULL;
}

/* No sequence may be used twice: above every one that was used. */
static void sequence_raise(struct repair *repair)
{
	for (unsigned i = 0; i < 2; i++)
		if (repair->slots[i].state == SLOT_VALID &&
		    repair->slots[i].sequence > repair->identity.sequence)
			repair->identity.sequence = repair->slots[i].sequence;
}

static int repair_write(struct repair *repair, const struct record *kept, struct newfile *to,
			struct thaw_copy_summary *summary, struct thaw_error *error)
{
	uint64_t newest = kept->generations[kept->count - 1].info.number;
	struct stat stat;
	int code;

	sequence_raise(repair);
	code = pack_generations(&repair->source, &repair->identity, kept, note_of(repair, newest),
				to, &repair->copying, &summary->pages, error);
	if (code == THAW_EDAMAGED) /* what was whole a moment ago */
		code = error_set(
			error, -EAGAIN,
			"%s: changed while it was read: stop the program that writes it, or "
			"try again",
			repair->source.path);
	if (code)
		return code;
	summary->newest = newest;
	summary->generations = kept->count;
	summary->names = kept->name_count;
	if (!fstat(to->fd, &stat))
		summary->bytes_after = (uint64_t)stat.st_size;
	return newfile_name_or_nothing(to, error);
}

static int repair_make(struct repair *repair, const char *new_path,
		       struct thaw_copy_summary *summary, struct thaw_error *error)
{
	struct newfile to;
	struct record kept;
	int code = retention_select(&repair->record, repair->whole, &kept);

	if (!code)
		code = working_set_check(repair, &kept, summary);
	if (code) {
		record_free(&kept);
		return error_set(error, code, "%s: no memory to repair it", repair->source.path);
	}
	newfile_sweep(new_path);
	code = newfile_open(&to, new_path);
	if (code) {
		newfile_error(new_path, code, error);
	} else {
		code = repair_write(repair, &kept, &to, summary, error);
		if (code)
			newfile_drop(&to);
		else
			close(to.fd);
	}
	record_free(&kept);
	return code;
}

static int repair_run(struct repair *repair, const char *new_path,
		      struct thaw_copy_summary *summary, struct thaw_error *error)
{
	struct stat stat;
	int code;

	if (fstat(repair->source.fd, &stat))
		return error_set(error, -errno, "%s: %s", repair->source.path,
				 thaw_strerror(-errno));
	summary->bytes_before = repair->file_bytes = (uint64_t)stat.st_size;
	repair->copying.total = 2 * repair->file_bytes; /* read, and copied */
	code = repair_find(repair, error);
	if (code)
		return code;
	code = repair_report(repair, summary);
	if (code)
		return error_set(error, code, "%s: no memory to repair it", repair->source.path);
	if (any_whole(repair))
		return repair_make(repair, new_path, summary, error);
	return error_set(error, THAW_EDAMAGED,
			 "%s: no generation is whole: restore the file from a backup",
			 repair->source.path);
}

int thaw_image_repair(const char *path, const char *new_path, const struct thaw_copy_ops *ops,
		      struct thaw_copy_summary *summary, struct thaw_error *error)
{
	struct repair repair = {.source = {.path = path}, .copying = {.ops = ops}};
	struct thaw_copy_summary unused_summary;
	struct thaw_error unused;
	int code;

	error = error ? error : &unused;
	summary = summary ? summary : &unused_summary;
	memset(summary, 0, sizeof(*summary));
	code = newfile_free(new_path, error);
	if (code)
		return code;
	repair.source.fd = store_open(path, O_RDONLY, error);
	if (repair.source.fd < 0)
		return repair.source.fd;
	code = repair_run(&repair, new_path, summary, error);
	record_free(&repair.record);
	free(repair.whole);
	free(repair.causes);
	free(repair.lost);
	free(repair.lost_names);
	close(repair.source.fd);
	return code;
}
