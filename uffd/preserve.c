/* SPDX-License-Identifier: MIT */
/*
 * preserve.c - see preserve.h. The capture fills it, the checkpoint's thread empties it, and writers may be stopped in it:
 * in the handler of SIGSEGV or in the fault service, on threads that hold nothing, with every signal blocked.
 *
 * What decides between copying a page at the capture and stopping its writer later: to close a piece costs the kernel a
 * walk over its pages, each some 90 ns (mprotect(2) looks at the struct page of each, Linux 6.18), whose memory no cache
 * holds; to copy a page 0.7 us. A closed piece costs its first writer 14 us more.
 *
 * Must never: touch the region while holding the lock, but for reading pages that are there; open a piece of which
 * something is pending or busy.
 */
#define _GNU_SOURCE
#include "preserve.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <unistd.h>

#include "sys.h"

#define COPYING UINT64_MAX
#define PIECE_BYTES (256u << 10)
#define COPIED_AT_ONCE 1024u /* so few pages are copied at the capture in 0.7 ms */
/*
 * As many of a piece are copied in the time that it takes to close it, if two threads copy; alone between open ones it takes
 * 25 us, and so few between two that are closed are closed with them.
 */
#define COPIED_OF_PIECE 16u
#define BRIDGE 8u
#define HURRY 16u	    /* pieces: 4 MiB */
#define OPENED_SINGLY 4096u /* writers open larger parts then: each is two mappings more */
#define OPENED_MOST 16u
#define TRIES 5u
#define LIMIT_LEAST (64ull << 20)
#define LIMIT_MOST (1ull << 30)
#define KEPT_LEAST (16u << 20)

static const char *page_at(const struct preserver *preserver, uint64_t page)
{
	return preserver->region->alias + page * preserver->region->page_bytes;
}

static char *slot_at(const struct preserver *preserver, uint64_t slot)
{
	return preserver->slots + slot * preserver->region->page_bytes;
}

int preserver_init(struct preserver *preserver, const struct region *region, bool touches,
		   size_t limit)
{
	const struct backends *backends = &region->backends;
	uint64_t pages = region->max_bytes / region->page_bytes;
	uint64_t memory = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE) / 16;

	*preserver = (struct preserver){.region = region,
					.lock = PTHREAD_MUTEX_INITIALIZER,
					.changed = PTHREAD_COND_INITIALIZER};
	memory = memory < LIMIT_LEAST ? LIMIT_LEAST : memory > LIMIT_MOST ? LIMIT_MOST : memory;
	preserver->limit = limit ? limit : memory;
	if (preserver->limit < 2ull * PRESERVE_BATCH * region->page_bytes)
		preserver->limit = 2ull * PRESERVE_BATCH * region->page_bytes;
	preserver->piece = PIECE_BYTES / region->page_bytes;
	if (region->process)
		return 0;
	/* Without the kernel's poison, pages that cannot be read are closed for ever. */
	preserver->shields =
		touches && backends->poison &&
		(backends->tracker == TRACKER_WP_ASYNC || backends->tracker == TRACKER_KMOD);
	preserver->stops = preserver->shields || backends->tracker == TRACKER_WP_SYNC ||
			   backends->tracker == TRACKER_MPROTECT;
	if (preserver->stops &&
	    (bitmap_init(&preserver->pending, pages) || bitmap_init(&preserver->busy, pages) ||
	     bitmap_init(&preserver->closed, pages / preserver->piece + 1)))
		return -ENOMEM;
	return 0;
}

static size_t ring_bytes(const struct preserver *preserver)
{
	return preserver->room * (preserver->region->page_bytes + sizeof(*preserver->pages));
}

static void ring_free(struct preserver *preserver)
{
	if (preserver->slots)
		munmap(preserver->slots, ring_bytes(preserver));
	preserver->slots = NULL;
	preserver->room = preserver->used = preserver->kept = 0;
}

void preserver_free(struct preserver *preserver)
{
	ring_free(preserver);
	bitmap_free(&preserver->pending);
	bitmap_free(&preserver->busy);
	bitmap_free(&preserver->closed);
}

int preserver_reserve(struct preserver *preserver, uint64_t count)
{
	uint64_t unit = (1u << 20) / preserver->region->page_bytes;
	void *at;

	if (preserver->slots && count <= preserver->room)
		return 0;
	ring_free(preserver);
	if (sys_injected(SYS_CALL_MMAP))
		return -ENOMEM;
	preserver->room = (count + unit) / unit * unit;
	at = mmap(NULL, ring_bytes(preserver), PROT_READ | PROT_WRITE,
		  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (at == MAP_FAILED) {
		preserver->room = 0;
		return -ENOMEM;
	}
	preserver->slots = at;
	preserver->pages = (uint64_t *)slot_at(preserver, preserver->room);
	return 0;
}

/* No handler of the program runs on this thread meanwhile: it may write to the region, and wait for this lock. */
static void lock_alone(struct preserver *preserver, sigset_t *before)
{
	sigset_t all;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, before);
	pthread_mutex_lock(&preserver->lock);
}

