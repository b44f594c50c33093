/* SPDX-License-Identifier: MIT */
/*
 * header.c - reading and writing the header slots, notes and commit records of an image. See image.c for
 * the format.
 *
 * Every value that is read is checked before it is used: an image may be damaged or made to do
 * harm. Any thread; no state.
 */
#include "store.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "format.h"
#include "sys.h"

static bool checksum_is(XXH128_hash_t hash, const uint64_t stored[2])
{
	return hash.low64 == stored[0] && hash.high64 == stored[1];
}

static void slot_decode(const struct disk_slot *disk, unsigned number, struct slot *slot)
{
	bool whole = checksum_is(XXH3_128bits(disk, offsetof(struct disk_slot, checksum)),
				 disk->checksum);

	memset(slot, 0, sizeof(*slot));
	if (memcmp(disk->magic, FORMAT_MAGIC, sizeof(disk->magic)))
		return;
	slot->whole = whole;
	slot->format = disk->format;
	slot->page_bytes = disk->page_bytes;
	memcpy(slot->uuid, disk->uuid, sizeof(slot->uuid));
	memcpy(slot->engine, disk->engine, sizeof(slot->engine) - 1);
	slot->sequence = disk->sequence;
	slot->record_offset = disk->record_offset;
	slot->record_bytes = disk->record_bytes;
	slot->record_checksum = (XXH128_hash_t){disk->record_checksum[0], disk->record_checksum[1]};

	if (disk->format != FORMAT_VERSION) {
		slot->state = SLOT_OTHER;
		return;
	}
	slot->state = SLOT_DAMAGED;
	if (!whole || (disk->sequence && disk->sequence % 2 != number) ||
	    disk->sequence > STORE_NUMBER_MAX || !disk->sequence != !disk->record_bytes ||
	    !disk->record_bytes != !disk->record_offset || disk->engine[sizeof(disk->engine) - 1])
		return;
	if (disk->page_bytes < SPACE_BLOCK || disk->page_bytes > 65536 ||
	    disk->page_bytes & (disk->page_bytes - 1))
		return;
	slot->state = SLOT_VALID;
}

static void note_decode(const struct disk_note *disk, struct note *note)
{
	if (disk->magic == FORMAT_NOTE_MAGIC && disk->failures <= STORE_FAILURES_MAX &&
	    checksum_is(XXH3_128bits(disk, offsetof(struct disk_note, checksum)), disk->checksum))
		*note = (struct note){disk->generation, disk->failures};
}

int header_read(int fd, const char *path, struct slot slots[2], struct thaw_error *error)
{
	for (unsigned i = 0; i < 2; i++) {
		uint64_t at = (uint64_t)i * SPACE_BLOCK;
		struct disk_header disk;
		int code = sys_pread(fd, &disk, sizeof(disk), at);

		if (code == -ENODATA) { /* no note, then */
			memset(&disk, 0, sizeof(disk));
			code = sys_pread(fd, &disk.slot, sizeof(disk.slot), at);
		}
		if (code == -ENODATA)
			memset(&disk, 0, sizeof(disk));
		else if (code)
			return error_set(error, code, "%s: cannot read header slot %u: %s", path, i,
					 thaw_strerror(code));
		slot_decode(&disk.slot, i, &slots[i]);
		note_decode(&disk.note, &slots[i].note);
	}
	return 0;
}

static int format_error(const char *path, const struct slot *slot, struct thaw_error *error)
{
	return error_set(error, THAW_EFORMAT,
			 "%s: an image of format %#x, and this build reads format %#x: use the "
			 "release that wrote it",
			 path, slot->format, FORMAT_VERSION);
}

