/* SPDX-License-Identifier: MIT */
/*
 * fault_ahead.c - reads that nobody waits for yet: prefetch, and what is ahead of a stream of faults. A thread
 * of its own reads and compares checksums; all that it has read goes back to the fault service's thread, which
 * alone installs pages, a few between one look for faults and the next. So a fault never waits for prefetch,
 * but for the installation of STEP_PAGES pages, and no page has two owners. A stream's run is installed in one go: its
 * reader is woken once.
 *
 *	service: taken -> begun --thread: read, checked--> done --service: installed, step by step--> free
 *
 * A fault on a page that is under way here is read again by the service, unless it is ahead of the stream whose
 * next fault this is. What cannot be read is left absent: who touches it is told why.
 * The thread never touches the region, the index or the bitmaps. It is started by the first read.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "fault_service.h"
#include "sys.h"

#define AHEAD_RUNS 32u	/* with RUN_BYTES: at most 8 MiB under way */
#define STREAM_RUNS 16u /* of them are for streams */
#define STEP_PAGES 16u	/* installed between two looks for faults: some 20 us */

struct run_list {
	struct read_run *first, **last;
};

struct fault_ahead {
	pthread_t thread;
	struct reader *reader;	       /* the thread's */
	struct fault_service *service; /* what is not its thread's alone */
	int pages_fd;
	bool direct; /* the thread's, as in the service */
	uint32_t page_bytes;
	const struct checksum_key *key;
	unsigned reading;   /* the thread's: begun and not completed */
	_Atomic bool rests; /* nothing was read for a while: the buffers' memory can go */

	/* The service's thread. */
	struct read_run *runs, *free; /* last in, first out: what was used is in a near cache */
	struct read_run *installing;
	unsigned under_way;  /* taken, and not free again */
	struct bitmap pages; /* that are in these runs */

	pthread_mutex_t lock; /* what follows */
	struct run_list streams, others, done;
	bool stop;
};

static void list_init(struct run_list *list)
{
	list->first = NULL;
	list->last = &list->first;
}

static void list_add(struct run_list *list, struct read_run *run)
{
	run->next = NULL;
	*list->last = run;
	list->last = &run->next;
}

static struct read_run *list_take(struct run_list *list)
{
	struct read_run *run = list->first;

	if (run) {
		list->first = run->next;
		if (!list->first)
			list->last = &list->first;
	}
	return run;
}

/* ---- the thread */

static void run_done(struct fault_ahead *ahead, struct read_run *run, int result)
{
	bool first;

	run->result = result;
	for (unsigned i = 0; i < run->count && result > 0; i++)
		if (extent_matches(ahead->key, &run->pages[i].extent,
				   run->buffer + (run->pages[i].extent.offset - run->offset),
				   ahead->page_bytes))
			run->good |= 1ull << i;
	pthread_mutex_lock(&ahead->lock);
	first = !ahead->done.first;
	list_add(&ahead->done, run);
	pthread_mutex_unlock(&ahead->lock);
	if (first) /* the list is taken one by one, and looked at before each wait */
		reader_wake(ahead->service->reader);
}

static void run_read(struct fault_ahead *ahead, struct read_run *run)
{
	int code;

	run->direct = ahead->direct;
	code = reader_read(ahead->reader, run, run->buffer + run->done_bytes,
			   run->bytes - run->done_bytes, run->offset + run->done_bytes,
			   run->direct);
	if (code) {
		run_done(ahead, run, code);
		return;
	}
	ahead->reading++;
}

static void read_completed(void *arg, void *token, int result)
{
	struct fault_ahead *ahead = arg;
	struct read_run *run = token;

	ahead->reading--;
	if (result > 0 && sys_injected(SYS_CALL_READ))
		result = -EIO;
	if (result == -EINVAL && run->direct) {
		ahead->direct = false; /* not on this file system, or not at this end of the file */
		result = -EAGAIN;
	}
	if (result > 0)
		run->done_bytes += (unsigned)result;
	if (result == -EINTR || result == -EAGAIN || (result > 0 && run->done_bytes < run->bytes))
		run_read(ahead, run);
	else
		run_done(ahead, run, result ? result : -ENODATA);
}

/* At once if the page cache has it, else with others. */
static void run_start(struct fault_ahead *ahead, struct read_run *run)
{
	int got = -EAGAIN;

	if (!ahead->direct || sys_is_cached(ahead->pages_fd, run->offset, run->bytes))
		got = sys_pread_cached(ahead->pages_fd, run->buffer, run->bytes, run->offset);
	if (got > 0 && sys_injected(SYS_CALL_READ))
		got = -EIO;
	if (got == (int)run->bytes)
		run_done(ahead, run, got);
	else
		run_read(ahead, run);
}

