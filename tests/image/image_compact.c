// SPDX-License-Identifier: GPL-2.0-only
/*
 * image_compact.c - a compacted image holds what it held, and nothing else: pages in the order of their
 * first touch, each once. Whatever happens meanwhile, there is the old file or the new one, whole.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <sys/mount.h>

#include "copies.h"
#include "image/store.h"

static struct thaw_copy_summary summary;

static int compact(unsigned flags)
{
	return thaw_image_compact(model_path, flags, NULL, &summary, &error);
}

/* No more than what is reached, the second record, and what the end of each part is rounded up to. */
static bool is_dense(void)
{
	struct thaw_image_info info;
	uint64_t overhead = 5 * 4096 + 2 * 40000;

	if (path_info(model_path, true, &info, &error))
		return false;
	if (info.file_bytes > info.retained_bytes + overhead)
		fprintf(stderr, "# file %lu, retained %lu\n", (unsigned long)info.file_bytes,
			(unsigned long)info.retained_bytes);
	return info.file_bytes <= info.retained_bytes + overhead;
}

TEST(it_holds_the_same_and_is_dense)
{
	struct thaw_image_info before, after;
	struct stat one, other;
	int count, fd;

	copies_image("same");
	char *old = support_format("%s/old.thaw", model_directory);
	/* Free blocks in the middle and at the end. */
	fd = open(model_path, O_RDWR);
	ASSERT_EQ(0, ftruncate(fd, 8 << 20));
	ASSERT_EQ(0, fchmod(fd, 0640));
	if (!geteuid()) /* others cannot give a file away */
		ASSERT_EQ(0, fchown(fd, 12345, 54321));
	close(fd);
	ASSERT_EQ(0, stat(model_path, &one));
	ASSERT_EQ(0, thaw_image_clone(model_path, old, 0, NULL, NULL, &error));
	ASSERT_EQ(0, path_info(model_path, true, &before, &error));
	ASSERT_EQ(0, compact(0)) TH_LOG("%s", error.text);
	ASSERT_EQ(0, path_info(model_path, true, &after, &error));
	ASSERT_TRUE(copies_same_log(old, model_path, 0));
	count = copies_check(model_path);
	ASSERT_LT(9, count);
	ASSERT_TRUE(is_dense());
	/* What they shared they share: to the byte, as much is reached as before. */
	ASSERT_EQ(before.live_bytes, after.live_bytes);
	ASSERT_EQ(before.retained_bytes, after.retained_bytes);
	ASSERT_EQ(0, memcmp(before.uuid, after.uuid, sizeof(before.uuid)));
	ASSERT_EQ(0, stat(model_path, &other));
	ASSERT_EQ(one.st_mode, other.st_mode);
	ASSERT_EQ(one.st_uid, other.st_uid);
	ASSERT_EQ(one.st_gid, other.st_gid);
	ASSERT_EQ(count, summary.generations);
	ASSERT_EQ(0, summary.generations_lost);
	ASSERT_EQ(one.st_size, summary.bytes_before);
	ASSERT_EQ(other.st_size, summary.bytes_after);
	ASSERT_EQ(2, support_files(model_directory));

	/* Once more changes nothing; and whoever goes on from it, can. */
	ASSERT_EQ(0, compact(0));
	ASSERT_EQ(summary.bytes_before, summary.bytes_after);
	ASSERT_EQ(count, copies_check(model_path));
	for (unsigned i = 0; i < 12; i++)
		ASSERT_EQ(0, copies_branch(history.kept[history.count - 1].number, 2, false));
	ASSERT_LT(9, copies_check(model_path));
	model_teardown();
}

/* Where the extent of each page is, in the newest generation. */
static int places(uint64_t *place)
{
	struct image_options options = {.path = model_path, .read_only = true};
	struct image *image;
	int code = image_open(&options, &image, &fallback, &error);

	for (uint64_t first = 0; !code && first < 512; first += IMAGE_LEAF_PAGES) {
		struct extent extents[IMAGE_LEAF_PAGES];

		code = image_lookup(image, first, extents, &error);
		for (unsigned i = 0; i < IMAGE_LEAF_PAGES; i++)
			place[first + i] = extents[i].offset;
	}
	image_close(image);
	return code;
}

