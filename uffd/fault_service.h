/* SPDX-License-Identifier: MIT */
/*
 * fault_service.h - what the files of the fault service share: fault.c (its thread), fault_demand.c (what a fault
 * brings), fault_prefetch.c, fault_ahead.c (what nobody waits for),
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
#include "image/extent_codec.h"
#include "page.h"
#include "reader.h"

#define RUN_BYTES (256u << 10) /* the longest single read */
#define RUN_PAGES (RUN_BYTES / PAGE_BYTES_LEAST)
#define RUNS 16u	 /* reads in flight at most, besides those that are ahead of demand */
#define RUNS_FILLING 32u /* the same of a file of which parts come over a network (thaw_fill.h) */
#define POISON_RECORDS 32u
#define PARTLY 64u /* a second fault in one of so many clusters brings the rest of it */

struct run_page {
	uint64_t page;
	struct extent extent;
};

/*
 * One read, from a block on: pages in the order of the file. Between them may be little that is not wanted, unless they
 * are read in place. What is packed is never read in place.
 */
struct read_run {
	uint64_t offset;
	unsigned bytes, done_bytes; /* of the file */
	unsigned count, installed;  /* pages; so many of them are where they belong, or given up */
	unsigned alone;		    /* which page is read alone, counted from 1; 0: all together */
	bool used, ahead;	    /* it has pages; nobody asked for them */
	bool packed;		    /* its first page is */
	bool stream;		    /* ahead of a stream, which will ask at once */
	bool rest;		    /* of prefetch, when nothing of the working set is left */
	bool is_read;		    /* ahead: all of it is in the buffer */
	bool direct;		    /* the read that is under way is past the page cache */
	int result;		    /* ahead: > 0, or why it could not be read */
	uint64_t good;		    /* ahead: whose checksums are right */
	char *buffer;		    /* where the bytes go */
	char *decoded; /* where packed pages go, each to its turn: RUN_BYTES; or straight to their place */
	struct run_page pages[RUN_PAGES];
	char *contents[RUN_PAGES]; /* those of the pages that were found right */
	struct read_run *next;	   /* of a list */
};
_Static_assert(RUN_PAGES <= 64, "one bit for each");

struct poison_record {
	uint64_t first, count;
	struct thaw_error error;
};

struct fault_kmod;    /* fault_kmod.c */
struct fault_process; /* fault_process.h */
struct fault_ahead;   /* fault_ahead.c */
struct prefetch_plan; /* fault_prefetch.c */

struct fault_service {
	struct fault_options options;
	struct region *region;
	uint64_t restored_pages;
	unsigned cluster_pages; /* in a cluster */
	pthread_t thread;
	struct reader *reader;
	bool started; /* the thread */
	_Atomic bool stop;
	struct fault_requests requests; /* where pages come by SIGSEGV */
	unsigned arrivals;		/* of closed pages; see block_clusters() */
	bool faults_wait;		/* the reader has said so */
	bool waited; /* for reads within a step: it may have taken the wake of another thread */
	struct fault_kmod *kmod; /* where pages come by the module; else NULL */
	struct fault_process
		*process; /* of another process; then `arrived` is not used; else NULL */

	struct bitmap arrived; /* with the module: those that the service installed or poisoned */
	struct bitmap reading; /* pages of runs of this thread that are in flight */
	struct extent_scratch scratch; /* of this thread */
	char *decoded;		       /* of the runs of this thread, one at a time: RUN_BYTES */
	struct read_run *free_runs, *runs;
	unsigned runs_most; /* RUNS, or RUNS_FILLING */
	unsigned in_flight, prefetch_in_flight;

	uint64_t demand;       /* the page of the latest fault */
	uint64_t stream_next;  /* the cluster that would continue the last stream of faults */
	uint64_t stream_noted; /* before it all are in the working set that is recorded */
	unsigned stream_window;
	unsigned prefetch_set;	/* the next of the working set that prefetch looks at */
	uint64_t prefetch_page; /* then the next page */
	bool all_arrived;	/* atomic: with options.prefetch, nothing is missing any more */

