// SPDX-License-Identifier: GPL-2.0-only
/*
 * s3_cuts.c - connections that end at every byte of what is sent and answered, or hang there: a request succeeds all the same,
 * what was got is whole, and what was put is there once, and known to be one's own.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <errno.h>
#include <semaphore.h>

#include "base/clock.h"
#include "store/s3.h"
#include "store_server.h"

#define SECOND_NS 1000000000ull

FIXTURE(cuts)
{
	struct store_server server;
	struct s3 *s3;
	struct thaw_error error;
	uint64_t deadline_ns;
};

FIXTURE_SETUP(cuts)
{
	const struct s3_settings settings = {.back_off_ns = 100000,
					     .back_off_most_ns = 1000000,
					     .stall_ns = test_patience_now() * SECOND_NS / 5};

	store_server_begin(&self->server);
	store_server_wire(&self->server);
	ASSERT_EQ(0, s3_open(self->server.place, &settings, &self->s3, &self->error))
	{
		printf("# %s\n", self->error.text);
	}
	self->deadline_ns = clock_monotonic_ns() + 100 * SECOND_NS * test_patience_now();
}

FIXTURE_TEARDOWN(cuts)
{
	s3_close(self->s3);
	store_server_end(&self->server);
}

static void order_cut(FIXTURE_DATA(cuts) * self, const char *direction, unsigned after)
{
	store_server_order(&self->server, "/wire?direction=%s&after=%u&action=cut", direction,
			   after);
}

/* It has happened: there were so many bytes. (libcurl itself tries again where a connection that was kept ends at once.) */
static bool struck(FIXTURE_DATA(cuts) * self)
{
	char *armed = store_server_ask(&self->server, "/armed");
	bool still = *armed == '1';

	free(armed);
	return !still;
}

/* Of some bytes, in a quick run, and of others in the next one. */
#define STEP 13u
static unsigned first_byte(void)
{
	return (unsigned)getpid() % STEP;
}

static char text[100];

static int put(FIXTURE_DATA(cuts) * self, const char *key, unsigned flags, unsigned *tries)
{
	const struct iovec piece = {text, sizeof(text)};
	struct s3_request put = {.verb = S3_PUT,
				 .key = key,
				 .flags = flags,
				 .pieces = &piece,
				 .piece_count = 1,
				 .deadline_ns = self->deadline_ns};
	int code = s3_do(self->s3, &put, &self->error);

	*tries = put.tries;
	s3_release(&put);
	return code;
}

static void fill(unsigned seed)
{
	for (unsigned i = 0; i < sizeof(text); i++)
		text[i] = (char)(seed * 31 + i * 7 + (i >> 8));
}

static bool is_there(FIXTURE_DATA(cuts) * self, const char *key)
{
	void *bytes;
	size_t count;
	bool same;

	if (s3_get(self->s3, key, sizeof(text), self->deadline_ns, &bytes, &count, &self->error))
		return false;
	same = count == sizeof(text) && !memcmp(bytes, text, count);
	free(bytes);
	return same;
}

/* ---- Answers */

TEST_F(cuts, an_answer_that_ends_at_any_byte_is_not_taken_for_whole)
{
	char into[sizeof(text)];
	struct s3_request get = {
		.verb = S3_GET, .key = "object", .into = into, .length = sizeof(into)};
	unsigned after = first_byte(), tries;

	STORE_SKIP_UNWIRED(&self->server);
	fill(1);
	get.deadline_ns = self->deadline_ns;
	ASSERT_EQ(0, put(self, "object", 0, &tries));
	do {
		memset(into, 0, sizeof(into));
		order_cut(self, "response", after);
		ASSERT_EQ(0, s3_do(self->s3, &get, &self->error))
		{
			printf("# cut after %u: %s\n", after, self->error.text);
		}
		ASSERT_EQ(sizeof(text), get.got);
		ASSERT_EQ(0, memcmp(text, into, sizeof(text)));
		after += STEP;
	} while (struck(self));
	EXPECT_LT(sizeof(text) + 100, after);
	s3_release(&get);
}

