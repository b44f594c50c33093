// SPDX-License-Identifier: GPL-2.0-only
/*
 * replicate_faults.c - a store that fails while a program is replicated to it: the program goes on, says so, and catches up; what was
 * acknowledged is there, whatever was cut, lost or refused; and a program that another one has overtaken stops.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include "replicated.h"
#include "store/replication.h"

FIXTURE(faults)
{
	struct replicated p;
};
FIXTURE_SETUP(faults)
{
	char *lacks = replicated_begin(&self->p);

	if (lacks)
		SKIP(return, "%s", lacks);
	if (self->p.server.real)
		SKIP(return, "a real store has no faults that can be ordered");
}
FIXTURE_TEARDOWN(faults)
{
	replicated_end(&self->p);
}

static bool fails(const struct replication_status *status)
{
	return status->failing_since_ns != 0;
}

static bool is_denied(const struct replication_status *status)
{
	return status->state == REPLICATION_BEHIND && status->error.code == -EACCES;
}

static bool is_in_step(const struct replication_status *status)
{
	return status->state == REPLICATION_IN_STEP && !status->failing_since_ns;
}

static bool is_connecting(const struct replication_status *status)
{
	return status->state == REPLICATION_CONNECTING && status->failing_since_ns;
}

static bool is_fenced(const struct replication_status *status)
{
	return status->state == REPLICATION_FENCED;
}

TEST_F(faults, a_store_that_was_gone_is_caught_up_with)
{
	ASSERT_EQ(0, program_open(&self->p, THAW_LOG, 0)) TH_LOG("%s", self->p.error.text);
	ASSERT_EQ(3, program_goes_on(&self->p, 3));
	ASSERT_EQ(0, program_wait_acknowledged(&self->p));
	store_server_order(&self->p.server, "/gone");
	ASSERT_EQ(10, program_goes_on(&self->p, 7));
	EXPECT_TRUE(program_becomes(&self->p, fails));
	ASSERT_EQ(30, program_goes_on(&self->p, 20));
	store_server_order(&self->p.server, "/back");
	ASSERT_EQ(0, program_wait_acknowledged(&self->p));
	EXPECT_TRUE(program_becomes(&self->p, is_in_step));
	EXPECT_EQ(30, program_in_store(&self->p));
}

TEST_F(faults, a_program_starts_while_its_store_is_gone)
{
	self->p.connect_ns = 1000000;
	store_server_order(&self->p.server, "/gone");
	ASSERT_EQ(0, program_open(&self->p, 0, 0)) TH_LOG("%s", self->p.error.text);
	ASSERT_EQ(5, program_goes_on(&self->p, 5));
	EXPECT_TRUE(program_becomes(&self->p, is_connecting));
	store_server_order(&self->p.server, "/back");
	ASSERT_EQ(0, program_wait_acknowledged(&self->p));
	EXPECT_EQ(5, program_in_store(&self->p));
}

TEST_F(faults, what_is_refused_is_said_and_tried_again)
{
	ASSERT_EQ(0, program_open(&self->p, 0, 0)) TH_LOG("%s", self->p.error.text);
	ASSERT_EQ(1, program_goes_on(&self->p, 1));
	ASSERT_EQ(0, program_wait_acknowledged(&self->p));
	store_server_order(
		&self->p.server,
		"/fault?kind=answer&verb=PUT&key=log/&status=403&code=AccessDenied&count=3");
	ASSERT_EQ(2, program_goes_on(&self->p, 1));
	EXPECT_TRUE(program_becomes(&self->p, is_denied));
	ASSERT_EQ(0, program_wait_acknowledged(&self->p));
	EXPECT_TRUE(program_becomes(&self->p, is_in_step));
	store_server_order(&self->p.server,
			   "/fault?kind=answer&verb=PUT&status=404&code=NoSuchBucket&count=2");
	store_server_order(&self->p.server, "/fault?kind=answer&status=500&skip=3&count=4");
	store_server_order(&self->p.server,
			   "/fault?kind=answer&status=503&code=SlowDown&skip=7&count=2");
	ASSERT_EQ(9, program_goes_on(&self->p, 7));
	ASSERT_EQ(0, program_wait_acknowledged(&self->p));
	store_server_order(&self->p.server, "/clear");
	EXPECT_EQ(9, program_in_store(&self->p));
}

TEST_F(faults, connections_that_are_cut_lose_nothing)
{
	static const unsigned after[] = {0, 1, 100, 700, 1500, 2500, 6000};
	unsigned count = 0;

	ASSERT_EQ(0, program_open(&self->p, 0, 0)) TH_LOG("%s", self->p.error.text);
	for (unsigned i = 0; i < 2 * sizeof(after) / sizeof(after[0]); i++) {
		store_server_order(&self->p.server,
				   "/wire?direction=%s&after=%u&action=cut&count=2",
				   i & 1 ? "request" : "response", after[i / 2]);
		count += 2;
		ASSERT_EQ(count, program_goes_on(&self->p, 2));
		ASSERT_EQ(0, program_wait_acknowledged(&self->p));
		store_server_order(&self->p.server, "/clear");
		ASSERT_EQ(count, program_in_store(&self->p));
	}
}

/* Bytes that cannot be compressed, 40 MiB behind what generations change. */
static int fill(struct replicated *p, uint64_t seed)
{
	const size_t bytes = 40u << 20;
	uint64_t *words;

	if (thaw_size(p->heap) < HEAP_BYTES + bytes && thaw_resize(p->heap, HEAP_BYTES + bytes))
		return -1;
	words = (uint64_t *)((char *)thaw_base(p->heap) + HEAP_BYTES);
	for (size_t i = 0; i < bytes / 8; i++) {
		seed = seed * 6364136223846793005u + 1442695040888963407u;
		words[i] = seed ^ seed >> 29;
	}
	return thaw_checkpoint(p->heap, THAW_REASON_REQUEST, NULL, 0, NULL);
}

