/* SPDX-License-Identifier: MIT */
/*
 * view.c - thaw_view: the contents of one generation, for reading. Any image, also one in use; no lock
 * that keeps a writer out, no userfaultfd, nothing written.
 *
 * A view is a mapping of anonymous memory as large as the heap, into which clusters (page.h) are read
 * when they are first asked for, and checked at that read: a byte that is returned was under a checksum.
 * Beyond `limit` clusters a hand goes round the mapping and takes some back, so a view of a large heap
 * costs no more than that, and reads of a few bytes cost a copy. Of a heap that is too large to be mapped
 * (that of a whole process) one cluster is kept.
 *
 * One thread per view. A generation that the writer of an image in use drops meanwhile is told from
 * damage by asking the image whether it still lists it.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bitmap.h"
#include "handle.h"
#include "sys.h"

#define VIEW_BYTES_LEAST (256ull << 20)

struct thaw_view {
	struct image *image;
	void *state;
	size_t state_bytes;
	uint64_t heap_bytes;
	uint32_t page_bytes;
	uint64_t clusters;
	uint8_t *memory;       /* of all of them, or of one where that is too much address space */
	bool one;	       /* ... of which there is only the newest */
	struct bitmap arrived; /* clusters */
	uint64_t count, limit, hand;
};

/* A quarter of the machine's memory, or enough for most heaps. */
static uint64_t view_limit(void)
{
	long pages = sysconf(_SC_PHYS_PAGES), page_bytes = sysconf(_SC_PAGESIZE);
	uint64_t bytes = VIEW_BYTES_LEAST;

	if (pages > 0 && page_bytes > 0 && (uint64_t)pages / 4 * (uint64_t)page_bytes > bytes)
		bytes = (uint64_t)pages / 4 * (uint64_t)page_bytes;
	return bytes / PAGE_CLUSTER_BYTES;
}

/*
 * Address space, not memory: a damaged record with a huge heap size costs nothing until it is read.
 */
static void *view_map(uint64_t bytes)
{
	void *memory;

	if (bytes > SIZE_MAX / 2)
		return NULL;
	memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (memory == MAP_FAILED)
		return NULL;
	/* Clusters are counted, and a huge page would be 32 of them. */
	(void)madvise(memory, bytes, MADV_NOHUGEPAGE);
	return memory;
}

static size_t view_mapped_bytes(const struct thaw_view *view)
{
	return view->one || !view->clusters ? PAGE_CLUSTER_BYTES
					    : view->clusters * PAGE_CLUSTER_BYTES;
}

/* The address space of a whole process does not fit into that of another one. */
static bool view_reserve(struct thaw_view *view)
{
	view->memory = view_map(view_mapped_bytes(view));
	view->one = !view->memory;
	if (view->one)
		view->memory = view_map(view_mapped_bytes(view));
	if (bitmap_init(&view->arrived, view->clusters))
		view->arrived.words = NULL;
	return view->memory && view->arrived.words;
}

static uint8_t *cluster_memory(const struct thaw_view *view, uint64_t cluster)
{
	return view->memory + (view->one ? 0 : cluster * PAGE_CLUSTER_BYTES);
}

static int view_start(struct thaw_view *view, struct thaw_error *error)
{
	const struct thaw_generation *opened = image_opened(view->image);

	if (!opened->number)
		return error_set(error, THAW_ENOGEN, "%s: no generation yet: nothing to look at",
				 image_path(view->image));
	view->heap_bytes = opened->heap_bytes;
	view->page_bytes = view->image->identity.page_bytes;
	view->clusters =
		view->heap_bytes / PAGE_CLUSTER_BYTES + !!(view->heap_bytes % PAGE_CLUSTER_BYTES);
	view->limit = view_limit();
	if (view->heap_bytes / view->page_bytes > INDEX_PAGES_MAX || !view_reserve(view))
		return error_set(error, -ENOMEM,
				 "%s: no address space for generation %" PRIu64 " of %" PRIu64
				 " bytes",
				 image_path(view->image), opened->number, view->heap_bytes);
	return image_read_state(view->image, &view->state, &view->state_bytes, error);
}

int thaw_view_open(struct thaw_image *image, uint64_t generation, struct thaw_view **view,
		   struct thaw_error *error)
{
	const struct image_options options = {.generation = generation};
	struct thaw_error unused;
	struct thaw_view *opened;
	int code;

	*view = NULL;
	error = error ? error : &unused;
	opened = calloc(1, sizeof(*opened));
	if (!opened)
		return error_set(error, -ENOMEM, "%s: no memory", image->path);
	code = image_open_listed(image, &options, &opened->image, NULL, error);
	if (!code)
		code = view_start(opened, error);
	if (code) {
		thaw_view_close(opened);
		return code;
	}
	*view = opened;
	return 0;
}

void thaw_view_close(struct thaw_view *view)
{
	if (!view)
		return;
	if (view->memory)
		munmap(view->memory, view_mapped_bytes(view));
	bitmap_free(&view->arrived);
	free(view->state);
	image_close(view->image);
	free(view);
}

const struct thaw_generation *thaw_view_generation(const struct thaw_view *view)
{
	return image_opened(view->image);
}

const void *thaw_view_state(const struct thaw_view *view, size_t *bytes)
{
	*bytes = view->state_bytes;
	return view->state;
}

