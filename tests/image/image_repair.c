// SPDX-License-Identifier: GPL-2.0-only
/*
 * image_repair.c - of a damaged image, every generation that is whole is saved, and no other; the
 * damaged file is left as it is.
 */
#include "kselftest_harness.h"

#include <pthread.h>
#include <stdatomic.h>

#include "copies.h"
#include "image/format.h"
#include "image/store.h"

static char *saved_path;
static struct thaw_copy_summary summary;
static uint8_t *whole; /* the image before it was damaged */
static size_t whole_bytes;

static struct { /* what repair told of each generation */
	uint64_t number;
	bool kept;
	struct thaw_damage cause;
	char names[200];
} told[128];
static unsigned told_count;

static void hear(void *arg, const struct thaw_salvage *salvage)
{
	(void)arg;
	if (told_count == 128)
		abort();
	told[told_count].number = salvage->generation.number;
	told[told_count].kept = salvage->kept;
	told[told_count].cause = salvage->cause;
	told[told_count].names[0] = '\0';
	for (unsigned i = 0; i < salvage->name_count; i++) {
		strcat(told[told_count].names, salvage->names[i].name);
		strcat(told[told_count].names, " ");
	}
	told_count++;
}

static int repair(void)
{
	const struct thaw_copy_ops ops = {.generation = hear};

	told_count = 0;
	unlink(saved_path);
	return thaw_image_repair(model_path, saved_path, &ops, &summary, &error);
}

static void repair_setup(const char *name)
{
	copies_image(name);
	saved_path = support_format("%s/saved.thaw", model_directory);
	whole = copies_read(model_path, &whole_bytes);
}

static void put_back(size_t bytes)
{
	int fd = open(model_path, O_RDWR | O_TRUNC);

	if (pwrite(fd, whole, bytes, 0) != (ssize_t)bytes || close(fd))
		abort();
}

static const struct disk_slot *slot_at(unsigned number)
{
	return (const void *)(whole + number * 4096);
}

static const struct disk_record *record_of(unsigned slot)
{
	return (const void *)(whole + slot_at(slot)->record_offset);
}

static unsigned newest_slot(void)
{
	return slot_at(1)->sequence > slot_at(0)->sequence;
}

static bool lies_in(uint64_t offset, uint64_t from, uint64_t bytes)
{
	return offset >= from && offset < from + bytes;
}

/* Is a generation of the record whole, by reading it like a program that goes on from it? */
static bool is_whole(uint64_t number)
{
	struct image_options options = {
		.path = model_path, .read_only = true, .page_bytes = PAGE, .generation = number};
	const struct model *expected = history_find(&history, number);
	struct image *image;
	bool same;

	if (image_open(&options, &image, &fallback, &error))
		return false;
	same = model_compare(image, expected, &error) == SAME;
	image_close(image);
	return same;
}

/*
 * What was told, against the record that had to be found: each generation in it is kept if it is whole.
 * 0, or the number of the generation that is not as it should be.
 */
static uint64_t told_wrong(const struct disk_record *record, bool all_whole)
{
	unsigned kept = 0;

	for (unsigned i = 0; i < record->generations; i++) {
		uint64_t number = record->generation[i].number;
		bool should = all_whole || is_whole(number), is = false, heard = false;

		for (unsigned n = 0; n < told_count; n++)
			if (told[n].number == number) {
				heard = true;
				is = told[n].kept;
				if (!is &&
				    (told[n].cause.generation != number || !told[n].cause.what[0]))
					return number;
			}
		if (!heard || is != should)
			return number;
		kept += is;
	}
	return kept == summary.generations ? 0 : UINT64_MAX;
}

/*
 * A byte of each region, in turn: pages, nodes, states, records, slots. What is kept is what does not
 * reach that byte.
 */
TEST(every_region_damaged_in_turn)
{
	unsigned lost = 0, intact = 0, newest;
	const struct disk_record *record, *older;

	repair_setup("regions");
	newest = newest_slot();
	record = record_of(newest);
	older = record_of(!newest);
	for (uint64_t offset = 0; offset < whole_bytes; offset += offset < 8192 ? 211 : 10007) {
		bool in_record = lies_in(offset, slot_at(newest)->record_offset,
					 slot_at(newest)->record_bytes);
		bool in_slot = lies_in(offset, newest * 4096, 512);
		uint64_t wrong;

		put_back(whole_bytes);
		support_flip(model_path, offset, (uint8_t)(1u << offset % 8));
		ASSERT_EQ(0, repair()) TH_LOG("offset %lu: %s", offset, error.text);
		wrong = told_wrong(in_record ? older : record, in_slot);
		ASSERT_EQ(0, wrong) TH_LOG("offset %lu: generation %lu", offset, wrong);
		ASSERT_EQ((int)summary.generations, copies_check(saved_path))
		TH_LOG("offset %lu", offset);
		lost += !!summary.generations_lost;
		intact += !summary.generations_lost;
	}
	TH_LOG("%u times something was lost, %u times nothing", lost, intact);
	ASSERT_LT(50, lost);
	ASSERT_LT(10, intact);
	model_teardown();
}

