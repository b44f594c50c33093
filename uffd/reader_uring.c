/* SPDX-License-Identifier: MIT */
/*
 * reader_uring.c - the reader over io_uring: readiness of the userfaultfd, reads of the image and
 * being woken all complete in one ring. Threads and what must never be: see reader.h.
 */
#define _GNU_SOURCE
#include "reader.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "sys.h"

struct uring_reader {
	struct reader reader;
	struct io_uring ring;
	uint64_t wake_value;
	bool multishot; /* the poll goes on by itself: Linux 5.13 */
};

/* The kind of a completion; reads carry their token instead. */
enum { TAG_FAULTS = 1, TAG_WAKE = 2, TAG_LAST = TAG_WAKE };

/* NULL: the ring is full, although it has room for twice the possible entries. */
static struct io_uring_sqe *get_sqe(struct uring_reader *uring)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&uring->ring);

	if (!sqe && io_uring_submit(&uring->ring) >= 0) /* hand over what is there */
		sqe = io_uring_get_sqe(&uring->ring);
	return sqe;
}

static int arm_faults(struct uring_reader *uring)
{
	struct io_uring_sqe *sqe = get_sqe(uring);

	if (!sqe)
		return -EBUSY;
	if (uring->multishot)
		io_uring_prep_poll_multishot(sqe, uring->reader.options.faults_fd, POLLIN);
	else
		io_uring_prep_poll_add(sqe, uring->reader.options.faults_fd, POLLIN);
	io_uring_sqe_set_data64(sqe, TAG_FAULTS);
	return 0;
}

static int arm_wake(struct uring_reader *uring)
{
	struct io_uring_sqe *sqe = get_sqe(uring);

	if (!sqe)
		return -EBUSY;
	io_uring_prep_read(sqe, uring->reader.wake_fd, &uring->wake_value,
			   sizeof(uring->wake_value), 0);
	io_uring_sqe_set_data64(sqe, TAG_WAKE);
	return 0;
}

static int uring_read(struct reader *reader, void *token, void *to, unsigned bytes, uint64_t offset,
		      bool direct)
{
	struct uring_reader *uring = (struct uring_reader *)reader;
	struct io_uring_sqe *sqe = get_sqe(uring);

	if (!sqe)
		return -EBUSY;
	/*
	 * The buffers are not registered: measured, to allocate and pin 2 MiB takes 0.9 ms of every
	 * start, more than everything else that opening a heap does, and a read is no faster for
	 * it. Nor are they locked memory, of which an ordinary user may have less (ulimit -l).
	 */
	io_uring_prep_read(sqe, direct, to, bytes, offset);
	sqe->flags |= IOSQE_FIXED_FILE;
	io_uring_sqe_set_data(sqe, token);
	return 0;
}

static int uring_wait(struct reader *reader, enum reader_until until, uint64_t most_ns)
{
	struct uring_reader *uring = (struct uring_reader *)reader;
	struct io_uring_cqe *cqe;
	struct __kernel_timespec most = {.tv_nsec = (long long)most_ns};
	int faults = 0, code;

	if (most_ns)
		code = io_uring_submit_and_wait_timeout(&uring->ring, &cqe, 1, &most, NULL);
	else
		code = io_uring_submit_and_wait(&uring->ring, until == READER_NOW ? 0 : 1);
	if (code < 0 && code != -EINTR && code != -EAGAIN && code != -EBUSY && code != -ETIME)
		return code;
	while (!io_uring_peek_cqe(&uring->ring, &cqe)) {
		uint64_t data = cqe->user_data;
		unsigned flags = cqe->flags;
		int result = cqe->res;

		io_uring_cqe_seen(&uring->ring, cqe);
		if (data > TAG_LAST) {
			reader->options.completed(reader->options.arg, (void *)(uintptr_t)data,
						  result);
			continue;
		}
		if (result < 0 && result != -ECANCELED)
			return result;
		code = 0;
		if (data == TAG_WAKE) {
			code = arm_wake(uring);
		} else {
			faults = 1;
			if (!(flags & IORING_CQE_F_MORE)) /* the kernel ended it */
				code = arm_faults(uring);
		}
		if (code)
			return code;
	}
	return faults;
}

static void uring_close(struct reader *reader)
{
	struct uring_reader *uring = (struct uring_reader *)reader;

	if (uring->ring.ring_fd >= 0)
		io_uring_queue_exit(&uring->ring);
	reader_release(reader);
	free(uring);
}

/*
 * A ring releases its files some time after its process has died. The lock on the image's own
 * descriptor must end with the process, so the ring gets another description.
 */
static int register_image(struct uring_reader *uring, struct thaw_error *error)
{
	int code, files[2] = {-1, uring->reader.options.direct_fd};
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", uring->reader.options.image_fd);
	files[0] = sys_open(path, O_RDONLY, 0);
	if (files[0] < 0)
		return error_set(error, files[0], "cannot open the image again through %s: %s",
				 path, thaw_strerror(files[0]));
	if (uring->reader.options.exactly)
		(void)posix_fadvise(files[0], 0, 0, POSIX_FADV_RANDOM);
	code = io_uring_register_files(&uring->ring, files, files[1] < 0 ? 1 : 2);
	close(files[0]);
	if (code < 0)
		return error_set(error, code, "cannot register the image with io_uring: %s",
				 thaw_strerror(code));
	return 0;
}

/* What is armed here is submitted by the first wait, so it belongs to the waiting thread. */
static int uring_setup(struct uring_reader *uring, struct thaw_error *error)
{
	const struct reader_options *options = &uring->reader.options;
	/* Room for all reads and both polls, twice. */
	int code = io_uring_queue_init(2 * options->reads + 4, &uring->ring, 0);

	if (code < 0) {
		uring->ring.ring_fd = -1;
		return error_set(error, code == -ENOMEM ? code : THAW_EKERNEL,
				 "cannot set up io_uring: %s%s", thaw_strerror(code),
				 code == -ENOMEM   ? " (see ulimit -l)"
				 : code == -EMFILE ? " (see ulimit -n)"
						   : "");
	}
	/* It has no feature bit of its own; this one came in the same version. */
	uring->multishot = (uring->ring.features & IORING_FEAT_RSRC_TAGS) &&
			   !probe_denies("multishot");
	code = options->image_fd >= 0 ? register_image(uring, error) : 0;
	if (code)
		return code;
	code = options->faults_fd >= 0 ? arm_faults(uring) : 0;
	if (!code)
		code = arm_wake(uring);
	return code ? error_set(error, code, "io_uring takes nothing: %s", thaw_strerror(code)) : 0;
}

static const struct reader_back_end back_end = {
	.read = uring_read, .wait = uring_wait, .close = uring_close};

int reader_uring_open(struct reader **out, const struct reader_options *options,
		      struct thaw_error *error)
{
	struct uring_reader *uring = calloc(1, sizeof(*uring));
	int code;

	if (!uring)
		return error_set(error, -ENOMEM, "no memory for the fault service");
	uring->ring.ring_fd = -1;
	code = reader_prepare(&uring->reader, &back_end, options, error);
	if (!code)
		code = uring_setup(uring, error);
	if (code) {
		uring_close(&uring->reader);
		return code;
	}
	*out = &uring->reader;
	return 0;
}