/* ---- Clusters */

/* Release an eighth of the clusters, from the clock hand on; or the one that there is. */
static void view_shrink(struct thaw_view *view)
{
	uint64_t goal = view->one ? 0 : view->limit - view->limit / 8;

	while (view->count > goal) {
		uint64_t cluster = bitmap_next(&view->arrived, view->hand);

		if (cluster == UINT64_MAX) { /* round */
			view->hand = 0;
			continue;
		}
		view->hand = cluster + 1;
		madvise(cluster_memory(view, cluster), PAGE_CLUSTER_BYTES, MADV_DONTNEED);
		bitmap_clear(&view->arrived, cluster);
		view->count--;
	}
}

static int page_fails(struct thaw_view *view, uint64_t page, uint64_t offset, int code,
		      struct thaw_error *error)
{
	const struct image *image = view->image;
	uint64_t number = image_opened(image)->number;

	if (!store_retains(image->fd, image->path, number))
		return error_set(error, THAW_ENOGEN,
				 "%s: generation %" PRIu64
				 " was dropped by the program that writes the image",
				 image->path, number);
	if (code && code != -ENODATA)
		return error_set(error, code,
				 "%s: cannot read page %" PRIu64 " of generation %" PRIu64
				 " at offset %" PRIu64 ": %s",
				 image->path, page, number, offset, thaw_strerror(code));
	return error_set(error, THAW_EDAMAGED,
			 "%s: page %" PRIu64 " of generation %" PRIu64 " at offset %" PRIu64
			 " is damaged (%s): try another generation, see thaw verify",
			 image->path, page, number, offset,
			 code ? "the file ends before it" : "its checksum is wrong");
}

/* `count` whole pages that are adjacent in the file, or one packed one. */
static int pages_read(struct thaw_view *view, uint64_t first, const struct extent *extents,
		      unsigned count, uint8_t *to, struct thaw_error *error)
{
	struct image *image = view->image;
	int code, together;

	if (count == 1) {
		code = extent_read(&image->scratch, image->fd, image->identity.key, first, extents,
				   to, view->page_bytes);
		return code ? page_fails(view, first, extents->offset,
					 code == THAW_EDAMAGED ? 0 : code, error)
			    : 0;
	}
	together = sys_pread(image->fd, to, (size_t)count * view->page_bytes, extents->offset);
	code = 0;
	for (unsigned i = 0; !code && i < count; i++) {
		uint8_t *page = to + (size_t)i * view->page_bytes;

		if (together) /* which one is it? */
			code = pages_read(view, first + i, extents + i, 1, page, error);
		else if (extent_decode(&image->scratch, image->identity.key, first + i, &extents[i],
				       page, page, view->page_bytes))
			code = page_fails(view, first + i, extents[i].offset, 0, error);
	}
	return code;
}

static int cluster_read(struct thaw_view *view, uint64_t cluster, struct thaw_error *error)
{
	uint8_t *to = cluster_memory(view, cluster);
	unsigned pages = page_cluster(view->page_bytes);
	uint64_t first = cluster * pages, leaf = first - first % IMAGE_LEAF_PAGES;
	struct extent leaf_extents[IMAGE_LEAF_PAGES], *extents = &leaf_extents[first - leaf];
	int code;

	if (view->count >= (view->one ? 1 : view->limit))
		view_shrink(view);
	code = image_lookup(view->image, leaf, leaf_extents, error);
	for (unsigned i = 0, run; !code && i < pages; i += run) {
		run = 1;
		if (!extent_is_stored(&extents[i]))
			continue;
		while (extent_is_whole(&extents[i]) && i + run < pages &&
		       extent_is_whole(&extents[i + run]) &&
		       extents[i + run].offset ==
			       extents[i].offset + (uint64_t)run * view->page_bytes)
			run++;
		code = pages_read(view, first + i, extents + i, run,
				  to + (size_t)i * view->page_bytes, error);
	}
	if (code) { /* unchecked pages are not kept */
		madvise(to, PAGE_CLUSTER_BYTES, MADV_DONTNEED);
		return code;
	}
	bitmap_set(&view->arrived, cluster);
	view->count++;
	return 0;
}

int thaw_view_read(struct thaw_view *view, uint64_t offset, void *buffer, size_t bytes,
		   struct thaw_error *error)
{
	uint8_t *to = buffer;

	if (offset > view->heap_bytes || bytes > view->heap_bytes - offset)
		return error_set(error, -ERANGE,
				 "%s: %zu bytes at %" PRIu64
				 " are beyond the heap of generation %" PRIu64
				 ", which has %" PRIu64,
				 image_path(view->image), bytes, offset,
				 image_opened(view->image)->number, view->heap_bytes);
	while (bytes) {
		uint64_t cluster = offset / PAGE_CLUSTER_BYTES;
		size_t part = PAGE_CLUSTER_BYTES - offset % PAGE_CLUSTER_BYTES;
		int code = bitmap_test(&view->arrived, cluster)
				   ? 0
				   : cluster_read(view, cluster, error);

		if (code)
			return code;
		part = part < bytes ? part : bytes;
		memcpy(to, cluster_memory(view, cluster) + offset % PAGE_CLUSTER_BYTES, part);
		to += part;
		offset += part;
		bytes -= part;
	}
	return 0;
}
