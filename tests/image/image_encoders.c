// SPDX-License-Identifier: GPL-2.0-only
/*
 * image_encoders.c - large commits, whose pages are encoded by threads: they make the same image as one thread does, and of a
 * page that comes again the last one counts; what fails, wherever it does, fails the commit and nothing else; and no
 * thread is left.
 */
#include "kselftest_harness.h"

#include <dirent.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "image/store.h"
#include "image_model.h"
#include "support.h"

static struct thaw_error error, fallback;
static unsigned many;				 /* pages */
static atomic_int threads_made, threads_refused; /* the next ones: so many */
static atomic_int encodings_left = -1, writes_left = -1;
static atomic_uint encoded_elsewhere; /* by another thread than that of the test */
static pthread_t owner;

/* tests.mk has the linker do that. */
int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
			  void *arg);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
			  void *arg);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
			  void *arg)
{
	if (threads_refused > 0 && threads_refused--)
		return EAGAIN;
	threads_made++;
	return __real_pthread_create(thread, attributes, run, arg);
}

int __real_extent_encode(struct extent_scratch *scratch, const struct extent_codec *codec,
			 const struct checksum_key *key, uint64_t number, struct extent *extent,
			 const void *page, uint32_t page_bytes, void *to, const void **stored);
int __wrap_extent_encode(struct extent_scratch *scratch, const struct extent_codec *codec,
			 const struct checksum_key *key, uint64_t number, struct extent *extent,
			 const void *page, uint32_t page_bytes, void *to, const void **stored);
int __wrap_extent_encode(struct extent_scratch *scratch, const struct extent_codec *codec,
			 const struct checksum_key *key, uint64_t number, struct extent *extent,
			 const void *page, uint32_t page_bytes, void *to, const void **stored)
{
	encoded_elsewhere += !pthread_equal(pthread_self(), owner);
	/* It encodes where it would have to wait, when there is much for the threads to do. */
	while (threads_made && !encoded_elsewhere)
		sched_yield();
	if (encodings_left >= 0 && encodings_left-- == 0)
		return -ENOMEM;
	return __real_extent_encode(scratch, codec, key, number, extent, page, page_bytes, to,
				    stored);
}

int __real_sys_pwrite(int fd, const void *buffer, size_t bytes, uint64_t offset);
int __wrap_sys_pwrite(int fd, const void *buffer, size_t bytes, uint64_t offset);
int __wrap_sys_pwrite(int fd, const void *buffer, size_t bytes, uint64_t offset)
{
	if (writes_left >= 0 && writes_left-- == 0)
		return -EIO;
	return __real_sys_pwrite(fd, buffer, bytes, offset);
}

static unsigned encoders_there(void)
{
	DIR *tasks = opendir("/proc/self/task");
	unsigned count = 0;

	for (struct dirent *entry; tasks && (entry = readdir(tasks));) {
		char *path = support_format("/proc/self/task/%s/comm", entry->d_name);
		char name[32] = "";
		FILE *file = fopen(path, "re");

		if (file && fgets(name, sizeof(name), file))
			count += !strcmp(name, "thaw-encode\n");
		if (file)
			fclose(file);
		free(path);
	}
	if (tasks)
		closedir(tasks);
	return count;
}

/* The kernel lists one that was joined for a moment still; one that was not stays, until the test has taken too long. */
static bool no_thread_is_left(void)
{
	while (encoders_there())
		sched_yield();
	return true;
}

static const struct {
	const char *name;
	unsigned compress;
	bool encrypted;
	uint32_t page_bytes;
} ways[] = {{"lz4", THAW_COMPRESS_LZ4, false, PAGE},
	    {"zstd", THAW_COMPRESS_ZSTD(3), false, PAGE},
	    {"encrypted", THAW_COMPRESS_NONE, true, PAGE},
	    {"lz4, encrypted", THAW_COMPRESS_LZ4, true, PAGE},
	    {"lz4, pages of 64 KiB", THAW_COMPRESS_LZ4, false, PAGE_MOST}};
#define WAYS (sizeof(ways) / sizeof(ways[0]))

static int give_key(void *arg, bool make, uint8_t key[THAW_KEY_BYTES], struct thaw_error *why)
{
	(void)arg, (void)make, (void)why;
	memset(key, 3, THAW_KEY_BYTES);
	return 0;
}