int header_newest(const char *path, const struct slot slots[2], struct thaw_error *error)
{
	/*
	 * Magic, format and checksum lie where they lie in every format: this one is newer, not
	 * damaged.
	 */
	for (unsigned i = 0; i < 2; i++)
		if (slots[i].state == SLOT_OTHER && slots[i].whole)
			return format_error(path, &slots[i], error);
	for (unsigned i = 0; i < 2; i++) {
		const struct slot *other = &slots[!i];

		if (slots[i].state == SLOT_VALID &&
		    (other->state != SLOT_VALID || slots[i].sequence > other->sequence ||
		     (slots[i].sequence == other->sequence && !i)))
			return (int)i;
	}
	for (unsigned i = 0; i < 2; i++)
		if (slots[i].state == SLOT_OTHER)
			return format_error(path, &slots[i], error);
	if (slots[0].state == SLOT_FOREIGN && slots[1].state == SLOT_FOREIGN)
		return error_set(
			error, THAW_EFOREIGN,
			"%s: not a Thaw image (no magic at offset 0 or %u): name another file",
			path, SPACE_BLOCK);
	return error_set(error, THAW_EDAMAGED,
			 "%s: both header slots (offsets 0 and %u) are damaged: restore the file "
			 "from a backup",
			 path, SPACE_BLOCK);
}

int header_write(int fd, unsigned number, const struct slot *slot)
{
	union {
		struct disk_slot disk;
		uint8_t block[SPACE_BLOCK];
	} out;
	XXH128_hash_t hash;

	memset(&out, 0, sizeof(out));
	memcpy(out.disk.magic, FORMAT_MAGIC, sizeof(out.disk.magic));
	out.disk.format = FORMAT_VERSION;
	out.disk.page_bytes = slot->page_bytes;
	memcpy(out.disk.uuid, slot->uuid, sizeof(out.disk.uuid));
	memcpy(out.disk.engine, slot->engine, sizeof(out.disk.engine));
	out.disk.sequence = slot->sequence;
	out.disk.record_offset = slot->record_offset;
	out.disk.record_bytes = slot->record_bytes;
	out.disk.record_checksum[0] = slot->record_checksum.low64;
	out.disk.record_checksum[1] = slot->record_checksum.high64;
	hash = XXH3_128bits(&out.disk, offsetof(struct disk_slot, checksum));
	out.disk.checksum[0] = hash.low64;
	out.disk.checksum[1] = hash.high64;
	return sys_pwrite(fd, &out, sizeof(out), (uint64_t)number * SPACE_BLOCK);
}

int note_write(int fd, unsigned number, const struct note *note)
{
	struct disk_note disk = {.magic = FORMAT_NOTE_MAGIC,
				 .generation = note->generation,
				 .failures = note->failures};
	XXH128_hash_t hash = XXH3_128bits(&disk, offsetof(struct disk_note, checksum));
	int code;

	disk.checksum[0] = hash.low64;
	disk.checksum[1] = hash.high64;
	code = sys_pwrite(fd, &disk, sizeof(disk),
			  (uint64_t)number * SPACE_BLOCK + offsetof(struct disk_header, note));
	return code ? code : sys_fdatasync(fd);
}

size_t record_encoded_bytes(unsigned generations)
{
	return sizeof(struct disk_record) + generations * sizeof(struct disk_generation);
}

void record_encode(const struct generation *generations, unsigned count, uint64_t sequence,
		   void *bytes)
{
	struct disk_record *disk = bytes;

	memset(disk, 0, record_encoded_bytes(count));
	disk->magic = FORMAT_RECORD_MAGIC;
	disk->sequence = sequence;
	disk->generations = count;
	disk->generation_bytes = sizeof(struct disk_generation);
	for (unsigned i = 0; i < count; i++) {
		const struct generation *from = &generations[i];

		disk->generation[i] = (struct disk_generation){
			.number = from->info.number,
			.parent = from->info.parent,
			.portable = from->info.portable,
			.time_ns = from->info.time_ns,
			.heap_bytes = from->info.heap_bytes,
			.pages_written = from->info.pages_written,
			.pages_stored = from->info.pages_stored,
			.bytes_written = from->info.bytes_written,
			.pause_ns = from->info.pause_ns,
			.durable_ns = from->info.durable_ns,
			.reason = from->info.reason,
			.restores = from->info.restores,
			.root_offset = from->root.at.offset,
			.root_checksum = {from->root.at.checksum.low64,
					  from->root.at.checksum.high64},
			.root_levels = from->root.levels,
			.kind = from->info.kind,
			.state_offset = from->state_offset,
			.state_bytes = from->info.state_bytes,
			.state_checksum = {from->state_checksum.low64, from->state_checksum.high64},
		};
	}
}

