// SPDX-License-Identifier: GPL-2.0-only
/*
 * lazy.c - an image that is in a store is opened before it is here, and is an image as any other in the end: whatever is written, whoever is
 * killed and whatever the store does meanwhile.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include "made_image.h"
#include "store/place.h"
#include "store/sidefile.h"
#include "store_server.h"

#define ROUNDS 4u

FIXTURE(lazy)
{
	struct store_server server;
	struct s3 *s3;
	struct made *made;
	char *directory, *image, *cache;
	struct place_options options;
	struct place *place;
	struct thaw *heap;
	struct place_status status;
	struct thaw_error error;
	char told[4096];
};

static void tell(void *arg, const char *line)
{
	FIXTURE_DATA(lazy) *self = arg;
	size_t length = strlen(self->told);

	snprintf(self->told + length, sizeof(self->told) - length, "%s\n", line);
}

FIXTURE_SETUP(lazy)
{
	char *lacks;

	store_server_begin(&self->server);
	self->directory = support_directory();
	lacks = support_kernel_lacks(self->directory);
	if (lacks)
		SKIP(return, "%s", lacks);
	self->image = support_format("%s/image.thaw", self->directory);
	self->cache = support_format("%s/cache.thaw", self->directory);
	ASSERT_EQ(0, s3_open(self->server.place, NULL, &self->s3, &self->error))
	{
		printf("# %s\n", self->error.text);
	}
	image_make(self->image, ROUNDS);
	image_store(&self->made, self->s3, self->image);
	self->options = (struct place_options){.place = self->server.place,
					       .cache = self->cache,
					       .program = "lazy",
					       .tell = tell,
					       .arg = self};
	if (!self->server.real)
		store_server_order(&self->server, "/forget");
}

FIXTURE_TEARDOWN(lazy)
{
	thaw_close(self->heap);
	place_close(self->place);
	if (self->made)
		made_close(self->made);
	if (self->server.real && self->s3)
		made_remove(self->s3);
	s3_close(self->s3);
	store_server_end(&self->server);
	support_remove(self->directory);
	free(self->image);
	free(self->cache);
}

static int place_begin(FIXTURE_DATA(lazy) * self)
{
	int code = place_open(&self->options, &self->place, &self->error);

	if (code)
		printf("# %d %s\n", code, self->error.text);
	return code;
}

static int heap_begin(FIXTURE_DATA(lazy) * self)
{
	struct thaw_options options = image_options(place_path(self->place));
	int code = thaw_open(&options, &self->heap, &self->error);

	if (code)
		printf("# %d %s\n", code, self->error.text);
	return code;
}

static void all_end(FIXTURE_DATA(lazy) * self)
{
	thaw_close(self->heap);
	place_close(self->place);
	self->heap = NULL;
	self->place = NULL;
}

static bool completes(FIXTURE_DATA(lazy) * self)
{
	double deadline = support_deadline(30);

	if (place_fill(self->place, &self->error))
		return false;
	do {
		place_status(self->place, &self->status);
		if (self->status.complete)
			return true;
		support_sleep(0.005);
	} while (support_seconds() < deadline);
	printf("# missing: %llu, %s\n", (unsigned long long)self->status.fetch.missing,
	       self->status.fetch.error.text);
	return false;
}

static bool is_whole(FIXTURE_DATA(lazy) * self, const char *path)
{
	struct thaw_verify_summary summary;
	int code = thaw_image_verify(path, NULL, &summary, &self->error);

	if (code)
		printf("# %s: %s\n", path, self->error.text);
	return !code && summary.generations;
}

static bool incomplete(FIXTURE_DATA(lazy) * self)
{
	return place_is_incomplete(self->cache, &self->error) == 1;
}

TEST_F(lazy, it_is_opened_before_it_is_here_and_is_whole_in_the_end)
{
	ASSERT_EQ(0, place_begin(self));
	ASSERT_EQ(0, heap_begin(self));
	EXPECT_EQ(0, image_wrong(thaw_base(self->heap), ROUNDS, 100, 1000));
	place_status(self->place, &self->status);
	EXPECT_FALSE(self->status.complete);
	EXPECT_LT(0, self->status.fetch.missing);
	EXPECT_TRUE(incomplete(self));
	EXPECT_EQ(0, image_wrong(thaw_base(self->heap), ROUNDS, 0, 7));
	ASSERT_TRUE(completes(self));
	EXPECT_FALSE(incomplete(self));
	EXPECT_EQ(0, image_wrong(thaw_base(self->heap), ROUNDS, 0, 1));
	all_end(self);
	EXPECT_TRUE(is_whole(self, self->cache));
	EXPECT_EQ(support_size(self->image), support_size(self->cache));
	if (self->server.real)
		return;
	EXPECT_EQ(NULL, store_server_sent_twice(&self->server));
	EXPECT_EQ(1, store_server_count(&self->server, "LIST", ""));
	EXPECT_EQ(1, store_server_count(&self->server, "PUT", "/log/"));
}

TEST_F(lazy, the_hot_object_is_enough_to_open)
{
	uint64_t blocks[64], count = self->made->blocks, n = 0;

	/* Header, and the end of the file, where the newest record is. */
	for (uint64_t block = 0; block < 2; block++)
		blocks[n++] = block;
	for (uint64_t block = count - 62; block < count; block++)
		blocks[n++] = block;
	made_hot(self->made, blocks, n);
	made_record(self->made, NULL, 0, true, NULL, 0);
	ASSERT_EQ(0, place_begin(self));
	ASSERT_EQ(0, heap_begin(self));
	place_status(self->place, &self->status);
	EXPECT_LT(0, self->status.fetch.hot_blocks);
	EXPECT_EQ(0, image_wrong(thaw_base(self->heap), ROUNDS, 0, 7));
	ASSERT_TRUE(completes(self));
	all_end(self);
	EXPECT_TRUE(is_whole(self, self->cache));
}

