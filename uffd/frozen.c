/* SPDX-License-Identifier: MIT */
/*
 * frozen.c - struct thaw_frozen: its life, and reading it (frozen.h has the drawing).
 *
 * Any thread. What others hold is never changed: whoever reads takes the layers first, under the lock, and keeps them
 * until it has read.
 */
#define _GNU_SOURCE
#include "frozen.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sys.h"

#define READ_BYTES (128u << 10)

size_t frozen_page_bytes(void)
{
	return (size_t)sysconf(_SC_PAGESIZE);
}

bool page_is_zero(const char *page, size_t bytes)
{
	return !page[0] && !memcmp(page, page + 1, bytes - 1);
}

/* ---- copies and layers */

struct copy *copy_new(const void *bytes, size_t page_bytes)
{
	struct copy *copy = malloc(sizeof(*copy) + page_bytes);

	if (!copy)
		return NULL;
	copy->count = 1;
	memcpy(copy->bytes, bytes, page_bytes);
	return copy;
}

struct copy *copy_hold(struct copy *copy)
{
	if (copy)
		atomic_fetch_add_explicit(&copy->count, 1, memory_order_relaxed);
	return copy;
}

void copy_drop(struct copy *copy)
{
	if (copy && atomic_fetch_sub(&copy->count, 1) == 1)
		free(copy);
}

static void drop_own(struct layer_page *own, size_t count)
{
	for (size_t i = 0; i < count; i++)
		copy_drop(own[i].copy);
}

struct layers *layers_new(struct base *base, uint64_t base_bytes, struct layer_page *own,
			  size_t count)
{
	struct layers *layers = malloc(sizeof(*layers) + count * sizeof(*own));

	if (!layers) {
		drop_own(own, count);
		return NULL;
	}
	layers->count = 1;
	layers->base = base_hold(base);
	layers->base_bytes = base ? base_bytes : 0;
	layers->own_count = count;
	if (count)
		memcpy(layers->own, own, count * sizeof(*own));
	return layers;
}

struct layers *layers_hold(struct layers *layers)
{
	if (layers)
		atomic_fetch_add(&layers->count, 1);
	return layers;
}

void layers_drop(struct layers *layers)
{
	if (!layers || atomic_fetch_sub(&layers->count, 1) != 1)
		return;
	drop_own(layers->own, layers->own_count);
	base_drop(layers->base);
	free(layers);
}

