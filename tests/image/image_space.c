// SPDX-License-Identifier: GPL-2.0-only
/*
 * image_space.c - the file is as long as what is in it asks for: blocks that stay free go back to the
 * file system, and a file that has become too long is shortened while the program goes on.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include "image_model.h"
#include "image/store.h"

#define MIB (1ull << 20)
#define BIG_BYTES (128 * MIB)
#define BIG_PAGES ((unsigned)(BIG_BYTES / model_page_bytes))

static struct thaw_error error, fallback;
static uint32_t versions[BIG_BYTES / PAGE]; /* of the pages; 0: zero */

FIXTURE(space)
{
	struct image_options options;
	struct image *image;
};
FIXTURE_VARIANT(space)
{
	uint32_t page_bytes;
};
FIXTURE_VARIANT_ADD(space, pages_of_4_kib){.page_bytes = 4096};
FIXTURE_VARIANT_ADD(space, pages_of_64_kib){.page_bytes = 65536};

FIXTURE_SETUP(space)
{
	model_page_bytes = variant->page_bytes;
	model_setup("space");
	memset(versions, 0, sizeof(versions));
	self->options = model_options();
	ASSERT_EQ(0, image_open(&self->options, &self->image, &fallback, &error));
}
FIXTURE_TEARDOWN(space)
{
	image_close(self->image);
	model_teardown();
}

/* One commit that changes `count` pages from `first` on, `stride` apart, to `version`. */
static int change(struct image *image, unsigned first, unsigned count, unsigned stride,
		  uint32_t version, const char *name)
{
	struct thaw_generation generation = {.time_ns = 1, .heap_bytes = BIG_BYTES};
	static uint64_t page[PAGE_MOST / 8];
	struct commit *commit;
	int code = commit_begin(image, &commit, &error);
	bool stored;

	if (code)
		return code;
	for (unsigned i = 0; !code && i < count; i++) {
		unsigned number = (first + i * stride) % BIG_PAGES;

		versions[number] = version;
		model_fill(page, number, version);
		code = commit_page(commit, number, page, &stored, &error);
	}
	if (!code && name)
		code = commit_name(commit, name, &(uint64_t){COMMIT_ITSELF}, &error);
	if (!code)
		code = commit_finish(commit, &generation, NULL, 0, &error);
	if (code)
		commit_abort(commit);
	return code;
}

/* How many pages are not what they have to be. */
static unsigned pages_wrong(struct image *image)
{
	static uint64_t page[PAGE_MOST / 8], wanted[PAGE_MOST / 8];
	const uint32_t bytes = model_page_bytes;
	struct extent extents[IMAGE_LEAF_PAGES];
	unsigned wrong = 0;

	for (unsigned i = 0; i < BIG_PAGES; i++) {
		const struct extent *extent = &extents[i % IMAGE_LEAF_PAGES];

		if (i % IMAGE_LEAF_PAGES == 0 && image_lookup(image, i, extents, &error))
			return BIG_PAGES;
		memset(page, 0, sizeof(page));
		if (extent_is_stored(extent) &&
		    extent_read(&model_scratch, image_fd(image), image_key(image), i, extent, page,
				bytes))
			return BIG_PAGES;
		model_fill(wanted, i, versions[i]);
		wrong += !extent_matches(image_key(image), extent, page, bytes) ||
			 memcmp(page, wanted, bytes) != 0;
	}
	return wrong;
}

static uint64_t allocated(struct image *image)
{
	struct stat stat;

	return fstat(image_fd(image), &stat) ? 0 : (uint64_t)stat.st_blocks * 512;
}

static bool file_system_has_holes(struct image *image)
{
	off_t end = (off_t)model_file_bytes();
	uint64_t before = allocated(image);

	if (fallocate(image_fd(image), 0, end, MIB))
		return false;
	before = allocated(image) - before;
	return !fallocate(image_fd(image), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, end, MIB) &&
	       !ftruncate(image_fd(image), end) && before;
}

