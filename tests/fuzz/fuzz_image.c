/* SPDX-License-Identifier: MIT */
/*
 * fuzz_image.c - fuzz target: the input is an image file. Whatever it says, everything that reads an
 * image and everything that goes on to write to it returns, within bounds.
 *
 * Random changes would end at the first checksum. So every checksum is made right before an
 * image is used (image_checksums.c). Eight bytes in block 0 that mean nothing in an image
 * (struct control) say which of that not to do, and how the image is used: so that an input is a file
 * that the thaw command understands too.
 *
 * Beside crashes, one thing is demanded: an image that verifies still does after it was written to.
 * Who makes an image can put anything into it, but not a generation that a later commit destroys.
 */
#define _GNU_SOURCE
#include <string.h>

#include "../by_path.h"
#include "image.h"

#define PLACES_MAX 2000u /* to change */

static void one(const uint8_t *input, size_t size)
{
	char path[128];
	struct control control;
	uint64_t stretch;
	uint8_t *bytes;
	int sound;

	if (size < IMAGE_LEAST)
		return;
	memcpy(&control, input + CONTROL_AT, sizeof(control));
	bytes = malloc(size);
	if (!bytes)
		fuzz_fail("no memory");
	memcpy(bytes, input, size);
	stretch = image_fix(bytes, size, &control);
	snprintf(path, sizeof(path), "%s", fuzz_path("image"));
	if (!stretch || stretch > size)
		stretch = size;
	fuzz_write_file(path, bytes, stretch);
	if (stretch < size)
		fuzz_write_more(path, bytes + stretch, size - stretch, stretch + STRETCHED_BY);
	free(bytes);

	use_listing(path);
	use_picture(path, &control);
	sound = use_verify(path);
	use_reader(path, &control, !sound);
	if (!use_writer(path, &control) && !sound && use_verify(path))
		use_damaged("commits");
	sound = use_verify(path);
	if (!use_history(path, &control) && !sound && use_verify(path))
		use_damaged("a rollback and names");
	sound = use_verify(path);
	if (control.seed & 1)
		use_copies(path, &control, !sound);
	if (control.seed & 2)
		return;
	use_listing(path);
	use_picture(path, &control);
	use_reader(path, &control, !use_verify(path));
}

/* ---- The first inputs */

struct recipe {
	uint32_t page_bytes;
	unsigned commits, pages, retain;
	uint64_t spread; /* pages lie below this */
	bool history;	 /* names, a branch, a note of failure */
	unsigned logged; /* so many more, in a log */
	unsigned compress;
};

