// SPDX-License-Identifier: GPL-2.0-only
/*
 * image_keyed.c - images whose contents are authenticated: who has no key changes nothing that is read, and
 * who has it reads, copies and mends them as any other. The attacker can write to the file at will and
 * knows the format; he has older states of it, other images of the same user, and chooses pages.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include "image_forge.h"
#include "image/poly1305.h"
#include "image_model.h"

static uint8_t right_key[THAW_KEY_BYTES] = "thirty-two bytes of a user's key";
static uint8_t other_key[THAW_KEY_BYTES] = "thirty-two bytes of another's...";
static unsigned asked, made; /* how often the key was asked for, and that it be made */

static int give(void *arg, bool make, uint8_t key[THAW_KEY_BYTES], struct thaw_error *why)
{
	asked++;
	made += make;
	if (!arg) {
		why->code = -ENOKEY;
		snprintf(why->text, sizeof(why->text), "no key in the drawer");
		return -ENOKEY;
	}
	memcpy(key, arg, THAW_KEY_BYTES);
	return 0;
}

/* NULL: there is none. */
static void use_key(uint8_t *key)
{
	thaw_use_key(&(struct thaw_key_source){
		.get = give, .arg = key, .name = "the one in the drawer"});
}

FIXTURE(keyed)
{
	struct thaw_error error, fallback;
	struct image *image;
	struct model model;
	struct bytes before, now; /* the file after two generations, and after four */
};

static struct image_options keyed_options(void)
{
	struct image_options options = model_options();

	options.keyed = true;
	return options;
}

FIXTURE_SETUP(keyed)
{
	const struct image_options options = keyed_options();

	model_setup("keyed");
	use_key(right_key);
	self->model.state = 1;
	ASSERT_EQ(0, image_open(&(struct image_options){.path = model_path,
							.create = true,
							.keyed = true,
							.engine = options.engine,
							.page_bytes = PAGE,
							.retain = 5},
				&self->image, &self->fallback, &self->error))
	TH_LOG("%s", self->error.text);
	ASSERT_EQ(0, two_commits(self->image, &self->model, &self->error));
	self->before = file_bytes(model_path);
	ASSERT_EQ(0, two_commits(self->image, &self->model, &self->error));
	image_close(self->image);
	self->image = NULL;
	self->now = file_bytes(model_path);
}

FIXTURE_TEARDOWN(keyed)
{
	image_close(self->image);
	free(self->before.at);
	free(self->now.at);
	thaw_use_key(NULL);
	model_teardown();
}

/* ---- What becomes of it */

static int read_all(const struct model *model, struct thaw_error *error)
{
	const struct image_options options = keyed_options();

	return model_read_newest(&options, model, error);
}

static int written(const struct bytes *bytes, const struct model *model, struct thaw_error *error)
{
	file_write(model_path, bytes);
	return read_all(model, error);
}

TEST_F(keyed, is_read_with_its_key_and_says_so)
{
	struct thaw_image_info info;
	struct thaw_verify_summary summary;

	ASSERT_EQ(0, read_all(&self->model, &self->error));
	ASSERT_EQ(0, path_info(model_path, true, &info, &self->error));
	EXPECT_TRUE(info.keyed);
	EXPECT_EQ(4, info.generations);
	EXPECT_EQ(0, thaw_image_verify(model_path, NULL, &summary, &self->error));
	EXPECT_EQ(4, summary.generations);
	/* One key, whatever was done: made with the image, never afterwards. */
	EXPECT_EQ(1, asked);
	EXPECT_EQ(1, made);
}

