/* SPDX-License-Identifier: MIT */
/* writer.h - filling free blocks of the image file. See writer.c. */
#ifndef UFFD_WRITER_H
#define UFFD_WRITER_H

#include "space.h"

#define WRITER_BYTES (1u << 20) /* one write: measured, larger ones are not faster */

struct writer {
	int fd;
	struct space *space;
	uint64_t run, run_used, run_bytes; /* the open run: where, how much is used, how long */
	struct ranges taken;		   /* closed runs: what is used of them */
	uint64_t written;		   /* bytes */
	uint64_t file_bytes;		   /* the file has as many by now */

	uint8_t *
		buffer; /* NULL: none yet; bytes [buffer_offset, + filled) of the file, not yet written */
	uint64_t buffer_offset;
	size_t filled;
};

/* For a file of at least `file_bytes`. -ENOMEM. */
int writer_open(struct writer *writer, int fd, uint64_t file_bytes, struct space *space);
void writer_close(struct writer *writer);

/*
 * Appends `count` contiguous bytes, 8-byte aligned and padded with zeros to the next 8-byte
 * boundary; `offset` is where. If a new run is needed, one of `wish` bytes. -ENOMEM, -errno of the
 * write; THAW_EOVERWRITTEN: another process has truncated the file meanwhile (a write beyond its
 * end would leave a hole).
 */
int writer_append(struct writer *writer, const void *bytes, uint64_t count, uint64_t wish,
		  uint64_t *offset);
/*
 * Continue in a run that was allocated elsewhere, all bytes of it. -ENOMEM: the run is free again.
 */
int writer_go_on_in(struct writer *writer, uint64_t run, uint64_t blocks);
/*
 * Zeros into a run that was allocated elsewhere, whole blocks, which is not the open one: none is open. If it fails, the
 * run is free again.
 */
int writer_zeros(struct writer *writer, uint64_t run, uint64_t bytes);
/* Replace bytes that were appended already. */
int writer_rewrite(struct writer *writer, uint64_t offset, const void *bytes, uint32_t count);
int writer_flush(struct writer *writer);
/* How many were written, or are about to be. */
static inline uint64_t writer_bytes(const struct writer *writer)
{
	return writer->written + writer->filled;
}
/* Close the open run: all that was used is in `taken`, the rest is free again. Cannot fail. */
void writer_settle(struct writer *writer);

#endif
