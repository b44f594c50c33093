// SPDX-License-Identifier: GPL-2.0-only
/*
 * one_history.c - two writers append numbered records to one log, each record with a conditional PUT, while the store's
 * gateway is killed again and again and its OSD once. Of each number there is one record, its writer's; none that was acknowledged is
 * missing, also in no list that is asked for afterwards; and no writer takes its own record for another's.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>

#include "base/clock.h"
#include "ceph/cluster.h"
#include "store/s3.h"

#define WRITERS 2
#define RECORDS_PER_KILL 12 /* acknowledged ones, before the next kill */
#define GATEWAY_KILLS 8
#define MOST_RECORDS 4096

struct log {
	char place[600];
	uint64_t deadline_ns;
	pthread_mutex_t lock;
	pthread_cond_t appended;
	bool end;
	unsigned failed; /* writers */
	char problem[640];
	unsigned count;			      /* acknowledged, by both */
	signed char writer[MOST_RECORDS + 1]; /* number: who was told that it is his, or -1 */
	unsigned lost_races[WRITERS];
};
struct writer {
	struct log *log;
	pthread_t thread;
	struct s3 *s3;
	int number;
};

/* The newest has the first name. */
static void record_key(char *key, unsigned number)
{
	sprintf(key, "log/%016llx", ~(unsigned long long)number);
}
static int newest(struct s3 *s3, uint64_t deadline_ns, unsigned *number, struct thaw_error *error)
{
	struct s3_request list = {
		.verb = S3_LIST, .key = "log/", .at_most = 1, .deadline_ns = deadline_ns};
	int code = s3_do(s3, &list, error);

	*number = 0;
	if (!code && list.object_count)
		*number = (unsigned)~strtoull(list.objects[0].key + strlen("log/"), NULL, 16);
	s3_release(&list);
	return code;
}

static bool stop_with(struct log *log, const char *what, unsigned number, const char *text)
{
	pthread_mutex_lock(&log->lock);
	if (!log->failed++)
		snprintf(log->problem, sizeof(log->problem), "record %u: %s: %s", number, what,
			 text);
	log->end = true;
	pthread_cond_broadcast(&log->appended);
	pthread_mutex_unlock(&log->lock);
	return false;
}

/* Notes that this number is that writer's. False: it is another's already. */
static bool note(struct writer *writer, unsigned number)
{
	struct log *log = writer->log;
	bool first;

	pthread_mutex_lock(&log->lock);
	first = log->writer[number] == -1;
	log->writer[number] = (signed char)writer->number;
	log->count += first;
	log->end |= number == MOST_RECORDS;
	pthread_cond_broadcast(&log->appended);
	pthread_mutex_unlock(&log->lock);
	return first;
}

/* Appends one record, or loses the race for its number. */
static bool append(struct writer *writer)
{
	struct log *log = writer->log;
	char key[64], text[64], name[16];
	struct iovec piece = {text, 0};
	struct s3_request put = {.verb = S3_PUT,
				 .flags = S3_NEW,
				 .key = key,
				 .pieces = &piece,
				 .piece_count = 1,
				 .pairs = {{"writer", name}},
				 .deadline_ns = log->deadline_ns};
	struct thaw_error error = {0};
	unsigned number, listed;
	const char *winner;
	int code;

	if (newest(writer->s3, log->deadline_ns, &number, &error))
		return stop_with(log, "LIST", number, error.text);
	number++;
	record_key(key, number);
	sprintf(name, "%d", writer->number);
	piece.iov_len = (size_t)sprintf(text, "record %u of writer %d", number, writer->number);
	code = s3_do(writer->s3, &put, &error);
	winner = code == -EEXIST ? s3_pair(&put, "writer") : NULL;
	if (winner && !strcmp(winner, name))
		code = -ENOTRECOVERABLE;
	s3_release(&put);
	if (code == -ENOTRECOVERABLE)
		return stop_with(log, "told to be another's", number, "it is this writer's");
	if (code == -EEXIST) {
		writer->log->lost_races[writer->number]++;
		return true;
	}
	if (code)
		return stop_with(log, "PUT", number, error.text);
	if (!note(writer, number))
		return stop_with(log, "acknowledged", number, "to both");
	if (newest(writer->s3, log->deadline_ns, &listed, &error))
		return stop_with(log, "LIST", number, error.text);
	return listed >= number ||
	       stop_with(log, "acknowledged", number, "the list has only older ones");
}