static size_t seed(unsigned number, uint8_t *bytes)
{
	static const struct recipe recipes[] = {
		{4096, 0, 0, 0, 0, false, 0, 0},
		{4096, 1, 2, 0, 16, false, 0, 0},
		{4096, 3, 3, 8, 32, false, 0, 0},
		{4096, 4, 2, 2, 1 << 20, true, 0, 0},
		{8192, 2, 2, 0, 300, true, 0, 0},
		{4096, 3, 1, 4, INDEX_PAGES_MAX, true, 0, 0},
		{16384, 2, 1, 1, 16, false, 0, 0},
		{4096, 6, 1, 6, 64, true, 0, 0},
		{4096, 3, 3, 8, 32, true, 0, 0},
		{4096, 1, 2, 0, 16, false, 3, 0},
		{4096, 2, 3, 2, 32, true, 3, 0},
		{4096, 2, 2, 2, 32, false, 2, 0},
		{4096, 3, 9, 4, 32, true, 0, THAW_COMPRESS_LZ4},
		{8192, 3, 9, 2, 32, true, 0, THAW_COMPRESS_ZSTD(3)},
		{4096, 3, 9, 4, 32, true, 2, THAW_COMPRESS_LZ4}, /* and enciphered */
	};
	const struct recipe *recipe = &recipes[number % (sizeof(recipes) / sizeof(recipes[0]))];
	char path[128];
	struct image_options options = {
		.path = path, .create = true, .engine = "fuzz", .compress = recipe->compress};
	struct thaw_error error;
	struct image *image;
	uint64_t state = number;
	/* All are made without a key, and get it when they are used. */
	struct control control = {.keep = number == 8			 ? KEYED
					  : number == 7			 ? ENCIPHERED
					  : number == 14		 ? ENCIPHERED | LOG_TOO
					  : number == 12 || number == 13 ? 0
					  : number == 11		 ? KEYED | LOG_TOO
					  : number > 8			 ? LOG_TOO
					  : number % 3			 ? 0
									 : STRETCH,
				  .pages = recipe->logged ? PAGES_LOGGED : 0,
				  .retain = recipe->compress ? 0x14 : 0,
				  .seed = 0x201 * number};
	uint64_t first;
	size_t size;

	if (number >= sizeof(recipes) / sizeof(recipes[0]))
		return 0;
	snprintf(path, sizeof(path), "%s", fuzz_path("seed"));
	options.page_bytes = recipe->page_bytes;
	options.retain = recipe->retain;
	remove(path);
	for (unsigned i = 0; i <= recipe->commits; i++) {
		if (image_open(&options, &image, NULL, &error))
			fuzz_fail("seed %u: %s", number, error.text);
		if (i < recipe->commits && use_commit(image, &state, recipe->pages, false, false))
			fuzz_fail("seed %u: a commit failed", number);
		for (unsigned j = 0; i == recipe->commits && recipe->logged && j <= recipe->logged;
		     j++)
			if (use_commit(image, &state, 2, false, true))
				fuzz_fail("seed %u: a small commit failed", number);
		if (i == recipe->commits && recipe->logged && !log_pending(image))
			fuzz_fail("seed %u: nothing is in the log", number);
		if (i == recipe->commits && recipe->history)
			image_failed(image, 0);
		image_close(image);
		if (i == 1 && recipe->history && thaw_image_tag(path, "first", 0, 0, &error))
			fuzz_fail("seed %u: %s", number, error.text);
		if (i == 2 && recipe->history) {
			control.open = 3;
			if (path_find(path, "first", &first, &error) ||
			    thaw_image_rollback(path, first, NULL, &error))
				fuzz_fail("seed %u: %s", number, error.text);
		}
	}
	size = fuzz_read_file(path, bytes, MAX_BYTES);
	memcpy(bytes + CONTROL_AT, &control, sizeof(control));
	return size;
}

/* ---- Changes */

enum kind {
	SLOT,
	NOTE,
	RECORD,
	GENERATION,
	NAME,
	NODE,
	INNER,
	LEAF,
	BYTES,
	LOG_ENTRY,
	LOG_PAGE,
	KINDS
};

struct place { /* of a structure whose fields may be changed */
	uint64_t offset;
	uint32_t bytes;
	enum kind kind;
};

struct places {
	const uint8_t *bytes;
	uint64_t size;
	unsigned count;
	struct place list[PLACES_MAX];
};

static bool place_add(struct places *places, uint64_t offset, uint64_t bytes, enum kind kind)
{
	if (places->count == PLACES_MAX || offset % 8 || offset > places->size ||
	    bytes > places->size - offset || bytes < 8)
		return false;
	places->list[places->count++] = (struct place){offset, (uint32_t)bytes, kind};
	return true;
}

static void places_of_node(struct places *places, uint64_t offset, unsigned level)
{
	const union disk_any *node;
	uint64_t at = offset + sizeof(node->node);

	if (level >= INDEX_LEVELS_MAX || !place_add(places, offset, index_node_bytes(level), NODE))
		return;
	node = (const void *)(places->bytes + offset);
	for (unsigned i = 0; i < FORMAT_FANOUT; i++) {
		if (!level) {
			place_add(places, at + i * sizeof(struct disk_entry),
				  sizeof(struct disk_entry), LEAF);
		} else if (place_add(places, at + i * sizeof(struct disk_child),
				     sizeof(struct disk_child), INNER) &&
			   node->inner.children[i].offset) {
			places_of_node(places, node->inner.children[i].offset, level - 1);
		}
	}
}

static void places_of_log(struct places *places, uint64_t at)
{
	while (at <= places->size && places->size - at > sizeof(struct disk_log_entry)) {
		const struct disk_log_entry *entry = (const void *)(places->bytes + at);
		uint64_t page = at + sizeof(*entry) + (entry->state_bytes + 7ull) / 8 * 8;

		if (at % 8 || entry->magic != FORMAT_LOG_MAGIC ||
		    entry->bytes > places->size - at || entry->bytes < sizeof(*entry) ||
		    !place_add(places, at, sizeof(*entry), LOG_ENTRY))
			return;
		place_add(places, at + offsetof(struct disk_log_entry, generation),
			  sizeof(struct disk_generation), GENERATION);
		place_add(places, at + sizeof(*entry), entry->state_bytes & ~7u, BYTES);
		while (place_add(places, page, sizeof(struct disk_log_page), LOG_PAGE)) {
			const struct disk_log_page *head = (const void *)(places->bytes + page);

			page += sizeof(*head);
			place_add(places, page, head->bytes & ~7u, BYTES);
			page += (head->bytes + 7ull) / 8 * 8;
			if (page + sizeof(*head) > at + entry->bytes - 16)
				break;
		}
		at += (entry->bytes + SPACE_BLOCK - 1) / SPACE_BLOCK * SPACE_BLOCK;
	}
}

