/* SPDX-License-Identifier: MIT */
/*
 * header.c - reading and writing the header slots and notes of an image, and finding the valid
 * record. See format.h for the format.
 *
 * Every value is checked before it is used: an image may be damaged or hostile. Any thread; no
 * state.
 */
#include "store.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "format.h"
#include "sys.h"

static bool sum_is(XXH128_hash_t hash, const uint64_t stored[2])
{
	return hash.low64 == stored[0] && hash.high64 == stored[1];
}

static void slot_decode(const struct disk_slot *disk, unsigned number, struct slot *slot)
{
	bool whole =
		sum_is(checksum_plain(disk, offsetof(struct disk_slot, checksum)), disk->checksum);

	memset(slot, 0, sizeof(*slot));
	if (memcmp(disk->magic, FORMAT_MAGIC, sizeof(disk->magic)))
		return;
	slot->whole = whole;
	slot->format = disk->format;
	slot->page_bytes = disk->page_bytes;
	memcpy(slot->uuid, disk->uuid, sizeof(slot->uuid));
	memcpy(slot->engine, disk->engine, sizeof(slot->engine) - 1);
	memcpy(slot->mark.salt, disk->key_salt, sizeof(slot->mark.salt));
	memcpy(slot->mark.check, disk->key_check, sizeof(slot->mark.check));
	slot->enciphered = disk->enciphered;
	slot->sequence = disk->sequence;
	slot->record_offset = disk->record_offset;
	slot->record_bytes = disk->record_bytes;
	slot->record_checksum = (XXH128_hash_t){disk->record_checksum[0], disk->record_checksum[1]};

	if (disk->format < FORMAT_VERSION_LEAST || disk->format > FORMAT_VERSION) {
		slot->state = SLOT_OTHER;
		return;
	}
	slot->state = SLOT_DAMAGED;
	if (!whole || (disk->sequence && disk->sequence % 2 != number) ||
	    disk->sequence > STORE_NUMBER_MAX || !disk->sequence != !disk->record_bytes ||
	    !disk->record_bytes != !disk->record_offset || disk->enciphered > 1 ||
	    (disk->enciphered && !key_mark_set(&slot->mark)) ||
	    disk->engine[sizeof(disk->engine) - 1])
		return;
	if (!page_bytes_possible(disk->page_bytes))
		return;
	slot->state = SLOT_VALID;
}

static void note_decode(const struct disk_note *disk, struct note *note)
{
	if (disk->magic == FORMAT_NOTE_MAGIC && disk->failures <= STORE_FAILURES_MAX &&
	    sum_is(checksum_plain(disk, offsetof(struct disk_note, checksum)), disk->checksum))
		*note = (struct note){disk->generation, disk->failures, disk->what};
}

static void keys_decode(const struct disk_keys *disk, struct key_slots *keys)
{
	if (disk->magic != FORMAT_KEYS_MAGIC ||
	    !sum_is(checksum_plain(disk, offsetof(struct disk_keys, checksum)), disk->checksum))
		return;
	keys->known = true;
	keys->changes = disk->changes;
	memcpy(keys->mark.salt, disk->key_salt, sizeof(keys->mark.salt));
	memcpy(keys->mark.check, disk->key_check, sizeof(keys->mark.check));
	memcpy(keys->slot, disk->slots, sizeof(keys->slot));
}

void key_slots_encode(const struct key_slots *keys, struct disk_keys *disk)
{
	XXH128_hash_t hash;

	disk->magic = FORMAT_KEYS_MAGIC;
	disk->changes = keys->changes;
	memcpy(disk->key_salt, keys->mark.salt, sizeof(disk->key_salt));
	memcpy(disk->key_check, keys->mark.check, sizeof(disk->key_check));
	memcpy(disk->slots, keys->slot, sizeof(disk->slots));
	hash = checksum_plain(disk, offsetof(struct disk_keys, checksum));
	disk->checksum[0] = hash.low64;
	disk->checksum[1] = hash.high64;
}

static void header_decode(const struct disk_header *disk, unsigned number, struct slot *slot)
{
	slot_decode(&disk->slot, number, slot);
	note_decode(&disk->note, &slot->note);
	keys_decode(&disk->keys, &slot->keys);
	slot->keys_sum = checksum_plain(&disk->keys, sizeof(disk->keys));
}

void header_parse(const void *block, unsigned number, struct slot *slot)
{
	struct disk_header disk;

	memcpy(&disk, block, sizeof(disk));
	header_decode(&disk, number, slot);
}

static bool marks_same(const struct slot *a, const struct slot *b)
{
	return a->enciphered == b->enciphered && !memcmp(&a->mark, &b->mark, sizeof(a->mark));
}

static bool keys_fit(const struct key_slots *keys, const struct slot *slot)
{
	return keys->known && !memcmp(&keys->mark, &slot->mark, sizeof(keys->mark));
}