/* What is touched first lies first; then the others of the newest generation in their order. */
TEST(pages_lie_in_the_order_of_first_touch)
{
	struct image_options options = {.read_only = true};
	uint64_t place[512], last = 4096, generation, *touches;
	bool touched[512] = {0};
	struct image *image;

	copies_image("order");
	ASSERT_EQ(0, compact(0));
	ASSERT_EQ(0, places(place));
	for (unsigned i = 0; i < COPIES_FIRST_TOUCHES; i++)
		for (uint64_t page = first_touches[i]; page < first_touches[i] + 16; page++) {
			touched[page] = true;
			if (!place[page])
				continue;
			ASSERT_EQ(last + 4096, place[page]) TH_LOG("page %lu", page);
			last = place[page];
		}
	for (uint64_t page = 0; page < 512; page++)
		if (!touched[page] && place[page]) {
			ASSERT_EQ(last + 4096, place[page]) TH_LOG("page %lu", page);
			last = place[page];
		}
	/* And the order is remembered. */
	options.path = model_path;
	ASSERT_EQ(0, image_open(&options, &image, &fallback, &error));
	ASSERT_EQ((int)COPIES_FIRST_TOUCHES,
		  image_read_working_set(image, &touches, &generation, &error));
	ASSERT_EQ(0, memcmp(touches, first_touches, sizeof(first_touches)));
	ASSERT_EQ(3, generation);
	image_close(image);
	model_teardown();
}

TEST(only_the_newest)
{
	struct thaw_generation *log, *before;
	struct thaw_name *names;
	int count;

	copies_image("newest");
	while (model.kind == THAW_KIND_PORTABLE)
		ASSERT_EQ(0, copies_branch(model.number, 1, false));
	ASSERT_EQ(0, thaw_image_tag(model_path, "last", 0, THAW_TAG_MOVE, &error));
	count = path_log(model_path, &before, &error);
	ASSERT_EQ(0, compact(THAW_COMPACT_NEWEST)) TH_LOG("%s", error.text);
	ASSERT_EQ(2, copies_check(model_path));
	ASSERT_EQ(2, path_log(model_path, &log, &error));
	ASSERT_EQ(model.number, log[1].number);
	ASSERT_EQ(THAW_KIND_BOUND, log[1].kind);
	ASSERT_EQ(log[0].number, log[1].portable);
	ASSERT_EQ(log[0].number, log[1].ancestor);
	ASSERT_EQ(before[count - 1].parent, log[1].parent);
	ASSERT_EQ(0, log[0].ancestor);
	ASSERT_EQ(1, path_names(model_path, &names, &error));
	ASSERT_STREQ("last", names[0].name);
	ASSERT_EQ(2, summary.generations);
	ASSERT_EQ(count - 2, summary.generations_lost);
	ASSERT_EQ(3, summary.names_lost);
	ASSERT_TRUE(is_dense());
	ASSERT_EQ(0, copies_branch(model.number, 3, false));
	ASSERT_LT(2, copies_check(model_path));
	model_teardown();
}

