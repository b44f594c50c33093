// SPDX-License-Identifier: GPL-2.0-only
/*
 * image_retention.c - the newest generations are kept, and the portable one that the newest descends
 * from; whatever order the kinds come in, and whatever is abandoned, what is kept is whole, what is not
 * gives all of its space back, and keeping an old one costs a commit next to nothing.
 */
#include "kselftest_harness.h"

#include "image_model.h"

static struct history history; /* what has to be listed */
static struct model model;
static struct thaw_error error, fallback;

static void model_change(void)
{
	unsigned changes = random_below(4) ? random_below(30) : random_below(400);

	while (changes--) {
		unsigned i = random_below(random_below(2) ? 100 : MODEL_PAGES);

		model.version[i] = random_below(8) ? (uint32_t)random_next() : 0;
	}
	model.state = (uint32_t)random_below(100000);
}

static int change_and_commit(struct image *image, enum thaw_kind kind, unsigned retain)
{
	int code;

	model_change();
	model.kind = kind;
	code = model_commit(image, &model, &error);
	if (!code) {
		history_add(&history, &model);
		history_retain(&history, retain);
	}
	return code;
}

/* Does the file list what it has to? */
static bool listed_right(void)
{
	struct thaw_generation *log;
	int count = path_log(model_path, &log, &error);
	bool right = count == (int)history.count;

	for (int i = 0; right && i < count; i++)
		right = log[i].number == history.kept[i].number &&
			log[i].kind == history.kept[i].kind &&
			log[i].portable == history.kept[i].portable;
	if (!right)
		fprintf(stderr, "# %d are listed, %u should be: %s\n", count, history.count,
			error.text);
	if (count >= 0)
		free(log);
	return right;
}

static void expect_list(struct __test_metadata *_metadata, const char *kinds)
{
	ASSERT_TRUE(listed_right());
	ASSERT_EQ(strlen(kinds), history.count);
	for (unsigned i = 0; i < history.count; i++)
		ASSERT_EQ(kinds[i] == 'B' ? THAW_KIND_BOUND : THAW_KIND_PORTABLE,
			  history.kept[i].kind);
}

/* The letters are the kinds, oldest first: committed on the left, kept on the right. */
TEST(the_newest_portable_one_stays)
{
	static const struct {
		char kind;
		const char *kept;
	} steps[] = {
		{'B', "B"},    {'B', "BB"},  {'B', "BBB"}, {'B', "BBB"},  {'P', "BBP"},
		{'P', "BPP"},  {'B', "PPB"}, {'B', "PBB"}, {'B', "PBBB"}, {'B', "PBBB"},
		{'B', "PBBB"}, {'P', "BBP"}, {'B', "BPB"}, {'B', "PBB"},  {'B', "PBBB"},
		{'B', "PBBB"}, {'P', "BBP"}, {'P', "BPP"}, {'P', "PPP"},  {'P', "PPP"},
		{'B', "PPB"},  {'P', "PBP"}, {'B', "BPB"}, {'P', "PBP"},  {'B', "BPB"},
	};
	struct image_options options = model_options();
	struct image *image;

	model_setup("newest");
	options.retain = 3;
	ASSERT_EQ(0, image_open(&options, &image, &fallback, &error));
	for (unsigned i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		ASSERT_EQ(0, change_and_commit(image,
					       steps[i].kind == 'B' ? THAW_KIND_BOUND
								    : THAW_KIND_PORTABLE,
					       3))
		TH_LOG("%s", error.text);
		expect_list(_metadata, steps[i].kept);
		ASSERT_EQ((int)history.count, history_compare(&history));
		ASSERT_EQ(0, model_verify());
		ASSERT_TRUE(space_is_exact(image)) TH_LOG("step %u", i);
	}
	image_close(image);
	model_teardown();
}

/* The state that generation had is what goes on; 0: an empty heap. */
static void model_return(uint64_t number)
{
	const struct model *found = history_find(&history, number);

	if (found)
		model = *found;
	else
		memset(&model, 0, sizeof(model));
}

/*
 * Three generations and one besides are kept. Oldest first: a letter commits one of that kind, a digit
 * opens the one of that number first, 0 none. What is listed at the end, and which portable one can be
 * opened; 0: none.
 */
