// SPDX-License-Identifier: GPL-2.0-only
/*
 * replicate.c - a program whose generations are replicated, killed at each request to its store, before the store has done it and
 * after: what was acknowledged is there, whole, and is what the next start goes on from.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include "replicated.h"

FIXTURE(replicate)
{
	struct replicated p;
};
FIXTURE_SETUP(replicate)
{
	char *lacks = replicated_begin(&self->p);

	if (lacks)
		SKIP(return, "%s", lacks);
}
FIXTURE_TEARDOWN(replicate)
{
	replicated_end(&self->p);
}

TEST_F(replicate, what_is_acknowledged_is_in_the_store)
{
	struct replication_status status;
	struct store_record record;
	struct thaw_result result;

	ASSERT_EQ(0, program_open(&self->p, 0, 0)) TH_LOG("%s", self->p.error.text);
	for (unsigned round = 1; round <= 5; round++) {
		ASSERT_EQ(round * 4, program_goes_on(&self->p, 4));
		thaw_status(self->p.heap, &(struct thaw_status){0});
		ASSERT_EQ(THAW_IDLE, thaw_checkpoint_poll(self->p.heap, &result));
		replicate_status(self->p.replication, &status);
		ASSERT_EQ(0, replicate_wait(self->p.replication, status.durable, FOR_EVER,
					    &self->p.error))
		TH_LOG("%s", self->p.error.text);
		ASSERT_EQ(round * 4,
			  replica_of_store(self->p.server.place, self->p.directory, &record));
		EXPECT_EQ(status.durable, record.generation);
	}
	ASSERT_EQ(0, replicate_finish(self->p.replication, true, FOR_EVER, &self->p.error));
	replicate_status(self->p.replication, &status);
	EXPECT_EQ(REPLICATION_ENDED, status.state);
	ASSERT_EQ(20, replica_of_store(self->p.server.place, self->p.directory, &record));
	EXPECT_EQ(STORE_ENDED, record.flags);
	EXPECT_NE(0, record.hot.object.record);
}

TEST_F(replicate, a_start_sends_only_what_the_store_has_not)
{
	struct replication_status status;
	struct store_record record;
	struct thaw *other;
	uint64_t first;
	char *path;

	ASSERT_EQ(0, program_open(&self->p, 0, 0)) TH_LOG("%s", self->p.error.text);
	/* Some that cannot be compressed, which no generation changes: more than a record takes. */
	ASSERT_EQ(0, thaw_resize(self->p.heap, HEAP_BYTES + (24u << 20)));
	for (unsigned i = 0; i < 24u << 12; i++) {
		char bytes[256];

		ASSERT_EQ(256, getrandom(bytes, 256, 0));
		memcpy((char *)thaw_base(self->p.heap) + HEAP_BYTES + i * 256, bytes, 256);
	}
	ASSERT_EQ(0, thaw_checkpoint(self->p.heap, THAW_REASON_REQUEST, NULL, 0, NULL));
	ASSERT_EQ(0, replicate_finish(self->p.replication, false, FOR_EVER, &self->p.error));
	replicate_status(self->p.replication, &status);
	first = status.bytes_blocks;
	EXPECT_LE(24u << 20, first);
	EXPECT_LE(2, status.data_objects);
	program_close(&self->p);
	ASSERT_EQ(0, program_open(&self->p, 0, 0)) TH_LOG("%s", self->p.error.text);
	ASSERT_EQ(0, replicate_finish(self->p.replication, false, FOR_EVER, &self->p.error));
	replicate_status(self->p.replication, &status);
	EXPECT_EQ(2, status.epoch);
	EXPECT_GT(1u << 20, status.bytes_blocks);
	path = support_format("%s/other.thaw", self->p.directory);
	ASSERT_EQ(0, replica_restore(self->p.server.place, path, &record, &self->p.error));
	other = replica_heap(path, 0, &self->p.error);
	ASSERT_NE(NULL, other);
	EXPECT_EQ(0, memcmp(thaw_base(other), thaw_base(self->p.heap), thaw_size(self->p.heap)));
	thaw_close(other);
	free(path);
}

/* As a program does whose image is compacted while it runs: another file comes in its place. */
TEST_F(replicate, a_program_goes_on_with_another_mirror)
{
	struct replication_status status;
	struct store_record record;

	ASSERT_EQ(0, program_open(&self->p, THAW_LOG, 0)) TH_LOG("%s", self->p.error.text);
	for (unsigned round = 1; round < 4; round++) {
		ASSERT_EQ(30 * round, program_goes_on(&self->p, 30));
		if (round & 1)
			ASSERT_EQ(0, program_wait_acknowledged(&self->p));
		replicate_stop(self->p.replication);
		thaw_mirror_close(self->p.mirror);
		thaw_close(self->p.heap);
		ASSERT_EQ(0, thaw_image_compact(self->p.image, 0, NULL, NULL, &self->p.error))
		TH_LOG("%s", self->p.error.text);
		self->p.heap = replica_heap(self->p.image, THAW_LOG, &self->p.error);
		ASSERT_NE(NULL, self->p.heap);
		ASSERT_EQ(0, thaw_mirror_open(self->p.heap, 0, &self->p.mirror, &self->p.error));
		ASSERT_EQ(0, replicate_start(self->p.replication, self->p.mirror, &self->p.error));
		ASSERT_EQ(0, program_wait_acknowledged(&self->p));
		EXPECT_EQ(30 * round,
			  replica_of_store(self->p.server.place, self->p.directory, &record));
	}
	replicate_status(self->p.replication, &status);
	EXPECT_EQ(REPLICATION_IN_STEP, status.state);
}