TEST_F(lazy, what_is_written_while_it_comes_stays)
{
	STORE_SKIP_REAL(&self->server);
	ASSERT_EQ(0, place_begin(self));
	ASSERT_EQ(0, heap_begin(self));
	for (uint64_t round = ROUNDS + 1; round < ROUNDS + 6; round++) {
		image_write(thaw_base(self->heap), round);
		if (round == ROUNDS + 2)
			ASSERT_EQ(0, place_fill(self->place, &self->error));
		image_checkpoint(self->heap);
		EXPECT_EQ(0, image_wrong(thaw_base(self->heap), round, 0, 11));
	}
	ASSERT_TRUE(completes(self));
	all_end(self);
	EXPECT_TRUE(is_whole(self, self->cache));
	ASSERT_EQ(0, place_begin(self));
	ASSERT_EQ(0, heap_begin(self));
	place_status(self->place, &self->status);
	EXPECT_TRUE(self->status.complete);
	EXPECT_EQ(0, image_wrong(thaw_base(self->heap), ROUNDS + 5, 0, 1));
	EXPECT_EQ(NULL, store_server_sent_twice(&self->server));
}

/* ---- Killed */

#define SOME 200u

/* In a process of its own: opens it, makes a generation in which SOME pages are of round ROUNDS + 1, says so, and when it is
 * told to, fetches the rest. */
static pid_t begin_apart(FIXTURE_DATA(lazy) * self, int pipes[2][2])
{
	pid_t child;
	char byte;

	s3_close(self->s3);
	self->s3 = NULL;
	child = support_fork();
	if (child)
		return child;
	if (place_begin(self) || heap_begin(self))
		_exit(1);
	image_write_some(thaw_base(self->heap), ROUNDS + 1, SOME);
	image_checkpoint(self->heap);
	if (pipes && (write(pipes[0][1], "", 1) != 1 || read(pipes[1][0], &byte, 1) != 1))
		_exit(2);
	place_fill(self->place, &self->error);
	for (;;)
		pause();
}

static bool killed(pid_t child)
{
	int status;

	kill(child, SIGKILL);
	return waitpid(child, &status, 0) == child && WIFSIGNALED(status);
}

