/* SPDX-License-Identifier: MIT */
/*
 * fault.c - the fault service (see fault.h for the states): its thread, which pages a fault or prefetch
 * brings, start and stop. How they are read and installed is in fault_pages.c.
 *
 * One thread and its reader (reader.h): faults, reads of the image and the request to stop all come to
 * one loop. What a fault brings is decided in fault_demand.c where userfaultfd reports it. Elsewhere (SIGSEGV, the
 * module) it brings its whole cluster (64 KiB, whatever the page: page.h), and a run of faults in address order up to
 * 512 KiB. Between two looks for faults the loop does a bounded step of what nobody waits for.
 *
 * Must never: access the region through its base (it would wait for itself), run a signal handler,
 * or leave a fault unanswered.
 */
#define _GNU_SOURCE
#include "fault_service.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fault_kmod.h"
#include "fault_process.h"
#include "fill.h"
#include "install.h"
#include "sys.h"
#include "thread.h"

#define WINDOW_CLUSTERS 8u	 /* readahead of a sequential stream at most */
#define FRESH_BYTES (256u << 10) /* wp-sync: zero pages given per fault */
#define ARRIVALS_FINE 8192u	 /* see block_clusters() */
#define ARRIVALS_COARSE 1024u	 /* and again after so many more each */
#define MESSAGES 32u		 /* faults read from the kernel at once */
#define QUIET_NS 100000ull	 /* after a fault: then prefetch is in nobody's way */
#define BUSY_SHARE 32u
#define DIRECT_SHARE 8u /* of the memory: larger images are read past the page cache */

_Noreturn void service_fatal(struct fault_service *service, const struct thaw_error *error)
{
	if (service->options.fatal)
		service->options.fatal(service->options.fatal_arg, error);
	abort();
}

void service_check(struct fault_service *service, int result, const char *doing)
{
	struct thaw_error error;

	if (result >= 0 || result == -ESRCH)
		return;
	error_set(&error, result, "the fault service cannot %s: %s", doing, thaw_strerror(result));
	service_fatal(service, &error);
}

static void service_said(struct fault_service *service, int result)
{
	service_check(service, result, "wait for faults and reads");
	if (result > 0)
		service->faults_wait = true;
}

void service_wait(struct fault_service *service, enum reader_until until)
{
	int result = reader_wait(service->reader, until);

	service->waited |= until == READER_READ;
	service_said(service, result);
}

/* ---- faults ---- */

/*
 * Each place where the protection changes costs a mapping, of which a process has some 65,000
 * (tracker_mprotect.c). So after many arrivals, larger blocks are loaded at once, growing until
 * ARRIVALS_FINE blocks cover the heap. The size of the heap alone says nothing: it may be nearly
 * empty.
 */
static unsigned block_clusters(const struct fault_service *service)
{
	uint64_t clusters = service->restored_pages / service->cluster_pages;
	unsigned arrivals = ARRIVALS_FINE, block = 1;

	if (service->region->backends.delivery == DELIVERY_SIGNAL)
		for (; service->arrivals > arrivals && block < clusters / ARRIVALS_FINE;
		     arrivals += ARRIVALS_COARSE)
			block *= 2;
	return block;
}

void service_bring(struct fault_service *service, uint64_t page)
{
	uint64_t cluster = cluster_of(service, page);
	unsigned block = block_clusters(service);

	if (service->page_first) {
		demand_bring(service, page);
		return;
	}
	service->demand = page;
	if (bitmap_test(&service->reading, page))
		return; /* joins the read that is under way */
	service->stream_window = cluster != service->stream_next ? 1
				 : service->stream_window < WINDOW_CLUSTERS
					 ? service->stream_window * 2
					 : WINDOW_CLUSTERS;
	service->stream_next = cluster + service->stream_window;
	if (service->stream_window < block)
		span_begin(service, cluster & ~(uint64_t)(block - 1), block, false);
	else
		span_begin(service, cluster, service->stream_window, false);
}

/*
 * A fault on a page that has arrived: nearly always it was raised before the page was there, and
 * needs only to be woken. If the page is really gone, the program gave it up (MADV_DONTNEED): then it is
 * zero, as it is in all anonymous memory.
 */
static void serve_arrived(struct fault_service *service, uint64_t page)
{
	struct region *region = service->region;

	/* Poisoned since the fault was raised: there may be nothing to map. */
	if (tracker_forgot(service->options.tracker, page)) {
		service_check(service, install_wake(region, page, 1), "wake a fault");
		return;
	}
	install_zero_pages(service, page,
			   1); /* which wakes, also where the page was there all the time */
}

