/* SPDX-License-Identifier: MIT */
/*
 * frozen_heap.c - a heap's half of frozen heaps: freezing it, opening it over one, making it one again.
 *
 *	| base, mapped privately     [ zeroed ]      | anonymous, zero        | not in use |
 *	0                                            layers->base_bytes       region.bytes
 *
 * A page of a heap without an image is as the base has it (behind that: zero), but for its own pages (frozen_scan.c) and
 * those of the zeroed ranges, which thaw_release() has mapped anonymously. So these two are the overlay.
 *
 * Owner thread. Must never leave part of the region unmapped: what the kernel cannot map again is fatal.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "frozen.h"
#include "heap.h"
#include "sys.h"

#define ZEROED_BYTES (1u << 20) /* from here on a mapping of its own is worth it ... */
#define ZEROED_MOST 32u /* ... for so many; vm.max_map_count is 65,530 for all heaps of a process */
#define LOOKED_AT 3u	/* pages are compared in the time that one is copied into a base */
#define DROPPED_GAP \
	16u /* pages of the base that are dropped, too, rather than asking twice: they come back by one fault */
#define WRITTEN_BYTES (1u << 20)

static size_t page_of(const struct thaw *heap)
{
	return heap->region.kernel_page_bytes;
}

static bool maps_base(const struct thaw *heap)
{
	return !heap->image && heap->frozen.layers && heap->frozen.layers->base;
}

static uint64_t mapped_bytes(const struct thaw *heap)
{
	return maps_base(heap) ? heap->frozen.layers->base_bytes : 0;
}

static _Noreturn void cannot_map(struct thaw *heap, int code)
{
	struct thaw_error error;

	error_set(&error, code, "cannot map the heap's memory again: %s", thaw_strerror(code));
	if (heap->fatal)
		heap->fatal(heap->fatal_arg, &error);
	abort();
}

/* `fd` < 0: anonymous. What was there goes, if this succeeds. */
static int map_over(struct thaw *heap, uint64_t start, uint64_t end, int fd, bool accessible)
{
	char *at = heap->region.base + start;
	int protection = accessible ? PROT_READ | PROT_WRITE : PROT_NONE, code;
	int flags = MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE | (fd < 0 ? MAP_ANONYMOUS : 0);

	if (start >= end)
		return 0;
	if (sys_injected(SYS_CALL_MMAP))
		return -ENOMEM;
	if (mmap(at, end - start, protection, flags, fd, fd < 0 ? 0 : (off_t)start) == MAP_FAILED) {
		code = -errno;
		/* What was there has stayed, or all is lost. */
		if (msync(at, end - start, MS_ASYNC) && errno == ENOMEM)
			cannot_map(heap, code);
		return code;
	}
	(void)madvise(at, end - start, MADV_NOHUGEPAGE);
	return 0;
}

/* ---- ranges that were given back */

static size_t zeroed_find(const struct page_runs *zeroed, uint64_t page)
{
	size_t at = 0;

	while (at < zeroed->count && zeroed->list[at].end <= page)
		at++;
	return at;
}

/* Room for all, so that noting what has been mapped cannot fail. */
static int zeroed_room(struct page_runs *zeroed)
{
	if (!zeroed->list)
		zeroed->list = malloc((ZEROED_MOST + 1) * sizeof(*zeroed->list));
	return zeroed->list ? 0 : -ENOMEM;
}

static void zeroed_insert(struct page_runs *zeroed, uint64_t first, uint64_t end)
{
	struct page_run *list = zeroed->list;
	size_t at = zeroed_find(zeroed, first), next;

	if (at && list[at - 1].end == first)
		at--;
	for (next = at; next < zeroed->count && list[next].first <= end; next++) {
		first = list[next].first < first ? list[next].first : first;
		end = list[next].end > end ? list[next].end : end;
	}
	memmove(&list[at + 1], &list[next], (zeroed->count - next) * sizeof(*list));
	zeroed->count = zeroed->count - (next - at) + 1;
	list[at] = (struct page_run){first, end};
}

/* Pages of the base that are to be zero. */
static int clear_part(struct thaw *heap, uint64_t first, uint64_t end)
{
	size_t page_bytes = page_of(heap);
	int code;

	if ((end - first) * page_bytes >= ZEROED_BYTES && heap->frozen.zeroed.count < ZEROED_MOST) {
		code = zeroed_room(&heap->frozen.zeroed);
		if (!code)
			code = map_over(heap, first * page_bytes, end * page_bytes, -1, true);
		if (!code)
			zeroed_insert(&heap->frozen.zeroed, first, end);
		return code;
	}
	for (; first < end; first++) {
		char *page = heap->region.base + first * page_bytes;

		if (!page_is_zero(page, page_bytes))
			memset(page, 0, page_bytes);
	}
	return 0;
}

