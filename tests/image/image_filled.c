// SPDX-License-Identifier: GPL-2.0-only
/*
 * image_filled.c - whoever reads an image of which all but the header is still elsewhere, by whatever command, finds it whole, since
 * each block is asked for before it is read; and who cannot have a block is told so, and takes nothing else for it.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include "fill.h"
#include "filled.h"
#include "image/mirror.h"
#include "image/handle.h"
#include "image/reachability.h"
#include "image_model.h"
#include "sys.h"
#include "thaw_frozen.h"

FIXTURE(filled)
{
	struct thaw_error error, fallback;
	struct history history;
	struct model model;
	struct filled filled;
	char *other;
};

/* One generation more, into the log if it takes it. */
static int generation_make(struct image *image, struct model *model, unsigned first,
			   struct thaw_error *error)
{
	struct thaw_generation generation = {.heap_bytes = 1 << 20, .reason = THAW_REASON_REQUEST};
	static uint8_t state[9000];
	struct commit *commit;
	int code = commit_begin(image, &commit, error);

	model->state += 3; /* as long as before */
	for (unsigned i = first; !code && i < first + 4; i++) {
		model->version[i]++;
		code = model_store(commit, model, i, error);
	}
	model_fill_state(state, model->state);
	if (!code)
		code = commit_log(commit, &generation, state, model_state_bytes(model->state),
				  error);
	if (code > 0)
		code = commit_finish(commit, &generation, state, model_state_bytes(model->state),
				     error);
	model->number = model->portable = generation.number;
	return code;
}

/* Some generations that are listed, some in the log alone, a name, a working set. */
FIXTURE_SETUP(filled)
{
	uint64_t set[] = {0, 64}, newest = 0;
	struct image_options options = model_options();
	struct image *image;

	model_setup("filled");
	self->other = support_format("%s/other.thaw", model_directory);
	options.compress = THAW_COMPRESS_LZ4;
	ASSERT_EQ(0, image_open(&options, &image, &self->fallback, &self->error));
	self->model.state = 1;
	for (unsigned n = 0; n < 4; n++) {
		for (unsigned i = n * 40; i < MODEL_PAGES; i++)
			self->model.version[i]++;
		ASSERT_EQ(0, model_commit(image, &self->model, &self->error));
		history_add(&self->history, &self->model);
	}
	ASSERT_EQ(0, image_tag(image, "name", &newest, 0, &self->error));
	{
		struct thaw_generation generation = {.heap_bytes = 1 << 20};
		struct commit *commit;

		ASSERT_EQ(0, commit_begin(image, &commit, &self->error));
		ASSERT_EQ(0, commit_working_set(commit, set, 2, self->model.number, &self->error));
		self->model.state = 0;
		ASSERT_EQ(0, commit_finish(commit, &generation, NULL, 0, &self->error));
		self->model.number = self->model.portable = generation.number;
		history_add(&self->history, &self->model);
	}
	wants_log(image);
	self->model.state = 1;
	for (unsigned n = 0; n < 4; n++) {
		ASSERT_EQ(0, generation_make(image, &self->model, 7 + 31 * n, &self->error));
		history_add(&self->history, &self->model);
	}
	ASSERT_TRUE(log_pending(image));
	image_close(image);
	filled_make(&self->filled, model_path, false);
}
FIXTURE_TEARDOWN(filled)
{
	filled_end(&self->filled);
	free(self->other);
	model_teardown();
}

/* All generations of that image are what they were. */
static int compare_at(FIXTURE_DATA(filled) * self, const char *path)
{
	char before[sizeof(model_path)];
	int count;

	strcpy(before, model_path);
	strcpy(model_path, path);
	count = history_compare(&self->history);
	if (count > 0 && model_verify())
		count = -1;
	strcpy(model_path, before);
	return count;
}

TEST_F(filled, readers_find_all_of_it)
{
	ASSERT_EQ(5, compare_at(self, model_path));
	ASSERT_LT(20, self->filled.brought);
	ASSERT_EQ(0, self->filled.written);
}

