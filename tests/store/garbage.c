// SPDX-License-Identifier: GPL-2.0-only
/*
 * garbage.c - what cleans up behind a replication: objects of which little is in use are stored again, what nobody needs is deleted;
 * and what somebody may still need, the newest record, one that is leased, the seals that fence writers, is not.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include "replicated.h"
#include "store/replication.h"

FIXTURE(garbage)
{
	struct replicated p;
	struct s3 *s3;
};
FIXTURE_SETUP(garbage)
{
	char *lacks = replicated_begin(&self->p);

	if (lacks)
		SKIP(return, "%s", lacks);
	ASSERT_EQ(0, s3_open(self->p.server.place, NULL, &self->s3, &self->p.error));
}
FIXTURE_TEARDOWN(garbage)
{
	s3_close(self->s3);
	replicated_end(&self->p);
}

static bool goes_on(void *arg)
{
	(void)arg;
	return false;
}

/* As if all that is not of the newest record were older than the least age; how many objects were deleted. */
static int collect(struct s3 *s3, struct thaw_error *error)
{
	uint64_t deleted;
	int code = garbage_collect(s3, 0, goes_on, NULL, &deleted, error);

	return code ? code : (int)deleted;
}

static int objects(struct s3 *s3, const char *prefix, unsigned *odd)
{
	struct s3_request list = {.verb = S3_LIST, .key = prefix};
	int count = s3_do(s3, &list, NULL);

	if (odd)
		*odd = 0;
	for (size_t i = 0; i < list.object_count && odd; i++)
		*odd += list.objects[i].bytes & 1;
	if (!count)
		count = (int)list.object_count;
	s3_release(&list);
	return count;
}

/* Each is acknowledged before the next one is made: so many records. */
static int64_t records(struct replicated *p, unsigned generations)
{
	int64_t count = 0;

	for (unsigned i = 0; i < generations && count >= 0; i++) {
		count = program_goes_on(p, 1);
		if (count >= 0 && program_wait_acknowledged(p))
			return -1;
	}
	return count;
}

TEST_F(garbage, what_is_stored_is_little_more_than_what_is_in_use)
{
	struct replication_status status;
	int before, after;
	unsigned seals;

	ASSERT_EQ(0, program_open(&self->p, THAW_LOG, 0)) TH_LOG("%s", self->p.error.text);
	ASSERT_EQ(600, records(&self->p, 600));
	ASSERT_EQ(0, replicate_finish(self->p.replication, false, FOR_EVER, &self->p.error));
	replicate_status(self->p.replication, &status);
	EXPECT_LE(600, status.records);
	before = objects(self->s3, "", NULL);
	EXPECT_LT(600, before);
	EXPECT_LT(0, objects(self->s3, "index/", NULL));
	after = collect(self->s3, &self->p.error);
	EXPECT_LT(0, after) TH_LOG("%s", self->p.error.text);
	EXPECT_EQ(before - after, objects(self->s3, "", NULL));
	/* What is in use is 2 MiB and the image's own: there is a bound to how many objects have it. */
	EXPECT_GT(450, objects(self->s3, "", NULL));
	EXPECT_GE(2, objects(self->s3, "index/", &seals));
	EXPECT_GE(1, objects(self->s3, "hot/", &seals));
	EXPECT_LT(0, objects(self->s3, "log/", &seals));
	EXPECT_EQ(1, seals);
	EXPECT_EQ(600, program_in_store(&self->p));
	EXPECT_EQ(0, collect(self->s3, &self->p.error));
	EXPECT_EQ(600, program_in_store(&self->p));
}

/* Large objects of which less and less is in use. */
TEST_F(garbage, objects_that_are_half_empty_are_stored_again)
{
	const size_t pages = 20u << 8; /* 20 MiB */
	struct replication_status status;
	uint64_t seed = 1, *words;

	ASSERT_EQ(0, program_open(&self->p, 0, 0)) TH_LOG("%s", self->p.error.text);
	ASSERT_EQ(0, thaw_resize(self->p.heap, HEAP_BYTES + pages * 4096));
	words = (uint64_t *)((char *)thaw_base(self->p.heap) + HEAP_BYTES);
	for (unsigned round = 0; round < 100; round++) {
		for (size_t page = 0; page < pages; page++) {
			/* All of them at first, and then one of 20. */
			seed = seed * 6364136223846793005u + 1442695040888963407u;
			if (round && (seed >> 33) % 20)
				continue;
			for (unsigned i = 0; i < 512; i++) {
				seed = seed * 6364136223846793005u + 1442695040888963407u;
				words[page * 512 + i] = seed ^ seed >> 29;
			}
		}
		ASSERT_LT(0, records(&self->p, 1));
	}
	ASSERT_EQ(0, replicate_finish(self->p.replication, true, FOR_EVER, &self->p.error));
	replicate_status(self->p.replication, &status);
	EXPECT_LT(120u << 20, status.bytes_blocks);
	/* In use: the heap, and what of it the retained generations have besides. */
	EXPECT_GT(100u << 20, status.bytes_stored);
	EXPECT_EQ(100, program_in_store(&self->p));
	EXPECT_LT(0, collect(self->s3, &self->p.error));
	EXPECT_EQ(100, program_in_store(&self->p));
}