static void unlock_alone(struct preserver *preserver, const sigset_t *before)
{
	pthread_mutex_unlock(&preserver->lock);
	pthread_sigmask(SIG_SETMASK, before, NULL);
}

/* ---- the ring; with the lock */

static uint64_t ring_left(const struct preserver *preserver)
{
	return preserver->room - (preserver->head - preserver->tail);
}

static uint64_t ring_add(struct preserver *preserver, uint64_t page)
{
	uint64_t slot = preserver->head++ % preserver->room;

	preserver->pages[slot] = page;
	if (slot >= preserver->used)
		preserver->used = slot + 1;
	return slot;
}

/* More than was touched lately goes back to the kernel. */
static void ring_trim(struct preserver *preserver)
{
	uint32_t page_bytes = preserver->region->page_bytes;
	uint64_t touched = preserver->used > preserver->kept ? preserver->used : preserver->kept;
	uint64_t keep = preserver->kept / 2 > preserver->used ? preserver->kept / 2
							      : preserver->used;

	if (keep > preserver->limit / page_bytes)
		keep = preserver->limit / page_bytes;
	if (keep < KEPT_LEAST / page_bytes)
		keep = KEPT_LEAST / page_bytes;
	if (preserver->slots && touched > keep)
		(void)madvise(slot_at(preserver, keep), (touched - keep) * page_bytes,
			      MADV_DONTNEED);
	preserver->kept = touched < keep ? touched : keep;
	preserver->used = 0;
}

/* ---- bits of a piece; it never crosses a word */

static uint64_t piece_bits(const struct bitmap *map, uint64_t first, unsigned count)
{
	uint64_t mask = count < 64 ? (1ull << count) - 1 : ~0ull;

	if (first >= map->limit || !bitmap_has_part(map, first / BITMAP_PART_BITS))
		return 0;
	return map->words[first / 64] >> first % 64 & mask;
}

static void piece_set(struct bitmap *map, uint64_t first, uint64_t bits)
{
	for (; bits; bits &= bits - 1)
		bitmap_set(map, first + (uint64_t)__builtin_ctzll(bits));
}

static void piece_clear(struct bitmap *map, uint64_t first, uint64_t bits)
{
	if (bits)
		map->words[first / 64] &= ~(bits << first % 64);
}

/* ---- closed pieces; with the lock */

static int protect(const struct preserver *preserver, uint64_t first, uint64_t end, int protection)
{
	const struct region *region = preserver->region;
	size_t from = first * preserver->piece * region->page_bytes;
	size_t to = end * preserver->piece * region->page_bytes;

	if (to > region_bytes(region))
		to = region_bytes(region);
	return from < to ? sys_mprotect(region->base + from, to - from, protection) : 0;
}

static int pieces_close(struct preserver *preserver, uint64_t first, uint64_t end)
{
	int code = protect(preserver, first, end, PROT_READ);

	preserver->changes++;
	/* After a failure some of it may be closed: so all of it counts as that. */
	bitmap_set_range(&preserver->closed, first, end - first);
	return code;
}

/* Those of which nothing is busy; nor pending: the caller's care. */
static int pieces_open(struct preserver *preserver, uint64_t first, uint64_t end)
{
	int code = 0;

	while (!code && (first = bitmap_next(&preserver->closed, first)) < end) {
		uint64_t to = bitmap_next_clear(&preserver->closed, first, end);
		uint64_t busy = bitmap_next(&preserver->busy, first * preserver->piece);

		if (busy / preserver->piece < to)
			to = busy / preserver->piece;
		if (first == to) {
			first++;
			continue;
		}
		code = protect(preserver, first, to, PROT_READ | PROT_WRITE);
		if (!code)
			bitmap_clear_range(&preserver->closed, first, to - first);
		preserver->changes++;
		first = to;
	}
	return code;
}

/* ---- the capture */

static void copy_now(struct preserver *preserver, uint64_t first, uint64_t bits)
{
	for (; bits; bits &= bits - 1)
		ring_add(preserver, first + (uint64_t)__builtin_ctzll(bits));
}

