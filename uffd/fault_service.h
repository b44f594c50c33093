/* SPDX-License-Identifier: MIT */
/*
 * fault_service.h - what the files of the fault service share: fault.c (its thread, faults, prefetch),
 * fault_pages.c (reading pages of the image and making them appear), fault_kmod.c (where the module does most of
 * it), and those of fault_process.h (the memory of another process). Everybody else uses fault.h.
 *
 * Everything belongs to the service's thread, except what is atomic.
 */
#ifndef UFFD_FAULT_SERVICE_H
#define UFFD_FAULT_SERVICE_H

#include <pthread.h>

#include "bitmap.h"
#include "fault.h"
#include "fault_requests.h"
#include "page.h"
#include "reader.h"

#define RUN_BYTES (128u << 10) /* the longest single read */
#define RUNS 16u	       /* reads in flight at most */
#define POISON_RECORDS 32u

struct read_run { /* consecutive pages that are consecutive in the file */
	uint64_t first, offset;
	unsigned count;
	unsigned done_bytes; /* of a short read */
	bool prefetch;
	char *buffer; /* where the bytes go */
	struct extent extents[RUN_BYTES / PAGE_BYTES_LEAST];
	struct read_run *next_free;
};

struct poison_record {
	uint64_t first, count;
	struct thaw_error error;
};

struct fault_kmod;    /* fault_kmod.c */
struct fault_process; /* fault_process.h */

struct fault_service {
	struct fault_options options;
	struct region *region;
	uint64_t restored_pages;
	unsigned cluster_pages, run_pages; /* in a cluster, and in the longest run */
	pthread_t thread;
	struct reader *reader;
	bool started; /* the thread */
	_Atomic bool stop;
	struct fault_requests requests; /* where pages come by SIGSEGV */
	unsigned arrivals;		/* of closed pages; see block_clusters() */
	bool faults_wait;		/* the reader has said so */
	struct fault_kmod *kmod;	/* where pages come by the module; else NULL */
	struct fault_process
		*process; /* of another process; then `arrived` is not used; else NULL */

	struct bitmap arrived; /* with the module: those that the service installed or poisoned */
	uint8_t *pending;      /* per cluster: reads in flight that bring some of its pages */
	struct read_run *free_runs, *runs;
	unsigned in_flight, prefetch_in_flight;

	uint64_t demand;      /* the page of the latest fault */
	uint64_t stream_next; /* the cluster that would continue the last stream of faults */
	unsigned stream_window;
	unsigned prefetch_set;	/* the next of the working set that prefetch looks at */
	uint64_t prefetch_page; /* then the next page */
	bool all_arrived;	/* atomic: with options.prefetch, nothing is missing any more */

	_Atomic uint64_t faults, pages_restored, pages_poisoned, restore_bytes;
	/* The last record covers all for which there is no room. */
	struct poison_record poison[POISON_RECORDS];
	_Atomic unsigned poison_count;
};

static inline uint64_t cluster_of(const struct fault_service *service, uint64_t page)
{
	return page / service->cluster_pages;
}

static inline uint64_t clusters_restored(const struct fault_service *service)
{
	return cluster_of(service, service->restored_pages + service->cluster_pages - 1);
}

static inline void count_up(_Atomic uint64_t *counter, uint64_t by)
{
	atomic_fetch_add_explicit(counter, by, memory_order_relaxed);
}

/* ---- fault.c */

/* Tells the program that the service cannot go on, and ends it. */
_Noreturn void service_fatal(struct fault_service *service, const struct thaw_error *error);
/* Fatal if `result` is an error, except that the region is gone. */
void service_check(struct fault_service *service, int result, const char *doing);
/*
 * Finishes reads. Waiting faults are only noted in faults_wait, so that this may be called while a
 * fault is being answered, when all runs are in use.
 */
void service_wait(struct fault_service *service, enum reader_until until);
/* Begins to read the cluster of a page that is missed, unless it is being read. */
void service_bring(struct fault_service *service, uint64_t page);
/* For the working set: this page was touched. There is a recorder. */
void service_note_access(struct fault_service *service, uint64_t page);

/* ---- fault_pages.c */

/* Begin to read what is absent of some consecutive clusters; zero pages appear at once. */
void span_begin(struct fault_service *service, uint64_t cluster, unsigned clusters, bool prefetch);
/* Has this page still to come? */
bool service_misses(const struct fault_service *service, uint64_t page);
void install_zero_pages(struct fault_service *service, uint64_t first, uint64_t count);
/* The reader's callback. */
void run_completed(void *arg, void *token, int result);
/* Are pages read straight to their place, and not through the reader's buffers? */
bool reads_in_place(const struct region *region);

#endif
