// SPDX-License-Identifier: GPL-2.0-only
/*
 * image_format.c - opening: creating, foreign and newer files, other engines, the lock, read-only
 * access, the choice of a generation, fresh starts, and what the tools say about it.
 */
#include "kselftest_harness.h"

#include <pthread.h>
#include <sys/file.h>

#include "image/format.h"
#include "image/store.h"
#include "image_model.h"

static struct thaw_error error, fallback;
static struct model model;

static int try_open(struct image_options options)
{
	struct image *image;
	int code = image_open(&options, &image, &fallback, &error);

	if (!code)
		image_close(image);
	return code;
}

static void write_file(const void *bytes, size_t count, off_t offset)
{
	int fd = open(model_path, O_RDWR | O_CREAT, 0600);

	if (fd < 0 || pwrite(fd, bytes, count, offset) != (ssize_t)count)
		abort();
	close(fd);
}

static void commit_some(unsigned generations)
{
	struct image_options options = model_options();
	struct image *image;

	if (image_open(&options, &image, &fallback, &error))
		abort();
	while (generations--) {
		model.version[generations % MODEL_PAGES]++;
		model.state++;
		if (model_commit(image, &model, &error))
			abort();
	}
	image_close(image);
}

TEST(create)
{
	struct image_options options = model_options();
	struct thaw_image_info info;
	struct thaw_generation *log;

	model_setup("create");
	options.create = false;
	ASSERT_EQ(-ENOENT, try_open(options));
	ASSERT_NE(NULL, strstr(error.text, model_path));
	ASSERT_EQ(0, try_open(model_options()));
	ASSERT_EQ(2 * 4096, model_file_bytes());
	ASSERT_EQ(0, try_open(options)); /* it exists now */
	ASSERT_EQ(0, path_log(model_path, &log, &error));
	free(log);
	ASSERT_EQ(0, path_info(model_path, true, &info, &error));
	ASSERT_EQ(0, info.generations);
	ASSERT_EQ(0, info.holder);
	ASSERT_EQ(0, strcmp(ENGINE, info.engine));
	ASSERT_EQ(PAGE, info.page_bytes);
	ASSERT_EQ(0, model_verify());
	/* Nothing else was left in the directory. */
	ASSERT_EQ(0, unlink(model_path));
	ASSERT_EQ(0, rmdir(model_directory));
}

TEST(create_in_an_empty_file)
{
	struct image_options options = model_options();

	model_setup("empty");
	write_file("", 0, 0);
	options.create = false;
	ASSERT_EQ(THAW_EFOREIGN, try_open(options));
	ASSERT_EQ(0, try_open(model_options()));
	commit_some(2);
	ASSERT_EQ(0, model_verify());
	model_teardown();
}

TEST(create_fails)
{
	static const char *const inject[] = {"write:ENOSPC:0", "write:EIO:1", "fdatasync:EIO:0",
					     "open:EACCES:1"};

	model_setup("fails");
	for (unsigned i = 0; i < 4; i++) {
		int status;
		pid_t child = fork();

		if (!child) {
			setenv("THAW_INJECT", inject[i], 1);
			_exit(try_open(model_options()) ? 0 : 1);
		}
		waitpid(child, &status, 0);
		ASSERT_EQ(0, status);
	}
	ASSERT_EQ(0, rmdir(model_directory)); /* not a trace */
}

static void *create_thread(void *arg)
{
	struct image_options options = model_options();
	struct image *image;
	int *code = arg;

	*code = image_open(&options, &image, NULL, NULL);
	if (!*code)
		image_close(image);
	return NULL;
}

/* Of many that create at once, each opens it or is told that it is in use. */
TEST(create_at_once)
{
	for (int round = 0; round < 20; round++) {
		pthread_t threads[8];
		int codes[8];

		model_setup("race");
		if (round % 2)
			write_file("", 0, 0);
		for (int i = 0; i < 8; i++)
			pthread_create(&threads[i], NULL, create_thread, &codes[i]);
		for (int i = 0; i < 8; i++)
			pthread_join(threads[i], NULL);
		for (int i = 0; i < 8; i++)
			ASSERT_TRUE(!codes[i] || codes[i] == THAW_EINUSE);
		ASSERT_EQ(0, model_verify());
		ASSERT_EQ(0, unlink(model_path));
		ASSERT_EQ(0, rmdir(model_directory));
	}
}

TEST(foreign)
{
	char text[10000];

	model_setup("foreign");
	memset(text, 'x', sizeof(text));
	write_file(text, sizeof(text), 0);
	ASSERT_EQ(THAW_EFOREIGN, try_open(model_options()));
	ASSERT_EQ(THAW_EFOREIGN, model_verify());
	ASSERT_EQ(sizeof(text), model_file_bytes());
	ASSERT_EQ(0, truncate(model_path, 3));
	ASSERT_EQ(THAW_EFOREIGN, try_open(model_options()));
	model_teardown();
}

