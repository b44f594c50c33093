// SPDX-License-Identifier: GPL-2.0-only
/*
 * s3_requests.c - what requests to an object store do when all is well: on the small store, or on a real one (THAW_TEST_STORE).
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <errno.h>
#include <pthread.h>

#include "base/clock.h"
#include "store/s3.h"
#include "store_server.h"

FIXTURE(store)
{
	struct store_server server;
	struct s3 *s3;
	struct thaw_error error;
	uint64_t deadline_ns;
};

FIXTURE_SETUP(store)
{
	store_server_begin(&self->server);
	ASSERT_EQ(0, s3_open(self->server.place, NULL, &self->s3, &self->error))
	{
		printf("# %s\n", self->error.text);
	}
	self->deadline_ns = clock_monotonic_ns() + 60000000000ull * test_patience_now();
}

/* A real store is left as it was. */
static void remove_all(struct s3 *s3, uint64_t deadline_ns)
{
	struct s3_request list = {.verb = S3_LIST, .key = "", .deadline_ns = deadline_ns};
	const char **keys;

	if (s3_do(s3, &list, NULL))
		return;
	keys = calloc(list.object_count + 1, sizeof(*keys));
	for (size_t i = 0; i < list.object_count; i++)
		keys[i] = list.objects[i].key;
	s3_delete(s3, keys, list.object_count, deadline_ns, NULL);
	free(keys);
	s3_release(&list);
}

FIXTURE_TEARDOWN(store)
{
	if (self->server.real)
		remove_all(self->s3, self->deadline_ns);
	s3_close(self->s3);
	store_server_end(&self->server);
}

static int put(FIXTURE_DATA(store) * self, const char *key, const char *text, unsigned flags)
{
	return s3_put(self->s3, key, text, strlen(text), flags, self->deadline_ns, &self->error);
}

static struct s3_request getting(FIXTURE_DATA(store) * self, const char *key, uint64_t offset,
				 void *into, size_t length, unsigned flags)
{
	return (struct s3_request){.verb = S3_GET,
				   .key = key,
				   .offset = offset,
				   .into = into,
				   .length = length,
				   .flags = flags,
				   .deadline_ns = self->deadline_ns};
}

TEST_F(store, what_is_put_is_got)
{
	void *bytes;
	size_t count;

	ASSERT_EQ(0, put(self, "some/where.txt", "twenty bytes of text", 0));
	ASSERT_EQ(0, s3_get(self->s3, "some/where.txt", 100, self->deadline_ns, &bytes, &count,
			    &self->error));
	EXPECT_EQ(20, count);
	EXPECT_STREQ("twenty bytes of text", bytes);
	free(bytes);
	EXPECT_EQ(-EFBIG, s3_get(self->s3, "some/where.txt", 19, self->deadline_ns, &bytes, &count,
				 &self->error));
	EXPECT_EQ(NULL, bytes);
}

TEST_F(store, parts_of_an_object)
{
	char into[64];
	struct s3_request get;

	ASSERT_EQ(0, put(self, "object", "0123456789", 0));
	get = getting(self, "object", 3, into, 4, 0);
	ASSERT_EQ(0, s3_do(self->s3, &get, &self->error));
	EXPECT_EQ(4, get.got);
	EXPECT_EQ(10, get.object_bytes);
	EXPECT_EQ(0, memcmp(into, "3456", 4));

	get = getting(self, "object", 0, into, 4, S3_LAST);
	ASSERT_EQ(0, s3_do(self->s3, &get, &self->error));
	EXPECT_EQ(4, get.got);
	EXPECT_EQ(6, get.offset);
	EXPECT_EQ(10, get.object_bytes);
	EXPECT_EQ(0, memcmp(into, "6789", 4));

	get = getting(self, "object", 0, into, 64, S3_LAST);
	ASSERT_EQ(0, s3_do(self->s3, &get, &self->error));
	EXPECT_EQ(10, get.got);
	EXPECT_EQ(0, get.offset);

	get = getting(self, "object", 8, into, 4, S3_AT_MOST);
	ASSERT_EQ(0, s3_do(self->s3, &get, &self->error));
	EXPECT_EQ(2, get.got);
	EXPECT_EQ(0, memcmp(into, "89", 2));
}

