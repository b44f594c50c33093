// SPDX-License-Identifier: GPL-2.0-only
/*
 * image_commit.c - generations are what was committed: random histories with branches, fresh
 * starts, aborts, reopenings and failing disks, against a model in memory; and the file does not
 * grow without bound.
 */
#include "kselftest_harness.h"

#include "image_model.h"

static struct history history;
static struct model model;

/* Change some pages: runs, single ones, back to zero. */
static void model_change(void)
{
	unsigned changes = random_below(4) ? random_below(30) : random_below(400);

	while (changes--) {
		unsigned i = random_below(random_below(2) ? 100 : MODEL_PAGES);

		model.version[i] = random_below(8) ? (uint32_t)random_next() : 0;
	}
	model.state = (uint32_t)random_below(100000);
}

/* A commit that stores pages in two passes, with other contents in the first, as pre-copy does. */
static int commit_twice(struct image *image, struct thaw_error *error)
{
	struct model before = model;
	struct commit *commit;
	int code = commit_begin(image, &commit, error);

	if (code)
		return code;
	for (unsigned i = 0; i < MODEL_PAGES; i++)
		if (!random_below(4))
			before.version[i] = random_below(4) ? (uint32_t)random_next() : 0;
	for (unsigned i = 0; !code && i < MODEL_PAGES; i++)
		code = model_store(commit, &before, i, error);
	for (unsigned i = 0; !code && i < MODEL_PAGES; i++)
		code = model_store(commit, &model, i, error);
	if (!code)
		code = model_finish(commit, &model, error);
	if (code)
		commit_abort(commit);
	return code;
}

TEST(random_histories)
{
	struct image_options options = model_options();
	struct thaw_error error, fallback;
	struct image *image;

	model_setup("random");
	ASSERT_EQ(0, image_open(&options, &image, &fallback, &error)) TH_LOG("%s", error.text);
	for (int step = 0; step < 300; step++) {
		unsigned what = random_below(20);

		if (what == 0) {
			model_abort_somewhere(&model, image);
		} else if (what < 4) { /* reopen: newest, an older one (a branch), or fresh */
			struct model *kept = &history.kept[history.count - 1];

			image_close(image);
			options.generation = 0;
			options.fresh = what == 3 && !random_below(3);
			if (what == 2 && history.count >= 5) {
				kept = &history.kept[history.count - 1 - random_below(5)];
				options.generation = kept->number;
			}
			ASSERT_EQ(0, image_open(&options, &image, &fallback, &error))
			TH_LOG("%s", error.text);
			ASSERT_EQ(0, fallback.code);
			if (history.count)
				model = *kept;
			if (options.fresh || !history.count)
				memset(&model, 0, sizeof(model));
			ASSERT_EQ(model.number, image_opened(image)->number);
			ASSERT_EQ(SAME, model_compare(image, &model, &error))
			TH_LOG("%s", error.text);
		} else {
			uint64_t parent = image_newest(image)->number;

			model_change();
			ASSERT_EQ(0, what < 8 ? commit_twice(image, &error)
					      : model_commit(image, &model, &error))
			TH_LOG("%s", error.text);
			ASSERT_EQ(parent, image_newest(image)->parent);
			ASSERT_EQ(model.number, image_newest(image)->number);
			ASSERT_EQ(history.count ? history.kept[history.count - 1].number + 1 : 1,
				  model.number);
			history_add(&history, &model);
		}
		ASSERT_EQ(SAME, model_compare(image, &model, &error)) TH_LOG("%s", error.text);
		if (step % 4 == 0)
			ASSERT_EQ((int)(history.count < 5 ? history.count : 5),
				  history_compare(&history));
		if (step % 10 == 0)
			ASSERT_EQ(0, model_verify());
	}
	image_close(image);
	model_teardown();
}

/* Thousands of commits: the file stays within what is retained and what is in flight. */
TEST(file_is_bounded)
{
	struct image_options options = model_options();
	struct thaw_error error, fallback;
	struct thaw_image_info info;
	struct image *image;
	uint64_t largest = 0;

	model_setup("bounded");
	options.retain = 3;
	ASSERT_EQ(0, image_open(&options, &image, &fallback, &error));
	for (int i = 0; i < 3000; i++) {
		struct commit *commit;

		ASSERT_EQ(0, commit_begin(image, &commit, &error));
		for (unsigned changes = i % 100 ? random_below(60) : 500; changes; changes--) {
			unsigned page = random_below(500);

			model.version[page] = (uint32_t)random_next() | 1;
			ASSERT_EQ(0, model_store(commit, &model, page, &error));
		}
		ASSERT_EQ(0, model_finish(commit, &model, &error));
		history_add(&history, &model);
		if (model_file_bytes() > largest)
			largest = model_file_bytes();
		if (i % 500 == 0) {
			image_close(image);
			ASSERT_EQ(0, image_open(&options, &image, &fallback, &error));
		}
	}
	ASSERT_EQ(3, history_compare(&history));
	ASSERT_EQ(0, model_verify());
	ASSERT_EQ(0, path_info(model_path, true, &info, &error));
	TH_LOG("largest %lu KiB, live %lu, retained %lu, free %lu", largest >> 10,
	       info.live_bytes >> 10, info.retained_bytes >> 10, info.free_bytes >> 10);
	ASSERT_GE(info.live_bytes, 450 * PAGE);
	ASSERT_GE(info.retained_bytes, info.live_bytes);
	ASSERT_EQ(3, info.generations);
	/*
	 * Every hundredth commit rewrites nearly everything, so up to five times 2 MiB are in use.
	 */
	ASSERT_LE(largest, 16u << 20);
	image_close(image);
	model_teardown();
}

