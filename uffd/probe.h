/* SPDX-License-Identifier: MIT */
/*
 * probe.h - what this kernel and these privileges allow: asked once per process, kept in one
 * struct.
 *
 * Each capability can be denied from the environment, so that every fallback is tested on every
 * kernel:
 *	THAW_WITHOUT=userfaultfd,io_uring,wp-async,pagemap-scan,minor-shmem,poison
 * and each choice can be forced: THAW_TRACKER=wp-async|wp-sync, THAW_BACKING=memfd|anonymous.
 */
#ifndef UFFD_PROBE_H
#define UFFD_PROBE_H

#include "error.h"

enum backing { BACKING_MEMFD, BACKING_ANONYMOUS };
enum tracker_kind { TRACKER_WP_ASYNC, TRACKER_WP_SYNC, TRACKER_MPROTECT };
/* How a page that is not there yet is asked for. */
enum delivery {
	DELIVERY_UFFD,	    /* userfaultfd: by everyone, the kernel included */
	DELIVERY_UFFD_USER, /* userfaultfd without privileges: not by the kernel */
	DELIVERY_SIGNAL,    /* SIGSEGV and a handler: not by the kernel */
	DELIVERY_EAGER,	    /* it is not: every page is there before the heap is open */
};
enum reader_kind { READER_URING, READER_THREADS };

/* On which rung of each ladder a heap stands. */
struct rungs {
	enum delivery delivery;
	enum backing backing;
	enum tracker_kind tracker;
	enum reader_kind reader;
	bool poison; /* UFFDIO_POISON; else PROT_NONE */
};

struct probe {
	uint64_t uffd_features; /* of UFFDIO_API; 0 when userfaultfd cannot be opened */
	int uffd_error;		/* -errno of userfaultfd(2) */
	int uring_error;	/* -errno of io_uring_setup(2) */
	bool pagemap_scan;
};

const struct probe *probe_get(void);

/* Opens a userfaultfd with exactly these features. Returns the descriptor or -errno. */
int probe_open_uffd(uint64_t features);

/* Which back ends to use: the best that the probe found, or what the environment forces.
 * THAW_EKERNEL with one line that says what is missing. */
int probe_choose(struct rungs *rungs, struct thaw_error *error);

#endif
