// SPDX-License-Identifier: MIT
/*
 * garbage.c - deletes what nobody needs. All that it goes by is in the store, so it may be done by anybody, at any time, also by a
 * writer that is fenced and does not know.
 *
 * Refs(r): the objects that record r refers to, and itself.
 * 1. An object for record n is first referred to by record n, or never: it is named for it, and stored between n - 1 and n.
 *    (Not hot ones, of which 4 is said.) If a record does not refer to it, no later one does: an index forgets, and remembers nothing.
 * 2. The horizon m is the newest record that is older than the least age, or the oldest one of a lease, if that is older still. Who
 *    reads now found a record that was the newest not longer ago than that, or has a lease: it is m or a newer one.
 * 3. An object for n <= m that is not in Refs(m) is by 1 in no Refs(r), r >= m: nobody needs it. A record r < m that is not in
 *    Refs(m) is needed by nobody, either, unless it is a seal (epoch.h): its length tells.
 * 4. A hot object is first referred to by record n or a later one, so the newest record is asked, too. A reader does without.
 * 5. Times are the store's, and now is the latest of them: a clock of ours deletes nothing early.
 * If anything of this cannot be read, nothing is deleted.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/failure.h"
#include "store/level.h"
#include "store/replication.h"

#define DEADLINE_NS 20000000000u
#define AT_ONCE 64u

struct collection {
	struct s3 *s3;
	uint64_t least_age_ns;
	bool (*stops)(void *arg);
	void *arg;
	struct thaw_error *error;
	struct s3_request log;	     /* a list, of records */
	uint64_t now_ns, horizon;    /* the store's clock; a record's number */
	uint64_t leased;	     /* the oldest record of a lease */
	struct store_object *needed; /* Refs(horizon), sorted, and the newest hot object */
	size_t needed_count;
	uint64_t deleted;
};

static uint64_t deadline(void)
{
	return clock_monotonic_ns() + DEADLINE_NS;
}

static int list(struct collection *c, const char *prefix, struct s3_request *request)
{
	*request = (struct s3_request){.verb = S3_LIST, .key = prefix, .deadline_ns = deadline()};
	return s3_do(c->s3, request, c->error);
}

/* What a lease that holds says. One that cannot be understood says all. */
static int ask_lease(struct collection *c, const struct s3_object *object)
{
	struct disk_lease lease;
	uint64_t record = 0;
	struct s3_request request = {.verb = S3_GET,
				     .flags = S3_AT_MOST,
				     .key = object->key,
				     .deadline_ns = deadline(),
				     .length = sizeof(lease),
				     .into = &lease};
	int code = s3_do(c->s3, &request, c->error);

	if (!code && !lease_decode(&lease, request.got, &record))
		record = 0;
	if (!code && record < c->leased)
		c->leased = record;
	s3_release(&request);
	return code == -ENOENT ? 0 : code;
}

static int ask_leases(struct collection *c)
{
	const uint64_t second = 1000000000;
	struct s3_request leases;
	int code = list(c, "readers/", &leases);

	for (size_t i = 0; i < leases.object_count; i++)
		if (leases.objects[i].time_ns > c->now_ns)
			c->now_ns = leases.objects[i].time_ns;
	for (size_t i = 0; i < leases.object_count && !code; i++)
		if (leases.objects[i].time_ns + STORE_LEASE_SECONDS * second > c->now_ns)
			code = ask_lease(c, &leases.objects[i]);
	s3_release(&leases);
	return code;
}

/* 2. 0: there is none yet. */
static int find_horizon(struct collection *c)
{
	/* Times of lists have seconds, or less. */
	uint64_t age_ns = c->least_age_ns + c->least_age_ns / 16;
	int code = list(c, "log/", &c->log);

	for (size_t i = 0; i < c->log.object_count && !code; i++)
		if (c->log.objects[i].time_ns > c->now_ns)
			c->now_ns = c->log.objects[i].time_ns;
	c->leased = UINT64_MAX;
	if (!code)
		code = ask_leases(c);
	for (size_t i = 0; i < c->log.object_count && !code; i++) {
		const struct s3_object *object = &c->log.objects[i];
		struct store_object record;

		if (!store_object_parse(object->key, &record))
			return failure(c->error, THAW_EFOREIGN,
				       "%s is no record of an image's store", object->key);
		if (object->time_ns + age_ns > c->now_ns || record.record > c->leased)
			continue;
		c->horizon = record.record;
		return 0;
	}
	return code;
}