TEST_F(filled, a_view_brings_what_it_shows)
{
	struct thaw_image *image;
	struct thaw_view *view;
	uint64_t page[PAGE / 8], wanted[PAGE / 8], before;

	ASSERT_EQ(0, thaw_image_open(model_path, &image, &self->error));
	ASSERT_EQ(0, thaw_view_open(image, 0, &view, &self->error)) TH_LOG("%s", self->error.text);
	before = self->filled.brought;
	ASSERT_GT(20, before);
	ASSERT_EQ(0, thaw_view_read(view, 50 * PAGE, page, PAGE, &self->error));
	model_fill(wanted, 50, self->history.kept[4].version[50]);
	ASSERT_EQ(0, memcmp(page, wanted, PAGE));
	ASSERT_LT(before, self->filled.brought);
	thaw_view_close(view);
	thaw_image_close(image);
}

TEST_F(filled, who_opens_it_goes_on_from_its_log)
{
	struct image_options options = model_options();
	struct image *image;

	ASSERT_EQ(0, image_open(&options, &image, &self->fallback, &self->error));
	ASSERT_EQ(0, self->fallback.code);
	ASSERT_EQ(self->model.number, image_opened(image)->number);
	ASSERT_EQ(SAME, model_compare(image, &self->model, &self->error));
	for (unsigned n = 0; n < 12; n++) {
		for (unsigned i = n * 20; i < n * 20 + 300; i++)
			self->model.version[i]++;
		ASSERT_EQ(0, model_commit(image, &self->model, &self->error));
		history_add(&self->history, &self->model);
	}
	image_close(image);
	/* What was written has not been overwritten by what came after it. */
	ASSERT_LT(0, self->filled.written);
	filled_complete(&self->filled);
	ASSERT_LE(5, compare_at(self, model_path));
}

TEST_F(filled, a_clone_is_whole)
{
	ASSERT_EQ(0, thaw_image_clone(model_path, self->other, 0, NULL, NULL, &self->error))
	TH_LOG("%s", self->error.text);
	ASSERT_LE(5, compare_at(self, self->other));
	ASSERT_EQ(self->filled.blocks - 2, self->filled.brought);
}

/* What is missing is a hole, and is looked through for a record all the same, if the header leads to none. */
TEST_F(filled, a_record_is_found_in_what_is_missing)
{
	struct thaw_copy_summary summary;
	char header[2 * SPACE_BLOCK];

	memset(header, 0xdb, sizeof(header));
	ASSERT_EQ(0, fallocate(self->filled.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			       sizeof(header), (off_t)((self->filled.blocks - 2) * SPACE_BLOCK)));
	ASSERT_EQ(sizeof(header), pwrite(self->filled.fd, header, sizeof(header), 0));
	ASSERT_EQ(0, thaw_image_repair(model_path, self->other, NULL, &summary, &self->error))
	TH_LOG("%s", self->error.text);
	ASSERT_LE(5, compare_at(self, self->other));
}

TEST_F(filled, a_repaired_one_is_whole)
{
	ASSERT_EQ(0, thaw_image_repair(model_path, self->other, NULL, NULL, &self->error))
	TH_LOG("%s", self->error.text);
	ASSERT_LE(5, compare_at(self, self->other));
}

TEST_F(filled, it_can_be_compacted)
{
	ASSERT_EQ(0, thaw_image_compact(model_path, 0, NULL, NULL, &self->error))
	TH_LOG("%s", self->error.text);
	ASSERT_LE(5,
		  compare_at(self, model_path)); /* another file by now, and all of it is there */
}

TEST_F(filled, names_are_given)
{
	ASSERT_EQ(0, thaw_image_tag(model_path, "other", 0, 0, &self->error))
	TH_LOG("%s", self->error.text);
	ASSERT_LE(6, compare_at(self, model_path));
}