/*
 * Only with the same key as the newest one it is a slot of this image. A block that was torn when its key slots were
 * changed has those of the other one.
 */
static void headers_compare(struct slot slots[2])
{
	if (slots[0].state == SLOT_VALID && slots[1].state == SLOT_VALID &&
	    !marks_same(&slots[0], &slots[1]))
		slots[slots[1].sequence <= slots[0].sequence].state = SLOT_DAMAGED;
	for (unsigned i = 0; i < 2; i++) {
		if (slots[i].state != SLOT_VALID || !slots[i].enciphered ||
		    keys_fit(&slots[i].keys, &slots[i]))
			continue;
		if (keys_fit(&slots[!i].keys, &slots[i]))
			slots[i].keys = slots[!i].keys;
		else
			slots[i].keys.known = false;
	}
}

/* Of a file that is longer than its header, with one call. */
static bool headers_read(int fd, struct slot slots[2])
{
	uint8_t bytes[SPACE_BLOCK + sizeof(struct disk_header)];

	if (sys_pread(fd, bytes, sizeof(bytes), 0))
		return false;
	for (unsigned i = 0; i < 2; i++) {
		struct disk_header disk;

		memcpy(&disk, bytes + i * SPACE_BLOCK, sizeof(disk));
		header_decode(&disk, i, &slots[i]);
	}
	headers_compare(slots);
	return true;
}

int header_read(int fd, const char *path, struct slot slots[2], struct thaw_error *error)
{
	if (headers_read(fd, slots))
		return 0;
	for (unsigned i = 0; i < 2; i++) {
		uint64_t at = (uint64_t)i * SPACE_BLOCK;
		struct disk_header disk;
		int code = sys_pread(fd, &disk, sizeof(disk), at);

		if (code == -ENODATA) { /* no note and no key slots, then */
			memset(&disk, 0, sizeof(disk));
			code = sys_pread(fd, &disk.slot, sizeof(disk.slot), at);
		}
		if (code == -ENODATA)
			memset(&disk, 0, sizeof(disk));
		else if (code)
			return error_set(error, code, "%s: cannot read header slot %u: %s", path, i,
					 thaw_strerror(code));
		header_decode(&disk, i, &slots[i]);
	}
	headers_compare(slots);
	return 0;
}

int slot_find_key(const char *path, struct slot *slot, struct thaw_error *error)
{
	slot->key = NULL;
	if (!slot->enciphered)
		return keys_find(path, &slot->mark, &slot->key, error);
	if (!slot->keys.known)
		return error_set(error, THAW_EDAMAGED,
				 "%s: it is encrypted, and the slots with its key are damaged in "
				 "both blocks of its header (offsets 0 and %u): restore the file "
				 "from a backup",
				 path, SPACE_BLOCK);
	return keys_open(path, &slot->keys, &slot->key, error);
}

static int format_error(const char *path, const struct slot *slot, struct thaw_error *error)
{
	return error_set(
		error, THAW_EFORMAT,
		"%s: an image of format %#x, and this build reads formats %#x to %#x: use the "
		"release that wrote it",
		path, slot->format, FORMAT_VERSION_LEAST, FORMAT_VERSION);
}

/* A snapshot of a VM of libthawvm, as bytes: a relation, which people may well try. */
static bool is_snapshot(const char *path)
{
	static const char magic[8] = "\x8fTVM\r\n\x1a\n"; /* vm/embed/snapshot_format.h */
	char found[sizeof(magic)];
	int fd = sys_open(path, O_RDONLY | O_NONBLOCK, 0);
	bool is;

	if (fd < 0)
		return false;
	is = !sys_pread(fd, found, sizeof(found), 0) && !memcmp(found, magic, sizeof(magic));
	close(fd);
	return is;
}