static int drop(struct thaw *heap, uint64_t first, uint64_t end)
{
	size_t page_bytes = page_of(heap);

	return first < end ? sys_advise(heap->region.base + first * page_bytes,
					(end - first) * page_bytes, MADV_DONTNEED)
			   : 0;
}

int frozen_heap_release(struct thaw *heap, uint64_t start, uint64_t end)
{
	const struct page_runs *zeroed = &heap->frozen.zeroed;
	uint64_t first = start / page_of(heap), last = end / page_of(heap);
	uint64_t mapped = mapped_bytes(heap) / page_of(heap);
	int code = drop(heap, first > mapped ? first : mapped, last);

	last = last < mapped ? last : mapped;
	while (!code && first < last) {
		size_t at = zeroed_find(zeroed, first);
		uint64_t next = at < zeroed->count ? zeroed->list[at].first : last;

		if (next <= first) { /* zeroed already, perhaps written since */
			next = zeroed->list[at].end < last ? zeroed->list[at].end : last;
			code = drop(heap, first, next);
		} else {
			next = next < last ? next : last;
			code = clear_part(heap, first, next);
		}
		first = next;
	}
	return code;
}

/* ---- opening and reverting */

/* Where several pages are to be written, the kernel makes them at once (Linux 5.14). */
static void populate(char *at, size_t bytes)
{
#ifdef MADV_POPULATE_WRITE
	(void)madvise(at, bytes, MADV_POPULATE_WRITE);
#endif
}

/* The overlay, over pages of the base and of the heap's own. */
static int put_overlay(struct thaw *heap, const struct layers *layers)
{
	size_t page_bytes = page_of(heap), next;
	int code = 0;

	for (size_t i = 0; !code && i < layers->own_count; i = next) {
		const struct layer_page *own = &layers->own[i];
		char *at = heap->region.base + own->page * page_bytes;

		for (next = i + 1; next < layers->own_count; next++)
			if (layers->own[next].page != own->page + (next - i) ||
			    !layers->own[next].copy != !own->copy)
				break;
		if (!own->copy) {
			code = clear_part(heap, own->page, own->page + (next - i));
			continue;
		}
		if (next - i > 1)
			populate(at, (next - i) * page_bytes);
		for (size_t k = 0; k < next - i; k++)
			memcpy(at + k * page_bytes, own[k].copy->bytes, page_bytes);
	}
	return code;
}

/* The region as the base has it, and zero behind: so many bytes. */
static int map_base(struct thaw *heap, const struct layers *layers, uint64_t bytes)
{
	struct region *region = &heap->region;
	uint64_t old = mapped_bytes(heap), end = old > region->bytes ? old : region->bytes;
	uint64_t based = layers->base_bytes;
	int code = 0;

	if (based)
		code = map_over(heap, 0, based, layers->base->fd, true);
	/* What lies behind: a base, perhaps, or written. */
	if (!code)
		code = map_over(heap, based, end, -1, false);
	if (!code && bytes > based)
		code = sys_mprotect(region->base + based, bytes - based, PROT_READ | PROT_WRITE);
	if (code)
		return code;
	heap->frozen.zeroed.count = 0;
	return 0;
}

static void now_is(struct thaw *heap, struct layers *layers)
{
	struct layers *before = heap->frozen.layers;

	if (!before || !layers || before->base != layers->base)
		heap->frozen.looked = 0;
	heap->frozen.layers = layers_hold(layers);
	layers_drop(before);
}

static int set_state(struct thaw *heap, const struct thaw_frozen *frozen)
{
	void *state = malloc(frozen->state_bytes ? frozen->state_bytes : 1);

	if (!state)
		return -ENOMEM;
	if (frozen->state_bytes)
		memcpy(state, frozen->state, frozen->state_bytes);
	free(heap->state);
	heap->state = state;
	heap->state_bytes = frozen->state_bytes;
	heap->opened = frozen->generation;
	return 0;
}

static int remap(struct thaw *heap, struct layers *layers, uint64_t bytes)
{
	int code = map_base(heap, layers, bytes);

	if (code)
		return code;
	__atomic_store_n(&heap->region.bytes, bytes, __ATOMIC_RELAXED);
	now_is(heap, layers);
	return put_overlay(heap, layers);
}