TEST_F(keyed, is_refused_without_its_key_and_that_is_no_damage)
{
	struct thaw_error *error = &self->error;
	const struct image_options options = keyed_options();
	struct thaw_image *image;

	struct {
		uint8_t *key;
		const char *why;
	} keys[] = {{NULL, "no key in the drawer"}, {other_key, "another key than the one in the"}};

	for (unsigned i = 0; i < 2; i++) {
		char copy[256];

		use_key(keys[i].key);
		snprintf(copy, sizeof(copy), "%s/copy", model_directory);
		EXPECT_EQ(THAW_EKEY, image_open(&options, &self->image, &self->fallback, error));
		EXPECT_NE(NULL, strstr(error->text, keys[i].why)) TH_LOG("%s", error->text);
		EXPECT_EQ(THAW_EKEY, thaw_image_open(model_path, &image, error));
		EXPECT_EQ(THAW_EKEY, thaw_image_verify(model_path, NULL, NULL, error));
		EXPECT_EQ(THAW_EKEY, thaw_image_tag(model_path, "a", 0, 0, error));
		EXPECT_EQ(THAW_EKEY, thaw_image_rollback(model_path, 1, NULL, error));
		EXPECT_EQ(THAW_EKEY, thaw_image_compact(model_path, 0, NULL, NULL, error));
		EXPECT_EQ(THAW_EKEY, thaw_image_clone(model_path, copy, 0, NULL, NULL, error));
		EXPECT_EQ(THAW_EKEY, thaw_image_repair(model_path, copy, NULL, NULL, error));
		EXPECT_NE(NULL, strstr(error->text, keys[i].why)) TH_LOG("%s", error->text);
		EXPECT_NE(0, access(copy, F_OK));
	}
	thaw_use_key(NULL);
	EXPECT_EQ(THAW_EKEY, thaw_image_open(model_path, &image, error));
	EXPECT_NE(NULL, strstr(error->text, "thaw_use_key"));
	use_key(right_key);
	EXPECT_EQ(0, read_all(&self->model, error));
}

TEST_F(keyed, page_that_was_changed_is_noticed_whatever_is_recomputed)
{
	struct thaw_verify_summary summary;

	page_at(&self->now, 7)[1000] ^= 1;
	EXPECT_EQ(THAW_EDAMAGED, written(&self->now, &self->model, &self->error));
	EXPECT_EQ(THAW_EDAMAGED, thaw_image_verify(model_path, NULL, &summary, &self->error));
	EXPECT_EQ(1, summary.damages);
	fix_page(&self->now, 7);
	EXPECT_EQ(THAW_EDAMAGED, written(&self->now, &self->model, &self->error));
}

TEST_F(keyed, pages_that_are_exchanged_are_noticed)
{
	struct disk_entry *one = way_to(&self->now, 3).entry, *two = way_to(&self->now, 20).entry;
	uint8_t page[PAGE];
	struct disk_entry entry = *one;

	memcpy(page, page_at(&self->now, 3), PAGE);
	memcpy(page_at(&self->now, 3), page_at(&self->now, 20), PAGE);
	memcpy(page_at(&self->now, 20), page, PAGE);
	EXPECT_EQ(THAW_EDAMAGED, written(&self->now, &self->model, &self->error));
	/* With their entries, each of which is right: the leaves are not. */
	*one = *two;
	*two = entry;
	EXPECT_EQ(THAW_EDAMAGED, written(&self->now, &self->model, &self->error));
	fix_slot(&self->now, newest_slot(&self->now));
	EXPECT_EQ(THAW_EDAMAGED, written(&self->now, &self->model, &self->error));
}