static int overtake(struct replicated *p, struct s3 **s3)
{
	char *image = support_format("%s/another", p->directory);
	const struct epoch_wish wish = {.place = p->server.place,
					.image = image,
					.program = "another",
					.flags = EPOCH_REPLACE};
	struct store_claim claim;
	int code = s3_open(p->server.place, NULL, s3, &p->error);

	if (!code)
		code = epoch_claim(*s3, &wish, FOR_EVER, &claim, &p->error);
	claim_free(&claim);
	free(image);
	return code;
}

TEST_F(faults, who_is_overtaken_stops_and_says_by_whom)
{
	struct replication_status status;
	struct s3 *s3;

	ASSERT_EQ(0, program_open(&self->p, 0, 0)) TH_LOG("%s", self->p.error.text);
	ASSERT_EQ(3, program_goes_on(&self->p, 3));
	ASSERT_EQ(0, program_wait_acknowledged(&self->p));
	ASSERT_EQ(0, overtake(&self->p, &s3)) TH_LOG("%s", self->p.error.text);
	ASSERT_EQ(5, program_goes_on(&self->p, 2));
	EXPECT_EQ(-EBUSY, program_wait_acknowledged(&self->p));
	EXPECT_NE(NULL, strstr(self->p.error.text, "is continued by another on "))
	TH_LOG("%s", self->p.error.text);
	replicate_status(self->p.replication, &status);
	EXPECT_EQ(REPLICATION_FENCED, status.state);
	EXPECT_EQ(3, program_in_store(&self->p));
	ASSERT_EQ(7, program_goes_on(&self->p, 2)); /* it goes on all the same */
	s3_close(s3);
	/* And after its next start it is refused at once. */
	program_close(&self->p);
	EXPECT_EQ(-EBUSY, program_open(&self->p, 0, 0));
}

/* Generations without a pause, each acknowledged before the next, until it is overtaken. */
static void *goes_on(void *arg)
{
	struct replicated *p = arg;

	while (program_goes_on(p, 1) > 0 && !program_wait_acknowledged(p))
		;
	return NULL;
}

/* Each request takes as long: so where records follow each other, a seal is three requests late, each time. */
TEST_F(faults, who_writes_without_a_pause_can_be_overtaken)
{
	struct replication_status status;
	pthread_t writer;
	struct s3 *s3;

	ASSERT_EQ(0, program_open(&self->p, THAW_LOG, 0)) TH_LOG("%s", self->p.error.text);
	ASSERT_EQ(3, program_goes_on(&self->p, 3));
	ASSERT_EQ(0, program_wait_acknowledged(&self->p));
	store_server_order(&self->p.server, "/fault?kind=delay&ms=10&count=1000000");
	ASSERT_EQ(0, pthread_create(&writer, NULL, goes_on, &self->p));
	EXPECT_EQ(0, overtake(&self->p, &s3));
	pthread_join(writer, NULL);
	replicate_status(self->p.replication, &status);
	EXPECT_EQ(REPLICATION_FENCED, status.state) TH_LOG("%s", status.error.text);
	s3_close(s3);
	store_server_order(&self->p.server, "/clear");
}

TEST_F(faults, who_has_nothing_to_send_finds_out_as_well)
{
	struct s3 *s3;

	ASSERT_EQ(0, program_open(&self->p, 0, 0)) TH_LOG("%s", self->p.error.text);
	ASSERT_EQ(3, program_goes_on(&self->p, 3));
	ASSERT_EQ(0, replicate_finish(self->p.replication, false, FOR_EVER, &self->p.error));
	replicate_stop(self->p.replication);
	EXPECT_EQ(0, generation_check(self->p.replication, &self->p.error));
	ASSERT_EQ(0, overtake(&self->p, &s3)) TH_LOG("%s", self->p.error.text);
	EXPECT_EQ(-EBUSY, generation_check(self->p.replication, &self->p.error));
	EXPECT_NE(NULL, strstr(self->p.error.text, "is continued by another on "));
	s3_close(s3);
}

