// SPDX-License-Identifier: MIT
/*
 * manifest.c - the manifest at the end of a record, and leases, as they are stored, and back (format.h). Of what is read every
 * number is checked: a store may be hostile.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/failure.h"
#include "base/format.h"
#include "store/record.h"

void store_checksum(const void *bytes, size_t count, uint64_t checksum[2])
{
	XXH128_hash_t hash = XXH3_128bits(bytes, count);

	checksum[0] = hash.low64;
	checksum[1] = hash.high64;
}

bool record_newer(const struct store_record *record, uint64_t sequence, uint64_t generation)
{
	if (record->sequence != sequence)
		return record->sequence > sequence;
	return record->generation > generation;
}

static void reference_encode(const struct store_reference *from, struct disk_reference *to)
{
	if (!from->object.record)
		return;
	to->record = from->object.record;
	memcpy(to->epoch, from->object.epoch, sizeof(to->epoch));
	to->part = from->object.part;
	to->bytes = from->object.bytes;
	memcpy(to->checksum, from->checksum, sizeof(to->checksum));
}

void manifest_encode(struct store_record *record, struct disk_manifest *disk)
{
	*disk = (struct disk_manifest){
		.magic = STORE_MAGIC,
		.version = STORE_VERSION,
		.kind = record->kind,
		.number = record->number,
		.epoch_number = record->epoch_number,
		.time_ns = record->time_ns,
		.generation = record->generation,
		.sequence = record->sequence,
		.generation_time_ns = record->generation_time_ns,
		.file_bytes = record->file_bytes,
		.page_bytes = record->page_bytes,
		.flags = record->flags,
		.bytes = record->bytes,
		.level_offset = record->level_offset,
		.level_bytes = record->level_bytes,
		.pid = record->pid,
	};
	memcpy(disk->epoch, record->epoch, sizeof(disk->epoch));
	memcpy(disk->nonce, record->nonce, sizeof(disk->nonce));
	memcpy(disk->before, record->before, sizeof(disk->before));
	memcpy(disk->uuid, record->uuid, sizeof(disk->uuid));
	memcpy(disk->engine, record->engine, sizeof(disk->engine) - 1);
	memcpy(disk->level_checksum, record->level_checksum, sizeof(disk->level_checksum));
	memcpy(disk->host, record->host, sizeof(disk->host) - 1);
	memcpy(disk->program, record->program, sizeof(disk->program) - 1);
	reference_encode(&record->level1, &disk->level1);
	reference_encode(&record->level2, &disk->level2);
	reference_encode(&record->hot, &disk->hot);
	store_checksum(disk, offsetof(struct disk_manifest, checksum), disk->checksum);
	memcpy(record->checksum, disk->checksum, sizeof(record->checksum));
}

/* To an object for this record or an earlier one. */
static bool reference_decode(const struct disk_reference *from, uint64_t number,
			     enum store_object_kind kind, struct store_reference *to)
{
	to->object.record = from->record;
	to->object.kind = kind;
	to->object.part = from->part;
	to->object.bytes = from->bytes;
	memcpy(to->object.epoch, from->epoch, sizeof(from->epoch));
	memcpy(to->checksum, from->checksum, sizeof(to->checksum));
	return !from->record ||
	       (from->record <= number && from->bytes &&
		from->bytes <= (kind == STORE_IN_HOT ? 2 * STORE_HOT_BYTES : 1u << 30));
}

static const char *what_is_wrong(const struct disk_manifest *disk)
{
	if (!disk->number || disk->number >= UINT64_MAX - 1 || !disk->epoch_number)
		return "its number";
	if (disk->kind != STORE_GENERATION && disk->kind != STORE_SEAL)
		return "its kind";
	if (disk->file_bytes > STORE_FILE_BLOCKS_MOST * STORE_BLOCK)
		return "the length of the image";
	if (disk->bytes < sizeof(*disk) || disk->bytes > UINT32_MAX ||
	    disk->level_offset > disk->bytes - sizeof(*disk) ||
	    disk->level_bytes > disk->bytes - sizeof(*disk) - disk->level_offset ||
	    disk->bytes - sizeof(*disk) - disk->level_offset - disk->level_bytes > 1 ||
	    (disk->bytes & 1) != (disk->kind == STORE_SEAL))
		return "its length";
	if (disk->engine[sizeof(disk->engine) - 1] || disk->host[sizeof(disk->host) - 1] ||
	    disk->program[sizeof(disk->program) - 1])
		return "a text in it";
	return NULL;
}

