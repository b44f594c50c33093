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
#include <unistd.h>

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
void poison_pages(struct fault_service *service, uint64_t first, uint64_t count, const char *why)
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

/* All of it, or, once that failed, the page whose turn it is: what of the run is read, from a block on. */
static void run_part(const struct read_run *run, uint64_t *begin, uint64_t *end)
{
	const struct extent *alone = run->alone ? &run->pages[run->alone - 1].extent : NULL;

	*begin = alone ? (alone->offset - run->offset) / PAGE_BYTES_LEAST * PAGE_BYTES_LEAST : 0;
	*end = alone ? alone->offset + alone->bytes - run->offset : run->bytes;
}

static void run_submit(struct fault_service *service, struct read_run *run)
{
	uint64_t begin, end;

	run->direct = service->direct;
	run_part(run, &begin, &end);
	end = read_bytes(end, run->direct);
	begin += run->done_bytes;
	service_check(service,
		      reader_read(service->reader, run, run->buffer + begin,
				  (unsigned)(end - begin), run->offset + begin, run->direct),
		      "begin a read");
}

static void run_release(struct fault_service *service, struct read_run *run)
{
	for (unsigned i = 0; i < run->count; i++)
		bitmap_clear(&service->reading, run->pages[i].page);
	service->in_flight--;
	service->prefetch_in_flight -= run->ahead;
	run->used = false;
	run->next = service->free_runs;
	service->free_runs = run;
}

/* As they are stored. */
static char *run_page_bytes(const struct read_run *run, unsigned i)
{
	return run->buffer + (run->pages[i].extent.offset - run->offset);
}

/* Where the contents of a page go that is not read as what it is. */
static char *run_page_place(const struct fault_service *service, const struct read_run *run,
			    unsigned i)
{
	uint64_t page_bytes = service->region->page_bytes;

	return reads_in_place(service->region)
		       ? service->region->alias + run->pages[i].page * page_bytes
		       : run->decoded + i * page_bytes;
}

/*
 * A commit may have moved the page while it was read, and its old place may hold another page by
 * now (relocate.c). Reads it from its present place.
 */
static bool page_moved(struct fault_service *service, struct read_run *run, unsigned i)
{
	uint64_t page = run->pages[i].page, leaf = page - page % IMAGE_LEAF_PAGES;
	uint64_t offset = run->pages[i].extent.offset;
	struct extent extents[IMAGE_LEAF_PAGES], *extent = &extents[page - leaf];

	run->contents[i] = run_page_place(service, run, i);
	for (;;) {
		if (image_lookup(service->options.image, leaf, extents, NULL) ||
		    !extent_is_stored(extent) || extent->offset == offset)
			return false;
		offset = extent->offset;
		if (!extent_read(&service->scratch, image_fd(service->options.image),
				 image_key(service->options.image), page, extent, run->contents[i],
				 service->region->page_bytes))
			return true;
	}
}

