/* SPDX-License-Identifier: MIT */
/*
 * fault_prefetch.c - which pages come before anybody asks: those of the working set, then, if all of the heap is
 * wanted, the rest of it. Service's thread; with eager delivery the one that opens the heap.
 *
 * Where another thread reads ahead (fault_ahead.c), pages are planned some thousands at a time, sorted by their
 * place in the file, and what lies together becomes one read. Else a few clusters are begun at once. Either way a
 * step is short, so that faults are looked for in between.
 */
#define _GNU_SOURCE
#include <stdlib.h>

#include "fault_kmod.h"
#include "fault_service.h"

#define PREFETCH_CLUSTERS 8u /* begun at once, without that thread */
#define PLAN_PAGES 4096u
#define STEP_CLUSTERS 16u     /* looked up at once */
#define STEP_RUNS 4u	      /* begun at once */
#define GAP_BYTES (16u << 10) /* read along: less than another read would cost */

struct prefetch_plan {
	unsigned count, next; /* pages; those before `next` are being read */
	bool sorted;	      /* no more are added */
	struct run_page pages[PLAN_PAGES];
};

/* ---- without a thread that reads ahead ---- */

static int by_number(const void *a, const void *b)
{
	uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;

	return (left > right) - (left < right);
}

static void prefetch_clusters(struct fault_service *service, uint64_t cluster, unsigned clusters)
{
	if (!service->kmod || !fault_kmod_prefetch(service, cluster, clusters))
		span_begin(service, cluster, clusters, true);
}

/* The next clusters of the working set, in order, except that adjacent ones become one read. */
static void prefetch_set(struct fault_service *service)
{
	uint64_t clusters[PREFETCH_CLUSTERS];
	unsigned left = service->options.working_set_count - service->prefetch_set;
	unsigned count = left < PREFETCH_CLUSTERS ? left : PREFETCH_CLUSTERS;

	for (unsigned i = 0; i < count; i++)
		clusters[i] = cluster_of(
			service,
			set_entry_page(service->options.working_set[service->prefetch_set + i]));
	service->prefetch_set += count;
	qsort(clusters, count, sizeof(clusters[0]), by_number);
	for (unsigned i = 0, together; i < count; i += together) {
		for (together = 1; i + together < count; together++)
			if (clusters[i + together] != clusters[i] + together)
				break;
		prefetch_clusters(service, clusters[i], together);
	}
}

/* The next clusters of the heap in which something is stored. What was never stored needs no reading. */
static void prefetch_stored(struct fault_service *service)
{
	uint64_t page = image_next(service->options.image, service->prefetch_page);
	uint64_t cluster = cluster_of(service, page);

	if (page >= service->restored_pages) {
		service->prefetch_page = service->restored_pages;
		return;
	}
	prefetch_clusters(service, cluster, PREFETCH_CLUSTERS);
	service->prefetch_page = (cluster + PREFETCH_CLUSTERS) * service->cluster_pages;
}

static bool prefetch_here(struct fault_service *service)
{
	if (service->in_flight > service->runs_most / 2 || service->prefetch_in_flight)
		return false;
	if (service->prefetch_set < service->options.working_set_count)
		prefetch_set(service);
	else if (service->options.prefetch && service->prefetch_page < service->restored_pages)
		prefetch_stored(service);
	else
		return false;
	return !service->prefetch_in_flight;
}

/* ---- with it ---- */

static int by_offset(const void *a, const void *b)
{
	const struct run_page *left = a, *right = b;

	return (left->extent.offset > right->extent.offset) -
	       (left->extent.offset < right->extent.offset);
}