TEST(a_portable_one_of_an_abandoned_line_goes_with_it)
{
	static const struct {
		const char *steps;
		uint64_t listed[5];
		uint64_t portable;
	} cases[] = {
		/* A fresh start. 2 would be kept for ever, if it were for its kind alone. */
		{"PPBBB", {2, 3, 4, 5}, 2},
		{"PPBBB0B", {4, 5, 6}, 0},
		{"PP0B", {1, 2, 3}, 0},
		{"PP0BBB", {3, 4, 5}, 0},
		{"PPBBB0BBBPBBB", {9, 10, 11, 12}, 9},
		/* Back to an older one, before a portable one that is abandoned. */
		{"PBP2B", {1, 2, 3, 4}, 1},
		{"PBP2BB", {1, 3, 4, 5}, 1},
		{"PBP2BBBB", {1, 5, 6, 7}, 1},
		/* What it descends from was dropped when another was the newest. */
		{"PBBP3B", {3, 4, 5}, 0},
		{"PBBP3BBB", {5, 6, 7}, 0},
		{"PBBP3BBBPBBB", {8, 9, 10, 11}, 8},
		/* Back to the extra one, and to one that is not portable behind it. */
		{"PBBBBB1BBBB", {1, 8, 9, 10}, 1},
		{"PBBBBB4BBBB", {1, 8, 9, 10}, 1},
	};
	struct image_options options = model_options();
	struct image *image;

	options.retain = 3;
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		unsigned count = 0;

		model_setup("abandoned");
		history.count = 0;
		model_return(0);
		options.generation = 0;
		options.fresh = options.portable = false;
		ASSERT_EQ(0, image_open(&options, &image, &fallback, &error));
		for (const char *step = cases[i].steps; *step; step++) {
			if (*step < 'A') {
				image_close(image);
				options.generation = (uint64_t)(*step - '0');
				options.fresh = !options.generation;
				ASSERT_EQ(0, image_open(&options, &image, &fallback, &error))
				TH_LOG("%s", error.text);
				model_return(options.generation);
				continue;
			}
			ASSERT_EQ(0, change_and_commit(image, *step == 'B', 3));
			ASSERT_TRUE(listed_right()) TH_LOG("%s", cases[i].steps);
			ASSERT_TRUE(space_is_exact(image)) TH_LOG("%s", cases[i].steps);
		}
		image_close(image);
		while (cases[i].listed[count])
			count++;
		ASSERT_EQ(count, history.count) TH_LOG("%s", cases[i].steps);
		for (unsigned n = 0; n < count; n++)
			ASSERT_EQ(cases[i].listed[n], history.kept[n].number)
		TH_LOG("%s", cases[i].steps);
		ASSERT_EQ((int)count, history_compare(&history));
		ASSERT_EQ(0, model_verify());

		options.generation = 0;
		options.fresh = false;
		options.portable = true;
		ASSERT_EQ(cases[i].portable ? 0 : THAW_ENOGEN,
			  image_open(&options, &image, &fallback, &error))
		TH_LOG("%s", cases[i].steps);
		ASSERT_EQ(0, fallback.code);
		if (cases[i].portable) {
			ASSERT_EQ(cases[i].portable, image_opened(image)->number);
			image_close(image);
		}
		model_teardown();
	}
}

/* What a file that was told to keep more holds, goes with the first commit that is told less. */
TEST(less_is_retained_than_before)
{
	struct image_options options = model_options();
	struct image *image;

	model_setup("less");
	options.retain = 8;
	ASSERT_EQ(0, image_open(&options, &image, &fallback, &error));
	for (const char *kind = "PBBPBBBB"; *kind; kind++)
		ASSERT_EQ(0, change_and_commit(image, *kind == 'B', 8));
	expect_list(_metadata, "PBBPBBBB");
	image_close(image);
	options.retain = 2;
	ASSERT_EQ(0, image_open(&options, &image, &fallback, &error));
	ASSERT_EQ(0, change_and_commit(image, THAW_KIND_BOUND, 2));
	expect_list(_metadata, "PBB");
	ASSERT_EQ(4, history.kept[0].number);
	ASSERT_TRUE(space_is_exact(image));
	ASSERT_EQ(3, history_compare(&history));
	image_close(image);
	options.retain = 8;
	ASSERT_EQ(0, image_open(&options, &image, &fallback, &error));
	for (unsigned i = 0; i < 12; i++)
		ASSERT_EQ(0, change_and_commit(image, THAW_KIND_BOUND, 8));
	expect_list(_metadata, "PBBBBBBBB");
	ASSERT_EQ(4, history.kept[0].number);
	ASSERT_TRUE(space_is_exact(image));
	ASSERT_EQ(9, history_compare(&history));
	ASSERT_EQ(0, model_verify());
	image_close(image);
	model_teardown();
}

/* Long series of one kind, and everything mixed. */
static enum thaw_kind kind_next(int step)
{
	switch (step / 40 % 4) {
	case 0:
		return THAW_KIND_BOUND;
	case 1:
		return random_below(10) ? THAW_KIND_BOUND : THAW_KIND_PORTABLE;
	case 2:
		return random_below(2) ? THAW_KIND_BOUND : THAW_KIND_PORTABLE;
	default:
		return random_below(4) ? THAW_KIND_PORTABLE : THAW_KIND_BOUND;
	}
}

