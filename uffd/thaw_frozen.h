/* SPDX-License-Identifier: MIT */
/*
 * thaw_frozen.h - what a heap was at one instant, kept in memory; part of the public interface (thaw.h).
 *
 *	thaw_freeze(heap) -> frozen      contents, size and state blob: they never change again
 *	thaw_options.frozen = frozen     a new heap with these contents, which shares every page that it does not write
 *	thaw_revert(heap, frozen)        a heap that has these contents again
 *
 * A frozen heap is a *base*, a memfd (or a file: thaw_frozen_open()) that heaps map privately, and an *overlay*, copies of
 * the pages that differ from it. So a heap's own pages are what it wrote, and the kernel knows which these are: no
 * thread, no userfaultfd, no signal. The idea: the templates of Firecracker's and Android's zygotes, by hand.
 *
 * Threads: a frozen heap may be used, held and dropped by any number of threads; a heap by one (thaw.h). Errors as there.
 */
#ifndef THAW_FROZEN_H
#define THAW_FROZEN_H

#include "thaw.h"

#ifdef __cplusplus
extern "C" {
#endif

struct thaw_frozen; /* counted: who gets one owns one reference */

/*
 * What the heap is now. Owner thread, while nobody writes the region; the state blob is copied.
 *
 * Without an image, the first time moves all there is into a base, which costs one copy; the heap stays where it is, and
 * its pages are then mapped from there as they are touched. From then on, and for a heap that was opened over a
 * frozen one, it costs a look at what was written since the base (0.3 us for each such page) and a copy of what was
 * written since the last time. When looking has cost as much as a copy of all, a new base is made. With an image: a copy
 * of all that is not zero, each time, for which all pages are read.
 *
 * -EINVAL: the memory of another process; -EMFILE, -ENOMEM, -EFBIG (ulimit -f), -EIO: nothing has changed. A page of an image that
 * cannot be read raises the signal that touching it does.
 */
THAW_PUBLIC int thaw_freeze(struct thaw *heap, const void *state, size_t state_bytes,
			    struct thaw_frozen **frozen, struct thaw_error *error);

/*
 * Make a heap, which has no image, what it was (or another one was). What was written since is gone. Owner thread,
 * while nobody touches the region; thaw_size() is what it was then, also if that is less. Costs what was written since, and
 * what differs from the base. -ERANGE: it is larger than the heap can be; -EINVAL: the heap has an image; -errno: nothing has
 * changed, but for -ENOMEM, after which its contents are not defined until it succeeds.
 */
THAW_PUBLIC int thaw_revert(struct thaw *heap, struct thaw_frozen *frozen,
			    struct thaw_error *error);

/* One more reference; and one less, of which the last frees it. NULL is allowed. */
THAW_PUBLIC struct thaw_frozen *thaw_frozen_hold(struct thaw_frozen *frozen);
THAW_PUBLIC void thaw_frozen_drop(struct thaw_frozen *frozen);

/* The heap's size, a multiple of 64 KiB. */
THAW_PUBLIC size_t thaw_frozen_bytes(const struct thaw_frozen *frozen);
/* The unit that is shared, and that the functions below count in: the kernel's page. */
THAW_PUBLIC size_t thaw_frozen_page_bytes(void);
/* The state blob; owned by the frozen heap. */
THAW_PUBLIC const void *thaw_frozen_state(const struct thaw_frozen *frozen, size_t *bytes);
/* The generation that thaw_frozen_open() found, which is what thaw_opened() of a heap over it tells; else number 0. */
THAW_PUBLIC const struct thaw_generation *thaw_frozen_generation(const struct thaw_frozen *frozen);

struct thaw_frozen_usage {
	uint64_t base_bytes;	/* of the base that are in use; several may share it */
	uint64_t overlay_pages; /* that differ from it */
	uint64_t overlay_bytes; /* the copies of them, some of which others share */
	bool file;		/* the base is a file that other processes share */
};
/* The memory that it takes, and shares: a sum over its pages. */
THAW_PUBLIC void thaw_frozen_usage(const struct thaw_frozen *frozen,
				   struct thaw_frozen_usage *usage);

/* Copy bytes of it; -ERANGE: they are not inside of it. */
THAW_PUBLIC int thaw_frozen_read(const struct thaw_frozen *frozen, uint64_t offset, void *buffer,
				 size_t bytes, struct thaw_error *error);
/*
 * Runs of pages that may be other than zero, in order; all others are zero. A non-zero return of `visit` ends it and is
 * returned; so does -errno.
 */
THAW_PUBLIC int thaw_frozen_pages(const struct thaw_frozen *frozen,
				  int (*visit)(void *arg, uint64_t first, uint64_t pages),
				  void *arg);
/*
 * The pages in which `to` differs from `from`, compared byte by byte, in order, in runs as long as possible. Where both go back to the same base, also by way
 * of newer ones, only what differs from that is looked at, else all. Return values as above.
 */
THAW_PUBLIC int thaw_frozen_diff(const struct thaw_frozen *from, const struct thaw_frozen *to,
				 int (*visit)(void *arg, const struct thaw_page_change *change),
				 void *arg, struct thaw_error *error);

/*
 * A sum of 128 bits over its contents, modulo 2^128, low half first, to which each 4096 bytes add what they come to by themselves:
 * equal contents have equal sums, and what a change does to a sum follows from what is changed. All of a base is read when the first
 * frozen heap over it is asked, later what differs from it.
 */
THAW_PUBLIC int thaw_frozen_sum(const struct thaw_frozen *frozen, uint64_t sum[2],
				struct thaw_error *error);
/* For who knows its sum already, of what it was made of say: others over the same base need not read it all then. */
THAW_PUBLIC void thaw_frozen_sum_is(const struct thaw_frozen *frozen, const uint64_t sum[2]);
/*
 * What the 4096 bytes at the offset 4096 * number come to: the XXH3-128 of the number and of their XXH3-128 (low halves first); 0,
 * if they are zero. It costs no more than reading them.
 */
THAW_PUBLIC void thaw_frozen_sum_of(uint64_t number, const void *bytes, uint64_t sum[2]);

/*
 * One that is made of contents from elsewhere: begin, write any bytes any number of times (others are zero), end. Until
 * its end it is its maker's alone, and of no use but to be written, by several threads too if they write different bytes, ended or
 * dropped. thaw_frozen_begin_over(): others are those of `under`, which it shares; it may be larger or smaller; and one thread at a
 * time writes it, best in order.
 */
THAW_PUBLIC int thaw_frozen_begin(size_t heap_bytes, struct thaw_frozen **frozen,
				  struct thaw_error *error);
THAW_PUBLIC int thaw_frozen_begin_over(const struct thaw_frozen *under, size_t heap_bytes,
				       struct thaw_frozen **frozen, struct thaw_error *error);
THAW_PUBLIC int thaw_frozen_write(struct thaw_frozen *frozen, uint64_t offset, const void *data,
				  size_t bytes, struct thaw_error *error);
THAW_PUBLIC int thaw_frozen_end(struct thaw_frozen *frozen, const void *state, size_t state_bytes,
				struct thaw_error *error);

/*
 * A generation of an image (its number or a name; NULL or "": the newest whole one), also one in use, in memory: all of
 * it is read and checked. Processes of one user that have the same generation open so share it by the page cache: the first of them
 * makes a file beside the image, named .NAME.thaw-flat-UUID-GENERATION-UID, which goes with the last of them; what killed ones
 * left goes with the next. Where that cannot be (a full disk, a directory that cannot be written, a keyed image), it is in
 * memory of this process alone; `alone`, which may be NULL, says why, code 0: it is shared. Reading an image that a
 * program writes holds nothing up. Errors as thaw_view_open() and thaw_freeze().
 */
THAW_PUBLIC int thaw_frozen_open(const char *image, const char *generation,
				 struct thaw_frozen **frozen, struct thaw_error *alone,
				 struct thaw_error *error);

/*
 * Caveats:
 *  - fork(2): a child has the heaps without an image, its own copy of them, and may go on with them if no other thread
 *    was in the library then.
 *  - Descriptors: one for each base, none for a heap or an overlay.
 *  - A base is sealed (fcntl(2), F_SEAL_WRITE ...): nothing can change it. It counts as shared memory of the process, and of the
 *    memory cgroup of whoever made it; a cgroup's limit ends the process, as with all memory.
 *  - thaw_release() on a heap over a base gives memory back at once from 1 MiB on; smaller ranges of a base become zeros that take
 *    memory.
 *  - A heap's pages that were swapped out are found like others; where the kernel has no PAGEMAP_SCAN (before Linux 6.7), by
 *    /proc/self/pagemap (0.02 us for each page of the heap), and without /proc by comparing all of it.
 */

#ifdef __cplusplus
}
#endif
#endif