/* How to wait: while there may be memory to be given back, not for ever. */
static enum reader_until ahead_until(struct fault_ahead *ahead, uint64_t *busy_ns)
{
	uint64_t now = sys_monotonic_ns();

	if (ahead->reading)
		*busy_ns = now;
	if (!*busy_ns)
		return READER_ANYTHING;
	if (now - *busy_ns < READER_WHILE_MS * 1000000ull)
		return READER_A_WHILE;
	*busy_ns = 0;
	atomic_store(&ahead->rests, true);
	reader_wake(ahead->service->reader);
	return READER_ANYTHING;
}

static void *ahead_main(void *arg)
{
	struct fault_ahead *ahead = arg;
	uint64_t busy_ns = 0; /* when the last read was, if memory was not given back since */
	bool stop = false;

	pthread_setname_np(pthread_self(), "thaw-ahead");
	while (!stop || ahead->reading) {
		enum reader_until until = READER_NOW;
		struct read_run *run;

		pthread_mutex_lock(&ahead->lock);
		run = list_take(&ahead->streams);
		if (!run)
			run = list_take(&ahead->others);
		stop = ahead->stop;
		pthread_mutex_unlock(&ahead->lock);
		if (run && !stop) {
			run_start(ahead, run);
			busy_ns = sys_monotonic_ns();
		} else if (!stop) {
			until = ahead_until(ahead, &busy_ns);
		} else if (ahead->reading) {
			until = READER_READ;
		}
		/* If that fails, reads that are under way have buffers that nobody can ever use again. */
		service_check(ahead->service, reader_wait(ahead->reader, until),
			      "wait for reads ahead");
	}
	return NULL;
}

/* ---- the service's thread: begin */

static void ahead_free(struct fault_ahead *ahead)
{
	reader_close(ahead->reader);
	bitmap_free(&ahead->pages);
	pthread_mutex_destroy(&ahead->lock);
	free(ahead->runs);
	free(ahead);
}

static int ahead_prepare(struct fault_service *service, struct fault_ahead *ahead)
{
	struct reader_options options = {
		.kind = service->region->backends.reader,
		.image_fd = image_fd(service->options.image),
		.direct_fd = service->direct_fd,
		.faults_fd = -1,
		.reads = AHEAD_RUNS,
		.buffer_bytes = RUN_BYTES,
		.completed = read_completed,
		.arg = ahead,
	};
	struct thaw_error error;
	int code;

	pthread_mutex_init(&ahead->lock, NULL);
	list_init(&ahead->streams);
	list_init(&ahead->others);
	list_init(&ahead->done);
	ahead->service = service;
	ahead->pages_fd = service->pages_fd;
	ahead->direct = service->direct;
	ahead->page_bytes = service->region->page_bytes;
	ahead->key = image_key(service->options.image);
	ahead->runs = calloc(AHEAD_RUNS, sizeof(*ahead->runs));
	if (!ahead->runs || bitmap_init(&ahead->pages, service->restored_pages))
		return -ENOMEM;
	for (unsigned i = 0; i < AHEAD_RUNS; i++) {
		ahead->runs[i].next = ahead->free;
		ahead->free = &ahead->runs[i];
	}
	code = reader_open(&ahead->reader, &options, &error);
	if (code && options.kind == READER_URING) {
		options.kind = READER_THREADS;
		code = reader_open(&ahead->reader, &options, &error);
	}
	for (unsigned i = 0; i < AHEAD_RUNS && !code; i++)
		ahead->runs[i].buffer = reader_buffer(ahead->reader, i);
	return code;
}

/* The thread's signals are blocked, since those of the thread that makes it are. */
static void ahead_start(struct fault_service *service)
{
	struct fault_ahead *ahead = calloc(1, sizeof(*ahead));

	service->ahead_failed = true;
	if (!ahead)
		return;
	if (ahead_prepare(service, ahead) ||
	    pthread_create(&ahead->thread, NULL, ahead_main, ahead)) {
		ahead_free(ahead);
		return;
	}
	service->ahead_failed = false;
	service->ahead = ahead;
}

bool ahead_ready(struct fault_service *service)
{
	if (!service->ahead && !service->ahead_failed)
		ahead_start(service);
	return service->ahead;
}

