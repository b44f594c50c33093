/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * replica.h - for tests of what is in a store: a heap whose contents say which generation they are, and all of a store's image as a
 * file, got by nothing but the format: newest record, index, frames.
 */
#ifndef TESTS_STORE_REPLICA_H
#define TESTS_STORE_REPLICA_H

#include <errno.h>
#include <fcntl.h>

#include "base/clock.h"
#include "store/epoch.h"
#include "store/frames.h"
#include "store/record.h"
#include "store_server.h"
#include "thaw_image.h"
#include "thaw_mirror.h"

#define REPLICA_ENGINE "replica"
#define REPLICA_MOST (64u << 20)
#define REPLICA_PAGES 512u /* that generations change; what lies behind them is the test's */

SUPPORT struct thaw *replica_heap(const char *path, unsigned flags, struct thaw_error *error)
{
	const struct thaw_options options = {
		.image = path, .flags = flags, .max_bytes = REPLICA_MOST, .engine = REPLICA_ENGINE};
	struct thaw *heap;

	return thaw_open(&options, &heap, error) ? NULL : heap;
}

SUPPORT size_t replica_pages(const struct thaw *heap)
{
	size_t pages = thaw_size(heap) / 4096;

	return pages < REPLICA_PAGES ? pages : REPLICA_PAGES;
}

/* Which word of a page a generation changes, and in which pages: a sixteenth of them. */
SUPPORT void replica_write(struct thaw *heap, uint64_t count)
{
	uint64_t *words = thaw_base(heap);

	for (size_t page = count % 16; page < replica_pages(heap); page += 16)
		words[page * 512 + count / 16 % 512] = count;
}

/* Becomes generation `count` of its program; returns the image's number of it, or a negative code. */
SUPPORT int64_t replica_generation(struct thaw *heap, uint64_t count)
{
	struct thaw_result result;
	int code;

	replica_write(heap, count);
	code = thaw_checkpoint(heap, THAW_REASON_REQUEST, &count, sizeof(count), &result);
	return code ? code : (int64_t)result.generation.number;
}

/* The count that a heap goes on from, all of which is as it was then; -1: it is not. */
SUPPORT int64_t replica_count(struct thaw *heap)
{
	uint64_t *words = thaw_base(heap), count;
	size_t bytes;
	const void *state = thaw_state(heap, &bytes);

	if (!state)
		return 0;
	if (bytes != sizeof(count))
		return -1;
	memcpy(&count, state, sizeof(count));
	for (size_t page = 0; page < replica_pages(heap); page++) {
		for (uint64_t at = 0; at < 512; at++) {
			/* The last one, up to this, that has changed this word. */
			uint64_t wanted = at * 16 + page % 16;

			if (wanted > count)
				wanted = 0;
			if (words[page * 512 + at] != wanted) {
				printf("# page %zu, word %llu: %llu, not %llu, of %llu\n", page,
				       (unsigned long long)at,
				       (unsigned long long)words[page * 512 + at],
				       (unsigned long long)wanted, (unsigned long long)count);
				return -1;
			}
		}
	}
	return (int64_t)count;
}

/* ---- The file of a store's newest record. Returns 0, or what failed and the code. */

struct replica_object { /* the one that was got last: frames of one are behind each other */
	char name[STORE_NAME_BYTES];
	uint8_t *bytes;
	size_t count;
};

SUPPORT int replica_frame(struct s3 *s3, const struct store_level *level, uint32_t f,
			  struct replica_object *got, struct frame_decoder *decoder, void *blocks,
			  struct thaw_error *error)
{
	const struct store_frame *frame = &level->frames[f];
	char name[STORE_NAME_BYTES];
	void *bytes;
	int code;

	store_object_name(&level->objects[frame->object], name);
	if (strcmp(name, got->name)) {
		free(got->bytes);
		*got = (struct replica_object){0};
		code = s3_get(s3, name, 64u << 20, 0, &bytes, &got->count, error);
		if (code)
			return code;
		got->bytes = bytes;
		strcpy(got->name, name);
	}
	if ((size_t)frame->offset + frame->bytes > got->count)
		return -ERANGE;
	return frame_decode(decoder, frame, got->bytes + frame->offset, blocks);
}

