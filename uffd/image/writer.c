/* SPDX-License-Identifier: MIT */
/*
 * writer.c - allocating blocks of the image file and filling them, with writes as large as
 * possible. Used by the thread that commits, only.
 *
 * Blocks are allocated in runs. Data is appended to the open run while there is room, and collected
 * in a buffer as long as it is contiguous in the file.
 */
#include "writer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "checks.h"
#include "mirror.h"
#include "sys.h"
#include "thaw.h"

int writer_open(struct writer *writer, int fd, uint64_t file_bytes, struct space *space)
{
	memset(writer, 0, sizeof(*writer));
	writer->fd = fd;
	writer->file_bytes = file_bytes;
	writer->space = space;
	return ranges_reserve(&writer->taken, 2);
}

void writer_close(struct writer *writer)
{
	ranges_free(&writer->taken);
	free(writer->buffer);
	memset(writer, 0, sizeof(*writer));
}

void writer_settle(struct writer *writer)
{
	space_subtract(writer->space, writer->run + writer->run_used,
		       writer->run_bytes - writer->run_used);
	/* writer_take() has reserved the place. */
	ranges_add(&writer->taken, writer->run, writer->run_used);
	writer->run_bytes = writer->run_used = 0;
}

/*
 * Room for `bytes` contiguous bytes, 8-byte aligned; if a new run is needed, one of `wish` bytes.
 */
static int writer_take(struct writer *writer, uint64_t bytes, uint64_t wish, uint64_t *offset)
{
	if (writer->run_bytes - writer->run_used < bytes) {
		uint64_t least = (bytes + SPACE_BLOCK - 1) / SPACE_BLOCK;
		uint64_t most = (wish + SPACE_BLOCK - 1) / SPACE_BLOCK, blocks;

		writer_settle(writer);
		if (ranges_reserve(&writer->taken, 2) ||
		    space_allocate(writer->space, least, most < least ? least : most, &writer->run,
				   &blocks))
			return -ENOMEM;
		writer->run_bytes = blocks * SPACE_BLOCK;
	}
	*offset = writer->run + writer->run_used;
	writer->run_used += (bytes + 7) & ~7ull;
	return 0;
}

int writer_go_on_in(struct writer *writer, uint64_t run, uint64_t blocks)
{
	writer_settle(writer);
	if (ranges_reserve(&writer->taken, 2)) {
		space_subtract(writer->space, run, blocks * SPACE_BLOCK);
		return -ENOMEM;
	}
	writer->run = run;
	writer->run_bytes = blocks * SPACE_BLOCK;
	return 0;
}

static int writer_write(struct writer *writer, uint64_t offset, const void *bytes, uint64_t count)
{
	struct stat stat;
	int code;

	if (fstat(writer->fd, &stat))
		return -errno;
	if ((uint64_t)stat.st_size < writer->file_bytes)
		return THAW_EOVERWRITTEN;
	check_write(writer->space, offset, count);
	code = sys_pwrite(writer->fd, bytes, count, offset);
	mirror_wrote(writer->space->mirror, offset, count);
	if (!code && offset + count > writer->file_bytes)
		writer->file_bytes = offset + count;
	return code;
}

int writer_flush(struct writer *writer)
{
	int code = 0;

	if (writer->filled)
		code = writer_write(writer, writer->buffer_offset, writer->buffer, writer->filled);
	/* There is more to come: the disk need not wait for it. What fails there, fdatasync() says. */
	if (!code && writer->filled == WRITER_BYTES)
		sys_write_back(writer->fd, writer->buffer_offset, WRITER_BYTES);
	writer->written += writer->filled;
	writer->filled = 0;
	return code;
}

int writer_zeros(struct writer *writer, uint64_t run, uint64_t bytes)
{
	static const uint8_t zeros[64u << 10];
	int code = ranges_reserve(&writer->taken, 2);

	for (uint64_t at = 0, part; !code && at < bytes; at += part) {
		part = bytes - at < sizeof(zeros) ? bytes - at : sizeof(zeros);
		code = writer_write(writer, run + at, zeros, part);
	}
	if (code) {
		space_subtract(writer->space, run, bytes);
		return code;
	}
	writer->written += bytes;
	return ranges_add(&writer->taken, run, bytes);
}

/* Through the buffer, which gathers what lies together. */
static int writer_put(struct writer *writer, uint64_t offset, const void *bytes, uint64_t count)
{
	const uint8_t *from = bytes;

	if (!writer->buffer)
		writer->buffer = aligned_alloc(SPACE_BLOCK, WRITER_BYTES);
	if (!writer->buffer)
		return -ENOMEM;
	while (count) {
		size_t part = WRITER_BYTES - writer->filled;

		if (!part || (writer->filled && writer->buffer_offset + writer->filled != offset)) {
			int code = writer_flush(writer);

			if (code)
				return code;
			continue;
		}
		if (!writer->filled)
			writer->buffer_offset = offset;
		if (part > count)
			part = count;
		memcpy(writer->buffer + writer->filled, from, part);
		writer->filled += part;
		from += part;
		offset += part;
		count -= part;
	}
	return 0;
}

int writer_append(struct writer *writer, const void *bytes, uint64_t count, uint64_t wish,
		  uint64_t *offset)
{
	static const uint8_t zeros[8];
	int code = writer_take(writer, count, wish, offset);

	if (!code)
		code = writer_put(writer, *offset, bytes, count);
	if (!code)
		code = writer_put(writer, *offset + count, zeros, -count % 8);
	return code;
}

int writer_rewrite(struct writer *writer, uint64_t offset, const void *bytes, uint32_t count)
{
	if (offset >= writer->buffer_offset &&
	    offset + count <= writer->buffer_offset + writer->filled) {
		memcpy(writer->buffer + (offset - writer->buffer_offset), bytes, count);
		return 0;
	}
	if (offset < writer->buffer_offset + writer->filled &&
	    offset + count > writer->buffer_offset) {
		/* Part of it is: a 64 KiB page across the end of the buffer. */
		int code = writer_flush(writer);

		if (code)
			return code;
	}
	writer->written += count;
	return writer_write(writer, offset, bytes, count);
}