TEST_F(cuts, a_list_that_ends_at_any_byte_is_not_taken_for_whole)
{
	struct s3_request list = {.verb = S3_LIST, .key = ""};
	unsigned after = first_byte(), tries;

	STORE_SKIP_UNWIRED(&self->server);
	list.deadline_ns = self->deadline_ns;
	ASSERT_EQ(0, put(self, "a", 0, &tries));
	ASSERT_EQ(0, put(self, "b", 0, &tries));
	do {
		order_cut(self, "response", after);
		ASSERT_EQ(0, s3_do(self->s3, &list, &self->error));
		ASSERT_EQ(2, list.object_count);
		after += STEP;
	} while (struck(self));
	EXPECT_LT(600, after);
	s3_release(&list);
}

TEST_F(cuts, a_head_that_ends_at_any_byte_is_asked_for_again)
{
	struct s3_request head = {.verb = S3_HEAD, .key = "object"};
	unsigned after = first_byte(), tries;

	STORE_SKIP_UNWIRED(&self->server);
	head.deadline_ns = self->deadline_ns;
	ASSERT_EQ(0, put(self, "object", 0, &tries));
	do {
		order_cut(self, "response", after);
		ASSERT_EQ(0, s3_do(self->s3, &head, &self->error));
		ASSERT_EQ(sizeof(text), head.object_bytes);
		ASSERT_NE(0, head.etag[0]);
		after += STEP;
	} while (struck(self));
	EXPECT_LT(200, after);
	s3_release(&head);
}

/* ---- What is put */

TEST_F(cuts, a_new_object_whose_answer_ends_at_any_byte_is_known_as_ones_own)
{
	unsigned after = first_byte(), tries;
	bool happened;
	char key[32];

	STORE_SKIP_UNWIRED(&self->server);
	do {
		snprintf(key, sizeof(key), "new/%u", after);
		fill(after);
		order_cut(self, "response", after);
		ASSERT_EQ(0, put(self, key, S3_NEW, &tries))
		{
			printf("# cut after %u: %s\n", after, self->error.text);
		}
		happened = struck(self);
		ASSERT_TRUE(is_there(self, key));
		after += STEP;
	} while (happened);
	EXPECT_LT(100, after);
	/* It was found, and asked for, and not put again for nothing. */
	if (!self->server.real)
		EXPECT_LT(100 / STEP, store_server_count(&self->server, "HEAD", "new/"));
}

TEST_F(cuts, somebody_elses_object_is_not_taken_for_ones_own)
{
	unsigned after = first_byte(), tries;

	STORE_SKIP_UNWIRED(&self->server);
	ASSERT_EQ(0, put(self, "theirs", S3_NEW, &tries));
	do {
		order_cut(self, "response", after);
		ASSERT_EQ(-EEXIST, put(self, "theirs", S3_NEW, &tries));
		after += STEP;
	} while (struck(self));
	EXPECT_LT(200, after);
}

TEST_F(cuts, a_new_object_that_ends_at_any_byte_of_it_is_put_again)
{
	unsigned after = first_byte(), tries;
	bool happened;
	char key[32];

	STORE_SKIP_UNWIRED(&self->server);
	do {
		snprintf(key, sizeof(key), "new/%u", after);
		fill(after);
		order_cut(self, "request", after);
		ASSERT_EQ(0, put(self, key, S3_NEW, &tries))
		{
			printf("# cut after %u: %s\n", after, self->error.text);
		}
		happened = struck(self);
		ASSERT_TRUE(is_there(self, key));
		after += STEP;
	} while (happened);
	EXPECT_LT(sizeof(text) + 400, after);
}

TEST_F(cuts, a_deletion_whose_answer_is_lost)
{
	const char *const keys[] = {"object"};
	unsigned tries;

	STORE_SKIP_UNWIRED(&self->server);
	for (unsigned after = 0; after < 40; after += 13) {
		ASSERT_EQ(0, put(self, "object", 0, &tries));
		order_cut(self, "response", after);
		ASSERT_EQ(0, s3_delete(self->s3, keys, 1, self->deadline_ns, &self->error));
		EXPECT_FALSE(is_there(self, "object"));
	}
}

/* ---- Several writers */

