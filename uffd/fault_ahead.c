/* SPDX-License-Identifier: MIT */
/*
 * fault_ahead.c - reads that nobody waits for yet: prefetch, and what is ahead of a stream of faults. Each of these two
 * lanes has a thread that reads and compares checksums; all that it has read goes back to the fault service's
 * thread, which alone installs pages, a few between one look for faults and the next. So no page has two owners, and
 * a fault waits for prefetch at most for STEP_PAGES pages. A stream's run is installed in one go: its
 * reader is woken once. Prefetch also has a lower priority, but for a working set: the program takes the
 * processor from it.
 *
 *	service: taken -> begun --thread: read, checked--> done --service: installed, step by step--> free
 *
 * A fault on a page that is under way here is read again by the service, unless it is ahead of the stream whose
 * next fault this is. What cannot be read is left absent: who touches it is told why.
 * The threads never touch the region, the index or the bitmaps. Each is started by its first read.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fault_service.h"
#include "sys.h"

#define LANE_RUNS 16u  /* with RUN_BYTES: at most 4 MiB under way */
#define STEP_PAGES 16u /* installed between two looks for faults: some 20 us */
#define QUIET_STEP 64u /* the same where there was no fault for QUIET_NS */
#define QUIET_NS 1000000ull
#define REST_NS 250000000ull
/*
 * Measured beside other load, 2,000 random pages while all of the heap is prefetched, to without prefetch: 2.5 with the
 * same priority, 1.6 with nice 5, 1.0 with 10. The program waits for a processor rather than for a page.
 */
#define PREFETCH_NICE 10

struct run_list {
	struct read_run *first, **last;
};

struct lane {
	struct fault_ahead *ahead;
	bool stream;
	bool started, failed;

	/* Its thread. */
	pthread_t thread;
	struct reader *reader;
	bool direct;	   /* as in the service */
	bool stepped_back; /* to a lower priority */
	unsigned reading;  /* begun and not completed */
	struct extent_scratch scratch;
	uint64_t
		busy_ns; /* when the last read was, if the buffers' memory was not given back since */
	_Atomic bool rests; /* nothing was read for a while: it can go */

	/* The service's thread. */
	char *decoded;		      /* of all its runs */
	struct read_run *runs, *free; /* last in, first out: what was used is in a near cache */
	struct read_run *installing;
	unsigned under_way; /* taken, and not free again */

	struct run_list queue, done; /* with the lock */
};

struct fault_ahead {
	struct fault_service *service; /* what is not its thread's alone */
	int pages_fd;
	uint32_t page_bytes;
	const struct checksum_key *key;
	struct bitmap pages; /* the service's: that are in runs */
	struct lane streams, prefetch;