/* Pieces of which much was written are closed, pages of others are to be copied now. */
static int shield(struct preserver *preserver, const struct bitmap *pages)
{
	unsigned count = preserver->piece;
	uint64_t most = preserver->room - PRESERVE_BATCH, from = 0, end = 0;
	int code = 0;

	for (uint64_t page = 0; !code && (page = bitmap_next(pages, page)) != UINT64_MAX;) {
		uint64_t piece = page / count, first = piece * count;
		uint64_t bits = piece_bits(pages, first, count);
		unsigned few = (unsigned)__builtin_popcountll(bits);

		page = first + count;
		if (few <= COPIED_OF_PIECE && preserver->head + few <= most) {
			copy_now(preserver, first, bits);
			continue;
		}
		piece_set(&preserver->pending, first, bits);
		if (piece > end + BRIDGE) {
			code = from < end ? pieces_close(preserver, from, end) : 0;
			from = piece;
		} else if (from == end) {
			from = piece;
		}
		end = piece + 1;
	}
	return code ? code : from < end ? pieces_close(preserver, from, end) : 0;
}

/* With the lock. */
static int hold(struct preserver *preserver, const struct bitmap *pages, uint64_t count, bool later)
{
	int code = 0;

	if (later && preserver->shields)
		code = shield(preserver, pages);
	else if (later)
		bitmap_merge(&preserver->pending, pages);
	if (later && !code)
		return 0;
	/* Too many mappings: copied like the others. What is closed is opened by its writers. */
	if (later) {
		bitmap_clear_all(&preserver->pending);
		preserver->head = 0;
		code = preserver_reserve(preserver, count + PRESERVE_BATCH);
	}
	for (uint64_t page = 0; !code && (page = bitmap_next(pages, page)) != UINT64_MAX; page++)
		ring_add(preserver, page);
	return code;
}

int preserver_hold(struct preserver *preserver, const struct bitmap *pages, uint64_t count)
{
	uint64_t most = preserver->limit / preserver->region->page_bytes;
	bool later = preserver->stops && count > COPIED_AT_ONCE;
	int code = preserver_reserve(preserver,
				     !later || count < most ? count + PRESERVE_BATCH : most);
	sigset_t before;

	if (code)
		return code;
	lock_alone(preserver, &before);
	code = hold(preserver, pages, count, later);
	atomic_store(&preserver->active, !code && preserver->stops);
	unlock_alone(preserver, &before);
	return code;
}

uint64_t preserver_copies(const struct preserver *preserver)
{
	return preserver->head;
}

void preserver_copy(struct preserver *preserver, uint64_t first, uint64_t end)
{
	for (; first < end; first++)
		memcpy(slot_at(preserver, first), page_at(preserver, preserver->pages[first]),
		       preserver->region->page_bytes);
}

/* ---- afterwards */

static void wait_for_change(struct preserver *preserver)
{
	preserver->waiting++;
	pthread_cond_wait(&preserver->changed, &preserver->lock);
	preserver->waiting--;
}

static void tell_change(struct preserver *preserver)
{
	if (preserver->waiting)
		pthread_cond_broadcast(&preserver->changed);
}

/* Pending pages of one word, for which there is room. Gives the lock up meanwhile. */
static void copy_bits(struct preserver *preserver, uint64_t first, uint64_t bits)
{
	uint64_t slots[PRESERVE_BATCH];
	unsigned count = 0;

	piece_clear(&preserver->pending, first, bits);
	piece_set(&preserver->busy, first, bits);
	for (uint64_t left = bits; left; left &= left - 1)
		slots[count++] = ring_add(preserver, COPYING);
	pthread_mutex_unlock(&preserver->lock);
	count = 0;
	for (uint64_t left = bits; left; left &= left - 1)
		memcpy(slot_at(preserver, slots[count++]),
		       page_at(preserver, first + (uint64_t)__builtin_ctzll(left)),
		       preserver->region->page_bytes);
	pthread_mutex_lock(&preserver->lock);
	count = 0;
	for (uint64_t left = bits; left; left &= left - 1)
		preserver->pages[slots[count++]] = first + (uint64_t)__builtin_ctzll(left);
	piece_clear(&preserver->busy, first, bits);
	tell_change(preserver);
}

/* With the lock, which is given up meanwhile: none of these, of one piece, is pending or busy afterwards. */
static void preserve_bits(struct preserver *preserver, uint64_t first, unsigned count)
{
	for (;;) {
		uint64_t bits = piece_bits(&preserver->pending, first, count);

		if (bits && ring_left(preserver) >= (uint64_t)__builtin_popcountll(bits)) {
			preserver->hurry = HURRY;
			copy_bits(preserver, first, bits);
		} else if (bits || piece_bits(&preserver->busy, first, count)) {
			wait_for_change(preserver);
		} else {
			return;
		}
	}
}

void preserve_pages(struct preserver *preserver, uint64_t first, uint64_t count)
{
	uint64_t end = first + count;
	sigset_t before;

	if (!preserver || !atomic_load(&preserver->active))
		return;
	lock_alone(preserver, &before);
	while (first < end) {
		uint64_t to = (first / preserver->piece + 1) * preserver->piece;

		to = to < end ? to : end;
		preserve_bits(preserver, first, (unsigned)(to - first));
		first = to;
	}
	unlock_alone(preserver, &before);
}

