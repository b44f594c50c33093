// SPDX-License-Identifier: GPL-2.0-only
/*
 * epochs.c - who continues a store: of two writers that do not know of each other never both have a record acknowledged at one
 * number, one that was fenced never has one again, and a file that another has overtaken is refused.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <pthread.h>
#include <stdatomic.h>

#include "replica.h"
#include "store/append.h"
#include "store/epoch.h"

#define ROUNDS 200u
#define WRITERS 2u
#define RECORDS_MOST 65536u

struct writer {
	const char *place;
	char image[64];
	struct s3 *s3;
	unsigned rounds, acknowledged;
	int code;
	struct thaw_error error;
};

static struct writer *_Atomic winner[RECORDS_MOST];
static _Atomic unsigned rounds_done, twice;

static void won(struct writer *writer, uint64_t number)
{
	struct writer *nobody = NULL;

	if (number >= RECORDS_MOST ||
	    !atomic_compare_exchange_strong(&winner[number], &nobody, writer))
		twice++;
	writer->acknowledged++;
}

static int writer_open(struct writer *writer, const char *directory, const char *place,
		       const char *name)
{
	*writer = (struct writer){.place = place};
	snprintf(writer->image, sizeof(writer->image), "%s/%s", directory, name);
	return s3_open(place, NULL, &writer->s3, &writer->error);
}

static void writer_close(struct writer *writer)
{
	s3_close(writer->s3);
}

static int claim(struct writer *writer, unsigned flags, struct store_claim *claim)
{
	const struct epoch_wish wish = {.place = writer->place,
					.image = writer->image,
					.program = "epochs",
					.flags = flags,
					.uuid = {1, 2, 3}};

	return epoch_claim(writer->s3, &wish, 0, claim, &writer->error);
}

/* A record without frames, behind the newest one that this writer knows. */
static int append(struct writer *writer, struct store_claim *claim)
{
	struct store_record record = claim->record;
	struct append append;
	size_t bytes;
	void *level;
	int code = level_encode(&claim->index.level[0], &level, &bytes);

	if (code)
		return code;
	memcpy(record.before, record.checksum, sizeof(record.before));
	record.number++;
	record.kind = STORE_GENERATION;
	record.sequence = record.generation = record.number;
	record.nonce[0]++;
	append_make(&append, &record, NULL, 0, level, bytes);
	code = s3_do(writer->s3, &append.request, &writer->error);
	append_free(&append);
	if (code)
		return code;
	claim->record = record;
	won(writer, record.number);
	return 0;
}

/* Takes the store over again and again, and writes until it is fenced. */
static void *write_always(void *arg)
{
	struct writer *writer = arg;

	while (rounds_done < ROUNDS && !writer->code) {
		struct store_claim now;
		unsigned records = 0;
		int code = claim(writer, EPOCH_BEGIN | EPOCH_REPLACE, &now);

		if (!code) {
			won(writer, now.record.number);
			while (!code && records++ < 8)
				code = append(writer, &now);
		}
		claim_free(&now);
		if (code && code != -EEXIST)
			writer->code = code;
		rounds_done++;
		writer->rounds++;
	}
	return NULL;
}

FIXTURE(epochs)
{
	struct store_server server;
	char *directory;
	struct writer writers[WRITERS];
};
FIXTURE_SETUP(epochs)
{
	self->directory = support_directory();
	store_server_begin(&self->server);
	for (unsigned i = 0; i < WRITERS; i++)
		ASSERT_EQ(0, writer_open(&self->writers[i], self->directory, self->server.place,
					 i ? "b" : "a"));
}
FIXTURE_TEARDOWN(epochs)
{
	for (unsigned i = 0; i < WRITERS; i++)
		writer_close(&self->writers[i]);
	store_server_end(&self->server);
	support_remove(self->directory);
}

struct history {
	uint64_t newest, next; /* the number that comes next, downwards */
	uint64_t checksum[2];
	unsigned gaps, forks;
};

