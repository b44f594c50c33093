/* SPDX-License-Identifier: MIT */
/*
 * fault_demand.c - what a fault brings that userfaultfd reports. Service's thread.
 *
 * The page itself comes first and alone: whoever waits goes on. What else comes depends on what is known:
 *
 *	in the page cache	the rest of its cluster, unless faults follow each other at once
 *	on the disk		its neighbours in the cluster that the same read can have
 *	a second fault beside	the rest of the cluster, together
 *	a run of faults		what is ahead, read by another thread (fault_ahead.c), the farther the longer it goes on
 *
 * Measured in the page cache, on one processor: 15 us from fault to fault with a page each, 45 with a cluster each.
 */
#define _GNU_SOURCE
#include "fault_service.h"

#include <string.h>

#include "sys.h"

#define BLOCK_BYTES (16u << 10) /* read from the disk at first */
/*
 * From an answer to the next fault it is 1.5 us where no other processor has to be woken: then one page each is least. What
 * the page itself takes does not count: one that has to be decoded takes long, and its cluster does so 16 times.
 */
#define QUICK_NS 10000ull
#define STREAM_CLUSTERS 64u /* ahead of a stream at most: 4 MiB */

/* ---- clusters of which a page is there ---- */

static bool partly_take(struct fault_service *service, uint64_t cluster)
{
	for (unsigned i = service->partly_count; i--;) {
		if (service->partly[i] != cluster)
			continue;
		memmove(&service->partly[i], &service->partly[i + 1],
			(--service->partly_count - i) * sizeof(service->partly[0]));
		return true;
	}
	return false;
}

/* The oldest one is forgotten. */
static void partly_add(struct fault_service *service, uint64_t cluster)
{
	if (service->partly_count == PARTLY)
		memmove(&service->partly[0], &service->partly[1],
			--service->partly_count * sizeof(service->partly[0]));
	service->partly[service->partly_count++] = cluster;
}

static void note_cluster(struct fault_service *service, uint64_t cluster)
{
	if (service->options.recorder)
		working_set_note(service->options.recorder, cluster * service->cluster_pages,
				 service->cluster_pages);
}

/* ---- one fault ---- */

static bool zero_at(const struct fault_service *service, const struct extent *extents,
		    uint64_t leaf, uint64_t page)
{
	return !extent_is_stored(&extents[page - leaf]) && service_misses(service, page);
}

/* What was never stored around it comes, too: that costs nearly nothing. */
static void bring_zeros(struct fault_service *service, const struct extent *extents, uint64_t leaf,
			uint64_t page)
{
	uint64_t begin = cluster_of(service, page) * service->cluster_pages;
	uint64_t end = begin + service->cluster_pages, first = page, last = page + 1;

	if (end > service->restored_pages)
		end = service->restored_pages;
	while (first > begin && zero_at(service, extents, leaf, first - 1))
		first--;
	while (last < end && zero_at(service, extents, leaf, last))
		last++;
	install_zero_pages(service, first, last - first);
}

/* The other pages of this page's block that one read can have. */
static void run_add_block(struct fault_service *service, struct read_run *run,
			  const struct extent *extents, uint64_t leaf, uint64_t page)
{
	uint64_t pages = BLOCK_BYTES / service->region->page_bytes;
	uint64_t first = page, end;

	if (!pages)
		return;
	first -= page % pages;
	end = first + pages < service->restored_pages ? first + pages : service->restored_pages;
	run->count = run->bytes = 0;
	for (uint64_t at = first; at < end; at++) {
		const struct extent *extent = &extents[at - leaf];

		if (at != page && (!extent_is_stored(extent) || !service_misses(service, at) ||
				   bitmap_test(&service->reading, at)))
			continue;
		if (run_add(service, run, at, extent, 0))
			continue;
		if (at > page)
			return;
		run->count = run->bytes = 0; /* what was before the page is elsewhere */
		run_add(service, run, at, extent, 0);
	}
}

/* true: it was in the page cache, and is there. */
static bool bring_page(struct fault_service *service, const struct extent *extents, uint64_t leaf,
		       uint64_t page)
{
	struct read_run *run = run_take(service);

	run_add(service, run, page, &extents[page - leaf], 0);
	if (run_now(service, run))
		return true;
	run_add_block(service, run, extents, leaf, page);
	/* Nobody sees whether they are accessed: all of them are in the working set. */
	for (unsigned i = 0; service->options.recorder && i < run->count; i++)
		working_set_note(service->options.recorder, run->pages[i].page, 1);
	run_wait(service, run);
	return false;
}

