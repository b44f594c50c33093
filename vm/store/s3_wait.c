/* SPDX-License-Identifier: MIT */
/* s3_wait.c - what a request may be, and calls that wait for one, or for many. Any thread but the store's. */
#define _GNU_SOURCE
#include <ctype.h>
#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "base/failure.h"
#include "store/s3_private.h"

#define FIRST_PART (128u << 10)
#define DELETES_AT_ONCE 32u

/* ---- What may be asked for */

static int refuse(struct s3_request *request, const char *why)
{
	return request->code = failure(&request->error, -EINVAL, "%s", why);
}

/* Names of lists begin anywhere. */
static bool begins_safely(const char *key)
{
	char whole[KEY_MOST + 2];
	size_t length = strlen(key);

	if (!length)
		return true;
	if (length > KEY_MOST)
		return false;
	memcpy(whole, key, length);
	whole[length] = 'x';
	whole[length + 1] = '\0';
	return s3_key_is_safe(whole, KEY_MOST + 1);
}

static bool pairs_are_safe(const struct s3_request *request)
{
	const char *names[S3_PAIRS + 1] = {NONCE_NAME};
	unsigned count = 1;

	for (unsigned i = 0; i < S3_PAIRS && request->pairs[i].name; i++) {
		const char *name = request->pairs[i].name, *value = request->pairs[i].value;
		size_t length = strlen(value);

		if (!*name || strlen(name) > 64 || !length || length > 512 || value[0] == ' ' ||
		    value[length - 1] == ' ')
			return false;
		for (; *name; name++)
			if (!islower((unsigned char)*name) && !isdigit((unsigned char)*name) &&
			    *name != '-')
				return false;
		for (; *value; value++) /* several spaces are one where signatures are made */
			if (!isgraph((unsigned char)*value) && (*value != ' ' || value[1] == ' '))
				return false;
		names[count++] = request->pairs[i].name;
	}
	/* libcurl 7.88 signs them in another order than the server. */
	for (unsigned i = 0; i < count; i++)
		for (unsigned j = 0; j < count; j++)
			if (i != j && !strncmp(names[i], names[j], strlen(names[j])))
				return false;
	return true;
}

int s3_request_check(const struct s3 *s3, struct s3_request *request)
{
	bool list = request->verb == S3_LIST;

	request->private.sha256[0] = '\0';
	if (request->verb > S3_LIST || !request->key)
		return refuse(request, "a request has a verb and a key");
	if (list ? !begins_safely(request->key) ||
			    (request->after && !begins_safely(request->after))
		 : !s3_key_is_safe(request->key, KEY_MOST))
		return refuse(request, "a key has letters, digits, '-', '_', '.' and '/' between "
				       "them; at most 512 bytes");
	if (request->verb == S3_GET &&
	    (!request->into || !request->length || request->length > UINT64_MAX - request->offset))
		return refuse(request, "a part of an object has at least one byte, and memory to "
				       "go to");
	if (request->verb != S3_PUT)
		return 0;
	if (!pairs_are_safe(request))
		return refuse(
			request,
			"metadata has names of a-z, 0-9 and '-', none of which is the "
			"beginning of another, and printable values, with single spaces in them");
	if (s3->signs_bodies)
		s3_hash(request->pieces, request->piece_count, request->private.sha256);
	return 0;
}

/* ---- One */

int s3_do(struct s3 *s3, struct s3_request *request, struct thaw_error *error)
{
	pthread_mutex_lock(&s3->lock);
	s3->waiters++;
	pthread_mutex_unlock(&s3->lock);
	request->private.waited_for = true;
	s3_start(s3, request);
	pthread_mutex_lock(&s3->lock);
	while (!request->private.ended)
		pthread_cond_wait(&s3->ended, &s3->lock);
	request->private.waited_for = false;
	if (!--s3->waiters)
		pthread_cond_broadcast(&s3->ended); /* s3_close() */
	pthread_mutex_unlock(&s3->lock);
	if (error && request->code)
		*error = request->error;
	return request->code;
}

const char *s3_pair(const struct s3_request *request, const char *name)
{
	const char *at = request->private.pairs;

	for (; at && *at; at += strlen(at) + 1) {
		const char *value = at + strlen(at) + 1;

		if (!strcmp(at, name))
			return value;
		at = value;
	}
	return NULL;
}

void s3_release(struct s3_request *request)
{
	for (size_t i = 0; i < request->object_count; i++)
		free(request->objects[i].key);
	free(request->objects);
	request->objects = NULL;
	request->object_count = 0;
	free(request->private.pairs);
	request->private.pairs = NULL;
}

/* ---- A whole object */

static int get_rest(struct s3 *s3, struct s3_request *request, char *bytes,
		    struct thaw_error *error)
{
	char etag[S3_ETAG];

	memcpy(etag, request->etag, sizeof(etag));
	if (etag[0])
		request->if_match = etag;
	request->into = bytes + request->got;
	request->offset = request->got;
	request->length = request->object_bytes - request->got;
	request->flags = 0;
	return s3_do(s3, request, error);
}

