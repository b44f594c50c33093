/* SPDX-License-Identifier: MIT */
/*
 * encoders.c - threads that compare and encode the pages of a large commit, of which a page costs microseconds: compressed
 * ones 3 to 15, enciphered ones 1 to 3. The thread that commits fills batches, and puts what has been encoded into the
 * file, in the order in which it was added; where it has to wait, it encodes a batch itself.
 *
 *	     encoders_add             a thread, or encoders_add
 *	free ------------> queued ------------> busy --> encoded --> done(), in order --> free
 *	                   [taken, tail)        [head, taken)
 *
 * They live from a commit's first pages to its end. Memory is bounded by the ring: a quarter of a MiB for each of its
 * batches, of which there are two for each thread and four. A thread touches nothing but batches, its own scratch, and what
 * no commit changes.
 */
#define _GNU_SOURCE
#include "encoders.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "poly1305.h"
#include "thread.h"

#define THREADS_MOST 16u
#define BATCH_BYTES (128u << 10) /* a tenth of a millisecond of work: much more than a wake-up */
#define BATCH_PAGES 32u
#define MANY_BATCHES 32u /* who has so many has more, most likely */

struct batch {
	unsigned count;
	bool encoded;
	struct encoded_page pages[BATCH_PAGES];
	uint8_t *bytes, *room; /* of each page: as it is, and as it is stored */
};

struct encoders;

struct encoder {
	struct encoders *encoders;
	pthread_t thread;
	struct extent_scratch scratch;
};

struct encoders {
	struct encoding encoding;
	encoded_fn done;
	void *arg;
	unsigned batch_pages, batch_count, started;
	int failed;
	struct encoder threads[THREADS_MOST];
	struct extent_scratch scratch; /* of the thread that commits */
	struct batch *batches;

	pthread_mutex_t lock; /* all that follows, and `encoded` */
	pthread_cond_t queued, encoded;
	uint64_t head, taken,
		tail; /* numbers of batches, since the beginning; the one of `tail` is being filled */
	unsigned idle;
	bool stop;
};

void page_compare(const struct encoding *encoding, struct encoded_page *page, const void *bytes)
{
	static const struct extent zero = {.encoding = EXTENT_ZERO};
	struct extent *extent = &page->extent;

	if (extent_matches(encoding->key, &zero, bytes, encoding->page_bytes)) {
		extent->encoding = EXTENT_ZERO;
		page->changed = extent_is_stored(&page->old);
		return;
	}
	extent->checksum = checksum_of(encoding->key, CHECKSUM_PAGE, bytes, encoding->page_bytes);
	page->changed = !extent_is_stored(&page->old) ||
			!checksum_same(page->old.checksum, extent->checksum);
}

void page_encode(const struct encoding *encoding, struct extent_scratch *scratch,
		 struct encoded_page *page, const void *bytes, void *to)
{
	struct extent *extent = &page->extent;

	page->stored = NULL;
	page->code = 0;
	page->changed = page->known;
	if (!page->known)
		page_compare(encoding, page, bytes);
	if (!page->changed || !extent_is_stored(extent))
		return;
	page->code = extent_encode(scratch, &encoding->codec, encoding->key, page->number, extent,
				   bytes, encoding->page_bytes, to, &page->stored);
}

static void batch_encode(const struct encoders *encoders, struct extent_scratch *scratch,
			 struct batch *batch)
{
	size_t page_bytes = encoders->encoding.page_bytes;

	for (unsigned i = 0; i < batch->count; i++)
		page_encode(&encoders->encoding, scratch, &batch->pages[i],
			    batch->bytes + i * page_bytes, batch->room + i * page_bytes);
}

static struct batch *batch_at(const struct encoders *encoders, uint64_t number)
{
	return &encoders->batches[number % encoders->batch_count];
}

/* With the lock, which is given up meanwhile: there is a queued one. */
static void batch_take(struct encoders *encoders, struct extent_scratch *scratch)
{
	uint64_t number = encoders->taken++;
	struct batch *batch = batch_at(encoders, number);

	pthread_mutex_unlock(&encoders->lock);
	batch_encode(encoders, scratch, batch);
	pthread_mutex_lock(&encoders->lock);
	batch->encoded = true;
	if (number == encoders->head)
		pthread_cond_signal(&encoders->encoded);
}

static void *encoder_main(void *arg)
{
	struct encoder *encoder = arg;
	struct encoders *encoders = encoder->encoders;

	pthread_setname_np(pthread_self(), "thaw-encode");
	pthread_mutex_lock(&encoders->lock);
	while (!encoders->stop) {
		if (encoders->taken < encoders->tail) {
			batch_take(encoders, &encoder->scratch);
			continue;
		}
		encoders->idle++;
		pthread_cond_wait(&encoders->queued, &encoders->lock);
		encoders->idle--;
	}
	pthread_mutex_unlock(&encoders->lock);
	return NULL;
}

/* ---- The thread that commits */

/* One for each processor but that of this thread; at least one, for the time in which this thread waits for the disk. */
static unsigned threads_wanted(void)
{
	cpu_set_t processors;
	int count = 2;

	if (!sched_getaffinity(0, sizeof(processors), &processors))
		count = CPU_COUNT(&processors);
	if (count > (int)THREADS_MOST + 1)
		return THREADS_MOST;
	return count > 2 ? (unsigned)count - 1 : 1;
}