int manifest_decode(const struct disk_manifest *disk, struct store_record *record,
		    struct thaw_error *error)
{
	const char *wrong;
	uint64_t checksum[2];

	*record = (struct store_record){0};
	if (disk->magic != STORE_MAGIC)
		return failure(error, THAW_EFOREIGN, "this is no record of an image's store");
	store_checksum(disk, offsetof(struct disk_manifest, checksum), checksum);
	if (memcmp(checksum, disk->checksum, sizeof(checksum)))
		return failure(error, THAW_EDAMAGED,
			       "a record of the store is damaged: its checksum");
	if (disk->version != STORE_VERSION)
		return failure(error, THAW_EFORMAT,
			       "the store has format %" PRIx32 ", this version knows %" PRIx32,
			       disk->version, STORE_VERSION);
	wrong = what_is_wrong(disk);
	if (!wrong &&
	    (!reference_decode(&disk->level1, disk->number, STORE_IN_INDEX, &record->level1) ||
	     !reference_decode(&disk->level2, disk->number, STORE_IN_INDEX, &record->level2) ||
	     !reference_decode(&disk->hot, disk->number, STORE_IN_HOT, &record->hot)))
		wrong = "what it refers to";
	if (wrong)
		return failure(error, THAW_EDAMAGED, "a record of the store is damaged: %s", wrong);
	record->number = disk->number;
	record->kind = disk->kind;
	record->epoch_number = disk->epoch_number;
	record->time_ns = disk->time_ns;
	record->generation = disk->generation;
	record->sequence = disk->sequence;
	record->generation_time_ns = disk->generation_time_ns;
	record->file_bytes = disk->file_bytes;
	record->page_bytes = disk->page_bytes;
	record->flags = disk->flags;
	record->bytes = disk->bytes;
	record->level_offset = disk->level_offset;
	record->level_bytes = disk->level_bytes;
	record->pid = disk->pid;
	memcpy(record->epoch, disk->epoch, sizeof(record->epoch));
	memcpy(record->nonce, disk->nonce, sizeof(record->nonce));
	memcpy(record->before, disk->before, sizeof(record->before));
	memcpy(record->checksum, disk->checksum, sizeof(record->checksum));
	memcpy(record->uuid, disk->uuid, sizeof(record->uuid));
	memcpy(record->engine, disk->engine, sizeof(record->engine));
	memcpy(record->level_checksum, disk->level_checksum, sizeof(record->level_checksum));
	thaw_escape(disk->host, record->host, sizeof(record->host));
	thaw_escape(disk->program, record->program, sizeof(record->program));
	return 0;
}

const char *record_writer(const struct store_record *record, char *text, size_t room)
{
	snprintf(text, room, "%s on %s (process %" PRIu64 ") since %s, epoch %" PRIu64,
		 *record->program ? record->program : "a program",
		 *record->host ? record->host : "another host", record->pid,
		 format_time(record->time_ns).s, record->epoch_number);
	return text;
}

void lease_encode(struct disk_lease *lease, uint64_t record)
{
	*lease = (struct disk_lease){
		.magic = STORE_LEASE_MAGIC,
		.version = STORE_VERSION,
		.record = record,
		.pid = (uint64_t)getpid(),
	};
	gethostname(lease->host, sizeof(lease->host) - 1);
	store_checksum(lease, offsetof(struct disk_lease, checksum), lease->checksum);
}

bool lease_decode(const void *bytes, size_t count, uint64_t *record)
{
	struct disk_lease lease;
	uint64_t checksum[2];

	if (count != sizeof(lease))
		return false;
	memcpy(&lease, bytes, sizeof(lease));
	store_checksum(&lease, offsetof(struct disk_lease, checksum), checksum);
	*record = lease.record;
	return lease.magic == STORE_LEASE_MAGIC &&
	       !memcmp(checksum, lease.checksum, sizeof(checksum));
}
