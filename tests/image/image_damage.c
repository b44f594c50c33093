// SPDX-License-Identifier: GPL-2.0-only
/*
 * image_damage.c - whatever happens to the bytes of an image: what is read is right or refused,
 * never wrong; the generation before is found where there is one; verify tells; the next commit
 * harms nothing that is good.
 */
#include "kselftest_harness.h"

#include <sys/resource.h>

#include "image/format.h"
#include "image_model.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

static struct thaw_error error, fallback;
static struct history history;
static struct model model;
static uint8_t *whole; /* the image before it was damaged */
static uint64_t whole_bytes;

/* Three generations of about 60 pages, each changing some. */
static void make_image(const char *name)
{
	struct image_options options = model_options();
	struct image *image;
	int fd;

	model_setup(name);
	if (image_open(&options, &image, &fallback, &error))
		abort();
	for (unsigned generation = 1; generation <= 3; generation++) {
		for (unsigned i = generation; i < 60; i += generation)
			model.version[i * 9] = generation;
		model.state = generation * 10 + (generation * 10) % 3 + 1;
		if (model_commit(image, &model, &error))
			abort();
		history_add(&history, &model);
	}
	image_close(image);
	whole_bytes = model_file_bytes();
	whole = malloc(whole_bytes);
	fd = open(model_path, O_RDONLY);
	if (!whole || pread(fd, whole, whole_bytes, 0) != (ssize_t)whole_bytes)
		abort();
	close(fd);
}

static void restore_image(void)
{
	int fd = open(model_path, O_RDWR | O_TRUNC);

	if (pwrite(fd, whole, whole_bytes, 0) != (ssize_t)whole_bytes)
		abort();
	close(fd);
}

static void poke(uint64_t offset, const void *bytes, size_t count)
{
	int fd = open(model_path, O_RDWR);

	if (pwrite(fd, bytes, count, (off_t)offset) != (ssize_t)count)
		abort();
	close(fd);
}

static void flip(uint64_t offset, uint8_t mask)
{
	uint8_t byte;
	int fd = open(model_path, O_RDWR);

	if (pread(fd, &byte, 1, (off_t)offset) != 1)
		abort();
	byte ^= mask;
	if (pwrite(fd, &byte, 1, (off_t)offset) != 1)
		abort();
	close(fd);
}

/* Open as a program would, and compare with the generation that it got. -1: wrong data. */
static int open_and_compare(void)
{
	struct image_options options = model_options();
	const struct model *expected;
	enum compared compared;
	struct image *image;

	if (image_open(&options, &image, &fallback, &error))
		return error.code < 0 && error.text[0] ? 0 : -1;
	expected = history_find(&history, image_opened(image)->number);
	if (!expected) {
		image_close(image);
		return -1;
	}
	if (expected->number != 3 && !fallback.code)
		compared = WRONG;
	else
		compared = model_compare(image, expected, &error);
	image_close(image);
	return compared == WRONG ? -1 : 0;
}

static int quiet_verify(void)
{
	return thaw_image_verify(model_path, NULL, NULL, &error);
}

TEST(every_region_flipped)
{
	unsigned found = 0, harmless = 0;

	make_image("flip");
	for (uint64_t offset = 0; offset < whole_bytes;
	     offset += offset < 8192 ? 1 + offset / 256 : 211) {
		if (offset % 4096 >= 512 &&
		    offset < 8192) /* behind a slot's sector nothing means anything */
			offset = (offset / 4096 + 1) * 4096;
		flip(offset, (uint8_t)(1u << offset % 8));
		ASSERT_EQ(0, open_and_compare()) TH_LOG("byte %lu: %s", offset, error.text);
		if (quiet_verify())
			found++;
		else
			harmless++;
		flip(offset, (uint8_t)(1u << offset % 8));
	}
	TH_LOG("%u flips found, %u in free space", found, harmless);
	ASSERT_GE(found, harmless * 5);
	ASSERT_EQ(0, quiet_verify());
	model_teardown();
}