/* Large pages, and states of many blocks, one of them longer than the window that is written through. */
TEST(large_pages_and_states)
{
	static uint8_t page[65536], state[20u << 20], read_page[65536];
	struct image_options options = {
		.create = true, .engine = ENGINE, .page_bytes = 65536, .retain = 3};
	struct thaw_image_info before, after;
	struct commit *commit;
	struct image *image;
	size_t bytes;
	bool stored;
	void *read;

	model_setup("large");
	options.path = model_path;
	ASSERT_EQ(0, image_open(&options, &image, &fallback, &error));
	for (uint64_t n = 1; n <= 3; n++) {
		struct thaw_generation generation = {.heap_bytes = 65536};

		ASSERT_EQ(0, commit_begin(image, &commit, &error));
		for (uint64_t i = 0; i < 300; i += n) {
			memset(page, (int)(i % 250 + n), sizeof(page));
			ASSERT_EQ(0, commit_page(commit, i, page, &stored, &error));
		}
		memset(state, (int)n, sizeof(state));
		ASSERT_EQ(0, commit_finish(commit, &generation, state, n == 3 ? sizeof(state) : n,
					   &error));
	}
	image_close(image);
	ASSERT_EQ(0, path_info(model_path, true, &before, &error));
	ASSERT_EQ(0, compact(0)) TH_LOG("%s", error.text);
	ASSERT_EQ(0, path_info(model_path, true, &after, &error));
	ASSERT_EQ(before.retained_bytes, after.retained_bytes);
	ASSERT_TRUE(is_dense());
	ASSERT_EQ(0, model_verify());
	options.read_only = true;
	ASSERT_EQ(0, image_open(&options, &image, &fallback, &error));
	ASSERT_EQ(0, image_read_state(image, &read, &bytes, &error));
	ASSERT_EQ(sizeof(state), bytes);
	ASSERT_EQ(0, memcmp(state, read, bytes));
	for (uint64_t i = 0; i < 300; i++) {
		uint64_t version = i % 3 == 0 ? 3 : i % 2 == 0 ? 2 : 1;
		struct extent extents[IMAGE_LEAF_PAGES], *extent = &extents[i % IMAGE_LEAF_PAGES];

		ASSERT_EQ(0, image_lookup(image, i - i % IMAGE_LEAF_PAGES, extents, &error));
		ASSERT_EQ(sizeof(page),
			  pread(image_fd(image), read_page, sizeof(page), (off_t)extent->offset));
		memset(page, (int)(i % 250 + version), sizeof(page));
		ASSERT_EQ(0, memcmp(page, read_page, sizeof(page)));
	}
	image_close(image);
	model_teardown();
}

TEST(one_at_a_time)
{
	struct image_options options = model_options(), look = {.read_only = true};
	struct image *image, *reader;
	struct stat status;
	char *other;

	copies_image("locked");
	ASSERT_EQ(0, image_open(&options, &image, &fallback, &error));
	ASSERT_EQ(THAW_EINUSE, compact(0));
	image_close(image);
	/* A reader goes on with the old file. */
	look.path = model_path;
	ASSERT_EQ(0, image_open(&look, &reader, &fallback, &error));
	ASSERT_EQ(0, compact(0));
	ASSERT_EQ(0, copies_branch(model.number, 2, false));
	ASSERT_EQ(SAME, model_compare(reader, history_find(&history, image_opened(reader)->number),
				      &error));
	image_close(reader);
	/* A link stays a link; and of two names, both would not follow. */
	other = support_format("%s/link.thaw", model_directory);
	ASSERT_EQ(0, symlink(model_path, other));
	ASSERT_EQ(0, thaw_image_compact(other, 0, NULL, NULL, &error));
	ASSERT_EQ(0, lstat(other, &status));
	ASSERT_TRUE(S_ISLNK(status.st_mode));
	ASSERT_LT(9, copies_check(model_path));
	unlink(other);
	ASSERT_EQ(0, link(model_path, other));
	ASSERT_EQ(-EMLINK, compact(0));
	unlink(other);
	ASSERT_EQ(0, compact(0));
	ASSERT_EQ(-ENOENT, thaw_image_compact(other, 0, NULL, NULL, &error));
	ASSERT_EQ(1, support_files(model_directory));
	model_teardown();
}

TEST(a_failure_that_was_noted_stays)
{
	struct image_options options = model_options();
	struct image *image;

	copies_image("note");
	for (int i = 0; i < 3; i++) {
		ASSERT_EQ(0, image_open(&options, &image, &fallback, &error));
		ASSERT_EQ(i + 1, image_failed(image, 0));
		image_close(image);
		ASSERT_EQ(0, compact(i ? 0 : THAW_COMPACT_NEWEST));
	}
	ASSERT_EQ(0, image_open(&options, &image, &fallback, &error));
	ASSERT_EQ(3, image_failures(image));
	image_close(image);
	ASSERT_EQ(0, copies_branch(model.number, 1, false));
	ASSERT_EQ(0, compact(0));
	ASSERT_EQ(0, image_open(&options, &image, &fallback, &error));
	ASSERT_EQ(0, image_failures(image));
	image_close(image);
	model_teardown();
}