static void serve_fresh(struct fault_service *service, uint64_t page)
{
	uint64_t first = cluster_of(service, page) * service->cluster_pages;
	uint64_t end = first + FRESH_BYTES / service->region->page_bytes;
	uint64_t limit = region_bytes(service->region) / service->region->page_bytes;

	if (first < service->restored_pages)
		first = service->restored_pages;
	if (end > limit)
		end = limit > page ? limit : page + 1;
	service_check(service,
		      tracker_wp_sync_install_zero(service->options.tracker, first, end - first),
		      "install fresh pages");
}

/*
 * For the working set. A sequential stream that reaches the end of the readahead has accessed all
 * of that, too.
 */
void service_note_access(struct fault_service *service, uint64_t page)
{
	uint64_t cluster = cluster_of(service, page);

	if (!service->page_first && cluster == service->stream_next)
		for (unsigned before = service->stream_window - 1; before; before--)
			working_set_note(service->options.recorder,
					 (cluster - before) * service->cluster_pages,
					 service->cluster_pages);
	working_set_note(service->options.recorder, page,
			 service->page_first ? 1 : service->cluster_pages);
}

static void serve(struct fault_service *service, const struct uffd_msg *message)
{
	struct region *region = service->region;
	uint64_t page, flags = message->arg.pagefault.flags;

	if (message->event != UFFD_EVENT_PAGEFAULT)
		return;
	page = region_page(region, (void *)(uintptr_t)message->arg.pagefault.address);
	count_up(&service->faults, 1);
	if (page < service->restored_pages && service->options.recorder)
		service_note_access(service, page);
	if (flags & UFFD_PAGEFAULT_FLAG_WP)
		service_check(service, tracker_wp_sync_note(service->options.tracker, page),
			      "note a write");
	else if (page >= service->restored_pages)
		serve_fresh(service, page);
	else if (bitmap_test(&service->arrived, page))
		serve_arrived(service, page);
	else
		service_bring(service, page);
}

static void serve_waiting(struct fault_service *service)
{
	struct uffd_msg messages[MESSAGES];
	ssize_t got;

	service->faults_wait = false;
	do {
		got = read(service->region->uffd, messages, sizeof(messages));
		if (got < 0 && errno != EAGAIN && errno != EINTR)
			service_check(service, -errno, "read faults");
		for (ssize_t i = 0; i < got / (ssize_t)sizeof(messages[0]); i++)
			serve(service, &messages[i]);
	} while (got == sizeof(messages) || (got < 0 && errno == EINTR));
}

/* The same without userfaultfd: requests of the SIGSEGV handler. */
static void serve_requests(struct fault_service *service)
{
	uint64_t page;

	while ((page = fault_requests_take(&service->requests)) != UINT64_MAX) {
		count_up(&service->faults, 1);
		if (service->options.recorder)
			service_note_access(service, page);
		if (bitmap_test(&service->arrived, page))
			fault_requests_answer(&service->requests, page, 1);
		else
			service_bring(service, page);
	}
}

/*
 * A step of prefetch. What is in the working set is asked for soon, and comes cheaper this way. But of the rest most is
 * not: while faults follow each other at once, only one in BUSY_SHARE of the time is for it, else a
 * program that looks here and there would wait as long for prefetch as for its pages. Where they wait for the disk, or
 * there is none for QUIET_NS, it goes on. *wait_ns: what it waits for, if it does.
 */
static bool background_step(struct fault_service *service, uint64_t *wait_ns)
{
	uint64_t begin = sys_monotonic_ns(), quiet = service->answered_ns + QUIET_NS;
	uint64_t next = service->prefetch_at_ns < quiet ? service->prefetch_at_ns : quiet;
	bool more;

	if (!service->in_flight && begin < next) {
		*wait_ns = next - begin;
		return false;
	}
	more = ahead_install_prefetch(service) || prefetch_step(service);
	if (more && prefetch_is_rest(service)) {
		uint64_t end = sys_monotonic_ns();

		service->prefetch_at_ns = end + BUSY_SHARE * (end - begin);
	}
	return more;
}

/* What can be done while nobody asks for a page. true: there is more to do at once, or in *wait_ns. */
static bool idle_step(struct fault_service *service, uint64_t *wait_ns)
{
	if (service->kmod) /* What was touched says most of what comes next, and what it costs is little. */
		return fault_kmod_tell_near(service) || prefetch_step(service) ||
		       fault_kmod_tell_rest(service);
	return ahead_install_stream(service) || background_step(service, wait_ns) ||
	       (service->process && fault_events_idle(service));
}