size_t own_find(const struct layer_page *own, size_t count, uint64_t page)
{
	size_t low = 0, high = count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (own[middle].page < page)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

const char *layers_page(const struct layers *layers, uint64_t page, char *buffer, size_t page_bytes,
			int *code)
{
	size_t at = own_find(layers->own, layers->own_count, page);

	*code = 0;
	if (at < layers->own_count && layers->own[at].page == page)
		return layers->own[at].copy ? layers->own[at].copy->bytes : NULL;
	if ((page + 1) * page_bytes > layers->base_bytes)
		return NULL;
	*code = sys_pread(layers->base->fd, buffer, page_bytes, page * page_bytes);
	return buffer;
}

/* What is stored of the base: the rest are holes. */
static int base_data(const struct layers *layers, struct bitmap *pages, size_t page_bytes)
{
	off_t at = 0, end = (off_t)layers->base_bytes;

	while (at < end) {
		off_t data = lseek(layers->base->fd, at, SEEK_DATA), hole;

		if (data < 0)
			return errno == ENXIO ? 0 : -errno;
		hole = lseek(layers->base->fd, data, SEEK_HOLE);
		if (hole < 0)
			return -errno;
		if (data >= end)
			return 0;
		hole = hole < end ? hole : end;
		bitmap_set_range(pages, (uint64_t)data / page_bytes,
				 ((uint64_t)hole + page_bytes - 1) / page_bytes -
					 (uint64_t)data / page_bytes);
		at = hole;
	}
	return 0;
}

int layers_data(const struct layers *layers, struct bitmap *pages, size_t page_bytes)
{
	int code = layers->base ? base_data(layers, pages, page_bytes) : 0;

	for (size_t i = 0; !code && i < layers->own_count; i++)
		if (layers->own[i].copy)
			bitmap_set(pages, layers->own[i].page);
		else
			bitmap_clear(pages, layers->own[i].page);
	return code;
}

/* ---- life */

struct thaw_frozen *frozen_new(struct layers *layers, uint64_t bytes, const void *state,
			       size_t state_bytes, struct thaw_error *error)
{
	struct thaw_frozen *frozen = layers ? calloc(1, sizeof(*frozen)) : NULL;
	void *copy = frozen ? malloc(state_bytes ? state_bytes : 1) : NULL;

	if (!copy) {
		free(frozen);
		layers_drop(layers);
		error_set(error, -ENOMEM, "no memory for a frozen heap");
		return NULL;
	}
	if (state_bytes)
		memcpy(copy, state, state_bytes);
	frozen->count = 1;
	frozen->layers = layers;
	frozen->bytes = bytes;
	frozen->state = copy;
	frozen->state_bytes = state_bytes;
	pthread_mutex_init(&frozen->lock, NULL);
	return frozen;
}

struct thaw_frozen *thaw_frozen_hold(struct thaw_frozen *frozen)
{
	if (frozen)
		atomic_fetch_add(&frozen->count, 1);
	return frozen;
}

void thaw_frozen_drop(struct thaw_frozen *frozen)
{
	if (!frozen || atomic_fetch_sub(&frozen->count, 1) != 1)
		return;
	layers_drop(frozen->layers);
	drop_own(frozen->own, frozen->own_count);
	free(frozen->own);
	free(frozen->state);
	pthread_mutex_destroy(&frozen->lock);
	free(frozen);
}

struct layers *frozen_layers(const struct thaw_frozen *frozen)
{
	pthread_mutex_t *lock = (pthread_mutex_t *)&frozen->lock;
	struct layers *layers;

	pthread_mutex_lock(lock);
	layers = layers_hold(frozen->layers);
	pthread_mutex_unlock(lock);
	return layers;
}

/* ---- looking at one */

size_t thaw_frozen_bytes(const struct thaw_frozen *frozen)
{
	return frozen->bytes;
}

size_t thaw_frozen_page_bytes(void)
{
	return frozen_page_bytes();
}

const void *thaw_frozen_state(const struct thaw_frozen *frozen, size_t *bytes)
{
	*bytes = frozen->state_bytes;
	return frozen->state;
}

const struct thaw_generation *thaw_frozen_generation(const struct thaw_frozen *frozen)
{
	return &frozen->generation;
}

void thaw_frozen_usage(const struct thaw_frozen *frozen, struct thaw_frozen_usage *usage)
{
	struct layers *layers = frozen_layers(frozen);

	*usage = (struct thaw_frozen_usage){
		.base_bytes = layers->base_bytes,
		.overlay_pages = layers->own_count,
		.file = layers->base && layers->base->path,
	};
	for (size_t i = 0; i < layers->own_count; i++)
		usage->overlay_bytes += layers->own[i].copy ? frozen_page_bytes() : 0;
	layers_drop(layers);
}

/* From `offset` on, up to the next page of the overlay at most: how many bytes of so many, all of the base or all zero. */
static size_t read_stretch(const struct layers *layers, size_t next_own, uint64_t offset,
			   size_t bytes)
{
	uint64_t end = next_own < layers->own_count
			       ? layers->own[next_own].page * frozen_page_bytes()
			       : UINT64_MAX;

	if (offset < layers->base_bytes && layers->base_bytes < end)
		end = layers->base_bytes;
	if (offset < layers->base_bytes && end - offset > READ_BYTES)
		end = offset + READ_BYTES;
	return end - offset < bytes ? end - offset : bytes;
}

/* Not at once to where it belongs: that may be a heap, whose pages a system call cannot write (thaw_touch()). */
static int read_layers(const struct layers *layers, uint64_t offset, char *to, size_t bytes,
		       char *buffer)
{
	size_t page_bytes = frozen_page_bytes(), part;
	size_t own = own_find(layers->own, layers->own_count, offset / page_bytes);
	int code = 0;

	for (; !code && bytes; to += part, offset += part, bytes -= part) {
		size_t within = offset % page_bytes;

		if (own < layers->own_count && layers->own[own].page == offset / page_bytes) {
			const struct copy *copy = layers->own[own++].copy;

			part = page_bytes - within < bytes ? page_bytes - within : bytes;
			if (copy)
				memcpy(to, copy->bytes + within, part);
			else
				memset(to, 0, part);
			continue;
		}
		part = read_stretch(layers, own, offset, bytes);
		if (offset >= layers->base_bytes) {
			memset(to, 0, part);
			continue;
		}
		code = sys_pread(layers->base->fd, buffer, part, offset);
		if (!code)
			memcpy(to, buffer, part);
	}
	return code;
}

int thaw_frozen_read(const struct thaw_frozen *frozen, uint64_t offset, void *to, size_t bytes,
		     struct thaw_error *error)
{
	struct layers *layers;
	char *buffer;
	int code;

	if (offset > frozen->bytes || bytes > frozen->bytes - offset)
		return error_set(error, -ERANGE, "a frozen heap of %llu bytes has no %zu at %llu",
				 (unsigned long long)frozen->bytes, bytes,
				 (unsigned long long)offset);
	buffer = malloc(bytes < READ_BYTES ? bytes + 1 : READ_BYTES);
	if (!buffer)
		return error_set(error, -ENOMEM, "no memory to read a frozen heap");
	layers = frozen_layers(frozen);
	code = read_layers(layers, offset, to, bytes, buffer);
	layers_drop(layers);
	free(buffer);
	return code ? error_set(error, code, "cannot read a frozen heap: %s", thaw_strerror(code))
		    : 0;
}

int thaw_frozen_pages(const struct thaw_frozen *frozen,
		      int (*visit)(void *arg, uint64_t first, uint64_t pages), void *arg)
{
	size_t page_bytes = frozen_page_bytes();
	struct layers *layers = frozen_layers(frozen);
	struct bitmap pages;
	int code = bitmap_init(&pages, frozen->bytes / page_bytes + 1);

	if (!code) {
		uint64_t run = 0;

		code = layers_data(layers, &pages, page_bytes);
		for (uint64_t at = 0; !code && (at = bitmap_next(&pages, at)) != UINT64_MAX;
		     at += run) {
			run = bitmap_run(&pages, at);
			code = visit(arg, at, run);
		}
		bitmap_free(&pages);
	}
	layers_drop(layers);
	return code;
}
