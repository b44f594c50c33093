// SPDX-License-Identifier: GPL-2.0-only
/*
 * reader_pins.c - whoever reads a generation of an image that a program writes keeps reading exactly
 * that, however many generations are made and dropped meanwhile; for no longer than it lives, and not
 * at the price of a file without bounds. Where nothing is kept for it, it is told that its generation
 * is gone, and never served anything else.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <fcntl.h>
#include <signal.h>
#include <time.h>

#include "image_model.h"

static struct thaw_error error, fallback;

/*
 * The heap of a generation follows from its number: one page in 16 changes in each, so that a reader
 * in another process knows it, too. Of which generation a page is the latest, of at most `number`?
 */
static uint32_t version_in(uint64_t number, unsigned i)
{
	for (; number; number--) {
		uint64_t mix = (number * MODEL_PAGES + i) * 0x9e3779b97f4a7c15ull;

		if ((mix >> 33) % 16 == 0)
			return number % 7 ? (uint32_t)number : 0;
	}
	return 0;
}

static struct model model_of(uint64_t number)
{
	struct model model = {.number = number, .state = (uint32_t)number * 5 + 1};

	for (unsigned i = 0; i < MODEL_PAGES; i++)
		model.version[i] = version_in(number, i);
	return model;
}

/* Every number is one generation here: no commit fails. */
static int step(struct image *image)
{
	struct model model = model_of(image->next);
	uint64_t number = image->next;
	int code = model_commit(image, &model, &error);

	return code ? code : model.number == number ? 0 : THAW_EDAMAGED;
}

static int steps(struct image *image, unsigned count)
{
	int code = 0;

	while (!code && count--)
		code = step(image);
	return code;
}

static int reader_open(struct image **reader, uint64_t generation)
{
	const struct image_options options = {.path = model_path,
					      .read_only = true,
					      .page_bytes = PAGE,
					      .generation = generation};

	return image_open(&options, reader, &fallback, &error);
}

static enum compared reader_compare(struct image *reader)
{
	struct model model = model_of(image_opened(reader)->number);

	return model_compare(reader, &model, &error);
}

static uint64_t held_bytes(const struct image *image)
{
	return ranges_bytes(&image->held);
}

FIXTURE(pins)
{
	struct image_options options;
	struct image *writer, *reader;
};
FIXTURE_SETUP(pins)
{
	model_setup("pins");
	self->options = model_options();
	self->options.retain = 2;
	ASSERT_EQ(0, image_open(&self->options, &self->writer, &fallback, &error));
	ASSERT_EQ(0, steps(self->writer, 20));
	ASSERT_EQ(0, reader_open(&self->reader, 0));
	ASSERT_EQ(20, image_opened(self->reader)->number);
}
FIXTURE_TEARDOWN(pins)
{
	image_close(self->reader);
	image_close(self->writer);
	model_teardown();
}

/* Nothing is kept any more once a commit or two have seen that nobody reads. */
#define EXPECT_ALL_GIVEN_BACK()                            \
	do {                                               \
		ASSERT_EQ(0, steps(self->writer, 2));      \
		EXPECT_EQ(0, held_bytes(self->writer));    \
		EXPECT_TRUE(space_is_exact(self->writer)); \
		EXPECT_EQ(0, model_verify());              \
	} while (0)

TEST_F(pins, keep_what_is_read)
{
	struct image *late;

	/* One that reads all along, and one that has not read anything before the end. */
	ASSERT_EQ(0, reader_open(&late, 19));
	for (int i = 0; i < 80; i++) { /* some 12 MiB */
		ASSERT_EQ(0, step(self->writer));
		if (i % 8 == 0)
			ASSERT_EQ(SAME, reader_compare(self->reader)) TH_LOG("%s", error.text);
	}
	EXPECT_GT(held_bytes(self->writer), 20 * PAGE);
	EXPECT_EQ(THAW_ENOGEN,
		  reader_open(&(struct image *){NULL}, 20)); /* nobody else gets at it */
	ASSERT_EQ(SAME, reader_compare(late)) TH_LOG("%s", error.text);
	ASSERT_EQ(SAME, reader_compare(self->reader)) TH_LOG("%s", error.text);
	EXPECT_EQ(0, model_verify());
	image_close(late);
	image_close(self->reader);
	self->reader = NULL;
	EXPECT_ALL_GIVEN_BACK();
}