/* A named generation keeps the file long; everything between goes back to the file system. */
TEST_F(space, what_stays_free_is_given_back)
{
	uint64_t most;

	if (!file_system_has_holes(self->image))
		SKIP(return, "no holes can be punched in this file system");
	ASSERT_EQ(0, change(self->image, 0, BIG_PAGES, 1, 1, NULL));
	/* At the end of the file, since nothing before it is free. */
	ASSERT_EQ(0, change(self->image, 5, 1, 1, 2, "end"));
	most = allocated(self->image);
	ASSERT_LE(128 * MIB, most);
	ASSERT_EQ(0, change(self->image, 0, BIG_PAGES, 1, 0, NULL));
	for (uint32_t i = 0; i < 8; i++)
		ASSERT_EQ(0, change(self->image, 0, 1, 1, 2 + i, NULL));
	/* "end" shares what the first generation had: nothing can go. */
	ASSERT_LE(most, allocated(self->image));
	image_close(self->image);
	ASSERT_EQ(0, thaw_image_untag(model_path, "end", &error)) TH_LOG("%s", error.text);
	ASSERT_EQ(0, image_open(&self->options, &self->image, &fallback, &error));
	for (uint32_t i = 0; i < 200; i++)
		ASSERT_EQ(0, change(self->image, 0, 1, 1, 100 + i, NULL));
	TH_LOG("%llu KiB were allocated, %llu are", (unsigned long long)most >> 10,
	       (unsigned long long)allocated(self->image) >> 10);
	EXPECT_GE(2 * MIB, allocated(self->image));
	EXPECT_EQ(0, pages_wrong(self->image));
	EXPECT_EQ(0, model_verify());
}

/* A few pages spread over a file that was long once: they move to its front, and it is shortened. */
TEST_F(space, a_file_too_long_is_shortened)
{
	uint64_t shortest = UINT64_MAX;

	ASSERT_EQ(0, change(self->image, 0, BIG_PAGES, 1, 1, NULL));
	/* One page of 16 stays: 8 MiB, all over the file. */
	for (unsigned i = 1; i < 16; i++)
		ASSERT_EQ(0, change(self->image, i, BIG_PAGES / 16, 16, 0, NULL));
	for (uint32_t i = 0; i < 300; i++) {
		ASSERT_EQ(0, change(self->image, 16 * (i % 7), 1, 1, 100 + i, NULL));
		if (i % 50 == 0) {
			ASSERT_EQ(0, pages_wrong(self->image));
			ASSERT_EQ(0, model_verify());
		}
		if (model_file_bytes() < shortest)
			shortest = model_file_bytes();
	}
	TH_LOG("%llu KiB", (unsigned long long)shortest >> 10);
	EXPECT_GE(48 * MIB, model_file_bytes());
	EXPECT_EQ(0, pages_wrong(self->image));
	image_close(self->image);
	ASSERT_EQ(0, image_open(&self->options, &self->image, &fallback, &error));
	EXPECT_EQ(0, pages_wrong(self->image));
	EXPECT_EQ(0, change(self->image, 0, 100, 1, 7, NULL));
	EXPECT_EQ(0, model_verify());
}

/* What a start touched is stored once, where there is room then, and not again by the commits after. */
TEST_F(space, what_a_start_touched_keeps_no_file_long)
{
	enum { TOUCHED = 2000 };
	struct thaw_generation generation = {.time_ns = 1, .heap_bytes = BIG_BYTES};
	static uint64_t pages[TOUCHED];
	struct commit *commit;
	uint64_t *found, number;

	for (unsigned i = 0; i < TOUCHED; i++)
		pages[i] = (uint64_t)i * 16;
	ASSERT_EQ(0, change(self->image, 0, BIG_PAGES, 1, 1, NULL));
	/* At the end of the file, since nothing before it is free. */
	ASSERT_EQ(0, commit_begin(self->image, &commit, &error));
	ASSERT_EQ(0, commit_working_set(commit, pages, TOUCHED, 1, &error));
	ASSERT_EQ(0, commit_finish(commit, &generation, NULL, 0, &error));
	ASSERT_EQ(0, change(self->image, 64, BIG_PAGES - 64, 1, 0, NULL));
	for (uint32_t i = 0; i < 300; i++)
		ASSERT_EQ(0, change(self->image, i % 7, 1, 1, 100 + i, NULL));
	TH_LOG("%llu KiB", (unsigned long long)model_file_bytes() >> 10);
	EXPECT_GE(48 * MIB, model_file_bytes());
	image_close(self->image);
	ASSERT_EQ(0, image_open(&self->options, &self->image, &fallback, &error));
	ASSERT_EQ(TOUCHED, image_read_working_set(self->image, &found, &number, &error));
	EXPECT_EQ(0, memcmp(found, pages, sizeof(pages)));
	EXPECT_EQ(1, number);
	free(found);
	EXPECT_EQ(0, pages_wrong(self->image));
	EXPECT_EQ(0, model_verify());
}

TEST_HARNESS_MAIN