TEST(nothing_changed)
{
	struct image_options options = model_options();
	struct thaw_error error, fallback;
	struct commit *commit;
	struct image *image;
	uint64_t bytes;

	model_setup("empty");
	ASSERT_EQ(0, image_open(&options, &image, &fallback, &error));
	model_change();
	ASSERT_EQ(0, model_commit(image, &model, &error));
	bytes = model_file_bytes();
	ASSERT_EQ(0, commit_begin(image, &commit, &error));
	for (unsigned i = 0; i < MODEL_PAGES; i++)
		ASSERT_EQ(0, model_store(commit, &model, i, &error));
	ASSERT_TRUE(commit_is_empty(commit));
	commit_abort(commit);
	ASSERT_EQ(bytes, model_file_bytes());
	ASSERT_EQ(1, image_newest(image)->number);
	/* Finished all the same, it is a generation of its own. */
	ASSERT_EQ(0, commit_begin(image, &commit, &error));
	ASSERT_EQ(0, model_finish(commit, &model, &error));
	ASSERT_EQ(2, image_newest(image)->number);
	ASSERT_EQ(0, image_newest(image)->pages_stored);
	ASSERT_EQ(0, model_verify());
	image_close(image);
	model_teardown();
}

/* A heap of zero pages, and one that never stored any. */
TEST(zero_pages)
{
	struct image_options options = model_options();
	struct thaw_error error, fallback;
	struct image *image;

	model_setup("zero");
	ASSERT_EQ(0, image_open(&options, &image, &fallback, &error));
	ASSERT_EQ(0, model_commit(image, &model, &error));
	ASSERT_EQ(0, image_newest(image)->pages_stored);
	model.version[7] = model.version[550] = 3;
	ASSERT_EQ(0, model_commit(image, &model, &error));
	model.version[7] = 0;
	ASSERT_EQ(0, model_commit(image, &model, &error));
	ASSERT_EQ(1, image_newest(image)->pages_stored);
	image_close(image);
	ASSERT_EQ(0, image_open(&options, &image, &fallback, &error));
	ASSERT_EQ(SAME, model_compare(image, &model, &error));
	image_close(image);
	ASSERT_EQ(0, model_verify());
	model_teardown();
}

/* 64 KiB pages fill sixteen blocks. */
TEST(large_pages)
{
	struct image_options options = model_options();
	struct extent extents[IMAGE_LEAF_PAGES];
	static uint8_t page[65536], found[65536];
	struct thaw_generation generation;
	struct thaw_error error, fallback;
	struct commit *commit;
	struct image *image;
	bool stored;

	model_setup("large");
	options.page_bytes = sizeof(page);
	options.retain = 2;
	ASSERT_EQ(0, image_open(&options, &image, &fallback, &error)) TH_LOG("%s", error.text);
	for (int round = 1; round <= 40; round++) {
		memset(&generation, 0, sizeof(generation));
		ASSERT_EQ(0, commit_begin(image, &commit, &error));
		for (int i = 0; i < 2 * 40; i++) { /* twice, across ends of the buffer */
			memset(page, round + i, sizeof(page));
			ASSERT_EQ(0, commit_page(commit, i % 40 * 3, page, &stored, &error));
			ASSERT_TRUE(stored);
		}
		ASSERT_EQ(0, commit_finish(commit, &generation, NULL, 0, &error));
		ASSERT_EQ(40, generation.pages_stored);
		for (int i = 0; i < 40; i++) {
			ASSERT_EQ(0, image_lookup(image, i * 3 / 16 * 16, extents, &error));
			ASSERT_EQ(sizeof(found), pread(image_fd(image), found, sizeof(found),
						       extents[i * 3 % 16].offset));
			ASSERT_EQ((uint8_t)(round + i + 40), found[777]);
			ASSERT_TRUE(extent_matches(image_key(image), &extents[i * 3 % 16], found,
						   sizeof(found)));
		}
	}
	ASSERT_LE(image_file_bytes(image), 16u << 20);
	image_close(image);
	ASSERT_EQ(0, model_verify());
	model_teardown();
}