TEST_F(lazy, killed_while_it_comes_it_goes_on_with_the_same_file)
{
	int pipes[2][2];
	pid_t child;
	char byte;

	STORE_SKIP_REAL(&self->server);
	ASSERT_EQ(0, pipe2(pipes[0], O_CLOEXEC));
	ASSERT_EQ(0, pipe2(pipes[1], O_CLOEXEC));
	child = begin_apart(self, pipes);
	ASSERT_EQ(1, read(pipes[0][0], &byte, 1));
	store_server_order(&self->server, "/fault?kind=hold&verb=GET&key=data/&skip=1&count=100");
	ASSERT_EQ(1, write(pipes[1][1], "", 1));
	store_server_order(&self->server, "/wait?held=1");
	ASSERT_TRUE(killed(child));
	store_server_order(&self->server, "/clear");
	EXPECT_TRUE(incomplete(self));
	ASSERT_EQ(0, place_begin(self));
	ASSERT_EQ(0, heap_begin(self));
	place_status(self->place, &self->status);
	EXPECT_LT(0, self->status.fetch.missing);
	EXPECT_GT(self->status.fetch.blocks, self->status.fetch.missing);
	for (unsigned i = 0; i < 2; i++) {
		EXPECT_EQ(0, image_wrong_some(thaw_base(self->heap), ROUNDS + 1, 0, 1, SOME));
		EXPECT_EQ(0, image_wrong(thaw_base(self->heap), ROUNDS, SOME, i ? 1 : 101));
		ASSERT_TRUE(completes(self));
	}
	all_end(self);
	EXPECT_TRUE(is_whole(self, self->cache));
	EXPECT_STREQ("", self->told);
}

TEST_F(lazy, killed_at_any_request_it_can_be_started_again)
{
	static const char *const faults[] = {
		"/fault?kind=hold&verb=LIST",	       "/fault?kind=hold&verb=GET&key=log/",
		"/fault?kind=hold&verb=PUT&key=log/",  "/fault?kind=hold&verb=PUT&key=log/&after=1",
		"/fault?kind=hold&verb=GET&key=data/", "/fault?kind=hold&verb=GET&key=data/&skip=2",
	};
	STORE_SKIP_REAL(&self->server);
	for (unsigned i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
		pid_t child;

		store_server_order(&self->server, "%s", faults[i]);
		child = begin_apart(self, NULL);
		store_server_order(&self->server, "/wait?held=1");
		ASSERT_TRUE(killed(child));
		store_server_order(&self->server, "/clear");
	}
	ASSERT_EQ(0, place_begin(self));
	ASSERT_EQ(0, heap_begin(self));
	ASSERT_TRUE(completes(self));
	EXPECT_EQ(0, image_wrong(thaw_base(self->heap), ROUNDS, SOME, 1));
	all_end(self);
	EXPECT_TRUE(is_whole(self, self->cache));
	EXPECT_STREQ("", self->told);
}

/* ---- A store that is gone */

TEST_F(lazy, a_page_that_does_not_come_is_never_zero)
{
	unsigned read = 0;
	int status;
	pid_t child;

	STORE_SKIP_REAL(&self->server);
	s3_close(self->s3);
	self->s3 = NULL;
	self->options.patience_ns = 200000000;
	child = support_fork();
	if (!child) {
		if (place_begin(self) || heap_begin(self))
			_exit(1);
		store_server_order(&self->server, "/gone");
		for (unsigned page = 0; page < IMAGE_PAGES; page += 50)
			if (image_wrong(thaw_base(self->heap), ROUNDS, page, IMAGE_PAGES))
				_exit(2);
			else
				read++;
		_exit(3);
	}
	ASSERT_EQ(child, waitpid(child, &status, 0));
	EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS)
	{
		printf("# status %x\n", status);
	}
	/* And it goes on from there when the store is back. */
	store_server_order(&self->server, "/back");
	self->options.patience_ns = 0;
	ASSERT_EQ(0, place_begin(self));
	ASSERT_EQ(0, heap_begin(self));
	EXPECT_EQ(0, image_wrong(thaw_base(self->heap), ROUNDS, 0, 1));
}

TEST_F(lazy, a_store_that_is_away_for_a_while_is_told)
{
	STORE_SKIP_REAL(&self->server);
	ASSERT_EQ(0, place_begin(self));
	ASSERT_EQ(0, heap_begin(self));
	store_server_order(&self->server, "/gone");
	ASSERT_EQ(0, place_fill(self->place, &self->error));
	do {
		support_sleep(0.005);
		place_status(self->place, &self->status);
	} while (!self->status.failing_since_ns);
	store_server_order(&self->server, "/back");
	ASSERT_TRUE(completes(self));
	EXPECT_NE(NULL, strstr(self->told, "tried again"))
	{
		printf("# %s\n", self->told);
	}
	EXPECT_NE(NULL, strstr(self->told, "answers again"));
	all_end(self);
	EXPECT_TRUE(is_whole(self, self->cache));
}

/* ---- Whose it is */

