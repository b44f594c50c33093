/* SPDX-License-Identifier: MIT */
/*
 * thaw_mirror.h - which blocks of an image file have changed, for keeping a copy of it elsewhere; public (thaw.h).
 *
 *	thaw_mirror_open(heap) -> each write is noted; thaw_mirror_wait(): until something newer is durable
 *	thaw_mirror_take()     -> what was written since the last take, at an instant between two commits
 *	thaw_mirror_read()     -> ... as it was at that instant, while the program goes on; then _check() and _done()
 *
 * Whoever puts the blocks of each take into their places in a copy, in order, has after each of them an image with all the
 * generations that this one had at that instant, whole. Nobody needs to know what is in it. The file is copy-on-write: but for
 * header and log no block is overwritten that the instant still needs, as long as there is room to hold them back. The
 * idea: dirty bitmaps of block devices, as in QEMU and DRBD.
 *
 * Threads: open and close are the owner's of the heap; all else is any thread's that does not commit. One take at a time. A
 * commit waits for a take only while that copies the header and what is new in the log. Errors: thaw.h.
 */
#ifndef THAW_MIRROR_H
#define THAW_MIRROR_H

#include "thaw.h"

#ifdef __cplusplus
extern "C" {
#endif

#define THAW_MIRROR_BLOCK 4096u

struct thaw_mirror;
struct thaw_take;

/*
 * Of a heap with an image, of either kind. What the heap was opened with is made durable first (thaw_settle()). All of the file
 * counts as written, but for its holes.
 *
 * `hold_bytes`: while there is a take, so many bytes that nothing retained needs any more are held back for it, besides a quarter of
 * what is retained: the file may be longer by them. If there are more, the take is void (-ESTALE). 0: 16 MiB. A mirror that
 * has to send a large file over a slow line wants more.
 *
 * -EROFS: there is no image; -EBUSY: it has a mirror already; -EAGAIN: a commit has failed and is in doubt (format.h), so open it
 * after the next one; -ENOMEM; and what thaw_settle() says.
 */
THAW_PUBLIC int thaw_mirror_open(struct thaw *heap, uint64_t hold_bytes,
				 struct thaw_mirror **mirror, struct thaw_error *error);
/*
 * The same of an image that no program has open: it is locked meanwhile (THAW_EINUSE), nothing is committed to it, and there is one
 * take, or another one of the same. Who wants a copy of one that is in use makes a clone of it first (thaw_image_clone()).
 */
THAW_PUBLIC int thaw_mirror_open_file(const char *path, struct thaw_mirror **mirror,
				      struct thaw_error *error);
/*
 * No take is left, and no thread is in a call. Before thaw_close(); for the newest generation to be listed, so that closing the
 * heap writes nothing more, thaw_list() and a last take come before. NULL is allowed.
 */
THAW_PUBLIC void thaw_mirror_close(struct thaw_mirror *mirror);

/* ---- what there is to copy */

struct thaw_mirror_news {
	uint64_t
		changes; /* how often something became durable since it was opened: a generation, or names */
	uint64_t generation; /* the newest durable one; 0: none yet */
	uint64_t commit;     /* the sequence of the newest header slot, which never goes down */
};
/* What has become durable so far. */
THAW_PUBLIC void thaw_mirror_news(struct thaw_mirror *mirror, struct thaw_mirror_news *news);
/*
 * Until there are more changes than so many. `timeout_ms`: -1 is for ever. 1: there are; 0: not in that time;
 * -EINTR: thaw_mirror_wake(). `news` may be NULL.
 */
THAW_PUBLIC int thaw_mirror_wait(struct thaw_mirror *mirror, uint64_t changes, int timeout_ms,
				 struct thaw_mirror_news *news);
/* A thaw_mirror_wait(), this one or the next, comes back. Any thread. */
THAW_PUBLIC void thaw_mirror_wake(struct thaw_mirror *mirror);
/*
 * An eventfd(2), not blocking, that becomes readable with each change: for poll(2); whoever has read it asks for the news.
 * The mirror's. Or -errno.
 */
THAW_PUBLIC int thaw_mirror_fd(struct thaw_mirror *mirror);

/*
 * These blocks are in the copy already: so says who has compared them. Only before the first take; what was written since the
 * mirror was opened stays dirty. -EBUSY: there was a take.
 */
THAW_PUBLIC int thaw_mirror_clean(struct thaw_mirror *mirror, uint64_t first, uint64_t count);
/* The next take has these blocks, too, but for those that are free. Any time. -ENOMEM. */
THAW_PUBLIC int thaw_mirror_dirty(struct thaw_mirror *mirror, uint64_t first, uint64_t count);

/* ---- one take */

struct thaw_mirror_run {
	uint64_t first, count; /* blocks */
};

struct thaw_take_info {
	struct thaw_mirror_news news; /* at that instant */
	uint64_t
		file_bytes; /* the copy has to have as many; behind what is copied they mean nothing */
	uint8_t uuid[16];
	char engine[64];
	uint32_t page_bytes; /* of the heap */
	/*
	 * What was written since the last take, ascending, never adjacent; and of the rest what has become free, which a copy may
	 * forget: nothing refers to it. The header, blocks 0 and 1, is always among the former. Blocks that mean nothing may be, too.
	 */
	const struct thaw_mirror_run *dirty, *freed;
	size_t dirty_count, freed_count;
	uint64_t dirty_blocks, freed_blocks;
};

/*
 * Waits for the end of the commit that is just being made durable, if any. A take before the first generation has an empty
 * image. -EBUSY: there is one already; THAW_EOVERWRITTEN: somebody has written into the file; -EIO: its header cannot be read, or
 * is in doubt after a write that failed, until the next commit; -ENOMEM, -errno.
 */
THAW_PUBLIC int thaw_mirror_take(struct thaw_mirror *mirror, struct thaw_take **take,
				 struct thaw_error *error);
/* Constant until it is done. */
THAW_PUBLIC const struct thaw_take_info *thaw_mirror_info(const struct thaw_take *take);
/*
 * Bytes of the file as they were at that instant; what lies behind its end, or means nothing, may be anything. Several threads may
 * read. -ESTALE: the take is void; then what was read before is so, too: nothing of it may be used. THAW_EOVERWRITTEN:
 * somebody has shortened the file. -errno, which fails this read alone.
 */
THAW_PUBLIC int thaw_mirror_read(struct thaw_take *take, uint64_t offset, void *buffer,
				 size_t bytes);
/* 0, or -ESTALE: after all of it was read and before anything that was read is relied upon. */
THAW_PUBLIC int thaw_mirror_check(struct thaw_take *take);
/*
 * Frees it. Unless it is `confirmed`, which is that its blocks are in the copy for good, its dirty blocks are in the next take,
 * too, and so are those that it told to be free. One that is void is never confirmed.
 */
THAW_PUBLIC void thaw_mirror_done(struct thaw_take *take, bool confirmed);

/*
 * What a restore of the newest generation of that take reads first, at most so many bytes: blocks, in runs in the order of their use, each
 * block once: header, commit record, log, state; the nodes above the leaves, up to a quarter; the pages of the working set that was
 * recorded, each after the leaf that leads to it; where none was recorded those pages that were written last. malloc'ed, the caller frees. A
 * part of the image that is damaged is left out. How many runs; -ESTALE, -ENOMEM, -errno.
 */
THAW_PUBLIC int thaw_image_hot_blocks(struct thaw_take *take, uint64_t most_bytes,
				      struct thaw_mirror_run **runs, struct thaw_error *error);

/*
 * Caveats:
 *  - A take may hold blocks of a commit that is under way, which nothing refers to yet.
 *  - The file's length may change between two takes either way.
 *  - fork(2): a child has no mirror.
 */

#ifdef __cplusplus
}
#endif
#endif
