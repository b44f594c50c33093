/* SPDX-License-Identifier: MIT */
/*
 * frozen_sum.c - a sum over what a frozen heap has. What a base comes to is computed once, and kept with it: what differs from it
 * is all that is looked at from then on.
 *
 * Any thread.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <xxhash.h>

#include "frozen.h"
#include "sys.h"

#define UNIT 4096u
#define READ_BYTES (256u << 10)

static frozen_sum unit_sum(uint64_t number, const char *bytes)
{
	struct {
		uint64_t number;
		XXH128_hash_t contents;
	} leaf;
	XXH128_hash_t hash;

	if (page_is_zero(bytes, UNIT))
		return 0;
	leaf.number = number;
	leaf.contents = XXH3_128bits(bytes, UNIT);
	hash = XXH3_128bits(&leaf, sizeof(leaf));
	return (frozen_sum)hash.high64 << 64 | hash.low64;
}

static void sum_put(frozen_sum from, uint64_t sum[2])
{
	sum[0] = (uint64_t)from;
	sum[1] = (uint64_t)(from >> 64);
}

void thaw_frozen_sum_of(uint64_t number, const void *bytes, uint64_t sum[2])
{
	sum_put(unit_sum(number, bytes), sum);
}

static frozen_sum bytes_sum(uint64_t offset, const char *bytes, size_t count)
{
	frozen_sum sum = 0;

	for (size_t at = 0; at < count; at += UNIT)
		sum += unit_sum((offset + at) / UNIT, bytes + at);
	return sum;
}

/* What is stored of a base from `start` on, whole pages. */
static int base_part(const struct base *base, uint64_t start, frozen_sum *sum)
{
	const struct layers all = {.base = (struct base *)base, .base_bytes = base->bytes};
	size_t page_bytes = frozen_page_bytes(), most = READ_BYTES / page_bytes;
	char *buffer = malloc(READ_BYTES);
	struct bitmap pages;
	uint64_t run = 0;
	int code = buffer ? bitmap_init(&pages, base->bytes / page_bytes + 1) : -ENOMEM;

	*sum = 0;
	if (code) {
		free(buffer);
		return code;
	}
	code = layers_data(&all, &pages, page_bytes);
	for (uint64_t at = start / page_bytes;
	     !code && (at = bitmap_next(&pages, at)) != UINT64_MAX; at += run) {
		run = bitmap_run(&pages, at);
		run = run < most ? run : most;
		code = sys_pread(base->fd, buffer, run * page_bytes, at * page_bytes);
		if (!code)
			*sum += bytes_sum(at * page_bytes, buffer, run * page_bytes);
	}
	bitmap_free(&pages);
	free(buffer);
	return code;
}

/* Others that want it wait for the one that computes it. */
static int base_whole(struct base *base, frozen_sum *sum)
{
	int code = 0;

	pthread_mutex_lock(&base->lock);
	if (!base->summed) {
		code = base_part(base, 0, &base->sum);
		base->summed = !code;
	}
	*sum = base->sum;
	pthread_mutex_unlock(&base->lock);
	return code;
}

/* A page of the overlay instead of the base's. */
static int add_own(const struct layers *layers, const struct layer_page *own, char *buffer,
		   size_t page_bytes, frozen_sum *sum)
{
	uint64_t offset = own->page * page_bytes;
	int code = 0;

	if (own->copy)
		*sum += bytes_sum(offset, own->copy->bytes, page_bytes);
	if (offset + page_bytes > layers->base_bytes)
		return 0;
	code = sys_pread(layers->base->fd, buffer, page_bytes, offset);
	if (!code)
		*sum -= bytes_sum(offset, buffer, page_bytes);
	return code;
}

/* What the pages of the overlay, and an end of the base that is not used, make of the base's sum. */
static int difference(const struct layers *layers, frozen_sum *sum)
{
	size_t page_bytes = frozen_page_bytes();
	frozen_sum behind = 0;
	char *buffer = malloc(page_bytes);
	int code = buffer ? 0 : -ENOMEM;

	if (!code && layers->base && layers->base_bytes < layers->base->bytes)
		code = base_part(layers->base, layers->base_bytes, &behind);
	*sum = -behind;
	for (size_t i = 0; !code && i < layers->own_count; i++)
		code = add_own(layers, &layers->own[i], buffer, page_bytes, sum);
	free(buffer);
	return code;
}

int thaw_frozen_sum(const struct thaw_frozen *frozen, uint64_t sum[2], struct thaw_error *error)
{
	struct layers *layers = frozen_layers(frozen);
	frozen_sum all = 0, more = 0;
	int code = layers->base ? base_whole(layers->base, &all) : 0;

	if (!code)
		code = difference(layers, &more);
	layers_drop(layers);
	sum_put(all + more, sum);
	return code ? error_set(error, code, "cannot read a frozen heap: %s", thaw_strerror(code))
		    : 0;
}

void thaw_frozen_sum_is(const struct thaw_frozen *frozen, const uint64_t sum[2])
{
	struct layers *layers = frozen_layers(frozen);
	struct base *base = layers->base;
	frozen_sum more;

	if (base) {
		pthread_mutex_lock(&base->lock);
		if (!base->summed && !difference(layers, &more)) {
			base->sum = ((frozen_sum)sum[1] << 64 | sum[0]) - more;
			base->summed = true;
		}
		pthread_mutex_unlock(&base->lock);
	}
	layers_drop(layers);
}