int header_newest(const char *path, const struct slot slots[2], struct thaw_error *error)
{
	/*
	 * Magic, format and checksum are in the same place in every format: this one is newer, not
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
	if (slots[0].state == SLOT_FOREIGN && slots[1].state == SLOT_FOREIGN && is_snapshot(path))
		return error_set(
			error, THAW_EFOREIGN,
			"%s: the bytes of a VM's snapshot (thaw_vm_snapshot_bytes), not a Thaw image: a program "
			"opens them by thaw_vm_snapshot_open(), and thaw_vm_snapshot_write() makes an image",
			path);
	if (slots[0].state == SLOT_FOREIGN && slots[1].state == SLOT_FOREIGN)
		return error_set(
			error, THAW_EFOREIGN,
			"%s: not a Thaw image (no magic at offset 0 or %u): name another file, or, if it was "
			"one, save what is whole of it with thaw repair",
			path, SPACE_BLOCK);
	return error_set(error, THAW_EDAMAGED,
			 "%s: both header slots (offsets 0 and %u) are damaged: save what is whole "
			 "with thaw repair",
			 path, SPACE_BLOCK);
}

int header_write(int fd, unsigned number, struct slot *slot)
{
	union {
		struct disk_slot disk;
		struct disk_header header;
		uint8_t block[SPACE_BLOCK];
	} out;
	XXH128_hash_t hash;

	memset(&out, 0, sizeof(out));
	memcpy(out.disk.magic, FORMAT_MAGIC, sizeof(out.disk.magic));
	out.disk.format = FORMAT_VERSION;
	out.disk.page_bytes = slot->page_bytes;
	memcpy(out.disk.uuid, slot->uuid, sizeof(out.disk.uuid));
	memcpy(out.disk.engine, slot->engine, sizeof(out.disk.engine));
	memcpy(out.disk.key_salt, slot->mark.salt, sizeof(out.disk.key_salt));
	memcpy(out.disk.key_check, slot->mark.check, sizeof(out.disk.key_check));
	out.disk.enciphered = slot->enciphered;
	if (slot->enciphered)
		key_slots_encode(&slot->keys, &out.header.keys);
	slot->keys_sum = checksum_plain(&out.header.keys, sizeof(out.header.keys));
	out.disk.sequence = slot->sequence;
	out.disk.record_offset = slot->record_offset;
	out.disk.record_bytes = slot->record_bytes;
	out.disk.record_checksum[0] = slot->record_checksum.low64;
	out.disk.record_checksum[1] = slot->record_checksum.high64;
	hash = checksum_plain(&out.disk, offsetof(struct disk_slot, checksum));
	out.disk.checksum[0] = hash.low64;
	out.disk.checksum[1] = hash.high64;
	return sys_pwrite(fd, &out, sizeof(out), (uint64_t)number * SPACE_BLOCK);
}

/*
 * A sync alone is not enough: after a failed sync the kernel may consider a block clean that it
 * never wrote. Where the disk already has these bytes, writing them again cannot tear them.
 */
int header_write_again(int fd, unsigned number)
{
	uint64_t at = (uint64_t)number * SPACE_BLOCK;
	struct disk_slot disk;
	struct disk_keys keys;
	int code = sys_pread(fd, &disk, sizeof(disk), at);

	if (!code)
		code = sys_pwrite(fd, &disk, sizeof(disk), at);
	if (!code && disk.enciphered) {
		at += offsetof(struct disk_header, keys);
		code = sys_pread(fd, &keys, sizeof(keys), at);
		if (!code)
			code = sys_pwrite(fd, &keys, sizeof(keys), at);
	}
	return code ? code : sys_fdatasync(fd);
}

int note_write(int fd, unsigned number, const struct note *note)
{
	struct disk_note disk = {.magic = FORMAT_NOTE_MAGIC,
				 .generation = note->generation,
				 .failures = note->failures,
				 .what = note->what};
	XXH128_hash_t hash = checksum_plain(&disk, offsetof(struct disk_note, checksum));
	int code;

	disk.checksum[0] = hash.low64;
	disk.checksum[1] = hash.high64;
	code = sys_pwrite(fd, &disk, sizeof(disk),
			  (uint64_t)number * SPACE_BLOCK + offsetof(struct disk_header, note));
	return code ? code : sys_fdatasync(fd);
}

/* One attempt of store_read. */
static int store_read_once(int fd, const char *path, struct slot slots[2], unsigned *chosen,
			   struct record *record, struct thaw_error *fallback,
			   struct thaw_error *error)
{
	struct thaw_error damage;
	int newest, code = header_read(fd, path, slots, error);

	memset(fallback, 0, sizeof(*fallback));
	if (code)
		return code;
	newest = header_newest(path, slots, error);
	if (newest < 0)
		return newest;
	*chosen = (unsigned)newest;
	code = slot_find_key(path, &slots[newest], error);
	if (code)
		return code;
	slots[!newest].key = slots[newest].key;
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
	if (code == THAW_EDAMAGED) {
		damage = *error;
		error_set(error, code, "%s: save what is whole with thaw repair", damage.text);
	}
	return code;
}

int store_read(int fd, const char *path, struct slot slots[2], unsigned *chosen,
	       struct record *record, struct thaw_error *fallback, struct thaw_error *error)
{
	uint64_t before = 0;

	/*
	 * A slot that is read while it is written looks damaged, and the blocks of a record may be
	 * reused between the two reads. Both are transient: retry a few times, and for as long as
	 * the image keeps changing.
	 */
	for (unsigned attempt = 0, still = 0;; attempt++) {
		const struct timespec pause = {.tv_nsec = 2000000};
		uint64_t now;
		int code = store_read_once(fd, path, slots, chosen, record, fallback, error);

		if (!code && !fallback->code)
			return 0;
		if (code == THAW_EKEY) /* who was asked for a passphrase is not asked again */
			return code;
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
	/* In doubt, yes: then damage is reported rather than hidden. */
	bool retained = store_read(fd, path, slots, &chosen, &record, &fallback, &ignored) ||
			record_find(&record, number);

	record_free(&record);
	return retained;
}
