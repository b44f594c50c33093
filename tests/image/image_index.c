// SPDX-License-Identifier: GPL-2.0-only
/*
 * image_index.c - the tree: any page from 0 to 2^40, growing and shrinking back, lookups beside
 * commits, few reads to open, and free space.
 */
#include "kselftest_harness.h"

#include <pthread.h>
#include <stdatomic.h>

#include "image_model.h"
#include "image/index.h"
#include "image/space.h"

static struct thaw_error error, fallback;
static struct model model;

static int store(struct commit *commit, uint64_t number, uint32_t version)
{
	uint64_t page[PAGE / 8];
	bool stored;

	model_fill(page, number, version);
	return commit_page(commit, number, page, &stored, &error);
}

/* Does the image hold that version of that page? */
static bool holds(struct image *image, uint64_t number, uint32_t version)
{
	struct extent extents[IMAGE_LEAF_PAGES];
	uint64_t page[PAGE / 8];

	model_fill(page, number, version);
	return !image_lookup(image, number & ~15ull, extents, &error) &&
	       extent_matches(image_key(image), &extents[number % 16], page, PAGE);
}

/* Page numbers around every place where the tree gets a level more. */
TEST(all_levels)
{
	struct image_options options = model_options();
	struct thaw_generation generation;
	struct commit *commit;
	struct image *image;

	model_setup("levels");
	ASSERT_EQ(0, image_open(&options, &image, &fallback, &error));
	for (unsigned level = 0; level < INDEX_LEVELS_MAX; level++) {
		uint64_t last = index_span(level) - 1;

		/* Growing in a commit that is aborted leaves the smaller tree. */
		ASSERT_EQ(0, commit_begin(image, &commit, &error));
		ASSERT_EQ(0, store(commit, last, 77));
		ASSERT_TRUE(holds(image, last, 77));
		commit_abort(commit);
		ASSERT_TRUE(holds(image, last, 0));

		ASSERT_EQ(0, commit_begin(image, &commit, &error));
		ASSERT_EQ(0, store(commit, last, level + 1));
		ASSERT_EQ(0, store(commit, last / 2, level + 101));
		memset(&generation, 0, sizeof(generation));
		ASSERT_EQ(0, commit_finish(commit, &generation, NULL, 0, &error));
		if (level % 3 == 0) {
			image_close(image);
			ASSERT_EQ(0, image_open(&options, &image, &fallback, &error));
		}
		for (unsigned below = 0; below <= level; below++)
			ASSERT_TRUE(holds(image, index_span(below) - 1, below + 1));
		ASSERT_TRUE(holds(image, last + 1, 0));
		ASSERT_EQ(0, model_verify());
	}
	ASSERT_EQ(0, commit_begin(image, &commit, &error));
	ASSERT_EQ(-EFBIG, store(commit, INDEX_PAGES_MAX, 1));
	/* A commit with a hole in it cannot be finished. */
	ASSERT_EQ(0, store(commit, 0, 9));
	ASSERT_NE(0, commit_finish(commit, &generation, NULL, 0, &error));
	commit_abort(commit);
	/* The first of them, retained: a small tree beside large ones. */
	image_close(image);
	ASSERT_EQ(0, model_verify());
	model_teardown();
}

struct beside {
	struct image *image;
	_Atomic bool stop;
	unsigned long lookups, wrong;
};

static void *look_up(void *arg)
{
	struct beside *beside = arg;
	struct thaw_error mine;

	while (!beside->stop) {
		for (unsigned i = 0; i < 500; i += 16) {
			struct extent extents[IMAGE_LEAF_PAGES];

			beside->lookups++;
			/*
			 * Pages 256 to 499 never change: they must be there whatever the commits
			 * do.
			 */
			if (image_lookup(beside->image, i, extents, &mine) ||
			    (i >= 256 && extents[0].encoding != EXTENT_RAW))
				beside->wrong++;
		}
	}
	return NULL;
}

