/* SPDX-License-Identifier: MIT */
/*
 * record.c - reading and writing the commit record of an image: its generations, their names, the
 * working set. See format.h for the format.
 *
 * Every value that is read is checked before it is used: an image may be damaged or made to do
 * harm. Any thread; no state.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cipher.h"
#include "format.h"
#include "store.h"
#include "sys.h"

#define CHECKSUM_BYTES sizeof(((struct disk_slot *)NULL)->checksum)
_Static_assert(sizeof(struct disk_sealed) + sizeof(struct disk_record) == RECORD_START_BYTES,
	       "record");

static size_t encoded_bytes(uint64_t generations, uint64_t names)
{
	return sizeof(struct disk_record) + generations * sizeof(struct disk_generation) +
	       names * sizeof(struct disk_name) + CHECKSUM_BYTES;
}

/* What is in front of it. */
static size_t sealed_bytes(const struct checksum_key *key)
{
	return cipher_is_on(key) ? sizeof(struct disk_sealed) : 0;
}

size_t record_encoded_bytes(const struct record *record, const struct slot *slot)
{
	return sealed_bytes(slot->key) + encoded_bytes(record->count, record->name_count);
}

void generation_encode(const struct generation *from, struct disk_generation *disk)
{
	*disk = (struct disk_generation){
		.number = from->info.number,
		.parent = from->info.parent,
		.ancestor = from->info.ancestor,
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
		.root_checksum = {from->root.at.checksum.low64, from->root.at.checksum.high64},
		.root_levels = from->root.levels,
		.kind = from->info.kind,
		.state_offset = from->state_offset,
		.state_bytes = from->info.state_bytes,
		.state_checksum = {from->state_checksum.low64, from->state_checksum.high64},
	};
}

/* The checksum of the whole: what the slot has. */
static XXH128_hash_t encode(const struct record *record, const struct slot *slot,
			    struct disk_record *disk)
{
	size_t checked = encoded_bytes(record->count, record->name_count) - CHECKSUM_BYTES;
	struct disk_name *names = (struct disk_name *)(disk->generation + record->count);
	XXH128_hash_t hash;

	memset(disk, 0, checked);
	disk->magic = FORMAT_RECORD_MAGIC;
	disk->sequence = slot->sequence;
	disk->generations = record->count;
	disk->generation_bytes = sizeof(struct disk_generation);
	disk->names = record->name_count;
	disk->name_bytes = sizeof(struct disk_name);
	disk->page_bytes = slot->page_bytes;
	memcpy(disk->uuid, slot->uuid, sizeof(disk->uuid));
	memcpy(disk->engine, slot->engine, sizeof(disk->engine));
	memcpy(disk->key_salt, slot->mark.salt, sizeof(disk->key_salt));
	memcpy(disk->key_check, slot->mark.check, sizeof(disk->key_check));
	disk->working_set_generation = record->working_set.generation;
	disk->working_set_offset = record->working_set.offset;
	disk->working_set_bytes = record->working_set.bytes;
	disk->working_set_checksum[0] = record->working_set.checksum.low64;
	disk->working_set_checksum[1] = record->working_set.checksum.high64;
	disk->log_offset = record->log.offset;
	disk->log_bytes = record->log.bytes;
	for (unsigned i = 0; i < record->count; i++)
		generation_encode(&record->generations[i], &disk->generation[i]);
	for (unsigned i = 0; i < record->name_count; i++) {
		names[i].generation = record->names[i].generation;
		memcpy(names[i].name, record->names[i].name, sizeof(names[i].name));
	}
	hash = checksum_of(slot->key, CHECKSUM_RECORD_END, disk, checked);
	memcpy((char *)disk + checked, (uint64_t[]){hash.low64, hash.high64}, CHECKSUM_BYTES);
	return checksum_of(slot->key, CHECKSUM_RECORD, disk, checked + CHECKSUM_BYTES);
}

