// SPDX-License-Identifier: GPL-2.0-only
/*
 * pull.c - a whole image is brought from a store: under its name there is all of it or nothing, and while it is read the store is told.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include "made_image.h"
#include "store/pull.h"
#include "store/push.h"
#include "store/sidefile.h"
#include "store_server.h"

FIXTURE(pull)
{
	struct store_server server;
	struct s3 *s3;
	struct made *made;
	char *directory, *image, *pulled;
	struct pull_options options;
	struct pull_status status;
	struct thaw_error error;
	unsigned calls, files;
};

FIXTURE_SETUP(pull)
{
	char *lacks;

	store_server_begin(&self->server);
	self->directory = support_directory();
	lacks = support_kernel_lacks(self->directory);
	if (lacks)
		SKIP(return, "%s", lacks);
	self->files = support_files(self->directory);
	self->image = support_format("%s/image.thaw", self->directory);
	self->pulled = support_format("%s/pulled.thaw", self->directory);
	ASSERT_EQ(0, s3_open(self->server.place, NULL, &self->s3, &self->error))
	{
		printf("# %s\n", self->error.text);
	}
	self->options = (struct pull_options){.place = self->server.place, .image = self->pulled};
}

FIXTURE_TEARDOWN(pull)
{
	if (self->made)
		made_close(self->made);
	if (self->server.real)
		made_remove(self->s3);
	s3_close(self->s3);
	store_server_end(&self->server);
	support_remove(self->directory);
	free(self->image);
	free(self->pulled);
}

static int pull(FIXTURE_DATA(pull) * self)
{
	return pull_image(&self->options, &self->status, &self->error);
}

static bool is_whole(FIXTURE_DATA(pull) * self, uint64_t rounds)
{
	struct thaw_options options = image_options(self->pulled);
	struct thaw_verify_summary summary;
	struct thaw *heap;
	unsigned wrong;

	if (thaw_image_verify(self->pulled, NULL, &summary, &self->error) ||
	    thaw_open(&options, &heap, &self->error)) {
		printf("# %s\n", self->error.text);
		return false;
	}
	wrong = image_wrong(thaw_base(heap), rounds, 0, 1);
	thaw_close(heap);
	return !wrong && summary.generations > 1;
}

TEST_F(pull, all_of_it_comes_under_its_name)
{
	struct stat stat;

	image_make(self->image, 4);
	image_store(&self->made, self->s3, self->image);
	if (!self->server.real)
		store_server_order(&self->server, "/forget");
	ASSERT_EQ(0, pull(self))
	{
		printf("# %s\n", self->error.text);
	}
	EXPECT_TRUE(is_whole(self, 4));
	ASSERT_EQ(0, lstat(self->pulled, &stat));
	EXPECT_EQ(0600, stat.st_mode & 07777);
	EXPECT_EQ((off_t)support_size(self->image), stat.st_size);
	EXPECT_EQ(1, self->status.record.number);
	EXPECT_EQ(0, self->status.fetch.missing);
	EXPECT_LT(100000, self->status.counts.received);
	EXPECT_EQ(self->files + 2, support_files(self->directory));
	if (self->server.real)
		return;
	EXPECT_EQ(NULL, store_server_sent_twice(&self->server));
	EXPECT_EQ(1, store_server_count(&self->server, "PUT", "/readers/"));
	EXPECT_EQ(1, store_server_count(&self->server, "DELETE", "/readers/"));
	/* Nothing else of it has changed. */
	EXPECT_EQ(1, store_server_count(&self->server, "PUT", ""));
}

TEST_F(pull, what_is_pushed_is_pulled)
{
	struct push_options push = {
		.place = self->server.place, .image = self->image, .flags = EPOCH_BEGIN};
	struct replication_status status;

	image_make(self->image, 5);
	ASSERT_EQ(0, push_image(&push, &status, &self->error))
	{
		printf("# %s\n", self->error.text);
	}
	ASSERT_EQ(0, pull(self))
	{
		printf("# %s\n", self->error.text);
	}
	EXPECT_TRUE(is_whole(self, 5));
	EXPECT_EQ(self->status.record.generation, status.generation);
}