/* What keeps the test above from passing by luck: without the pin it fails, and says how. */
TEST_F(pins, without_one_the_generation_is_gone)
{
	unsigned refused = 0;
	void *state;
	size_t bytes;

	pin_release(image_fd(self->reader), 20);
	ASSERT_EQ(0, steps(self->writer, 300));
	EXPECT_EQ(0, held_bytes(self->writer));
	EXPECT_EQ(REFUSED, reader_compare(self->reader));
	for (unsigned i = 0; i < MODEL_PAGES; i += IMAGE_LEAF_PAGES) {
		struct extent extents[IMAGE_LEAF_PAGES];
		uint64_t first = model_page(i) - model_page(i) % IMAGE_LEAF_PAGES;
		int code = image_lookup(self->reader, first, extents, &error);

		EXPECT_TRUE(!code || code == THAW_ENOGEN) TH_LOG("%s", error.text);
		refused += code != 0;
	}
	EXPECT_GT(refused, 0);
	EXPECT_NE(NULL, strstr(error.text, "generation 20 was dropped by the program"));
	EXPECT_EQ(THAW_ENOGEN, image_read_state(self->reader, &state, &bytes, &error));
	EXPECT_NE(NULL, strstr(error.text, "generation 20 was dropped by the program"));
}

/* A generation that is listed needs no help, whoever reads it. */
TEST_F(pins, cost_nothing_on_what_is_retained)
{
	struct commit *commit;

	ASSERT_EQ(0, commit_begin(self->writer, &commit, &error));
	ASSERT_EQ(0, commit_name(commit, "kept", &(uint64_t){20}, &error));
	ASSERT_EQ(0, commit_finish(commit, NULL, NULL, 0, &error));
	ASSERT_EQ(0, steps(self->writer, 100));
	EXPECT_EQ(0, held_bytes(self->writer));
	EXPECT_TRUE(space_is_exact(self->writer));
	EXPECT_EQ(SAME, reader_compare(self->reader));

	/* Until it is not any more. */
	ASSERT_EQ(0, commit_begin(self->writer, &commit, &error));
	ASSERT_EQ(0, commit_name(commit, "kept", NULL, &error));
	ASSERT_EQ(0, commit_finish(commit, NULL, NULL, 0, &error));
	ASSERT_EQ(0, steps(self->writer, 50));
	EXPECT_GT(held_bytes(self->writer), 0);
	EXPECT_EQ(SAME, reader_compare(self->reader));
	image_close(self->reader);
	self->reader = NULL;
	EXPECT_ALL_GIVEN_BACK();
}

/* The next writer does not know what was dropped, only that somebody still reads it. */
TEST_F(pins, outlive_the_writer)
{
	for (int i = 0; i < 10; i++) {
		ASSERT_EQ(0, steps(self->writer, 5));
		image_close(self->writer);
		ASSERT_EQ(0, image_open(&self->options, &self->writer, &fallback, &error));
		ASSERT_EQ(SAME, reader_compare(self->reader)) TH_LOG("%s", error.text);
	}
	ASSERT_EQ(0, steps(self->writer, 5));
	EXPECT_GT(held_bytes(self->writer), 0);
	ASSERT_EQ(SAME, reader_compare(self->reader)) TH_LOG("%s", error.text);
	image_close(self->reader);
	self->reader = NULL;
	EXPECT_ALL_GIVEN_BACK();
}

/* However long somebody reads. Then it is told. */
TEST_F(pins, hold_no_more_than_a_bound)
{
	uint64_t most = 0, largest = 0;

	self->writer->held_most = 8u << 20;
	for (int i = 0; i < 300; i++) {
		ASSERT_EQ(0, step(self->writer));
		most = held_bytes(self->writer) > most ? held_bytes(self->writer) : most;
		largest = model_file_bytes() > largest ? model_file_bytes() : largest;
	}
	TH_LOG("at most %lu KiB were held, in a file of %lu KiB", most >> 10, largest >> 10);
	EXPECT_GT(most, 4u << 20);
	/* That, a quarter of the file, and what a commit drops. */
	EXPECT_LE(most, (8u << 20) + largest / 4 + (1u << 20));
	EXPECT_LE(largest, 24u << 20);
	EXPECT_EQ(REFUSED, reader_compare(self->reader));
	EXPECT_EQ(0, model_verify());
	image_close(self->reader);
	self->reader = NULL;
	EXPECT_ALL_GIVEN_BACK();
}