void record_encode(const struct record *record, struct slot *slot, void *bytes)
{
	size_t front = sealed_bytes(slot->key);
	struct disk_record *disk = (void *)((char *)bytes + front);
	struct disk_sealed *sealed = bytes;

	slot->record_bytes = record_encoded_bytes(record, slot);
	slot->record_checksum = encode(record, slot, disk);
	if (!front)
		return;
	*sealed = (struct disk_sealed){
		.magic = FORMAT_SEALED_RECORD_MAGIC,
		.bytes = slot->record_bytes - front,
		.checksum = {slot->record_checksum.low64, slot->record_checksum.high64},
	};
	cipher(slot->key, CHECKSUM_RECORD, slot->record_checksum, 0, disk, disk, sealed->bytes, 0);
}

/* `portable` is itself, or no newer than its parent. */
static bool portable_possible(const struct disk_generation *disk)
{
	return disk->kind == THAW_KIND_PORTABLE ? disk->portable == disk->number
						: disk->portable <= disk->parent;
}

bool generation_decode(const struct disk_generation *disk, struct generation *into)
{
	*into = (struct generation){
		.info =
			{
				.number = disk->number,
				.parent = disk->parent,
				.ancestor = disk->ancestor,
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
	return disk->number && disk->parent < disk->number && disk->ancestor <= disk->parent &&
	       disk->kind <= THAW_KIND_BOUND && portable_possible(disk) &&
	       disk->root_levels <= INDEX_LEVELS_MAX && !disk->root_levels == !disk->root_offset &&
	       !disk->state_bytes == !disk->state_offset && disk->state_bytes <= STORE_STATE_MAX;
}

static const char *generations_decode(const struct disk_record *disk, struct record *record)
{
	uint64_t last = 0;

	for (unsigned i = 0; i < disk->generations; i++) {
		if (!generation_decode(&disk->generation[i], &record->generations[i]) ||
		    disk->generation[i].number <= last ||
		    disk->generation[i].number > disk->sequence)
			return "a generation in it is impossible";
		last = disk->generation[i].number;
	}
	record->count = disk->generations;
	for (unsigned i = 0; i < record->count; i++) {
		const struct thaw_generation *info = &record->generations[i].info;
		const struct generation *named = record_find(record, info->portable);

		if (named && named->info.kind != THAW_KIND_PORTABLE)
			return "a generation in it names a bound one as portable";
		if (info->ancestor && !record_find(record, info->ancestor))
			return "a generation in it descends from one that is not";
	}
	return NULL;
}

static const char *names_decode(const struct disk_name *disk, unsigned count, struct record *record)
{
	for (unsigned i = 0; i < count; i++) {
		struct thaw_name *name = &record->names[i];

		if (disk[i].name[sizeof(disk[i].name) - 1] || !name_is_sound(disk[i].name) ||
		    record_named(record, disk[i].name) || !record_find(record, disk[i].generation))
			return "a name in it is impossible";
		name->generation = disk[i].generation;
		/* Bytes behind the end of the name mean nothing. */
		strncpy(name->name, disk[i].name, sizeof(name->name) - 1);
		record->name_count = i + 1;
	}
	return NULL;
}

static bool working_set_possible(const struct working_set *set)
{
	return !set->offset == !set->bytes && set->bytes % sizeof(uint64_t) == 0 &&
	       set->bytes <= STORE_WORKING_SET_MAX * sizeof(uint64_t);
}

static bool log_possible(const struct log_area *log)
{
	return !log->offset == !log->bytes && log->offset % SPACE_BLOCK == 0 &&
	       (!log->bytes || log->offset >= STORE_HEADER_BYTES) &&
	       log->bytes % SPACE_BLOCK == 0 && log->bytes <= LOG_BYTES_MOST &&
	       log->offset <= INT64_MAX - log->bytes;
}

/* The checksum of all `bytes` is right, but a hostile image has that too. */
static const char *record_decode(const struct disk_record *disk, size_t bytes,
				 struct record *record)
{
	const char *why;

	if (disk->magic != FORMAT_RECORD_MAGIC)
		return "it is another record";
	if (disk->generation_bytes != sizeof(struct disk_generation) || !disk->generations ||
	    disk->generations > STORE_GENERATIONS_MAX ||
	    disk->name_bytes != sizeof(struct disk_name) || disk->names > STORE_NAMES_MAX ||
	    encoded_bytes(disk->generations, disk->names) != bytes)
		return "its length is impossible";
	record->generations = calloc(disk->generations, sizeof(*record->generations));
	record->names = calloc(disk->names + 1, sizeof(*record->names));
	if (!record->generations || !record->names)
		return "out of memory";
	why = generations_decode(disk, record);
	if (!why)
		why = names_decode((const struct disk_name *)(disk->generation + disk->generations),
				   disk->names, record);
	record->working_set = (struct working_set){
		.generation = disk->working_set_generation,
		.offset = disk->working_set_offset,
		.bytes = disk->working_set_bytes,
		.checksum = {disk->working_set_checksum[0], disk->working_set_checksum[1]},
	};
	if (!why && !working_set_possible(&record->working_set))
		why = "its working set is impossible";
	record->log = (struct log_area){disk->log_offset, disk->log_bytes};
	if (!why && !log_possible(&record->log))
		why = "its log is impossible";
	return why;
}

static bool record_is_of(const struct disk_record *disk, const struct slot *slot)
{
	return disk->sequence == slot->sequence && disk->page_bytes == slot->page_bytes &&
	       !memcmp(disk->uuid, slot->uuid, sizeof(disk->uuid)) &&
	       !memcmp(disk->engine, slot->engine, sizeof(disk->engine)) &&
	       !memcmp(disk->key_salt, slot->mark.salt, sizeof(disk->key_salt)) &&
	       !memcmp(disk->key_check, slot->mark.check, sizeof(disk->key_check));
}

/* What is in front of the record says the same as the slot. */
static bool sealed_is(const struct disk_sealed *sealed, const struct slot *slot)
{
	return sealed->magic == FORMAT_SEALED_RECORD_MAGIC &&
	       sealed->bytes == slot->record_bytes - sizeof(*sealed) &&
	       checksum_same((XXH128_hash_t){sealed->checksum[0], sealed->checksum[1]},
			     slot->record_checksum);
}

int record_read(int fd, const char *path, const struct slot *slot, struct record *record,
		struct thaw_error *error)
{
	size_t front = sealed_bytes(slot->key), bytes = slot->record_bytes - front;
	struct disk_record *disk;
	void *read = NULL;
	const char *why;
	int code;

	memset(record, 0, sizeof(*record));
	record->offset = slot->record_offset;
	record->bytes = slot->record_bytes;
	if (!slot->record_bytes)
		return 0;
	why = "its place is impossible";
	if (slot->record_offset % 8 || slot->record_offset < STORE_HEADER_BYTES ||
	    slot->record_bytes < front + encoded_bytes(1, 0) ||
	    slot->record_bytes > front + encoded_bytes(STORE_GENERATIONS_MAX, STORE_NAMES_MAX))
		goto damaged;
	read = malloc(slot->record_bytes);
	if (!read)
		return error_set(error, -ENOMEM, "%s: no memory for the commit record", path);
	code = sys_pread(fd, read, slot->record_bytes, slot->record_offset);
	if (code && code != -ENODATA && code != -EINVAL) {
		free(read);
		return error_set(error, code,
				 "%s: cannot read the commit record at offset %" PRIu64 ": %s",
				 path, slot->record_offset, thaw_strerror(code));
	}
	why = "the file ends before it";
	if (code)
		goto damaged;
	why = "its checksum is wrong";
	if (front && !sealed_is(read, slot))
		goto damaged;
	disk = (void *)((char *)read + front);
	cipher(slot->key, CHECKSUM_RECORD, slot->record_checksum, 0, disk, disk, bytes, 0);
	if (!checksum_is(slot->key, CHECKSUM_RECORD, disk, bytes, slot->record_checksum))
		goto damaged;
	why = record_is_of(disk, slot) ? record_decode(disk, bytes, record)
				       : "it is another record";
	if (why)
		goto damaged;
	free(read);
	return 0;
damaged:
	free(read);
	record_free(record);
	return error_set(error, THAW_EDAMAGED,
			 "%s: the commit record %" PRIu64 " at offset %" PRIu64 " is damaged (%s)",
			 path, slot->sequence, slot->record_offset, why);
}

bool record_may_begin(const void *bytes)
{
	const uint64_t *magic = bytes;

	return *magic == FORMAT_RECORD_MAGIC || *magic == FORMAT_SEALED_RECORD_MAGIC;
}

/* The record in what was read of it, which is deciphered in its place. NULL: its key is not at hand. */
static struct disk_record *unseal(const struct checksum_key *key, void *bytes, size_t count)
{
	struct disk_sealed *sealed = bytes;

	if (sealed->magic != FORMAT_SEALED_RECORD_MAGIC)
		return bytes;
	if (!cipher_is_on(key) || count <= sizeof(*sealed))
		return NULL;
	cipher(key, CHECKSUM_RECORD, (XXH128_hash_t){sealed->checksum[0], sealed->checksum[1]}, 0,
	       sealed + 1, sealed + 1, count - sizeof(*sealed), 0);
	return (void *)(sealed + 1);
}

static size_t claims(const struct disk_record *disk)
{
	if (disk->magic != FORMAT_RECORD_MAGIC ||
	    disk->generation_bytes != sizeof(struct disk_generation) || !disk->generations ||
	    disk->generations > STORE_GENERATIONS_MAX ||
	    disk->name_bytes != sizeof(struct disk_name) || disk->names > STORE_NAMES_MAX ||
	    disk->zero || !disk->sequence || disk->sequence > STORE_NUMBER_MAX ||
	    !page_bytes_possible(disk->page_bytes) || disk->engine[sizeof(disk->engine) - 1])
		return 0;
	return encoded_bytes(disk->generations, disk->names);
}

size_t record_claims(const struct checksum_key *key, void *start, uint64_t *sequence)
{
	const struct disk_record *disk = unseal(key, start, RECORD_START_BYTES);
	size_t bytes = disk ? claims(disk) : 0;

	if (!bytes)
		return 0;
	*sequence = disk->sequence;
	return (size_t)((const char *)disk - (char *)start) + bytes;
}

int record_parse(const struct checksum_key *key, void *bytes, size_t count, const char *path,
		 struct slot *slot, struct record *record, struct thaw_error *error)
{
	const struct disk_record *disk = unseal(key, bytes, count);
	size_t checked;
	uint64_t stored[2];
	int code;

	memset(record, 0, sizeof(*record));
	if (!disk ||
	    (cipher_is_on(key) && (const void *)disk == bytes)) /* no other is this image's */
		return THAW_EDAMAGED;
	if (claims(disk) != count - (size_t)((const char *)disk - (char *)bytes))
		return THAW_EDAMAGED;
	checked = claims(disk) - CHECKSUM_BYTES;
	*slot = (struct slot){.state = SLOT_VALID,
			      .whole = true,
			      .format = FORMAT_VERSION,
			      .page_bytes = disk->page_bytes,
			      .sequence = disk->sequence};
	memcpy(slot->uuid, disk->uuid, sizeof(slot->uuid));
	memcpy(slot->engine, disk->engine, sizeof(slot->engine));
	memcpy(slot->mark.salt, disk->key_salt, sizeof(slot->mark.salt));
	memcpy(slot->mark.check, disk->key_check, sizeof(slot->mark.check));
	slot->enciphered = (const void *)disk != bytes;
	if (slot->enciphered) {
		slot->key = key;
	} else {
		code = slot_find_key(path, slot, error);
		if (code)
			return code;
	}
	memcpy(stored, (const char *)disk + checked, CHECKSUM_BYTES);
	if (!checksum_is(slot->key, CHECKSUM_RECORD_END, disk, checked,
			 (XXH128_hash_t){stored[0], stored[1]}))
		return THAW_EDAMAGED;
	if (record_decode(disk, checked + CHECKSUM_BYTES, record)) {
		record_free(record);
		return THAW_EDAMAGED;
	}
	return 0;
}

void record_free(struct record *record)
{
	free(record->generations);
	free(record->names);
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

const struct thaw_name *record_named(const struct record *record, const char *name)
{
	for (unsigned i = 0; i < record->name_count; i++)
		if (!strcmp(record->names[i].name, name))
			return &record->names[i];
	return NULL;
}

/* A number is accepted wherever a name is, so a name must contain something else. */
bool name_is_sound(const char *name)
{
	size_t bytes = strnlen(name, sizeof(((struct thaw_name *)NULL)->name));

	return bytes && bytes < sizeof(((struct thaw_name *)NULL)->name) && *name != '-' &&
	       strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
			    "._/:@+-") == bytes &&
	       strspn(name, "0123456789") != bytes;
}