/* Makes the page of its stored bytes: 0, THAW_EDAMAGED, -ENOMEM. */
static int page_decode(struct fault_service *service, struct read_run *run, unsigned i)
{
	const struct extent *extent = &run->pages[i].extent;
	int code;

	if (run->good >> i & 1)
		return 0;
	run->contents[i] = extent_is_whole(extent) ? run_page_bytes(run, i)
						   : run_page_place(service, run, i);
	code = extent_decode(&service->scratch, image_key(service->options.image),
			     run->pages[i].page, extent, run_page_bytes(run, i), run->contents[i],
			     service->region->page_bytes);
	return code && page_moved(service, run, i) ? 0 : code;
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

/* Pages [from, to) of a run, which are consecutive in the heap and in the buffer. */
static void pages_install(struct fault_service *service, struct read_run *run, unsigned from,
			  unsigned to)
{
	if (from == to)
		return;
	if (!service->process)
		bitmap_set_range(&service->arrived, run->pages[from].page, to - from);
	/* Counted before they are visible, so that no reader sees too small a count. */
	count_up(&service->pages_restored, to - from);
	pages_appear(service, run->pages[from].page, to - from, run->contents[from]);
}

static bool pages_adjoin(const struct fault_service *service, const struct read_run *run,
			 unsigned i)
{
	return run->pages[i].page == run->pages[i - 1].page + 1 &&
	       run->contents[i] == run->contents[i - 1] + service->region->page_bytes;
}

static void page_damaged(struct fault_service *service, const struct read_run *run, unsigned i,
			 int code)
{
	char why[160];

	if (code == -ENOMEM)
		snprintf(why, sizeof(why), "there is no memory to decode it");
	else
		snprintf(why, sizeof(why),
			 "its checksum is wrong at file offset %llu (see thaw verify)",
			 (unsigned long long)run->pages[i].extent.offset);
	poison_pages(service, run->pages[i].page, 1, why);
}

/*
 * Compare the checksums of some pages of a run, install the correct ones, poison the others. What has
 * arrived by another way meanwhile is left alone: the program may have given it up since.
 */
void run_install_some(struct fault_service *service, struct read_run *run, unsigned from,
		      unsigned to)
{
	unsigned good = from; /* first page not installed yet */

	for (unsigned i = from; i < to; i++) {
		bool wanted = service_misses(service, run->pages[i].page);
		int code = wanted ? page_decode(service, run, i) : 0;
		bool right = wanted && !code;

		if (i > good && (!right || !pages_adjoin(service, run, i))) {
			pages_install(service, run, good, i);
			good = i;
		}
		if (right)
			continue;
		good = i + 1;
		if (wanted)
			page_damaged(service, run, i, code);
	}
	pages_install(service, run, good, to);
}

uint64_t run_stored_bytes(const struct read_run *run, unsigned from, unsigned to)
{
	uint64_t bytes = 0;

	for (; from < to; from++)
		bytes += run->pages[from].extent.bytes;
	return bytes;
}

/*
 * All bytes have been read. The requested page is installed first: its reader continues while the
 * others are installed.
 */
static void run_arrived(struct fault_service *service, struct read_run *run)
{
	unsigned asked = 0;

	count_up(&service->restore_bytes, run_stored_bytes(run, 0, run->count));
	while (asked < run->count && run->pages[asked].page != service->demand)
		asked++;
	if (asked < run->count) {
		run_install_some(service, run, asked, asked + 1);
		run_install_some(service, run, 0, asked);
		asked++;
	} else {
		asked = 0;
	}
	run_install_some(service, run, asked, run->count);
}

void run_install(struct fault_service *service, struct read_run *run, unsigned to)
{
	to = to < run->count ? to : run->count;
	count_up(&service->restore_bytes, run_stored_bytes(run, run->installed, to));
	run_install_some(service, run, run->installed, to);
	run->installed = to;
}

/* The page whose turn it is cannot be read. */
static void page_unreadable(struct fault_service *service, struct read_run *run, int result)
{
	unsigned i = run->alone - 1;
	char why[160];

	if (page_moved(service, run, i)) {
		run->good |= 1ull << i;
		run_install_some(service, run, i, i + 1);
		return;
	}
	if (!service_misses(service, run->pages[i].page))
		return;
	snprintf(why, sizeof(why), "%s at file offset %llu",
		 result ? thaw_strerror(result) : "the file ends (it was truncated)",
		 (unsigned long long)run->pages[i].extent.offset + run->done_bytes);
	poison_pages(service, run->pages[i].page, 1, why);
}

/* All of them together could not be read: one after the other shows which it is. */
static void run_alone(struct fault_service *service, struct read_run *run)
{
	run->done_bytes = 0;
	if (run->alone++ < run->count)
		run_submit(service, run);
	else
		run_release(service, run);
}

void run_completed(void *arg, void *token, int result)
{
	struct fault_service *service = arg;
	struct read_run *run = token;

	if (result > 0 && sys_injected(SYS_CALL_READ))
		result = -EIO;
	if (result == -EINVAL && run->direct) {
		service->direct = false; /* the file system, or the end of the file */
		result = -EAGAIN;
	}
	if (result == -EINTR || result == -EAGAIN) {
		run_submit(service, run);
		return;
	}
	if (result > 0) {
		uint64_t begin, end;

		run->done_bytes += (unsigned)result;
		run_part(run, &begin, &end);
		if (run->done_bytes < end - begin) {
			run_submit(service, run);
		} else if (run->alone) {
			run_install_some(service, run, run->alone - 1, run->alone);
			run_alone(service, run);
		} else {
			run_arrived(service, run);
			run_release(service, run);
		}
		return;
	}
	if (!run->alone && run->count == 1)
		run->alone = 1;
	if (run->alone)
		page_unreadable(service, run, result);
	run_alone(service, run);
}

struct read_run *run_take(struct fault_service *service)
{
	struct read_run *run;

	while (!(run = service->free_runs))
		service_wait(service, READER_READ);
	service->free_runs = run->next;
	run->count = run->bytes = run->done_bytes = run->alone = run->installed = 0;
	run->good = 0;
	run->ahead = run->stream = false;
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

/* Only packed pages have anything between them that is nobody's. */
static uint64_t run_next(const struct read_run *run)
{
	return (run->offset + run->bytes + EXTENT_UNIT - 1) / EXTENT_UNIT * EXTENT_UNIT;
}

static bool run_takes(const struct fault_service *service, const struct read_run *run,
		      uint64_t page, const struct extent *extent, uint32_t gap)
{
	uint64_t next = run_next(run);

	/* To read what is left of a block costs nothing, and is no reason for another read. */
	if (extent_is_packed(extent) && gap < PAGE_BYTES_LEAST)
		gap = PAGE_BYTES_LEAST;
	if (extent->offset < next || extent->offset - next > gap ||
	    extent->offset + extent->bytes - run->offset > RUN_BYTES ||
	    (run->count + 1) * service->region->page_bytes > RUN_BYTES)
		return false;
	if (!reads_in_place(service->region))
		return true;
	if (run->packed || extent_is_packed(extent))
		return run->packed && extent_is_packed(extent);
	return extent->offset == next && run->pages[run->count - 1].page + 1 == page;
}

bool run_add(const struct fault_service *service, struct read_run *run, uint64_t page,
	     const struct extent *extent, uint32_t gap)
{
	if (run->count && !run_takes(service, run, page, extent, gap))
		return false;
	if (!run->count) {
		run->offset = extent->offset / PAGE_BYTES_LEAST * PAGE_BYTES_LEAST;
		run->packed = extent_is_packed(extent);
	}
	run->pages[run->count++] = (struct run_page){page, *extent};
	run->bytes = (unsigned)(extent->offset + extent->bytes - run->offset);
	return true;
}

static void run_prepare(struct fault_service *service, struct read_run *run)
{
	struct region *region = service->region;

	run->buffer = reads_in_place(region) && !run->packed
			      ? region->alias + run->pages[0].page * region->page_bytes
			      : reader_buffer(service->reader, (unsigned)(run - service->runs));
	run->decoded = service->decoded;
	run->done_bytes = 0;
}

static void run_mark(struct fault_service *service, struct read_run *run)
{
	for (unsigned i = 0; i < run->count; i++)
		bitmap_set(&service->reading, run->pages[i].page);
	service->in_flight++;
	service->prefetch_in_flight += run->ahead;
	run->used = true;
}

bool run_now(struct fault_service *service, struct read_run *run)
{
	run_prepare(service, run);
	if (!service->page_first)
		return false;
	/*
	 * A read that does not wait begins to read all the same where it finds nothing, and with the read that waits the
	 * disk would have two. So after one that was in vain it is asked before.
	 */
	if (service->direct || service->in_vain)
		service->in_vain = !sys_is_cached(service->pages_fd, run->offset, run->bytes);
	if (service->in_vain)
		return false;
	if (sys_pread_cached(service->pages_fd, run->buffer, run->bytes, run->offset) !=
	    (int)run->bytes) {
		service->in_vain = true;
		return false;
	}
	run_mark(service, run);
	run_completed(service, run, (int)run->bytes);
	return true;
}

void run_wait(struct fault_service *service, struct read_run *run)
{
	run_prepare(service, run);
	run_mark(service, run);
	run_submit(service, run);
}

void run_begin(struct fault_service *service, struct read_run *run)
{
	if (!run_now(service, run))
		run_wait(service, run);
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

/* Is anything of it absent that is not being read? */
static bool cluster_lacks(const struct fault_service *service, uint64_t cluster)
{
	uint64_t first = cluster * service->cluster_pages, end = first + service->cluster_pages;

	if (end > service->restored_pages)
		end = service->restored_pages;
	for (uint64_t page = first; page < end; page++)
		if (service_misses(service, page) && !bitmap_test(&service->reading, page))
			return true;
	return false;
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

		if (!service_misses(service, page) || bitmap_test(&service->reading, page))
			continue;
		if (code) {
			poison_pages(service, page, 1, error.text);
			continue;
		}
		if (!extent_is_stored(extent)) {
			if (zero_count && zero_first + zero_count != page) {
				install_zero_pages(service, zero_first, zero_count);
				zero_count = 0;
			}
			zero_first = zero_count ? zero_first : page;
			zero_count++;
			continue;
		}
		if (run && run_add(service, run, page, extent, 0))
			continue;
		if (run)
			run_begin(service, run);
		run = run_take(service);
		run->ahead = prefetch;
		run_add(service, run, page, extent, 0);
	}
	if (zero_count)
		install_zero_pages(service, zero_first, zero_count);
	return run;
}

void span_begin(struct fault_service *service, uint64_t cluster, unsigned clusters, bool prefetch)
{
	uint64_t end = clusters_restored(service);
	struct read_run *run = NULL;

	for (; clusters-- && cluster < end; cluster++)
		if (cluster_lacks(service, cluster))
			run = cluster_begin(service, cluster, run, prefetch);
	if (run)
		run_begin(service, run);
}