TEST_F(lazy, what_is_here_and_newest_is_not_fetched_again)
{
	ASSERT_EQ(0, place_begin(self));
	ASSERT_TRUE(completes(self));
	all_end(self);
	if (!self->server.real)
		store_server_order(&self->server, "/forget");
	ASSERT_EQ(0, place_begin(self));
	place_status(self->place, &self->status);
	EXPECT_TRUE(self->status.complete);
	EXPECT_EQ(3, place_claim(self->place)->record.number);
	EXPECT_TRUE(place_claim(self->place)->sealed);
	ASSERT_EQ(0, heap_begin(self));
	EXPECT_EQ(0, image_wrong(thaw_base(self->heap), ROUNDS, 0, 1));
	if (self->server.real)
		return;
	EXPECT_EQ(0, store_server_count(&self->server, "GET", "/data/"));
	EXPECT_EQ(1, store_server_count(&self->server, "GET", "/log/"));
	EXPECT_EQ(1, store_server_count(&self->server, "PUT", "/log/"));
}

TEST_F(lazy, what_went_on_elsewhere_is_put_aside)
{
	char *other = support_format("%s/other.thaw", self->directory);
	char *aside = support_format("%s.aside-1", self->cache);
	struct sidefile side;

	ASSERT_EQ(0, place_begin(self));
	ASSERT_TRUE(completes(self));
	ASSERT_EQ(0, heap_begin(self));
	image_write(thaw_base(self->heap), ROUNDS + 1);
	image_checkpoint(self->heap);
	all_end(self);
	/* Elsewhere, which knows nothing of that generation. */
	self->options.cache = other;
	ASSERT_EQ(0, place_begin(self));
	all_end(self);
	self->options.cache = self->cache;
	self->options.flags = PLACE_KEEP;
	EXPECT_EQ(-EBUSY, place_begin(self));
	self->options.flags = 0;
	ASSERT_EQ(0, place_begin(self));
	EXPECT_NE(NULL, strstr(self->told, aside))
	{
		printf("# %s\n", self->told);
	}
	ASSERT_EQ(0, heap_begin(self));
	EXPECT_EQ(0, image_wrong(thaw_base(self->heap), ROUNDS, 0, 1));
	ASSERT_TRUE(completes(self));
	all_end(self);
	EXPECT_TRUE(is_whole(self, aside));
	/* What the store has all of goes; not what was written since. */
	for (unsigned i = 0; i < 2; i++) {
		ASSERT_EQ(0, sidefile_read(self->cache, &side, &self->error));
		side.settled = ROUNDS;
		ASSERT_EQ(0, sidefile_write(self->cache, &side, &self->error));
		if (i) {
			struct thaw_options options = image_options(self->cache);

			ASSERT_EQ(0, thaw_open(&options, &self->heap, &self->error));
			image_write(thaw_base(self->heap), ROUNDS + 1);
			image_checkpoint(self->heap);
			thaw_close(self->heap);
			self->heap = NULL;
		}
		self->options.cache = other;
		ASSERT_EQ(0, place_begin(self));
		all_end(self);
		self->told[0] = '\0';
		self->options.cache = self->cache;
		ASSERT_EQ(0, place_begin(self));
		EXPECT_EQ(i, strstr(self->told, "aside-2") != NULL)
		{
			printf("# %s\n", self->told);
		}
		ASSERT_TRUE(completes(self));
		all_end(self);
	}
	free(other);
	free(aside);
}

TEST_F(lazy, what_is_not_its_copy_is_refused)
{
	struct place *first;
	struct sidefile side;
	char *kept = support_format("%s/kept.thaw", self->directory);
	char *command;

	/* Some file. */
	support_write(self->cache, "something else");
	EXPECT_EQ(-EXDEV, place_begin(self));
	EXPECT_EQ(14, support_size(self->cache));
	unlink(self->cache);
	/* Two at once. */
	ASSERT_EQ(0, place_begin(self));
	first = self->place;
	EXPECT_EQ(THAW_EINUSE, place_begin(self));
	self->place = first;
	ASSERT_TRUE(completes(self));
	/* An older one of its own: restored from a backup. */
	command = support_format("cp %s %s", self->cache, kept);
	ASSERT_EQ(0, system(command));
	free(command);
	all_end(self);
	ASSERT_EQ(0, sidefile_read(self->cache, &side, &self->error));
	memcpy(self->made->record.epoch, side.epochs[side.epoch_count - 1], 16);
	self->made->record.number = 2;
	self->made->record.generation += 3;
	made_record(self->made, NULL, 0, true, NULL, 0);
	EXPECT_EQ(-ESTALE, place_begin(self));
	/* Another store's. */
	strcpy(side.place, "s3://another/store");
	ASSERT_EQ(0, sidefile_write(self->cache, &side, &self->error));
	EXPECT_EQ(-EXDEV, place_begin(self));
	EXPECT_NE(NULL, strstr(self->error.text, "s3://another/store"));
	free(kept);
}

