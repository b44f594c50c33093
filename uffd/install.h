/* SPDX-License-Identifier: MIT */
/*
 * install.h - making pages appear in a region: one function that classifies the results of UFFDIO
 * ioctls, and the operations built on it. Used by the fault service's thread, and wp-sync tracking.
 */
#ifndef UFFD_INSTALL_H
#define UFFD_INSTALL_H

#include "region.h"

/* What one UFFDIO_{COPY,ZEROPAGE,POISON,WRITEPROTECT} did. */
enum install_outcome {
	INSTALL_DONE,	 /* all of the range */
	INSTALL_PARTIAL, /* `advanced` bytes are done: continue behind them */
	INSTALL_EXISTS, /* the page at `advanced` exists already (another fault, or a race): wake its waiters and skip it */
	INSTALL_RETRY, /* the address space was changing (EAGAIN): repeat, behind `advanced` */
	INSTALL_GONE,  /* the address space is going away: nobody waits any more */
	INSTALL_FATAL, /* anything else: a bug, or no memory */
};

/*
 * `result`: the ioctl's return (0 or -errno). `done`: the bytes field the kernel wrote back: a
 * length, or -errno, or 0 if the kernel did not get to write it. `length`: what was asked. Pure;
 * see ioctl_userfaultfd(2).
 */
enum install_outcome install_classify(int result, int64_t done, uint64_t length,
				      uint64_t *advanced);

/*
 * Install `count` pages from `first` on, watched for writes, and wake whoever waits for them. Pages
 * that exist already are skipped.
 *   pages   their contents are copied from `source`
 *   zero    zero pages (under userfaultfd not write-protected: the kernel cannot; they count as written)
 *   poison  from now on touching them raises SIGBUS, or where the kernel cannot do that, SIGSEGV
 * 0, -ESRCH if the address space is going away, or -errno.
 */
int install_pages(struct region *region, uint64_t first, uint64_t count, const void *source);
int install_zero(struct region *region, uint64_t first, uint64_t count);
int install_poison(struct region *region, uint64_t first, uint64_t count);

enum install_operation { INSTALL_COPY, INSTALL_ZERO, INSTALL_POISON };
/*
 * The same for another process (region->process), whose address space may change at any time: as many
 * pages as can be installed now; *done tells how many are there, one behind the other. `protect`: watched
 * for writes. 0: all; -EAGAIN: first its events have to be read; -ENOENT: nothing is registered where the next
 * page belongs; -ESRCH: the process is gone; -errno.
 */
int install_some(const struct region *region, enum install_operation operation, uint64_t first,
		 uint64_t count, const char *source, bool protect, uint64_t *done);
/*
 * Changes nothing and asks whether memory of that process is registered at this page: 1 or 0; -EAGAIN,
 * -ESRCH as above. (UFFDIO_CONTINUE, Linux 5.13, is not for private memory; before that, always 1.)
 */
int install_probe(const struct region *region, uint64_t page);

/* Take the write protection off (and wake the writer), or put it on. Under userfaultfd. */
int install_protection(struct region *region, uint64_t first, uint64_t count, bool protect);
/* Wake whoever waits for these pages, which are there. */
int install_wake(struct region *region, uint64_t first, uint64_t count);

#endif
