/* SPDX-License-Identifier: MIT */
/*
 * image_checksums.c - every checksum of an image is made right again: nodes from the leaves up, along whatever references
 * claim; pages; state blobs; the working set; the log; records; slots; as well as the constants that no reader gets past.
 */
#define _GNU_SOURCE
#include <lz4.h>
#include <string.h>
#include <zstd.h>

#include "image.h"
#include "image/cipher.h"
#include "page.h"

#define NODES_MAX 3000u	 /* to fix, counted each time one is reached */
#define SEALS_MAX 16384u /* to encipher at the end, each once */

struct seal {
	enum checksum_kind kind;
	uint64_t offset, bytes, context; /* context: of a page, its number */
	XXH128_hash_t checksum;
	struct extent extent; /* of a page */
};
static struct seal seals[SEALS_MAX];

struct fix {
	uint8_t *bytes;
	uint64_t size;
	unsigned keep, left;
	unsigned damage; /* counts down to the sum that is to be wrong */
	uint64_t
		stretch; /* what lies at this offset or behind it is going to lie far behind; 0: nothing */
	uint32_t page_bytes;
	const struct checksum_key *key;
	uint64_t log; /* where that of the record lies in the input */
	unsigned seals;
};

static bool lies(const struct fix *fix, uint64_t offset, uint64_t bytes)
{
	return offset <= fix->size && bytes <= fix->size - offset;
}

static int give_key(void *arg, bool make, uint8_t key[THAW_KEY_BYTES], struct thaw_error *error)
{
	(void)arg, (void)make, (void)error;
	memset(key, 7, THAW_KEY_BYTES);
	return 0;
}

const struct checksum_key *fuzz_key(struct key_mark *mark)
{
	static const struct checksum_key *key;
	static struct key_mark marked;
	struct thaw_error error;

	if (!key) {
		thaw_use_key(&(struct thaw_key_source){.get = give_key});
		if (keys_make("fuzz", &marked, &error) || keys_find("fuzz", &marked, &key, &error))
			fuzz_fail("no key: %s", error.text);
	}
	*mark = marked;
	return key;
}

/* The same, of those that are enciphered. */
static const struct checksum_key *fuzz_cipher_key(struct key_slots *slots)
{
	static const struct checksum_key *key;
	static struct key_slots made;
	struct key_mark unused;
	struct thaw_error error;

	fuzz_key(&unused);
	if (!key && (keys_make_enciphering("fuzz", &made, &error) ||
		     keys_open("fuzz", &made, &key, &error)))
		fuzz_fail("no key: %s", error.text);
	*slots = made;
	return key;
}

/* ---- Enciphering, once all checksums are right */

static void seal_later(struct fix *fix, enum checksum_kind kind, uint64_t context, uint64_t offset,
		       uint64_t bytes, const void *checksum, const struct extent *extent)
{
	struct seal *seal = &seals[fix->seals];

	if (!cipher_is_on(fix->key) || fix->seals == SEALS_MAX || !lies(fix, offset, bytes))
		return;
	*seal = (struct seal){.kind = kind, .offset = offset, .bytes = bytes, .context = context};
	if (extent)
		seal->extent = *extent;
	memcpy(&seal->checksum, checksum, sizeof(seal->checksum));
	memcpy(&seal->extent.checksum, checksum, sizeof(seal->checksum));
	fix->seals++;
}

static void seal_all(struct fix *fix)
{
	static uint8_t done[MAX_BYTES / 8];

	memset(done, 0, sizeof(done));
	for (unsigned i = 0; i < fix->seals; i++) {
		const struct seal *seal = &seals[i];
		uint8_t *at = fix->bytes + seal->offset;

		if (done[seal->offset / 8])
			continue;
		done[seal->offset / 8] = 1;
		if (seal->kind == CHECKSUM_PAGE)
			cipher_page(fix->key, seal->context, &seal->extent, at, at, seal->bytes);
		else
			cipher(fix->key, seal->kind, seal->checksum, seal->context, at, at,
			       seal->bytes, 0);
	}
}