TEST_F(lazy, a_record_that_comes_first_is_what_is_restored)
{
	pid_t child;
	int status;

	STORE_SKIP_REAL(&self->server);
	store_server_order(&self->server, "/fault?kind=hold&verb=PUT&key=log/&count=1");
	s3_close(self->s3);
	self->s3 = NULL;
	child = support_fork();
	if (!child) {
		if (place_begin(self) || heap_begin(self) || !completes(self))
			_exit(1);
		_exit(place_claim(self->place)->record.number == 3 &&
				      !image_wrong(thaw_base(self->heap), ROUNDS + 1, 0, 1)
			      ? 0
			      : 2);
	}
	store_server_order(&self->server, "/wait?held=1");
	/* The writer goes on meanwhile. */
	ASSERT_EQ(0, s3_open(self->server.place, NULL, &self->s3, &self->error));
	{
		struct thaw_options options = image_options(self->image);
		struct made *made = self->made;
		struct thaw *heap;

		ASSERT_EQ(0, thaw_open(&options, &heap, &self->error));
		image_write(thaw_base(heap), ROUNDS + 1);
		image_checkpoint(heap);
		thaw_close(heap);
		made->s3 = self->s3;
		free(made->file);
		made->bytes = support_size(self->image);
		made->blocks = (made->bytes + STORE_BLOCK - 1) / STORE_BLOCK;
		made->file = calloc(made->blocks, STORE_BLOCK);
		made->record.generation++;
		made_of_file(made, self->image, false);
	}
	store_server_order(&self->server, "/release");
	ASSERT_EQ(child, waitpid(child, &status, 0));
	EXPECT_EQ(0, status);
}

static int may_not(void *arg, const char *path, struct thaw_error *error)
{
	struct thaw_image *image;

	(void)arg;
	if (thaw_image_open(path, &image, error))
		return -EIO;
	thaw_image_close(image);
	return -EPERM;
}

static int may(void *arg, const char *path, struct thaw_error *error)
{
	return may_not(arg, path, error) == -EPERM ? 0 : -EIO;
}

TEST_F(lazy, a_start_that_is_refused_has_fenced_nobody)
{
	for (unsigned i = 0; i < 2; i++) {
		self->options.check = may_not;
		EXPECT_EQ(-EPERM, place_begin(self));
		EXPECT_EQ(i ? 0 : -1, access(self->cache, F_OK));
		if (!self->server.real)
			EXPECT_EQ(i, store_server_count(&self->server, "PUT", "/log/"));
		self->options.check = may;
		if (i)
			break;
		ASSERT_EQ(0, place_begin(self));
		EXPECT_EQ(2, place_claim(self->place)->record.number);
		ASSERT_EQ(0, heap_begin(self));
		EXPECT_EQ(0, image_wrong(thaw_base(self->heap), ROUNDS, 0, 7));
		ASSERT_TRUE(completes(self));
		all_end(self);
		EXPECT_TRUE(is_whole(self, self->cache));
	}
	ASSERT_EQ(0, place_begin(self));
	EXPECT_EQ(3, place_claim(self->place)->record.number);
}

TEST_F(lazy, an_empty_store_is_for_whoever_begins_there)
{
	char *place = support_format("%s/nothing", self->server.place);

	self->options.place = place;
	EXPECT_EQ(-ENOENT, place_begin(self));
	ASSERT_NE(NULL, self->place);
	EXPECT_STREQ(self->cache, place_path(self->place));
	EXPECT_NE(NULL, place_store(self->place));
	EXPECT_EQ(-1, access(self->cache, F_OK));
	EXPECT_EQ(0, place_fill(self->place, &self->error));
	place_status(self->place, &self->status);
	EXPECT_TRUE(self->status.complete);
	place_close(self->place);
	self->place = NULL;
	free(place);
}

TEST_F(lazy, all_of_it_may_come_first)
{
	self->options.flags = PLACE_WHOLE;
	ASSERT_EQ(0, place_begin(self));
	place_status(self->place, &self->status);
	EXPECT_TRUE(self->status.complete);
	EXPECT_FALSE(incomplete(self));
	EXPECT_TRUE(is_whole(self, self->cache));
}

TEST_HARNESS_MAIN
