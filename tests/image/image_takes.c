// SPDX-License-Identifier: GPL-2.0-only
/*
 * image_takes.c - what a mirror tells: when there is something new, what a take is of, that it was read too late, that somebody else
 * has written into the file; and which blocks a restore reads first, of which alone such a restore is made.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <poll.h>

#include "image_copy.h"

FIXTURE(takes)
{
	struct thaw_error error, fallback;
	struct image *image;
	struct thaw_mirror *mirror;
	struct model model;
	struct copy copy;
};

FIXTURE_SETUP(takes)
{
	model_setup("takes");
	copy_begin(&self->copy);
}
FIXTURE_TEARDOWN(takes)
{
	copy_end(&self->copy);
	if (self->mirror)
		mirror_close(self->mirror);
	image_close(self->image);
	made_clear();
	model_teardown();
}

static int open_image(FIXTURE_DATA(takes) * self)
{
	struct image_options options = model_options();
	int code = image_open(&options, &self->image, &self->fallback, &self->error);

	if (code)
		self->image = NULL;
	return code;
}

static int open_both(FIXTURE_DATA(takes) * self, uint64_t hold_bytes)
{
	int code = open_image(self);

	return code ? code : mirror_open(self->image, hold_bytes, &self->mirror, &self->error);
}

TEST_F(takes, a_take_that_is_read_too_late_is_stale_and_comes_again)
{
	uint64_t newest;

	ASSERT_EQ(0, open_both(self, 0));
	ASSERT_EQ(0, commit_pages(self->image, &self->model, 0, 400, &self->error));
	self->image->held_most = 64 << 10;
	ASSERT_EQ(0, copy_take(&self->copy, self->mirror, &self->error));
	ASSERT_EQ(0, copy_read(&self->copy, 100));
	for (unsigned i = 0; i < 8; i++)
		ASSERT_EQ(0, commit_pages(self->image, &self->model, 0, 400, &self->error));
	ASSERT_EQ(-ESTALE, thaw_mirror_check(self->copy.take));
	ASSERT_EQ(-ESTALE, copy_read(&self->copy, 100));
	copy_done(&self->copy, true); /* which it is not, for that */

	newest = self->model.number;
	ASSERT_EQ(0, copy_take(&self->copy, self->mirror, &self->error));
	copy_names(&self->copy, self->image);
	ASSERT_EQ(1, copy_read(&self->copy, UINT64_MAX));
	copy_put(&self->copy);
	ASSERT_TRUE(copy_is(&self->copy, newest, &self->error));
	copy_done(&self->copy, true);

	/* With room for it, it waits. */
	self->mirror->hold_bytes = 64 << 20;
	ASSERT_EQ(0, commit_pages(self->image, &self->model, 0, 400, &self->error));
	newest = self->model.number;
	ASSERT_EQ(0, copy_take(&self->copy, self->mirror, &self->error));
	for (unsigned i = 0; i < 8; i++)
		ASSERT_EQ(0, commit_pages(self->image, &self->model, 0, 400, &self->error));
	ASSERT_EQ(1, copy_read(&self->copy, UINT64_MAX));
	copy_put(&self->copy);
	ASSERT_TRUE(copy_is(&self->copy, newest, &self->error));
	copy_done(&self->copy, true);
	/* And what was held back for it is free again. */
	for (unsigned i = 0; i < 2; i++)
		ASSERT_EQ(0, commit_pages(self->image, &self->model, 0, 1, &self->error));
	ASSERT_EQ(0, ranges_bytes(&self->image->held));
}