TEST_F(store, an_object_that_is_too_short_is_an_error)
{
	char into[64];
	struct s3_request get;

	ASSERT_EQ(0, put(self, "object", "0123456789", 0));
	get = getting(self, "object", 8, into, 4, 0);
	EXPECT_EQ(-ERANGE, s3_do(self->s3, &get, &self->error));
	EXPECT_EQ(10, get.object_bytes);
	EXPECT_NE(NULL, strstr(self->error.text, "the object has 10 bytes, not 12 or more"));
	get = getting(self, "object", 10, into, 4, S3_AT_MOST);
	EXPECT_EQ(-ERANGE, s3_do(self->s3, &get, &self->error));
	get = getting(self, "object", 11, into, 4, 0);
	EXPECT_EQ(-ERANGE, s3_do(self->s3, &get, &self->error));
}

TEST_F(store, an_empty_object)
{
	char into[8];
	struct s3_request get;
	void *bytes;
	size_t count;

	ASSERT_EQ(0, put(self, "empty", "", S3_NEW));
	EXPECT_EQ(-EEXIST, put(self, "empty", "", S3_NEW));
	ASSERT_EQ(0,
		  s3_get(self->s3, "empty", 10, self->deadline_ns, &bytes, &count, &self->error));
	EXPECT_EQ(0, count);
	EXPECT_STREQ("", bytes);
	free(bytes);
	get = getting(self, "empty", 0, into, 8, S3_LAST);
	EXPECT_EQ(0, s3_do(self->s3, &get, &self->error));
	EXPECT_EQ(0, get.got);
	get = getting(self, "empty", 0, into, 8, 0);
	EXPECT_EQ(-ERANGE, s3_do(self->s3, &get, &self->error));
}

TEST_F(store, what_is_not_there)
{
	struct s3_request head = {.verb = S3_HEAD, .key = "none"};
	const char *const keys[] = {"none"};
	void *bytes;
	size_t count;

	head.deadline_ns = self->deadline_ns;
	EXPECT_EQ(-ENOENT,
		  s3_get(self->s3, "none", 10, self->deadline_ns, &bytes, &count, &self->error));
	EXPECT_EQ(-ENOENT, s3_do(self->s3, &head, &self->error));
	EXPECT_EQ(1, head.tries);
	EXPECT_EQ(0, s3_delete(self->s3, keys, 1, self->deadline_ns, &self->error));
}

TEST_F(store, one_of_several_writers_wins)
{
	const struct iovec pieces[] = {{"own ", 4}, {"", 0}, {"object", 6}};
	struct s3_request mine = {.verb = S3_PUT,
				  .key = "log/1",
				  .flags = S3_NEW,
				  .pieces = pieces,
				  .piece_count = 3,
				  .pairs = {{"writer", "the first one"}, {"epoch", "7"}}};
	struct s3_request theirs = mine;
	void *bytes;
	size_t count;

	mine.deadline_ns = theirs.deadline_ns = self->deadline_ns;
	theirs.pairs[0].value = "the second one";
	ASSERT_EQ(0, s3_do(self->s3, &mine, &self->error));
	EXPECT_EQ(-EEXIST, s3_do(self->s3, &theirs, &self->error));
	EXPECT_FALSE(theirs.unsure);
	ASSERT_NE(NULL, s3_pair(&theirs, "writer"));
	EXPECT_STREQ("the first one", s3_pair(&theirs, "writer"));
	EXPECT_STREQ("7", s3_pair(&theirs, "epoch"));
	EXPECT_EQ(NULL, s3_pair(&theirs, "other"));
	s3_release(&theirs);
	s3_release(&mine);
	ASSERT_EQ(0,
		  s3_get(self->s3, "log/1", 100, self->deadline_ns, &bytes, &count, &self->error));
	EXPECT_STREQ("own object", bytes);
	free(bytes);
}

TEST_F(store, a_store_that_keeps_the_promise_is_found_out)
{
	EXPECT_EQ(0, s3_check_new(self->s3, "check/new-", self->deadline_ns, &self->error));
}

TEST_F(store, facts_of_an_object)
{
	struct s3_request head = {.verb = S3_HEAD, .key = "object"}, get;
	uint64_t now = clock_wall_ns();
	char into[4];

	head.deadline_ns = self->deadline_ns;
	ASSERT_EQ(0, put(self, "object", "0123456789", 0));
	ASSERT_EQ(0, s3_do(self->s3, &head, &self->error));
	EXPECT_EQ(10, head.object_bytes);
	EXPECT_NE(0, head.etag[0]);
	EXPECT_LT(now - 600000000000ull, head.time_ns);
	EXPECT_GT(now + 600000000000ull, head.time_ns);
	get = getting(self, "object", 0, into, 4, 0);
	get.if_match = head.etag;
	EXPECT_EQ(0, s3_do(self->s3, &get, &self->error));
	EXPECT_STREQ(head.etag, get.etag);
	ASSERT_EQ(0, put(self, "object", "9876543210", 0));
	EXPECT_EQ(-ESTALE, s3_do(self->s3, &get, &self->error));
	s3_release(&head);
	s3_release(&get);
}

