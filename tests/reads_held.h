// SPDX-License-Identifier: GPL-2.0-only
/*
 * reads_held.h - for tests of what is read ahead of demand: in place of calls between the library's objects
 * (TEST_WRAPS in tests.mk). The thread that reads ahead stops at a gate where it has read something; images look
 * too large for the page cache, or are not in it; reads fail, or are refused past the page cache; an index has a hole.
 */
#ifndef TESTS_READS_HELD_H
#define TESTS_READS_HELD_H

#include <pthread.h>
#include <stdatomic.h>

#include "image/extent_codec.h"
#include "reader.h"
#include "support.h"
#include "sys.h"

#define HELD_READERS 8u
#define HELD_READS 64u

static struct {
	bool direct, nothing_is_cached;
	_Atomic bool closed, at_gate, joining;
	_Atomic unsigned direct_reads;
	_Atomic int refuse; /* so many direct reads, all together when the last of them is done */
	_Atomic int fail_ahead; /* so many reads ahead */
	_Atomic bool fail_all;
	uint64_t lost_leaf; /* if not 0: cannot be looked up */
	bool all_lost;	    /* nothing can */

	struct held_reader {
		void (*completed)(void *arg, void *token, int result);
		void *arg;
		void *refused[HELD_READS];
		unsigned refused_count;
	} readers[HELD_READERS];
	_Atomic unsigned reader_count;
	_Atomic(void *) direct_tokens[HELD_READS];
} held;

SUPPORT void gate_close(void)
{
	atomic_store(&held.closed, true);
}

SUPPORT void gate_open(void)
{
	atomic_store(&held.closed, false);
}

/* The thread that reads ahead is at the gate. */
SUPPORT bool gate_await(void)
{
	double end = support_deadline(60);

	while (!atomic_load(&held.at_gate) && support_seconds() < end)
		support_sleep(0.0002);
	return atomic_load(&held.at_gate);
}

static bool is_thread(const char *name)
{
	char own[16];

	return !pthread_getname_np(pthread_self(), own, sizeof(own)) && !strcmp(own, name);
}

long __real_sysconf(int name);
long __wrap_sysconf(int name);
long __wrap_sysconf(int name)
{
	return held.direct && name == _SC_PHYS_PAGES ? 1024 : __real_sysconf(name);
}

bool __real_sys_is_cached(int fd, uint64_t offset, uint64_t bytes);
bool __wrap_sys_is_cached(int fd, uint64_t offset, uint64_t bytes);
bool __wrap_sys_is_cached(int fd, uint64_t offset, uint64_t bytes)
{
	return held.direct || held.nothing_is_cached ? false
						     : __real_sys_is_cached(fd, offset, bytes);
}

int __real_sys_pread_cached(int fd, void *buffer, size_t bytes, uint64_t offset);
int __wrap_sys_pread_cached(int fd, void *buffer, size_t bytes, uint64_t offset);
int __wrap_sys_pread_cached(int fd, void *buffer, size_t bytes, uint64_t offset)
{
	return held.nothing_is_cached ? -EAGAIN
				      : __real_sys_pread_cached(fd, buffer, bytes, offset);
}

int __real_extent_decode(struct extent_scratch *scratch, const struct checksum_key *key,
			 uint64_t number, const struct extent *extent, const void *stored,
			 void *page, uint32_t page_bytes);
int __wrap_extent_decode(struct extent_scratch *scratch, const struct checksum_key *key,
			 uint64_t number, const struct extent *extent, const void *stored,
			 void *page, uint32_t page_bytes);
int __wrap_extent_decode(struct extent_scratch *scratch, const struct checksum_key *key,
			 uint64_t number, const struct extent *extent, const void *stored,
			 void *page, uint32_t page_bytes)
{
	if (atomic_load(&held.closed) && is_thread("thaw-ahead")) {
		atomic_store(&held.at_gate, true);
		while (atomic_load(&held.closed))
			support_sleep(0.0002);
	}
	return __real_extent_decode(scratch, key, number, extent, stored, page, page_bytes);
}

int __real_image_lookup(struct image *image, uint64_t first_page,
			struct extent extents[IMAGE_LEAF_PAGES], struct thaw_error *error);
int __wrap_image_lookup(struct image *image, uint64_t first_page,
			struct extent extents[IMAGE_LEAF_PAGES], struct thaw_error *error);
int __wrap_image_lookup(struct image *image, uint64_t first_page,
			struct extent extents[IMAGE_LEAF_PAGES], struct thaw_error *error)
{
	if (!held.all_lost && (!held.lost_leaf || first_page != held.lost_leaf))
		return __real_image_lookup(image, first_page, extents, error);
	if (error)
		snprintf(error->text, sizeof(error->text), "the test has lost it");
	return THAW_EDAMAGED;
}

int __real_pthread_join(pthread_t thread, void **result);
int __wrap_pthread_join(pthread_t thread, void **result);
int __wrap_pthread_join(pthread_t thread, void **result)
{
	if (is_thread("thaw-faults"))
		atomic_store(&held.joining, true);
	return __real_pthread_join(thread, result);
}

/* ---- reads */

static bool was_direct(void *token)
{
	for (unsigned i = 0; i < HELD_READS; i++) {
		void *expected = token;

		if (atomic_compare_exchange_strong(&held.direct_tokens[i], &expected, NULL))
			return true;
	}
	return false;
}

static void held_completed(void *arg, void *token, int result)
{
	struct held_reader *reader = arg;
	bool direct = was_direct(token);

	if (direct && atomic_load(&held.refuse) > 0) {
		reader->refused[reader->refused_count++] = token;
		if (atomic_fetch_sub(&held.refuse, 1) > 1)
			return;
		for (unsigned i = 0; i < reader->refused_count; i++)
			reader->completed(reader->arg, reader->refused[i], -EINVAL);
		return;
	}
	if (atomic_load(&held.fail_all) ||
	    (is_thread("thaw-ahead") && atomic_fetch_sub(&held.fail_ahead, 1) > 0))
		result = -EIO;
	reader->completed(reader->arg, token, result);
}

int __real_reader_open(struct reader **reader, const struct reader_options *options,
		       struct thaw_error *error);
int __wrap_reader_open(struct reader **reader, const struct reader_options *options,
		       struct thaw_error *error);
int __wrap_reader_open(struct reader **reader, const struct reader_options *options,
		       struct thaw_error *error)
{
	struct held_reader *ours = &held.readers[atomic_fetch_add(&held.reader_count, 1)];
	struct reader_options changed = *options;

	*ours = (struct held_reader){.completed = options->completed, .arg = options->arg};
	changed.completed = held_completed;
	changed.arg = ours;
	return __real_reader_open(reader, &changed, error);
}

int __real_reader_read(struct reader *reader, void *token, void *to, unsigned bytes,
		       uint64_t offset, bool direct);
int __wrap_reader_read(struct reader *reader, void *token, void *to, unsigned bytes,
		       uint64_t offset, bool direct);
int __wrap_reader_read(struct reader *reader, void *token, void *to, unsigned bytes,
		       uint64_t offset, bool direct)
{
	for (unsigned i = 0; direct && i < HELD_READS; i++) {
		void *expected = NULL;

		if (atomic_compare_exchange_strong(&held.direct_tokens[i], &expected, token))
			break;
	}
	if (direct)
		atomic_fetch_add(&held.direct_reads, 1);
	return __real_reader_read(reader, token, to, bytes, offset, direct);
}

#endif
