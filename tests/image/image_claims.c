// SPDX-License-Identifier: GPL-2.0-only
/*
 * image_claims.c - an image was made to do harm: every checksum is right, and a value is not. What it claims is refused, and
 * costs no memory. Values at random: image_hostile.c.
 */
#include "kselftest_harness.h"

#include <sys/resource.h>

#include "damaged_image.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

/*
 * Made to do harm: every checksum right, the values not. Each slot, record and root in turn gets a
 * bad value.
 */
static void fix_slot(unsigned number, struct disk_slot *slot, struct disk_record *record)
{
	XXH128_hash_t hash = XXH3_128bits(record, slot->record_bytes);

	memcpy(slot->record_checksum, &hash, sizeof(hash));
	poke(slot->record_offset, record, slot->record_bytes);
	hash = XXH3_128bits(slot, offsetof(struct disk_slot, checksum));
	memcpy(slot->checksum, &hash, sizeof(hash));
	poke(number * 4096, slot, sizeof(*slot));
}

TEST(hostile_values)
{
	unsigned number;
	struct disk_slot slot;
	struct disk_record *record;
	size_t bytes;

	make_image("hostile");
	slot = newest_slot(&number);
	bytes = slot.record_bytes;
	record = malloc(bytes);
	/* Every 4-byte field of the record, with values that like to hurt. */
	for (size_t field = 0; field + 4 <= bytes; field += 4) {
		static const uint32_t values[] = {0, 1, 10, 11, 0x7fffffff, 0xffffffff, 4096, 8193};

		for (unsigned i = 0; i < 8; i++) {
			struct image_options options = model_options();
			struct disk_slot bad = slot;
			struct image *image;

			memcpy(record, whole + slot.record_offset, bytes);
			memcpy((uint8_t *)record + field, &values[i], 4);
			fix_slot(number, &bad, record);
			quiet_verify();
			if (!image_open(&options, &image, &fallback, &error)) {
				void *state;
				size_t state_bytes;

				model_compare(image, &model, &error);
				if (!image_read_state(image, &state, &state_bytes, &error))
					free(state);
				if (i == 5) /* and write to it */
					model_commit(image, &model, &error);
				image_close(image);
			}
			restore_image();
		}
	}
	/* The root node, byte by byte; its checksum in the record follows. */
	memcpy(record, whole + slot.record_offset, bytes);
	uint64_t root = record->generation[2].root_offset;
	for (unsigned at = 0; at < sizeof(struct disk_inner); at++) {
		struct image_options options = model_options();
		struct disk_slot bad = slot;
		uint8_t node[sizeof(struct disk_inner)];
		XXH128_hash_t hash;
		struct image *image;

		memcpy(node, whole + root, sizeof(node));
		node[at] ^= at % 3 ? 0xff : 1;
		poke(root, node, sizeof(node));
		hash = XXH3_128bits(node, sizeof(node));
		memcpy(record->generation[2].root_checksum, &hash, sizeof(hash));
		fix_slot(number, &bad, record);
		ASSERT_EQ(THAW_EDAMAGED, at >= 16 && at < 24 ? THAW_EDAMAGED : quiet_verify())
		TH_LOG("%u", at);
		if (!image_open(&options, &image, &fallback, &error)) {
			model_compare(image, &model, &error);
			model_commit(image, &model, &error);
			image_close(image);
		}
		restore_image();
	}
	free(record);
	model_teardown();
}

/* The whole image again, and a copy of its newest record, for record_claim(). */
static struct disk_record *record_copy(void)
{
	struct disk_record *record;
	struct disk_slot slot;
	unsigned number;

	restore_image();
	slot = newest_slot(&number);
	record = malloc(slot.record_bytes);
	memcpy(record, whole + slot.record_offset, slot.record_bytes);
	return record;
}

/* The image has this record, with every checksum right. */
static void record_claim(struct disk_record *record)
{
	unsigned number;
	struct disk_slot slot = newest_slot(&number);

	fix_slot(number, &slot, record);
	free(record);
}

/* The newest generation claims a value in its entry of the record. */
static void claim(size_t field, uint64_t value, size_t size)
{
	struct disk_record *record = record_copy();

	memcpy((uint8_t *)&record->generation[2] + field, &value, size);
	record_claim(record);
}

/* However long it claims to be: refused before there is memory for it. */
TEST(a_state_longer_than_the_file)
{
	static const uint64_t claims[] = {1u << 20,	    64u << 20,	320u << 20,
					  (320u << 20) + 1, 1ull << 40, UINT64_MAX};
	struct image_options options = model_options();
	struct rlimit before, limit;
	struct image *image;
	size_t bytes;
	void *state;

	make_image("claims");
	ASSERT_EQ(0, getrlimit(RLIMIT_AS, &before));
	for (unsigned i = 0; i < 6; i++) {
		claim(offsetof(struct disk_generation, state_bytes), claims[i], 8);
		if (claims[i] > 320u << 20) { /* not even the record is believed */
			ASSERT_EQ(0, image_open(&options, &image, &fallback, &error));
			ASSERT_EQ(2, image_opened(image)->number);
			image_close(image);
			continue;
		}
		ASSERT_EQ(0, image_open(&options, &image, &fallback, &error));
		ASSERT_EQ(3, image_opened(image)->number);
		limit = before;
		limit.rlim_cur = 0;
		if (!SANITIZED)
			ASSERT_EQ(0, setrlimit(RLIMIT_AS, &limit));
		ASSERT_EQ(THAW_EDAMAGED, image_read_state(image, &state, &bytes, &error));
		ASSERT_EQ(0, setrlimit(RLIMIT_AS, &before));
		ASSERT_NE(NULL, strstr(error.text, "the file ends before it"));
		image_close(image);
		ASSERT_EQ(THAW_EDAMAGED, quiet_verify());
	}
	model_teardown();
}