SUPPORT int replica_write_frames(struct s3 *s3, const struct store_level *level, int fd,
				 struct thaw_error *error)
{
	static uint8_t blocks[STORE_FRAME_BYTES];
	struct frame_decoder *decoder = frame_decoder_new();
	struct replica_object got = {0};
	uint32_t *order, *start;
	int code = level_by_frame(level, &order, &start);

	for (uint32_t f = 0; f < level->frame_count && !code; f++) {
		code = replica_frame(s3, level, f, &got, decoder, blocks, error);
		for (uint32_t i = start[f]; i < start[f + 1] && !code; i++) {
			const struct store_run *run = &level->runs[order[i]];
			size_t bytes = run->count * (size_t)STORE_BLOCK;

			if (pwrite(fd, blocks + run->at * STORE_BLOCK, bytes,
				   (off_t)(run->first * STORE_BLOCK)) != (ssize_t)bytes)
				code = -errno;
		}
	}
	free(got.bytes);
	frame_decoder_free(decoder);
	free(order);
	free(start);
	return code;
}

/* `number`: which record; 0: the newest. */
SUPPORT int replica_restore_record(const char *place, uint64_t number, const char *path,
				   struct store_record *record, struct thaw_error *error)
{
	struct store_index index = {0};
	struct store_level level = {0};
	void *tail = NULL;
	struct s3 *s3;
	int fd, code = s3_open(place, NULL, &s3, error);

	if (code)
		return code;
	code = number ? record_get(s3, number, 0, record, &tail, error)
		      : record_newest(s3, 0, record, &tail, error);
	if (!code)
		code = record_index(s3, record, tail, 0, &index, error);
	if (!code)
		code = index_merge(&index, &level);
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (!code && ftruncate(fd, (off_t)record->file_bytes))
		code = -errno;
	if (!code)
		code = replica_write_frames(s3, &level, fd, error);
	close(fd);
	free(tail);
	level_free(&level);
	index_free(&index);
	s3_close(s3);
	return code;
}

SUPPORT int replica_restore(const char *place, const char *path, struct store_record *record,
			    struct thaw_error *error)
{
	return replica_restore_record(place, 0, path, record, error);
}

/* The count that a record of a store goes on from, whole: each byte of the image, and the heap; -1: it is damaged. */
SUPPORT int64_t replica_of_record(const char *place, uint64_t number, const char *directory,
				  struct store_record *record)
{
	char *path = support_format("%s/restored.thaw", directory);
	struct thaw_error error = {0};
	struct thaw *heap = NULL;
	int64_t count = -1;
	int code = replica_restore_record(place, number, path, record, &error);

	if (!code && !record->generation) {
		free(path);
		return 0;
	}
	if (!code)
		code = thaw_image_verify(path, NULL, NULL, &error);
	if (!code)
		heap = replica_heap(path, 0, &error);
	if (heap)
		count = replica_count(heap);
	else
		printf("# %s: %d %s\n", place, code, error.text);
	thaw_close(heap);
	unlink(path);
	free(path);
	return count;
}

SUPPORT int64_t replica_of_store(const char *place, const char *directory,
				 struct store_record *record)
{
	return replica_of_record(place, 0, directory, record);
}

/* The store becomes theirs who want that, as often as others come between. */
SUPPORT int epoch_claim(struct s3 *s3, const struct epoch_wish *wish, uint64_t deadline_ns,
			struct store_claim *claim, struct thaw_error *error)
{
	for (;;) {
		int code = epoch_look(s3, wish, deadline_ns, claim, error);

		if (!code)
			code = epoch_seal(s3, wish, deadline_ns, claim, error);
		if (code != -EAGAIN)
			return code;
		claim_free(claim);
	}
}

#endif