TEST(truncated_everywhere)
{
	make_image("truncate");
	for (uint64_t bytes = whole_bytes - 1;; bytes -= bytes % 4096 ? bytes % 4096 : 4096) {
		ASSERT_EQ(0, truncate(model_path, (off_t)bytes));
		if (bytes > 0) {
			ASSERT_EQ(0, open_and_compare()) TH_LOG("%lu bytes: %s", bytes, error.text);
			ASSERT_NE(0, quiet_verify()) TH_LOG("%lu bytes", bytes);
		}
		if (!bytes)
			break;
		if (bytes % 4096 == 4095)
			continue;
		restore_image();
	}
	model_teardown();
}

static struct disk_slot newest_slot(unsigned *number)
{
	struct disk_slot *slots[2] = {(void *)whole, (void *)(whole + 4096)};

	*number = slots[1]->sequence > slots[0]->sequence;
	return *slots[*number];
}

/* Fall back, and go on from there: the good slot survives, nothing that was good is overwritten. */
static int fall_back_and_go_on(void)
{
	struct image_options options = model_options();
	struct model expected = *history_find(&history, 2);
	struct image *image;
	uint64_t opened;

	if (image_open(&options, &image, &fallback, &error) || !fallback.code)
		return 1;
	opened = image_opened(image)->number;
	if (opened != 2 || model_compare(image, &expected, &error) != SAME)
		return 2;
	for (int i = 0; i < 4; i++) {
		struct model kept = expected;

		expected.version[i * 7] = 50 + i;
		expected.state++;
		if (model_commit(image, &expected, &error))
			return 3;
		if (expected.number <= 3 || image_newest(image)->parent != (i ? kept.number : 2))
			return 4;
		history_add(&history, &expected);
		image_close(image);
		if (image_open(&options, &image, &fallback, &error) || fallback.code)
			return 5;
		if (model_compare(image, &expected, &error) != SAME)
			return 6;
		if (i < 3) { /* generation 2 is retained and must be whole all the while */
			struct image_options old = {
				.path = model_path, .read_only = true, .generation = 2};
			struct image *reader;

			if (image_open(&old, &reader, NULL, &error))
				return 7;
			if (model_compare(reader, history_find(&history, 2), &error) != SAME)
				return 8;
			image_close(reader);
		}
	}
	image_close(image);
	return 0;
}

TEST(newest_slot_damaged)
{
	unsigned number;

	make_image("slot");
	newest_slot(&number);
	flip(number * 4096 + 100, 1);
	ASSERT_EQ(THAW_EDAMAGED, quiet_verify());
	ASSERT_EQ(0, fall_back_and_go_on()) TH_LOG("%s", error.text);
	ASSERT_EQ(0, quiet_verify()) TH_LOG("%s", error.text);
	model_teardown();
}

TEST(newest_record_damaged)
{
	unsigned number;

	make_image("record");
	flip(newest_slot(&number).record_offset + 40, 1);
	ASSERT_EQ(THAW_EDAMAGED, quiet_verify());
	ASSERT_EQ(0, fall_back_and_go_on()) TH_LOG("%s", error.text);
	ASSERT_EQ(0, quiet_verify()) TH_LOG("%s", error.text);
	model_teardown();
}

TEST(newest_root_damaged)
{
	struct disk_record *record;
	unsigned number;

	make_image("root");
	record = (void *)(whole + newest_slot(&number).record_offset);
	flip(record->generation[2].root_offset + 50, 1);
	ASSERT_EQ(THAW_EDAMAGED, quiet_verify());
	ASSERT_EQ(0, fall_back_and_go_on()) TH_LOG("%s", error.text);
	/* Generation 3 itself stays retained for a while, and damaged. */
	model_teardown();
}

/*
 * With a single generation retained, the one before is still whole while the other slot names it.
 */