TEST_F(takes, news_are_generations_and_names)
{
	struct thaw_mirror_news news;
	struct pollfd poll_;
	uint64_t newest = 0, value;

	ASSERT_EQ(0, open_both(self, 0));
	poll_ = (struct pollfd){.fd = thaw_mirror_fd(self->mirror), .events = POLLIN};
	ASSERT_EQ(0, thaw_mirror_wait(self->mirror, 0, 0, &news));
	ASSERT_EQ(0, news.generation);
	ASSERT_EQ(0, poll(&poll_, 1, 0));
	wants_log(self->image);
	for (unsigned i = 1; i <= 4; i++) { /* the last ones in the log alone */
		ASSERT_EQ(0, commit_pages(self->image, &self->model, 0, 3, &self->error));
		ASSERT_EQ(1, thaw_mirror_wait(self->mirror, i - 1, -1, &news));
		ASSERT_EQ(i, news.changes);
		ASSERT_EQ(self->model.number, news.generation);
	}
	ASSERT_EQ(1, poll(&poll_, 1, 0));
	ASSERT_EQ(8, read(poll_.fd, &value, 8));
	ASSERT_TRUE(image_log_began(self->image));
	ASSERT_EQ(0, image_fold(self->image, &self->error));
	ASSERT_EQ(0, thaw_mirror_wait(self->mirror, news.changes, 1, NULL));
	ASSERT_EQ(0, poll(&poll_, 1, 0));
	ASSERT_EQ(0, image_tag(self->image, "name", &newest, 0, &self->error));
	ASSERT_EQ(1, thaw_mirror_wait(self->mirror, news.changes, -1, &news));
	ASSERT_EQ(5, news.changes);
	ASSERT_EQ(self->model.number, news.generation);
	thaw_mirror_wake(self->mirror);
	ASSERT_EQ(-EINTR, thaw_mirror_wait(self->mirror, news.changes, -1, NULL));
	ASSERT_EQ(0, thaw_mirror_wait(self->mirror, news.changes, 0, NULL));

	ASSERT_EQ(0, copy_take(&self->copy, self->mirror, &self->error));
	ASSERT_EQ(5, thaw_mirror_info(self->copy.take)->news.changes);
	ASSERT_EQ(self->image->identity.sequence, thaw_mirror_info(self->copy.take)->news.commit);
	ASSERT_STREQ(ENGINE, thaw_mirror_info(self->copy.take)->engine);
	ASSERT_EQ(PAGE, thaw_mirror_info(self->copy.take)->page_bytes);
	{
		struct thaw_take *other;

		ASSERT_EQ(-EBUSY, thaw_mirror_take(self->mirror, &other, &self->error));
	}
}

/* What is in the copy already is not taken; but what was written since it was compared is. */
TEST_F(takes, what_the_copy_has_is_not_taken)
{
	struct thaw_take *take;
	uint64_t first, blocks;

	ASSERT_EQ(0, open_image(self));
	ASSERT_EQ(0, commit_pages(self->image, &self->model, 0, 400, &self->error));
	ASSERT_EQ(0, mirror_open(self->image, 0, &self->mirror, &self->error));
	blocks = model_file_bytes() / SPACE_BLOCK;
	ASSERT_EQ(0, commit_pages(self->image, &self->model, 0, 2, &self->error));
	ASSERT_EQ(0, thaw_mirror_clean(self->mirror, 0, UINT64_MAX)); /* all there can be */
	ASSERT_EQ(0, thaw_mirror_take(self->mirror, &take, &self->error));
	ASSERT_LT(2, thaw_mirror_info(take)->dirty_blocks);
	ASSERT_GT(20, thaw_mirror_info(take)->dirty_blocks);
	ASSERT_EQ(-EBUSY, thaw_mirror_clean(self->mirror, 0, 1));
	thaw_mirror_done(take, true);

	/* All that is nothing's is told to be free by now, and is not taken for being named. */
	first = blocks - 50;
	ASSERT_EQ(0, thaw_mirror_dirty(self->mirror, first, 1000));
	ASSERT_EQ(0, thaw_mirror_take(self->mirror, &take, &self->error));
	ASSERT_EQ(2, thaw_mirror_info(take)->dirty[0].count);
	ASSERT_EQ(2, thaw_mirror_info(take)->dirty_count);
	ASSERT_EQ(first, thaw_mirror_info(take)->dirty[1].first);
	thaw_mirror_done(take, true);
	ASSERT_EQ(0, thaw_mirror_take(self->mirror, &take, &self->error));
	ASSERT_EQ(2, thaw_mirror_info(take)->dirty_blocks);
	thaw_mirror_done(take, true);
}