static int look_at(void *arg, const struct store_record *record)
{
	struct history *history = arg;

	if (!history->newest)
		history->newest = record->number;
	else if (record->number != history->next)
		history->gaps++;
	else if (memcmp(record->checksum, history->checksum, sizeof(record->checksum)))
		history->forks++;
	history->next = record->number - 1;
	memcpy(history->checksum, record->before, sizeof(history->checksum));
	return 0;
}

TEST_F(epochs, of_two_writers_never_both_have_a_record_of_one_number)
{
	pthread_t threads[WRITERS];
	struct history history = {0};

	for (unsigned i = 0; i < WRITERS; i++)
		ASSERT_EQ(0, pthread_create(&threads[i], NULL, write_always, &self->writers[i]));
	for (unsigned i = 0; i < WRITERS; i++) {
		pthread_join(threads[i], NULL);
		EXPECT_EQ(0, self->writers[i].code) TH_LOG("%s", self->writers[i].error.text);
		EXPECT_LT(0, self->writers[i].acknowledged);
	}
	EXPECT_EQ(0, atomic_load(&twice));
	/* What is there is one line of records, each of which knows the one before it, of that writer or another. */
	ASSERT_EQ(0, record_each(self->writers[0].s3, 0, 0, look_at, &history,
				 &self->writers[0].error));
	EXPECT_EQ(0, history.gaps);
	EXPECT_EQ(0, history.forks);
	EXPECT_EQ(0, history.next);
	EXPECT_LE(ROUNDS / 2, history.newest);
	for (uint64_t n = 1; n <= history.newest; n++)
		EXPECT_NE(NULL, atomic_load(&winner[n]));
}

TEST_F(epochs, a_writer_that_was_fenced_never_writes_again)
{
	struct writer *a = &self->writers[0], *b = &self->writers[1];
	struct store_claim first, second;

	ASSERT_EQ(0, claim(a, EPOCH_BEGIN, &first)) TH_LOG("%s", a->error.text);
	ASSERT_EQ(0, append(a, &first));
	ASSERT_EQ(0, claim(b, EPOCH_REPLACE, &second)) TH_LOG("%s", b->error.text);
	EXPECT_EQ(2, second.record.epoch_number);
	EXPECT_EQ(first.record.number, second.record.number - 1);
	EXPECT_EQ(2, second.record.generation); /* what the record before had */
	EXPECT_EQ(-EEXIST, append(a, &first));
	for (unsigned i = 0; i < 3; i++)
		ASSERT_EQ(0, append(b, &second));
	EXPECT_EQ(-EEXIST, append(a, &first));
	claim_free(&first);
	/* Nor after its start, unless it is told to. */
	EXPECT_EQ(-EBUSY, claim(a, 0, &first));
	EXPECT_NE(NULL, strstr(a->error.text, "epochs on ")) TH_LOG("%s", a->error.text);
	claim_free(&first);
	EXPECT_EQ(0, claim(b, 0, &first)); /* whose it is */
	claim_free(&first);
	claim_free(&second);
}