#define WRITERS 5u
#define ROUNDS 12u

static sem_t ended;

static void note_end(struct s3_request *request)
{
	(void)request;
	sem_post(&ended);
}

/* Each knows whether it has won, although answers are lost. */
TEST_F(cuts, of_several_writers_one_wins_and_knows_it)
{
	struct s3_request puts[WRITERS];
	struct iovec pieces[WRITERS];
	char key[16], bodies[WRITERS][4];
	unsigned winner = 0, winners;
	struct s3 *stores[WRITERS];
	void *bytes;
	size_t count;

	STORE_SKIP_UNWIRED(&self->server);
	sem_init(&ended, 0, 0);
	for (unsigned i = 0; i < WRITERS; i++) {
		ASSERT_EQ(0, s3_open(self->server.place, NULL, &stores[i], &self->error));
		snprintf(bodies[i], sizeof(bodies[i]), "w%u", i);
		pieces[i] = (struct iovec){bodies[i], 2};
	}
	for (unsigned round = 0; round < ROUNDS; round++) {
		snprintf(key, sizeof(key), "log/%u", round);
		store_server_order(&self->server, "/wire?direction=%s&after=%u&action=cut&count=%u",
				   round % 3 ? "response" : "request", round * 17 % 100,
				   round % (WRITERS + 1));
		for (unsigned i = 0; i < WRITERS; i++) {
			puts[i] = (struct s3_request){.verb = S3_PUT,
						      .flags = S3_NEW,
						      .key = key,
						      .pieces = &pieces[i],
						      .piece_count = 1,
						      .done = note_end,
						      .deadline_ns = self->deadline_ns};
			s3_start(stores[i], &puts[i]);
		}
		for (unsigned i = 0; i < WRITERS; i++)
			while (sem_wait(&ended))
				;
		store_server_order(&self->server, "/clear");
		winners = 0;
		for (unsigned i = 0; i < WRITERS; i++) {
			winner = puts[i].code ? winner : i;
			winners += !puts[i].code;
			ASSERT_TRUE(!puts[i].code || puts[i].code == -EEXIST);
			s3_release(&puts[i]);
		}
		ASSERT_EQ(1, winners);
		ASSERT_EQ(0, s3_get(self->s3, key, 10, self->deadline_ns, &bytes, &count,
				    &self->error));
		ASSERT_STREQ(bodies[winner], bytes);
		free(bytes);
	}
	for (unsigned i = 0; i < WRITERS; i++)
		s3_close(stores[i]);
}

/* ---- Large ones */

#define LARGE (6u << 20)

FIXTURE(large)
{
	struct store_server server;
	struct s3 *s3;
	struct thaw_error error;
	uint64_t deadline_ns;
	uint32_t *bytes, *into;
	struct s3_request get, put;
	struct iovec piece;
};

FIXTURE_SETUP(large)
{
	const struct s3_settings settings = {.back_off_ns = 100000,
					     .back_off_most_ns = 1000000,
					     .stall_ns = 30 * SECOND_NS * test_patience_now()};

	store_server_begin(&self->server);
	store_server_wire(&self->server);
	ASSERT_EQ(0, s3_open(self->server.place, &settings, &self->s3, &self->error));
	self->deadline_ns = clock_monotonic_ns() + 100 * SECOND_NS * test_patience_now();
	self->bytes = malloc(LARGE);
	self->into = calloc(1, LARGE);
	for (unsigned i = 0; i < LARGE / 4; i++)
		self->bytes[i] = i * 2654435761u;
	self->piece = (struct iovec){self->bytes, LARGE};
	self->put = (struct s3_request){.verb = S3_PUT,
					.key = "large",
					.pieces = &self->piece,
					.piece_count = 1,
					.deadline_ns = self->deadline_ns};
	self->get = (struct s3_request){.verb = S3_GET,
					.key = "large",
					.into = self->into,
					.length = LARGE,
					.deadline_ns = self->deadline_ns};
}

FIXTURE_TEARDOWN(large)
{
	s3_close(self->s3);
	s3_release(&self->get);
	s3_release(&self->put);
	store_server_end(&self->server);
	free(self->bytes);
	free(self->into);
}