TEST_F(filled, a_generation_in_memory_is_right)
{
	uint64_t page[PAGE / 8], wanted[PAGE / 8];
	struct thaw_frozen *frozen;

	ASSERT_EQ(0, thaw_frozen_open(model_path, NULL, &frozen, NULL, &self->error))
	TH_LOG("%s", self->error.text);
	for (unsigned i = 0; i < 256; i++) {
		ASSERT_EQ(0, thaw_frozen_read(frozen, i * PAGE, page, PAGE, &self->error));
		model_fill(wanted, i,
			   history_find(&self->history, thaw_frozen_generation(frozen)->number)
				   ->version[i]);
		ASSERT_EQ(0, memcmp(page, wanted, PAGE));
	}
	thaw_frozen_drop(frozen);
}

TEST_F(filled, a_mirror_has_what_is_missing)
{
	struct thaw_mirror *mirror;
	struct thaw_take *take;
	uint8_t block[SPACE_BLOCK];

	ASSERT_EQ(0, thaw_mirror_open_file(model_path, &mirror, &self->error));
	ASSERT_EQ(0, thaw_mirror_take(mirror, &take, &self->error));
	for (uint64_t at = 2; at < self->filled.blocks - 1; at += 13) {
		ASSERT_EQ(0, thaw_mirror_read(take, at * SPACE_BLOCK, block, SPACE_BLOCK));
		ASSERT_EQ(0, memcmp(block, self->filled.bytes + at * SPACE_BLOCK, SPACE_BLOCK));
	}
	thaw_mirror_done(take, true);
	thaw_mirror_close(mirror);
}

static int note_nodes(void *arg, uint64_t offset, uint64_t bytes)
{
	struct filled *filled = arg;

	for (uint64_t at = offset / SPACE_BLOCK; at * SPACE_BLOCK < offset + bytes; at++)
		if (!filled->there[at])
			filled_bring(filled, at);
	return 0;
}

/* So who brings all that is told has waited once for each level, and pages are found then without anything more. */
TEST_F(filled, nodes_are_told_before_they_are_read)
{
	const struct image_options options = {.path = model_path, .read_only = true};
	struct thaw_image *image;
	const struct slot *other;
	struct image *opened;

	ASSERT_EQ(0, thaw_image_open(model_path, &image, &self->error));
	other = &image->slots[!image->slot];
	ASSERT_EQ(0, filled_need(&self->filled, other->record_offset, other->record_bytes));
	self->filled.shut = true; /* whoever asks waits for ever */
	ASSERT_EQ(0, thaw_image_nodes(image, note_nodes, &self->filled, &self->error))
	TH_LOG("%s", self->error.text);
	thaw_image_close(image);
	ASSERT_GT(self->filled.blocks / 2, self->filled.brought);
	ASSERT_EQ(0, image_open(&options, &opened, &self->fallback, &self->error));
	for (unsigned i = 0; i < MODEL_PAGES; i++) {
		struct extent extents[IMAGE_LEAF_PAGES];

		ASSERT_EQ(0,
			  image_lookup(opened, model_page(i) / IMAGE_LEAF_PAGES * IMAGE_LEAF_PAGES,
				       extents, &self->error));
		ASSERT_TRUE(extent_is_stored(&extents[model_page(i) % IMAGE_LEAF_PAGES]));
	}
	image_close(opened);
}

/* Nor has the first commit to wait for any, which walks all generations. */
TEST_F(filled, nodes_of_all_generations_are_told)
{
	const struct image_options options = {.path = model_path, .retain_all = true};
	struct thaw_image *image;
	struct image *opened;
	uint64_t before;

	ASSERT_EQ(0, image_open(&options, &opened, &self->fallback, &self->error));
	ASSERT_EQ(0, thaw_image_open(model_path, &image, &self->error));
	ASSERT_EQ(0, thaw_image_nodes(image, note_nodes, &self->filled, &self->error));
	thaw_image_close(image);
	before = self->filled.brought;
	ASSERT_EQ(0, reachability_find_all(opened, &self->error));
	/* The other slot's record, and what the walk reads besides nodes, of the blocks around them. */
	ASSERT_GT(before + 8, self->filled.brought);
	image_close(opened);
}