/* What is in front of it pushes it back, over what is free most likely. */
static void seal_record(struct fix *fix, struct disk_slot *slot)
{
	uint64_t offset = slot->record_offset, bytes = slot->record_bytes;
	struct disk_sealed *sealed = (void *)(fix->bytes + offset);

	if (!cipher_is_on(fix->key) || offset % 8 || offset < STORE_HEADER_BYTES ||
	    bytes > MAX_BYTES || !lies(fix, offset, bytes + sizeof(*sealed)))
		return;
	memmove(sealed + 1, sealed, bytes);
	*sealed = (struct disk_sealed){
		.magic = FORMAT_SEALED_RECORD_MAGIC,
		.bytes = bytes,
		.checksum = {slot->record_checksum[0], slot->record_checksum[1]}};
	slot->record_bytes = bytes + sizeof(*sealed);
	seal_later(fix, CHECKSUM_RECORD, 0, offset + sizeof(*sealed), bytes, slot->record_checksum,
		   NULL);
}

static void sum_with(struct fix *fix, const struct checksum_key *key, enum checksum_kind kind,
		     void *to, uint64_t offset, uint64_t bytes)
{
	if (lies(fix, offset, bytes)) {
		XXH128_hash_t hash = checksum_of(key, kind, fix->bytes + offset, bytes);

		memcpy(to, (uint64_t[]){hash.low64 + (fix->damage == 1), hash.high64}, 16);
		fix->damage -= !!fix->damage;
	}
}

static void sum(struct fix *fix, enum checksum_kind kind, void *to, uint64_t offset, uint64_t bytes)
{
	sum_with(fix, fix->key, kind, to, offset, bytes);
}

/* Of what a packed page decodes to, if it does. */
static void sum_page(struct fix *fix, struct disk_entry *entry)
{
	static uint8_t page[PAGE_BYTES_MOST];
	uint64_t offset = (uint64_t)entry->offset * FORMAT_UNIT;
	XXH128_hash_t checksum;
	size_t bytes = 0;

	if (entry->encoding == EXTENT_RAW) {
		sum(fix, CHECKSUM_PAGE, entry->checksum, offset, fix->page_bytes);
		return;
	}
	if (!lies(fix, offset, entry->bytes) || fix->page_bytes > sizeof(page))
		return;
	if (entry->encoding == EXTENT_LZ4)
		bytes = (size_t)LZ4_decompress_safe((char *)fix->bytes + offset, (char *)page,
						    entry->bytes, (int)fix->page_bytes);
	else
		bytes = ZSTD_decompress(page, fix->page_bytes, fix->bytes + offset, entry->bytes);
	if (bytes != fix->page_bytes)
		return;
	checksum = checksum_of(fix->key, CHECKSUM_PAGE, page, bytes);
	memcpy(entry->checksum, &checksum, sizeof(checksum));
}

/* Of slots and notes, which no key covers. */
static void sum_plain(struct fix *fix, void *to, uint64_t offset, uint64_t bytes)
{
	sum_with(fix, NULL, 0, to, offset, bytes);
}

/* Where it is going to lie. What was asked before is beyond `size`, and is not moved twice. */
static uint64_t moved(const struct fix *fix, uint64_t offset)
{
	return fix->stretch && offset >= fix->stretch && offset < fix->size ? offset + STRETCHED_BY
									    : offset;
}

/* Never recurses deeper than there are levels, and not more often than `left` says. */
static void fix_node(struct fix *fix, uint64_t offset, unsigned level, uint64_t first)
{
	union disk_any *node;

	if (!fix->left || offset % 8 || offset < STORE_HEADER_BYTES ||
	    !lies(fix, offset, index_node_bytes(level)))
		return;
	fix->left--;
	node = (void *)(fix->bytes + offset);
	if (!(fix->keep & KEEP_NODES)) {
		node->node.magic = FORMAT_NODE_MAGIC;
		node->node.level = (uint8_t)level;
		memset(node->node.zero, 0, sizeof(node->node.zero));
		node->node.first_page = first;
	}
	for (unsigned i = 0; i < FORMAT_FANOUT; i++) {
		if (level) {
			struct disk_child *child = &node->inner.children[i];

			if (!child->offset)
				continue;
			fix_node(fix, child->offset, level - 1, first + i * index_span(level - 1));
			sum(fix, CHECKSUM_NODE, child->checksum, child->offset,
			    index_node_bytes(level - 1));
			seal_later(fix, CHECKSUM_NODE, 0, child->offset,
				   index_node_bytes(level - 1), child->checksum, NULL);
			child->offset = moved(fix, child->offset);
		} else if (node->leaf.entries[i].encoding >= EXTENT_RAW) {
			struct disk_entry *entry = &node->leaf.entries[i];
			struct extent extent;

			sum_page(fix, entry);
			index_decode_entry(entry, fix->page_bytes, &extent);
			seal_later(fix, CHECKSUM_PAGE, first + i, extent.offset, extent.bytes,
				   entry->checksum, &extent);
			entry->offset =
				moved(fix, (uint64_t)entry->offset * FORMAT_UNIT) / FORMAT_UNIT;
		}
	}
}

