// SPDX-License-Identifier: GPL-2.0-only
/*
 * heap_mirror.c - a program that is checkpointed, and a thread beside it that keeps a copy of its image by the public interface:
 * whoever opens that copy, at any time, goes on from a generation that was durable, and at the end from the newest.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>

#include "support.h"
#include "thaw_image.h"
#include "thaw_mirror.h"

#define BYTES (4u << 20)
#define GENERATIONS 120u

FIXTURE(heap_mirror)
{
	char *directory, *path, *copy;
	struct thaw *heap;
	struct thaw_mirror *mirror;
	struct thaw_error error;
	int fd;
	uint64_t changes, confirmed;
	_Atomic bool stop;
};
FIXTURE_VARIANT(heap_mirror)
{
	unsigned flags;
};
FIXTURE_VARIANT_ADD(heap_mirror, tree){.flags = 0};
FIXTURE_VARIANT_ADD(heap_mirror, log){.flags = THAW_LOG};

static struct thaw *heap_open(const char *path, unsigned flags, struct thaw_error *error)
{
	const struct thaw_options options = {.image = path,
					     .flags = THAW_CREATE | flags,
					     .max_bytes = BYTES,
					     .engine = "heap_mirror"};
	struct thaw *heap;

	return thaw_open(&options, &heap, error) ? NULL : heap;
}

FIXTURE_SETUP(heap_mirror)
{
	char *lacks;

	self->directory = support_directory();
	lacks = support_kernel_lacks(self->directory);
	if (lacks)
		SKIP(return, "%s", lacks);
	self->path = support_format("%s/heap.thaw", self->directory);
	self->copy = support_format("%s/copy.thaw", self->directory);
	self->fd = open(self->copy, O_RDWR | O_CREAT, 0600);
	ASSERT_LE(0, self->fd);
}
FIXTURE_TEARDOWN(heap_mirror)
{
	close(self->fd);
	free(self->path);
	free(self->copy);
	support_remove(self->directory);
}

/* 0, or what thaw_mirror_read() says. */
static int copy_take(FIXTURE_DATA(heap_mirror) * self)
{
	static char bytes[64 * THAW_MIRROR_BLOCK];
	const struct thaw_take_info *info;
	struct thaw_take *take;
	int code = thaw_mirror_take(self->mirror, &take, &self->error);

	if (code)
		return code;
	info = thaw_mirror_info(take);
	self->changes = info->news.changes;
	for (size_t i = 0; i < info->dirty_count; i++) {
		uint64_t at = info->dirty[i].first * THAW_MIRROR_BLOCK;
		uint64_t left = info->dirty[i].count * THAW_MIRROR_BLOCK;

		for (size_t part; !code && left; left -= part, at += part) {
			part = left < sizeof(bytes) ? left : sizeof(bytes);
			code = thaw_mirror_read(take, at, bytes, part);
			if (pwrite(self->fd, bytes, part, (off_t)at) != (ssize_t)part)
				code = -EIO;
		}
	}
	if (!code)
		code = ftruncate(self->fd, (off_t)info->file_bytes);
	if (!code)
		code = thaw_mirror_check(take);
	if (!code)
		self->confirmed = info->news.generation;
	thaw_mirror_done(take, !code);
	return code;
}

static void *copy_always(void *arg)
{
	FIXTURE_DATA(heap_mirror) *self = arg;

	while (!self->stop)
		if (thaw_mirror_wait(self->mirror, self->changes, -1, NULL) > 0 && copy_take(self))
			abort();
	return NULL;
}

/* Each generation has its count in every 16th page, and in its state. */
static bool generation_make(struct thaw *heap, uint64_t count)
{
	uint64_t *words = thaw_base(heap);

	for (unsigned page = 0; page < thaw_size(heap) / 4096; page += 16)
		words[page * 512 + count % 512] = count;
	return !thaw_checkpoint(heap, THAW_REASON_REQUEST, &count, sizeof(count), NULL);
}

/* The count that a copy goes on from; 0: it is not what it should be. */
static uint64_t copy_check(FIXTURE_DATA(heap_mirror) * self)
{
	struct thaw_error error;
	struct thaw *heap;
	uint64_t count = 0, *words;
	char *command, *path = support_format("%s/opened.thaw", self->directory);
	size_t bytes;

	command = support_format("cp '%s' '%s'", self->copy, path);
	if (system(command))
		abort();
	heap = heap_open(path, 0, &error);
	if (heap && thaw_state(heap, &bytes) && bytes == sizeof(count)) {
		count = *(const uint64_t *)thaw_state(heap, &bytes);
		words = thaw_base(heap);
		for (unsigned page = 0; page < thaw_size(heap) / 4096; page += 16)
			for (uint64_t at = count > 511 ? count - 511 : 1; count && at <= count;
			     at++)
				if (words[page * 512 + at % 512] != at)
					count = 0;
	}
	thaw_close(heap);
	free(command);
	free(path);
	return count;
}

TEST_F(heap_mirror, a_copy_goes_on_where_the_program_was)
{
	const struct thaw_verify_ops ops = {0};
	struct thaw_verify_summary summary;
	struct thaw_error error;
	pthread_t thread;

	self->heap = heap_open(self->path, variant->flags, &error);
	ASSERT_NE(NULL, self->heap) TH_LOG("%s", error.text);
	ASSERT_EQ(0, thaw_resize(self->heap, BYTES));
	ASSERT_TRUE(generation_make(self->heap, 1));
	ASSERT_EQ(0, thaw_mirror_open(self->heap, 0, &self->mirror, &error))
	TH_LOG("%s", error.text);
	ASSERT_EQ(0, pthread_create(&thread, NULL, copy_always, self));
	for (uint64_t i = 2; i <= GENERATIONS; i++)
		ASSERT_TRUE(generation_make(self->heap, i));
	self->stop = true;
	thaw_mirror_wake(self->mirror);
	ASSERT_EQ(0, pthread_join(thread, NULL));
	if (self->confirmed)
		ASSERT_LE(1, copy_check(self));
	/* As a program ends: all is listed, and closing it writes nothing more. */
	ASSERT_EQ(0, thaw_list(self->heap, &error));
	ASSERT_EQ(0, copy_take(self));
	thaw_mirror_close(self->mirror);
	thaw_close(self->heap);
	ASSERT_EQ(GENERATIONS, copy_check(self));
	ASSERT_EQ(0, thaw_image_verify(self->copy, &ops, &summary, &error))
	TH_LOG("%s", error.text);

	/* And the program itself goes on, with a mirror from its start on. */
	self->heap = heap_open(self->path, variant->flags, &error);
	ASSERT_NE(NULL, self->heap);
	ASSERT_EQ(0, thaw_mirror_open(self->heap, 0, &self->mirror, &error));
	ASSERT_EQ(-EBUSY, thaw_mirror_open(self->heap, 0, &(struct thaw_mirror *){NULL}, &error));
	ASSERT_TRUE(generation_make(self->heap, GENERATIONS + 1));
	ASSERT_EQ(0, copy_take(self));
	thaw_mirror_close(self->mirror);
	thaw_close(self->heap);
	ASSERT_EQ(GENERATIONS + 1, copy_check(self));
}

TEST_HARNESS_MAIN