TEST_F(large, what_is_got_goes_on_where_it_was_cut)
{
	size_t count, at = 0;
	struct store_request *log;

	STORE_SKIP_REAL(&self->server);
	ASSERT_EQ(0, s3_do(self->s3, &self->put, &self->error));
	store_server_order(&self->server, "/forget");
	store_server_order(&self->server,
			   "/wire?direction=response&after=1500000&action=cut&count=3");
	ASSERT_EQ(0, s3_do(self->s3, &self->get, &self->error));
	EXPECT_EQ(4, self->get.tries);
	EXPECT_EQ(0, memcmp(self->bytes, self->into, LARGE));
	log = store_server_log(&self->server, &count);
	ASSERT_EQ(4, count);
	for (; at < count; at++) {
		EXPECT_LE(at * 1490000, log[at].first);
		EXPECT_GE(at * 1500000, log[at].first);
	}
	free(log);
}

TEST_F(large, what_is_put_begins_anew_where_it_was_cut)
{
	STORE_SKIP_UNWIRED(&self->server);
	self->put.flags = S3_NEW;
	store_server_order(&self->server,
			   "/wire?direction=request&after=3000000&action=cut&count=2");
	ASSERT_EQ(0, s3_do(self->s3, &self->put, &self->error));
	EXPECT_EQ(3, self->put.tries);
	ASSERT_EQ(0, s3_do(self->s3, &self->get, &self->error));
	EXPECT_EQ(0, memcmp(self->bytes, self->into, LARGE));
}

/* Long after the last of it was handed to the kernel it still goes out. */
TEST_F(large, a_slow_line_is_no_line_that_hangs)
{
	const struct s3_settings settings = {.stall_ns = SECOND_NS};
	struct s3 *s3;

	STORE_SKIP_UNWIRED(&self->server);
	ASSERT_EQ(0, s3_open(self->server.place, &settings, &s3, &self->error));
	store_server_order(&self->server, "/slow?bytes=65536");
	self->put.deadline_ns = clock_monotonic_ns() + 15 * SECOND_NS * test_patience_now();
	EXPECT_EQ(0, s3_do(s3, &self->put, &self->error));
	EXPECT_EQ(1, self->put.tries);
	s3_close(s3);
}

TEST_F(large, what_is_there_is_not_sent_to_the_end)
{
	struct s3_counts before, after;

	STORE_SKIP_REAL(&self->server);
	self->put.flags = S3_NEW;
	ASSERT_EQ(0, s3_do(self->s3, &self->put, &self->error));
	s3_count(self->s3, &before);
	ASSERT_EQ(-EEXIST, s3_do(self->s3, &self->put, &self->error));
	EXPECT_EQ(2, self->put.tries);
	s3_count(self->s3, &after);
	EXPECT_GT(LARGE / 4, after.sent - before.sent);
}

/* The last part is of another object than the first: never one of both. */
TEST_F(large, what_is_replaced_while_it_is_got_comes_whole)
{
	struct s3 *other;

	STORE_SKIP_REAL(&self->server);
	ASSERT_EQ(0, s3_open(self->server.place, NULL, &other, &self->error));
	ASSERT_EQ(0, s3_do(self->s3, &self->put, &self->error));
	store_server_order(&self->server, "/wire?direction=response&after=2000000&action=cut");
	store_server_order(&self->server, "/fault?kind=hold&verb=GET&skip=1");
	sem_init(&ended, 0, 0);
	self->get.done = note_end;
	s3_start(self->s3, &self->get);
	store_server_order(&self->server, "/wait?held=1");
	for (unsigned i = 0; i < LARGE / 4; i++)
		self->bytes[i] = ~self->bytes[i];
	ASSERT_EQ(0, s3_do(other, &self->put, &self->error));
	store_server_order(&self->server, "/release");
	sem_wait(&ended);
	EXPECT_EQ(0, self->get.code);
	EXPECT_EQ(3, self->get.tries);
	EXPECT_EQ(0, memcmp(self->bytes, self->into, LARGE));
	s3_close(other);
}

TEST_HARNESS_MAIN