static void setup(unsigned way)
{
	thaw_use_key(&(struct thaw_key_source){.get = give_key});
	owner = pthread_self();
	model_page_bytes = ways[way].page_bytes;
	many = 1500;
	model_setup("encoders");
}

static void teardown(void)
{
	model_teardown();
	model_page_bytes = PAGE;
}

static int make(unsigned way, struct image **image)
{
	struct image_options options = model_options();

	options.fresh = true;
	options.compress = ways[way].compress;
	options.encrypted = ways[way].encrypted;
	return image_open(&options, image, &fallback, &error);
}

/* What page `number` has after that many steps: every seventh is zero, of the second step on some are what they were. */
static unsigned version_of(unsigned number, unsigned step)
{
	return number % 7 == step % 7 ? 0 : 1 + step / (1 + number % 3);
}

static int put(struct commit *commit, unsigned number, unsigned step)
{
	static uint64_t page[PAGE_MOST / 8];
	bool stored;

	model_fill(page, number, version_of(number, step));
	return commit_page(commit, number, page, &stored, &error);
}

/* All pages of that step, some of those before it first, and 100 to 140 of them dropped. */
static int put_all(struct commit *commit, unsigned step)
{
	int code = 0;

	for (unsigned before = step > 2 ? step - 2 : 0; !code && before <= step; before++)
		for (unsigned i = 0; !code && i < many; i += 1 + (before < step))
			code = put(commit, i, before);
	return code ? code : commit_drop(commit, 100, 40, &error);
}

static int finish(struct commit *commit)
{
	struct thaw_generation generation = {
		.time_ns = 1, .heap_bytes = (uint64_t)many * model_page_bytes, .durable_ns = 1};

	return commit_finish(commit, &generation, "state", 5, &error);
}

static int step_commit(struct image *image, unsigned step)
{
	struct commit *commit;
	int code = commit_begin(image, &commit, &error);

	if (code)
		return code;
	code = put_all(commit, step);
	if (!code)
		code = finish(commit);
	if (code)
		commit_abort(commit);
	return code;
}

/* How many pages are not those of that step. */
static unsigned wrong(struct image *image, unsigned step)
{
	unsigned count = 0;

	for (unsigned first = 0; first < many; first += IMAGE_LEAF_PAGES) {
		struct extent extents[IMAGE_LEAF_PAGES];

		if (image_lookup(image, first, extents, &error))
			return many;
		for (unsigned i = first; i < first + IMAGE_LEAF_PAGES && i < many; i++) {
			bool gone = i >= 100 && i < 140;

			count += model_compare_page(image, &extents[i - first], i,
						    gone ? 0 : version_of(i, step)) != SAME;
		}
	}
	return count;
}

/* The places of all pages, one after the other. */
static XXH128_hash_t places(struct image *image)
{
	XXH3_state_t *state = XXH3_createState();
	XXH128_hash_t sum;

	XXH3_128bits_reset(state);
	for (unsigned first = 0; first < many; first += IMAGE_LEAF_PAGES) {
		struct extent extents[IMAGE_LEAF_PAGES];

		if (image_lookup(image, first, extents, &error))
			support_die(error.text);
		for (unsigned i = 0; i < IMAGE_LEAF_PAGES; i++) {
			uint64_t place[] = {extents[i].offset, extents[i].bytes, extents[i].birth,
					    extents[i].encoding};

			XXH3_128bits_update(state, place, sizeof(place));
		}
	}
	sum = XXH3_128bits_digest(state);
	XXH3_freeState(state);
	return sum;
}

TEST(threads_make_what_one_makes)
{
	for (unsigned way = 0; way < WAYS; way++) {
		XXH128_hash_t sums[2][3];

		setup(way);
		for (unsigned alone = 0; alone < 2; alone++) {
			struct image *image;

			ASSERT_EQ(0, make(way, &image))
			TH_LOG("%s", error.text);
			threads_made = encoded_elsewhere = 0;
			for (unsigned step = 0; step < 3; step++) {
				threads_refused = alone ? 1000 : 0;
				ASSERT_EQ(0, step_commit(image, step))
				TH_LOG("%s: %s", ways[way].name, error.text);
				ASSERT_EQ(0, wrong(image, step))
				TH_LOG("%s, step %u", ways[way].name, step);
				sums[alone][step] = places(image);
				ASSERT_TRUE(space_is_exact(image));
				ASSERT_TRUE(no_thread_is_left());
			}
			threads_refused = 0;
			ASSERT_EQ(alone, !threads_made);
			ASSERT_EQ(alone, !encoded_elsewhere);
			image_close(image);
			ASSERT_EQ(0, model_verify());
			unlink(model_path);
		}
		ASSERT_EQ(0, memcmp(sums[0], sums[1], sizeof(sums[0])))
		TH_LOG("%s", ways[way].name);
		teardown();
	}
}