static int refuse_to_map(const struct thaw_frozen *frozen, int code, struct thaw_error *error)
{
	return error_set(error, code, "cannot map a frozen heap of %llu MiB: %s%s",
			 (unsigned long long)frozen->bytes >> 20, thaw_strerror(code),
			 code == -ENOMEM ? " (see vm.max_map_count)" : "");
}

int frozen_heap_open(struct thaw *heap, struct thaw_frozen *frozen, struct thaw_error *error)
{
	struct layers *layers;
	int code;

	if (frozen->bytes > heap->region.max_bytes)
		return error_set(error, -ERANGE,
				 "a frozen heap of %llu MiB does not fit one of at most %zu MiB",
				 (unsigned long long)frozen->bytes >> 20,
				 heap->region.max_bytes >> 20);
	layers = frozen_layers_to_copy(frozen);
	code = set_state(heap, frozen);
	if (!code)
		code = remap(heap, layers, frozen->bytes);
	layers_drop(layers);
	return code ? refuse_to_map(frozen, code, error) : 0;
}

/* Own pages that the layers have no copy of are the base's again. */
static int drop_others(struct thaw *heap, const struct page_runs *own, const struct layers *layers)
{
	uint64_t pending = 0, pending_end = 0;
	int code = 0;

	for (size_t i = 0; !code && i < own->count; i++) {
		uint64_t at = own->list[i].first, end = own->list[i].end;
		size_t entry = own_find(layers->own, layers->own_count, at);

		while (!code && at < end) {
			bool more = entry < layers->own_count && layers->own[entry].page < end;
			uint64_t next = more ? layers->own[entry].page : end;
			size_t before = own_find(layers->own, layers->own_count, pending_end);
			bool apart = before < layers->own_count && layers->own[before].page < at;

			if (next > at && pending_end && !apart && at - pending_end <= DROPPED_GAP) {
				pending_end = next;
			} else if (next > at) {
				code = drop(heap, pending, pending_end);
				pending = at;
				pending_end = next;
			}
			at = next + more;
			entry += more;
		}
	}
	return code ? code : drop(heap, pending, pending_end);
}

/* The same base, in the same place: only what was written is looked at. */
static int rewind_pages(struct thaw *heap, struct layers *layers, uint64_t bytes)
{
	struct region *region = &heap->region;
	struct page_runs own = {0};
	int code = scan_own(region, region->bytes, &own);

	if (!code)
		code = drop_others(heap, &own, layers);
	runs_free(&own);
	if (!code && bytes < region->bytes)
		code = map_over(heap, bytes, region->bytes, -1, false);
	if (!code && bytes > region->bytes)
		code = sys_mprotect(region->base + region->bytes, bytes - region->bytes,
				    PROT_READ | PROT_WRITE);
	if (code)
		return code;
	__atomic_store_n(&region->bytes, bytes, __ATOMIC_RELAXED);
	now_is(heap, layers);
	return put_overlay(heap, layers);
}

int thaw_revert(struct thaw *heap, struct thaw_frozen *frozen, struct thaw_error *error)
{
	const struct layers *now = heap->frozen.layers;
	struct layers *layers;
	int code;

	if (heap->image || heap->region.process)
		return error_set(error, -EINVAL,
				 "only a heap without an image can be made what it was");
	if (frozen->bytes > heap->region.max_bytes)
		return error_set(error, -ERANGE,
				 "a frozen heap of %llu MiB does not fit one of at most %zu MiB",
				 (unsigned long long)frozen->bytes >> 20,
				 heap->region.max_bytes >> 20);
	code = set_state(heap, frozen);
	if (code)
		return error_set(error, code, "no memory for the state of a frozen heap");
	layers = frozen_layers_to_copy(frozen);
	if (now && now->base == layers->base && now->base_bytes == layers->base_bytes &&
	    !heap->frozen.zeroed.count)
		code = rewind_pages(heap, layers, frozen->bytes);
	else
		code = -EAGAIN;
	if (code) /* mapping all anew needs nothing but the kernel's memory */
		code = remap(heap, layers, frozen->bytes);
	layers_drop(layers);
	return code ? refuse_to_map(frozen, code, error) : 0;
}

/* ---- freezing */

/* The overlay that is being made: entries ascend. */
struct freezing {
	struct thaw *heap;
	const struct layers *before;
	struct layer_page *own;
	size_t count, same;
	size_t at; /* in `before` */
};