	/* Where faults come by userfaultfd: fault_demand.c, fault_ahead.c, fault_prefetch.c. */
	bool page_first; /* that is so */
	int pages_fd;	 /* of the image, for reads that do not wait; random access is expected */
	int direct_fd; /* the same past the page cache; -1: not for this image; open as long as any reader */
	bool direct;		 /* reads go there: the file system has not refused one yet */
	bool in_vain;		 /* the page cache did not have what was looked for last */
	uint64_t partly[PARTLY]; /* clusters that faults brought in part; the latest is the last */
	unsigned partly_count;
	uint64_t answered_ns; /* when the latest fault was */
	uint64_t asked_ns;    /* when the one that is being brought was found */
	uint64_t pace_ns;     /* from an answer to the next one, on average */
	uint64_t
		prefetch_at_ns; /* not before, while faults follow each other: see background_step() */
	struct fault_ahead *ahead; /* NULL: not started */
	bool ahead_failed;
	struct prefetch_plan *plan;

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

/* Past the page cache only whole blocks can be read; of the last one of the file, what there is. */
static inline uint64_t read_bytes(uint64_t bytes, bool direct)
{
	return direct ? (bytes + PAGE_BYTES_LEAST - 1) / PAGE_BYTES_LEAST * PAGE_BYTES_LEAST
		      : bytes;
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
void poison_pages(struct fault_service *service, uint64_t first, uint64_t count, const char *why);
/* A run without pages. Waits for a read if all are in use. */
struct read_run *run_take(struct fault_service *service);
/* May this page be read together with those of the run? If so, it is added. */
bool run_add(const struct fault_service *service, struct read_run *run, uint64_t page,
	     const struct extent *extent, uint32_t gap);
/* If all of it is in the page cache, it is installed at once, and the run is free again; else nothing is done. */
bool run_now(struct fault_service *service, struct read_run *run);
/* Reads and installs it, whenever its bytes come. */
void run_wait(struct fault_service *service, struct read_run *run);
void run_begin(struct fault_service *service, struct read_run *run);
/* The bytes of the file that these pages of it are. */
uint64_t run_stored_bytes(const struct read_run *run, unsigned from, unsigned to);
/* The reader's callback. */
void run_completed(void *arg, void *token, int result);
/* The next pages of a run whose bytes are there, up to page number `to` of it. */
void run_install(struct fault_service *service, struct read_run *run, unsigned to);
/* Those of its pages, now; they are passed over when it is their turn. */
void run_install_some(struct fault_service *service, struct read_run *run, unsigned from,
		      unsigned to);
/* Are pages read straight to their place, and not through the reader's buffers? */
bool reads_in_place(const struct region *region);

/* ---- fault_demand.c: faults that userfaultfd reports */

/* Brings a page that is missed, and perhaps what is around it. */
void demand_bring(struct fault_service *service, uint64_t page);

/* ---- fault_prefetch.c */

/* Begin more prefetch. true: there may be more to do at once. */
bool prefetch_step(struct fault_service *service);
void prefetch_stop(struct fault_service *service);
/* Is it at what nobody has asked for at the last start either? */
static inline bool prefetch_is_rest(const struct fault_service *service)
{
	return service->prefetch_page;
}

/* ---- fault_ahead.c: reads that nobody waits for yet, on a thread of their own */

/* Is there a thread for it? It is started if it never was. */
bool ahead_ready(struct fault_service *service);
/* A run to be filled, or NULL: enough is under way, or there is no thread for it. */
struct read_run *ahead_take(struct fault_service *service, bool stream);
/* Reads it; it comes back in ahead_install(). */
void ahead_begin(struct fault_service *service, struct read_run *run);
/* It was taken and is not needed. */
void ahead_release(struct fault_service *service, struct read_run *run);
/* Is this page being read for a stream, so that who asks for it need only wait? */
bool ahead_streams(const struct fault_service *service, uint64_t page);
/* If prefetch has read it already, it is installed, with what of its cluster was read together with it. */
bool ahead_bring(struct fault_service *service, uint64_t page);
/* Is it being read at all? */
bool ahead_reads(const struct fault_service *service, uint64_t page);
/* Install a few pages of what was read for streams, and by prefetch. true: there may be more. */
bool ahead_install_stream(struct fault_service *service);
bool ahead_install_prefetch(struct fault_service *service);
bool ahead_idle(const struct fault_service *service);
void ahead_stop(struct fault_service *service);

#endif