TEST_F(takes, what_others_do_to_the_file_is_told)
{
	struct thaw_take *take;
	char block[SPACE_BLOCK] = "";
	int fd;

	ASSERT_EQ(0, open_both(self, 0));
	ASSERT_EQ(0, commit_pages(self->image, &self->model, 0, 400, &self->error));
	ASSERT_EQ(0, thaw_mirror_take(self->mirror, &take, &self->error));
	fd = open(model_path, O_RDWR);
	ASSERT_EQ(0, ftruncate(fd, 3 * SPACE_BLOCK));
	ASSERT_EQ(THAW_EOVERWRITTEN, thaw_mirror_read(take, 100 * SPACE_BLOCK, block, 100));
	thaw_mirror_done(take, false);
	ASSERT_EQ(SPACE_BLOCK, pwrite(fd, block, SPACE_BLOCK, 0));
	ASSERT_EQ(SPACE_BLOCK, pwrite(fd, block, SPACE_BLOCK, SPACE_BLOCK));
	close(fd);
	ASSERT_EQ(THAW_EOVERWRITTEN, thaw_mirror_take(self->mirror, &take, &self->error));
}

TEST_F(takes, an_image_at_rest_is_copied_as_it_is)
{
	ASSERT_EQ(0, open_image(self));
	wants_log(self->image);
	for (unsigned i = 0; i < 5; i++)
		ASSERT_EQ(0, commit_pages(self->image, &self->model, 7 * i, i ? 3 : 400,
					  &self->error));
	ASSERT_EQ(THAW_EINUSE, thaw_mirror_open_file(model_path, &self->mirror, &self->error));
	image_close(self->image);
	self->image = NULL;
	ASSERT_EQ(0, thaw_mirror_open_file(model_path, &self->mirror, &self->error));
	ASSERT_EQ(0, copy_take(&self->copy, self->mirror, &self->error));
	ASSERT_EQ(self->model.number, thaw_mirror_info(self->copy.take)->news.generation);
	ASSERT_EQ(1, copy_read(&self->copy, UINT64_MAX));
	copy_put(&self->copy);
	ASSERT_TRUE(copy_is(&self->copy, self->model.number, &self->error));
	copy_done(&self->copy, true);
}

/* ---- what a restore reads first */

/* A file that has nothing but these blocks, and garbage for the others. */
static uint64_t sparse_make(struct copy *copy, const struct thaw_mirror_run *runs, int count)
{
	uint64_t bytes = thaw_mirror_info(copy->take)->file_bytes, total = 0;
	uint8_t *all = malloc(bytes + SPACE_BLOCK);

	memset(all, 0xdb, bytes);
	for (int i = 0; i < count; i++) {
		if (thaw_mirror_read(copy->take, runs[i].first * SPACE_BLOCK,
				     all + runs[i].first * SPACE_BLOCK,
				     runs[i].count * SPACE_BLOCK))
			abort();
		total += runs[i].count;
	}
	if (ftruncate(copy->fd, 0) || sys_pwrite(copy->fd, all, bytes, 0))
		abort();
	free(all);
	return total;
}

/* Of pages [first, end) of the model: how many such a file has. */
static unsigned sparse_pages(const struct copy *copy, const struct model *model, unsigned first,
			     unsigned end)
{
	struct image_options options = {.path = copy->path, .read_only = true};
	struct thaw_error error, fallback;
	struct image *image;
	unsigned right = 0;
	size_t bytes;
	void *state;

	if (image_open(&options, &image, &fallback, &error) || fallback.code)
		return 0;
	if (image_read_state(image, &state, &bytes, &error) ||
	    bytes != model_state_bytes(model->state))
		return 0;
	free(state);
	for (; first < end; first++) {
		struct extent extents[IMAGE_LEAF_PAGES];
		uint64_t page = model_page(first), leaf = page - page % IMAGE_LEAF_PAGES;

		right += !image_lookup(image, leaf, extents, &error) &&
			 model_compare_page(image, &extents[page - leaf], page,
					    model->version[first]) == SAME;
	}
	image_close(image);
	return right;
}