/* The records tell what there is, and even whose image it was. */
TEST(both_slots_destroyed)
{
	static const struct {
		unsigned from, bytes;
		int fill; /* -1: something */
	} damages[] = {{0, 8192, 0}, {0, 8192, 255}, {0, 8192, -1}, {100, 4096, 7}, {0, 4600, 0}};
	struct thaw_image_info one, other;
	unsigned newest;

	repair_setup("slots");
	newest = newest_slot();
	ASSERT_EQ(0, path_info(model_path, false, &one, &error));
	for (unsigned i = 0; i < sizeof(damages) / sizeof(damages[0]); i++) {
		int fd;

		put_back(whole_bytes);
		fd = open(model_path, O_RDWR);
		for (unsigned n = 0; n < damages[i].bytes; n++) {
			uint8_t byte =
				(uint8_t)(damages[i].fill < 0 ? random_next() : damages[i].fill);

			ASSERT_EQ(1, pwrite(fd, &byte, 1, damages[i].from + n));
		}
		close(fd);
		ASSERT_EQ(0, repair()) TH_LOG("%u: %s", i, error.text);
		ASSERT_EQ(record_of(newest)->generations, summary.generations);
		ASSERT_EQ(0, summary.generations_lost);
		ASSERT_EQ(4, summary.names);
		ASSERT_EQ((int)summary.generations, copies_check(saved_path));
		ASSERT_EQ(0, path_info(saved_path, false, &other, &error));
		ASSERT_EQ(0, memcmp(one.uuid, other.uuid, sizeof(one.uuid)));
		ASSERT_STREQ(one.engine, other.engine);
		ASSERT_EQ(one.page_bytes, other.page_bytes);
	}
	model_teardown();
}

/* The newest record is gone, too: the one before, which the file still has. */
TEST(both_slots_and_the_newest_record_destroyed)
{
	unsigned newest;
	uint64_t wrong;

	repair_setup("record");
	newest = newest_slot();
	put_back(whole_bytes);
	for (unsigned i = 0; i < 2; i++)
		support_flip(model_path, i * 4096 + 100, 1);
	support_flip(model_path, slot_at(newest)->record_offset + 300, 1);
	ASSERT_EQ(0, repair()) TH_LOG("%s", error.text);
	wrong = told_wrong(record_of(!newest), true);
	ASSERT_EQ(0, wrong);
	ASSERT_EQ((int)summary.generations, copies_check(saved_path));
	model_teardown();
}

TEST(truncated)
{
	unsigned saved = 0, nothing = 0;

	repair_setup("truncated");
	for (size_t bytes = whole_bytes - 1; bytes > 0; bytes -= bytes > 30011 ? 30011 : bytes) {
		int code;

		put_back(bytes);
		code = repair();
		if (code) {
			nothing++;
			ASSERT_EQ(THAW_EDAMAGED, code) TH_LOG("%lu: %s", bytes, error.text);
			ASSERT_EQ(-1, access(saved_path, F_OK));
			ASSERT_EQ(1, support_files(model_directory));
			continue;
		}
		saved++;
		ASSERT_EQ((int)summary.generations, copies_check(saved_path))
		TH_LOG("%lu bytes", bytes);
		for (unsigned i = 0; i < told_count; i++)
			if (!told[i].kept)
				ASSERT_EQ(false, is_whole(told[i].number));
	}
	TH_LOG("%u times something was saved, %u times nothing", saved, nothing);
	ASSERT_LT(0, saved);
	ASSERT_LT(0, nothing);
	model_teardown();
}

