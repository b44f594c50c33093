/* SPDX-License-Identifier: MIT */
/*
 * frozen_make.c - frozen heaps of contents from elsewhere, and new bases for those whose overlays are copied often.
 *
 * When to make a new base: a heap over a frozen one copies its overlay, which costs time and shares nothing. Once as
 * many pages have been copied as the heap has, a new base costs no more than what was spent already; so all together is
 * at most twice what was best (rent or buy).
 *
 * Any thread; what is not ended yet is its maker's alone.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "frozen.h"
#include "sys.h"

#define SIZE_UNIT 65536u
#define COPIED_BYTES (256u << 10)

/* Pages [first, first + count) of the layers' base into another base. */
static int copy_base(const struct layers *from, struct base *to, uint64_t first, uint64_t count,
		     char *buffer, size_t page_bytes, struct thaw_error *error)
{
	uint64_t at = first * page_bytes, end = at + count * page_bytes, part;
	int code = 0;

	end = end < from->base_bytes ? end : from->base_bytes;
	for (; !code && at < end; at += part) {
		part = end - at < COPIED_BYTES ? end - at : COPIED_BYTES;
		code = sys_pread(from->base->fd, buffer, part, at);
		if (!code)
			code = base_write(to, buffer, part, at, error);
	}
	return code;
}

static int fill(const struct layers *from, struct base *to, const struct bitmap *data,
		size_t page_bytes, struct thaw_error *error)
{
	char *buffer = malloc(COPIED_BYTES);
	int code = buffer ? 0 : -ENOMEM;
	uint64_t run = 0;

	for (uint64_t at = 0; !code && (at = bitmap_next(data, at)) != UINT64_MAX; at += run) {
		run = bitmap_run(data, at);
		code = copy_base(from, to, at, run, buffer, page_bytes, error);
	}
	for (size_t i = 0; !code && i < from->own_count; i++)
		if (from->own[i].copy)
			code = base_write(to, from->own[i].copy->bytes, page_bytes,
					  from->own[i].page * page_bytes, error);
	free(buffer);
	return code;
}

/* A base with all of it, which descends from theirs. */
static struct layers *flattened(const struct layers *from, uint64_t bytes)
{
	size_t page_bytes = frozen_page_bytes();
	uint64_t most = bytes > from->base->bytes ? bytes : from->base->bytes;
	struct bitmap data, differs;
	struct layers *layers = NULL;
	struct base *base;
	int code;

	if (base_new(bytes, &base, NULL))
		return NULL;
	if (bitmap_init(&data, bytes / page_bytes + 1)) {
		base_drop(base);
		return NULL;
	}
	code = layers_data(from, &data, page_bytes);
	if (!code)
		code = fill(from, base, &data, page_bytes, NULL);
	bitmap_free(&data);
	if (!code)
		code = bitmap_init(&differs, most / page_bytes + 1);
	if (!code) {
		for (size_t i = 0; i < from->own_count; i++)
			bitmap_set(&differs, from->own[i].page);
		bitmap_set_range(&differs, from->base_bytes / page_bytes,
				 (most - from->base_bytes) / page_bytes);
		base_descends(base, from->base, &differs);
		base_seal(base);
		layers = layers_new(base, bytes, NULL, 0);
	}
	base_drop(base);
	return layers;
}

struct layers *frozen_layers_to_copy(struct thaw_frozen *frozen)
{
	struct layers *layers, *flat;

	pthread_mutex_lock(&frozen->lock);
	layers = frozen->layers;
	frozen->copied += layers->own_count;
	if (layers->base && frozen->copied > frozen->bytes / frozen_page_bytes()) {
		frozen->copied = 0;
		flat = flattened(layers, frozen->bytes);
		if (flat) { /* else it goes on as it is */
			layers_drop(layers);
			frozen->layers = layers = flat;
		}
	}
	layers_hold(layers);
	pthread_mutex_unlock(&frozen->lock);
	return layers;
}

/* ---- contents from elsewhere */

static int check_size(size_t bytes, struct thaw_error *error)
{
	return bytes % SIZE_UNIT ? error_set(error, -EINVAL,
					     "the size of a heap must be a multiple of 64 KiB")
				 : 0;
}

int thaw_frozen_begin(size_t heap_bytes, struct thaw_frozen **frozen, struct thaw_error *error)
{
	struct base *base = NULL;
	int code = check_size(heap_bytes, error);

	*frozen = NULL;
	if (!code && heap_bytes)
		code = base_new(heap_bytes, &base, error);
	if (code)
		return code;
	*frozen = frozen_new(layers_new(base, heap_bytes, NULL, 0), heap_bytes, NULL, 0, error);
	base_drop(base);
	return *frozen ? 0 : -ENOMEM;
}

static int add_entry(struct thaw_frozen *frozen, size_t at, struct layer_page entry)
{
	if (frozen->own_count == frozen->own_room) {
		size_t room = frozen->own_room ? 2 * frozen->own_room : 64;
		struct layer_page *own = realloc(frozen->own, room * sizeof(*own));

		if (!own)
			return -ENOMEM;
		frozen->own = own;
		frozen->own_room = room;
	}
	memmove(&frozen->own[at + 1], &frozen->own[at],
		(frozen->own_count - at) * sizeof(*frozen->own));
	frozen->own[at] = entry;
	frozen->own_count++;
	return 0;
}

int thaw_frozen_begin_over(const struct thaw_frozen *under, size_t heap_bytes,
			   struct thaw_frozen **frozen, struct thaw_error *error)
{
	uint64_t pages = heap_bytes / frozen_page_bytes();
	size_t count = 0;
	struct layers *layers;
	int code = check_size(heap_bytes, error);