/* A kind that does not exist is damage: who knows what may be done with it. */
TEST(a_kind_that_does_not_exist)
{
	static const uint32_t kinds[] = {2, 3, 0x80000000, UINT32_MAX};
	struct image_options options = model_options();
	struct image *image;

	make_image("kind");
	for (unsigned i = 0; i < 4; i++) {
		claim(offsetof(struct disk_generation, kind), kinds[i], 4);
		ASSERT_EQ(0, image_open(&options, &image, &fallback, &error));
		ASSERT_EQ(THAW_EDAMAGED, fallback.code);
		ASSERT_EQ(2, image_opened(image)->number);
		image_close(image);
		ASSERT_EQ(THAW_EDAMAGED, quiet_verify());
	}
	model_teardown();
}

/* Nobody descends from what came later, nor is anything portable that says that it is not. */
TEST(a_portable_one_that_cannot_be)
{
	static const struct {
		uint64_t kind, parent, portable;
		bool second_is_bound, right;
	} claims[] = {
		{THAW_KIND_PORTABLE, 2, 3, false, true},
		{THAW_KIND_PORTABLE, 2, 3, true, true},
		{THAW_KIND_PORTABLE, 2, 2, false, false},
		{THAW_KIND_PORTABLE, 2, 0, false, false},
		{THAW_KIND_PORTABLE, 2, 4, false, false},
		{THAW_KIND_BOUND, 2, 2, false, true},
		{THAW_KIND_BOUND, 2, 1, false, true},
		{THAW_KIND_BOUND, 2, 0, false, true},
		{THAW_KIND_BOUND, 0, 0, false, true},
		{THAW_KIND_BOUND, 2, 3, false, false},
		{THAW_KIND_BOUND, 2, 4, false, false},
		{THAW_KIND_BOUND, 2, UINT64_MAX, false, false},
		{THAW_KIND_BOUND, 1, 2, false, false},
		{THAW_KIND_BOUND, 0, 1, false, false},
		{THAW_KIND_BOUND, 2, 2, true, false},
		{THAW_KIND_BOUND, 2, 1, true, true},
	};
	struct image_options options = model_options();
	struct image *image;

	make_image("portable");
	for (unsigned i = 0; i < sizeof(claims) / sizeof(claims[0]); i++) {
		struct disk_record *record = record_copy();
		struct disk_generation *newest = &record->generation[2];

		newest->kind = claims[i].kind;
		newest->parent = newest->ancestor = claims[i].parent;
		newest->portable = claims[i].portable;
		if (claims[i].second_is_bound) {
			record->generation[1].kind = THAW_KIND_BOUND;
			record->generation[1].portable = 1;
		}
		record_claim(record);
		ASSERT_EQ(0, image_open(&options, &image, &fallback, &error));
		ASSERT_EQ(claims[i].right ? 0 : THAW_EDAMAGED, fallback.code) TH_LOG("%u", i);
		ASSERT_EQ(claims[i].right ? 3 : 2, image_opened(image)->number);
		image_close(image);
		/* One that claims to descend from nothing, and shares pages, is found out. */
		ASSERT_EQ(claims[i].right && claims[i].parent ? 0 : THAW_EDAMAGED, quiet_verify());
	}
	model_teardown();
}

/* It descends from what is listed and came before it, or from nothing. */
TEST(an_ancestor_that_cannot_be)
{
	static const struct {
		uint64_t parent, ancestor;
		bool right;
	} claims[] = {
		{2, 2, true},  {2, 1, true},  {2, 0, true},	      {1, 1, true},
		{1, 2, false}, {2, 3, false}, {2, UINT64_MAX, false}, {0, 1, false},
	};
	struct image_options options = model_options();
	struct image *image;

	make_image("ancestor");
	for (unsigned i = 0; i < sizeof(claims) / sizeof(claims[0]); i++) {
		struct disk_record *record = record_copy();

		record->generation[2].parent = claims[i].parent;
		record->generation[2].ancestor = claims[i].ancestor;
		record_claim(record);
		ASSERT_EQ(0, image_open(&options, &image, &fallback, &error));
		ASSERT_EQ(claims[i].right ? 3 : 2, image_opened(image)->number)
		TH_LOG("%u", i);
		image_close(image);
	}
	model_teardown();
}

TEST_HARNESS_MAIN