/* One generation is lost in the middle of its line: its names go, those above it descend anew. */
TEST(names_and_descent_are_told_anew)
{
	const struct disk_generation *fourth = NULL;
	const struct disk_record *record;
	struct thaw_generation *log;
	struct thaw_name *names;
	int count;

	repair_setup("names");
	record = record_of(newest_slot());
	for (unsigned i = 0; i < record->generations; i++)
		if (record->generation[i].number == 4)
			fourth = &record->generation[i];
	ASSERT_NE(NULL, fourth);
	support_flip(model_path, fourth->root_offset + 30, 1);
	ASSERT_EQ(0, repair()) TH_LOG("%s", error.text);
	ASSERT_EQ(1, summary.generations_lost);
	ASSERT_EQ(2, summary.names_lost);
	ASSERT_EQ(2, summary.names);
	for (unsigned i = 0; i < told_count; i++) {
		ASSERT_TRUE(!i || told[i].number > told[i - 1].number);
		ASSERT_EQ(told[i].number != 4, told[i].kept);
		if (told[i].number != 4)
			continue;
		ASSERT_STREQ("v1.0 v1.0-final ", told[i].names);
		ASSERT_STREQ("index node is damaged", told[i].cause.what);
		ASSERT_EQ(fourth->root_offset, told[i].cause.offset);
	}
	count = path_log(saved_path, &log, &error);
	ASSERT_EQ(record->generations - 1, count);
	for (int i = 0; i < count; i++) {
		ASSERT_NE(4, log[i].ancestor);
		if (log[i].parent == 4) {
			ASSERT_EQ(2, log[i].ancestor);
			if (log[i].kind == THAW_KIND_BOUND)
				ASSERT_GE(2, log[i].portable);
		}
	}
	ASSERT_EQ(2, path_names(saved_path, &names, &error));
	ASSERT_EQ(count, copies_check(saved_path));
	model_teardown();
}

/* The only generation of the newest record is damaged: it is told, and the one before is saved. */
TEST(what_the_slot_before_still_has)
{
	struct image_options options = model_options();
	const struct disk_record *record;
	struct image *image;

	model_setup("before");
	saved_path = support_format("%s/saved.thaw", model_directory);
	memset(&model, 0, sizeof(model));
	history.count = 0;
	options.retain = 1;
	ASSERT_EQ(0, image_open(&options, &image, &fallback, &error));
	for (unsigned i = 0; i < 4; i++)
		ASSERT_EQ(0, copies_change(image, THAW_KIND_PORTABLE, i == 2));
	image_close(image);
	whole = copies_read(model_path, &whole_bytes);
	record = record_of(newest_slot());
	ASSERT_EQ(1, record->generations);
	support_flip(model_path, record->generation[0].root_offset + 30, 1);
	ASSERT_EQ(0, repair()) TH_LOG("%s", error.text);
	ASSERT_EQ(1, summary.generations);
	ASSERT_EQ(3, summary.newest);
	ASSERT_EQ(1, summary.generations_lost);
	ASSERT_EQ(2, told_count);
	ASSERT_EQ(3, told[0].number);
	ASSERT_TRUE(told[0].kept);
	ASSERT_EQ(4, told[1].number);
	ASSERT_FALSE(told[1].kept);
	ASSERT_EQ(1, copies_check(saved_path));

	/* And the working set, which is not needed. */
	put_back(whole_bytes);
	support_flip(model_path, record->working_set_offset + 8, 1);
	ASSERT_EQ(0, repair());
	ASSERT_EQ(4, summary.newest);
	ASSERT_TRUE(summary.working_set_lost);
	ASSERT_EQ(1, copies_check(saved_path));
	model_teardown();
}

TEST(nothing_to_save)
{
	static const uint8_t zeros[4096];
	struct image_options options = model_options();
	struct image *image;
	char *text;
	int fd;

	model_setup("nothing");
	saved_path = support_format("%s/saved.thaw", model_directory);
	ASSERT_EQ(-ENOENT, repair());
	ASSERT_EQ(0, image_open(&options, &image, &fallback, &error));
	image_close(image);
	ASSERT_EQ(THAW_ENOGEN, repair());
	support_write(model_path, "");
	ASSERT_EQ(THAW_EFOREIGN, repair());
	support_write(model_path, "This is no image.\n");
	ASSERT_EQ(THAW_EFOREIGN, repair());
	fd = open(model_path, O_RDWR | O_TRUNC);
	for (unsigned i = 0; i < 300; i++)
		ASSERT_EQ(4096, write(fd, zeros, 4096));
	/* Records that begin everywhere, and are none. */
	for (unsigned i = 0; i < 300 * 16; i++) {
		struct disk_record record = {
			.magic = FORMAT_RECORD_MAGIC,
			.sequence = 7,
			.generations = 4096,
			.generation_bytes = sizeof(struct disk_generation),
			.names = i % 1000,
			.name_bytes = sizeof(struct disk_name),
			.page_bytes = 4096,
			.engine = "x",
		};

		ASSERT_EQ(sizeof(record), pwrite(fd, &record, sizeof(record), i * 256));
	}
	close(fd);
	ASSERT_EQ(THAW_EFOREIGN, repair());
	ASSERT_EQ(-EISDIR, thaw_image_repair(model_directory, saved_path, NULL, NULL, &error));
	text = support_format("%s/existing.thaw", model_directory);
	support_write(text, "mine");
	ASSERT_EQ(-EEXIST, thaw_image_repair(model_path, text, NULL, NULL, &error));
	ASSERT_EQ(-EEXIST, thaw_image_repair(model_path, model_path, NULL, NULL, &error));
	ASSERT_EQ(4, support_size(text));
	ASSERT_EQ(2, support_files(model_directory));
	model_teardown();
}

