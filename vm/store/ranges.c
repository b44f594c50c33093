/* SPDX-License-Identifier: MIT */
/* ranges.c - a part of an object in several pieces at once (ranges.h). Any thread but the store's. */
#include "store/ranges.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

#define PIECES 16u
/* What a fresh connection sends in its first round trip: ten segments, with the answer's head. */
#define PIECE_LEAST (13u << 10)

struct ranges {
	pthread_mutex_t lock;
	pthread_cond_t ended;
	unsigned open;
	struct s3_request pieces[PIECES];
};

static void piece_done(struct s3_request *request)
{
	struct ranges *ranges = request->arg;

	pthread_mutex_lock(&ranges->lock);
	ranges->open--;
	pthread_cond_signal(&ranges->ended);
	pthread_mutex_unlock(&ranges->lock);
}

static unsigned pieces_of(size_t bytes)
{
	size_t count = (bytes + PIECE_LEAST - 1) / PIECE_LEAST;

	return count > PIECES ? PIECES : (unsigned)count;
}

int ranges_get(struct s3 *s3, const char *key, uint64_t offset, size_t bytes, void *into,
	       uint64_t deadline_ns, struct thaw_error *error)
{
	struct ranges ranges = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, {{0}}};
	unsigned count = pieces_of(bytes);
	size_t at = 0;
	int code = 0;

	ranges.open = count;
	for (unsigned i = 0; i < count; i++) {
		struct s3_request *piece = &ranges.pieces[i];

		piece->verb = S3_GET;
		piece->flags = S3_URGENT;
		piece->key = key;
		piece->deadline_ns = deadline_ns;
		piece->done = piece_done;
		piece->arg = &ranges;
		piece->offset = offset + at;
		piece->length = (bytes - at) / (count - i);
		piece->into = (char *)into + at;
		at += piece->length;
		s3_start(s3, piece);
	}
	pthread_mutex_lock(&ranges.lock);
	while (ranges.open)
		pthread_cond_wait(&ranges.ended, &ranges.lock);
	pthread_mutex_unlock(&ranges.lock);
	for (unsigned i = 0; i < count; i++) {
		if (!code && ranges.pieces[i].code) {
			code = ranges.pieces[i].code;
			if (error)
				*error = ranges.pieces[i].error;
		}
		s3_release(&ranges.pieces[i]);
	}
	return code;
}