/* Open the way `options` say, expecting generation `expected`, which is in the history. */
static int open_expecting(struct image_options *options, struct image **image, uint64_t expected)
{
	if (image_open(options, image, &fallback, &error))
		return 1;
	if (fallback.code || image_opened(*image)->number != expected)
		return 2;
	model_return(expected);
	return model_compare(*image, &model, &error) == SAME ? 0 : 3;
}

/* The number of the portable one that can be opened; 0: there is none. */
static uint64_t newest_portable(void)
{
	uint64_t named = history.count ? history.kept[history.count - 1].portable : 0;

	return history_find(&history, named) ? named : 0;
}

FIXTURE(histories)
{
	struct image *image;
};
FIXTURE_VARIANT(histories)
{
	unsigned retain; /* 0: another one at each opening */
	bool branches;	 /* go back to older ones, start afresh */
};
FIXTURE_VARIANT_ADD(histories, retain_1){1, false};
FIXTURE_VARIANT_ADD(histories, retain_2){2, false};
FIXTURE_VARIANT_ADD(histories, retain_3){3, false};
FIXTURE_VARIANT_ADD(histories, retain_8){8, false};
FIXTURE_VARIANT_ADD(histories, branches_1){1, true};
FIXTURE_VARIANT_ADD(histories, branches_2){2, true};
FIXTURE_VARIANT_ADD(histories, branches_3){3, true};
FIXTURE_VARIANT_ADD(histories, branches_8){8, true};
FIXTURE_VARIANT_ADD(histories, branches_changing){0, true};
FIXTURE_SETUP(histories)
{
	model_setup("histories");
}
FIXTURE_TEARDOWN(histories)
{
	model_teardown();
}

static const unsigned retains[] = {1, 2, 3, 8};

TEST_F(histories, keep_what_they_should_and_give_the_rest_back)
{
	struct image_options options = model_options();
	struct thaw_image_info info;
	uint64_t largest = 0;

	options.retain = variant->retain ? variant->retain : 3;
	random_state += options.retain * 31 + variant->branches;
	ASSERT_EQ(0, image_open(&options, &self->image, &fallback, &error));
	for (int step = 0; step < 480; step++) {
		unsigned what = random_below(24);

		if (what == 0) {
			model_abort_somewhere(&model, self->image);
		} else if (what <= (variant->branches ? 5 : 2)) {
			uint64_t expected = history.count ? history.kept[history.count - 1].number
							  : 0;

			image_close(self->image);
			options.generation = 0;
			options.fresh = options.portable = false;
			if (!variant->retain)
				options.retain = retains[random_below(4)];
			if (what == 3 && history.count)
				options.generation = expected =
					history.kept[random_below(history.count)].number;
			if (what == 4 && !random_below(3)) {
				options.fresh = true;
				expected = 0;
			}
			options.portable = what == 5;
			if (options.portable && history.count && !newest_portable()) {
				ASSERT_EQ(THAW_ENOGEN,
					  image_open(&options, &self->image, &fallback, &error));
				options.portable = false;
			}
			if (options.portable)
				expected = newest_portable();
			ASSERT_EQ(0, open_expecting(&options, &self->image, expected))
			TH_LOG("step %d, generation %lu: %s", step, expected, error.text);
		} else {
			ASSERT_EQ(0,
				  change_and_commit(self->image, kind_next(step), options.retain))
			TH_LOG("%s", error.text);
			ASSERT_TRUE(listed_right()) TH_LOG("step %d", step);
		}
		if (model_file_bytes() > largest)
			largest = model_file_bytes();
		ASSERT_EQ(SAME, model_compare(self->image, &model, &error));
		if (step % 3 == 0)
			ASSERT_TRUE(space_is_exact(self->image)) TH_LOG("step %d", step);
		if (step % 4 == 0)
			ASSERT_EQ((int)history.count, history_compare(&history));
		if (step % 10 == 0)
			ASSERT_EQ(0, model_verify());
	}
	ASSERT_EQ((int)history.count, history_compare(&history));
	ASSERT_EQ(0, path_info(model_path, true, &info, &error));
	TH_LOG("file at most %lu KiB; now %lu, live %lu, retained %lu", largest >> 10,
	       info.file_bytes >> 10, info.live_bytes >> 10, info.retained_bytes >> 10);
	/* A heap is 2.4 MiB at most; each kept, and two in flight, differ in 1.6 MiB at most. */
	ASSERT_LE(largest, (3u << 20) * (variant->retain ? variant->retain + 3 : 11));
	image_close(self->image);
}

