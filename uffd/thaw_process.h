/* SPDX-License-Identifier: MIT */
/*
 * thaw_process.h - heaps that are the memory of another process; part of the public interface (thaw.h).
 *
 * A heap that is opened with THAW_PROCESS has no region in this process. It is the private memory of a whole other
 * process, the *guest*: ranges of its address space that come, go, move and change their protection. The number of a
 * page is its address divided by the page size, in images as everywhere; costs follow what is resident or touched.
 *
 *	thaw_open(THAW_PROCESS)   the image and its state; there is no process yet
 *	  fresh:                  start the program; let it make a userfaultfd; thaw_process_attach(no ranges)
 *	  restored:               make a process with empty memory in these ranges, in which nothing runs;
 *	                          let it make a userfaultfd; thaw_process_attach(ranges): from here on its pages arrive
 *	checkpoint: begin -> READY -> stop the guest -> thaw_process_ranges() -> thaw_checkpoint_capture() -> let it go on
 *	thaw_process_detach()     the guest is gone: what was captured is written, nothing more is collected
 *
 * Who stops, starts and makes processes is the caller's business (vm/process); the library reads, writes, tracks and
 * serves memory. What it does of fork(2), munmap(2), mremap(2), madvise(MADV_DONTNEED) of the guest it learns
 * from its userfaultfd. Threads and errors as in thaw.h. The idea of a pager outside of the process: Mach; serving
 * faults of a restored process from its image: CRIU's lazy pages.
 */
#ifndef THAW_PROCESS_H
#define THAW_PROCESS_H

#include "thaw.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * thaw_options.flags: address, max_bytes and guard_bytes are ignored; thaw_base() is NULL; thaw_size() is the size of
 * all ranges; thaw_resize() and thaw_touch() fail.
 */
#define THAW_PROCESS 0x40u
/* thaw_generation.heap_bytes of such heaps: not a size, but where addresses end. */
#define THAW_PROCESS_BYTES (1ull << 47)

/* [start, end): addresses of the guest, multiples of the kernel's page. */
struct thaw_range {
	uint64_t start, end;
};

/*
 * The userfaultfd that the guest has to make for this heap: the flags of userfaultfd(2), and the features of
 * UFFDIO_API. Where userfaultfd(2) says EPERM, /dev/userfaultfd has it. False: none can be used here, for the reason in thaw_status.delivery_why (all is loaded before the guest
 * runs, and every page that is there counts as written: what is stored is what differs).
 */
THAW_PUBLIC bool thaw_process_userfaultfd(const struct thaw *heap, int *flags, uint64_t *features);

struct thaw_process {
	int pid;
	/* Made by the guest as above, after UFFDIO_API, and duplicated here (SCM_RIGHTS): the heap's from now on. -1: none. */
	int userfaultfd;
	/* All has arrived on return, whatever the userfaultfd could do: the guest could not be kept from forking. */
	int load_first;
	/*
	 * Optional: how memory of the guest is read and written where the kernel does not let this process do that
	 * (/proc/PID/mem). While it is stopped, by the owner's thread. All bytes, or a negative code.
	 */
	int (*read)(void *arg, uint64_t address, void *to, size_t bytes);
	int (*write)(void *arg, uint64_t address, const void *from, size_t bytes);
	void *arg;
	/*
	 * Optional: parts of the address space in which nothing is mapped but the ranges of thaw_process_attach(), sorted.
	 * The ranges of each are registered by one call.
	 */
	const struct thaw_range *spans;
	size_t span_count;
};

/*
 * The heap's process. Another one may follow after thaw_process_detach() (the guest has become another program by
 * execve(2)): as for a fresh program there are no ranges then, and nothing of the memory before is in later generations.
 * `ranges`: sorted, disjoint; for a heap that was restored, all that its generation was
 * captured with (thaw_process_ranges), mapped anonymously, readable and writable, and not touched yet. With
 * userfaultfd they arrive when they are touched, by the program or the kernel, and may be given their protection at
 * once; else all has arrived on return.
 */
THAW_PUBLIC int thaw_process_attach(struct thaw *heap, const struct thaw_process *process,
				    const struct thaw_range *ranges, size_t count,
				    struct thaw_error *error);

/*
 * Without CAP_SYS_PTRACE nobody is told of forks (the features above lack UFFD_FEATURE_EVENT_FORK): the guest's pages
 * arrive as they are touched, and all others in the background, but a forked child would read those that are missing as
 * zeros. True until there are none: up to then the guest must not fork (MADV_DONTFORK on all of its ranges is a way that
 * no system call gets around).
 */
THAW_PUBLIC bool thaw_process_must_not_fork(const struct thaw *heap);

/*
 * What belongs to the guest's memory now: sorted, disjoint, private or shared with nobody else. Before each capture,
 * while the guest is stopped. What is new in it is tracked from now on, and all of it that is there counts as written;
 * what is not in it any more is in no later generation. -ESRCH: the guest is gone.
 */
THAW_PUBLIC int thaw_process_ranges(struct thaw *heap, const struct thaw_range *ranges,
				    size_t count, struct thaw_error *error);

/*
 * Memory of the guest that is not this heap's and that the caller watches for writes himself, by another userfaultfd with
 * UFFD_FEATURE_WP_ASYNC: the heap's searches would take what it is to tell. Sorted, disjoint, in place of what was
 * given before; while the guest is stopped. -ENOMEM: it is as it was.
 */
THAW_PUBLIC int thaw_process_apart(struct thaw *heap, const struct thaw_range *ranges,
				   size_t count);

/*
 * After thaw_process_ranges(), in THAW_READY: is so much of it new that copying it would stop the guest for long? If so the
 * checkpoint copies again (THAW_COPYING): let the guest go on, and stop it again, for other ranges, in THAW_READY. False, after a
 * few times in any case: capture now.
 */
THAW_PUBLIC bool thaw_process_copies_first(struct thaw *heap);

/*
 * The guest is gone, or about to be: never touched again. Any later capture has the memory of the one before, until
 * another process is attached.
 */
THAW_PUBLIC void thaw_process_detach(struct thaw *heap);

#ifdef __cplusplus
}
#endif
#endif