static int store_set(FIXTURE_DATA(takes) * self)
{
	uint64_t set[] = {set_entry(model_page(560), SET_MASK_ALL), set_entry(96, SET_MASK_ALL),
			  set_entry(10, 0x0f00)};
	struct thaw_generation generation = {.heap_bytes = 65536};
	struct commit *commit;
	int code = commit_begin(self->image, &commit, &self->error);

	if (code)
		return code;
	code = commit_working_set(commit, set, 3, self->model.number, &self->error);
	if (!code)
		code = commit_finish(commit, &generation, NULL, 0, &self->error);
	if (code)
		commit_abort(commit);
	self->model.number = generation.number;
	self->model.state = 0;
	return code;
}

TEST_F(takes, what_a_restore_reads_first_is_enough_for_it)
{
	struct thaw_mirror_run *runs;
	uint64_t total;
	int count;

	ASSERT_EQ(0, open_both(self, 0));
	for (unsigned i = 0; i < MODEL_PAGES; i++)
		self->model.version[i] = 1;
	self->model.state = 1;
	ASSERT_EQ(0, model_commit(self->image, &self->model, &self->error));
	ASSERT_EQ(0, store_set(self)) TH_LOG("%s", self->error.text);
	ASSERT_EQ(0, copy_take(&self->copy, self->mirror, &self->error));
	count = thaw_image_hot_blocks(self->copy.take, 1 << 30, &runs, &self->error);
	ASSERT_LT(2, count) TH_LOG("%s", self->error.text);
	ASSERT_EQ(0, runs[0].first);
	total = sparse_make(&self->copy, runs, count);
	free(runs);
	ASSERT_GT(80, total);
	ASSERT_EQ(16, sparse_pages(&self->copy, &self->model, 96, 112));
	ASSERT_EQ(4, sparse_pages(&self->copy, &self->model, 8, 12));
	ASSERT_EQ(1, sparse_pages(&self->copy, &self->model, 560, 561));
	ASSERT_GT(400, sparse_pages(&self->copy, &self->model, 0, MODEL_PAGES));

	/* As much as there is room for, in the order of use. */
	count = thaw_image_hot_blocks(self->copy.take, 34 * SPACE_BLOCK, &runs, &self->error);
	ASSERT_EQ(34, sparse_make(&self->copy, runs, count));
	free(runs);
	ASSERT_EQ(1, sparse_pages(&self->copy, &self->model, 560, 561));
	ASSERT_EQ(0, sparse_pages(&self->copy, &self->model, 8, 12));
}

TEST_F(takes, where_no_working_set_was_recorded_the_newest_pages_come_first)
{
	struct thaw_mirror_run *runs;
	uint64_t total;
	int count;

	ASSERT_EQ(0, open_both(self, 0));
	for (unsigned i = 0; i < MODEL_PAGES; i++)
		self->model.version[i] = 1;
	ASSERT_EQ(0, model_commit(self->image, &self->model, &self->error));
	for (unsigned i = 300; i < 310; i++)
		self->model.version[i] = 2;
	self->model.state = 1;
	ASSERT_EQ(0, model_commit(self->image, &self->model, &self->error));
	ASSERT_EQ(0, copy_take(&self->copy, self->mirror, &self->error));
	count = thaw_image_hot_blocks(self->copy.take, 25 * SPACE_BLOCK, &runs, &self->error);
	ASSERT_LT(0, count);
	total = sparse_make(&self->copy, runs, count);
	free(runs);
	ASSERT_EQ(25, total);
	ASSERT_EQ(10, sparse_pages(&self->copy, &self->model, 300, 310));
}

TEST_HARNESS_MAIN