TEST_F(pull, a_file_that_is_there_stays_unless_it_is_to_be_replaced)
{
	struct thaw_options options = image_options(self->pulled);
	struct sidefile side = {.epoch_count = 0};
	struct thaw *heap;

	image_make(self->image, 3);
	image_store(&self->made, self->s3, self->image);
	image_make(self->pulled, 1);
	strcpy(side.place, "s3://some/where");
	ASSERT_EQ(0, sidefile_write(self->pulled, &side, &self->error));
	EXPECT_EQ(-EEXIST, pull(self));
	self->options.flags = PULL_REPLACE;
	/* Not under a program that has it. */
	ASSERT_EQ(0, thaw_open(&options, &heap, &self->error));
	EXPECT_EQ(THAW_EINUSE, pull(self));
	EXPECT_EQ(0, image_wrong(thaw_base(heap), 1, 0, 100));
	thaw_close(heap);
	EXPECT_EQ(0, sidefile_read(self->pulled, &side, &self->error));
	ASSERT_EQ(0, pull(self))
	{
		printf("# %s\n", self->error.text);
	}
	EXPECT_TRUE(is_whole(self, 3));
	/* What was said of the old one is not true of this one. */
	EXPECT_EQ(-ENOENT, sidefile_read(self->pulled, &side, &self->error));
	EXPECT_EQ(self->files + 2, support_files(self->directory));
}

static bool give_up(void *arg, const struct pull_status *status)
{
	FIXTURE_DATA(pull) *self = arg;

	(void)status;
	return self->calls++ < 1;
}

TEST_F(pull, what_is_given_up_or_fails_leaves_nothing)
{
	EXPECT_EQ(-ENOENT, pull(self));
	image_make(self->image, 2);
	image_store(&self->made, self->s3, self->image);
	self->options.progress = give_up;
	self->options.arg = self;
	EXPECT_EQ(-ECANCELED, pull(self));
	EXPECT_EQ(2, self->calls);
	self->options.progress = NULL;
	EXPECT_EQ(self->files + 1, support_files(self->directory));
	if (self->server.real)
		return;
	store_server_order(&self->server, "/gone");
	self->options.patience_ns = 200000000;
	EXPECT_EQ(-ETIMEDOUT, pull(self));
	EXPECT_EQ(self->files + 1, support_files(self->directory));
	store_server_order(&self->server, "/back");
	self->options.patience_ns = 0;
	EXPECT_EQ(0, pull(self))
	{
		printf("# %s\n", self->error.text);
	}
	EXPECT_TRUE(is_whole(self, 2));
}

TEST_F(pull, a_store_that_stumbles_gives_all_of_it)
{
	STORE_SKIP_REAL(&self->server);
	image_make(self->image, 2);
	image_store(&self->made, self->s3, self->image);
	store_server_order(&self->server, "/fault?kind=answer&status=503&code=SlowDown&verb=LIST&"
					  "count=1");
	store_server_order(&self->server, "/fault?kind=answer&status=500&code=InternalError&"
					  "verb=GET&skip=1&count=4");
	store_server_order(&self->server, "/wire?direction=response&after=700000&action=cut&"
					  "count=1");
	EXPECT_EQ(0, pull(self))
	{
		printf("# %s\n", self->error.text);
	}
	EXPECT_TRUE(is_whole(self, 2));
}

TEST_F(pull, one_that_is_killed_leaves_nothing)
{
	pid_t child;
	int status;

	STORE_SKIP_REAL(&self->server);
	image_make(self->image, 2);
	image_store(&self->made, self->s3, self->image);
	s3_close(self->s3);
	self->s3 = NULL;
	store_server_order(&self->server, "/fault?kind=hold&verb=GET&key=data/&skip=1");
	child = support_fork();
	if (!child) {
		pull(self);
		_exit(0);
	}
	store_server_order(&self->server, "/wait?held=1");
	kill(child, SIGKILL);
	ASSERT_EQ(child, waitpid(child, &status, 0));
	ASSERT_TRUE(WIFSIGNALED(status));
	EXPECT_EQ(self->files + 1, support_files(self->directory));
	store_server_order(&self->server, "/clear");
	EXPECT_EQ(0, pull(self));
	EXPECT_TRUE(is_whole(self, 2));
}

TEST_HARNESS_MAIN
