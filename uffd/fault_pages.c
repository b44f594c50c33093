/* SPDX-License-Identifier: MIT */
/*
 * fault_pages.c - how pages of a restored heap arrive: reads of the image, the comparison of checksums,
 * installation, and poison for what cannot be read.
 *
 * Runs on the fault service's thread (fault.c), but for fault_service_explain(). Reads go straight to where
 * the page will live, or through the reader's buffers (reads_in_place). Nothing is mapped before its
 * checksum was compared. Index nodes are read with plain pread: while the single faulting thread waits
 * for its page there is nothing else to do, and they stay in memory afterwards.
 */
#include "fault_service.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "fault_kmod.h"
#include "fault_process.h"
#include "install.h"
#include "sys.h"

/* ---- pages that cannot be served ---- */

/* How many of them, from the first one on: none, if the owner has given that one back (release.c). */
static uint64_t poison_run(struct fault_service *service, uint64_t first, uint64_t count,
			   const char *why)
{
	unsigned index = atomic_load_explicit(&service->poison_count, memory_order_relaxed);
	struct thaw_error error;

	error_set(&error, THAW_EDAMAGED, "%s, generation %llu: page %llu cannot be restored: %s",
		  image_path(service->options.image),
		  (unsigned long long)image_opened(service->options.image)->number,
		  (unsigned long long)first, why);
	if (index < POISON_RECORDS) {
		bool last = index == POISON_RECORDS - 1;

		service->poison[index] = (struct poison_record){
			.first = last ? 0 : first,
			.count = last ? service->restored_pages : count,
			.error = error,
		};
		if (last)
			error_set(
				&service->poison[index].error, THAW_EDAMAGED,
				"%s, generation %llu: much of it cannot be restored, first of all this: %s",
				image_path(service->options.image),
				(unsigned long long)image_opened(service->options.image)->number,
				why);
		/* A thread that the poisoned page wakes sees the record. */
		atomic_store_explicit(&service->poison_count, index + 1, memory_order_release);
	}
	count_up(&service->pages_poisoned, count);
	if (service->process) {
		/* Where the kernel cannot poison, nobody may go on. */
		if (!service->region->backends.poison &&
		    service->region->backends.delivery != DELIVERY_EAGER)
			service_fatal(service, &error);
		fault_process_install(service, INSTALL_POISON, first, count, NULL);
		return count;
	}
	/* Behind the record: whoever touches the page now finds that. */
	count = tracker_forget(service->options.tracker, first, count);
	if (!count)
		return 0;
	bitmap_set_range(&service->arrived, first, count);
	if (install_poison(service->region, first, count) < 0)
		service_fatal(service, &error);
	fault_requests_answer(&service->requests, first, count);
	return count;
}

/*
 * Perhaps not all of them: the module may have brought one before the service found it unreadable, and the
 * owner may have given one back.
 */
static void poison_pages(struct fault_service *service, uint64_t first, uint64_t count,
			 const char *why)
{
	while (count) {
		uint64_t absent = service->kmod
					  ? fault_kmod_absent(service, first, count)
					  : tracker_kept(service->options.tracker, first, count);

		if (absent) /* most likely still so */
			absent = poison_run(service, first, absent, why);
		if (!absent) {
			absent = 1;
			bitmap_set(&service->arrived, first);
			service_check(service, install_wake(service->region, first, 1),
				      "wake a fault");
		}
		first += absent;
		count -= absent;
	}
}

bool fault_service_explain(const struct fault_service *service, uint64_t page, char *line,
			   size_t line_bytes)
{
	unsigned count = atomic_load_explicit(&service->poison_count, memory_order_acquire);

	for (unsigned i = 0; i < count; i++) {
		const struct poison_record *record = &service->poison[i];
		size_t length = strlen(record->error.text);

		if (page < record->first || page >= record->first + record->count)
			continue;
		if (length >= line_bytes)
			length = line_bytes - 1;
		memcpy(line, record->error.text, length);
		line[length] = '\0';
		return true;
	}
	return false;
}

bool fault_service_last_poison(const struct fault_service *service, struct thaw_error *error)
{
	unsigned count = atomic_load_explicit(&service->poison_count, memory_order_acquire);

	if (!count)
		return false;
	*error = service->poison[count - 1].error;
	return true;
}

/* ---- reads ---- */

static void run_submit(struct fault_service *service, struct read_run *run)
{
	service_check(service,
		      reader_read(service->reader, run, run->buffer + run->done_bytes,
				  run->count * service->region->page_bytes - run->done_bytes,
				  run->offset + run->done_bytes),
		      "begin a read");
}