TEST_F(keyed, parts_of_an_older_state_do_not_pass)
{
	struct bytes *now = &self->now, *before = &self->before;
	struct disk_generation *generation, old = *newest_generation(before);
	struct bytes saved = {malloc(now->count), now->count};

	memcpy(saved.at, now->at, now->count);
	/* A page, over the new one. */
	memcpy(page_at(now, 5), page_at(before, 5), PAGE);
	EXPECT_EQ(THAW_EDAMAGED, written(now, &self->model, &self->error));
	/* A leaf, to the pages of which it still leads, with its own MAC in its parent. */
	memcpy(now->at, saved.at, now->count);
	memcpy(way_to(now, 5).nodes[way_to(now, 5).depth - 1],
	       way_to(before, 5).nodes[way_to(before, 5).depth - 1], sizeof(struct disk_leaf));
	memcpy(way_to(now, 5).checksums[way_to(now, 5).depth - 1],
	       way_to(before, 5).checksums[way_to(before, 5).depth - 1], 16);
	EXPECT_EQ(THAW_EDAMAGED, written(now, &self->model, &self->error));
	/* The root, and the state, in the new record. */
	for (unsigned i = 0; i < 2; i++) {
		memcpy(now->at, saved.at, now->count);
		generation = newest_generation(now);
		if (i) {
			generation->root_offset = old.root_offset;
			generation->root_levels = old.root_levels;
			memcpy(generation->root_checksum, old.root_checksum, 16);
		} else {
			generation->state_offset = old.state_offset;
			generation->state_bytes = old.state_bytes;
			memcpy(generation->state_checksum, old.state_checksum, 16);
		}
		EXPECT_EQ(THAW_EDAMAGED, written(now, &self->model, &self->error));
		fix_slot(now, newest_slot(now));
		EXPECT_EQ(THAW_EDAMAGED, written(now, &self->model, &self->error));
	}
	/* The file as a whole, as it was, is another matter. */
	file_write(model_path, before);
	EXPECT_EQ(0, thaw_image_verify(model_path, NULL, NULL, &self->error));
	free(saved.at);
}

TEST_F(keyed, parts_of_another_image_of_the_same_user_do_not_pass)
{
	struct model model = {.state = 1};
	struct bytes other, *now = &self->now;
	struct disk_slot mine, *slot;
	struct image_options options = keyed_options();
	char path[sizeof(model_path)];

	memcpy(path, model_path, sizeof(path));
	snprintf(model_path, sizeof(model_path), "%.150s/other.thaw", model_directory);
	ASSERT_EQ(0, image_open(&options, &self->image, &self->fallback, &self->error));
	/* The same commits: the same contents at the same places. */
	ASSERT_EQ(0, two_commits(self->image, &model, &self->error));
	ASSERT_EQ(0, two_commits(self->image, &model, &self->error));
	image_close(self->image);
	self->image = NULL;
	other = file_bytes(model_path);
	memcpy(model_path, path, sizeof(path));
	ASSERT_EQ(now->count, other.count);
	slot = newest_slot(now);
	mine = *slot;
	ASSERT_EQ(mine.record_offset, newest_slot(&other)->record_offset);
	EXPECT_EQ(0, memcmp(page_at(now, 5), page_at(&other, 5), PAGE));
	/* Of what is the same, the MACs are not. */
	EXPECT_NE(0, memcmp(way_to(now, 5).entry->checksum, way_to(&other, 5).entry->checksum, 16));

	memcpy(now->at + mine.record_offset, newest_record(&other), mine.record_bytes);
	memcpy(slot->record_checksum, newest_slot(&other)->record_checksum, 16);
	plain(slot->checksum, slot, offsetof(struct disk_slot, checksum));
	EXPECT_EQ(THAW_EDAMAGED, written(now, &self->model, &self->error));
	memcpy(slot->uuid, newest_slot(&other)->uuid, sizeof(slot->uuid));
	plain(slot->checksum, slot, offsetof(struct disk_slot, checksum));
	EXPECT_EQ(THAW_EDAMAGED, written(now, &self->model, &self->error));
	/* Its slot: a record that is right, over a tree that is not. */
	*slot = *newest_slot(&other);
	EXPECT_EQ(THAW_EDAMAGED, written(now, &self->model, &self->error));
	free(other.at);
}

#define FORGED_GENERATIONS_LEAST 8u

/* So many generations and names make a record of a page's length. */
static unsigned forged_names(unsigned *generations)
{
	size_t left = 1;

	for (*generations = FORGED_GENERATIONS_LEAST; left; ++*generations) {
		left = PAGE - sizeof(struct disk_record) -
		       *generations * sizeof(struct disk_generation) - 16;
		if (left > PAGE)
			abort(); /* no numbers fit */
		if (left % sizeof(struct disk_name) == 0)
			break;
	}
	return left / sizeof(struct disk_name);
}