static void threads_start(struct encoders *encoders, unsigned wanted)
{
	for (; encoders->started < wanted; encoders->started++) {
		struct encoder *encoder = &encoders->threads[encoders->started];

		encoder->encoders = encoders;
		if (thread_begin(&encoder->thread, encoder_main, encoder))
			break;
	}
}

static int batches_make(struct encoders *encoders)
{
	size_t bytes = (size_t)encoders->batch_pages * encoders->encoding.page_bytes;

	encoders->batches = calloc(encoders->batch_count, sizeof(*encoders->batches));
	for (unsigned i = 0; encoders->batches && i < encoders->batch_count; i++) {
		struct batch *batch = &encoders->batches[i];

		batch->bytes = malloc(2 * bytes);
		if (!batch->bytes)
			return -ENOMEM;
		batch->room = batch->bytes + bytes;
	}
	return encoders->batches ? 0 : -ENOMEM;
}

struct encoders *encoders_open(const struct encoding *encoding, encoded_fn done, void *arg)
{
	struct encoders *encoders = calloc(1, sizeof(*encoders));
	unsigned wanted = threads_wanted();

	if (!encoders)
		return NULL;
	encoders->encoding = *encoding;
	encoders->done = done;
	encoders->arg = arg;
	encoders->batch_pages = BATCH_BYTES / encoding->page_bytes;
	if (!encoders->batch_pages)
		encoders->batch_pages = 1;
	if (encoders->batch_pages > BATCH_PAGES)
		encoders->batch_pages = BATCH_PAGES;
	encoders->batch_count = 2 * wanted + 4;
	pthread_mutex_init(&encoders->lock, NULL);
	pthread_cond_init(&encoders->queued, NULL);
	pthread_cond_init(&encoders->encoded, NULL);
	if (!batches_make(encoders))
		threads_start(encoders, wanted);
	if (encoders->started)
		return encoders;
	encoders_close(encoders);
	return NULL;
}

/* The batch that has been filled. */
static void batch_queue(struct encoders *encoders)
{
	pthread_mutex_lock(&encoders->lock);
	batch_at(encoders, encoders->tail)->encoded = false;
	encoders->tail++;
	if (encoders->idle)
		pthread_cond_signal(&encoders->queued);
	pthread_mutex_unlock(&encoders->lock);
}

/* Is the first one encoded? With `needed` it is. */
static bool head_is_encoded(struct encoders *encoders, bool needed)
{
	struct batch *batch = batch_at(encoders, encoders->head);
	bool encoded;

	pthread_mutex_lock(&encoders->lock);
	while (needed && !batch->encoded) {
		if (encoders->taken < encoders->tail)
			batch_take(encoders, &encoders->scratch);
		else
			pthread_cond_wait(&encoders->encoded, &encoders->lock);
	}
	encoded = batch->encoded;
	pthread_mutex_unlock(&encoders->lock);
	return encoded;
}

/* What is encoded is done, up to the first that is not; at least until no more than so many are left. */
static int batches_done(struct encoders *encoders, uint64_t left)
{
	while (encoders->head < encoders->tail &&
	       head_is_encoded(encoders, encoders->tail - encoders->head > left)) {
		struct batch *batch = batch_at(encoders, encoders->head);

		for (unsigned i = 0; !encoders->failed && i < batch->count; i++)
			encoders->failed = batch->pages[i].code ? batch->pages[i].code
								: encoders->done(encoders->arg,
										 &batch->pages[i]);
		batch->count = 0;
		pthread_mutex_lock(&encoders->lock);
		encoders->head++;
		pthread_mutex_unlock(&encoders->lock);
	}
	return encoders->failed;
}

int encoders_add(struct encoders *encoders, const struct encoded_page *page, const void *bytes)
{
	struct batch *batch = batch_at(encoders, encoders->tail);
	size_t page_bytes = encoders->encoding.page_bytes;

	if (encoders->failed)
		return encoders->failed;
	memcpy(batch->bytes + batch->count * page_bytes, bytes, page_bytes);
	batch->pages[batch->count++] = *page;
	if (batch->count < encoders->batch_pages)
		return 0;
	batch_queue(encoders);
	if (encoders->tail == MANY_BATCHES && encoders->encoding.key)
		poly1305_soon();
	return batches_done(encoders, encoders->batch_count - 1); /* one is free */
}

int encoders_wait(struct encoders *encoders)
{
	if (batch_at(encoders, encoders->tail)->count)
		batch_queue(encoders);
	return batches_done(encoders, 0);
}

void encoders_close(struct encoders *encoders)
{
	if (!encoders)
		return;
	pthread_mutex_lock(&encoders->lock);
	encoders->stop = true;
	pthread_cond_broadcast(&encoders->queued);
	pthread_mutex_unlock(&encoders->lock);
	for (unsigned i = 0; i < encoders->started; i++) {
		pthread_join(encoders->threads[i].thread, NULL);
		extent_scratch_free(&encoders->threads[i].scratch);
	}
	extent_scratch_free(&encoders->scratch);
	for (unsigned i = 0; encoders->batches && i < encoders->batch_count; i++)
		free(encoders->batches[i].bytes);
	free(encoders->batches);
	pthread_cond_destroy(&encoders->queued);
	pthread_cond_destroy(&encoders->encoded);
	pthread_mutex_destroy(&encoders->lock);
	free(encoders);
}