struct read_run *ahead_take(struct fault_service *service, bool stream)
{
	struct fault_ahead *ahead = ahead_ready(service) ? service->ahead : NULL;
	struct read_run *run;

	if (!ahead || (!stream && ahead->under_way >= AHEAD_RUNS - STREAM_RUNS))
		return NULL;
	run = ahead->free;
	if (!run)
		return NULL;
	ahead->free = run->next;
	ahead->under_way++;
	run->count = run->bytes = run->done_bytes = run->installed = 0;
	run->good = 0;
	run->used = run->ahead = true;
	run->stream = stream;
	return run;
}

/*
 * The buffers' memory is given back when nothing was read for a while: between one window of a stream and the next
 * it would have to be had anew, which costs as much as half of the installation.
 */
static void ahead_shrink(struct fault_ahead *ahead)
{
	if (!ahead->under_way && atomic_exchange(&ahead->rests, false))
		(void)madvise(reader_buffer(ahead->reader, 0), (size_t)AHEAD_RUNS * RUN_BYTES,
			      MADV_DONTNEED);
}

void ahead_release(struct fault_service *service, struct read_run *run)
{
	struct fault_ahead *ahead = service->ahead;

	for (unsigned i = 0; i < run->count; i++)
		bitmap_clear(&ahead->pages, run->pages[i].page);
	run->used = false;
	run->next = ahead->free;
	ahead->free = run;
	ahead->under_way--;
	ahead_shrink(ahead);
}

void ahead_begin(struct fault_service *service, struct read_run *run)
{
	struct fault_ahead *ahead = service->ahead;

	for (unsigned i = 0; i < run->count; i++)
		bitmap_set(&ahead->pages, run->pages[i].page);
	pthread_mutex_lock(&ahead->lock);
	list_add(run->stream ? &ahead->streams : &ahead->others, run);
	pthread_mutex_unlock(&ahead->lock);
	reader_wake(ahead->reader);
}

bool ahead_reads(const struct fault_service *service, uint64_t page)
{
	return service->ahead && bitmap_test(&service->ahead->pages, page);
}

bool ahead_streams(const struct fault_service *service, uint64_t page)
{
	const struct fault_ahead *ahead = service->ahead;

	if (!ahead_reads(service, page))
		return false;
	for (unsigned i = 0; i < AHEAD_RUNS; i++) {
		const struct read_run *run = &ahead->runs[i];

		if (!run->used || !run->stream)
			continue;
		for (unsigned p = run->installed; p < run->count; p++)
			if (run->pages[p].page == page)
				return true;
	}
	return false;
}

bool ahead_idle(const struct fault_service *service)
{
	return !service->ahead || !service->ahead->under_way;
}

/* ---- the service's thread: end */

/* Now by the service itself, if somebody waits for it, or all is wanted: it tells what cannot be read. */
static void run_given_up(struct fault_service *service, struct read_run *run)
{
	for (unsigned i = 0; i < run->count; i++)
		bitmap_clear(&service->ahead->pages, run->pages[i].page);
	for (unsigned i = 0; i < run->count && (run->stream || service->options.prefetch); i++)
		if (service_misses(service, run->pages[i].page))
			span_begin(service, cluster_of(service, run->pages[i].page), 1, true);
}

bool ahead_install(struct fault_service *service)
{
	struct fault_ahead *ahead = service->ahead;
	struct read_run *run;

	if (!ahead)
		return false;
	ahead_shrink(ahead);
	if (!ahead->under_way)
		return false;
	run = ahead->installing;
	if (!run) {
		pthread_mutex_lock(&ahead->lock);
		run = list_take(&ahead->done);
		pthread_mutex_unlock(&ahead->lock);
	}
	if (!run)
		return false;
	if (run->result < 0) {
		run_given_up(service, run);
		run->installed = run->count;
	} else {
		run_install(service, run, run->installed + (run->stream ? RUN_PAGES : STEP_PAGES));
	}
	ahead->installing = run;
	if (run->installed == run->count) {
		ahead->installing = NULL;
		ahead_release(service, run);
	}
	return true;
}

void ahead_stop(struct fault_service *service)
{
	struct fault_ahead *ahead = service->ahead;

	if (!ahead)
		return;
	pthread_mutex_lock(&ahead->lock);
	ahead->stop = true;
	pthread_mutex_unlock(&ahead->lock);
	reader_wake(ahead->reader);
	pthread_join(ahead->thread, NULL);
	ahead_free(ahead);
	service->ahead = NULL;
}