/* What it names is itself, or as old as its parent. */
static bool portable_possible(const struct disk_generation *disk)
{
	return disk->kind == THAW_KIND_PORTABLE ? disk->portable == disk->number
						: disk->portable <= disk->parent;
}

static bool generation_decode(const struct disk_generation *disk, struct generation *into)
{
	*into = (struct generation){
		.info =
			{
				.number = disk->number,
				.parent = disk->parent,
				.portable = disk->portable,
				.time_ns = disk->time_ns,
				.heap_bytes = disk->heap_bytes,
				.state_bytes = disk->state_bytes,
				.pages_written = disk->pages_written,
				.pages_stored = disk->pages_stored,
				.bytes_written = disk->bytes_written,
				.pause_ns = disk->pause_ns,
				.durable_ns = disk->durable_ns,
				.reason = disk->reason,
				.restores = disk->restores,
				.kind = disk->kind,
			},
		.root =
			{
				.at = {disk->root_offset,
				       {disk->root_checksum[0], disk->root_checksum[1]}},
				.levels = disk->root_levels,
			},
		.state_offset = disk->state_offset,
		.state_checksum = {disk->state_checksum[0], disk->state_checksum[1]},
	};
	return disk->number && disk->parent < disk->number && disk->kind <= THAW_KIND_BOUND &&
	       portable_possible(disk) && disk->root_levels <= INDEX_LEVELS_MAX &&
	       !disk->root_levels == !disk->root_offset &&
	       !disk->state_bytes == !disk->state_offset && disk->state_bytes <= STORE_STATE_MAX;
}

static const char *record_decode(const struct disk_record *disk, const struct slot *slot,
				 struct record *record)
{
	uint64_t last = 0;

	if (disk->magic != FORMAT_RECORD_MAGIC || disk->sequence != slot->sequence)
		return "it is another record";
	if (disk->generation_bytes != sizeof(struct disk_generation) || !disk->generations ||
	    disk->generations > STORE_GENERATIONS_MAX ||
	    record_encoded_bytes(disk->generations) != slot->record_bytes)
		return "its length is impossible";
	record->generations = calloc(disk->generations, sizeof(*record->generations));
	if (!record->generations)
		return "out of memory";
	for (unsigned i = 0; i < disk->generations; i++) {
		if (!generation_decode(&disk->generation[i], &record->generations[i]) ||
		    disk->generation[i].number <= last ||
		    disk->generation[i].number > slot->sequence)
			return "a generation in it is impossible";
		last = disk->generation[i].number;
	}
	record->count = disk->generations;
	for (unsigned i = 0; i < record->count; i++) {
		const struct generation *named =
			record_find(record, record->generations[i].info.portable);

		if (named && named->info.kind != THAW_KIND_PORTABLE)
			return "a generation in it names a bound one as portable";
	}
	return NULL;
}

int record_read(int fd, const char *path, const struct slot *slot, struct record *record,
		struct thaw_error *error)
{
	struct disk_record *disk = NULL;
	const char *why;
	int code;

	memset(record, 0, sizeof(*record));
	record->offset = slot->record_offset;
	record->bytes = slot->record_bytes;
	if (!slot->record_bytes)
		return 0;
	why = "its place is impossible";
	if (slot->record_offset % 8 || slot->record_offset < STORE_HEADER_BYTES ||
	    slot->record_bytes < record_encoded_bytes(1) ||
	    slot->record_bytes > record_encoded_bytes(STORE_GENERATIONS_MAX))
		goto damaged;
	disk = malloc(slot->record_bytes);
	if (!disk)
		return error_set(error, -ENOMEM, "%s: no memory for the commit record", path);
	code = sys_pread(fd, disk, slot->record_bytes, slot->record_offset);
	if (code && code != -ENODATA && code != -EINVAL) {
		free(disk);
		return error_set(error, code,
				 "%s: cannot read the commit record at offset %" PRIu64 ": %s",
				 path, slot->record_offset, thaw_strerror(code));
	}
	why = "the file ends before it";
	if (code)
		goto damaged;
	why = "its checksum is wrong";
	if (!XXH128_isEqual(XXH3_128bits(disk, slot->record_bytes), slot->record_checksum))
		goto damaged;
	why = record_decode(disk, slot, record);
	if (why)
		goto damaged;
	free(disk);
	return 0;
damaged:
	free(disk);
	record_free(record);
	return error_set(error, THAW_EDAMAGED,
			 "%s: the commit record %" PRIu64 " at offset %" PRIu64 " is damaged (%s)",
			 path, slot->sequence, slot->record_offset, why);
}