/* The bound that is promised for the file is kept, whoever reads, and for however long. */
TEST_F_TIMEOUT(pins, do_not_make_the_file_longer_than_promised, 120)
{
	struct thaw_image_info info;
	uint64_t dropped = 0, most = 0, largest = 0;

	for (int i = 0; i < 600; i++) {
		uint64_t before = held_bytes(self->writer);

		ASSERT_EQ(0, step(self->writer));
		dropped += held_bytes(self->writer) > before ? held_bytes(self->writer) - before
							     : 0;
		most = held_bytes(self->writer) > most ? held_bytes(self->writer) : most;
		largest = model_file_bytes() > largest ? model_file_bytes() : largest;
	}
	ASSERT_EQ(0, path_info(model_path, true, &info, &error));
	TH_LOG("of %lu MiB dropped at most %lu were held, in a file of %lu; retained are %lu",
	       dropped >> 20, most >> 20, largest >> 20, info.retained_bytes >> 20);
	EXPECT_GT(dropped, 2 * info.retained_bytes + (64u << 20));
	EXPECT_GT(most, 8u << 20);
	EXPECT_LE(largest, 2 * info.retained_bytes + (64u << 20));
	EXPECT_EQ(REFUSED, reader_compare(self->reader));
	EXPECT_EQ(0, model_verify());
	image_close(self->reader);
	self->reader = NULL;
	EXPECT_ALL_GIVEN_BACK();
}