static void *write_records(void *arg)
{
	struct writer *writer = arg;
	bool end = false;

	while (!end && append(writer)) {
		pthread_mutex_lock(&writer->log->lock);
		end = writer->log->end;
		pthread_mutex_unlock(&writer->log->lock);
	}
	return NULL;
}

/* Returns when so many more are acknowledged. */
static bool wait_for_records(struct log *log, unsigned more)
{
	bool there;

	pthread_mutex_lock(&log->lock);
	for (unsigned until = log->count + more; !log->end && log->count < until;)
		pthread_cond_wait(&log->appended, &log->lock);
	there = !log->end;
	pthread_mutex_unlock(&log->lock);
	return there;
}

FIXTURE(history)
{
	struct log log;
	struct writer writers[WRITERS];
	struct thaw_error error;
};
FIXTURE_SETUP(history)
{
	struct log *log = &self->log;

	if (!cluster_there())
		SKIP(exit(KSFT_SKIP), "needs a cluster: make check-ceph");
	cluster_place(log->place, sizeof(log->place));
	log->deadline_ns = clock_monotonic_ns() + 60000000000ull * test_patience_now();
	pthread_mutex_init(&log->lock, NULL);
	pthread_cond_init(&log->appended, NULL);
	memset(log->writer, -1, sizeof(log->writer));
	for (int i = 0; i < WRITERS; i++) {
		self->writers[i] = (struct writer){.log = log, .number = i};
		ASSERT_EQ(0, s3_open(log->place, NULL, &self->writers[i].s3, &self->error))
		{
			TH_LOG("%s", self->error.text);
		}
	}
}
FIXTURE_TEARDOWN(history)
{
	for (int i = 0; i < WRITERS; i++)
		s3_close(self->writers[i].s3);
	cluster_order("mend");
}

TEST_F(history, one_record_of_each_number)
{
	struct log *log = &self->log;
	struct s3 *s3 = self->writers[0].s3;
	unsigned last;

	for (int i = 0; i < WRITERS; i++)
		ASSERT_EQ(0, pthread_create(&self->writers[i].thread, NULL, write_records,
					    &self->writers[i]));
	for (int kills = 0; kills < GATEWAY_KILLS && wait_for_records(log, RECORDS_PER_KILL);
	     kills++)
		EXPECT_EQ(0, cluster_order("restart radosgw"));
	wait_for_records(log, RECORDS_PER_KILL);
	EXPECT_EQ(0, cluster_order("restart osd"));
	wait_for_records(log, RECORDS_PER_KILL);
	pthread_mutex_lock(&log->lock);
	log->end = true;
	pthread_mutex_unlock(&log->lock);
	for (int i = 0; i < WRITERS; i++)
		pthread_join(self->writers[i].thread, NULL);
	ASSERT_EQ(0, log->failed)
	{
		TH_LOG("%s", log->problem);
	}

	ASSERT_EQ(0, newest(s3, log->deadline_ns, &last, &self->error));
	EXPECT_EQ(log->count, last);
	for (unsigned number = 1; number <= last; number++) {
		char key[64], wanted[64];
		void *text;
		size_t bytes;

		record_key(key, number);
		ASSERT_EQ(0, s3_get(s3, key, 100, log->deadline_ns, &text, &bytes, &self->error))
		{
			TH_LOG("record %u: %s", number, self->error.text);
		}
		sprintf(wanted, "record %u of writer %d", number, log->writer[number]);
		EXPECT_STREQ(wanted, text);
		free(text);
	}
	TH_LOG("%u records, %u races lost", last, log->lost_races[0] + log->lost_races[1]);
}

TEST_HARNESS_MAIN
