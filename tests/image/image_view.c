// SPDX-License-Identifier: GPL-2.0-only
/*
 * image_view.c - thaw_view: every retained generation reads as it was written, in any order and size of
 * reads, also while another holds and changes the image; damage is named and never returned as data.
 */
#include "kselftest_harness.h"

#include "image_model.h"

#define HEAP_PAGES 640u

static struct thaw_error error, fallback;
static struct model model;
static struct history history;

/* One commit whose heap is so many pages; the pages of the model that lie in it have random versions. */
static int commit_heap(struct image *image)
{
	struct thaw_generation generation = {.time_ns = 1,
					     .heap_bytes = (uint64_t)HEAP_PAGES * PAGE,
					     .reason = THAW_REASON_TIMER};
	static uint8_t state[9000];
	struct commit *commit;
	int code = commit_begin(image, &commit, &error);

	for (unsigned i = 0; !code && i < 500; i++)
		if (random_below(3)) {
			model.version[i] = random_below(4);
			code = model_store(commit, &model, i, &error);
		}
	model.state = random_below(1000);
	model_fill_state(state, model.state);
	if (!code)
		code = commit_finish(commit, &generation, state, model_state_bytes(model.state),
				     &error);
	model.number = generation.number;
	history_add(&history, &model);
	return code;
}

/* The whole heap as the model has it. */
static uint8_t *wanted_heap(const struct model *of)
{
	uint8_t *heap = calloc(HEAP_PAGES, PAGE);
	uint64_t page[PAGE / 8];

	for (unsigned i = 0; heap && i < 500; i++) {
		model_fill(page, i, of->version[i]);
		memcpy(heap + (size_t)i * PAGE, page, PAGE);
	}
	return heap;
}

/* Reads of all sizes, then the state. */
static bool view_is(struct thaw_view *view, const struct model *of)
{
	uint8_t *wanted = wanted_heap(of), *got = malloc(HEAP_PAGES * PAGE);
	static uint8_t state[9000];
	const void *found;
	size_t bytes;
	bool same = thaw_view_generation(view)->number == of->number;

	for (unsigned i = 0; i < 400; i++) {
		size_t from = random_below(HEAP_PAGES * PAGE), most = i % 4 ? 64 : 300000;
		size_t length = random_below((unsigned)most);

		if (length > HEAP_PAGES * PAGE - from)
			length = HEAP_PAGES * PAGE - from;
		memset(got, 0xee, length + (length < HEAP_PAGES * PAGE));
		same = same && !thaw_view_read(view, from, got, length, &error) &&
		       !memcmp(got, wanted + from, length) &&
		       (length == HEAP_PAGES * PAGE || got[length] == 0xee);
	}
	same = same && !thaw_view_read(view, 0, got, HEAP_PAGES * PAGE, &error) &&
	       !memcmp(got, wanted, HEAP_PAGES * PAGE);
	found = thaw_view_state(view, &bytes);
	model_fill_state(state, of->state);
	same = same && bytes == model_state_bytes(of->state) &&
	       (!bytes || !memcmp(found, state, bytes));
	free(wanted);
	free(got);
	return same;
}

FIXTURE(view)
{
	struct image *image;
	struct thaw_view *view;
};

FIXTURE_SETUP(view)
{
	struct image_options options = model_options();

	model_setup("view");
	memset(&history, 0, sizeof(history));
	memset(&model, 0, sizeof(model));
	self->view = NULL;
	ASSERT_EQ(0, image_open(&options, &self->image, &fallback, &error));
	for (int i = 0; i < 7; i++)
		ASSERT_EQ(0, commit_heap(self->image));
}

FIXTURE_TEARDOWN(view)
{
	thaw_view_close(self->view);
	image_close(self->image);
	model_teardown();
}

TEST_F(view, every_retained_generation_reads_as_it_was_written)
{
	for (unsigned i = 2; i < 7; i++) {
		ASSERT_EQ(0, path_view(model_path, history.kept[i].number, &self->view, &error));
		ASSERT_TRUE(view_is(self->view, &history.kept[i]));
		thaw_view_close(self->view);
	}
	/* No number: the newest. */
	ASSERT_EQ(0, path_view(model_path, 0, &self->view, &error));
	ASSERT_TRUE(view_is(self->view, &history.kept[6]));
}

TEST_F(view, a_generation_that_is_not_there_is_an_error)
{
	ASSERT_EQ(THAW_ENOGEN, path_view(model_path, 1, &self->view, &error));
	ASSERT_EQ(NULL, self->view);
	ASSERT_EQ(THAW_ENOGEN, path_view(model_path, 99, &self->view, &error));
	ASSERT_EQ(-ENOENT, path_view("/proc/nowhere/x.thaw", 0, &self->view, &error));
}

TEST_F(view, an_image_without_a_generation_has_no_view)
{
	struct image_options options = model_options();
	struct image *fresh;
	char path[200];

	snprintf(path, sizeof(path), "%s/fresh.thaw", model_directory);
	options.path = path;
	ASSERT_EQ(0, image_open(&options, &fresh, &fallback, &error));
	ASSERT_EQ(THAW_ENOGEN, path_view(path, 0, &self->view, &error));
	ASSERT_NE(NULL, strstr(error.text, path));
	image_close(fresh);
}

