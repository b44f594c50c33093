// SPDX-License-Identifier: GPL-2.0-only
/*
 * fetch.c - what is missing of a file comes from a store: the right contents whatever happens to the requests, each byte once, never over
 * what was written, and never zeros instead of what did not come.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <pthread.h>
#include <stdatomic.h>

#include "base/clock.h"
#include "made_store.h"
#include "store/fetch.h"
#include "store_server.h"

#define BLOCKS 4096u /* 16 MiB */

FIXTURE(fetch)
{
	struct store_server server;
	struct s3 *s3;
	struct made *made;
	struct store_index index;
	struct store_level level, hot;
	uint64_t hot_record;
	char *directory, *path;
	int fd;
	struct fetch *fetch;
	struct thaw_error error;
	uint64_t patience_ns;
};

FIXTURE_SETUP(fetch)
{
	store_server_begin(&self->server);
	ASSERT_EQ(0, s3_open(self->server.place, NULL, &self->s3, &self->error))
	{
		printf("# %s\n", self->error.text);
	}
	self->made = made_open(self->s3, BLOCKS);
	self->directory = support_directory();
	self->path = support_format("%s/file", self->directory);
	self->fd = open(self->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	ASSERT_EQ(0, ftruncate(self->fd, (off_t)BLOCKS * STORE_BLOCK));
	self->patience_ns = 120000000000ull;
}

FIXTURE_TEARDOWN(fetch)
{
	fetch_close(self->fetch);
	level_free(&self->level);
	level_free(&self->hot);
	index_free(&self->index);
	made_close(self->made);
	if (self->server.real)
		made_remove(self->s3);
	s3_close(self->s3);
	store_server_end(&self->server);
	close(self->fd);
	support_remove(self->directory);
	free(self->path);
}

/* Blocks first, first + step ... get new contents, in a record of their own. */
static void store_blocks(FIXTURE_DATA(fetch) * self, uint64_t first, uint64_t end, uint64_t step,
			 uint64_t seed, bool inside)
{
	uint64_t *blocks = calloc(BLOCKS, sizeof(*blocks));
	size_t count = 0;

	for (uint64_t block = first; block < end; block += step) {
		made_block(self->made->file + block * STORE_BLOCK, seed + block);
		blocks[count++] = block;
	}
	made_record(self->made, blocks, count, inside, NULL, 0);
	free(blocks);
}

/* A store like one that has been written for a while: objects, records with frames, parts of frames that are outdated. */
static void store_some(FIXTURE_DATA(fetch) * self)
{
	store_blocks(self, 0, 1500, 1, 1000000, false);
	store_blocks(self, 1500, 3900, 1, 2000000, false);
	store_blocks(self, 100, 3000, 7, 3000000, true);
	store_blocks(self, 90, 400, 3, 4000000, true);
}

static int fetch_begin(FIXTURE_DATA(fetch) * self)
{
	struct fetch_options options = {
		.s3 = self->s3,
		.fd = self->fd,
		.level = &self->level,
		.bytes = self->made->bytes ? self->made->bytes : (uint64_t)BLOCKS * STORE_BLOCK,
		.patience_ns = self->patience_ns,
		.hot = self->hot_record ? &self->hot : NULL,
		.hot_record = self->hot_record,
	};
	struct store_record record;
	void *tail;
	int code;

	level_free(&self->level);
	index_free(&self->index);
	code = record_newest(self->s3, 0, &record, &tail, &self->error);
	if (!code)
		code = record_index(self->s3, &record, tail, 0, &self->index, &self->error);
	free(tail);
	if (!code)
		code = index_merge(&self->index, &self->level);
	if (!code && !self->server.real)
		store_server_order(&self->server, "/forget");
	return code ? code : fetch_open(&options, &self->fetch, &self->error);
}

static bool same(FIXTURE_DATA(fetch) * self, uint64_t block, uint64_t count)
{
	uint8_t *bytes = malloc(count * STORE_BLOCK);
	bool is = pread(self->fd, bytes, count * STORE_BLOCK, (off_t)(block * STORE_BLOCK)) ==
			  (ssize_t)(count * STORE_BLOCK) &&
		  !memcmp(bytes, self->made->file + block * STORE_BLOCK, count * STORE_BLOCK);

	free(bytes);
	return is;
}

static bool is_hole(FIXTURE_DATA(fetch) * self, uint64_t block)
{
	return lseek(self->fd, (off_t)(block * STORE_BLOCK), SEEK_HOLE) ==
	       (off_t)(block * STORE_BLOCK);
}

static int need(FIXTURE_DATA(fetch) * self, uint64_t block, uint64_t count)
{
	return fetch_need(self->fetch, block * STORE_BLOCK, count * STORE_BLOCK);
}

static uint64_t missing(FIXTURE_DATA(fetch) * self)
{
	struct fetch_status status;

	fetch_status(self->fetch, &status);
	return status.missing;
}

static int fill(FIXTURE_DATA(fetch) * self, enum fetch_pace pace)
{
	return fetch_fill(self->fetch, pace, NULL, NULL, &self->error);
}

TEST_F(fetch, what_is_needed_comes_first_and_the_rest_behind_it)
{
	store_some(self);
	ASSERT_EQ(0, fetch_begin(self));
	EXPECT_EQ(3900, missing(self));
	EXPECT_FALSE(fetch_has(self->fetch, 200 * STORE_BLOCK + 4095, 2));
	EXPECT_TRUE(fetch_has(self->fetch, 3900 * STORE_BLOCK, 100 * STORE_BLOCK));
	EXPECT_TRUE(fetch_has(self->fetch, (uint64_t)BLOCKS * STORE_BLOCK, 10));
	ASSERT_EQ(0, need(self, 200, 5));
	EXPECT_TRUE(fetch_has(self->fetch, 200 * STORE_BLOCK, 5 * STORE_BLOCK));
	EXPECT_TRUE(same(self, 200, 5));
	/* Not everything came for it. */
	EXPECT_LT(2000, missing(self));
	EXPECT_EQ(0, need(self, 3900, 50));
	EXPECT_EQ(0, need(self, BLOCKS + 7, 50));
	ASSERT_EQ(0, fill(self, FETCH_POLITE));
	EXPECT_EQ(0, missing(self));
	EXPECT_TRUE(same(self, 0, BLOCKS));
	EXPECT_TRUE(is_hole(self, 3900));
	if (!self->server.real)
		EXPECT_EQ(NULL, store_server_sent_twice(&self->server));
}

TEST_F(fetch, what_is_newest_counts_and_what_is_free_is_not_fetched)
{
	uint64_t freed[] = {5, 6, 7, 2000, 2010}, one = 6;

	store_some(self);
	made_record(self->made, NULL, 0, true, freed, 5);
	for (unsigned i = 0; i < 5; i++)
		memset(self->made->file + freed[i] * STORE_BLOCK, 0, STORE_BLOCK);
	made_block(self->made->file + 6 * STORE_BLOCK, 77);
	made_record(self->made, &one, 1, true, NULL, 0);
	ASSERT_EQ(0, fetch_begin(self));
	EXPECT_EQ(3896, missing(self));
	ASSERT_EQ(0, fill(self, FETCH_FAST));
	EXPECT_TRUE(same(self, 0, BLOCKS));
	EXPECT_TRUE(is_hole(self, 5));
	EXPECT_TRUE(is_hole(self, 2010));
	EXPECT_FALSE(is_hole(self, 6));
}

TEST_F(fetch, the_hot_object_serves_what_is_not_outdated_in_it)
{
	struct store_reference *hot = &self->made->record.hot;
	uint64_t *blocks = calloc(600, sizeof(*blocks));
	struct fetch_status status;
	char name[STORE_NAME_BYTES];
	void *bytes;
	size_t count;

	store_some(self);
	for (unsigned i = 0; i < 600; i++)
		blocks[i] = (i * 601) % 3900;
	made_hot(self->made, blocks, 600);
	/* A part of it is outdated now. */
	store_blocks(self, 0, 2000, 10, 9000000, true);
	store_object_name(&hot->object, name);
	ASSERT_EQ(0, s3_get(self->s3, name, 1u << 30, 0, &bytes, &count, &self->error));
	ASSERT_EQ(0, made_hot_level(hot, bytes, count, &self->hot, &self->error))
	{
		printf("# %s\n", self->error.text);
	}
	free(bytes);
	self->hot.objects[0] = hot->object;
	self->hot_record = hot->object.record;
	ASSERT_EQ(0, fetch_begin(self));
	/* So is what was written since. */
	ASSERT_EQ(0, need(self, 10, 1));
	EXPECT_TRUE(same(self, 10, 1));
	for (unsigned i = 0; i < 600; i += 7) {
		ASSERT_EQ(0, need(self, blocks[i], 1));
		EXPECT_TRUE(same(self, blocks[i], 1));
	}
	ASSERT_EQ(0, fill(self, FETCH_POLITE));
	fetch_status(self->fetch, &status);
	EXPECT_LT(450, status.hot_blocks);
	EXPECT_GT(600, status.hot_blocks);
	EXPECT_TRUE(same(self, 0, BLOCKS));
	if (!self->server.real)
		EXPECT_EQ(NULL, store_server_sent_twice(&self->server));
	free(blocks);
}

TEST_F(fetch, a_file_goes_on_with_its_holes)
{
	store_some(self);
	ASSERT_EQ(0, fetch_begin(self));
	ASSERT_EQ(0, need(self, 1600, 16));
	fetch_close(self->fetch);
	self->fetch = NULL;
	/* Written by somebody since, and so newer than anything. */
	made_block(self->made->file + 3000 * STORE_BLOCK, 5);
	ASSERT_EQ(STORE_BLOCK, pwrite(self->fd, self->made->file + 3000 * STORE_BLOCK, STORE_BLOCK,
				      3000 * STORE_BLOCK));
	ASSERT_EQ(0, fetch_begin(self));
	EXPECT_GE(3900 - 17, missing(self));
	EXPECT_TRUE(fetch_has(self->fetch, 1600 * STORE_BLOCK, 16 * STORE_BLOCK));
	EXPECT_TRUE(fetch_has(self->fetch, 3000 * STORE_BLOCK, STORE_BLOCK));
	ASSERT_EQ(0, fill(self, FETCH_POLITE));
	EXPECT_TRUE(same(self, 0, BLOCKS));
}

TEST_F(fetch, the_last_block_may_be_a_part_of_one)
{
	uint64_t bytes = (uint64_t)BLOCKS * STORE_BLOCK - 1000, last = BLOCKS - 1;
	uint8_t contents[STORE_BLOCK];

	self->made->bytes = bytes;
	ASSERT_EQ(0, ftruncate(self->fd, (off_t)bytes));
	store_blocks(self, 4000, BLOCKS, 1, 1000, false);
	ASSERT_EQ(0, fetch_begin(self));
	EXPECT_FALSE(fetch_has(self->fetch, bytes - 1, 1));
	ASSERT_EQ(0, need(self, 4010, 1));
	ASSERT_EQ(0, need(self, last, 1));
	EXPECT_EQ(bytes, support_size(self->path));
	EXPECT_EQ(STORE_BLOCK - 1000,
		  pread(self->fd, contents, STORE_BLOCK, (off_t)(last * STORE_BLOCK)));
	EXPECT_EQ(0, memcmp(contents, self->made->file + last * STORE_BLOCK, STORE_BLOCK - 1000));
	/* It is there from then on, for the next one, too. */
	fetch_close(self->fetch);
	self->fetch = NULL;
	ASSERT_EQ(0, fetch_begin(self));
	EXPECT_TRUE(fetch_has(self->fetch, last * STORE_BLOCK, STORE_BLOCK));
}

/* ---- Many at once */

#define READERS 6u

struct reader {
	FIXTURE_DATA(fetch) * self;
	pthread_t thread;
	uint64_t seed;
	unsigned wrong, failed;
};

static _Atomic uint64_t written[BLOCKS]; /* seed of what was written into a block; 0: nothing */

static void *read_some(void *arg)
{
	struct reader *reader = arg;
	uint64_t state = reader->seed;

	for (unsigned i = 0; i < 300; i++) {
		uint64_t block = made_random(&state) % 3880, count = 1 + made_random(&state) % 16;

		if (need(reader->self, block, count)) {
			reader->failed++;
			continue;
		}
		for (; count--; block++)
			if (!written[block] && !same(reader->self, block, 1) && !written[block])
				reader->wrong++;
	}
	return NULL;
}

static void *write_some(void *arg)
{
	struct reader *reader = arg;
	uint64_t state = reader->seed;
	uint8_t contents[STORE_BLOCK];

	for (unsigned i = 0; i < 600; i++) {
		uint64_t block = 2 + made_random(&state) % (BLOCKS - 2), seed = i + 1;

		written[block] = seed;
		reader->failed +=
			fetch_writes(reader->self->fetch, block * STORE_BLOCK, STORE_BLOCK) != 0;
		made_block(contents, seed);
		if (pwrite(reader->self->fd, contents, STORE_BLOCK, (off_t)(block * STORE_BLOCK)) !=
		    STORE_BLOCK)
			reader->failed++;
	}
	return NULL;
}

/* Readers, a writer, and all that is missing; what each block has then. */
static void everybody(struct __test_metadata *_metadata, FIXTURE_DATA(fetch) * self)
{
	struct reader readers[READERS];

	memset(written, 0, sizeof(written));
	for (unsigned i = 0; i < READERS; i++) {
		readers[i] = (struct reader){.self = self, .seed = 12345 + i};
		ASSERT_EQ(0, pthread_create(&readers[i].thread, NULL, i ? read_some : write_some,
					    &readers[i]));
	}
	ASSERT_EQ(0, fill(self, FETCH_POLITE));
	for (unsigned i = 0; i < READERS; i++) {
		pthread_join(readers[i].thread, NULL);
		EXPECT_EQ(0, readers[i].failed);
		EXPECT_EQ(0, readers[i].wrong);
	}
	for (uint64_t block = 0; block < BLOCKS; block++)
		if (written[block])
			made_block(self->made->file + block * STORE_BLOCK, written[block]);
	EXPECT_EQ(0, missing(self));
	EXPECT_TRUE(same(self, 0, BLOCKS));
}

TEST_F(fetch, what_is_written_meanwhile_stays)
{
	store_some(self);
	ASSERT_EQ(0, fetch_begin(self));
	everybody(_metadata, self);
	if (!self->server.real)
		EXPECT_EQ(NULL, store_server_sent_twice(&self->server));
}

TEST_F(fetch, a_store_that_stumbles_changes_nothing)
{
	STORE_SKIP_REAL(&self->server);
	store_some(self);
	ASSERT_EQ(0, fetch_begin(self));
	store_server_order(&self->server, "/fault?kind=answer&status=500&code=InternalError&"
					  "verb=GET&skip=1&count=2");
	store_server_order(&self->server, "/fault?kind=answer&status=503&code=SlowDown&verb=GET&"
					  "skip=5&count=2");
	store_server_order(&self->server, "/fault?kind=delay&ms=50&verb=GET&skip=8&count=3");
	store_server_order(&self->server, "/wire?direction=response&after=150000&action=cut&"
					  "count=1");
	everybody(_metadata, self);
}

/* ---- A store that is away */

struct waiter {
	FIXTURE_DATA(fetch) * self;
	pthread_t thread;
	uint64_t block;
	_Atomic bool back;
	int code;
};

static void *wait_for_one(void *arg)
{
	struct waiter *waiter = arg;

	waiter->code = need(waiter->self, waiter->block, 1);
	waiter->back = true;
	return NULL;
}

static bool somebody_waits(FIXTURE_DATA(fetch) * self)
{
	double deadline = support_deadline(20);
	struct fetch_status status;

	do {
		fetch_status(self->fetch, &status);
		if (status.waiting)
			return true;
		support_sleep(0.005);
	} while (support_seconds() < deadline);
	return false;
}

TEST_F(fetch, a_store_that_comes_back_is_waited_for)
{
	struct waiter waiter = {.self = self, .block = 1234};

	STORE_SKIP_REAL(&self->server);
	store_some(self);
	ASSERT_EQ(0, fetch_begin(self));
	store_server_order(&self->server, "/gone");
	ASSERT_EQ(0, pthread_create(&waiter.thread, NULL, wait_for_one, &waiter));
	ASSERT_TRUE(somebody_waits(self));
	support_sleep(0.2);
	EXPECT_FALSE(atomic_load(&waiter.back));
	EXPECT_TRUE(is_hole(self, 1234));
	store_server_order(&self->server, "/back");
	pthread_join(waiter.thread, NULL);
	EXPECT_EQ(0, waiter.code);
	EXPECT_TRUE(same(self, 1234, 1));
}

TEST_F(fetch, a_store_that_is_gone_is_told_and_nothing_is_zero)
{
	double deadline = support_deadline(60);
	struct fetch_status status;
	int code;

	STORE_SKIP_REAL(&self->server);
	store_some(self);
	self->patience_ns = 300000000;
	ASSERT_EQ(0, fetch_begin(self));
	ASSERT_EQ(0, need(self, 3000, 1));
	store_server_order(&self->server, "/gone");
	EXPECT_EQ(-ETIMEDOUT, need(self, 1234, 1));
	/* At once, the second time. */
	EXPECT_EQ(-ETIMEDOUT, need(self, 1234, 1));
	EXPECT_TRUE(is_hole(self, 1234));
	fetch_status(self->fetch, &status);
	EXPECT_EQ(-ETIMEDOUT, status.error.code);
	EXPECT_NE(NULL, strstr(status.error.text, "s3://"))
	{
		printf("# %s\n", status.error.text);
	}
	/* What is there is served. */
	EXPECT_EQ(0, need(self, 3000, 1));
	EXPECT_TRUE(same(self, 3000, 1));
	store_server_order(&self->server, "/back");
	while ((code = need(self, 1234, 1)) && support_seconds() < deadline)
		support_sleep(0.05);
	EXPECT_EQ(0, code);
	EXPECT_TRUE(same(self, 1234, 1));
	ASSERT_EQ(0, fill(self, FETCH_POLITE));
	EXPECT_TRUE(same(self, 0, BLOCKS));
}

TEST_F(fetch, whoever_waits_is_let_go_when_it_ends)
{
	struct waiter waiter = {.self = self, .block = 1234};

	STORE_SKIP_REAL(&self->server);
	store_some(self);
	ASSERT_EQ(0, fetch_begin(self));
	store_server_order(&self->server, "/fault?kind=hold&verb=GET");
	ASSERT_EQ(0, pthread_create(&waiter.thread, NULL, wait_for_one, &waiter));
	store_server_order(&self->server, "/wait?held=1");
	/* For a while: what is there is served. */
	ASSERT_TRUE(somebody_waits(self));
	fetch_interrupt(self->fetch, true);
	pthread_join(waiter.thread, NULL);
	EXPECT_EQ(-ECANCELED, waiter.code);
	EXPECT_EQ(-ECANCELED, need(self, 1234, 1));
	EXPECT_EQ(0, need(self, 3950, 1));
	fetch_interrupt(self->fetch, false);
	ASSERT_EQ(0, pthread_create(&waiter.thread, NULL, wait_for_one, &waiter));
	ASSERT_TRUE(somebody_waits(self));
	/* For good. */
	fetch_stop(self->fetch);
	pthread_join(waiter.thread, NULL);
	EXPECT_EQ(-ECANCELED, waiter.code);
	EXPECT_EQ(-ECANCELED, need(self, 1234, 1));
	EXPECT_TRUE(is_hole(self, 1234));
	EXPECT_EQ(-ECANCELED, fill(self, FETCH_FAST));
}

/* ---- Damage */

/* One byte of the largest object changes, or changes back. */
static void flip(FIXTURE_DATA(fetch) * self, off_t at)
{
	DIR *directory = opendir(self->server.directory);
	char path[4096] = "", byte;
	off_t most = 0;
	int fd;

	for (struct dirent *entry; (entry = readdir(directory));) {
		char *name = support_format("%s/%s", self->server.directory, entry->d_name);
		struct stat stat;

		if (!lstat(name, &stat) && S_ISREG(stat.st_mode) && stat.st_size > most) {
			most = stat.st_size;
			snprintf(path, sizeof(path), "%s", name);
		}
		free(name);
	}
	closedir(directory);
	fd = open(path, O_RDWR);
	if (fd < 0 || pread(fd, &byte, 1, 4096 + at) != 1)
		support_die(path);
	byte ^= 1;
	if (pwrite(fd, &byte, 1, 4096 + at) != 1)
		support_die(path);
	close(fd);
}

TEST_F(fetch, a_damaged_frame_is_asked_for_once_more_and_then_told)
{
	const struct store_frame *frame;
	double deadline = support_deadline(60);
	struct fetch_status status;
	uint64_t block = 0;
	int code;

	STORE_SKIP_REAL(&self->server);
	store_blocks(self, 0, 3000, 1, 1000000, false);
	ASSERT_EQ(0, fetch_begin(self));
	frame = &self->level.frames[100];
	for (size_t i = 0; i < self->level.run_count; i++)
		if (self->level.runs[i].frame == 100)
			block = self->level.runs[i].first;
	flip(self, frame->offset + 10);
	EXPECT_EQ(THAW_EDAMAGED, need(self, block, 1));
	EXPECT_EQ(THAW_EDAMAGED, need(self, block, 1));
	/* And what lies behind it, of which nobody knows yet whether it is needed. */
	EXPECT_EQ(3, store_server_count(&self->server, "GET", "/data/"));
	fetch_status(self->fetch, &status);
	EXPECT_NE(NULL, strstr(status.error.text, "data/"))
	{
		printf("# %s\n", status.error.text);
	}
	EXPECT_TRUE(is_hole(self, block));
	/* What came with it is well. */
	EXPECT_EQ(0, need(self, block + 16, 1));
	EXPECT_TRUE(same(self, block + 16, 1));
	EXPECT_EQ(THAW_EDAMAGED, fill(self, FETCH_FAST));
	EXPECT_EQ(16, missing(self));
	flip(self, frame->offset + 10);
	while ((code = need(self, block, 1)) && support_seconds() < deadline)
		support_sleep(0.05);
	EXPECT_EQ(0, code);
	EXPECT_EQ(0, missing(self));
	EXPECT_TRUE(same(self, 0, BLOCKS));
}

TEST_HARNESS_MAIN