TEST(newer_format)
{
	struct disk_slot slots[2];
	XXH128_hash_t hash;
	int fd;

	model_setup("newer");
	commit_some(3);
	fd = open(model_path, O_RDWR);
	for (int i = 0; i < 2; i++) {
		ASSERT_EQ(sizeof(slots[i]), pread(fd, &slots[i], sizeof(slots[i]), i * 4096));
		slots[i].format++;
		hash = XXH3_128bits(&slots[i], offsetof(struct disk_slot, checksum));
		memcpy(slots[i].checksum, &hash, sizeof(hash));
	}
	/* One slot of a newer format: the image is newer, however whole the other slot is. */
	ASSERT_EQ(sizeof(slots[1]), pwrite(fd, &slots[1], sizeof(slots[1]), 4096));
	ASSERT_EQ(THAW_EFORMAT, try_open(model_options()));
	ASSERT_EQ(sizeof(slots[0]), pwrite(fd, &slots[0], sizeof(slots[0]), 0));
	ASSERT_EQ(THAW_EFORMAT, try_open(model_options()));
	ASSERT_NE(NULL, strstr(error.text, "format 0xd0000009"));
	ASSERT_NE(NULL, strstr(error.text, "0xd0000007 to 0xd0000008"));
	ASSERT_EQ(THAW_EFORMAT, model_verify());
	close(fd);
	model_teardown();
}

TEST(other_engine_or_pages)
{
	struct image_options options = model_options();

	model_setup("engine");
	commit_some(1);
	options.engine = "model-2";
	ASSERT_EQ(THAW_EENGINE, try_open(options));
	ASSERT_NE(NULL, strstr(error.text, "model-1"));
	ASSERT_NE(NULL, strstr(error.text, "model-2"));
	options = model_options();
	options.page_bytes = 5000;
	ASSERT_EQ(-EINVAL, try_open(options));
	options.page_bytes = 131072;
	ASSERT_EQ(-EINVAL, try_open(options));
	model_teardown();
}

/* An image keeps the pages it was made with; a kernel with larger ones refuses it, others do not. */
TEST(pages_of_other_kernels)
{
	static const uint32_t sizes[] = {4096, 8192, 16384, 32768, 65536};

	for (unsigned made = 0; made < 5; made++) {
		struct image_options options = model_options();
		char wanted[64];

		model_setup("pages");
		options.page_bytes = sizes[made];
		ASSERT_EQ(0, try_open(options));
		for (unsigned opened = 0; opened < 5; opened++) {
			struct image *image;

			options.page_bytes = sizes[opened];
			if (opened > made) {
				ASSERT_EQ(THAW_EFORMAT, try_open(options));
				snprintf(wanted, sizeof(wanted),
					 "have %u bytes, and this kernel's have %u", sizes[made],
					 sizes[opened]);
				ASSERT_NE(NULL, strstr(error.text, wanted))
				TH_LOG("%s", error.text);
				continue;
			}
			ASSERT_EQ(0, image_open(&options, &image, &fallback, &error));
			ASSERT_EQ(sizes[made], image_page_bytes(image));
			image_close(image);
		}
		/* Who only reads it takes it as it is. */
		options.read_only = true;
		options.page_bytes = 0;
		ASSERT_EQ(0, try_open(options));
		model_teardown();
	}
}

TEST(one_writer)
{
	struct image_options options = model_options(),
			     reader = {.path = model_path, .read_only = true};
	struct thaw_image_info info;
	struct image *image;
	char pid[32];
	int to_child[2], to_parent[2], status;
	pid_t child;
	char byte;

	model_setup("lock");
	ASSERT_EQ(0, pipe(to_child));
	ASSERT_EQ(0, pipe(to_parent));
	child = fork();
	if (!child) {
		commit_some(2);
		if (image_open(&options, &image, &fallback, &error) ||
		    write(to_parent[1], "x", 1) != 1)
			_exit(1);
		_exit(read(to_child[0], &byte, 1) == 1 ? 0 : 2);
	}
	ASSERT_EQ(1, read(to_parent[0], &byte, 1));
	ASSERT_EQ(THAW_EINUSE, try_open(model_options()));
	snprintf(pid, sizeof(pid), "process %d:", child);
	ASSERT_NE(NULL, strstr(error.text, pid)) TH_LOG("%s", error.text);
	ASSERT_EQ(0, path_info(model_path, false, &info, &error));
	ASSERT_EQ(child, info.holder);
	ASSERT_EQ(0, try_open(reader));
	ASSERT_EQ(0, model_verify());
	ASSERT_EQ(THAW_EINUSE, try_open(model_options())); /* verify's close released nothing */
	ASSERT_EQ(1, write(to_child[1], "x", 1));
	waitpid(child, &status, 0);
	ASSERT_EQ(0, status);
	ASSERT_EQ(0, try_open(model_options()));

	/* In one process, too; and looking at it does not give up the lock. */
	ASSERT_EQ(0, image_open(&options, &image, &fallback, &error));
	ASSERT_EQ(0, model_verify());
	ASSERT_EQ(THAW_EINUSE, try_open(model_options()));
	ASSERT_EQ(0, path_info(model_path, false, &info, &error));
	ASSERT_EQ(getpid(), info.holder);
	image_close(image);
	model_teardown();
}