/*
 * In a child (the injections are read once per process): commits until the injected calls have
 * failed and a few more, each failure followed by an abort after which everything is as before.
 * Returns the child's exit code.
 */
static int failing_history(const char *inject)
{
	struct image_options options = model_options();
	struct thaw_error error, fallback;
	struct image *image = NULL;
	static struct model lost[32]; /* what failed; in doubt, it may be found nevertheless */
	int status, failures = 0;
	bool committed = false;
	pid_t child = fork();

	if (child) {
		waitpid(child, &status, 0);
		return WIFEXITED(status) ? WEXITSTATUS(status) : 99;
	}
	options.retain = 2;
	setenv("THAW_INJECT", inject, 1);
	/* The last steps go on until one has succeeded. */
	for (int step = 0;
	     step < 14 ||
	     (step < 30 && (!image || model.number != image_newest(image)->number || !committed));
	     step++) {
		struct model before = model;

		committed = false;

		if (!image) { /* reading may fail too */
			if (image_open(&options, &image, &fallback, &error)) {
				image = NULL;
				lost[failures++] = model;
				continue;
			}
			for (int i = failures;
			     i-- > 0 && image_opened(image)->number > model.number;) {
				lost[i].number = image_opened(image)->number;
				if (model_compare(image, &lost[i], &error) == WRONG)
					continue;
				model = lost[i];
				history_add(&history, &model);
			}
			if (model_compare(image, &model, &error) == WRONG)
				_exit(8);
			before = model;
		}
		model_change();
		if (!model_commit(image, &model, &error)) {
			history_add(&history, &model);
			committed = true;
		} else {
			lost[failures++] = model;
			if (model_compare(image, &before, &error) == WRONG)
				_exit(2);
			model = before;
			if (random_below(3) == 0) {
				image_close(image);
				image = NULL;
			}
		}
	}
	if (!image || model_compare(image, &model, &error) != SAME)
		_exit(3);
	image_close(image);
	if (model_verify())
		_exit(4);
	if (image_open(&options, &image, &fallback, &error) || fallback.code)
		_exit(5);
	if (model_compare(image, &model, &error) != SAME)
		_exit(6);
	_exit(failures ? 0 : 7);
}

TEST(failing_disk)
{
	static const char *const calls[] = {"write:ENOSPC", "write:EIO", "fdatasync:EIO",
					    "read:EIO", "truncate:EIO"};
	char inject[64];

	for (unsigned call = 0; call < 5; call++) {
		for (int skip = 0; skip < 40; skip += 1 + (call == 3)) {
			int code;

			model_setup("failing");
			random_state += 77 + skip;
			snprintf(inject, sizeof(inject), "%s:%d:%d", calls[call], skip,
				 1 + skip % 3);
			code = failing_history(inject);
			if (code == 7 &&
			    (call > 2 || skip > 20)) /* so many calls were never made */
				code = 0;
			ASSERT_EQ(0, code) TH_LOG("%s", inject);
			model_teardown();
		}
	}
}

/*
 * The slot was written but its sync failed: whether it is on the disk nobody knows. Both must be
 * whole, whatever is committed afterwards; here the process dies after one more commit that failed
 * before its slot.
 */
TEST(in_doubt)
{
	struct image_options options = model_options();
	struct thaw_error error, fallback;
	struct image *image;
	struct model doubt;
	int status;
	pid_t child;

	model_setup("doubt");
	options.retain = 1;
	child = fork();
	if (!child) {
		/*
		 * Sync 1: creation; 2, 3: generation 1; 4, 5: generation 2, in doubt; 6: fails too.
		 */
		setenv("THAW_INJECT", "fdatasync:EIO:4:2", 1);
		if (image_open(&options, &image, &fallback, &error))
			_exit(1);
		for (unsigned i = 0; i < MODEL_PAGES; i++)
			model.version[i] = 1;
		if (model_commit(image, &model, &error))
			_exit(2);
		for (unsigned i = 0; i < MODEL_PAGES; i += 2)
			model.version[i] = 2;
		if (!model_commit(image, &model, &error))
			_exit(3);
		for (unsigned i = 0; i < MODEL_PAGES; i += 2)
			model.version[i] = 3;
		if (!model_commit(image, &model, &error))
			_exit(4);
		_exit(image_newest(image)->number == 1 ? 0 : 5);
	}
	waitpid(child, &status, 0);
	ASSERT_EQ(0, WEXITSTATUS(status));
	ASSERT_EQ(0, model_verify());
	ASSERT_EQ(0, image_open(&options, &image, &fallback, &error));
	ASSERT_EQ(2, image_opened(image)->number);
	for (unsigned i = 0; i < MODEL_PAGES; i++)
		doubt.version[i] = i % 2 ? 1 : 2;
	doubt.number = 0;
	ASSERT_EQ(SAME, model_compare(image, &doubt, &error));
	image_close(image);
	model_teardown();
}

TEST_HARNESS_MAIN