TEST(only_generation_damaged)
{
	struct image_options options = model_options();
	struct image *image;
	struct disk_slot slot;
	struct disk_record *record;
	struct model before;
	unsigned number;

	model_setup("only");
	options.retain = 1;
	ASSERT_EQ(0, image_open(&options, &image, &fallback, &error));
	for (int i = 1; i <= 6; i++) {
		before = model;
		for (unsigned page = 0; page < MODEL_PAGES; page++)
			model.version[page] = i;
		ASSERT_EQ(0, model_commit(image, &model, &error));
	}
	whole_bytes = model_file_bytes();
	whole = malloc(whole_bytes);
	ASSERT_EQ(whole_bytes, pread(image_fd(image), whole, whole_bytes, 0));
	image_close(image);
	slot = newest_slot(&number);
	record = (void *)(whole + slot.record_offset);
	ASSERT_EQ(1, record->generations);
	flip(record->generation[0].root_offset + 50, 1);
	ASSERT_EQ(0, image_open(&options, &image, &fallback, &error)) TH_LOG("%s", error.text);
	ASSERT_NE(0, fallback.code);
	ASSERT_EQ(5, image_opened(image)->number);
	ASSERT_EQ(SAME, model_compare(image, &before, &error));
	ASSERT_EQ(0, model_commit(image, &model, &error));
	ASSERT_GE(image_newest(image)->number, 7);
	image_close(image);
	ASSERT_EQ(0, image_open(&options, &image, &fallback, &error));
	ASSERT_EQ(0, fallback.code);
	ASSERT_EQ(SAME, model_compare(image, &model, &error));
	image_close(image);
	ASSERT_EQ(0, quiet_verify());
	model_teardown();
}

/*
 * The first commit's slot damaged: an error, not an empty heap; unless an empty heap is asked for.
 */
TEST(first_slot_damaged)
{
	struct image_options options = model_options();
	struct image *image;

	model_setup("first");
	ASSERT_EQ(0, image_open(&options, &image, &fallback, &error));
	model.version[1] = 1;
	ASSERT_EQ(0, model_commit(image, &model, &error));
	image_close(image);
	flip(4096 + 30, 4);
	ASSERT_EQ(THAW_EDAMAGED, image_open(&options, &image, &fallback, &error));
	options.fresh = true;
	ASSERT_EQ(0, image_open(&options, &image, &fallback, &error));
	ASSERT_EQ(0, model_commit(image, &model, &error));
	ASSERT_GE(image_newest(image)->number, 2);
	image_close(image);
	options.fresh = false;
	ASSERT_EQ(0, image_open(&options, &image, &fallback, &error));
	ASSERT_EQ(SAME, model_compare(image, &model, &error));
	image_close(image);
	model_teardown();
}

static struct thaw_damage reported[8];
static unsigned reports;

static void remember_damage(void *arg, const struct thaw_damage *damage)
{
	(void)arg;
	if (reports < 8)
		reported[reports] = *damage;
	reports++;
}

static int stop_at_once(void *arg, uint64_t done, uint64_t total)
{
	(void)arg;
	return done <= total;
}

TEST(verify_names_the_place)
{
	const struct thaw_verify_ops ops = {.damage = remember_damage},
				     stop = {.progress = stop_at_once};
	struct extent extents[IMAGE_LEAF_PAGES];
	struct image_options options = {.path = NULL, .read_only = true};
	struct thaw_verify_summary summary;
	struct image *image;
	uint64_t offset;

	make_image("names");
	options.path = model_path;
	ASSERT_EQ(0, image_open(&options, &image, &fallback, &error));
	ASSERT_EQ(0, image_lookup(image, 16, extents, &error));
	image_close(image);
	offset = extents[27 - 16].offset; /* page 27 = 3 * 9: of generation 3 */
	ASSERT_EQ(3, extents[27 - 16].birth);
	flip(offset + 4095, 128);
	ASSERT_EQ(THAW_EDAMAGED, thaw_image_verify(model_path, &ops, &summary, &error));
	ASSERT_EQ(1, reports);
	ASSERT_EQ(3, reported[0].generation);
	ASSERT_EQ(27, reported[0].first_page);
	ASSERT_EQ(1, reported[0].pages);
	ASSERT_EQ(offset, reported[0].offset);
	ASSERT_EQ(1, summary.damages);
	ASSERT_EQ(3, summary.generations);
	ASSERT_EQ(-ECANCELED, thaw_image_verify(model_path, &stop, &summary, &error));
	model_teardown();
}

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

