/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * image_forge.h - what somebody can do to the file of an image who knows its format and has no key: find pages
 * and nodes in it, change them, and make every checksum right again that takes no key.
 */
#ifndef TESTS_IMAGE_FORGE_H
#define TESTS_IMAGE_FORGE_H

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image/format.h"
#include "image/store.h"

#define FORGE __attribute__((unused)) static
#define FORGE_PAGE 4096u

/* A file, in memory, to be changed by an attacker. */
struct bytes {
	uint8_t *at;
	size_t count;
};

FORGE struct bytes file_bytes(const char *path)
{
	struct stat status;
	struct bytes bytes = {NULL, 0};
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || fstat(fd, &status))
		abort();
	bytes.count = (size_t)status.st_size;
	bytes.at = malloc(bytes.count);
	if (!bytes.at || pread(fd, bytes.at, bytes.count, 0) != (ssize_t)bytes.count)
		abort();
	close(fd);
	return bytes;
}

FORGE void file_write(const char *path, const struct bytes *bytes)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (fd < 0 || write(fd, bytes->at, bytes->count) != (ssize_t)bytes->count)
		abort();
	close(fd);
}

FORGE struct disk_slot *slot_at(const struct bytes *bytes, unsigned number)
{
	return (struct disk_slot *)(bytes->at + number * SPACE_BLOCK);
}

FORGE struct disk_slot *newest_slot(const struct bytes *bytes)
{
	return slot_at(bytes, slot_at(bytes, 1)->sequence > slot_at(bytes, 0)->sequence);
}

FORGE struct disk_record *newest_record(const struct bytes *bytes)
{
	return (struct disk_record *)(bytes->at + newest_slot(bytes)->record_offset);
}

FORGE struct disk_generation *newest_generation(const struct bytes *bytes)
{
	struct disk_record *record = newest_record(bytes);

	return &record->generation[record->generations - 1];
}

/* Where the entry of a page is, and on the way there the references to the nodes, from the root's on. */
struct way {
	unsigned depth;
	uint8_t *checksums[INDEX_LEVELS_MAX]; /* of the node that lies ... */
	uint8_t *nodes[INDEX_LEVELS_MAX];     /* ... there */
	struct disk_entry *entry;
};

FORGE struct way way_to(const struct bytes *bytes, uint64_t page)
{
	struct disk_generation *generation = newest_generation(bytes);
	uint64_t offset = generation->root_offset;
	uint8_t *checksum = (uint8_t *)generation->root_checksum;
	struct way way = {0};

	for (unsigned level = generation->root_levels - 1;; level--) {
		struct disk_child *child;

		way.checksums[way.depth] = checksum;
		way.nodes[way.depth++] = bytes->at + offset;
		if (!level)
			break;
		child = &((struct disk_inner *)(bytes->at + offset))
				 ->children[page >> (4 * level) & 15];
		offset = child->offset;
		checksum = (uint8_t *)child->checksum;
	}
	way.entry = &((struct disk_leaf *)way.nodes[way.depth - 1])->entries[page & 15];
	return way;
}

FORGE uint8_t *page_at(const struct bytes *bytes, uint64_t page)
{
	return bytes->at + (uint64_t)way_to(bytes, page).entry->offset * FORMAT_UNIT;
}

FORGE void plain(void *to, const void *bytes, size_t count)
{
	XXH128_hash_t sum = XXH3_128bits(bytes, count);

	memcpy(to, &sum, sizeof(sum));
}

/* The checksums that need no key, of slot and record. */
FORGE void fix_slot(const struct bytes *bytes, struct disk_slot *slot)
{
	uint8_t *record = bytes->at + slot->record_offset;

	if (slot->record_bytes) {
		plain(record + slot->record_bytes - 16, record, slot->record_bytes - 16);
		plain(slot->record_checksum, record, slot->record_bytes);
	}
	plain(slot->checksum, slot, offsetof(struct disk_slot, checksum));
}

/* And of all on the way to a page. */
FORGE void fix_page(const struct bytes *bytes, uint64_t page)
{
	struct way way = way_to(bytes, page);

	plain(way.entry->checksum, page_at(bytes, page), FORGE_PAGE);
	for (unsigned i = way.depth; i-- > 0;)
		plain(way.checksums[i], way.nodes[i],
		      i + 1 == way.depth ? sizeof(struct disk_leaf) : sizeof(struct disk_inner));
	fix_slot(bytes, newest_slot(bytes));
}

static void forge_subtree(const struct bytes *bytes, uint8_t *checksum, uint64_t offset,
			  unsigned level)
{
	union disk_any *node = (union disk_any *)(bytes->at + offset);

	for (unsigned i = 0; i < FORMAT_FANOUT; i++) {
		struct disk_child *child = &node->inner.children[i];
		struct disk_entry *entry = &node->leaf.entries[i];

		if (level && child->offset)
			forge_subtree(bytes, (uint8_t *)child->checksum, child->offset, level - 1);
		else if (!level && entry->encoding == EXTENT_RAW)
			plain(entry->checksum, bytes->at + (uint64_t)entry->offset * FORMAT_UNIT,
			      FORGE_PAGE);
	}
	plain(checksum, node, level ? sizeof(struct disk_inner) : sizeof(struct disk_leaf));
}

/* The newest generation, as it is now, as the only one of an image without a key: all of it is right. */
FORGE void take_the_key_away(const struct bytes *bytes)
{
	struct disk_record *record = newest_record(bytes);
	struct disk_generation *generation = record->generation;

	*generation = *newest_generation(bytes);
	generation->ancestor = 0;
	record->generations = 1;
	record->names = 0;
	record->working_set_offset = record->working_set_bytes = 0;
	newest_slot(bytes)->record_bytes = sizeof(*record) + sizeof(*generation) + 16;
	for (unsigned i = 0; i < 2; i++) {
		struct disk_slot *slot = slot_at(bytes, i);

		memset(slot->key_salt, 0, 32);
		if (slot->record_bytes)
			memset(((struct disk_record *)(bytes->at + slot->record_offset))->key_salt,
			       0, 32);
	}
	if (generation->root_levels)
		forge_subtree(bytes, (uint8_t *)generation->root_checksum, generation->root_offset,
			      generation->root_levels - 1);
	if (generation->state_bytes)
		plain(generation->state_checksum, bytes->at + generation->state_offset,
		      generation->state_bytes);
	for (unsigned i = 0; i < 2; i++)
		fix_slot(bytes, slot_at(bytes, i));
}

#endif