/* A record as the program in the image would write it into its memory; it knows all but keys. */
static void forge_record(uint8_t page[PAGE], const struct disk_record *like, uint64_t sequence)
{
	struct disk_record *record = (struct disk_record *)page;
	unsigned generations, count = forged_names(&generations);
	struct disk_name *names = (struct disk_name *)&record->generation[generations];

	memset(page, 0, PAGE);
	*record = *like;
	record->sequence = sequence;
	record->generations = generations;
	record->names = count;
	record->working_set_bytes = record->working_set_offset = 0;
	for (unsigned i = 0; i < generations; i++)
		record->generation[i] = (struct disk_generation){
			.number = i + 1, .portable = i + 1, .heap_bytes = 65536};
	for (unsigned i = 0; i < count; i++) {
		names[i].generation = 1;
		snprintf(names[i].name, sizeof(names[i].name), "name-%u", i);
	}
}

TEST_F(keyed, page_that_is_a_well_formed_record_is_none)
{
	struct image_options options = keyed_options();
	unsigned generations;
	uint64_t forged = self->model.number + 20;
	const struct checksum_key *key;
	struct disk_slot *slot;
	struct disk_entry entry;
	uint8_t page[PAGE];
	struct commit *commit;
	bool stored;

	forged_names(&generations);
	forge_record(page, newest_record(&self->now), forged);
	ASSERT_EQ(0, image_open(&options, &self->image, &self->fallback, &self->error));
	ASSERT_EQ(0, commit_begin(self->image, &commit, &self->error));
	ASSERT_EQ(0, commit_page(commit, 9, page, &stored, &self->error));
	ASSERT_EQ(0, model_finish(commit, &self->model, &self->error));
	free(self->now.at);
	self->now = file_bytes(model_path);
	key = image_key(self->image);
	image_close(self->image);
	self->image = NULL;
	entry = *way_to(&self->now, 9).entry;
	slot = slot_at(&self->now, forged % 2);

	*slot = *newest_slot(&self->now);
	slot->sequence = forged;
	slot->record_bytes = PAGE;
	slot->record_offset = (uint64_t)entry.offset * FORMAT_UNIT;
	/* With the MAC that stands in the page's entry: it is one of a page. */
	memcpy(slot->record_checksum, entry.checksum, 16);
	plain(slot->checksum, slot, offsetof(struct disk_slot, checksum));
	file_write(model_path, &self->now);
	EXPECT_EQ(THAW_EDAMAGED, read_all(&self->model, &self->error));
	/* It is that MAC alone which keeps it out. */
	{
		XXH128_hash_t sum = checksum_of(key, CHECKSUM_RECORD, page, PAGE);
		struct thaw_generation *log;

		memcpy(slot->record_checksum, &sum, sizeof(sum));
		plain(slot->checksum, slot, offsetof(struct disk_slot, checksum));
		file_write(model_path, &self->now);
		EXPECT_EQ(generations, path_log(model_path, &log, &self->error));
		free(log);
	}
}

TEST_F(keyed, image_whose_key_was_taken_away_is_readable_and_not_continued)
{
	struct image_options options = model_options();
	struct thaw_image_info info;
	char copy[256];

	snprintf(copy, sizeof(copy), "%s/copy", model_directory);
	take_the_key_away(&self->now);
	EXPECT_EQ(THAW_EKEY, written(&self->now, &self->model, &self->error));
	EXPECT_NE(NULL, strstr(self->error.text, "not authenticated"));
	options = keyed_options();
	options.fresh = true; /* nor is it gone on with from its beginning */
	EXPECT_EQ(THAW_EKEY, image_open(&options, &self->image, &self->fallback, &self->error));
	/* It is an image without a key in all respects, and so are its copies. */
	use_key(NULL);
	EXPECT_EQ(0, thaw_image_verify(model_path, NULL, NULL, &self->error))
	TH_LOG("%s", self->error.text);
	EXPECT_EQ(0, thaw_image_compact(model_path, 0, NULL, NULL, &self->error));
	EXPECT_EQ(0, thaw_image_repair(model_path, copy, NULL, NULL, &self->error));
	ASSERT_EQ(0, path_info(copy, false, &info, &self->error));
	EXPECT_FALSE(info.keyed);
	options = model_options();
	ASSERT_EQ(0, image_open(&options, &self->image, &self->fallback, &self->error));
	EXPECT_EQ(SAME, model_compare(self->image, &self->model, &self->error));
}

