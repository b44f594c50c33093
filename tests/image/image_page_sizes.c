// SPDX-License-Identifier: GPL-2.0-only
/*
 * image_page_sizes.c - an image of pages larger than 4 KiB, as kernels with such pages make them, is as
 * good as any: its history, its free space, copies, damage and what is read of it, on a kernel with
 * smaller pages too. (tests/uffd/heap_persists.c and others ask the same of heaps, crash_states.c of what a
 * power cut leaves.)
 */
#include "kselftest_harness.h"

#include "copies.h"
#include "image/store.h"

FIXTURE(pages)
{
	struct image_options options;
	struct image *image;
};
FIXTURE_VARIANT(pages)
{
	uint32_t bytes;
};
FIXTURE_VARIANT_ADD(pages, of_8_kib){.bytes = 8192};
FIXTURE_VARIANT_ADD(pages, of_16_kib){.bytes = 16384};
FIXTURE_VARIANT_ADD(pages, of_64_kib){.bytes = 65536};

FIXTURE_SETUP(pages)
{
	model_page_bytes = variant->bytes;
	memset(&model, 0, sizeof(model));
	history.count = 0;
}
FIXTURE_TEARDOWN(pages)
{
	image_close(self->image);
	model_teardown();
}

/* What the file lists, and where its free space is, after commits, failures and restarts. */
TEST_F(pages, through_a_long_history)
{
	model_setup("history");
	self->options = model_options();
	for (int round = 0; round < 40; round++) {
		if (round % 5 == 0) {
			image_close(self->image);
			/* By kernels with these pages, and with smaller ones. */
			self->options.page_bytes = round % 10 || !round ? variant->bytes : PAGE;
			ASSERT_EQ(0, image_open(&self->options, &self->image, &fallback, &error))
			TH_LOG("%s", error.text);
			ASSERT_EQ(variant->bytes, image_page_bytes(self->image));
		}
		for (unsigned changes = 1 + random_below(40); changes--;)
			model.version[random_below(MODEL_PAGES)] =
				random_below(5) ? (uint32_t)random_next() : 0;
		model.state = (uint32_t)random_below(100000);
		ASSERT_EQ(0, model_commit(self->image, &model, &error)) TH_LOG("%s", error.text);
		history_add(&history, &model);
		history_retain(&history, self->options.retain);
		if (round % 7 == 3)
			model_abort_somewhere(&model, self->image);
		ASSERT_TRUE(space_is_exact(self->image)) TH_LOG("round %d", round);
		ASSERT_EQ((int)history.count, history_compare(&history)) TH_LOG("%d", round);
	}
	ASSERT_EQ(0, model_verify());
}

TEST_F(pages, copied_compacted_and_repaired)
{
	struct thaw_copy_summary summary;
	struct thaw_image_info info;
	struct extent extents[IMAGE_LEAF_PAGES];
	char *saved, *clone;
	int count;

	copies_image("copies");
	clone = support_format("%s/clone.thaw", model_directory);
	saved = support_format("%s/saved.thaw", model_directory);
	count = copies_check(model_path);
	ASSERT_LT(9, count);
	ASSERT_EQ(0, thaw_image_clone(model_path, clone, 0, NULL, &summary, &error));
	ASSERT_EQ(count, copies_check(clone));
	ASSERT_EQ(0, unlink(clone));

	ASSERT_EQ(0, thaw_image_compact(model_path, 0, NULL, &summary, &error))
	TH_LOG("%s", error.text);
	ASSERT_EQ(count, summary.generations);
	ASSERT_EQ(count, copies_check(model_path));
	ASSERT_EQ(0, path_info(model_path, true, &info, &error));
	ASSERT_EQ(variant->bytes, info.page_bytes);
	ASSERT_GE(info.retained_bytes + 100000, info.file_bytes);

	/* One bit, in the last block of a page that only the newest generation has. */
	self->options = model_options();
	self->options.read_only = true;
	ASSERT_EQ(0, image_open(&self->options, &self->image, &fallback, &error));
	for (uint64_t page = 0, found = 0; !found; page++) {
		ASSERT_LT(page, 500);
		ASSERT_EQ(0, image_lookup(self->image, page / 16 * 16, extents, &error));
		found = extents[page % 16].encoding == EXTENT_RAW &&
			extents[page % 16].birth == image_opened(self->image)->number;
		if (found)
			support_flip(model_path, extents[page % 16].offset + variant->bytes - 9, 1);
	}
	ASSERT_EQ(THAW_EDAMAGED, model_verify());
	ASSERT_EQ(0, thaw_image_repair(model_path, saved, NULL, &summary, &error))
	TH_LOG("%s", error.text);
	ASSERT_EQ(1, summary.generations_lost);
	ASSERT_EQ(count - 1, copies_check(saved));
	free(clone);
	free(saved);
}