TEST_F(store, lists)
{
	static const char *const names[] = {"a", "dir/1", "dir/2", "dir/sub/3", "dir2", "z.z"};
	struct s3_request list = {.verb = S3_LIST, .key = ""};

	list.deadline_ns = self->deadline_ns;
	for (unsigned i = 0; i < 6; i++)
		ASSERT_EQ(0, put(self, names[5 - i], names[5 - i], 0));
	ASSERT_EQ(0, s3_do(self->s3, &list, &self->error));
	ASSERT_EQ(6, list.object_count);
	EXPECT_FALSE(list.more);
	for (unsigned i = 0; i < 6; i++) {
		EXPECT_STREQ(names[i], list.objects[i].key);
		EXPECT_EQ(strlen(names[i]), list.objects[i].bytes);
	}
	list.key = "dir/";
	ASSERT_EQ(0, s3_do(self->s3, &list, &self->error));
	EXPECT_EQ(3, list.object_count);
	list.folders = true;
	ASSERT_EQ(0, s3_do(self->s3, &list, &self->error));
	ASSERT_EQ(3, list.object_count);
	EXPECT_STREQ("dir/sub/", list.objects[2].key);
	list.folders = false;
	list.key = "";
	list.after = "dir/1";
	list.at_most = 1;
	ASSERT_EQ(0, s3_do(self->s3, &list, &self->error));
	ASSERT_EQ(1, list.object_count);
	EXPECT_STREQ("dir/2", list.objects[0].key);
	EXPECT_TRUE(list.more);
	list.after = "z.z";
	ASSERT_EQ(0, s3_do(self->s3, &list, &self->error));
	EXPECT_EQ(0, list.object_count);
	EXPECT_FALSE(list.more);
	s3_release(&list);
}

/* ---- Many at once */

struct many {
	pthread_mutex_t lock;
	pthread_cond_t over;
	unsigned left, failed;
};

static void one_of_many(struct s3_request *request)
{
	struct many *many = request->arg;

	pthread_mutex_lock(&many->lock);
	many->failed += request->code != 0;
	if (!--many->left)
		pthread_cond_signal(&many->over);
	pthread_mutex_unlock(&many->lock);
}

#define MANY 1203u

/* More than a list gives at once. */
TEST_F(store, many_at_once)
{
	struct many many = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, MANY, 0};
	struct s3_request *requests = calloc(MANY, sizeof(*requests)),
			  list = {.verb = S3_LIST, .key = "n-"};
	char(*keys)[16] = calloc(MANY, sizeof(*keys));
	const char **names = calloc(MANY, sizeof(*names));
	const struct iovec piece = {"x", 1};

	for (unsigned i = 0; i < MANY; i++) {
		snprintf(keys[i], sizeof(keys[i]), "n-%05u", i);
		names[i] = keys[i];
		requests[i] = (struct s3_request){.verb = S3_PUT,
						  .key = keys[i],
						  .flags = i % 7 ? 0 : S3_URGENT,
						  .pieces = &piece,
						  .piece_count = 1,
						  .done = one_of_many,
						  .arg = &many,
						  .deadline_ns = self->deadline_ns};
		s3_start(self->s3, &requests[i]);
	}
	pthread_mutex_lock(&many.lock);
	while (many.left)
		pthread_cond_wait(&many.over, &many.lock);
	pthread_mutex_unlock(&many.lock);
	EXPECT_EQ(0, many.failed);
	list.deadline_ns = self->deadline_ns;
	ASSERT_EQ(0, s3_do(self->s3, &list, &self->error));
	ASSERT_EQ(MANY, list.object_count);
	EXPECT_STREQ("n-00000", list.objects[0].key);
	EXPECT_STREQ("n-01202", list.objects[MANY - 1].key);
	list.at_most = 1100;
	ASSERT_EQ(0, s3_do(self->s3, &list, &self->error));
	EXPECT_EQ(1100, list.object_count);
	EXPECT_TRUE(list.more);
	ASSERT_EQ(0, s3_delete(self->s3, names, MANY, self->deadline_ns, &self->error));
	list.at_most = 0;
	ASSERT_EQ(0, s3_do(self->s3, &list, &self->error));
	EXPECT_EQ(0, list.object_count);
	s3_release(&list);
	free(requests), free(keys), free(names);
}