/* Of this process, before this one. */
static uint64_t reads_made(void)
{
	FILE *io = fopen("/proc/self/io", "r");
	uint64_t reads = 0;
	char line[64];

	while (io && fgets(line, sizeof(line), io))
		sscanf(line, "syscr: %lu", &reads);
	if (io)
		fclose(io);
	return reads;
}

static int store(struct commit *commit, uint64_t page, uint32_t version)
{
	uint64_t bytes[PAGE / 8];
	bool stored;

	model_fill(bytes, page, version);
	return commit_page(commit, page, bytes, &stored, &error);
}

#define LARGE_PAGES (64u << 20 >> 12)

/* Commits of a handful of pages each: how many reads each of them made, on average. */
static int reads_per_commit(struct image *image, uint32_t kind, unsigned commits, uint64_t *reads)
{
	uint64_t before = reads_made();

	for (unsigned i = 0; i < commits; i++) {
		struct thaw_generation generation = {.heap_bytes = 65536, .kind = kind};
		struct commit *commit;
		int code = commit_begin(image, &commit, &error);

		for (unsigned n = 0; !code && n < 5; n++)
			code = store(commit, random_below(LARGE_PAGES), (uint32_t)random_next());
		if (!code)
			code = commit_finish(commit, &generation, NULL, 0, &error);
		if (code)
			return code;
	}
	*reads = (reads_made() - before) / commits;
	return 0;
}

/* P, B, B, B, ...: the portable one differs from its neighbour in ever more, and it costs nothing. */
TEST(an_old_portable_one_costs_little)
{
	struct image_options options = model_options();
	struct thaw_generation generation = {.heap_bytes = 65536};
	struct commit *commit;
	struct image *image;
	uint64_t portable, first, later;

	reads_made();
	if (!reads_made()) /* not even that one */
		SKIP(return, "this kernel does not count a process's reads");
	model_setup("cheap");
	options.retain = 3;
	ASSERT_EQ(0, image_open(&options, &image, &fallback, &error));
	ASSERT_EQ(0, commit_begin(image, &commit, &error));
	for (unsigned page = 0; page < LARGE_PAGES; page++)
		ASSERT_EQ(0, store(commit, page, 1));
	ASSERT_EQ(0, commit_finish(commit, &generation, NULL, 0, &error));
	ASSERT_EQ(0, reads_per_commit(image, THAW_KIND_PORTABLE, 50, &portable));
	ASSERT_EQ(0, reads_per_commit(image, THAW_KIND_BOUND, 50, &first));
	ASSERT_EQ(0, reads_per_commit(image, THAW_KIND_BOUND, 1000, &portable));
	ASSERT_EQ(0, reads_per_commit(image, THAW_KIND_BOUND, 50, &later));
	TH_LOG("reads in a commit of 5 pages: %lu at first, %lu after 1000 (%lu on average)", first,
	       later, portable);
	/* Five paths of four levels, each beside that of two neighbours. */
	ASSERT_LE(first, 100);
	ASSERT_LE(later, 100);
	ASSERT_LT(0, first); /* they were counted: a path is read */
	image_close(image);
	ASSERT_EQ(0, model_verify());
	model_teardown();
}

/* A blob needs one hole for all of it; pages that live long must not end up in each of them. */
TEST(long_states_leave_holes_that_the_next_can_use)
{
	static uint8_t state[4u << 20];
	struct image_options options = model_options();
	struct thaw_image_info info;
	struct commit *commit;
	struct image *image;

	model_setup("blobs");
	options.retain = 3;
	ASSERT_EQ(0, image_open(&options, &image, &fallback, &error));
	for (unsigned i = 0; i < 1000; i++) {
		struct thaw_generation generation = {
			.heap_bytes = 65536, .kind = i ? THAW_KIND_BOUND : THAW_KIND_PORTABLE};
		size_t bytes = sizeof(state) / 2 + random_below(sizeof(state) / 2);

		ASSERT_EQ(0, commit_begin(image, &commit, &error));
		for (unsigned n = i ? random_below(60) : 4096; n--;)
			ASSERT_EQ(0, store(commit, i ? random_below(4096) : n, i + 1));
		memset(state, (int)i, sizeof(state));
		ASSERT_EQ(0, commit_finish(commit, &generation, state, bytes, &error));
	}
	image_close(image);
	ASSERT_EQ(0, path_info(model_path, true, &info, &error));
	TH_LOG("file %lu MiB, live %lu, retained %lu", info.file_bytes >> 20, info.live_bytes >> 20,
	       info.retained_bytes >> 20);
	ASSERT_LE(info.file_bytes, 2 * (info.live_bytes + info.retained_bytes) + (64u << 20));
	ASSERT_EQ(0, model_verify());
	model_teardown();
}

TEST_HARNESS_MAIN