static void places_of_record(struct places *places, uint64_t offset)
{
	const struct disk_record *record;
	uint64_t at = offset + sizeof(*record);

	if (!place_add(places, offset, sizeof(*record), RECORD))
		return;
	record = (const void *)(places->bytes + offset);
	if (record->log_bytes)
		places_of_log(places, record->log_offset);
	if (record->working_set_bytes)
		place_add(places, record->working_set_offset, record->working_set_bytes, BYTES);
	for (unsigned i = 0; i < record->generations; i++, at += sizeof(struct disk_generation)) {
		const struct disk_generation *generation = (const void *)(places->bytes + at);

		if (!place_add(places, at, sizeof(*generation), GENERATION))
			return;
		if (generation->root_levels)
			places_of_node(places, generation->root_offset,
				       generation->root_levels - 1);
		if (generation->state_bytes)
			place_add(places, generation->state_offset, generation->state_bytes & ~7ull,
				  BYTES);
	}
	for (unsigned i = 0; i < record->names; i++, at += sizeof(struct disk_name))
		if (!place_add(places, at, sizeof(struct disk_name), NAME))
			return;
}

static void places_find(struct places *places)
{
	for (unsigned i = 0; i < 2; i++) {
		const struct disk_slot *slot = (const void *)(places->bytes + i * SPACE_BLOCK);

		place_add(places, i * SPACE_BLOCK, offsetof(struct disk_slot, zero), SLOT);
		place_add(places, i * SPACE_BLOCK + FORMAT_SLOT_BYTES, 24, NOTE);
		places_of_record(places, slot->record_offset);
	}
}

static uint64_t hurting_value(const struct places *places, uint64_t *random, uint64_t old)
{
	const struct place *place = &places->list[fuzz_below(random, places->count)];
	const uint64_t size = places->size;
	const uint64_t values[] = {0,
				   1,
				   2,
				   old + 1,
				   old - 1,
				   old * 2,
				   old ^ 1ull << fuzz_below(random, 64),
				   4096,
				   8192,
				   place->offset,
				   place->offset + 8,
				   place->offset / FORMAT_UNIT,
				   (place->offset & ~4095ull) / FORMAT_UNIT,
				   (place->offset & ~4095ull) / FORMAT_UNIT | old >> 48 << 48,
				   (old & ~(1ull << 56 >> 1)) + fuzz_below(random, 4),
				   2ull << 56 | fuzz_below(random, 8),
				   size,
				   size - 8,
				   size + 4096,
				   1ull << fuzz_below(random, 64),
				   ~0ull << fuzz_below(random, 64),
				   -(uint64_t)8 * (1 + fuzz_below(random, 256)),
				   INT64_MAX - fuzz_below(random, 4096),
				   fuzz_below(random, 16),
				   fuzz_next(random)};

	return values[fuzz_below(random, sizeof(values) / sizeof(values[0]))];
}

static void field_hurt(const struct places *places, uint8_t *bytes, const struct place *place,
		       uint64_t *random)
{
	static const unsigned sizes[] = {8, 8, 8, 8, 4, 4, 2, 1};
	unsigned length = sizes[fuzz_below(random, 8)];
	uint64_t at = place->offset + fuzz_below(random, place->bytes / length) * length;
	uint64_t old = 0, value;

	memcpy(&old, bytes + at, length);
	value = hurting_value(places, random, old);
	memcpy(bytes + at, &value, length);
}

/* One of the same kind over another: references go where others went, generations come twice. */
static void place_copy(const struct places *places, uint8_t *bytes, const struct place *to,
		       uint64_t *random)
{
	for (unsigned tries = 0; tries < 16; tries++) {
		const struct place *from = &places->list[fuzz_below(random, places->count)];

		if (from->kind == to->kind && from->offset != to->offset) {
			memmove(bytes + to->offset, bytes + from->offset,
				from->bytes < to->bytes ? from->bytes : to->bytes);
			return;
		}
	}
}