TEST(lookups_beside_commits)
{
	struct image_options options = model_options();
	struct beside beside = {0};
	pthread_t thread;

	model_setup("beside");
	options.retain = 1;
	ASSERT_EQ(0, image_open(&options, &beside.image, &fallback, &error));
	for (unsigned i = 0; i < MODEL_PAGES; i++)
		model.version[i] = 1;
	ASSERT_EQ(0, model_commit(beside.image, &model, &error));
	image_close(beside.image);
	ASSERT_EQ(0, image_open(&options, &beside.image, &fallback, &error));
	pthread_create(&thread, NULL, look_up, &beside);
	for (int i = 0; i < 150; i++) {
		struct commit *commit;

		for (unsigned page = 0; page < 256; page++)
			model.version[page] = (uint32_t)random_next();
		for (unsigned page = 500; page < MODEL_PAGES; page++)
			model.version[page] = (uint32_t)random_next();
		if (i % 3) {
			ASSERT_EQ(0, model_commit(beside.image, &model, &error));
			continue;
		}
		ASSERT_EQ(0, commit_begin(beside.image, &commit, &error));
		for (unsigned page = 0; page < MODEL_PAGES; page++)
			ASSERT_EQ(0, model_store(commit, &model, page, &error));
		commit_abort(commit);
	}
	beside.stop = true;
	pthread_join(thread, NULL);
	ASSERT_EQ(0, beside.wrong);
	ASSERT_GE(beside.lookups, 100);
	image_close(beside.image);
	ASSERT_EQ(0, model_verify());
	model_teardown();
}

/*
 * However large the heap: opening works with the first few reads and fails with none of the others.
 */
TEST(open_reads_little)
{
	struct image_options options = model_options();
	struct image *image;
	int status;
	pid_t child;

	model_setup("open");
	child = fork(); /* made in a process of its own: injections are parsed once in each */
	if (!child) {
		if (image_open(&options, &image, &fallback, &error))
			_exit(1);
		for (int i = 0; i < 6; i++) {
			for (unsigned page = 0; page < MODEL_PAGES; page++)
				model.version[page] = i + 1;
			if (model_commit(image, &model, &error))
				_exit(2);
		}
		_exit(0);
	}
	waitpid(child, &status, 0);
	ASSERT_EQ(0, status);
	child = fork();
	if (!child) {
		struct extent extents[IMAGE_LEAF_PAGES];

		setenv("THAW_INJECT", "read:EIO:4:0", 1); /* two slots, the record, the root */
		if (image_open(&options, &image, &fallback, &error))
			_exit(1);
		if (image_lookup(image, 0, extents, &error) != -EIO)
			_exit(2);
		_exit(0);
	}
	waitpid(child, &status, 0);
	ASSERT_EQ(0, WEXITSTATUS(status));
	model_teardown();
}

/* Against a model of one byte count per block. */
TEST(space)
{
	static uint32_t live[4096];
	struct space space = {0};
	uint64_t offset, blocks;

	ASSERT_EQ(0, space_open(&space, 16));
	space_add(&space, 0, 8192);
	live[0] = live[1] = 4096;
	for (int i = 0; i < 20000; i++) {
		uint64_t least = 1 + random_below(3), free_blocks = 0;

		if (random_below(2) && space.blocks < 4000) {
			uint64_t most = least + random_below(80);

			ASSERT_EQ(0, space_allocate(&space, least, most, &offset, &blocks));
			ASSERT_GE(blocks, least);
			ASSERT_LE(blocks, most);
			for (uint64_t block = offset / 4096; block < offset / 4096 + blocks;
			     block++) {
				ASSERT_EQ(0, live[block]); /* it was free */
				live[block] = 4096;
			}
		} else {
			uint64_t from = 8192 + random_below((unsigned)space.blocks * 4096),
				 bytes = random_below(200000);

			for (uint64_t at = from; at < from + bytes; at += 4096 - at % 4096) {
				uint64_t part = 4096 - at % 4096;

				if (part > from + bytes - at)
					part = from + bytes - at;
				if (at / 4096 < space.blocks)
					live[at / 4096] -= live[at / 4096] < part ? live[at / 4096]
										  : (uint32_t)part;
			}
			space_subtract(&space, from, bytes);
		}
		if (random_below(50) == 0)
			space_trim(&space);
		for (uint64_t block = 0; block < space.blocks; block++) {
			free_blocks += !live[block];
			ASSERT_EQ(live[block], space.live[block]);
		}
		ASSERT_EQ(free_blocks, space.free);
	}
	/* Far outside the file: nothing happens. Counted beyond reason: never free again. */
	space_add(&space, 1ull << 52, 1ull << 40);
	for (int i = 0; i < 20; i++)
		space_add(&space, 0, 4096);
	for (int i = 0; i < 40; i++)
		space_subtract(&space, 0, 4096);
	ASSERT_NE(0, space.live[0]);
	space_close(&space);
}

TEST_HARNESS_MAIN
