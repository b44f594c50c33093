// SPDX-License-Identifier: MIT
/*
 * encoders.c - many frames are made at once. The other thread begins with the first batch that is worth it, and waits for the next;
 * small generations never see it. Each takes the next frame that nobody has.
 */
#include "store/encoders.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/thread.h"

#define WORTH_IT 8u /* frames: half a MiB */

struct encoders_private {
	struct frame_encoder *encoder[2]; /* the caller's, the other thread's */
	uint8_t *memory;
	_Atomic unsigned next; /* the first job that nobody has */
	pthread_t thread;
	bool running;
	pthread_mutex_t lock; /* of: */
	pthread_cond_t changed;
	bool asked, end; /* the other thread is to work, or works; it is to end */
};

static void work(struct encoders *encoders, struct frame_encoder *encoder)
{
	for (;;) {
		unsigned at = atomic_fetch_add(&encoders->private->next, 1);
		struct encoder_job *job = &encoders->jobs[at];

		if (at >= encoders->count)
			return;
		frame_encode(encoder, job->blocks, job->count, job->stored, &job->frame);
	}
}

static void *other(void *arg)
{
	struct encoders *encoders = arg;
	struct encoders_private *private = encoders->private;

	pthread_mutex_lock(&private->lock);
	for (;;) {
		while (!private->asked && !private->end)
			pthread_cond_wait(&private->changed, &private->lock);
		if (private->end)
			break;
		pthread_mutex_unlock(&private->lock);
		work(encoders, private->encoder[1]);
		pthread_mutex_lock(&private->lock);
		private->asked = false;
		pthread_cond_broadcast(&private->changed);
	}
	pthread_mutex_unlock(&private->lock);
	return NULL;
}

/* False: there is none; one is enough. */
static bool other_runs(struct encoders *encoders)
{
	struct encoders_private *private = encoders->private;

	if (private->running)
		return true;
	if (!private->encoder[1] && !(private->encoder[1] = frame_encoder_new()))
		return false;
	private->running = !thread_begin(&private->thread, other, encoders);
	return private->running;
}

void encoders_run(struct encoders *encoders)
{
	struct encoders_private *private = encoders->private;
	bool both = encoders->count >= WORTH_IT && other_runs(encoders);

	private->next = 0;
	if (both) {
		pthread_mutex_lock(&private->lock);
		private->asked = true;
		pthread_cond_broadcast(&private->changed);
		pthread_mutex_unlock(&private->lock);
	}
	work(encoders, private->encoder[0]);
	if (!both)
		return;
	pthread_mutex_lock(&private->lock);
	while (private->asked)
		pthread_cond_wait(&private->changed, &private->lock);
	pthread_mutex_unlock(&private->lock);
}

void encoders_free(struct encoders *encoders)
{
	struct encoders_private *private = encoders ? encoders->private : NULL;

	if (!private) {
		free(encoders);
		return;
	}
	if (private->running) {
		pthread_mutex_lock(&private->lock);
		private->end = true;
		pthread_cond_broadcast(&private->changed);
		pthread_mutex_unlock(&private->lock);
		pthread_join(private->thread, NULL);
	}
	pthread_cond_destroy(&private->changed);
	pthread_mutex_destroy(&private->lock);
	frame_encoder_free(private->encoder[0]);
	frame_encoder_free(private->encoder[1]);
	free(private->memory);
	free(private);
	free(encoders);
}

struct encoders *encoders_new(void)
{
	struct encoders *encoders = calloc(1, sizeof(*encoders));
	struct encoders_private *private = calloc(1, sizeof(*private));

	if (!encoders || !private) {
		free(encoders);
		free(private);
		return NULL;
	}
	encoders->private = private;
	pthread_mutex_init(&private->lock, NULL);
	pthread_cond_init(&private->changed, NULL);
	private->encoder[0] = frame_encoder_new();
	/* 4 MiB, of which small generations touch little. */
	private->memory = malloc(2 * (size_t)ENCODERS_JOBS * STORE_FRAME_BYTES);
	if (!private->encoder[0] || !private->memory) {
		encoders_free(encoders);
		return NULL;
	}
	for (unsigned i = 0; i < ENCODERS_JOBS; i++) {
		encoders->jobs[i].blocks = private->memory + 2 * i * (size_t)STORE_FRAME_BYTES;
		encoders->jobs[i].stored = encoders->jobs[i].blocks + STORE_FRAME_BYTES;
	}
	return encoders;
}