void record_free(struct record *record)
{
	free(record->generations);
	memset(record, 0, sizeof(*record));
}

const struct generation *record_find(const struct record *record, uint64_t number)
{
	unsigned low = 0, high = record->count;

	while (low < high) {
		unsigned middle = (low + high) / 2;

		if (record->generations[middle].info.number < number)
			low = middle + 1;
		else
			high = middle;
	}
	return low < record->count && record->generations[low].info.number == number
		       ? &record->generations[low]
		       : NULL;
}

bool record_is_line(const struct generation *generations, unsigned count)
{
	for (unsigned i = 1; i < count; i++) {
		uint64_t before = generations[i - 1].info.number;

		if (generations[i].info.parent != before && generations[i].info.portable != before)
			return false;
	}
	return true;
}

struct retention record_retention(const struct generation *generations, unsigned count,
				  unsigned retain)
{
	unsigned from = count > retain ? count - retain : 0, lone = 0;

	while (lone < from && generations[lone].info.number != generations[count - 1].info.portable)
		lone++;
	return (struct retention){from, lone};
}

unsigned retention_apply(const struct retention *retention, const struct generation *generations,
			 unsigned count, struct generation *kept)
{
	unsigned stay = 0;

	for (unsigned i = 0; i < count; i++)
		if (retention_keeps(retention, i))
			kept[stay++] = generations[i];
	return stay;
}

/* One attempt of store_read. */
static int store_read_once(int fd, const char *path, struct slot slots[2], unsigned *chosen,
			   struct record *record, struct thaw_error *fallback,
			   struct thaw_error *error)
{
	int newest, code = header_read(fd, path, slots, error);

	memset(fallback, 0, sizeof(*fallback));
	if (code)
		return code;
	newest = header_newest(path, slots, error);
	if (newest < 0)
		return newest;
	*chosen = (unsigned)newest;
	code = record_read(fd, path, &slots[newest], record, error);
	if (code == THAW_EDAMAGED && slots[!newest].state == SLOT_VALID &&
	    slots[!newest].record_bytes) {
		*fallback = *error;
		*chosen = !newest;
		code = record_read(fd, path, &slots[!newest], record, error);
	} else if (!code && slots[!newest].state != SLOT_VALID) {
		error_set(fallback, THAW_EDAMAGED,
			  "%s: header slot %u at offset %u is damaged; the other one, of "
			  "generation %" PRIu64 ", is used",
			  path, !newest, !newest * SPACE_BLOCK, slots[newest].sequence);
	}
	return code;
}

int store_read(int fd, const char *path, struct slot slots[2], unsigned *chosen,
	       struct record *record, struct thaw_error *fallback, struct thaw_error *error)
{
	uint64_t before = 0;

	/*
	 * A slot read in the middle of its writing looks damaged, and a record may have been
	 * recycled between the two reads. Both pass: try again a few times, and for as long as the
	 * image moves on.
	 */
	for (unsigned attempt = 0, still = 0;; attempt++) {
		const struct timespec pause = {.tv_nsec = 2000000};
		uint64_t now;
		int code = store_read_once(fd, path, slots, chosen, record, fallback, error);

		if (!code && !fallback->code)
			return 0;
		now = slots[0].sequence > slots[1].sequence ? slots[0].sequence : slots[1].sequence;
		still = now == before ? still + 1 : 0;
		before = now;
		if (still >= 2 || attempt >= 100)
			return code;
		record_free(record);
		nanosleep(&pause, NULL);
	}
}

bool store_retains(int fd, const char *path, uint64_t number)
{
	struct thaw_error ignored, fallback;
	struct record record = {0};
	struct slot slots[2];
	unsigned chosen;
	/* In doubt, it is: then damage is reported rather than hidden. */
	bool retained = store_read(fd, path, slots, &chosen, &record, &fallback, &ignored) ||
			record_find(&record, number);

	record_free(&record);
	return retained;
}