/* Another number of generations or names: what follows them moves. */
static void record_resize(const struct places *places, uint8_t *bytes, uint64_t *random)
{
	for (unsigned i = 0; i < places->count; i++) {
		struct disk_record *record = (void *)(bytes + places->list[i].offset);

		if (places->list[i].kind != RECORD || fuzz_below(random, 2))
			continue;
		if (fuzz_below(random, 2))
			record->generations += fuzz_below(random, 2) ? 1 : -1;
		else
			record->names += fuzz_below(random, 2) ? 1 : -1;
	}
}

/* A leaf that says to be of a generation that is still to come, and its pages with it. */
static void leaf_from_the_future(const struct places *places, uint8_t *bytes, uint64_t *random)
{
	const struct disk_slot *slot = (const void *)(bytes + SPACE_BLOCK * fuzz_below(random, 2));
	uint64_t number = slot->sequence + fuzz_below(random, 4);

	for (unsigned tries = 0; tries < 64; tries++) {
		const struct place *place = &places->list[fuzz_below(random, places->count)];
		struct disk_leaf *leaf = (void *)(bytes + place->offset);

		if (place->kind != NODE || place->bytes != sizeof(*leaf))
			continue;
		leaf->node.generation = number;
		for (unsigned i = 0; i < FORMAT_FANOUT; i++)
			if (leaf->entries[i].birth)
				leaf->entries[i].birth = number;
		return;
	}
}

/* libFuzzer's own, with what it has learnt of compared values; not there without it. */
__attribute__((weak)) size_t LLVMFuzzerMutate(uint8_t *bytes, size_t size, size_t max);

static size_t mutate(uint8_t *bytes, size_t size, size_t max, uint64_t random)
{
	static struct places places;
	struct control *control = (void *)(bytes + CONTROL_AT);
	unsigned changes = 1 + (unsigned)fuzz_below(&random, 4);

	if (size < IMAGE_LEAST) /* not one of ours */
		return LLVMFuzzerMutate ? LLVMFuzzerMutate(bytes, size, max) : size;
	places = (struct places){.bytes = bytes, .size = size};
	places_find(&places);
	while (changes--) {
		const struct place *place;
		enum kind kind = (enum kind)fuzz_below(&random, KINDS);

		/* Of every kind as often: there are more entries than anything else. */
		for (unsigned tries = 0; tries < 32; tries++) {
			place = &places.list[fuzz_below(&random, places.count)];
			if (place->kind == kind)
				break;
		}
		switch (fuzz_below(&random, 16)) {
		case 0:
		case 1:
			place_copy(&places, bytes, place, &random);
			break;
		case 2:
			record_resize(&places, bytes, &random);
			break;
		case 3:
			control->retain = (uint8_t)fuzz_next(&random);
			control->open = (uint8_t)fuzz_below(&random, 6);
			control->pages = (uint8_t)fuzz_next(&random);
			control->seed = (uint32_t)fuzz_next(&random);
			break;
		case 4:
			control->keep = fuzz_below(&random, 3)
						? STRETCH * (uint8_t)fuzz_below(&random, 2) +
							  KEYED * (uint8_t)fuzz_below(&random, 2) +
							  ENCIPHERED * !fuzz_below(&random, 3) +
							  LOG_TOO
						: (uint8_t)fuzz_below(&random, 256);
			break;
		case 5:
			leaf_from_the_future(&places, bytes, &random);
			break;
		case 6:
			if (LLVMFuzzerMutate)
				LLVMFuzzerMutate(bytes + place->offset, place->bytes, place->bytes);
			break;
		default:
			field_hurt(&places, bytes, place, &random);
		}
	}
	if (!fuzz_below(&random, 32)) {
		size_t wanted = size + 4096 * (fuzz_below(&random, 5)) - 8192;

		wanted = wanted > max ? max & ~(size_t)4095 : wanted;
		if (wanted > size)
			memset(bytes + size, 0, wanted - size);
		return wanted < IMAGE_LEAST ? size : wanted;
	}
	return size;
}

const struct fuzz_target fuzz_image = {
	.name = "image",
	.max_bytes = MAX_BYTES,
	.file_limit = 64u << 20,
	.memory_limit = 256u << 20,
	.one = one,
	.mutate = mutate,
	.seed = seed,
};