TEST_F(keyed, slot_without_a_key_beside_one_with_it_is_damaged)
{
	struct disk_slot *older =
		slot_at(&self->now, newest_slot(&self->now) == slot_at(&self->now, 0));
	struct disk_slot *newer = newest_slot(&self->now);
	struct disk_record *record = (struct disk_record *)(self->now.at + older->record_offset);
	struct image_options options = keyed_options();

	memset(older->key_salt, 0, 32);
	memset(record->key_salt, 0, 32);
	fix_slot(&self->now, older);
	file_write(model_path, &self->now);
	ASSERT_EQ(0, image_open(&options, &self->image, &self->fallback, &self->error));
	EXPECT_EQ(THAW_EDAMAGED, self->fallback.code);
	EXPECT_EQ(self->model.number, image_opened(self->image)->number);
	/* The next commit writes over it. */
	EXPECT_EQ(0, two_commits(self->image, &self->model, &self->error));
	image_close(self->image);
	self->image = NULL;
	EXPECT_EQ(0, read_all(&self->model, &self->error));

	/* Nor is it fallen back to. */
	newer->record_checksum[0] ^= 1;
	plain(newer->checksum, newer, offsetof(struct disk_slot, checksum));
	EXPECT_EQ(THAW_EDAMAGED, written(&self->now, &self->model, &self->error));
}

TEST_F(keyed, image_without_a_key_is_none_of_ours_and_the_other_way_round)
{
	struct image_options options = model_options();

	EXPECT_EQ(THAW_EKEY, image_open(&options, &self->image, &self->fallback, &self->error));
	EXPECT_NE(NULL, strstr(self->error.text, "images without"));
	use_key(NULL);
	snprintf(model_path, sizeof(model_path), "%.150s/other.thaw", model_directory);
	options = keyed_options();
	EXPECT_EQ(THAW_EKEY, image_open(&options, &self->image, &self->fallback, &self->error));
	EXPECT_NE(0, access(model_path, F_OK)); /* nothing is made without a key */
}

TEST_F(keyed, copies_and_what_is_whole_of_damaged_ones_are_keyed_as_well)
{
	struct thaw_copy_summary summary;
	struct thaw_image_info info;
	struct bytes damaged;
	char original[sizeof(model_path)];
	struct model before = self->model;

	memcpy(original, model_path, sizeof(original));
	snprintf(model_path, sizeof(model_path), "%.150s/clone.thaw", model_directory);
	ASSERT_EQ(0, thaw_image_clone(original, model_path, 0, NULL, NULL, &self->error));
	EXPECT_EQ(0, read_all(&self->model, &self->error));
	ASSERT_EQ(0, thaw_image_compact(model_path, 0, NULL, NULL, &self->error));
	EXPECT_EQ(0, read_all(&self->model, &self->error));
	EXPECT_EQ(0, thaw_image_verify(model_path, NULL, NULL, &self->error));

	/* Both slots lost: by the records that are found. */
	damaged = file_bytes(model_path);
	memset(damaged.at, 0, 2 * SPACE_BLOCK);
	file_write(original, &damaged);
	free(damaged.at);
	snprintf(model_path, sizeof(model_path), "%.150s/repaired.thaw", model_directory);
	use_key(other_key);
	EXPECT_EQ(THAW_EKEY, thaw_image_repair(original, model_path, NULL, &summary, &self->error));
	use_key(right_key);
	ASSERT_EQ(0, thaw_image_repair(original, model_path, NULL, &summary, &self->error))
	TH_LOG("%s", self->error.text);
	EXPECT_EQ(4, summary.generations);
	EXPECT_EQ(0, read_all(&self->model, &self->error));
	ASSERT_EQ(0, path_info(model_path, false, &info, &self->error));
	EXPECT_TRUE(info.keyed);
	ASSERT_EQ(0, thaw_image_rollback(model_path, self->model.number, NULL, &self->error));
	before.number++;
	EXPECT_EQ(0, thaw_image_verify(model_path, NULL, NULL, &self->error));
}

