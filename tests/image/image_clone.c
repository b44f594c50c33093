// SPDX-License-Identifier: GPL-2.0-only
/*
 * image_clone.c - a clone holds what the image holds and is another image; also if somebody commits to
 * the one that is cloned; and if it cannot be made, there is none.
 */
#include "kselftest_harness.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/file.h>
#include <sys/mount.h>

#include "copies.h"
#include "image/store.h"

static char *clone_path;
static struct thaw_copy_summary summary;

static void clone_setup(const char *name)
{
	copies_image(name);
	clone_path = support_format("%s/clone.thaw", model_directory);
}

static int make_clone(uint64_t generation)
{
	return thaw_image_clone(model_path, clone_path, generation, NULL, &summary, &error);
}

TEST(it_holds_the_same_and_is_another_image)
{
	struct thaw_image_info one, other;
	struct stat status;
	size_t bytes, after;
	void *whole, *still;
	int count;

	clone_setup("same");
	whole = copies_read(model_path, &bytes);
	ASSERT_EQ(0, make_clone(0)) TH_LOG("%s", error.text);
	ASSERT_TRUE(copies_same_log(model_path, clone_path, 0));
	count = copies_check(clone_path);
	ASSERT_LT(9, count);
	ASSERT_EQ(count, summary.generations);
	ASSERT_EQ(4, summary.names);
	ASSERT_EQ(0, summary.generations_lost);
	ASSERT_EQ(bytes, summary.bytes_before);
	ASSERT_EQ(0, stat(clone_path, &status));
	ASSERT_EQ(status.st_size, summary.bytes_after);
	ASSERT_EQ(0600, status.st_mode & 07777);
	ASSERT_EQ(2, support_files(model_directory));
	ASSERT_EQ(0, path_info(model_path, false, &one, &error));
	ASSERT_EQ(0, path_info(clone_path, false, &other, &error));
	ASSERT_NE(0, memcmp(one.uuid, other.uuid, sizeof(one.uuid)));
	ASSERT_STREQ(one.engine, other.engine);
	ASSERT_EQ(0, other.fallback.code);

	/* The old one is as it was, and what is committed to either is not in the other. */
	still = copies_read(model_path, &after);
	ASSERT_EQ(bytes, after);
	ASSERT_EQ(0, memcmp(whole, still, bytes));
	strcpy(model_path, clone_path);
	for (unsigned i = 0; i < 12; i++)
		ASSERT_EQ(0, copies_branch(history.kept[history.count - 1].number, 1, false))
	TH_LOG("%s", error.text);
	ASSERT_LT(9, copies_check(clone_path));
	free(still);
	free(whole);
	model_teardown();
}

/* One slot of two is enough. */
TEST(either_slot_will_do)
{
	clone_setup("slots");
	ASSERT_EQ(0, make_clone(0));
	for (unsigned slot = 0; slot < 2; slot++) {
		struct image_options options = {.path = clone_path, .read_only = true};
		struct image *image;
		uint8_t byte;
		int fd = open(clone_path, O_RDWR);

		ASSERT_EQ(1, pread(fd, &byte, 1, slot * 4096 + 100));
		byte ^= 1;
		ASSERT_EQ(1, pwrite(fd, &byte, 1, slot * 4096 + 100));
		ASSERT_EQ(0, image_open(&options, &image, &fallback, &error));
		ASSERT_EQ(THAW_EDAMAGED, fallback.code);
		ASSERT_EQ(model.number, image_opened(image)->number);
		ASSERT_EQ(SAME, model_compare(image, &model, &error));
		image_close(image);
		byte ^= 1;
		ASSERT_EQ(1, pwrite(fd, &byte, 1, slot * 4096 + 100));
		close(fd);
	}
	model_teardown();
}