/* Each block in turn is the one that does not come: nobody finds damage, nor anything wrong. */
TEST_F(filled, what_does_not_come_is_an_error_and_no_damage)
{
	self->filled.code = -EHOSTUNREACH;
	for (uint64_t from = 2; from < self->filled.blocks; from += self->filled.blocks / 23) {
		struct image_options options = model_options();
		struct image *image;
		int code;

		self->filled.fails_from = from;
		code = image_open(&options, &image, &self->fallback, &self->error);
		if (code) {
			ASSERT_EQ(-EHOSTUNREACH, code) TH_LOG("%s", self->error.text);
			continue;
		}
		ASSERT_EQ(0, self->fallback.code) TH_LOG("%s", self->fallback.text);
		ASSERT_NE(WRONG, model_compare(image, &self->model, &self->error));
		image_close(image);
	}
	self->filled.fails_from = UINT64_MAX;
	ASSERT_LE(5, compare_at(self, model_path));
}

TEST_F(filled, only_one_brings_what_is_missing)
{
	struct thaw_fill *fill;

	ASSERT_EQ(-EEXIST, thaw_fill_attach(model_path, &filled_ops, NULL, &fill, &self->error));
	ASSERT_EQ(-ENOENT, thaw_fill_attach(self->other, &filled_ops, NULL, &fill, &self->error));
}

/* What is written, given up or cut off must not be put over by what comes later. */
TEST_F(filled, what_changes_is_told_before)
{
	struct filled *filled = &self->filled;
	char block[SPACE_BLOCK] = "";

	ASSERT_LT(40, filled->blocks);
	ASSERT_EQ(0, sys_pwrite(filled->fd, block, SPACE_BLOCK, 9 * SPACE_BLOCK));
	ASSERT_EQ(0, sys_punch(filled->fd, 10 * SPACE_BLOCK, 4 * SPACE_BLOCK));
	ASSERT_EQ(0, sys_truncate(filled->fd, 30 * SPACE_BLOCK));
	for (uint64_t at = 0; at < filled->blocks; at++)
		ASSERT_EQ(at < 2 || (at >= 9 && at < 14) || at >= 30, filled->there[at]);
}

/* ---- the end of it */

struct reader {
	pthread_t thread;
	struct filled *filled;
	int code;
	_Atomic bool left;
};

static void *read_block(void *arg)
{
	struct reader *reader = arg;
	char block[FILLED_BLOCK];

	reader->code = sys_pread(reader->filled->fd, block, sizeof(block), 5 * FILLED_BLOCK);
	return NULL;
}

static void *detach(void *arg)
{
	struct reader *reader = arg;

	thaw_fill_detach(reader->filled->fill);
	reader->left = true;
	return NULL;
}

TEST_F(filled, who_detaches_waits_for_the_calls_under_way)
{
	struct reader one = {.filled = &self->filled}, two = {.filled = &self->filled};
	struct filled *filled = &self->filled;

	filled->shut = true;
	ASSERT_EQ(0, pthread_create(&one.thread, NULL, read_block, &one));
	filled_await(filled, 1);
	ASSERT_EQ(0, pthread_create(&two.thread, NULL, detach, &two));
	while (fill_is_of(filled->fd)) /* it has left the list, and waits */
		usleep(1000);
	ASSERT_FALSE(two.left);
	filled_open(filled); /* whoever blocks it makes it come back */
	ASSERT_EQ(0, pthread_join(one.thread, NULL));
	ASSERT_EQ(0, pthread_join(two.thread, NULL));
	ASSERT_EQ(0, one.code);
	ASSERT_TRUE(two.left);
	filled->fill = NULL;
}

TEST_HARNESS_MAIN
