// SPDX-License-Identifier: MIT
/*
 * mappings_record.c - a guest's mappings as bytes, and what of them is libthaw's. No process is needed for it:
 * commands that read images use it, too. What is decoded is held to the rules that a capture keeps: sorted, disjoint,
 * whole pages, below the kernel's half, nothing where the control block and the restorer lie.
 */
#define _GNU_SOURCE
#include "process/memory/address_space.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* The kernel gives no address above to who does not ask for it: 47 bits. */
#define ADDRESS_END (1ull << 47)
#define KNOWN_FLAGS 0x3ffu
#define KEYS 16u /* of x86-64 */

enum { HAS_NAME = 1, HAS_FILE = 2, HAS_BUILD_ID = 4 };

static void encode_one(const struct mapping *mapping, uint64_t from, struct record_writer *writer)
{
	uint64_t has = (mapping->name ? HAS_NAME : 0) | (mapping->inode ? HAS_FILE : 0) |
		       (mapping->build_id[0] ? HAS_BUILD_ID : 0);

	record_put(writer, (mapping->start - from) / PAGE);
	record_put(writer, (mapping->end - mapping->start) / PAGE);
	record_put(writer, mapping->protection | (uint64_t)mapping->kind << 8 | has << 16 |
				   (uint64_t)mapping->key << 24 | (uint64_t)mapping->flags << 32);
	if (mapping->name)
		record_put_text(writer, mapping->name);
	if (mapping->inode) {
		record_put(writer, mapping->offset);
		record_put(writer, mapping->device);
		record_put(writer, mapping->inode);
		record_put(writer, mapping->file_bytes);
		record_put(writer, mapping->modified_ns);
	}
	if (mapping->build_id[0])
		record_put_text(writer, mapping->build_id);
	if (mapping->flags & MAPPING_SHARED)
		record_put(writer, mapping->object);
}

void mappings_encode(const struct mappings *mappings, struct record_writer *writer)
{
	size_t section = record_section_begin(writer, RECORD_MAPPINGS);
	uint64_t from = 0;

	record_put(writer, mappings->vdso);
	record_put(writer, mappings->vdso_bytes);
	record_put(writer, mappings->vvar);
	record_put(writer, mappings->vvar_bytes);
	record_put(writer, mappings->count);
	for (size_t i = 0; i < mappings->count; i++) {
		encode_one(&mappings->list[i], from, writer);
		from = mappings->list[i].end;
	}
	record_section_end(writer, section);
}

static bool decode_file(struct mapping *mapping, struct record_reader *reader)
{
	mapping->offset = record_take(reader);
	mapping->device = record_take(reader);
	mapping->inode = record_take(reader);
	mapping->file_bytes = record_take(reader);
	mapping->modified_ns = record_take(reader);
	return mapping->inode && !(mapping->offset % PAGE);
}

static bool decode_build_id(struct mapping *mapping, struct record_reader *reader)
{
	char *text = record_take_text(reader);
	bool good = text && *text && strlen(text) < sizeof(mapping->build_id);

	if (good)
		strcpy(mapping->build_id, text);
	free(text);
	return good;
}

/* Does it say what can be? */
static bool is_sound(const struct mapping *mapping)
{
	bool of_file = mapping->kind == MAPPING_FILE || mapping->kind == MAPPING_SHARED_FILE;
	bool shared = mapping->flags & MAPPING_SHARED;

	return !address_is_local(mapping->start, mapping->end) &&
	       !(mapping->protection & ~(PROT_READ | PROT_WRITE | PROT_EXEC)) &&
	       !(mapping->flags & ~KNOWN_FLAGS) && mapping->kind <= MAPPING_SPECIAL &&
	       mapping->key < KEYS &&
	       (!of_file || (mapping->name && mapping->name[0] == '/' && mapping->inode)) &&
	       (!shared || (mapping->kind == MAPPING_MEMORY && mapping->object));
}