static int add_page(struct freezing *freezing, uint64_t page, const char *bytes)
{
	const struct layers *before = freezing->before;
	size_t page_bytes = page_of(freezing->heap);
	struct layer_page *entry = &freezing->own[freezing->count];
	const struct layer_page *old = NULL;

	if (before) {
		while (freezing->at < before->own_count && before->own[freezing->at].page < page)
			freezing->at++;
		if (freezing->at < before->own_count && before->own[freezing->at].page == page)
			old = &before->own[freezing->at];
	}
	*entry = (struct layer_page){page, NULL};
	if (old && (bytes && old->copy ? !memcmp(bytes, old->copy->bytes, page_bytes)
		    : bytes	       ? !old->copy && page_is_zero(bytes, page_bytes)
				       : !old->copy)) {
		entry->copy = copy_hold(old->copy);
		freezing->same++;
	} else if (bytes && !page_is_zero(bytes, page_bytes)) {
		entry->copy = copy_new(bytes, page_bytes);
		if (!entry->copy)
			return -ENOMEM;
	} else if (!before || (page + 1) * page_bytes > before->base_bytes) {
		return 0; /* zero, as it is without it */
	}
	freezing->count++;
	return 0;
}

/* Own pages, and those of zeroed ranges which are not there at all. */
static int add_pages(struct freezing *freezing, const struct page_runs *own)
{
	const struct page_runs *zeroed = &freezing->heap->frozen.zeroed;
	const char *base = freezing->heap->region.base;
	size_t page_bytes = page_of(freezing->heap), i = 0, z = 0;
	uint64_t zero = zeroed->count ? zeroed->list[0].first : UINT64_MAX;
	int code = 0;

	while (!code && (i < own->count || z < zeroed->count)) {
		uint64_t first = i < own->count ? own->list[i].first : UINT64_MAX;
		uint64_t end = z < zeroed->count ? zeroed->list[z].end : 0;

		for (; !code && zero < first && zero < end; zero++)
			code = add_page(freezing, zero, NULL);
		if (z < zeroed->count && zero >= end) {
			if (++z < zeroed->count && zero < zeroed->list[z].first)
				zero = zeroed->list[z].first;
			continue;
		}
		if (i == own->count)
			continue;
		for (; !code && first < own->list[i].end; first++)
			code = add_page(freezing, first, base + first * page_bytes);
		if (zero < first)
			zero = first;
		i++;
	}
	return code;
}

static int make_overlay(struct thaw *heap, const struct page_runs *own, struct layers **layers)
{
	struct layers *before = heap->frozen.layers;
	struct freezing freezing = {.heap = heap, .before = before};
	uint64_t most = own->pages;
	int code;

	for (size_t i = 0; i < heap->frozen.zeroed.count; i++)
		most += heap->frozen.zeroed.list[i].end - heap->frozen.zeroed.list[i].first;
	freezing.own = malloc((most + 1) * sizeof(*freezing.own));
	if (!freezing.own)
		return -ENOMEM;
	code = add_pages(&freezing, own);
	heap->frozen.looked += freezing.same;
	if (!code && before && freezing.same == freezing.count &&
	    freezing.same == before->own_count) {
		*layers = layers_hold(before);
	} else if (!code) {
		*layers = layers_new(before ? before->base : NULL, before ? before->base_bytes : 0,
				     freezing.own, freezing.count);
		code = *layers ? 0 : -ENOMEM;
		freezing.count = code ? 0 : freezing.count;
		free(freezing.own);
		return code;
	}
	for (size_t i = 0; i < freezing.count; i++)
		copy_drop(freezing.own[i].copy);
	free(freezing.own);
	return code;
}

static int write_data(struct thaw *heap, struct base *base, const struct bitmap *data,
		      struct thaw_error *error)
{
	size_t page_bytes = page_of(heap);
	uint64_t run = 0, most = WRITTEN_BYTES / page_bytes;
	int code = 0;

	for (uint64_t at = 0; !code && (at = bitmap_next(data, at)) != UINT64_MAX; at += run) {
		run = bitmap_run(data, at);
		run = run < most ? run : most;
		/* Of a heap with an image they are there: they were compared. */
		code = base_write(base, heap->region.base + at * page_bytes, run * page_bytes,
				  at * page_bytes, error);
	}
	return code;
}

/* All that is other than zero: of the base before, what is not given back, and the heap's own. */
static int find_data(struct thaw *heap, const struct page_runs *own, struct bitmap *data)
{
	const struct page_runs *zeroed = &heap->frozen.zeroed;
	const struct layers *before = heap->frozen.layers;
	int code = 0;

	if (before) {
		struct layers *bare = layers_new(before->base, before->base_bytes, NULL, 0);

		code = bare ? layers_data(bare, data, page_of(heap)) : -ENOMEM;
		layers_drop(bare);
	}
	for (size_t i = 0; i < zeroed->count; i++)
		bitmap_clear_range(data, zeroed->list[i].first,
				   zeroed->list[i].end - zeroed->list[i].first);
	for (size_t i = 0; i < own->count; i++)
		bitmap_set_range(data, own->list[i].first, own->list[i].end - own->list[i].first);
	return code;
}