static void run_release(struct fault_service *service, struct read_run *run)
{
	uint64_t last = cluster_of(service, run->first + run->count - 1);

	for (uint64_t cluster = cluster_of(service, run->first); cluster <= last; cluster++)
		service->pending[cluster]--;
	service->in_flight--;
	service->prefetch_in_flight -= run->prefetch;
	run->next_free = service->free_runs;
	service->free_runs = run;
}

/*
 * A commit may have moved the page while it was read, and its old place may hold another page by
 * now (relocate.c). Reads it from its present place.
 */
static bool page_moved(struct fault_service *service, const struct read_run *run, unsigned i)
{
	uint32_t page_bytes = service->region->page_bytes;
	uint64_t page = run->first + i, leaf = page - page % IMAGE_LEAF_PAGES;
	uint64_t offset = run->offset + (uint64_t)i * page_bytes;
	struct extent extents[IMAGE_LEAF_PAGES], *extent = &extents[page - leaf];
	char *to = run->buffer + (size_t)i * page_bytes;

	for (;;) {
		if (image_lookup(service->options.image, leaf, extents, NULL) ||
		    extent->encoding != EXTENT_RAW || extent->offset == offset)
			return false;
		offset = extent->offset;
		if (!sys_pread(image_fd(service->options.image), to, page_bytes, offset) &&
		    extent_matches(image_key(service->options.image), extent, to, page_bytes))
			return true;
	}
}

/* The contents of these pages are in place, or in `source`: make the pages accessible. */
static void pages_appear(struct fault_service *service, uint64_t first, uint64_t count,
			 const void *source)
{
	struct region *region = service->region;
	int result = 0;

	if (service->process) {
		fault_process_install(service, INSTALL_COPY, first, count, source);
		return;
	}
	switch (region->backends.delivery) {
	case DELIVERY_SIGNAL:
		result = tracker_mprotect_arrive(service->options.tracker, first, count);
		service->arrivals++;
		fault_requests_answer(&service->requests, first, count);
		break;
	case DELIVERY_EAGER: /* nobody accesses pages before all of them are loaded */
		break;
	default:
		result = install_pages(region, first, count, source);
	}
	service_check(service, result, "install pages");
}

/* Compare the checksums of some pages of a run, install the correct ones, poison the others. */
static void run_install_pages(struct fault_service *service, struct read_run *run, unsigned from,
			      unsigned to)
{
	uint32_t page_bytes = service->region->page_bytes;
	const struct checksum_key *key = image_key(service->options.image);
	unsigned good = from; /* first page not installed yet */

	for (unsigned i = from; i <= to; i++) {
		char *page = run->buffer + (size_t)i * page_bytes;
		char why[160];

		if (i < to && (extent_matches(key, &run->extents[i], page, page_bytes) ||
			       page_moved(service, run, i)))
			continue;
		if (i > good) {
			if (!service->process)
				bitmap_set_range(&service->arrived, run->first + good, i - good);
			/*
			 * Counted before they are visible, so that no reader sees too small a
			 * count.
			 */
			count_up(&service->pages_restored, i - good);
			pages_appear(service, run->first + good, i - good,
				     run->buffer + (size_t)good * page_bytes);
		}
		good = i + 1;
		if (i == to)
			break;
		snprintf(why, sizeof(why),
			 "its checksum is wrong at file offset %llu (see thaw verify)",
			 (unsigned long long)(run->offset + (uint64_t)i * page_bytes));
		poison_pages(service, run->first + i, 1, why);
	}
}

/*
 * All bytes have been read. The requested page is installed first: its reader continues while the
 * others are installed.
 */
static void run_install(struct fault_service *service, struct read_run *run)
{
	unsigned asked = 0;

	count_up(&service->restore_bytes, (uint64_t)run->count * service->region->page_bytes);
	if (service->demand >= run->first && service->demand < run->first + run->count) {
		asked = (unsigned)(service->demand - run->first);
		run_install_pages(service, run, asked, asked + 1);
		run_install_pages(service, run, 0, asked);
		asked++;
	}
	if (asked < run->count)
		run_install_pages(service, run, asked, run->count);
}

void run_completed(void *arg, void *token, int result)
{
	struct fault_service *service = arg;
	struct read_run *run = token;
	unsigned bytes = run->count * service->region->page_bytes, moved = 0;
	char why[160];

	if (result > 0 && sys_injected(SYS_CALL_READ))
		result = -EIO;
	if (result == -EINTR || result == -EAGAIN) {
		run_submit(service, run);
		return;
	}
	if (result > 0) {
		run->done_bytes += (unsigned)result;
		if (run->done_bytes < bytes) {
			run_submit(service, run);
			return;
		}
		run_install(service, run);
		run_release(service, run);
		return;
	}
	while (moved < run->count && page_moved(service, run, moved))
		moved++;
	if (moved == run->count) {
		run_install(service, run);
	} else {
		snprintf(why, sizeof(why), "%s at file offset %llu",
			 result ? thaw_strerror(result) : "the file ends (it was truncated)",
			 (unsigned long long)run->offset + run->done_bytes);
		poison_pages(service, run->first, run->count, why);
	}
	run_release(service, run);
}

