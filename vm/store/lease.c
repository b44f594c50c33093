/* SPDX-License-Identifier: MIT */
/* lease.c - a thread that says each minute that a record is read (lease.h). Never in the way of what it protects. */
#define _GNU_SOURCE
#include "store/lease.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/failure.h"
#include "base/thread.h"
#include "store/record.h"

#define RENEW_NS 60000000000ull
#define TRY_NS 40000000000ull /* so that one has ended when the next begins */

struct lease {
	struct s3 *s3;
	char key[STORE_NAME_BYTES];
	struct disk_lease contents;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	bool stopping, under_way;
	struct s3_request request;
	struct iovec piece;
};

static void put_done(struct s3_request *request)
{
	struct lease *lease = request->arg;

	pthread_mutex_lock(&lease->lock);
	lease->under_way = false;
	pthread_cond_broadcast(&lease->wake);
	pthread_mutex_unlock(&lease->lock);
}

/* With the lock. */
static void put_start(struct lease *lease)
{
	lease->piece = (struct iovec){&lease->contents, sizeof(lease->contents)};
	lease->request = (struct s3_request){
		.verb = S3_PUT,
		.key = lease->key,
		.deadline_ns = clock_monotonic_ns() + TRY_NS,
		.done = put_done,
		.arg = lease,
		.pieces = &lease->piece,
		.piece_count = 1,
	};
	lease->under_way = true;
	s3_start(lease->s3, &lease->request);
}

static void *renew(void *arg)
{
	struct lease *lease = arg;

	pthread_mutex_lock(&lease->lock);
	while (!lease->stopping) {
		uint64_t next = clock_monotonic_ns() + RENEW_NS;

		put_start(lease);
		while (!lease->stopping && (lease->under_way || clock_monotonic_ns() < next))
			cond_wait_until(&lease->wake, &lease->lock, next);
		if (lease->under_way)
			s3_stop(lease->s3, &lease->request);
		while (lease->under_way)
			pthread_cond_wait(&lease->wake, &lease->lock);
		s3_release(&lease->request);
	}
	pthread_mutex_unlock(&lease->lock);
	return NULL;
}

static void lease_free(struct lease *lease)
{
	pthread_cond_destroy(&lease->wake);
	pthread_mutex_destroy(&lease->lock);
	free(lease);
}

int lease_take(struct s3 *s3, uint64_t record, struct lease **taken, struct thaw_error *error)
{
	struct lease *lease = calloc(1, sizeof(*lease));
	uint8_t id[STORE_EPOCH_BYTES];
	char text[STORE_ID_TEXT];
	int code;

	*taken = NULL;
	if (!lease)
		return failure(error, -ENOMEM, "%s: %s", s3_place(s3), thaw_strerror(-ENOMEM));
	lease->s3 = s3;
	lease_encode(&lease->contents, record);
	pthread_mutex_init(&lease->lock, NULL);
	cond_init_monotonic(&lease->wake);
	code = getrandom(id, sizeof(id), 0) == sizeof(id) ? 0 : -EIO;
	store_id_print(id, text);
	snprintf(lease->key, sizeof(lease->key), "readers/%s", text);
	if (!code)
		code = thread_begin(&lease->thread, renew, lease);
	if (code) {
		lease_free(lease);
		return failure(error, code, "%s: a lease cannot be taken: %s", s3_place(s3),
			       thaw_strerror(code));
	}
	*taken = lease;
	return 0;
}

void lease_drop(struct lease *lease, uint64_t most_ns)
{
	const char *key;

	if (!lease)
		return;
	pthread_mutex_lock(&lease->lock);
	lease->stopping = true;
	pthread_cond_broadcast(&lease->wake);
	pthread_mutex_unlock(&lease->lock);
	pthread_join(lease->thread, NULL);
	key = lease->key;
	/* One that stays is void in a few minutes. */
	s3_delete(lease->s3, &key, 1, clock_monotonic_ns() + most_ns, NULL);
	lease_free(lease);
}
