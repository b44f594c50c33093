// SPDX-License-Identifier: GPL-2.0-only
/*
 * image_damage.c - whatever happens to the bytes of an image: what is read is right or refused,
 * never wrong; the generation before is found where there is one; verify tells; the next commit
 * harms nothing that is good.
 */
#include "kselftest_harness.h"

#include "damaged_image.h"

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
