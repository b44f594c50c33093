/* SPDX-License-Identifier: MIT */
/* reader.c - what both backends of reader.h share: the buffers, and the eventfd for waking. */
#define _GNU_SOURCE
#include "reader.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

int reader_open(struct reader **reader, const struct reader_options *options,
		struct thaw_error *error)
{
	return options->kind == READER_URING ? reader_uring_open(reader, options, error)
					     : reader_threads_open(reader, options, error);
}

void reader_close(struct reader *reader)
{
	if (reader)
		reader->back_end->close(reader);
}

int reader_read(struct reader *reader, void *token, void *to, unsigned bytes, uint64_t offset,
		bool direct)
{
	return reader->back_end->read(reader, token, to, bytes, offset, direct);
}

int reader_wait(struct reader *reader, enum reader_until until)
{
	return reader->back_end->wait(reader, until, 0);
}

int reader_wait_for(struct reader *reader, uint64_t most_ns)
{
	return reader->back_end->wait(reader, most_ns ? READER_ANYTHING : READER_NOW, most_ns);
}

void reader_wake(struct reader *reader)
{
	uint64_t one = 1;
	int before = errno; /* errno is kept, since this may run in a signal handler */

	while (write(reader->wake_fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
	errno = before;
}

int reader_prepare(struct reader *reader, const struct reader_back_end *back_end,
		   const struct reader_options *options, struct thaw_error *error)
{
	size_t bytes = options->reads * options->buffer_bytes;

	*reader = (struct reader){.options = *options, .back_end = back_end};
	reader->wake_fd = eventfd(0, EFD_CLOEXEC);
	if (reader->wake_fd < 0)
		return error_set(error, -errno, "cannot make an eventfd: %s", strerror(errno));
	if (!bytes)
		return 0;
	reader->buffers =
		mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (reader->buffers == MAP_FAILED) {
		reader->buffers = NULL;
		return error_set(error, -ENOMEM, "no memory for the fault service's buffers");
	}
	return 0;
}

void reader_release(struct reader *reader)
{
	if (reader->wake_fd >= 0)
		close(reader->wake_fd);
	if (reader->buffers)
		munmap(reader->buffers, reader->options.reads * reader->options.buffer_bytes);
}