TEST_F(keyed, repair_believes_no_record_that_has_no_key_of_ours)
{
	/* A record in a page, as it would be found without slots: nothing of it is whole. */
	struct image_options options = keyed_options();
	char copy[256];
	struct commit *commit;
	uint8_t page[PAGE];
	struct thaw_copy_summary summary;
	bool stored;

	snprintf(copy, sizeof(copy), "%s/copy", model_directory);
	forge_record(page, newest_record(&self->now), self->model.number + 100);
	plain(page + PAGE - 16, page, PAGE - 16);
	ASSERT_EQ(0, image_open(&options, &self->image, &self->fallback, &self->error));
	ASSERT_EQ(0, commit_begin(self->image, &commit, &self->error));
	ASSERT_EQ(0, commit_page(commit, 9, page, &stored, &self->error));
	ASSERT_EQ(0, model_finish(commit, &self->model, &self->error));
	free(self->now.at);
	self->now = file_bytes(model_path);
	memset(self->now.at, 0, 2 * SPACE_BLOCK);
	file_write(model_path, &self->now);
	ASSERT_EQ(0, thaw_image_repair(model_path, copy, NULL, &summary, &self->error));
	EXPECT_EQ(self->model.number, summary.newest);
}

TEST_F(keyed, pages_that_are_moved_stay_what_they_were)
{
	struct image_options options = keyed_options();

	options.retain = 1;
	ASSERT_EQ(0, image_open(&options, &self->image, &self->fallback, &self->error));
	/* A long file, of which little stays. */
	for (unsigned round = 0; round < 24; round++) {
		struct commit *commit;
		uint64_t page[PAGE / 8];
		bool stored;

		ASSERT_EQ(0, commit_begin(self->image, &commit, &self->error));
		for (unsigned i = 0; i < (round < 4 ? 3000 : 0); i++) {
			model_fill(page, (1u << 22) + i, 1 + round);
			ASSERT_EQ(0,
				  commit_page(commit, (1u << 22) + i, page, &stored, &self->error));
		}
		for (unsigned i = 0; i < 3000 && round == 4; i++) {
			memset(page, 0, sizeof(page));
			ASSERT_EQ(0,
				  commit_page(commit, (1u << 22) + i, page, &stored, &self->error));
		}
		self->model.version[round]++;
		ASSERT_EQ(0, model_store(commit, &self->model, round, &self->error));
		ASSERT_EQ(0, model_finish(commit, &self->model, &self->error));
	}
	image_close(self->image);
	self->image = NULL;
	EXPECT_EQ(0, read_all(&self->model, &self->error));
	EXPECT_EQ(0, thaw_image_verify(model_path, NULL, NULL, &self->error));
}

/* ---- The MAC itself */