static int by_name(const void *a, const void *b)
{
	return object_compare(a, b);
}

static void need(struct collection *c, const struct store_reference *reference)
{
	if (reference->object.record)
		c->needed[c->needed_count++] = reference->object;
}

static int find_needed(struct collection *c, const struct store_record *record,
		       const struct store_record *newest, const struct store_index *index)
{
	size_t count = 8;

	for (unsigned i = 0; i < 3; i++)
		count += index->level[i].object_count;
	c->needed = calloc(count, sizeof(*c->needed));
	if (!c->needed)
		return failure(c->error, -ENOMEM, "no memory for a list of objects");
	c->needed[c->needed_count++] =
		(struct store_object){.record = record->number, .kind = STORE_IN_RECORD};
	need(c, &record->level1);
	need(c, &record->level2);
	need(c, &record->hot);
	need(c, &newest->hot);
	for (unsigned i = 0; i < 3; i++) {
		if (!index->level[i].object_count)
			continue;
		memcpy(c->needed + c->needed_count, index->level[i].objects,
		       index->level[i].object_count * sizeof(*c->needed));
		c->needed_count += index->level[i].object_count;
	}
	qsort(c->needed, c->needed_count, sizeof(*c->needed), by_name);
	return 0;
}

static int read_horizon(struct collection *c)
{
	struct store_record record, newest;
	struct store_index index = {0};
	void *tail, *newest_tail = NULL;
	int code = record_get(c->s3, c->horizon, deadline(), &record, &tail, c->error);

	if (!code)
		code = record_newest(c->s3, deadline(), &newest, &newest_tail, c->error);
	if (!code)
		code = record_index(c->s3, &record, tail, deadline(), &index, c->error);
	if (!code)
		code = find_needed(c, &record, &newest, &index);
	index_free(&index);
	free(newest_tail);
	free(tail);
	return code;
}

static bool is_garbage(const struct collection *c, const struct s3_object *listed)
{
	struct store_object object;

	if (!store_object_parse(listed->key, &object))
		return false; /* nothing of ours */
	if (object.record > c->horizon)
		return false;
	if (object.kind == STORE_IN_RECORD && (object.record == c->horizon || listed->bytes & 1))
		return false;
	return !bsearch(&object, c->needed, c->needed_count, sizeof(object), by_name);
}

static int delete_of(struct collection *c, const struct s3_request *listed)
{
	const char *keys[AT_ONCE];
	size_t count = 0;
	int code = 0;

	for (size_t i = 0; i < listed->object_count && !code; i++) {
		if (is_garbage(c, &listed->objects[i]))
			keys[count++] = listed->objects[i].key;
		if (!count || (count < AT_ONCE && i + 1 < listed->object_count))
			continue;
		if (c->stops(c->arg))
			return -ECANCELED;
		code = s3_delete(c->s3, keys, count, deadline(), c->error);
		if (!code)
			c->deleted += count;
		count = 0;
	}
	return code;
}

int garbage_collect(struct s3 *s3, uint64_t least_age_ns, bool (*stops)(void *arg), void *arg,
		    uint64_t *deleted, struct thaw_error *error)
{
	/* Records first: those that are left refer to what is there, as far as they are not outdated themselves. */
	static const char *const rooms[] = {"data/", "index/", "hot/"};
	struct collection c = {
		.s3 = s3, .least_age_ns = least_age_ns, .stops = stops, .arg = arg, .error = error};
	int code = find_horizon(&c);

	if (!code && c.horizon)
		code = read_horizon(&c);
	if (!code && c.horizon)
		code = delete_of(&c, &c.log);
	for (unsigned i = 0; i < 3 && !code && c.horizon && !stops(arg); i++) {
		struct s3_request listed;

		code = list(&c, rooms[i], &listed);
		if (!code)
			code = delete_of(&c, &listed);
		s3_release(&listed);
	}
	s3_release(&c.log);
	free(c.needed);
	*deleted = c.deleted;
	return code;
}