TEST_F(garbage, what_was_stored_and_never_referred_to_is_deleted)
{
	struct store_object object = {.record = 1, .kind = STORE_IN_DATA, .epoch = {7}};
	char name[STORE_NAME_BYTES];

	ASSERT_EQ(0, program_open(&self->p, 0, 0)) TH_LOG("%s", self->p.error.text);
	ASSERT_EQ(3, records(&self->p, 3));
	ASSERT_EQ(0, replicate_finish(self->p.replication, false, FOR_EVER, &self->p.error));
	collect(self->s3, &self->p.error);
	store_object_name(&object, name);
	ASSERT_EQ(0, s3_put(self->s3, name, "x", 1, S3_NEW, 0, &self->p.error));
	/* And one that is for a record to come: somebody is at it. */
	object.record = 100;
	store_object_name(&object, name);
	ASSERT_EQ(0, s3_put(self->s3, name, "x", 1, S3_NEW, 0, &self->p.error));
	EXPECT_EQ(1, collect(self->s3, &self->p.error)) TH_LOG("%s", self->p.error.text);
	EXPECT_EQ(3, program_in_store(&self->p));
}

TEST_F(garbage, what_was_the_newest_a_moment_ago_stays)
{
	struct store_record record;
	uint64_t deleted, number[3];
	void *tail;

	ASSERT_EQ(0, program_open(&self->p, 0, 0)) TH_LOG("%s", self->p.error.text);
	for (unsigned i = 0; i < 3; i++) {
		ASSERT_EQ(30 * (i + 1), records(&self->p, 30));
		ASSERT_EQ(0, record_newest(self->s3, 0, &record, &tail, &self->p.error));
		free(tail);
		number[i] = record.number;
	}
	ASSERT_EQ(0,
		  garbage_collect(self->s3, 600000000000u, goes_on, NULL, &deleted, &self->p.error))
	TH_LOG("%s", self->p.error.text);
	EXPECT_EQ(0, deleted);
	for (unsigned i = 0; i < 3; i++)
		EXPECT_EQ(30 * (i + 1), replica_of_record(self->p.server.place, number[i],
							  self->p.directory, &record));
}

TEST_F(garbage, what_a_lease_needs_stays)
{
	struct disk_lease lease;
	struct store_record record;
	uint64_t number;
	void *tail;

	ASSERT_EQ(0, program_open(&self->p, 0, 0)) TH_LOG("%s", self->p.error.text);
	ASSERT_EQ(10, records(&self->p, 10));
	ASSERT_EQ(0, record_newest(self->s3, 0, &record, &tail, &self->p.error));
	free(tail);
	number = record.number;
	lease_encode(&lease, number);
	ASSERT_EQ(0, s3_put(self->s3, "readers/0123456789abcdef0123456789abcdef", &lease,
			    sizeof(lease), 0, 0, &self->p.error));
	for (unsigned i = 2; i < 8; i++) {
		ASSERT_EQ(20 * i - 10, records(&self->p, 20));
		EXPECT_LE(0, collect(self->s3, &self->p.error)) TH_LOG("%s", self->p.error.text);
		ASSERT_EQ(10, replica_of_record(self->p.server.place, number, self->p.directory,
						&record));
		ASSERT_EQ(20 * i - 10, program_in_store(&self->p));
	}
	{
		const char *keys[] = {"readers/0123456789abcdef0123456789abcdef"};

		ASSERT_EQ(0, s3_delete(self->s3, keys, 1, 0, &self->p.error));
	}
	EXPECT_LT(0, collect(self->s3, &self->p.error)) TH_LOG("%s", self->p.error.text);
	EXPECT_EQ(150 - 20, program_in_store(&self->p));
}

TEST_F(garbage, who_was_fenced_stays_so_when_all_is_cleaned)
{
	struct replicated other = self->p;
	struct replication_status status;

	ASSERT_EQ(0, program_open(&self->p, 0, 0)) TH_LOG("%s", self->p.error.text);
	ASSERT_EQ(5, records(&self->p, 5));
	/* A copy of the file, at another place, is the one that goes on. */
	other.image = support_format("%s/other.thaw", self->p.directory);
	{
		struct store_record record;

		ASSERT_EQ(0, replica_restore(self->p.server.place, other.image, &record,
					     &self->p.error));
	}
	ASSERT_EQ(0, program_open(&other, 0, EPOCH_REPLACE)) TH_LOG("%s", other.error.text);
	ASSERT_EQ(45, records(&other, 40));
	for (unsigned i = 0; i < 3; i++)
		EXPECT_LE(0, collect(self->s3, &self->p.error)) TH_LOG("%s", self->p.error.text);
	ASSERT_LT(0, program_goes_on(&self->p, 3));
	EXPECT_EQ(-EBUSY, program_wait_acknowledged(&self->p));
	replicate_status(self->p.replication, &status);
	EXPECT_EQ(REPLICATION_FENCED, status.state);
	ASSERT_EQ(48, records(&other, 3));
	EXPECT_EQ(48, program_in_store(&other));
	program_close(&other);
	free(other.image);
}

/* The replication's own collector does the same while the program runs. */
TEST_F(garbage, a_running_program_cleans_up_behind_itself)
{
	struct replication_status status = {0};
	double deadline = support_deadline(60);

	self->p.least_age_ns = 1;
	ASSERT_EQ(0, program_open(&self->p, THAW_LOG, 0)) TH_LOG("%s", self->p.error.text);
	while (!status.objects_deleted && support_seconds() < deadline) {
		ASSERT_LT(0, records(&self->p, 5));
		replicate_status(self->p.replication, &status);
	}
	EXPECT_LT(0, status.objects_deleted);
	EXPECT_EQ(self->p.at, program_in_store(&self->p));
}

TEST_HARNESS_MAIN