TEST_F(pins, vanish_with_their_process)
{
	uint64_t largest;
	int ready[2];
	pid_t child;
	char byte;

	image_close(self->reader);
	self->reader = NULL;
	ASSERT_EQ(0, pipe(ready));
	child = fork();
	if (!child) {
		/* The writer's descriptor is here, too, and its lock: that is not what is closed. */
		close(image_fd(self->writer));
		if (reader_open(&self->reader, 0) || write(ready[1], "r", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	close(ready[1]);
	ASSERT_EQ(1, read(ready[0], &byte, 1));
	close(ready[0]);
	ASSERT_EQ(0, steps(self->writer, 200));
	EXPECT_GT(held_bytes(self->writer), 0);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	EXPECT_ALL_GIVEN_BACK();
	largest = model_file_bytes();
	ASSERT_EQ(0, steps(self->writer, 200));
	EXPECT_LE(model_file_bytes(), largest);
}

/* Many readers, who lock what was never there, what is listed, and what is not any more. */
TEST_F(pins, of_many)
{
	int others[100];

	for (unsigned i = 0; i < 100; i++) {
		others[i] = open(model_path, O_RDONLY | O_CLOEXEC);
		ASSERT_LE(0, others[i]);
		for (unsigned n = 0; n < 8; n++)
			pin_take(others[i], 1 + (i * 37 + n * 51) % 300);
	}
	ASSERT_EQ(0, steps(self->writer, 100));
	EXPECT_EQ(SAME, reader_compare(self->reader));
	image_close(self->reader);
	self->reader = NULL;
	ASSERT_EQ(0, steps(self->writer, 10));
	EXPECT_GT(held_bytes(self->writer), 0);
	for (unsigned i = 0; i < 100; i++)
		close(others[i]);
	EXPECT_ALL_GIVEN_BACK();
}

/* Opened at any instant between the commits of another process, and while one is made. */
TEST_F_TIMEOUT(pins, are_in_time, 120)
{
	uint64_t newest = 0, opened = 0, gone = 0;
	pid_t child;

	image_close(self->reader);
	self->reader = NULL;
	image_close(self->writer);
	self->writer = NULL;
	child = fork();
	if (!child) {
		if (image_open(&self->options, &self->writer, &fallback, &error))
			_exit(1);
		_exit(steps(self->writer, 1000000) ? 2 : 0);
	}
	for (int i = 0; i < 250 || newest <= 100; i++) {
		struct timespec pause = {
			.tv_nsec = (long)random_below(random_below(10) ? 300000 : 20000000)};
		uint64_t wanted = random_below(2) ? 0 : newest + random_below(3);
		int code = reader_open(&self->reader, wanted);

		if (code == THAW_ENOGEN && wanted) { /* not there yet, or not any more */
			gone++;
			continue;
		}
		ASSERT_EQ(0, code) TH_LOG("%s", error.text);
		ASSERT_EQ(0, fallback.code) TH_LOG("%s", fallback.text);
		newest = image_opened(self->reader)->number;
		opened++;
		nanosleep(&pause, NULL);
		ASSERT_EQ(SAME, reader_compare(self->reader))
		TH_LOG("opening %d, generation %lu: %s", i, newest, error.text);
		image_close(self->reader);
		self->reader = NULL;
	}
	ASSERT_EQ(0, waitpid(child, NULL, WNOHANG));
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	TH_LOG("%lu opened, the last %lu; %lu were not there", opened, newest, gone);
	EXPECT_GE(opened, 125);
	EXPECT_GT(newest, 100);
	ASSERT_EQ(0, image_open(&self->options, &self->writer, &fallback, &error));
	EXPECT_ALL_GIVEN_BACK();
}

/* ---- One handle: the truth of one commit */

static int count_change(void *arg, const struct thaw_page_change *change)
{
	*(uint64_t *)arg += change->pages;
	return change->kind == THAW_CHANGE_LOST;
}

static int count_run(void *arg, const struct thaw_page_run *run)
{
	*(uint64_t *)arg += run->pages;
	return run->kind == THAW_PAGE_LOST;
}

/* All that is asked of it fits together, to the last generation that it lists. */
static int handle_ask(struct thaw_image *handle)
{
	const struct thaw_generation *list;
	unsigned count = thaw_image_log(handle, &list);
	struct thaw_image_info info;
	uint64_t number, pages, changed = 0;
	int code = thaw_image_info(handle, true, &info, &error);
	char word[24];

	if (code || info.generations != count || !count)
		return code ? code : -EINVAL;
	for (unsigned i = 0; !code && i < count; i++) {
		struct thaw_view *view;

		snprintf(word, sizeof(word), "%lu", (unsigned long)list[i].number);
		pages = 0;
		code = thaw_image_find(handle, word, &number, &error);
		if (!code)
			code = thaw_image_pages(handle, number, count_run, &pages, &error);
		if (!code && pages * info.page_bytes != list[i].heap_bytes)
			code = error_set(&error, -EINVAL, "%lu pages of generation %lu", pages,
					 number);
		if (!code)
			code = thaw_image_diff(handle, list[0].number, number, count_change,
					       &changed, &error);
		if (!code)
			code = thaw_view_open(handle, number, &view, &error);
		for (uint64_t at = 0; !code && at < 16; at++) {
			static char bytes[PAGE];

			code = thaw_view_read(view, model_page((unsigned)at) * PAGE, bytes, PAGE,
					      &error);
		}
		if (!code)
			thaw_view_close(view);
	}
	return code;
}

/* A writer that commits as fast as it can: what a handle lists is there for as long as it is open. */
TEST_F_TIMEOUT(pins, of_a_handle_keep_all_that_it_lists, 120)
{
	uint64_t first = 0, last = 0;
	unsigned asked = 0;
	pid_t child;

	image_close(self->reader);
	self->reader = NULL;
	image_close(self->writer);
	self->writer = NULL;
	child = fork();
	if (!child) {
		if (image_open(&self->options, &self->writer, &fallback, &error))
			_exit(1);
		_exit(steps(self->writer, 1000000) ? 2 : 0);
	}
	/* Until the writer has made a hundred generations, on however busy a machine. */
	while (last < first + 100 || asked < 50) {
		const struct thaw_generation *list;
		struct thaw_image *handle;
		unsigned count;

		ASSERT_EQ(0, thaw_image_open(model_path, &handle, &error))
		TH_LOG("%s", error.text);
		count = thaw_image_log(handle, &list);
		ASSERT_LT(0, count);
		last = list[count - 1].number;
		first = first ? first : last;
		ASSERT_EQ(0, handle_ask(handle))
		TH_LOG("handle %u, generations %lu to %lu: %s", asked, list[0].number, last,
		       error.text);
		thaw_image_close(handle);
		asked++;
		ASSERT_EQ(0, waitpid(child, NULL, WNOHANG));
	}
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	TH_LOG("%u handles while %lu generations were made", asked, last - first);
}

/* The name stands for another image, of other pages and another size, and then for none. */
TEST_F(pins, a_handle_stays_with_its_file)
{
	const struct thaw_generation *list;
	struct thaw_image *handle, *other;
	struct image_options options = self->options;
	struct thaw_image_info info;
	struct thaw_view *view;
	struct image *large;
	char path[256], byte;
	uint64_t number;

	snprintf(path, sizeof(path), "%s/other.thaw", model_directory);
	options.path = path;
	options.page_bytes = 65536;
	ASSERT_EQ(0, image_open(&options, &large, &fallback, &error));
	model_page_bytes = 65536;
	for (int i = 0; i < 3; i++) {
		struct model model = model_of(large->next);

		ASSERT_EQ(0, model_commit(large, &model, &error)) TH_LOG("%s", error.text);
	}
	model_page_bytes = PAGE;
	image_close(large);

	ASSERT_EQ(0, thaw_image_open(model_path, &handle, &error));
	ASSERT_EQ(0, handle_ask(handle)) TH_LOG("%s", error.text);
	ASSERT_EQ(0, rename(path, model_path));
	ASSERT_EQ(0, handle_ask(handle)) TH_LOG("%s", error.text);
	ASSERT_EQ(0, thaw_image_find(handle, "20", &number, &error));
	ASSERT_EQ(0, thaw_image_info(handle, false, &info, &error));
	EXPECT_EQ(PAGE, info.page_bytes);
	EXPECT_EQ((uint64_t)getpid(), info.holder);
	ASSERT_EQ(0, thaw_image_open(model_path, &other, &error));
	ASSERT_EQ(0, thaw_image_info(other, false, &info, &error));
	EXPECT_EQ(65536, info.page_bytes);
	EXPECT_EQ(0, info.holder);
	ASSERT_EQ(0, unlink(model_path));
	ASSERT_EQ(0, handle_ask(handle)) TH_LOG("%s", error.text);
	/* A view is open for itself. */
	ASSERT_EQ(0, thaw_view_open(other, 0, &view, &error));
	EXPECT_EQ(2, thaw_image_log(other, &list));
	thaw_image_close(other);
	thaw_image_close(handle);
	EXPECT_EQ(0, thaw_view_read(view, 0, &byte, 1, &error)) TH_LOG("%s", error.text);
	thaw_view_close(view);
}

/* The image of a heap is the heap's, also when the name is another's, or nobody's. */
TEST(the_image_of_a_heap)
{
	const struct thaw_generation *list;
	const struct thaw_name *names;
	struct thaw_image *image;
	struct thaw_options options = {.flags = THAW_CREATE, .max_bytes = 1 << 20, .engine = "a"};
	struct thaw *heap, *none;
	char other[256];

	model_setup("heap");
	snprintf(other, sizeof(other), "%s/other.thaw", model_directory);
	options.image = model_path;
	if (thaw_open(&options, &heap, &error) == THAW_EKERNEL)
		SKIP(return, "%s", error.text);
	ASSERT_EQ(0, thaw_resize(heap, 65536));
	for (int i = 0; i < 3; i++) {
		((char *)thaw_base(heap))[i]++;
		ASSERT_EQ(0, i == 1 ? thaw_checkpoint_name(heap, "mine") : 0);
		ASSERT_EQ(0, thaw_checkpoint(heap, THAW_REASON_TIMER, NULL, 0, NULL));
	}
	ASSERT_EQ(0, rename(model_path, other));
	for (int round = 0; round < 2; round++) {
		ASSERT_EQ(0, thaw_image_of(heap, &image, &error)) TH_LOG("%s", error.text);
		EXPECT_EQ(3, thaw_image_log(image, &list));
		EXPECT_EQ(1, thaw_image_names(image, &names));
		EXPECT_STREQ("mine", names->name);
		thaw_image_close(image);
		if (!round) {
			struct image_options another = model_options();
			struct image *taken;

			ASSERT_EQ(0, image_open(&another, &taken, NULL, &error));
			image_close(taken);
		}
	}
	options.image = NULL;
	ASSERT_EQ(0, thaw_open(&options, &none, &error));
	EXPECT_EQ(-EROFS, thaw_image_of(none, &image, &error));
	EXPECT_EQ(NULL, image);
	thaw_close(none);
	thaw_close(heap);
	model_teardown();
}

TEST_HARNESS_MAIN