	*frozen = NULL;
	if (code)
		return code;
	layers = frozen_layers(under);
	while (count < layers->own_count && layers->own[count].page < pages)
		copy_hold(layers->own[count++].copy);
	*frozen = frozen_new(
		layers_new(layers->base,
			   layers->base_bytes < heap_bytes ? layers->base_bytes : heap_bytes,
			   layers->own, count),
		heap_bytes, NULL, 0, error);
	layers_drop(layers);
	if (!*frozen)
		return -ENOMEM;
	(*frozen)->making = true;
	return 0;
}

static size_t entry_of(const struct thaw_frozen *frozen, uint64_t page)
{
	size_t count = frozen->own_count;

	if (!count || frozen->own[count - 1].page < page) /* most come in order */
		return count;
	return own_find(frozen->own, count, page);
}

/* Part of one page, in a copy that nobody shares. */
static int write_page(struct thaw_frozen *frozen, uint64_t page, size_t within, const char *data,
		      size_t bytes, char *buffer)
{
	size_t page_bytes = frozen_page_bytes(), at = entry_of(frozen, page);
	bool there = at < frozen->own_count && frozen->own[at].page == page;
	struct copy *copy = there ? frozen->own[at].copy : NULL;
	const char *old = NULL;
	int code = 0;

	if (copy) {
		memcpy(copy->bytes + within, data, bytes);
		return 0;
	}
	if (!there && bytes < page_bytes)
		old = layers_page(frozen->layers, page, buffer, page_bytes, &code);
	if (code)
		return code;
	if (!old)
		memset(buffer, 0, page_bytes);
	else if (old != buffer)
		memcpy(buffer, old, page_bytes);
	memcpy(buffer + within, data, bytes);
	if (!page_is_zero(buffer, page_bytes)) {
		copy = copy_new(buffer, page_bytes);
		if (!copy)
			return -ENOMEM;
	}
	if (there) {
		frozen->own[at].copy = copy;
		return 0;
	}
	code = add_entry(frozen, at, (struct layer_page){page, copy});
	if (code)
		copy_drop(copy);
	return code;
}

static int write_over(struct thaw_frozen *frozen, uint64_t offset, const char *data, size_t bytes)
{
	size_t page_bytes = frozen_page_bytes();
	char *buffer = malloc(page_bytes);
	int code = buffer ? 0 : -ENOMEM;

	while (!code && bytes) {
		size_t within = offset % page_bytes, part = page_bytes - within;

		part = part < bytes ? part : bytes;
		code = write_page(frozen, offset / page_bytes, within, data, part, buffer);
		offset += part;
		data += part;
		bytes -= part;
	}
	free(buffer);
	return code;
}

int thaw_frozen_write(struct thaw_frozen *frozen, uint64_t offset, const void *data, size_t bytes,
		      struct thaw_error *error)
{
	int code;

	if (offset > frozen->bytes || bytes > frozen->bytes - offset)
		return error_set(error, -ERANGE, "a frozen heap of %llu bytes has no %zu at %llu",
				 (unsigned long long)frozen->bytes, bytes,
				 (unsigned long long)offset);
	if (!bytes)
		return 0;
	if (!frozen->making)
		return base_write(frozen->layers->base, data, bytes, offset, error);
	code = write_over(frozen, offset, data, bytes);
	return code ? error_set(error, code, "cannot write a frozen heap: %s", thaw_strerror(code))
		    : 0;
}

/* The overlay that was taken over, and over it what was written, which becomes the result's. NULL: no memory. */
static struct layers *merged(struct thaw_frozen *frozen)
{
	const struct layers *under = frozen->layers;
	size_t most = under->own_count + frozen->own_count, count = 0, i = 0, k = 0;
	struct layer_page *own = malloc((most + 1) * sizeof(*own));
	struct layers *layers;

	if (!own)
		return NULL;
	while (i < under->own_count || k < frozen->own_count) {
		uint64_t old = i < under->own_count ? under->own[i].page : UINT64_MAX;
		uint64_t new = k < frozen->own_count ? frozen->own[k].page : UINT64_MAX;

		i += old <= new;
		if (old < new) {
			own[count++] = under->own[i - 1];
			copy_hold(under->own[i - 1].copy);
		} else {
			own[count++] = frozen->own[k++];
		}
	}
	layers = layers_new(under->base, under->base_bytes, own, count);
	frozen->own_count = 0; /* they are gone, one way or the other */
	free(own);
	return layers;
}

int thaw_frozen_end(struct thaw_frozen *frozen, const void *state, size_t state_bytes,
		    struct thaw_error *error)
{
	void *copy = malloc(state_bytes ? state_bytes : 1);
	struct layers *layers = copy && frozen->making ? merged(frozen) : NULL;

	if (!copy || (frozen->making && !layers)) {
		free(copy);
		return error_set(error, -ENOMEM, "no memory for a frozen heap");
	}
	if (state_bytes)
		memcpy(copy, state, state_bytes);
	free(frozen->state);
	frozen->state = copy;
	frozen->state_bytes = state_bytes;
	if (layers) {
		layers_drop(frozen->layers);
		frozen->layers = layers;
		free(frozen->own);
		frozen->own = NULL;
		frozen->own_room = 0;
		frozen->making = false;
	} else if (frozen->layers->base) {
		base_seal(frozen->layers->base);
	}
	return 0;
}