static void fix_generation(struct fix *fix, struct disk_generation *generation)
{
	unsigned levels = generation->root_levels;

	if (levels && levels <= INDEX_LEVELS_MAX) {
		fix_node(fix, generation->root_offset, levels - 1, 0);
		sum(fix, CHECKSUM_NODE, generation->root_checksum, generation->root_offset,
		    index_node_bytes(levels - 1));
		seal_later(fix, CHECKSUM_NODE, 0, generation->root_offset,
			   index_node_bytes(levels - 1), generation->root_checksum, NULL);
		generation->root_offset = moved(fix, generation->root_offset);
	}
	if (generation->state_bytes) {
		sum(fix, CHECKSUM_STATE, generation->state_checksum, generation->state_offset,
		    generation->state_bytes);
		seal_later(fix, CHECKSUM_STATE, generation->number, generation->state_offset,
			   generation->state_bytes, generation->state_checksum, NULL);
		generation->state_offset = moved(fix, generation->state_offset);
	}
}

static void fix_record(struct fix *fix, struct disk_slot *slot)
{
	struct disk_record *record;
	uint32_t generations, names;
	uint64_t checked;

	if (slot->record_offset % 8 || slot->record_offset < STORE_HEADER_BYTES ||
	    !lies(fix, slot->record_offset, sizeof(*record)))
		return;
	record = (void *)(fix->bytes + slot->record_offset);
	generations = record->generations; /* a node may lie over it */
	names = record->names;
	checked = sizeof(*record) + (uint64_t)generations * sizeof(record->generation[0]) +
		  (uint64_t)names * sizeof(struct disk_name);
	if (!lies(fix, slot->record_offset, checked + 16))
		return;
	if (!(fix->keep & KEEP_CONSTANTS)) {
		record->magic = FORMAT_RECORD_MAGIC;
		record->sequence = slot->sequence;
		record->generation_bytes = sizeof(record->generation[0]);
		record->name_bytes = sizeof(struct disk_name);
		record->page_bytes = slot->page_bytes;
		memcpy(record->uuid, slot->uuid, sizeof(record->uuid));
		memcpy(record->engine, slot->engine, sizeof(record->engine));
		memcpy(record->key_salt, slot->key_salt, sizeof(record->key_salt));
		memcpy(record->key_check, slot->key_check, sizeof(record->key_check));
		slot->record_bytes = checked + 16;
	}
	for (unsigned i = 0; i < generations; i++)
		fix_generation(fix, &record->generation[i]);
	if (record->working_set_bytes) {
		sum(fix, CHECKSUM_WORKING_SET, record->working_set_checksum,
		    record->working_set_offset, record->working_set_bytes);
		seal_later(fix, CHECKSUM_WORKING_SET, record->working_set_generation,
			   record->working_set_offset, record->working_set_bytes,
			   record->working_set_checksum, NULL);
		record->working_set_offset = moved(fix, record->working_set_offset);
	}
	fix->log = record->log_offset;
	record->log_offset = moved(fix, record->log_offset);
	sum(fix, CHECKSUM_RECORD_END, (uint8_t *)record + checked, slot->record_offset, checked);
}

/* What an entry has as a whole; of what changed, the result is not known here. */
static void fix_log_pages(struct fix *fix, struct disk_log_entry *entry, uint64_t offset)
{
	uint64_t at = offset + sizeof(*entry) + (entry->state_bytes + 7ull) / 8 * 8;

	if (entry->state_encoding == FORMAT_LOG_WHOLE)
		sum(fix, CHECKSUM_STATE, entry->generation.state_checksum, offset + sizeof(*entry),
		    entry->state_bytes);
	while (at % 8 == 0 && at + sizeof(struct disk_log_page) <= offset + entry->bytes - 16) {
		struct disk_log_page *page = (void *)(fix->bytes + at);

		at += sizeof(*page);
		if (page->encoding == FORMAT_LOG_WHOLE)
			sum(fix, CHECKSUM_PAGE, page->checksum, at, fix->page_bytes);
		at += (page->bytes + 7ull) / 8 * 8;
	}
}