int s3_get(struct s3 *s3, const char *key, size_t most, uint64_t deadline_ns, void **bytes,
	   size_t *count, struct thaw_error *error)
{
	struct s3_request request = {.verb = S3_GET,
				     .flags = S3_AT_MOST,
				     .key = key,
				     .deadline_ns = deadline_ns,
				     .length = FIRST_PART};
	char *room = malloc(FIRST_PART + 1), *grown;
	size_t whole;
	int code;

	*bytes = NULL;
	*count = 0;
	if (!room)
		return failure(error, -ENOMEM, "out of memory");
	request.into = room;
	code = s3_do(s3, &request, error);
	whole = request.object_bytes;
	if (!code && request.object_bytes > most)
		code = failure(error, -EFBIG,
			       "%s: %s has %llu bytes, more than the %zu that it may", s3->name,
			       key, (unsigned long long)request.object_bytes, most);
	if (!code && whole > request.got) {
		grown = realloc(room, whole + 1);
		code = grown ? get_rest(s3, &request, room = grown, error)
			     : failure(error, -ENOMEM, "out of memory");
	}
	s3_release(&request);
	if (code) {
		free(room);
		return code;
	}
	room[whole] = '\0';
	*bytes = room;
	*count = whole;
	return 0;
}

int s3_put(struct s3 *s3, const char *key, const void *bytes, size_t count, unsigned flags,
	   uint64_t deadline_ns, struct thaw_error *error)
{
	const struct iovec piece = {(void *)bytes, count};
	struct s3_request request = {.verb = S3_PUT,
				     .flags = flags,
				     .key = key,
				     .deadline_ns = deadline_ns,
				     .pieces = &piece,
				     .piece_count = 1};
	int code = s3_do(s3, &request, error);

	s3_release(&request);
	return code;
}

/* ---- Many */

struct deletes {
	struct s3 *s3;
	const char *const *keys;
	size_t count, next;
	unsigned busy;
	struct thaw_error first;
	pthread_mutex_t lock;
	pthread_cond_t over;
};

/* True: the request goes on with another key. Called with the lock. */
static bool next_key(struct deletes *deletes, struct s3_request *request)
{
	if (deletes->next == deletes->count)
		return false;
	request->key = deletes->keys[deletes->next++];
	return true;
}

static void deleted(struct s3_request *request)
{
	struct deletes *deletes = request->arg;
	bool more;

	pthread_mutex_lock(&deletes->lock);
	if (request->code && !deletes->first.code)
		deletes->first = request->error;
	more = request->code != -ECANCELED && next_key(deletes, request);
	if (!more && !--deletes->busy)
		pthread_cond_signal(&deletes->over);
	pthread_mutex_unlock(&deletes->lock);
	if (more)
		s3_start(deletes->s3, request);
}

int s3_delete(struct s3 *s3, const char *const *keys, size_t count, uint64_t deadline_ns,
	      struct thaw_error *error)
{
	unsigned at_once = count < DELETES_AT_ONCE ? (unsigned)count : DELETES_AT_ONCE;
	struct s3_request *requests = calloc(at_once + 1, sizeof(*requests));
	struct deletes deletes = {.s3 = s3,
				  .keys = keys,
				  .count = count,
				  .lock = PTHREAD_MUTEX_INITIALIZER,
				  .over = PTHREAD_COND_INITIALIZER};

	if (!requests)
		return failure(error, -ENOMEM, "out of memory");
	pthread_mutex_lock(&s3->lock); /* s3_close() waits */
	s3->waiters++;
	pthread_mutex_unlock(&s3->lock);
	pthread_mutex_lock(&deletes.lock);
	deletes.busy = at_once;
	for (unsigned i = 0; i < at_once; i++) {
		requests[i] = (struct s3_request){.verb = S3_DELETE,
						  .deadline_ns = deadline_ns,
						  .done = deleted,
						  .arg = &deletes};
		next_key(&deletes, &requests[i]);
	}
	pthread_mutex_unlock(&deletes.lock);
	for (unsigned i = 0; i < at_once; i++)
		s3_start(s3, &requests[i]);
	pthread_mutex_lock(&deletes.lock);
	while (deletes.busy)
		pthread_cond_wait(&deletes.over, &deletes.lock);
	pthread_mutex_unlock(&deletes.lock);
	pthread_mutex_lock(&s3->lock);
	if (!--s3->waiters)
		pthread_cond_broadcast(&s3->ended);
	pthread_mutex_unlock(&s3->lock);
	free(requests);
	if (error && deletes.first.code)
		*error = deletes.first;
	return deletes.first.code;
}

int s3_check_new(struct s3 *s3, const char *key, uint64_t deadline_ns, struct thaw_error *error)
{
	char name[KEY_MOST + 40], number[33];
	struct thaw_error found;
	const char *const names[] = {name};
	uint8_t bytes[16];
	int code, removed;

	if (strlen(key) + sizeof(number) > KEY_MOST)
		return failure(error, -EINVAL, "%s: too long for a key", key);
	randombytes_buf(bytes, sizeof(bytes));
	sodium_bin2hex(number, sizeof(number), bytes, sizeof(bytes));
	snprintf(name, sizeof(name), "%s%s", key, number);
	code = s3_put(s3, name, "1", 1, S3_NEW, deadline_ns, error);
	if (code)
		return code;
	code = s3_put(s3, name, "2", 1, S3_NEW, deadline_ns, &found);
	if (code == -EEXIST)
		code = 0;
	else if (!code)
		code = failure(
			error, -ENOTSUP,
			"%s: this store takes no notice of If-None-Match: two writers would "
			"overwrite each other's objects; it needs one that does (AWS, MinIO, "
			"Ceph, R2)",
			s3->name);
	else if (error)
		*error = found;
	removed = s3_delete(s3, names, 1, deadline_ns, code ? NULL : error);
	return code ? code : removed;
}