/* What commands do with an image that nobody has open makes no other image of it, nor an older one. */
TEST_F(replicate, an_image_is_compacted_repaired_and_rolled_back_between_two_starts)
{
	struct thaw_generation made;
	struct store_record record;
	char *other = support_format("%s/repaired.thaw", self->p.directory);

	for (unsigned round = 0; round < 4; round++) {
		ASSERT_EQ(0, program_open(&self->p, THAW_LOG, 0))
		TH_LOG("%u %s", round, self->p.error.text);
		ASSERT_EQ(30 * (round + 1), program_goes_on(&self->p, 30));
		ASSERT_EQ(0,
			  replicate_finish(self->p.replication, false, FOR_EVER, &self->p.error));
		program_close(&self->p);
		EXPECT_EQ(30 * (round + 1),
			  replica_of_store(self->p.server.place, self->p.directory, &record));
		switch (round) {
		case 0:
			ASSERT_EQ(0, thaw_image_compact(self->p.image, THAW_COMPACT_NEWEST, NULL,
							NULL, &self->p.error));
			break;
		case 1:
			ASSERT_EQ(0, thaw_image_repair(self->p.image, other, NULL, NULL,
						       &self->p.error));
			ASSERT_EQ(0, rename(other, self->p.image));
			break;
		case 2:
			ASSERT_EQ(0, thaw_image_rollback(self->p.image, 0, &made, &self->p.error));
			break;
		}
	}
	free(other);
}

/* ---- Killed at each request */

/* 5 MiB that cannot be compressed: more than a record takes. */
static bool program_has_data(struct replicated *self)
{
	uint64_t seed = 1, *words;

	if (thaw_size(self->heap) > HEAP_BYTES)
		return true;
	if (thaw_resize(self->heap, HEAP_BYTES + (5u << 20)))
		return false;
	words = (uint64_t *)((char *)thaw_base(self->heap) + HEAP_BYTES);
	for (size_t i = 0; i < (5u << 20) / 8; i++) {
		seed = seed * 6364136223846793005u + 1442695040888963407u;
		words[i] = seed ^ seed >> 29;
	}
	return true;
}

static pid_t program_fork(struct replicated *self, unsigned flags, unsigned generations)
{
	pid_t pid = support_fork();

	if (pid)
		return pid;
	if (program_open(self, flags, 0) || (!flags && !program_has_data(self)))
		_exit(2);
	for (unsigned i = 0; i < generations / 2; i++) {
		if (program_goes_on(self, 2) < 0)
			_exit(3);
		if (program_wait_acknowledged(self))
			_exit(4);
	}
	_exit(replicate_finish(self->replication, false, FOR_EVER, &self->error) ? 5 : 0);
}

/* Until it has ended by itself (its exit code), or stands at the request that is held: -1, and it is killed. */
static int program_wait(struct replicated *self, pid_t pid, unsigned request)
{
	int status;

	for (;;) {
		size_t count;

		if (waitpid(pid, &status, WNOHANG) == pid)
			return WIFEXITED(status) ? WEXITSTATUS(status) : 99;
		free(store_server_log(&self->server, &count));
		if (count > request)
			break;
		support_sleep(0.002);
	}
	store_server_order(&self->server, "/wait?held=1");
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	return -1;
}

/* At that request: what the store has then, once the request is done late, and after the next start. False: it was not reached. */
static bool killed_at(struct __test_metadata *_metadata, struct replicated *self, unsigned request,
		      unsigned after, unsigned generations)
{
	unsigned flags = after ? 0 : THAW_LOG;
	struct store_record record;
	struct thaw_error error;
	int64_t count, least;
	int code;

	memset(self->shared, 0, sizeof(*self->shared));
	store_server_place(&self->server, "s3://test");
	unlink(self->image);
	sidefile_remove(self->image, &error);
	store_server_order(&self->server, "/forget");
	store_server_order(&self->server, "/fault?kind=hold&skip=%u&count=1&after=%u", request,
			   after);
	code = program_wait(self, program_fork(self, flags, generations), request);
	if (code != -1)
		store_server_order(&self->server, "/clear");
	least = (int64_t)self->shared->count_of[self->shared->acknowledged % 4096];
	for (unsigned late = 0; late < 2; late++) {
		count = replica_of_store(self->server.place, self->directory, &record);
		EXPECT_LE(least, count) TH_LOG("at request %u", request);
		EXPECT_GE((int64_t)self->shared->count, count);
		store_server_order(&self->server, "/clear");
	}
	if (code != -1) {
		EXPECT_EQ(0, code);
		return false;
	}
	EXPECT_EQ(0, program_wait(self, program_fork(self, flags, generations), UINT32_MAX - 1))
	TH_LOG("at request %u", request);
	EXPECT_EQ((int64_t)self->shared->count,
		  replica_of_store(self->server.place, self->directory, &record))
	TH_LOG("at request %u", request);
	return true;
}

TEST_F(replicate, killed_at_each_request_nothing_that_was_acknowledged_is_lost)
{
	unsigned request;

	STORE_SKIP_REAL(&self->p.server);
	for (unsigned after = 0; after < 2; after++) {
		for (request = 0; request < 60; request++)
			if (!killed_at(_metadata, &self->p, request, after, after ? 2 : 4))
				break;
		EXPECT_LT(6, request);
		EXPECT_GT(60, request);
	}
}

TEST_F(replicate, killed_while_levels_are_made_nothing_that_was_acknowledged_is_lost)
{
	STORE_SKIP_REAL(&self->p.server);
	/* Some 45 records are behind each other until a level of the index is one more object. */
	for (unsigned request = 46; request < 62; request += 4)
		EXPECT_TRUE(killed_at(_metadata, &self->p, request, 0, 120));
	EXPECT_LT(0, store_server_count(&self->p.server, "PUT", "index/"));
}

TEST_HARNESS_MAIN