/* How many pieces are opened with that of a writer. */
static uint64_t opened_together(const struct preserver *preserver)
{
	uint64_t pieces = 1;

	while (pieces < OPENED_MOST && pieces * OPENED_SINGLY < preserver->opened)
		pieces *= 2;
	return pieces;
}

/* With the lock, which is given up meanwhile. */
static int open_closed(struct preserver *preserver, uint64_t piece)
{
	unsigned tries = 0;
	int code = 0;

	while (!code && bitmap_test(&preserver->closed, piece)) {
		uint64_t together = opened_together(preserver), first = piece - piece % together;

		for (uint64_t at = first; at < first + together; at++)
			preserve_bits(preserver, at * preserver->piece, preserver->piece);
		code = pieces_open(preserver, first, first + together);
		preserver->opened++;
		/* Too many mappings: the thread opens from the front on, which makes none. */
		if (code == -ENOMEM && atomic_load(&preserver->active)) {
			wait_for_change(preserver);
			code = 0;
		} else if (code == -ENOMEM && ++tries < TRIES) { /* all at once leaves the fewest */
			code = pieces_open(preserver, 0, UINT64_MAX);
			code = code == -ENOMEM ? 0 : code;
		}
	}
	return code;
}

int preserver_open(struct preserver *preserver, uint64_t page)
{
	uint64_t piece = page / preserver->piece;
	bool was_closed;
	int code;

	pthread_mutex_lock(&preserver->lock);
	was_closed = bitmap_test(&preserver->closed, piece);
	code = open_closed(preserver, piece);
	pthread_mutex_unlock(&preserver->lock);
	return code ? code : !was_closed;
}

/* ---- the checkpoint's thread */

static unsigned ring_ready(const struct preserver *preserver)
{
	uint64_t at = preserver->tail, end = preserver->head;
	unsigned ready = 0;

	while (at + ready < end && ready < PRESERVE_BATCH &&
	       preserver->pages[at % preserver->room + ready] != COPYING) {
		ready++;
		if ((at + ready) % preserver->room == 0)
			break;
	}
	return ready;
}

/* The next pending pages, and everything up to there is open afterwards. */
static int copy_piece(struct preserver *preserver, uint64_t page)
{
	uint64_t first = page - page % preserver->piece;

	preserver->next = page;
	copy_bits(preserver, first, piece_bits(&preserver->pending, first, preserver->piece));
	if (preserver->hurry)
		preserver->hurry--;
	return preserver->shields ? pieces_open(preserver, 0, first / preserver->piece + 1) : 0;
}

int preserver_take(struct preserver *preserver, uint64_t *pages, const char **copies)
{
	int count = 0;

	pthread_mutex_lock(&preserver->lock);
	while (!count) {
		bool empty = preserver->head == preserver->tail;
		uint64_t page = preserver->stops ? bitmap_next(&preserver->pending, preserver->next)
						 : UINT64_MAX;

		count = (int)ring_ready(preserver);
		if (page != UINT64_MAX && (empty || preserver->hurry) &&
		    ring_left(preserver) >= PRESERVE_BATCH) {
			count = copy_piece(preserver, page);
		} else if (!count && !empty) {
			wait_for_change(preserver); /* a writer is copying */
		} else if (!count) {
			if (preserver->shields)
				count = pieces_open(preserver, 0, UINT64_MAX);
			break;
		}
	}
	if (count > 0) {
		uint64_t slot = preserver->tail % preserver->room;

		memcpy(pages, &preserver->pages[slot], (size_t)count * sizeof(*pages));
		*copies = slot_at(preserver, slot);
	}
	pthread_mutex_unlock(&preserver->lock);
	return count;
}

void preserver_done(struct preserver *preserver, unsigned count)
{
	pthread_mutex_lock(&preserver->lock);
	preserver->tail += count;
	if (preserver->tail == preserver->head)
		preserver->tail = preserver->head = 0;
	tell_change(preserver);
	pthread_mutex_unlock(&preserver->lock);
}

void preserver_end(struct preserver *preserver)
{
	pthread_mutex_lock(&preserver->lock);
	if (preserver->stops) {
		bitmap_clear_all(&preserver->pending);
		while (bitmap_next(&preserver->busy, 0) != UINT64_MAX)
			wait_for_change(preserver);
		bitmap_clear_all(&preserver->busy);
		/* What fails here is opened by its writers, one by one. */
		if (preserver->shields)
			(void)pieces_open(preserver, 0, UINT64_MAX);
	}
	preserver->head = preserver->tail = preserver->next = 0;
	preserver->opened = preserver->hurry = 0;
	atomic_store(&preserver->active, false);
	tell_change(preserver);
	pthread_mutex_unlock(&preserver->lock);
	ring_trim(preserver);
}