TEST(read_only)
{
	struct image_options options = {.path = model_path, .read_only = true};
	struct commit *commit;
	struct image *image;

	model_setup("reader");
	options.create = true; /* means nothing */
	ASSERT_EQ(-ENOENT, try_open(options));
	commit_some(3);
	ASSERT_EQ(0, image_open(&options, &image, &fallback, &error));
	ASSERT_EQ(3, image_opened(image)->number);
	ASSERT_EQ(SAME, model_compare(image, &model, &error));
	ASSERT_EQ(-EROFS, commit_begin(image, &commit, &error));
	/*
	 * The writer goes on, and what is read here is dropped: it stays what it was, for as long as
	 * somebody reads it, within what may wait for readers (STORE_HELD_MOST).
	 */
	struct model old = model;
	for (int i = 0; i < 20; i++) {
		for (unsigned page = 0; page < MODEL_PAGES / 6; page++)
			model.version[page] = 100 + i;
		commit_some(1);
		ASSERT_EQ(SAME, model_compare(image, &old, &error));
	}
	image_close(image);
	/* Who gave up his claim gets an error: never other data, nor "damaged". */
	ASSERT_EQ(0, image_open(&options, &image, &fallback, &error));
	pin_release(image_fd(image), image_opened(image)->number);
	for (int i = 0; i < 20; i++) {
		for (unsigned page = 0; page < MODEL_PAGES; page++)
			model.version[page] = 200 + i;
		commit_some(1);
	}
	struct extent extents[IMAGE_LEAF_PAGES];
	ASSERT_EQ(THAW_ENOGEN, image_lookup(image, 0, extents, &error));
	image_close(image);
	model_teardown();
}

TEST(choose_a_generation)
{
	struct image_options options = model_options();
	struct image *image;

	model_setup("choose");
	commit_some(12); /* 8 to 12 remain */
	options.generation = 7;
	ASSERT_EQ(THAW_ENOGEN, try_open(options));
	ASSERT_NE(NULL, strstr(error.text, "8 to 12"));
	options.generation = 13;
	ASSERT_EQ(THAW_ENOGEN, try_open(options));
	options.generation = 9;
	ASSERT_EQ(0, image_open(&options, &image, &fallback, &error));
	ASSERT_EQ(9, image_opened(image)->number);
	ASSERT_EQ(0, model_commit(image, &model, &error));
	ASSERT_EQ(13, image_newest(image)->number);
	ASSERT_EQ(9, image_newest(image)->parent);
	image_close(image);
	options.generation = 0;
	options.fresh = true;
	ASSERT_EQ(0, image_open(&options, &image, &fallback, &error));
	ASSERT_EQ(0, image_opened(image)->number);
	memset(&model, 0, sizeof(model));
	ASSERT_EQ(SAME, model_compare(image, &model, &error));
	model.version[3] = 9;
	ASSERT_EQ(0, model_commit(image, &model, &error));
	ASSERT_EQ(14, image_newest(image)->number);
	ASSERT_EQ(0, image_newest(image)->parent);
	image_close(image);
	ASSERT_EQ(0, model_verify());
	model_teardown();
}

/* Readers beside a busy writer never see damage. */
TEST(tools_beside_a_writer)
{
	struct thaw_generation *log;
	int status, looks = 0;
	pid_t child;

	model_setup("busy");
	commit_some(1);
	child = fork();
	if (!child) {
		struct image_options options = model_options();
		struct image *image;

		options.retain = 2;
		if (image_open(&options, &image, &fallback, &error))
			_exit(1);
		for (int i = 0; i < 600; i++) {
			for (unsigned page = i % 3; page < MODEL_PAGES; page += 3)
				model.version[page] = 1000 + i;
			if (model_commit(image, &model, &error))
				_exit(2);
		}
		_exit(0);
	}
	while (!waitpid(child, &status, WNOHANG)) {
		int generations = path_log(model_path, &log, &error);

		ASSERT_GE(generations, 1) TH_LOG("%s", error.text);
		free(log);
		ASSERT_EQ(0, model_verify()) TH_LOG("after %d looks", looks);
		looks++;
	}
	ASSERT_EQ(0, status);
	ASSERT_GE(looks, 3);
	model_teardown();
}

TEST_HARNESS_MAIN