static int note_line(struct thaw *heap, const struct page_runs *own, struct base *base)
{
	const struct layers *before = heap->frozen.layers;
	size_t page_bytes = page_of(heap);
	struct bitmap differs;
	uint64_t most;
	int code;

	if (!before || !before->base)
		return 0;
	most = (base->bytes > before->base->bytes ? base->bytes : before->base->bytes) / page_bytes;
	code = bitmap_init(&differs, most + 1);
	if (code)
		return code;
	for (size_t i = 0; i < own->count; i++)
		bitmap_set_range(&differs, own->list[i].first,
				 own->list[i].end - own->list[i].first);
	for (size_t i = 0; i < heap->frozen.zeroed.count; i++)
		bitmap_set_range(&differs, heap->frozen.zeroed.list[i].first,
				 heap->frozen.zeroed.list[i].end -
					 heap->frozen.zeroed.list[i].first);
	bitmap_set_range(&differs, before->base_bytes / page_bytes,
			 most - before->base_bytes / page_bytes);
	base_descends(base, before->base, &differs);
	return 0;
}

/* A base of all there is, over which the heap is mapped then, if it has no image. */
static int make_base(struct thaw *heap, const struct page_runs *own, struct layers **layers,
		     struct thaw_error *error)
{
	uint64_t bytes = heap->region.bytes;
	struct bitmap data;
	struct base *base;
	int code = base_new(bytes, &base, error);

	if (code)
		return code;
	code = bitmap_init(&data, bytes / page_of(heap) + 1);
	if (!code) {
		code = find_data(heap, own, &data);
		if (!code)
			code = write_data(heap, base, &data, error);
		bitmap_free(&data);
	}
	if (!code)
		code = note_line(heap, own, base);
	*layers = code ? NULL : layers_new(base, bytes, NULL, 0);
	if (!code && !*layers)
		code = -ENOMEM;
	if (!code)
		base_seal(base);
	base_drop(base);
	return code;
}

static int make_layers(struct thaw *heap, const struct page_runs *own, struct layers **layers,
		       bool *based, struct thaw_error *error)
{
	struct heap_frozen *frozen = &heap->frozen;
	uint64_t pages = heap->region.bytes / page_of(heap);

	*based = heap->region.bytes &&
		 (!frozen->layers || !frozen->layers->base || frozen->looked / LOOKED_AT > pages);
	return *based ? make_base(heap, own, layers, error) : make_overlay(heap, own, layers);
}

static int scan(struct thaw *heap, struct page_runs *own)
{
	const struct region *region = &heap->region;
	const struct layers *layers = heap->frozen.layers;
	int code = heap->image ? -EOPNOTSUPP : scan_own(region, region->bytes, own);

	if (!code || code == -ENOMEM)
		return code;
	runs_free(own);
	return scan_compare(region, region->bytes, layers, own);
}

static int freeze(struct thaw *heap, struct layers **layers, struct thaw_error *error)
{
	struct page_runs own = {0};
	bool based = false;
	int code = scan(heap, &own);

	if (!code)
		code = make_layers(heap, &own, layers, &based, error);
	runs_free(&own);
	if (!code && based && !heap->image)
		code = map_base(heap, *layers, heap->region.bytes);
	if (code && *layers)
		layers_drop(*layers);
	if (!code)
		now_is(heap, *layers);
	return code;
}

int thaw_freeze(struct thaw *heap, const void *state, size_t state_bytes,
		struct thaw_frozen **frozen, struct thaw_error *error)
{
	struct thaw_error unused;
	struct layers *layers = NULL;
	int code;

	error = error ? error : &unused;
	error->code = 0;
	*frozen = NULL;
	if (heap->region.process)
		return error_set(error, -EINVAL, "the memory of a process cannot be frozen");
	code = freeze(heap, &layers, error);
	if (code)
		return error->code == code
			       ? code
			       : error_set(error, code, "cannot freeze a heap of %zu MiB: %s",
					   heap->region.bytes >> 20, thaw_strerror(code));
	*frozen = frozen_new(layers, heap->region.bytes, state, state_bytes, error);
	return *frozen ? 0 : -ENOMEM;
}

void frozen_heap_close(struct heap_frozen *own)
{
	layers_drop(own->layers);
	runs_free(&own->zeroed);
	own->layers = NULL;
}