static bool decode_one(struct mapping *mapping, uint64_t from, struct record_reader *reader)
{
	uint64_t gap = record_take_up_to(reader, (ADDRESS_END - from) / PAGE);
	uint64_t bits, has;
	bool good = true;

	mapping->start = from + gap * PAGE;
	mapping->end = mapping->start +
		       PAGE * record_take_up_to(reader, (ADDRESS_END - mapping->start) / PAGE);
	bits = record_take(reader);
	mapping->protection = bits & 0xff;
	mapping->kind = bits >> 8 & 0xff;
	mapping->flags = (uint32_t)(bits >> 32);
	has = bits >> 16 & 0xff;
	mapping->key = bits >> 24 & 0xff;
	if (has & HAS_NAME) {
		mapping->name = record_take_text(reader);
		good = mapping->name;
	}
	if (good && has & HAS_FILE)
		good = decode_file(mapping, reader);
	if (good && has & HAS_BUILD_ID)
		good = decode_build_id(mapping, reader);
	if (good && mapping->flags & MAPPING_SHARED)
		mapping->object = (unsigned)record_take_up_to(reader, UINT32_MAX);
	return good && !reader->failed && mapping->end > mapping->start && !(has & ~7u) &&
	       is_sound(mapping);
}

/* A piece of the kernel's: whole pages, below its half, not where ours is. */
static bool is_place(uint64_t start, uint64_t bytes)
{
	return !(start % PAGE) && !(bytes % PAGE) && bytes <= ADDRESS_END &&
	       start <= ADDRESS_END - bytes && !address_is_local(start, start + bytes);
}

bool mappings_decode(struct mappings *mappings, struct record_reader *reader)
{
	struct record_reader section;
	uint64_t from = 0, count;

	*mappings = (struct mappings){0};
	if (!record_take_section(reader, RECORD_MAPPINGS, &section))
		return false;
	mappings->vdso = record_take(&section);
	mappings->vdso_bytes = record_take(&section);
	mappings->vvar = record_take(&section);
	mappings->vvar_bytes = record_take(&section);
	count = record_take_count(&section, 24);
	if (section.failed || !is_place(mappings->vdso, mappings->vdso_bytes) ||
	    !is_place(mappings->vvar, mappings->vvar_bytes))
		return false;
	mappings->list = calloc(count ? count : 1, sizeof(*mappings->list));
	if (!mappings->list)
		return false;
	mappings->room = count;
	while (mappings->count < count) {
		struct mapping *mapping = &mappings->list[mappings->count++];

		if (!decode_one(mapping, from, &section)) {
			mappings_free(mappings);
			return false;
		}
		from = mapping->end;
	}
	return true;
}

void mappings_free(struct mappings *mappings)
{
	bool shared = mappings->users && --*mappings->users;

	for (size_t i = 0; i < mappings->count && !shared; i++)
		free(mappings->list[i].name);
	if (!shared) {
		free(mappings->list);
		free(mappings->users);
	}
	*mappings = (struct mappings){0};
}

/* What a program expects to find empty at times: it is in no image (mappings.c). */
static bool is_left_empty(const struct mapping *mapping)
{
	return mapping->flags & MAPPING_DROPPABLE ||
	       (mapping->flags & MAPPING_WIPE_ON_FORK && mapping->name &&
		!strcmp(mapping->name, MAPPING_WIPED_NAME));
}

int mappings_ranges(const struct mappings *mappings, struct thaw_range **ranges, size_t *count)
{
	struct thaw_range *list = calloc(mappings->count ? mappings->count : 1, sizeof(*list));
	size_t used = 0;

	if (!list)
		return -ENOMEM;
	for (size_t i = 0; i < mappings->count; i++) {
		const struct mapping *mapping = &mappings->list[i];

		if (mapping->kind != MAPPING_MEMORY || is_left_empty(mapping))
			continue;
		if (used && list[used - 1].end == mapping->start)
			list[used - 1].end = mapping->end;
		else
			list[used++] = (struct thaw_range){mapping->start, mapping->end};
	}
	*ranges = list;
	*count = used;
	return 0;
}

int mappings_spans(const struct mappings *mappings, struct thaw_range **spans, size_t *count)
{
	struct thaw_range *list = calloc(mappings->count ? mappings->count : 1, sizeof(*list));
	bool open = false;
	size_t used = 0;

	if (!list)
		return -ENOMEM;
	for (size_t i = 0; i < mappings->count; i++) {
		const struct mapping *mapping = &mappings->list[i];

		if (mapping->kind != MAPPING_MEMORY || is_left_empty(mapping)) {
			open = false;
			continue;
		}
		if (open && !address_is_local(list[used - 1].end, mapping->start))
			list[used - 1].end = mapping->end;
		else
			list[used++] = (struct thaw_range){mapping->start, mapping->end};
		open = true;
	}
	*spans = list;
	*count = used;
	return 0;
}