/* Damage is either where nothing is, or it is told and the file is left alone. */
TEST(a_damaged_image_is_left_as_it_is)
{
	unsigned refused = 0, harmless = 0;
	size_t bytes, after;
	uint8_t *whole, *still;

	copies_image("damage");
	whole = copies_read(model_path, &bytes);
	for (uint64_t offset = 0; offset < bytes; offset += offset < 8192 ? 211 : 5003) {
		int code, fd = open(model_path, O_RDWR | O_TRUNC);

		ASSERT_EQ(bytes, pwrite(fd, whole, bytes, 0));
		close(fd);
		support_flip(model_path, offset, (uint8_t)(1u << offset % 8));
		code = compact(0);
		if (!code) {
			harmless++;
			ASSERT_LT(9, copies_check(model_path)) TH_LOG("offset %lu", offset);
			continue;
		}
		refused++;
		ASSERT_EQ(THAW_EDAMAGED, code) TH_LOG("offset %lu: %s", offset, error.text);
		ASSERT_NE(NULL, strstr(error.text, "thaw repair"));
		still = copies_read(model_path, &after);
		ASSERT_EQ(bytes, after);
		still[offset] ^= (uint8_t)(1u << offset % 8);
		ASSERT_EQ(0, memcmp(whole, still, bytes));
		free(still);
	}
	TH_LOG("%u refused, %u in free space", refused, harmless);
	ASSERT_LT(100, refused);
	ASSERT_EQ(1, support_files(model_directory));
	model_teardown();
}

static int cancel_after(void *arg, uint64_t done, uint64_t total)
{
	(void)done, (void)total;
	return !--*(int *)arg;
}

TEST(stopped_in_the_middle)
{
	struct thaw_copy_ops ops = {.progress = cancel_after};
	size_t bytes, after;
	void *whole, *still;
	int code, calls;

	copies_image("stop");
	whole = copies_read(model_path, &bytes);
	for (int after_calls = 1;; after_calls++) {
		calls = after_calls;
		ops.arg = &calls;
		code = thaw_image_compact(model_path, 0, &ops, NULL, &error);
		if (!code)
			break;
		ASSERT_EQ(-ECANCELED, code);
		still = copies_read(model_path, &after);
		ASSERT_EQ(bytes, after);
		ASSERT_EQ(0, memcmp(whole, still, bytes));
		free(still);
		ASSERT_EQ(1, support_files(model_directory));
	}
	ASSERT_LT(9, copies_check(model_path));
	free(whole);
	model_teardown();
}

/* At any moment; what it leaves is gone after the next. */
TEST(killed_in_the_middle)
{
	unsigned old = 0, left = 0;
	size_t bytes;
	void *whole;

	copies_image("kill");
	whole = copies_read(model_path, &bytes);
	for (unsigned round = 0; round < 150; round++) {
		int fd = open(model_path, O_RDWR | O_TRUNC);
		pid_t child;

		ASSERT_EQ(bytes, pwrite(fd, whole, bytes, 0));
		close(fd);
		child = fork();
		if (!child) {
			thaw_image_compact(model_path, 0, NULL, NULL, NULL);
			pause();
		}
		usleep(random_below(12000));
		kill(child, SIGKILL);
		waitpid(child, NULL, 0);
		old += support_size(model_path) == bytes;
		left += support_files(model_directory) > 1;
		ASSERT_LT(9, copies_check(model_path)) TH_LOG("round %u", round);
	}
	TH_LOG("the old file %u times, a file left over %u times", old, left);
	ASSERT_EQ(0, compact(0));
	ASSERT_EQ(1, support_files(model_directory));
	free(whole);
	model_teardown();
}