#define LARGE (20u << 20)

TEST_F(store, a_large_object_in_pieces)
{
	uint32_t *bytes = malloc(LARGE), *back = malloc(LARGE);
	struct iovec pieces[33];
	struct s3_request put = {.verb = S3_PUT,
				 .key = "large",
				 .pieces = pieces,
				 .piece_count = 33,
				 .flags = S3_NEW};
	struct s3_request get = getting(self, "large", 0, back, LARGE, 0);
	size_t at = 0;

	put.deadline_ns = self->deadline_ns;
	for (unsigned i = 0; i < LARGE / 4; i++)
		bytes[i] = i * 2654435761u;
	for (unsigned i = 0; i < 33; i++) {
		size_t length = i < 32 ? LARGE / 33 + i : LARGE - at;

		pieces[i] = (struct iovec){(char *)bytes + at, length};
		at += length;
	}
	ASSERT_EQ(0, s3_do(self->s3, &put, &self->error));
	ASSERT_EQ(0, s3_do(self->s3, &get, &self->error));
	EXPECT_EQ(0, memcmp(bytes, back, LARGE));
	s3_release(&put);
	s3_release(&get);
	free(bytes), free(back);
}

/* ---- */

TEST_F(store, what_is_wrong_is_not_sent)
{
	static const char *const keys[] = {"",	  "/a",	  "a/",	 "a//b", "a/../b",   "..",   ".",
					   "a b", "a%20", "a?b", "a+b",	 "\xc3\xa9", "a\nb", "~"};
	struct s3_request request = {.verb = S3_HEAD, .deadline_ns = self->deadline_ns};
	struct s3_counts before, after;
	char into[1], key[600];

	s3_count(self->s3, &before);
	for (unsigned i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		request.key = keys[i];
		EXPECT_EQ(-EINVAL, s3_do(self->s3, &request, &self->error));
	}
	memset(key, 'k', sizeof(key));
	key[513] = '\0';
	request.key = key;
	EXPECT_EQ(-EINVAL, s3_do(self->s3, &request, &self->error));
	request = getting(self, "a", 0, into, 0, 0);
	EXPECT_EQ(-EINVAL, s3_do(self->s3, &request, &self->error));
	request = getting(self, "a", UINT64_MAX, into, 1, 0);
	EXPECT_EQ(-EINVAL, s3_do(self->s3, &request, &self->error));
	request = (struct s3_request){
		.verb = S3_PUT, .key = "a", .pairs = {{"a-name", "x"}, {"a", "y"}}};
	EXPECT_EQ(-EINVAL, s3_do(self->s3, &request, &self->error));
	request = (struct s3_request){.verb = S3_PUT, .key = "a", .pairs = {{"a", "line\nline"}}};
	EXPECT_EQ(-EINVAL, s3_do(self->s3, &request, &self->error));
	s3_count(self->s3, &after);
	EXPECT_EQ(before.begun, after.begun);
}

TEST_F(store, connections_are_kept)
{
	struct s3_counts counts;

	s3_warm(self->s3, 4);
	for (unsigned i = 0; i < 20; i++)
		ASSERT_EQ(0, put(self, "same", "x", 0));
	s3_count(self->s3, &counts);
	EXPECT_LE(20, counts.begun);
	EXPECT_GE(24, counts.begun);
	EXPECT_EQ(0, counts.tried_again);
	EXPECT_EQ(0, counts.failing_since_ns);
	EXPECT_EQ(20, counts.sent);
}

/* A place of its own sees nothing of others, whose names begin in the same way. */
TEST_F(store, places_are_apart)
{
	char *below = support_format("%s/b", self->server.place);
	struct s3_request list = {.verb = S3_LIST, .key = "", .deadline_ns = self->deadline_ns};
	struct s3 *inner;

	ASSERT_EQ(0, s3_open(below, NULL, &inner, &self->error));
	ASSERT_EQ(0, put(self, "bb", "x", 0));
	ASSERT_EQ(0, put(self, "b/own", "x", 0));
	ASSERT_EQ(0, s3_do(inner, &list, &self->error));
	ASSERT_EQ(1, list.object_count);
	EXPECT_STREQ("own", list.objects[0].key);
	s3_release(&list);
	s3_close(inner);
	free(below);
}

TEST_HARNESS_MAIN