TEST_F(view, reads_end_where_the_heap_ends)
{
	uint64_t end = (uint64_t)HEAP_PAGES * PAGE;
	char buffer[64];

	ASSERT_EQ(0, path_view(model_path, 0, &self->view, &error));
	ASSERT_EQ(0, thaw_view_read(self->view, end - 64, buffer, 64, &error));
	ASSERT_EQ(0, thaw_view_read(self->view, end, buffer, 0, &error));
	ASSERT_EQ(-ERANGE, thaw_view_read(self->view, end - 63, buffer, 64, &error));
	ASSERT_EQ(-ERANGE, thaw_view_read(self->view, end, buffer, 1, &error));
	ASSERT_EQ(-ERANGE, thaw_view_read(self->view, UINT64_MAX, buffer, 64, &error));
	ASSERT_EQ(-ERANGE, thaw_view_read(self->view, 64, buffer, SIZE_MAX, &error));
}

/* The view is read piece by piece while the writer goes on; its generation stays listed. */
TEST_F(view, commits_beside_a_view_do_not_change_it)
{
	struct model seen = history.kept[6];
	uint8_t *wanted = wanted_heap(&seen), page[PAGE];

	ASSERT_EQ(0, path_view(model_path, 0, &self->view, &error));
	for (unsigned i = 0; i < 4; i++) {
		for (unsigned j = i; j < HEAP_PAGES; j += 4) {
			ASSERT_EQ(0, thaw_view_read(self->view, (uint64_t)j * PAGE, page, PAGE,
						    &error));
			ASSERT_EQ(0, memcmp(page, wanted + (size_t)j * PAGE, PAGE));
		}
		ASSERT_EQ(0, commit_heap(self->image));
	}
	ASSERT_TRUE(view_is(self->view, &seen));
	free(wanted);
}

/* Many commits: what the view has not read yet is written over, and that is said, not returned. */
TEST_F(view, a_generation_that_was_dropped_is_not_taken_for_damage)
{
	uint8_t *wanted = wanted_heap(&history.kept[6]), page[PAGE];
	unsigned right = 0, dropped = 0;

	ASSERT_EQ(0, path_view(model_path, 0, &self->view, &error));
	for (unsigned i = 0; i < 30; i++)
		ASSERT_EQ(0, commit_heap(self->image));
	for (unsigned j = 0; j < HEAP_PAGES; j++) {
		int code = thaw_view_read(self->view, (uint64_t)j * PAGE, page, PAGE, &error);

		dropped += code == THAW_ENOGEN;
		right += !code && !memcmp(page, wanted + (size_t)j * PAGE, PAGE);
	}
	ASSERT_EQ(HEAP_PAGES, right + dropped);
	free(wanted);
}

TEST_F(view, a_damaged_page_is_named_and_the_others_are_read)
{
	struct extent extents[IMAGE_LEAF_PAGES];
	unsigned bad = 0, right = 0, failed = 0;
	uint8_t *wanted = wanted_heap(&history.kept[6]), page[PAGE], byte;
	char name[64];

	ASSERT_EQ(0, image_lookup(self->image, 32, extents, &error));
	while (extents[bad].encoding != EXTENT_RAW)
		bad++;
	ASSERT_EQ(1, pread(image_fd(self->image), &byte, 1, (off_t)extents[bad].offset + 77));
	byte ^= 4;
	ASSERT_EQ(1, pwrite(image_fd(self->image), &byte, 1, (off_t)extents[bad].offset + 77));

	ASSERT_EQ(0, path_view(model_path, 0, &self->view, &error));
	snprintf(name, sizeof(name), "page %u of generation 7 ", 32 + bad);
	for (unsigned j = 0; j < HEAP_PAGES; j++) {
		int code = thaw_view_read(self->view, (uint64_t)j * PAGE, page, PAGE, &error);

		if (code) {
			failed++;
			ASSERT_EQ(THAW_EDAMAGED, code);
			ASSERT_NE(NULL, strstr(error.text, name));
		} else {
			right += !memcmp(page, wanted + (size_t)j * PAGE, PAGE);
		}
	}
	/* Pages are checked by the cluster: its neighbours share its fate, nothing else does. */
	ASSERT_LE(1, failed);
	ASSERT_GE(IMAGE_LEAF_PAGES, failed);
	ASSERT_EQ(HEAP_PAGES, right + failed);
	/* Asked again it is no better. */
	ASSERT_EQ(THAW_EDAMAGED,
		  thaw_view_read(self->view, (uint64_t)(32 + bad) * PAGE, page, 1, &error));
	free(wanted);
}

TEST_F(view, a_file_that_was_cut_short_is_damage)
{
	uint8_t byte;
	int failed = 0;

	ASSERT_EQ(0, path_view(model_path, 0, &self->view, &error));
	ASSERT_EQ(0, truncate(model_path, 16384));
	for (unsigned j = 0; j < HEAP_PAGES; j++) {
		int code = thaw_view_read(self->view, (uint64_t)j * PAGE, &byte, 1, &error);

		failed += code < 0;
		ASSERT_TRUE(!code || code == THAW_EDAMAGED || code == THAW_ENOGEN);
	}
	ASSERT_LT(0, failed);
}

TEST_HARNESS_MAIN