/* The same for other processes. */
static void serve_processes(struct fault_service *service)
{
	if (service->faults_wait) {
		service->faults_wait = false;
		fault_events_read_all(service);
	}
	/* Or they were read while something was installed. */
	fault_process_serve(service);
}

static void *service_main(void *arg)
{
	struct fault_service *service = arg;

	pthread_setname_np(pthread_self(), "thaw-faults");
	while (!atomic_load(&service->stop)) {
		uint64_t wait_ns = 0;
		bool more;

		service->waited = false;
		more = idle_step(service, &wait_ns);
		more |= service->waited || service->faults_wait ||
			(service->process && service->process->fault_count);
		if (service->process && !more)
			fault_events_rest(service);
		if (!more && wait_ns)
			service_said(service, reader_wait_for(service->reader, wait_ns));
		else
			service_wait(service, more ? READER_NOW : READER_ANYTHING);
		if (service->process)
			atomic_store(&service->process->rests, false); /* before it reads */
		if (service->process)
			serve_processes(service);
		else if (service->faults_wait && service->kmod)
			fault_kmod_serve(service);
		else if (service->faults_wait)
			serve_waiting(service);
		if (service->process)
			fault_events_settle(service);
		if (service->region->backends.delivery == DELIVERY_SIGNAL)
			serve_requests(service);
	}
	/*
	 * Nobody waits for a page when the owner closes the heap, but reads in flight still own
	 * their buffers.
	 */
	if (service->process)
		fault_events_leave(service);
	ahead_stop(service);
	prefetch_stop(service);
	while (service->in_flight)
		service_wait(service, READER_READ);
	return NULL;
}

/* Eager delivery: load the whole heap before anyone may access it, on the thread that opens it. */
static int load_all(struct fault_service *service, struct thaw_error *error)
{
	int code;

	while (service->prefetch_page < service->restored_pages || service->in_flight) {
		bool more = prefetch_step(service);

		if (service->in_flight)
			service_wait(service, more ? READER_NOW : READER_READ);
	}
	if (service->process)
		return fault_process_loaded(service, error);
	code = tracker_mprotect_loaded(service->options.tracker);
	return code ? error_set(error, code, "cannot watch the heap for writes: %s",
				thaw_strerror(code))
		    : 0;
}

/* ---- start and stop ---- */

bool fault_service_needed(const struct region *region)
{
	return region->restored_bytes || region->backends.tracker == TRACKER_WP_SYNC ||
	       (region->process && region->uffd >= 0);
}

static int service_memory(struct fault_service *service, struct thaw_error *error)
{
	int code = service->region->process ? fault_process_start(service, error) : 0;

	if (code)
		return code;
	if ((!service->process && bitmap_init(&service->arrived, service->restored_pages)) ||
	    (service->region->backends.delivery == DELIVERY_KMOD && fault_kmod_start(service)))
		return error_set(error, -ENOMEM, "no memory for the fault service");
	if (bitmap_init(&service->reading, service->restored_pages))
		return error_set(error, -ENOMEM, "no memory for the fault service");
	service->runs = calloc(service->runs_most, sizeof(*service->runs));
	if (!service->runs)
		return error_set(error, -ENOMEM, "no memory for the fault service");
	service->decoded = malloc(RUN_BYTES);
	if (!service->decoded)
		return error_set(error, -ENOMEM, "no memory for the fault service");
	for (unsigned i = 0; i < service->runs_most; i++) {
		service->runs[i].next = service->free_runs;
		service->free_runs = &service->runs[i];
	}
	return 0;
}

/*
 * The image once more, for reads of single pages that do not wait: the kernel's own readahead would read around
 * each of them. And past the page cache, if the heap would be most of it: then others keep theirs, and the heap
 * is not in memory twice.
 */
static void service_files(struct fault_service *service)
{
	const struct region *region = service->region;
	struct image *image = service->options.image;
	char path[32];

	if (!image || !service->restored_pages ||
	    (region->backends.delivery != DELIVERY_UFFD &&
	     region->backends.delivery != DELIVERY_UFFD_USER))
		return;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", image_fd(image));
	service->pages_fd = sys_open(path, O_RDONLY, 0);
	if (service->pages_fd < 0)
		return;
	(void)posix_fadvise(service->pages_fd, 0, 0, POSIX_FADV_RANDOM);
	service->page_first = true;
	if (image_file_bytes(image) >
	    (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE) / DIRECT_SHARE)
		service->direct_fd = sys_open(path, O_RDONLY | O_DIRECT, 0);
	service->direct = service->direct_fd >= 0;
}