TEST_F(faults, who_ends_while_the_store_is_gone_does_not_wait_for_ever)
{
	double begun;

	ASSERT_EQ(0, program_open(&self->p, 0, 0)) TH_LOG("%s", self->p.error.text);
	ASSERT_EQ(3, program_goes_on(&self->p, 3));
	ASSERT_EQ(0, program_wait_acknowledged(&self->p));
	store_server_order(&self->p.server, "/gone");
	ASSERT_EQ(4, program_goes_on(&self->p, 1));
	EXPECT_EQ(-ETIMEDOUT, replicate_finish(self->p.replication, true,
					       clock_monotonic_ns() + 20000000, &self->p.error));
	begun = support_seconds();
	program_close(&self->p);
	EXPECT_GT(30, support_seconds() - begun);
	/* What was not sent is, after the next start. */
	store_server_order(&self->p.server, "/back");
	EXPECT_EQ(3, program_in_store(&self->p));
	ASSERT_EQ(0, program_open(&self->p, 0, 0)) TH_LOG("%s", self->p.error.text);
	ASSERT_EQ(0, program_wait_acknowledged(&self->p));
	EXPECT_EQ(4, program_in_store(&self->p));
}

TEST_F(faults, who_is_overtaken_in_a_large_upload_stops)
{
	struct s3 *s3;

	ASSERT_EQ(0, program_open(&self->p, 0, 0)) TH_LOG("%s", self->p.error.text);
	store_server_order(&self->p.server, "/fault?kind=hold&verb=PUT&key=data/");
	ASSERT_EQ(0, fill(&self->p, 1));
	store_server_order(&self->p.server, "/wait?held=1");
	ASSERT_EQ(0, overtake(&self->p, &s3)) TH_LOG("%s", self->p.error.text);
	store_server_order(&self->p.server, "/clear");
	EXPECT_TRUE(program_becomes(&self->p, is_fenced));
	s3_close(s3);
}

/* Takes that are void by the time they were read, or in the middle, and reads that fail: so many of each. */
static _Atomic int void_checks, void_reads, failed_reads;

int __real_thaw_mirror_check(struct thaw_take *take);
int __wrap_thaw_mirror_check(struct thaw_take *take);
int __wrap_thaw_mirror_check(struct thaw_take *take)
{
	int code = __real_thaw_mirror_check(take);

	return void_checks > 0 && void_checks-- ? -ESTALE : code;
}

int __real_thaw_mirror_read(struct thaw_take *take, uint64_t offset, void *buffer, size_t bytes);
int __wrap_thaw_mirror_read(struct thaw_take *take, uint64_t offset, void *buffer, size_t bytes);
int __wrap_thaw_mirror_read(struct thaw_take *take, uint64_t offset, void *buffer, size_t bytes)
{
	if (offset > 1u << 20 && void_reads > 0 && void_reads--)
		return -ESTALE;
	if (offset > 1u << 20 && failed_reads > 0 && failed_reads--)
		return -EIO;
	return __real_thaw_mirror_read(take, offset, buffer, bytes);
}

TEST_F(faults, what_could_not_be_taken_is_taken_again)
{
	struct replication_status status;
	struct store_record record;
	struct thaw *other;
	char *path = support_format("%s/other.thaw", self->p.directory);

	ASSERT_EQ(0, program_open(&self->p, 0, 0)) TH_LOG("%s", self->p.error.text);
	void_checks = void_reads = failed_reads = 1;
	ASSERT_EQ(0, fill(&self->p, 1));
	ASSERT_EQ(0, program_wait_acknowledged(&self->p));
	EXPECT_EQ(0, void_checks + void_reads + failed_reads);
	replicate_status(self->p.replication, &status);
	EXPECT_EQ(0, status.error.code) TH_LOG("%s", status.error.text);
	ASSERT_EQ(0, replica_restore(self->p.server.place, path, &record, &self->p.error));
	EXPECT_EQ(0, thaw_image_verify(path, NULL, NULL, &self->p.error))
	TH_LOG("%s", self->p.error.text);
	other = replica_heap(path, 0, &self->p.error);
	ASSERT_NE(NULL, other);
	EXPECT_EQ(0, memcmp(thaw_base(other), thaw_base(self->p.heap), thaw_size(self->p.heap)));
	thaw_close(other);
	free(path);
}

TEST_HARNESS_MAIN