	pthread_mutex_t lock; /* the lists and what follows */
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

/* ---- the threads */

/* What is packed is decoded. */
static void page_check(struct lane *lane, struct read_run *run, unsigned i)
{
	const struct extent *extent = &run->pages[i].extent;
	uint32_t page_bytes = lane->ahead->page_bytes;
	char *stored = run->buffer + (extent->offset - run->offset);

	run->contents[i] = extent_is_whole(extent) ? stored : run->decoded + (size_t)i * page_bytes;
	if (!extent_decode(&lane->scratch, lane->ahead->key, run->pages[i].page, extent, stored,
			   run->contents[i], page_bytes))
		run->good |= 1ull << i;
}

static void run_done(struct lane *lane, struct read_run *run, int result)
{
	struct fault_ahead *ahead = lane->ahead;
	bool first;

	run->result = result;
	for (unsigned i = 0; i < run->count && result > 0; i++)
		page_check(lane, run, i);
	pthread_mutex_lock(&ahead->lock);
	first = !lane->done.first;
	run->is_read = result > 0;
	list_add(&lane->done, run);
	pthread_mutex_unlock(&ahead->lock);
	if (first) /* the list is taken one by one, and looked at before each wait */
		reader_wake(ahead->service->reader);
}

static void run_read(struct lane *lane, struct read_run *run)
{
	int code;

	run->direct = lane->direct;
	code = reader_read(lane->reader, run, run->buffer + run->done_bytes,
			   (unsigned)read_bytes(run->bytes, run->direct) - run->done_bytes,
			   run->offset + run->done_bytes, run->direct);
	if (code) {
		run_done(lane, run, code);
		return;
	}
	lane->reading++;
}

static void read_completed(void *arg, void *token, int result)
{
	struct lane *lane = arg;
	struct read_run *run = token;

	lane->reading--;
	if (result > 0 && sys_injected(SYS_CALL_READ))
		result = -EIO;
	if (result == -EINVAL && run->direct) {
		lane->direct = false; /* not on this file system, or not at this end of the file */
		result = -EAGAIN;
	}
	if (result > 0)
		run->done_bytes += (unsigned)result;
	if (result == -EINTR || result == -EAGAIN || (result > 0 && run->done_bytes < run->bytes))
		run_read(lane, run);
	else
		run_done(lane, run, result ? result : -ENODATA);
}

/* At once if the page cache has it, else with others. */
static void run_start(struct lane *lane, struct read_run *run)
{
	const struct fault_ahead *ahead = lane->ahead;
	int got = -EAGAIN;

	if (!lane->direct || sys_is_cached(ahead->pages_fd, run->offset, run->bytes))
		got = sys_pread_cached(ahead->pages_fd, run->buffer, run->bytes, run->offset);
	if (got > 0 && sys_injected(SYS_CALL_READ))
		got = -EIO;
	if (got == (int)run->bytes)
		run_done(lane, run, got);
	else
		run_read(lane, run);
}

/* Until there is something to do; while there may be memory to be given back, not for ever. */
static int lane_wait(struct lane *lane)
{
	uint64_t now = sys_monotonic_ns();

	if (lane->reading)
		lane->busy_ns = now;
	if (lane->busy_ns && now - lane->busy_ns < REST_NS)
		return reader_wait_for(lane->reader, REST_NS);
	if (lane->busy_ns) {
		lane->busy_ns = 0;
		atomic_store(&lane->rests, true);
		reader_wake(lane->ahead->service->reader);
	}
	return reader_wait(lane->reader, READER_ANYTHING);
}

/* Before the first run that nobody will ask for soon. Where fork(2) waits until all has arrived, somebody waits for it. */
static void lane_step_back(struct lane *lane, const struct read_run *run)
{
	if (!run->rest || lane->stepped_back)
		return;
	lane->stepped_back = true;
	if (!lane->ahead->service->region->backends.forks_untold)
		(void)!nice(PREFETCH_NICE);
}

static void *lane_main(void *arg)
{
	struct lane *lane = arg;
	struct fault_ahead *ahead = lane->ahead;
	bool stop = false;

	pthread_setname_np(pthread_self(), lane->stream ? "thaw-stream" : "thaw-ahead");
	while (!stop || lane->reading) {
		struct read_run *run;
		int code;

		pthread_mutex_lock(&ahead->lock);
		run = list_take(&lane->queue);
		stop = ahead->stop;
		pthread_mutex_unlock(&ahead->lock);
		if (run && !stop) {
			lane_step_back(lane, run);
			run_start(lane, run);
			lane->busy_ns = sys_monotonic_ns();
			code = reader_wait(lane->reader, READER_NOW);
		} else if (stop) {
			code = lane->reading ? reader_wait(lane->reader, READER_READ) : 0;
		} else {
			code = lane_wait(lane);
		}
		/* If that fails, reads that are under way have buffers that nobody can ever use again. */
		service_check(ahead->service, code, "wait for reads ahead");
	}
	return NULL;
}

/* ---- the service's thread: begin */

static int lane_prepare(struct fault_service *service, struct lane *lane)
{
	struct reader_options options = {
		.kind = service->region->backends.reader,
		.image_fd = service->pages_fd,
		.exactly = true,
		.direct_fd = service->direct_fd,
		.faults_fd = -1,
		.reads = LANE_RUNS,
		.buffer_bytes = RUN_BYTES,
		.completed = read_completed,
		.arg = lane,
	};
	struct thaw_error error;
	int code;

	lane->direct = service->direct;
	lane->runs = calloc(LANE_RUNS, sizeof(*lane->runs));
	lane->decoded = mmap(NULL, (size_t)LANE_RUNS * RUN_BYTES, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (lane->decoded == MAP_FAILED)
		lane->decoded = NULL;
	if (!lane->runs || !lane->decoded)
		return -ENOMEM;
	code = reader_open(&lane->reader, &options, &error);
	if (code && options.kind == READER_URING) {
		options.kind = READER_THREADS;
		code = reader_open(&lane->reader, &options, &error);
	}
	for (unsigned i = 0; i < LANE_RUNS && !code; i++) {
		lane->runs[i].buffer = reader_buffer(lane->reader, i);
		lane->runs[i].decoded = lane->decoded + (size_t)i * RUN_BYTES;
		lane->runs[i].next = lane->free;
		lane->free = &lane->runs[i];
	}
	return code;
}

static void lane_free(struct lane *lane)
{
	reader_close(lane->reader);
	extent_scratch_free(&lane->scratch);
	if (lane->decoded)
		munmap(lane->decoded, (size_t)LANE_RUNS * RUN_BYTES);
	lane->decoded = NULL;
	lane->reader = NULL;
	free(lane->runs);
	lane->runs = lane->free = NULL;
}

/* The thread's signals are blocked, since those of the thread that makes it are. */
static void lane_start(struct fault_service *service, struct lane *lane)
{
	lane->failed = true;
	if (lane_prepare(service, lane) || pthread_create(&lane->thread, NULL, lane_main, lane)) {
		lane_free(lane);
		return;
	}
	lane->failed = false;
	lane->started = true;
}

static void ahead_make(struct fault_service *service)
{
	struct fault_ahead *ahead = calloc(1, sizeof(*ahead));

	service->ahead_failed = true;
	if (!ahead)
		return;
	if (bitmap_init(&ahead->pages, service->restored_pages)) {
		free(ahead);
		return;
	}
	pthread_mutex_init(&ahead->lock, NULL);
	ahead->service = service;
	ahead->pages_fd = service->pages_fd;
	ahead->page_bytes = service->region->page_bytes;
	ahead->key = image_key(service->options.image);
	ahead->streams.ahead = ahead->prefetch.ahead = ahead;
	ahead->streams.stream = true;
	list_init(&ahead->streams.queue);
	list_init(&ahead->streams.done);
	list_init(&ahead->prefetch.queue);
	list_init(&ahead->prefetch.done);
	service->ahead_failed = false;
	service->ahead = ahead;
}

/* NULL: there is no thread for it. */
static struct lane *lane_ready(struct fault_service *service, bool stream)
{
	struct lane *lane;

	if (!service->ahead && !service->ahead_failed)
		ahead_make(service);
	if (!service->ahead)
		return NULL;
	lane = stream ? &service->ahead->streams : &service->ahead->prefetch;
	if (!lane->started && !lane->failed)
		lane_start(service, lane);
	return lane->started ? lane : NULL;
}

bool ahead_ready(struct fault_service *service)
{
	return lane_ready(service, false);
}

struct read_run *ahead_take(struct fault_service *service, bool stream)
{
	struct lane *lane = lane_ready(service, stream);
	struct read_run *run = lane ? lane->free : NULL;

	if (!run)
		return NULL;
	lane->free = run->next;
	lane->under_way++;
	run->count = run->bytes = run->done_bytes = run->installed = 0;
	run->good = 0;
	run->used = run->ahead = true;
	run->is_read = false;
	run->stream = stream;
	run->rest = !stream && prefetch_is_rest(service);
	return run;
}

static struct lane *lane_of(struct fault_service *service, const struct read_run *run)
{
	return run->stream ? &service->ahead->streams : &service->ahead->prefetch;
}

/*
 * The buffers' memory is given back when nothing was read for a while: between one window of a stream and the next
 * it would have to be had anew, which costs as much as half of the installation.
 */
static void lane_shrink(struct lane *lane)
{
	if (!lane->started || lane->under_way || !atomic_exchange(&lane->rests, false))
		return;
	(void)madvise(reader_buffer(lane->reader, 0), (size_t)LANE_RUNS * RUN_BYTES, MADV_DONTNEED);
	(void)madvise(lane->decoded, (size_t)LANE_RUNS * RUN_BYTES, MADV_DONTNEED);
}

void ahead_release(struct fault_service *service, struct read_run *run)
{
	struct lane *lane = lane_of(service, run);

	for (unsigned i = 0; i < run->count; i++)
		bitmap_clear(&service->ahead->pages, run->pages[i].page);
	run->used = false;
	run->next = lane->free;
	lane->free = run;
	lane->under_way--;
	lane_shrink(lane);
}

void ahead_begin(struct fault_service *service, struct read_run *run)
{
	struct fault_ahead *ahead = service->ahead;
	struct lane *lane = lane_of(service, run);

	for (unsigned i = 0; i < run->count; i++)
		bitmap_set(&ahead->pages, run->pages[i].page);
	pthread_mutex_lock(&ahead->lock);
	list_add(&lane->queue, run);
	pthread_mutex_unlock(&ahead->lock);
	reader_wake(lane->reader);
}

bool ahead_reads(const struct fault_service *service, uint64_t page)
{
	return service->ahead && bitmap_test(&service->ahead->pages, page);
}

bool ahead_streams(const struct fault_service *service, uint64_t page)
{
	const struct lane *lane;

	if (!ahead_reads(service, page))
		return false;
	lane = &service->ahead->streams;
	for (unsigned i = 0; lane->started && i < LANE_RUNS; i++) {
		const struct read_run *run = &lane->runs[i];

		for (unsigned p = run->installed; run->used && p < run->count; p++)
			if (run->pages[p].page == page)
				return true;
	}
	return false;
}

/* The run that has read this page for prefetch, and which of it that is; NULL. */
static struct read_run *run_that_read(struct fault_ahead *ahead, uint64_t page, unsigned *at)
{
	struct lane *lane = &ahead->prefetch;
	struct read_run *found = NULL;

	pthread_mutex_lock(&ahead->lock);
	for (unsigned i = 0; lane->started && i < LANE_RUNS && !found; i++) {
		struct read_run *run = &lane->runs[i];

		if (!run->used || !run->is_read)
			continue;
		for (*at = run->installed; *at < run->count; ++*at)
			if (run->pages[*at].page == page)
				break;
		found = *at < run->count ? run : NULL;
	}
	pthread_mutex_unlock(&ahead->lock);
	return found;
}

bool ahead_bring(struct fault_service *service, uint64_t page)
{
	struct read_run *run = NULL;
	unsigned first, end;

	if (ahead_reads(service, page))
		run = run_that_read(service->ahead, page, &first);
	/* Of what is in the page cache and not in the working set, a stream has more at once. */
	if (!run || (run->rest && !service->direct))
		return false;
	for (end = first + 1; end < run->count; end++)
		if (cluster_of(service, run->pages[end].page) != cluster_of(service, page))
			break;
	run_install_some(service, run, first, end);
	return true;
}

bool ahead_idle(const struct fault_service *service)
{
	return !service->ahead ||
	       !(service->ahead->streams.under_way + service->ahead->prefetch.under_way);
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

static unsigned step_pages(const struct fault_service *service, const struct read_run *run)
{
	if (run->stream)
		return RUN_PAGES;
	return sys_monotonic_ns() - service->answered_ns > QUIET_NS ? QUIET_STEP : STEP_PAGES;
}

/* Some pages of what a lane has read. false: it has nothing. */
static bool lane_install(struct fault_service *service, struct lane *lane)
{
	struct read_run *run = lane->installing;

	lane_shrink(lane);
	if (!lane->under_way)
		return false;
	if (!run) {
		pthread_mutex_lock(&service->ahead->lock);
		run = list_take(&lane->done);
		pthread_mutex_unlock(&service->ahead->lock);
	}
	if (!run)
		return false;
	if (run->result < 0) {
		run_given_up(service, run);
		run->installed = run->count;
	} else {
		run_install(service, run, run->installed + step_pages(service, run));
	}
	lane->installing = run;
	if (run->installed == run->count) {
		lane->installing = NULL;
		ahead_release(service, run);
	}
	return true;
}

bool ahead_install_stream(struct fault_service *service)
{
	return service->ahead && lane_install(service, &service->ahead->streams);
}

bool ahead_install_prefetch(struct fault_service *service)
{
	return service->ahead && lane_install(service, &service->ahead->prefetch);
}

void ahead_stop(struct fault_service *service)
{
	struct fault_ahead *ahead = service->ahead;

	if (!ahead)
		return;
	pthread_mutex_lock(&ahead->lock);
	ahead->stop = true;
	pthread_mutex_unlock(&ahead->lock);
	for (unsigned i = 0; i < 2; i++) {
		struct lane *lane = i ? &ahead->prefetch : &ahead->streams;

		if (!lane->started)
			continue;
		reader_wake(lane->reader);
		pthread_join(lane->thread, NULL);
		lane_free(lane);
	}
	bitmap_free(&ahead->pages);
	pthread_mutex_destroy(&ahead->lock);
	free(ahead);
	service->ahead = NULL;
}