/* A generation that is small makes none, and what needs no encoding makes none. */
TEST(few_pages_and_raw_ones_need_no_threads)
{
	struct image_options options;
	struct image *image;
	struct commit *commit;

	setup(0);
	ASSERT_EQ(0, make(0, &image));
	threads_made = 0;
	ASSERT_EQ(0, commit_begin(image, &commit, &error));
	for (unsigned i = 0; i < 1000; i++)
		ASSERT_EQ(0, put(commit, i, 0));
	ASSERT_EQ(0, finish(commit));
	image_close(image);
	options = model_options();
	options.fresh = true;
	ASSERT_EQ(0, image_open(&options, &image, &fallback, &error));
	ASSERT_EQ(0, step_commit(image, 0));
	ASSERT_EQ(0, threads_made);
	image_close(image);
	teardown();
}

/* What was staged for the log, and is too much for it. */
TEST(what_the_log_does_not_take_is_encoded_too)
{
	struct image *image;

	setup(3);
	many = 2 * LOG_STAGED_MOST / PAGE + 1200;
	ASSERT_EQ(0, make(3, &image));
	image_log_wanted(image);
	for (unsigned step = 0; step < 2; step++) {
		threads_made = encoded_elsewhere = 0;
		ASSERT_EQ(0, step_commit(image, step));
		ASSERT_NE(0, encoded_elsewhere);
		ASSERT_EQ(0, wrong(image, step));
		ASSERT_TRUE(space_is_exact(image));
	}
	image_close(image);
	ASSERT_EQ(0, model_verify());
	teardown();
}

TEST(a_commit_is_given_up_while_they_work)
{
	struct image *image;
	struct commit *commit;

	setup(1);
	ASSERT_EQ(0, make(1, &image));
	ASSERT_EQ(0, step_commit(image, 0));
	for (unsigned pages = 1; pages < many; pages += 197) {
		ASSERT_EQ(0, commit_begin(image, &commit, &error));
		for (unsigned i = 0; i < pages; i++)
			ASSERT_EQ(0, put(commit, i, 5));
		commit_abort(commit);
		ASSERT_TRUE(no_thread_is_left());
		ASSERT_TRUE(space_is_exact(image));
		ASSERT_EQ(0, wrong(image, 0));
	}
	ASSERT_EQ(0, step_commit(image, 3));
	ASSERT_EQ(0, wrong(image, 3));
	image_close(image);
	ASSERT_EQ(0, model_verify());
	teardown();
}

/* Every `step`-th call fails, each in a commit of its own. How many did. */
static unsigned failures(struct __test_metadata *_metadata, struct image *image, atomic_int *left,
			 int code, unsigned step)
{
	unsigned failed = 0;

	for (unsigned at = 0;; at += step) {
		int got;

		*left = (int)at;
		got = step_commit(image, 2);
		if (*left >= 0) { /* it has not come to it */
			*left = -1;
			EXPECT_EQ(0, got);
			return failed;
		}
		EXPECT_EQ(code, got)
		TH_LOG("call %u: %s", at, error.text);
		EXPECT_TRUE(no_thread_is_left());
		EXPECT_TRUE(image->doubt.count ||
			    space_is_exact(image)); /* its slot may be there */
		EXPECT_EQ(0, wrong(image, 0))
		TH_LOG("call %u", at);
		if (code != got)
			return 0;
		failed++;
	}
}

TEST(what_fails_fails_the_commit_only)
{
	struct image *image;

	setup(0);
	for (unsigned kind = 0; kind < 2; kind++) {
		ASSERT_EQ(0, make(0, &image));
		ASSERT_EQ(0, step_commit(image, 0));
		ASSERT_LE(3, kind ? failures(_metadata, image, &encodings_left, -ENOMEM, 299)
				  : failures(_metadata, image, &writes_left, -EIO, 1));
		ASSERT_EQ(0, wrong(image, 2));
		image_close(image);
		ASSERT_EQ(0, model_verify());
	}
	teardown();
}

TEST_HARNESS_MAIN