struct told {
	uint64_t next, stored, ranked;
	uint32_t rank_most;
	bool wrong;
};

static int tell(void *arg, const struct thaw_page_run *run)
{
	struct told *told = arg;

	told->wrong |= run->first != told->next;
	told->next += run->pages;
	told->stored += run->kind == THAW_PAGE_STORED ? run->pages : 0;
	if (run->rank == THAW_RANK_NONE)
		return 0;
	told->ranked += run->pages;
	told->rank_most = run->rank > told->rank_most ? run->rank : told->rank_most;
	return 0;
}

/* Bytes of the heap, from wherever, and what the heap is made of. */
TEST_F(pages, looked_at_as_data)
{
	const size_t heap_bytes = 500 * (size_t)variant->bytes;
	struct thaw_generation generation = {.heap_bytes = heap_bytes};
	const uint64_t set[] = {128, 7, 320}; /* each in another cluster */
	uint8_t *heap = calloc(1, heap_bytes), *got = malloc(300000);
	struct told told = {0};
	struct thaw_view *view;
	struct commit *commit;
	uint64_t stored = 0;

	ASSERT_TRUE(heap && got);
	model_setup("view");
	self->options = model_options();
	ASSERT_EQ(0, image_open(&self->options, &self->image, &fallback, &error));
	ASSERT_EQ(0, commit_begin(self->image, &commit, &error));
	for (unsigned i = 0; i < 500; i++) {
		model.version[i] = random_below(4) ? (uint32_t)random_next() : 0;
		stored += !!model.version[i];
		model_fill(heap + i * (size_t)variant->bytes, i, model.version[i]);
		ASSERT_EQ(0, model_store(commit, &model, i, &error));
	}
	ASSERT_EQ(0, commit_working_set(commit, set, 3, 1, &error));
	ASSERT_EQ(0, commit_finish(commit, &generation, NULL, 0, &error));

	ASSERT_EQ(0, path_view(model_path, 0, &view, &error)) TH_LOG("%s", error.text);
	for (int i = 0; i < 500; i++) {
		size_t from = random_next() % heap_bytes;
		size_t bytes = random_below(i % 3 ? 100 : 300000);

		bytes = bytes < heap_bytes - from ? bytes : heap_bytes - from;
		ASSERT_EQ(0, thaw_view_read(view, from, got, bytes, &error));
		ASSERT_EQ(0, memcmp(heap + from, got, bytes)) TH_LOG("%zu at %zu", bytes, from);
	}
	thaw_view_close(view);

	ASSERT_EQ(0, path_pages(model_path, 0, tell, &told, &error));
	EXPECT_FALSE(told.wrong);
	EXPECT_EQ(500, told.next);
	EXPECT_EQ(stored, told.stored);
	EXPECT_EQ(3 * 65536 / variant->bytes, told.ranked);
	EXPECT_EQ(2, told.rank_most);
	free(heap);
	free(got);
}

TEST_HARNESS_MAIN