/* Checksums made right again over what an image must not claim. */
static void reseal(uint8_t *image, unsigned slot_number)
{
	struct disk_slot *slot = (void *)(image + slot_number * 4096);
	uint8_t *record = image + slot->record_offset;
	XXH128_hash_t hash = XXH3_128bits(record, slot->record_bytes - 16);

	memcpy(record + slot->record_bytes - 16, (uint64_t[]){hash.low64, hash.high64}, 16);
	hash = XXH3_128bits(record, slot->record_bytes);
	slot->record_checksum[0] = hash.low64;
	slot->record_checksum[1] = hash.high64;
	hash = XXH3_128bits(slot, offsetof(struct disk_slot, checksum));
	slot->checksum[0] = hash.low64;
	slot->checksum[1] = hash.high64;
}

/* Everything that is claimed is there, but so often that a copy of it would be longer than the file. */
TEST(states_that_are_claimed_again_and_again)
{
	static uint8_t state[4u << 20];
	struct image_options options = model_options();
	struct thaw_generation generation = {.heap_bytes = 65536};
	struct commit *commit;
	struct image *image;
	struct disk_record *record;
	unsigned newest;

	model_setup("again");
	saved_path = support_format("%s/saved.thaw", model_directory);
	ASSERT_EQ(0, image_open(&options, &image, &fallback, &error));
	for (unsigned i = 0; i < 5; i++) {
		generation.kind = THAW_KIND_PORTABLE;
		ASSERT_EQ(0, commit_begin(image, &commit, &error));
		ASSERT_EQ(0, commit_finish(commit, &generation, state, i == 4 ? sizeof(state) : 1,
					   &error));
	}
	image_close(image);
	whole = copies_read(model_path, &whole_bytes);
	newest = newest_slot();
	record = (void *)(whole + slot_at(newest)->record_offset);
	for (unsigned i = 0; i < 4; i++) {
		record->generation[i].state_offset = record->generation[4].state_offset;
		record->generation[i].state_bytes = record->generation[4].state_bytes;
		record->generation[i].state_checksum[0] = record->generation[4].state_checksum[0];
		record->generation[i].state_checksum[1] = record->generation[4].state_checksum[1];
	}
	reseal(whole, newest);
	put_back(whole_bytes);
	ASSERT_NE(0, repair());
	ASSERT_EQ(-1, access(saved_path, F_OK));
	ASSERT_EQ(THAW_EDAMAGED, thaw_image_compact(model_path, 0, NULL, NULL, &error));
	ASSERT_NE(NULL, strstr(error.text, "more than the file"));
	ASSERT_EQ(1, support_files(model_directory));
	model_teardown();
}

/* Somebody commits meanwhile, and keeps three: what is saved was one of his moments. */
TEST(while_a_writer_commits)
{
	struct runner runner = {0};
	unsigned repairs = 0, outrun = 0;
	pthread_t thread;

	model_setup("running");
	saved_path = support_format("%s/saved.thaw", model_directory);
	ASSERT_EQ(0, pthread_create(&thread, NULL, runner_run, &runner));
	while (runner.commits < 5 && !runner.code)
		usleep(1000);
	while (repairs < 40 && !runner.code) {
		int code = repair();

		outrun += code == -EAGAIN;
		ASSERT_TRUE(!code || code == -EAGAIN) TH_LOG("%s", error.text);
		ASSERT_EQ(0, summary.generations_lost);
		if (!code)
			ASSERT_LT(0, running_check(saved_path));
		repairs++;
	}
	runner.stop = true;
	pthread_join(thread, NULL);
	ASSERT_EQ(0, atomic_load(&runner.code));
	TH_LOG("%u repairs, %u of them too slow, of %lu commits", repairs, outrun,
	       (unsigned long)runner.commits);
	ASSERT_LT(outrun, 20);
	model_teardown();
}

TEST_HARNESS_MAIN