static void lost_cluster(struct fault_service *service, uint64_t cluster,
			 const struct thaw_error *error)
{
	uint64_t first = cluster * service->cluster_pages, end = first + service->cluster_pages;

	if (end > service->restored_pages)
		end = service->restored_pages;
	for (uint64_t page = first; page < end; page++)
		if (service_misses(service, page) && !bitmap_test(&service->reading, page))
			poison_pages(service, page, 1, error->text);
}

/* ---- streams ---- */

/* Begin to read clusters ahead, from stream_next on: how many, which is less where enough is under way. */
static unsigned stream_ahead(struct fault_service *service, unsigned clusters)
{
	uint64_t cluster = service->stream_next, end = clusters_restored(service);
	struct read_run *run = NULL;
	unsigned begun = 0;

	for (; begun < clusters && cluster < end; begun++, cluster++) {
		uint64_t first = cluster * service->cluster_pages;
		uint64_t leaf = first - first % IMAGE_LEAF_PAGES;
		struct extent extents[IMAGE_LEAF_PAGES];

		if (image_lookup(service->options.image, leaf, extents, NULL))
			break;
		for (uint64_t page = first;
		     page < first + service->cluster_pages && page < service->restored_pages;
		     page++) {
			const struct extent *extent = &extents[page - leaf];

			if (!extent_is_stored(extent) || !service_misses(service, page) ||
			    ahead_reads(service, page) || bitmap_test(&service->reading, page))
				continue;
			if (run && run_add(service, run, page, extent, 0))
				continue;
			if (run)
				ahead_begin(service, run);
			run = ahead_take(service, true);
			if (!run)
				return begun;
			run_add(service, run, page, extent, 0);
		}
	}
	if (run)
		ahead_begin(service, run);
	return begun;
}

/*
 * A fault in the cluster where the stream was to go on, or on a page that is being read for it: its reader is
 * faster than we are.
 */
static void stream_goes_on(struct fault_service *service, uint64_t cluster)
{
	unsigned ahead = (unsigned)(service->stream_next - cluster);

	for (; service->stream_noted < cluster; service->stream_noted++)
		note_cluster(service, service->stream_noted);
	service->stream_window = service->stream_window < STREAM_CLUSTERS / 2
					 ? service->stream_window * 2
					 : STREAM_CLUSTERS;
	if (ahead >= service->stream_window / 2 + 1)
		return;
	service->stream_next += stream_ahead(service, service->stream_window - ahead);
}

static bool stream_reads(struct fault_service *service, uint64_t cluster, uint64_t page)
{
	if (!ahead_streams(service, page))
		return false;
	if (cluster < service->stream_next && service->stream_next - cluster <= STREAM_CLUSTERS)
		stream_goes_on(service, cluster);
	return true;
}

/* How much of its cluster comes with this page, which is there, or being read? */
static bool whole_cluster(struct fault_service *service, uint64_t cluster, bool cached)
{
	uint64_t since = service->asked_ns - service->answered_ns;
	bool again = partly_take(service, cluster);

	/* One that comes late tells nothing about the next ones. */
	since = since < 4 * QUICK_NS ? since : 4 * QUICK_NS;
	service->pace_ns = (7 * service->pace_ns + since) / 8;
	if (again || (cached && service->pace_ns > QUICK_NS))
		return true;
	partly_add(service, cluster);
	return false;
}

static void bring(struct fault_service *service, uint64_t cluster, uint64_t page)
{
	uint64_t leaf = page - page % IMAGE_LEAF_PAGES;
	struct extent extents[IMAGE_LEAF_PAGES];
	struct thaw_error error;
	bool cached = true;

	if (image_lookup(service->options.image, leaf, extents, &error)) {
		lost_cluster(service, cluster, &error);
		return;
	}
	if (!extent_is_stored(&extents[page - leaf]))
		bring_zeros(service, extents, leaf, page);
	else
		cached = bring_page(service, extents, leaf, page);
	if (cluster == service->stream_next) {
		service->stream_next++;
		stream_goes_on(service, cluster + 1);
	} else if (!whole_cluster(service, cluster, cached)) {
		if (cluster + 1 != service->stream_next) {
			service->stream_next = service->stream_noted = cluster + 1;
			service->stream_window = 1;
		}
		return;
	}
	span_begin(service, cluster, 1, false);
	note_cluster(service, cluster);
}

void demand_bring(struct fault_service *service, uint64_t page)
{
	uint64_t cluster = cluster_of(service, page);

	service->demand = page;
	service->asked_ns = sys_monotonic_ns();
	/* Else it joins the read that is under way. */
	if (!bitmap_test(&service->reading, page) && !stream_reads(service, cluster, page) &&
	    !ahead_bring(service, page))
		bring(service, cluster, page);
	service->answered_ns = sys_monotonic_ns();
}