static struct read_run *run_take(struct fault_service *service)
{
	struct read_run *run;

	while (!(run = service->free_runs))
		service_wait(service, READER_READ);
	service->free_runs = run->next_free;
	return run;
}

/*
 * The service writes such pages through the alias, or before any other thread runs, so the program
 * cannot see them early.
 */
bool reads_in_place(const struct region *region)
{
	return !region->process && (region->backends.backing == BACKING_MEMFD ||
				    region->backends.delivery == DELIVERY_EAGER);
}

static void run_begin(struct fault_service *service, struct read_run *run)
{
	struct region *region = service->region;
	uint64_t last = cluster_of(service, run->first + run->count - 1);

	for (uint64_t cluster = cluster_of(service, run->first); cluster <= last; cluster++)
		service->pending[cluster]++;
	service->in_flight++;
	service->prefetch_in_flight += run->prefetch;
	run->done_bytes = 0;
	run->buffer = reads_in_place(region)
			      ? region->alias + run->first * region->page_bytes
			      : reader_buffer(service->reader, (unsigned)(run - service->runs));
	run_submit(service, run);
}

/* ---- spans: whole clusters, from what the index says ---- */

bool service_misses(const struct fault_service *service, uint64_t page)
{
	return service->process ? fault_process_misses(service, page)
				: !bitmap_test(&service->arrived, page);
}

void install_zero_pages(struct fault_service *service, uint64_t first, uint64_t count)
{
	struct region *region = service->region;

	if (service->process) {
		fault_process_install(service, INSTALL_ZERO, first, count, NULL);
		return;
	}
	bitmap_set_range(&service->arrived, first, count);
	if (region->backends.tracker == TRACKER_WP_SYNC)
		service_check(service,
			      tracker_wp_sync_install_zero(service->options.tracker, first, count),
			      "install zero pages");
	else if (!delivery_without_uffd(region->backends.delivery))
		service_check(service, install_zero(region, first, count), "install zero pages");
	else
		pages_appear(service, first, count, NULL); /* what nobody has written is zero */
}

/*
 * Load the absent pages of one cluster. `run` collects pages across clusters, and is returned
 * extended or replaced.
 */
static struct read_run *cluster_begin(struct fault_service *service, uint64_t cluster,
				      struct read_run *run, bool prefetch)
{
	uint64_t first = cluster * service->cluster_pages, end = first + service->cluster_pages;
	uint64_t leaf = first - first % IMAGE_LEAF_PAGES;
	struct extent extents[IMAGE_LEAF_PAGES];
	struct thaw_error error;
	uint64_t zero_first = 0, zero_count = 0;
	int code;

	if (end > service->restored_pages)
		end = service->restored_pages;
	code = image_lookup(service->options.image, leaf, extents, &error);
	for (uint64_t page = first; page < end; page++) {
		const struct extent *extent = &extents[page - leaf];

		if (!service_misses(service, page))
			continue;
		if (code) {
			poison_pages(service, page, 1, error.text);
			continue;
		}
		if (extent->encoding != EXTENT_RAW) {
			if (zero_count && zero_first + zero_count != page) {
				install_zero_pages(service, zero_first, zero_count);
				zero_count = 0;
			}
			zero_first = zero_count ? zero_first : page;
			zero_count++;
			continue;
		}
		if (run && (run->first + run->count != page || run->count == service->run_pages ||
			    run->offset + (uint64_t)run->count * service->region->page_bytes !=
				    extent->offset)) {
			run_begin(service, run);
			run = NULL;
		}
		if (!run) {
			run = run_take(service);
			run->first = page;
			run->offset = extent->offset;
			run->count = 0;
			run->prefetch = prefetch;
		}
		run->extents[run->count++] = *extent;
	}
	if (zero_count)
		install_zero_pages(service, zero_first, zero_count);
	return run;
}

static bool cluster_complete(const struct fault_service *service, uint64_t cluster)
{
	uint64_t first = cluster * service->cluster_pages, end = first + service->cluster_pages;

	if (end > service->restored_pages)
		end = service->restored_pages;
	for (uint64_t page = first; page < end; page++)
		if (service_misses(service, page))
			return false;
	return true;
}

void span_begin(struct fault_service *service, uint64_t cluster, unsigned clusters, bool prefetch)
{
	uint64_t end = clusters_restored(service);
	struct read_run *run = NULL;

	for (; clusters-- && cluster < end; cluster++)
		if (!service->pending[cluster] && !cluster_complete(service, cluster))
			run = cluster_begin(service, cluster, run, prefetch);
	if (run)
		run_begin(service, run);
}