/* Of the portable ones, too, the newest that is whole; bound ones do not even need to be. */
TEST(newest_portable_root_damaged)
{
	static const char kinds[] = "PPBB";
	struct image_options options = model_options();
	struct disk_record *record;
	struct image *image;
	struct disk_slot slot;
	unsigned number;

	model_setup("portable");
	ASSERT_EQ(0, image_open(&options, &image, &fallback, &error));
	for (unsigned i = 0; i < 4; i++) {
		model.version[i * 100] = i + 1;
		model.kind = kinds[i] == 'B';
		ASSERT_EQ(0, model_commit(image, &model, &error));
		history_add(&history, &model);
	}
	whole_bytes = model_file_bytes();
	whole = malloc(whole_bytes);
	ASSERT_EQ(whole_bytes, pread(image_fd(image), whole, whole_bytes, 0));
	image_close(image);
	slot = newest_slot(&number);
	record = (void *)(whole + slot.record_offset);
	options.portable = true;

	flip(record->generation[3].root_offset + 50, 1);
	ASSERT_EQ(0, image_open(&options, &image, &fallback, &error));
	ASSERT_EQ(2, image_opened(image)->number);
	ASSERT_EQ(0, fallback.code);
	ASSERT_EQ(SAME, model_compare(image, history_find(&history, 2), &error));
	image_close(image);

	flip(record->generation[1].root_offset + 50, 1);
	ASSERT_EQ(0, image_open(&options, &image, &fallback, &error));
	ASSERT_EQ(1, image_opened(image)->number);
	ASSERT_EQ(THAW_EDAMAGED, fallback.code);
	ASSERT_EQ(SAME, model_compare(image, history_find(&history, 1), &error));
	image_close(image);

	flip(record->generation[0].root_offset + 50, 1);
	ASSERT_EQ(THAW_EDAMAGED, image_open(&options, &image, &fallback, &error));
	model_teardown();
}

static int commit_one(struct image *image, uint32_t kind)
{
	model.version[random_below(MODEL_PAGES)]++;
	model.kind = kind;
	return model_commit(image, &model, &error);
}

static void damage_root(uint64_t number)
{
	struct disk_slot slots[2];
	int fd = open(model_path, O_RDONLY);
	struct disk_record *record = malloc(65536);
	unsigned newest = 0;

	for (unsigned i = 0; i < 2; i++)
		if (pread(fd, &slots[i], sizeof(slots[i]), i * 4096) != sizeof(slots[i]))
			abort();
	newest = slots[1].sequence > slots[0].sequence;
	if (pread(fd, record, slots[newest].record_bytes, (off_t)slots[newest].record_offset) < 0)
		abort();
	close(fd);
	for (unsigned i = 0; i < record->generations; i++)
		if (record->generation[i].number == number)
			flip(record->generation[i].root_offset + 50, 1);
	free(record);
}

/* Before a damaged one comes what it descends from, be it in the other record; never another line. */
TEST(portable_roots_damaged_across_lines)
{
	struct image_options options = model_options();
	struct image *image;

	for (unsigned retain = 1; retain <= 5; retain += 4) {
		model_setup("lines");
		memset(&model, 0, sizeof(model));
		options.retain = retain;
		options.fresh = options.portable = false;
		ASSERT_EQ(0, image_open(&options, &image, &fallback, &error));
		ASSERT_EQ(0, commit_one(image, THAW_KIND_PORTABLE));
		ASSERT_EQ(0, commit_one(image, THAW_KIND_PORTABLE));
		image_close(image);
		options.portable = true;
		damage_root(2);
		ASSERT_EQ(0, image_open(&options, &image, &fallback, &error)) TH_LOG("%u", retain);
		ASSERT_EQ(1, image_opened(image)->number);
		ASSERT_EQ(THAW_EDAMAGED, fallback.code);
		image_close(image);

		options.portable = false;
		options.fresh = true;
		memset(&model, 0, sizeof(model));
		ASSERT_EQ(0, image_open(&options, &image, &fallback, &error));
		ASSERT_EQ(0, commit_one(image, THAW_KIND_PORTABLE));
		image_close(image);
		options.fresh = false;
		options.portable = true;
		damage_root(3);
		ASSERT_EQ(THAW_EDAMAGED, image_open(&options, &image, &fallback, &error));
		TH_LOG("%s", error.text);
		model_teardown();
	}
}

TEST_HARNESS_MAIN
