/* SPDX-License-Identifier: MIT */
/*
 * copies.c - bytes of files in the record of a descriptor: of memfds, and of files that have no name any
 * more, which nobody could open again. Only what is between holes, and of all such files of a guest
 * DESCRIPTOR_COPY_BYTES at most.
 *
 *	size, then per piece: offset, bytes; an empty piece ends it
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "process/descriptors/descriptors.h"

#define PIECE_BYTES (1u << 20)

static int piece_put(int fd, uint64_t at, uint64_t end, void *buffer, struct record_writer *writer)
{
	while (at < end) {
		size_t wanted = end - at < PIECE_BYTES ? (size_t)(end - at) : PIECE_BYTES;
		ssize_t got = pread(fd, buffer, wanted, (off_t)at);

		if (got < 0)
			return -errno;
		if (!got)
			return 0;
		record_put(writer, at);
		record_put_bytes(writer, buffer, (size_t)got);
		at += (uint64_t)got;
	}
	return 0;
}

int descriptor_put_contents(struct descriptor_capture *capture, int fd, uint64_t size,
			    struct record_writer *writer)
{
	void *buffer = malloc(PIECE_BYTES);
	off_t before = lseek(fd, 0, SEEK_CUR);
	uint64_t at = 0;
	int code = buffer ? 0 : -ENOMEM;

	record_put(writer, size);
	while (!code && at < size) {
		off_t data = lseek(fd, (off_t)at, SEEK_DATA), hole;

		if (data < 0)
			break; /* a hole up to the end */
		hole = lseek(fd, data, SEEK_HOLE);
		if (hole < 0 || (uint64_t)hole > size)
			hole = (off_t)size;
		capture->copied += (uint64_t)(hole - data);
		if (capture->copied > DESCRIPTOR_COPY_BYTES)
			code = -EFBIG;
		else
			code = piece_put(fd, (uint64_t)data, (uint64_t)hole, buffer, writer);
		at = (uint64_t)hole;
	}
	lseek(fd, before, SEEK_SET);
	record_put(writer, 0);
	record_put_bytes(writer, "", 0);
	free(buffer);
	return code;
}

int descriptor_take_contents(int fd, struct record_reader *reader)
{
	uint64_t size = record_take_up_to(reader, INT64_MAX);

	if (ftruncate(fd, (off_t)size))
		return -errno;
	while (!reader->failed) {
		uint64_t at = record_take_up_to(reader, INT64_MAX);
		size_t bytes;
		const uint8_t *data = record_take_bytes(reader, &bytes);

		if (!bytes)
			break;
		while (bytes) {
			ssize_t put = pwrite(fd, data, bytes, (off_t)at);

			if (put <= 0)
				return put ? -errno : -EIO;
			data += put;
			at += (uint64_t)put;
			bytes -= (size_t)put;
		}
	}
	return 0;
}