TEST(a_full_disk)
{
	char *mounted, *small;
	size_t bytes, after;
	void *whole, *still;

	copies_image("full");
	bytes = support_size(model_path);
	mounted = support_format("%s/small", model_directory);
	small = support_format("%s/image.thaw", mounted);
	ASSERT_EQ(0, mkdir(mounted, 0700));
	char *size = support_format("size=%luk", (unsigned long)bytes / 1024 * 3 / 2);
	if (mount("tmpfs", mounted, "tmpfs", 0, size))
		SKIP(goto out, "no right to mount a small file system");
	ASSERT_EQ(0, thaw_image_clone(model_path, small, 0, NULL, NULL, &error));
	whole = copies_read(small, &bytes);
	EXPECT_EQ(-ENOSPC, thaw_image_compact(small, 0, NULL, NULL, &error));
	EXPECT_NE(NULL, strstr(error.text, "No space left"));
	still = copies_read(small, &after);
	EXPECT_EQ(bytes, after);
	EXPECT_EQ(0, memcmp(whole, still, bytes));
	EXPECT_LT(9, copies_check(small));
	EXPECT_EQ(0, umount(mounted));
out:
	model_teardown();
}

/*
 * In the last instant, between the look at what has the name and the new file's getting it, others put theirs
 * there: before each of the first so many renames of the library's, one.
 */
static unsigned others_left, others_put;
static bool no_exchange;

static const char *other_contents(unsigned number)
{
	return number % 2 ? "this is somebody's only copy" : "and this another's";
}

int __real_renameat2(int from_fd, const char *from, int to_fd, const char *to, unsigned flags);
int __wrap_renameat2(int from_fd, const char *from, int to_fd, const char *to, unsigned flags);

int __wrap_renameat2(int from_fd, const char *from, int to_fd, const char *to, unsigned flags)
{
	if (others_left) {
		char *other = support_format("%s/other", model_directory);

		others_left--;
		support_write(other, other_contents(++others_put));
		if (__real_renameat2(AT_FDCWD, other, AT_FDCWD, model_path, 0))
			support_die("rename");
		free(other);
	}
	if (no_exchange && flags & RENAME_EXCHANGE) {
		errno = EINVAL;
		return -1;
	}
	return __real_renameat2(from_fd, from, to_fd, to, flags);
}

TEST(another_file_under_the_name_stays)
{
	for (unsigned others = 1; others <= 2; others++) {
		size_t bytes;
		char *there;

		copies_image("replaced");
		others_left = others;
		others_put = 0;
		ASSERT_EQ(-EAGAIN, compact(0));
		EXPECT_NE(NULL, strstr(error.text, "another file was put in its place"));
		there = copies_read(model_path, &bytes);
		/* The one that came last. */
		EXPECT_EQ(strlen(other_contents(others_put)), bytes);
		EXPECT_EQ(0, memcmp(there, other_contents(others_put), bytes));
		EXPECT_EQ(others, others_put + others_left);
		free(there);
		others_left = 0;
		model_teardown();
	}
}

/* Nor is an image lost that another program puts in the place of an empty file. */
TEST(an_empty_file_that_is_one_no_more_stays)
{
	struct image_options options = model_options();
	char *empty;
	struct image *image;

	copies_image("whole");
	empty = support_format("%s/empty.thaw", model_directory);
	support_write(empty, "");
	options.path = empty;
	others_left = 0;
	ASSERT_EQ(0, image_open(&options, &image, NULL, &error)) TH_LOG("%s", error.text);
	EXPECT_EQ(0, image_opened(image)->number);
	image_close(image);
	EXPECT_EQ(2, support_files(model_directory));

	/* The name is that of the image here; and the others' are no images. */
	ASSERT_EQ(0, truncate(model_path, 0));
	options.path = model_path;
	others_left = 1;
	others_put = 0;
	ASSERT_EQ(THAW_EFOREIGN, image_open(&options, &image, NULL, &error));
	EXPECT_EQ(1, others_put);
	EXPECT_EQ(strlen(other_contents(1)), support_size(model_path));
	EXPECT_EQ(2, support_files(model_directory));
	model_teardown();
}

/* Where files cannot change places, the old one is replaced all the same. */
TEST(a_file_system_that_cannot_exchange)
{
	copies_image("noexchange");
	no_exchange = true;
	ASSERT_EQ(0, compact(0)) TH_LOG("%s", error.text);
	no_exchange = false;
	ASSERT_LT(9, copies_check(model_path));
	ASSERT_EQ(1, support_files(model_directory));
	model_teardown();
}

TEST_HARNESS_MAIN