/* What is absent of a cluster, as far as it is wanted. A damaged index is told to who touches it, or, if all is wanted, now. */
static void plan_cluster(struct fault_service *service, uint64_t cluster, unsigned mask)
{
	struct prefetch_plan *plan = service->plan;
	uint64_t first = cluster * service->cluster_pages;
	uint64_t leaf = first - first % IMAGE_LEAF_PAGES;
	struct extent extents[IMAGE_LEAF_PAGES];

	if (first >= service->restored_pages)
		return;
	if (image_lookup(service->options.image, leaf, extents, NULL)) {
		if (service->options.prefetch)
			span_begin(service, cluster, 1, true);
		return;
	}
	for (unsigned i = 0; i < service->cluster_pages; i++) {
		uint64_t page = first + i;

		if (page < service->restored_pages &&
		    set_mask_has(mask, i, service->cluster_pages) &&
		    extent_is_stored(&extents[page - leaf]) && service_misses(service, page) &&
		    !bitmap_test(&service->reading, page) && !ahead_reads(service, page))
			plan->pages[plan->count++] = (struct run_page){page, extents[page - leaf]};
	}
}

/* false: there is nothing more to be planned. */
static bool plan_next(struct fault_service *service)
{
	uint64_t page, entry;

	if (service->prefetch_set < service->options.working_set_count) {
		entry = service->options.working_set[service->prefetch_set++];
		plan_cluster(service, cluster_of(service, set_entry_page(entry)),
			     set_entry_mask(entry));
		return true;
	}
	if (!service->options.prefetch || service->prefetch_page >= service->restored_pages)
		return false;
	page = image_next(service->options.image, service->prefetch_page);
	if (page < service->restored_pages)
		plan_cluster(service, cluster_of(service, page), SET_MASK_ALL);
	service->prefetch_page = page < service->restored_pages
					 ? (cluster_of(service, page) + 1) * service->cluster_pages
					 : service->restored_pages;
	return true;
}

/* Hands some of the plan to the thread that reads. false: it has enough. */
static bool plan_begin(struct fault_service *service)
{
	struct prefetch_plan *plan = service->plan;

	for (unsigned runs = 0; runs < STEP_RUNS && plan->next < plan->count; runs++) {
		struct read_run *run = ahead_take(service, false);

		if (!run)
			return runs;
		while (plan->next < plan->count) {
			const struct run_page *next = &plan->pages[plan->next];

			if (!service_misses(service, next->page)) {
				plan->next++;
				continue;
			}
			if (!run_add(service, run, next->page, &next->extent, GAP_BYTES))
				break;
			plan->next++;
		}
		if (run->count)
			ahead_begin(service, run);
		else
			ahead_release(service, run);
	}
	return true;
}

static bool more_to_plan(const struct fault_service *service)
{
	return service->prefetch_set < service->options.working_set_count ||
	       (service->options.prefetch && service->prefetch_page < service->restored_pages);
}

static bool prefetch_planned(struct fault_service *service)
{
	struct prefetch_plan *plan = service->plan;

	if (plan->sorted) {
		bool begun = plan_begin(service);

		if (plan->next == plan->count) {
			plan->next = plan->count = 0;
			plan->sorted = false;
		}
		return begun;
	}
	for (unsigned i = 0; i < STEP_CLUSTERS; i++)
		if (plan->count + service->cluster_pages > PLAN_PAGES || !plan_next(service)) {
			qsort(plan->pages, plan->count, sizeof(plan->pages[0]), by_offset);
			plan->sorted = plan->count;
			break;
		}
	if (plan->count || more_to_plan(service))
		return true;
	prefetch_stop(
		service); /* all of it is under way, or there already: that is looked at next */
	return true;
}

bool prefetch_step(struct fault_service *service)
{
	if (!more_to_plan(service) && !service->plan) {
		if (service->options.prefetch && !service->in_flight && ahead_idle(service))
			__atomic_store_n(&service->all_arrived, true, __ATOMIC_RELEASE);
		return false;
	}
	if (!service->page_first || !ahead_ready(service))
		return prefetch_here(service);
	if (!service->plan)
		service->plan = calloc(1, sizeof(*service->plan));
	return service->plan ? prefetch_planned(service) : prefetch_here(service);
}

void prefetch_stop(struct fault_service *service)
{
	free(service->plan);
	service->plan = NULL;
}