TEST_F(epochs, a_store_is_continued_by_what_it_has_a_replica_of)
{
	struct writer *a = &self->writers[0];
	struct epoch_wish wish = {
		.place = a->place, .image = a->image, .program = "epochs", .uuid = {7}};
	struct store_claim claim;

	EXPECT_EQ(-ENOENT, epoch_look(a->s3, &wish, 0, &claim, &a->error));
	wish.flags = EPOCH_BEGIN;
	ASSERT_EQ(0, epoch_claim(a->s3, &wish, 0, &claim, &a->error)) TH_LOG("%s", a->error.text);
	ASSERT_EQ(0, append(a, &claim));
	ASSERT_EQ(0, append(a, &claim));
	EXPECT_EQ(3, claim.record.generation);
	claim_free(&claim);
	wish.generation = wish.sequence = 2; /* of a backup, say */
	EXPECT_EQ(-ESTALE, epoch_look(a->s3, &wish, 0, &claim, &a->error));
	claim_free(&claim);
	wish.flags = EPOCH_REPLACE;
	EXPECT_EQ(0, epoch_look(a->s3, &wish, 0, &claim, &a->error));
	claim_free(&claim);
	wish.flags = 0;
	wish.generation = wish.sequence = 3;
	EXPECT_EQ(0, epoch_look(a->s3, &wish, 0, &claim, &a->error));
	claim_free(&claim);
	wish.uuid[0]++;
	EXPECT_EQ(-EXDEV, epoch_look(a->s3, &wish, 0, &claim, &a->error));
	claim_free(&claim);
	wish.flags = EPOCH_TAKE_OVER;
	EXPECT_EQ(0, epoch_look(a->s3, &wish, 0, &claim, &a->error));
	claim_free(&claim);
}

/* A start that was killed, or got no answer, has begun an epoch that it does not know to be there: it is its own all the same. */
TEST_F(epochs, a_seal_whose_answer_was_lost_is_its_own)
{
	struct writer *a = &self->writers[0];
	struct store_claim first;
	struct epoch_wish wish = {
		.place = a->place, .image = a->image, .program = "epochs", .flags = EPOCH_BEGIN};

	STORE_SKIP_REAL(&self->server);
	ASSERT_EQ(0, claim(a, EPOCH_BEGIN, &first)) TH_LOG("%s", a->error.text);
	for (unsigned i = 0; i < 3; i++) {
		struct store_claim next;

		/* Done, and then nothing is heard of it, until whoever waits gives up. */
		store_server_order(&self->server, "/fault?kind=hold&after=1&verb=PUT&key=log/");
		ASSERT_EQ(0, epoch_look(a->s3, &wish, 0, &next, &a->error));
		EXPECT_EQ(-ETIMEDOUT, epoch_seal(a->s3, &wish, clock_monotonic_ns() + 50000000,
						 &next, &a->error));
		EXPECT_FALSE(next.sealed);
		store_server_order(&self->server, "/clear");
		claim_free(&next);
	}
	claim_free(&first);
	ASSERT_EQ(0, claim(a, 0, &first)) TH_LOG("%s", a->error.text);
	EXPECT_EQ(5, first.record.epoch_number);
	claim_free(&first);
}

/* A store that is read, and takes nothing, is asked for longer than a side file has room for. */
TEST_F(epochs, who_is_refused_again_and_again_stays_the_owner)
{
	struct writer *a = &self->writers[0];
	struct store_claim first;
	struct epoch_wish wish = {
		.place = a->place, .image = a->image, .program = "epochs", .flags = EPOCH_BEGIN};

	STORE_SKIP_REAL(&self->server);
	ASSERT_EQ(0, claim(a, EPOCH_BEGIN, &first)) TH_LOG("%s", a->error.text);
	for (unsigned i = 0; i < SIDEFILE_EPOCHS + 8; i++) {
		struct store_claim next;

		store_server_order(
			&self->server,
			i & 1 ? "/fault?kind=answer&status=403&code=AccessDenied&verb=PUT&key=log/"
			      : "/fault?kind=answer&status=500&verb=PUT&key=log/&count=100");
		ASSERT_EQ(0, epoch_look(a->s3, &wish, 0, &next, &a->error))
		TH_LOG("%u: %s", i, a->error.text);
		EXPECT_GT(0, epoch_seal(a->s3, &wish, clock_monotonic_ns() + 1000000, &next,
					&a->error));
		store_server_order(&self->server, "/clear");
		claim_free(&next);
	}
	claim_free(&first);
	EXPECT_EQ(0, claim(a, 0, &first)) TH_LOG("%s", a->error.text);
	claim_free(&first);
}

TEST_HARNESS_MAIN
