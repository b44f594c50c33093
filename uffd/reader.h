/* SPDX-License-Identifier: MIT */
/*
 * reader.h - reads of the image, many at a time, while their reader also waits for faults. One
 * interface, two back ends:
 *
 *  io_uring (reader_uring.c)   one ring for reads, for faults and for being woken.
 *  threads (reader_threads.c)  where io_uring is forbidden (kernel.io_uring_disabled, seccomp): what
 *                              the page cache has is read at once, the rest by a few threads.
 *
 * One thread at a time uses a reader: the fault service's, or who opens a heap that is read at once;
 * reader_wake() is for everyone. Must never: touch the region through its base, run a signal handler
 * in a thread of its own, lose a completion.
 */
#ifndef UFFD_READER_H
#define UFFD_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "probe.h"

struct reader_options {
	enum reader_kind kind;
	int image_fd;	     /* of what is read; -1: nothing is. Stays open until reader_close() */
	int faults_fd;	     /* readable when faults wait; -1: none */
	unsigned reads;	     /* begun and not completed, at most */
	size_t buffer_bytes; /* of each of `reads` buffers; 0: reads go elsewhere */
	/*
	 * A read has completed: `result` is how many bytes came (perhaps not all), 0 where the file
	 * ends, or -errno. Called by reader_wait(); may begin reads.
	 */
	void (*completed)(void *arg, void *token, int result);
	void *arg;
};

struct reader {
	struct reader_options options;
	const struct reader_back_end *back_end;
	int wake_fd; /* an eventfd */
	char *buffers;
};

enum reader_until {
	READER_NOW,	 /* does not wait */
	READER_ANYTHING, /* until a read has completed, faults wait or someone wakes */
	READER_READ,	 /* until a read has completed: for who cannot serve faults now */
};

/* 0 or what thaw_open() fails with. */
int reader_open(struct reader **reader, const struct reader_options *options,
		struct thaw_error *error);
/* NULL is fine. No read may be under way, and nobody in reader_wake(). */
void reader_close(struct reader *reader);

/* The bytes that buffer `number` begins with. */
static inline char *reader_buffer(const struct reader *reader, unsigned number)
{
	return reader->buffers + number * reader->options.buffer_bytes;
}

/*
 * Begin to read: into a buffer, or, if the reader has none, into memory whose absence is no fault of
 * faults_fd. `token` names the read: the address of something. 0, or -errno, which means that more
 * reads were begun than was said.
 */
int reader_read(struct reader *reader, void *token, void *to, unsigned bytes, uint64_t offset);

/*
 * Completes what can be completed, having waited as told; it may come back early. Returns 1 if
 * faults were seen to wait since it last said so (read them until there is none), else 0, or
 * -errno: neither faults nor reads can be waited for any more.
 */
int reader_wait(struct reader *reader, enum reader_until until);

/* A reader_wait(READER_ANYTHING), this one or the next, comes back. Any thread; async-signal-safe. */
void reader_wake(struct reader *reader);

/* ---- for the back ends ---- */

struct reader_back_end {
	int (*read)(struct reader *reader, void *token, void *to, unsigned bytes, uint64_t offset);
	int (*wait)(struct reader *reader, enum reader_until until);
	void (*close)(struct reader *reader); /* its own part, and the struct that holds it all */
};

/* Each makes a struct of its own whose first member is the reader, and prepares that. */
int reader_uring_open(struct reader **reader, const struct reader_options *options,
		      struct thaw_error *error);
int reader_threads_open(struct reader **reader, const struct reader_options *options,
			struct thaw_error *error);
int reader_prepare(struct reader *reader, const struct reader_back_end *back_end,
		   const struct reader_options *options, struct thaw_error *error);
void reader_release(struct reader *reader);

#endif