/* Entries, as long as there are any, as those that follow the record. */
static void fix_log(struct fix *fix, const struct disk_slot *slot)
{
	uint64_t at = fix->log, before[2] = {0};

	for (unsigned position = 0;; position++) {
		struct disk_log_entry *entry = (void *)(fix->bytes + at);
		uint64_t bytes;

		if (at % 8 || !lies(fix, at, sizeof(*entry)) || entry->magic != FORMAT_LOG_MAGIC)
			return;
		bytes = entry->bytes;
		if (bytes % 8 || bytes < sizeof(*entry) + 16 || !lies(fix, at, bytes))
			return;
		memcpy(entry->seed, slot->record_checksum, sizeof(entry->seed));
		memcpy(entry->before, before, sizeof(before));
		memcpy(entry->uuid, slot->uuid, sizeof(entry->uuid));
		entry->position = position;
		if (fix->left)
			fix->left--, fix_log_pages(fix, entry, at);
		sum(fix, CHECKSUM_LOG, fix->bytes + at + bytes - 16, at, bytes - 16);
		memcpy(before, fix->bytes + at + bytes - 16, sizeof(before));
		at += (bytes + SPACE_BLOCK - 1) / SPACE_BLOCK * SPACE_BLOCK;
	}
}

/* Returns where the file is to be stretched. */
uint64_t image_fix(uint8_t *bytes, size_t size, const struct control *control)
{
	struct fix fix = {.bytes = bytes, .size = size, .keep = control->keep, .left = NODES_MAX};
	struct key_mark mark = {0};
	struct key_slots keys = {0};

	if (fix.keep & DAMAGE_ONE)
		fix.damage = 1 + (control->seed >> 16) % 200;
	if (fix.keep & KEEP_CHECKSUMS)
		return 0;
	if (fix.keep & KEYED)
		fix.key = fuzz_key(&mark);
	if (fix.keep & ENCIPHERED) {
		fix.key = fuzz_cipher_key(&keys);
		mark = keys.mark;
	}
	if (fix.keep & STRETCH)
		fix.stretch =
			IMAGE_LEAST + (control->seed >> 8) % (size / SPACE_BLOCK) * SPACE_BLOCK;
	for (unsigned i = 0; i < 2; i++) {
		struct disk_header *header = (void *)(bytes + i * SPACE_BLOCK);
		struct disk_slot *slot = &header->slot;

		if (!(fix.keep & KEEP_CONSTANTS)) {
			memcpy(slot->magic, FORMAT_MAGIC, sizeof(slot->magic));
			slot->format = FORMAT_VERSION;
			memcpy(slot->key_salt, mark.salt, sizeof(slot->key_salt));
			memcpy(slot->key_check, mark.check, sizeof(slot->key_check));
			slot->enciphered = keys.known != 0;
		}
		if (keys.known && !(fix.keep & KEEP_NODES))
			key_slots_encode(&keys, &header->keys);
		fix.page_bytes = slot->page_bytes;
		fix.log = 1; /* none is there */
		fix_record(&fix, slot);
		sum(&fix, CHECKSUM_RECORD, slot->record_checksum, slot->record_offset,
		    slot->record_bytes);
		if ((fix.keep & LOG_TOO) &&
		    slot->sequence > ((struct disk_slot *)(bytes + !i * SPACE_BLOCK))->sequence)
			fix_log(&fix, slot);
		seal_record(&fix, slot);
		slot->record_offset = moved(&fix, slot->record_offset);
		sum_plain(&fix, slot->checksum, i * SPACE_BLOCK,
			  offsetof(struct disk_slot, checksum));
		sum_plain(&fix, header->note.checksum,
			  i * SPACE_BLOCK + offsetof(struct disk_header, note),
			  offsetof(struct disk_note, checksum));
	}
	seal_all(&fix);
	return fix.stretch;
}
