/* SPDX-License-Identifier: MIT */
/*
 * process_memory.h - the memory of another process, the guest of a heap with THAW_PROCESS (thaw_process.h): which
 * ranges of it are kept, reading and writing them, what is there, and what the guest gave up.
 *
 * A region of that kind (region.h) has one of these, no base, and pages numbered by address. Everything works from
 * the attachment on and fails with -ESRCH from process_memory_leave() on; `ranges` and `removed` are behind the lock, since
 * the fault service's thread learns of munmap(2) and its like at any time.
 *
 * A page that is missing (not delivered yet) is never read from here: only pages that are there are collected.
 */
#ifndef UFFD_PROCESS_MEMORY_H
#define UFFD_PROCESS_MEMORY_H

#include <pthread.h>

#include "bitmap.h"
#include "error.h"
#include "thaw_process.h"

struct region;

/* The addresses that a process can have; but for the last page, which no kernel gives out. */
#define PROCESS_BYTES (1ull << 47)

enum process_range_kind {
	RANGE_ANONYMOUS, /* what is in no page table is zero */
	RANGE_FILE,	 /* private; what is in no page table is in the file */
	/* Shared; what is in no page table may be in the object, and other mappings write it. Always counts as written. */
	RANGE_SHARED,
	/* Nobody watches it (it cannot be registered): what is there always counts as written. */
	RANGE_UNWATCHED,
};

struct process_range {
	uint64_t start, end; /* addresses */
	enum process_range_kind kind;
};

struct process_memory {
	struct thaw_process process; /* its userfaultfd is the region's */
	uint32_t page_bytes;
	int pagemap, mem, stat; /* /proc/PID/; the last two: -1 until they are needed */
	/* From Linux 6.12 on, at the latest, the last field of `stat` tells of SIGKILL as soon as that was sent. */
	bool stat_tells_at_once;
	bool attached;
	bool scans;	/* PAGEMAP_SCAN */
	uint64_t epoch; /* how many processes there were before this one; see struct checkpointer */
	_Atomic bool gone;	/* process_memory_leave() */
	void *answers;		/* of PAGEMAP_SCAN; with the lock `access` */
	pthread_mutex_t access; /* while the guest's memory is read */

	pthread_mutex_t lock;
	struct process_range
		*ranges; /* sorted, disjoint; what is registered, where there is tracking */
	size_t count;
	struct thaw_range *apart; /* thaw_process_apart(); the checkpoint's side alone */
	size_t apart_count;
	struct bitmap scratch;
	struct bitmap removed; /* given up since the last capture, or not in a range any more */
};

struct process_memory *process_memory_create(uint32_t page_bytes);
void process_memory_destroy(struct process_memory *memory);

/* A file of /proc/PID/. */
int process_memory_open(const struct process_memory *memory, const char *name, int flags);
/* Once. The region's userfaultfd is set. `ranges`: anonymous memory in which nothing is yet. */
int process_memory_attach(struct region *region, const struct thaw_process *process,
			  const struct thaw_range *ranges, size_t count, struct thaw_error *error);
/* Another process takes its place: nothing is left of what is known. After process_memory_leave(). */
void process_memory_renew(struct process_memory *memory);
/* Never touch it again. Waits for whoever does. Any thread but the fault service's. */
void process_memory_leave(struct process_memory *memory);
/* Is it there, with all of its memory? After a look at several things: was it during all of that? */
bool process_memory_alive(const struct process_memory *memory);
/*
 * After all of it was read: was it of one instant? Not if the process has begun to end meanwhile: the kernel writes
 * into the memory of threads that end (0 for a thread's number, marks into futexes it held). 0, -ESRCH or -errno.
 */
int process_memory_was_still(struct process_memory *memory);

/* All in these ranges has arrived, and was read by nobody: watch it for writes, from here on. */
int process_memory_loaded(struct region *region, struct thaw_error *error);
/*
 * These ranges are all there is now; the guest is stopped. What is new in them is registered, and its pages are added
 * to `written`; what is no more in them is removed. -ESRCH; -errno.
 */
int process_memory_update(struct region *region, const struct thaw_range *ranges, size_t count,
			  struct bitmap *written, struct thaw_error *error);
/* Memory that is not searched: sorted, disjoint. */
int process_memory_apart(struct process_memory *memory, const struct thaw_range *ranges,
			 size_t count);
/* Of all ranges. */
uint64_t process_memory_bytes(struct process_memory *memory);

/* The guest gave pages up; and, `unmapped`, whatever comes there later is new. The fault service's thread. */
void process_memory_removed(struct process_memory *memory, uint64_t first, uint64_t count,
			    bool unmapped);
/*
 * At a capture: moves what was removed into `gone`, and adds the pages of it that are there (again) to `written`, as
 * well as those that always count as written.
 */
int process_memory_take_removed(struct process_memory *memory, struct bitmap *gone,
				struct bitmap *written);
/* ... which was not made durable. */
void process_memory_put_back(struct process_memory *memory, const struct bitmap *gone);
/* Move those of `pages` that were removed since the last capture to `later`. */
void process_memory_set_aside(struct process_memory *memory, struct bitmap *pages,
			      struct bitmap *later);
/* Clear what is in no range. */
void process_memory_clip(struct process_memory *memory, struct bitmap *pages);
/* Add every page that is there; without any tracking. */
int process_memory_present(struct process_memory *memory, struct bitmap *pages);

/*
 * Copy pages, of those in `pages` from *next on, to `to`, which has room for so many. How many; *next is behind them.
 * Those that cannot be read (they have vanished) are cleared in `pages`, and set in `vanished`. -ESRCH; -errno.
 */
int64_t process_memory_read(struct process_memory *memory, struct bitmap *pages, uint64_t *next,
			    unsigned room, void *to, struct bitmap *vanished);
/* All bytes, into memory whatever its protection is; or -errno. */
int process_memory_write(struct process_memory *memory, uint64_t address, const void *from,
			 size_t bytes);

#endif