TEST_F(keyed, mac_is_the_same_for_bytes_in_parts_and_another_for_another_kind)
{
	struct image_options options = keyed_options();
	const struct checksum_key *key;
	static uint8_t bytes[10000];

	model_fill(bytes, 1, 1);
	ASSERT_EQ(0, image_open(&options, &self->image, &self->fallback, &self->error));
	key = image_key(self->image);
	ASSERT_NE(NULL, key);
	for (size_t part = 1; part < sizeof(bytes); part = part * 3 + 1) {
		XXH128_hash_t whole = checksum_of(key, CHECKSUM_STATE, bytes, sizeof(bytes));
		struct checksum_stream stream;

		ASSERT_EQ(0, checksum_begin(&stream, key, CHECKSUM_STATE));
		for (size_t at = 0; at < sizeof(bytes); at += part)
			checksum_add(&stream, bytes + at,
				     part < sizeof(bytes) - at ? part : sizeof(bytes) - at);
		ASSERT_TRUE(checksum_same(whole, checksum_end(&stream)));
	}
	for (unsigned kind = 0; kind < CHECKSUM_KINDS; kind++)
		for (unsigned other = 0; other < kind; other++)
			ASSERT_FALSE(checksum_same(checksum_of(key, kind, bytes, 99),
						   checksum_of(key, other, bytes, 99)));
	/* Bytes that are no more there count, zeros too. */
	ASSERT_FALSE(checksum_same(checksum_of(key, CHECKSUM_PAGE, bytes + 5000, 4096),
				   checksum_of(key, CHECKSUM_PAGE, bytes + 5000, 4095)));
}

/* Whoever computes it. */
TEST_F(keyed, mac_is_the_same_by_both_libraries)
{
	static uint8_t bytes[20000];
	uint8_t key[32], one[16], other[16];
	bool two = poly1305_hurry();

	model_fill(bytes, 1, 1);
	model_fill(bytes + PAGE, 2, 1);
	for (size_t count = 0; count < sizeof(bytes); count += 1 + count / 9) {
		memcpy(key, bytes + count / 2, sizeof(key));
		crypto_onetimeauth(one, bytes, count, key);
		poly1305(other, bytes, count, key);
		ASSERT_EQ(0, memcmp(one, other, 16)) TH_LOG("%zu bytes", count);
	}
	/* All bits set: where carries go furthest. */
	memset(bytes, 0xff, sizeof(bytes));
	memset(key, 0xff, sizeof(key));
	for (size_t count = 0; count < 300; count++) {
		crypto_onetimeauth(one, bytes, count, key);
		poly1305(other, bytes, count, key);
		ASSERT_EQ(0, memcmp(one, other, 16)) TH_LOG("%zu bytes", count);
	}
	if (!two)
		SKIP(return, "there is no libcrypto.so.3 here");
}

/* What another program would compute, and a later version has to. */
TEST_F(keyed, mac_is_what_the_format_says)
{
	const struct checksum_key *key;
	struct key_mark mark = {.salt = "a grain of salt"};
	uint8_t image[32], derived[32], hash[16], out[32];
	XXH128_hash_t sum;

	crypto_generichash_blake2b_salt_personal(image, 32, NULL, 0, right_key, 32, mark.salt,
						 (const uint8_t *)"thaw image keys");
	crypto_kdf_derive_from_key(mark.check, 16, 1, "thawchck", image);
	ASSERT_EQ(0, keys_find("here", &mark, &key, &self->error));
	crypto_kdf_derive_from_key(derived, 32, 2, "thawhash", image);
	crypto_onetimeauth(hash, (const uint8_t *)"what is to be authenticated", 27, derived);
	crypto_kdf_derive_from_key(derived, 32, 16 + CHECKSUM_NODE, "thawkind", image);
	crypto_core_hchacha20(out, hash, derived, NULL);
	sum = checksum_of(key, CHECKSUM_NODE, "what is to be authenticated", 27);
	EXPECT_EQ(0, memcmp(out, &sum, 16));
	mark.check[3] ^= 1;
	EXPECT_EQ(THAW_EKEY, keys_find("here", &mark, &key, &self->error));
	memset(&mark, 0, sizeof(mark));
	EXPECT_EQ(0, keys_find("here", &mark, &key, &self->error));
	EXPECT_EQ(NULL, key);
}

TEST_HARNESS_MAIN