TEST(an_old_generation_becomes_the_newest)
{
	struct image_options options = {.read_only = true};
	struct image *image;
	struct model back;

	clone_setup("back");
	for (uint64_t to = 2; to <= 4; to += 2) {
		ASSERT_EQ(0, make_clone(to)) TH_LOG("%s", error.text);
		ASSERT_TRUE(copies_same_log(model_path, clone_path, 1));
		back = *history_find(&history, to);
		back.number = summary.newest;
		ASSERT_LT(model.number, back.number);
		history_add(&history, &back);
		ASSERT_EQ(summary.generations, copies_check(clone_path));
		options.path = clone_path;
		ASSERT_EQ(0, image_open(&options, &image, &fallback, &error));
		ASSERT_EQ(back.number, image_opened(image)->number);
		ASSERT_EQ(to, image_opened(image)->parent);
		image_close(image);
		history.count--;
		unlink(clone_path);
	}
	/* The newest need not be made the newest. */
	ASSERT_EQ(0, make_clone(model.number));
	ASSERT_TRUE(copies_same_log(model_path, clone_path, 0));
	model_teardown();
}

TEST(a_failure_that_was_noted_is_noted_in_it)
{
	struct image_options options = model_options();
	struct image *image;

	clone_setup("note");
	for (int i = 0; i < 2; i++) {
		ASSERT_EQ(0, image_open(&options, &image, &fallback, &error));
		ASSERT_EQ(i + 1, image_failed(image, 0));
		image_close(image);
	}
	ASSERT_EQ(0, make_clone(0));
	options.path = clone_path;
	ASSERT_EQ(0, image_open(&options, &image, &fallback, &error));
	ASSERT_EQ(2, image_failures(image));
	image_close(image);
	model_teardown();
}

TEST(holes_stay_holes)
{
	struct stat one, other;
	int fd;

	clone_setup("holes");
	fd = open(model_path, O_RDWR);
	ASSERT_EQ(0, ftruncate(fd, 64 << 20)); /* free blocks: more than all the rest */
	close(fd);
	ASSERT_EQ(0, make_clone(0));
	ASSERT_EQ(0, stat(model_path, &one));
	ASSERT_EQ(0, stat(clone_path, &other));
	ASSERT_LE(64 << 20, other.st_size);
	ASSERT_LE(other.st_blocks, one.st_blocks + 64);
	ASSERT_LT(9, copies_check(clone_path));
	model_teardown();
}

static int cancel_after(void *arg, uint64_t done, uint64_t total)
{
	(void)done, (void)total;
	return !--*(int *)arg;
}

TEST(no_clone_without_its_name_or_a_source)
{
	char *elsewhere, *linked;
	struct thaw_copy_ops ops = {.progress = cancel_after};
	size_t bytes, after;
	void *existing, *still;
	int calls = 1;

	clone_setup("refused");
	elsewhere = support_format("%s/nowhere/clone.thaw", model_directory);
	linked = support_format("%s/link.thaw", model_directory);
	ASSERT_EQ(0, make_clone(0));
	existing = copies_read(clone_path, &bytes);
	ASSERT_EQ(-EEXIST, make_clone(0));
	ASSERT_NE(NULL, strstr(error.text, "exists already: name another"));
	ASSERT_EQ(-EEXIST, thaw_image_clone(model_path, model_path, 0, NULL, NULL, &error));
	ASSERT_EQ(0, symlink("/nonexistent/image", linked));
	ASSERT_EQ(-EEXIST, thaw_image_clone(model_path, linked, 0, NULL, NULL, &error));
	still = copies_read(clone_path, &after);
	ASSERT_EQ(bytes, after);
	ASSERT_EQ(0, memcmp(existing, still, bytes));
	free(existing);
	free(still);
	unlink(linked);
	unlink(clone_path);

	ASSERT_EQ(-ENOENT, thaw_image_clone(model_path, elsewhere, 0, NULL, NULL, &error));
	ASSERT_EQ(-ENOENT, thaw_image_clone(elsewhere, clone_path, 0, NULL, NULL, &error));
	ASSERT_EQ(-EISDIR, thaw_image_clone(model_directory, clone_path, 0, NULL, NULL, NULL));
	ASSERT_EQ(THAW_ENOGEN, make_clone(1000));
	ASSERT_EQ(-EINVAL, thaw_image_clone(model_path, "", 0, NULL, NULL, &error));
	ops.arg = &calls;
	ASSERT_EQ(-ECANCELED, thaw_image_clone(model_path, clone_path, 0, &ops, NULL, &error));
	ASSERT_EQ(1, support_files(model_directory));
	model_teardown();
}