static int service_reader(struct fault_service *service, struct thaw_error *error)
{
	const struct region *region = service->region;
	struct image *image = service->options.image;
	struct reader_options options = {
		.kind = region->backends.reader,
		.image_fd = service->page_first ? service->pages_fd
			    : image		? image_fd(image)
						: -1,
		.exactly = service->page_first,
		.direct_fd = service->direct_fd,
		.faults_fd = service->kmod	? region->device
			     : service->process ? service->process->epoll
						: region->uffd,
		.reads = service->runs_most,
		.buffer_bytes = image ? RUN_BYTES : 0, /* also where only packed pages need them */
		.completed = run_completed,
		.arg = service,
	};

	return reader_open(&service->reader, &options, error);
}

static void service_free(struct fault_service *service)
{
	reader_close(service->reader);
	fault_kmod_stop(service);
	fault_process_stop(service);
	bitmap_free(&service->arrived);
	bitmap_free(&service->reading);
	if (service->pages_fd >= 0)
		close(service->pages_fd);
	if (service->direct_fd >= 0)
		close(service->direct_fd);
	extent_scratch_free(&service->scratch);
	free(service->decoded);
	free(service->runs);
	free(service);
}

int fault_service_start(struct fault_service **out, const struct fault_options *options,
			struct thaw_error *error)
{
	struct fault_service *service = calloc(1, sizeof(*service));
	int code;

	if (!service)
		return error_set(error, -ENOMEM, "no memory for the fault service");
	service->options = *options;
	service->region = options->region;
	service->restored_pages = options->region->restored_bytes / options->region->page_bytes;
	service->cluster_pages = page_cluster(options->region->page_bytes);
	service->stream_next = service->demand = UINT64_MAX;
	service->pages_fd = service->direct_fd = -1;
	service->runs_most = options->image && fill_is_of(image_fd(options->image)) ? RUNS_FILLING
										    : RUNS;
	service_files(service);
	code = service_memory(service, error);
	if (!code)
		code = service_reader(service, error);
	if (code) {
		service_free(service);
		return code;
	}
	if (service->region->backends.delivery == DELIVERY_EAGER) {
		service->options.prefetch = true;
		code = load_all(service, error);
		if (code)
			service_free(service);
		else
			*out = service;
		/* What another process does to its memory is told all the same. */
		if (code || service->region->uffd < 0)
			return code;
	}
	/* A handler of a signal on this thread could access the region and wait for itself. */
	code = thread_begin(&service->thread, service_main, service);
	if (code) {
		service_free(service);
		return error_set(error, code, "cannot start the fault service: %s",
				 strerror(-code));
	}
	service->started = true;
	*out = service;
	return 0;
}

void fault_service_stop(struct fault_service *service)
{
	if (!service)
		return;
	if (service->started) {
		atomic_store(&service->stop, true);
		reader_wake(service->reader);
		pthread_join(service->thread, NULL);
	}
	service_free(service);
}

static void wake_reader(void *reader)
{
	reader_wake(reader);
}

bool fault_service_fetch(struct fault_service *service, uint64_t page)
{
	if (service->region->backends.delivery != DELIVERY_SIGNAL ||
	    page >= service->restored_pages || tracker_forgot(service->options.tracker, page))
		return false;
	fault_requests_ask(&service->requests, page, wake_reader, service->reader);
	return true;
}

bool fault_service_all_arrived(const struct fault_service *service)
{
	return __atomic_load_n(&service->all_arrived, __ATOMIC_ACQUIRE);
}

struct fault_counters fault_service_counters(const struct fault_service *service)
{
	struct fault_counters counters = {
		.faults = atomic_load_explicit(&service->faults, memory_order_relaxed),
		.pages_restored =
			atomic_load_explicit(&service->pages_restored, memory_order_relaxed),
		.pages_poisoned =
			atomic_load_explicit(&service->pages_poisoned, memory_order_relaxed),
		.restore_bytes =
			atomic_load_explicit(&service->restore_bytes, memory_order_relaxed),
	};

	if (service->kmod)
		fault_kmod_counters(service, &counters);
	return counters;
}
