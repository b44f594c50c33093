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
	int image_fd; /* of the image; -1: nothing is read. Stays open until reader_close() */
	bool exactly; /* what is asked for is read, and nothing ahead of it: by io_uring, else as image_fd is */
	int direct_fd;	     /* the same file, opened with O_DIRECT; -1: not */
	int faults_fd;	     /* readable when faults wait; -1: none */
	unsigned reads;	     /* the most reads begun and not completed */
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
	READER_READ,	 /* until a read has completed: when faults cannot be served now */
};

/* 0 or an error of thaw_open(). */
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
 * Begin to read into a buffer, or, if the reader has none, into memory that cannot raise a fault on
 * faults_fd. `token` names the read: the address of some object. `direct`: past the page cache; there must be a
 * direct_fd, and the file system may answer EINVAL. 0, or -errno, also when more reads are begun than `reads`.
 */
int reader_read(struct reader *reader, void *token, void *to, unsigned bytes, uint64_t offset,
		bool direct);

/*
 * Waits as told, and completes all reads that are done; it may return early. Returns 1 if faults
 * have been waiting since it last returned 1 (read them until there is none), else 0, or -errno:
 * waiting is not possible any more.
 */
int reader_wait(struct reader *reader, enum reader_until until);
/* As READER_ANYTHING, but at most so long; less than a second. */
int reader_wait_for(struct reader *reader, uint64_t most_ns);

/* A reader_wait(READER_ANYTHING), this one or the next, comes back. Any thread; async-signal-safe. */
void reader_wake(struct reader *reader);

/* ---- for the back ends ---- */

struct reader_back_end {
	int (*read)(struct reader *reader, void *token, void *to, unsigned bytes, uint64_t offset,
		    bool direct);
	/* `most_ns`: 0 is for ever */
	int (*wait)(struct reader *reader, enum reader_until until, uint64_t most_ns);
	void (*close)(
		struct reader *reader); /* the backend's part, and the struct that contains all */
};

/* Each allocates a struct whose first member is the reader, and prepares it. */
int reader_uring_open(struct reader **reader, const struct reader_options *options,
		      struct thaw_error *error);
int reader_threads_open(struct reader **reader, const struct reader_options *options,
			struct thaw_error *error);
int reader_prepare(struct reader *reader, const struct reader_back_end *back_end,
		   const struct reader_options *options, struct thaw_error *error);
void reader_release(struct reader *reader);

#endif