/* Someone commits, keeping three generations, as fast as he can: each clone is one of his moments. */
TEST(while_a_writer_commits)
{
	struct runner runner = {0};
	unsigned clones = 0;
	pthread_t thread;

	model_setup("running");
	clone_path = support_format("%s/clone.thaw", model_directory);
	ASSERT_EQ(0, pthread_create(&thread, NULL, runner_run, &runner));
	while (runner.commits < 5 && !runner.code)
		usleep(1000);
	while (clones < 60 && !runner.code) {
		uint64_t before = runner.commits;

		ASSERT_EQ(0, make_clone(0)) TH_LOG("%s", error.text);
		ASSERT_LE(before, summary.newest + 3);
		ASSERT_LT(0, running_check(clone_path)) TH_LOG("clone %u", clones);
		unlink(clone_path);
		clones++;
	}
	runner.stop = true;
	pthread_join(thread, NULL);
	ASSERT_EQ(0, atomic_load(&runner.code));
	TH_LOG("%u clones of %lu commits", clones, (unsigned long)runner.commits);
	ASSERT_EQ(1, support_files(model_directory));
	model_teardown();
}

/* What is left over by a process that was killed goes with the next; what is being made does not. */
TEST(leftovers_are_removed)
{
	char *left, *others, byte;
	pid_t child;
	int ready[2];

	clone_setup("left");
	left = support_format("%s.tmp.123.0badcafe", clone_path);
	close(open(left, O_CREAT | O_WRONLY, 0600));
	others = support_format("%s.tmp.kept", clone_path);
	close(open(others, O_CREAT | O_WRONLY, 0600));
	ASSERT_EQ(0, pipe(ready));
	child = fork();
	if (!child) { /* makes one, and is not ready with it */
		char *path = support_format("%s.tmp.124.0badcafe", clone_path);
		int fd = open(path, O_CREAT | O_RDWR, 0600);

		if (flock(fd, LOCK_EX) || write(ready[1], "x", 1) != 1)
			_exit(1);
		pause();
	}
	ASSERT_EQ(1, read(ready[0], &byte, 1));
	ASSERT_EQ(4, support_files(model_directory));
	ASSERT_EQ(0, make_clone(0));
	ASSERT_EQ(
		4,
		support_files(
			model_directory)); /* image, clone, the one that is locked, the one of another name */
	unlink(clone_path);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	ASSERT_EQ(0, make_clone(0));
	ASSERT_EQ(3, support_files(model_directory));
	model_teardown();
}

TEST(a_full_disk)
{
	char *mounted;

	clone_setup("full");
	mounted = support_format("%s/small", model_directory);
	ASSERT_EQ(0, mkdir(mounted, 0700));
	if (mount("tmpfs", mounted, "tmpfs", 0, "size=512k"))
		SKIP(goto out, "no right to mount a small file system");
	clone_path = support_format("%s/clone.thaw", mounted);
	EXPECT_EQ(-ENOSPC, make_clone(0));
	EXPECT_NE(NULL, strstr(error.text, "No space left"));
	EXPECT_EQ(-1, access(clone_path, F_OK));
	EXPECT_EQ(0, umount(mounted)); /* nothing is open in it */
	EXPECT_LT(9, copies_check(model_path));
out:
	model_teardown();
}

TEST_HARNESS_MAIN
