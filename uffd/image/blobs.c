/* SPDX-License-Identifier: MIT */
/*
 * blobs.c - reading what the file holds in one piece, and comparing it with its checksum: the
 * working set, and the state of a generation where only its checksum is of interest (image.c and
 * pack.c keep the bytes). Any thread.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "cipher.h"
#include "copying.h"
#include "store.h"
#include "sys.h"

int working_set_read(int fd, const struct checksum_key *key, const struct working_set *set,
		     uint64_t **pages)
{
	int code;

	*pages = NULL;
	if (!set->bytes)
		return 0;
	*pages = malloc(set->bytes); /* its length has a bound */
	if (!*pages)
		return -ENOMEM;
	code = sys_pread(fd, *pages, set->bytes, set->offset);
	if (!code)
		cipher(key, CHECKSUM_WORKING_SET, set->checksum, set->generation, *pages, *pages,
		       set->bytes, 0);
	if (!code && !checksum_is(key, CHECKSUM_WORKING_SET, *pages, set->bytes, set->checksum))
		code = THAW_EDAMAGED;
	if (!code)
		return 0;
	free(*pages);
	*pages = NULL;
	return code;
}

int working_set_error(const char *path, const struct working_set *set, int code,
		      struct thaw_error *error)
{
	if (code == -ENODATA || code == -EINVAL)
		code = THAW_EDAMAGED;
	return error_set(error, code, "%s: the working set at offset %" PRIu64 ": %s", path,
			 set->offset, thaw_strerror(code));
}

int state_check(int fd, const struct checksum_key *key, const struct generation *generation,
		void *buffer, size_t room, struct copying *copying)
{
	uint64_t left = generation->info.state_bytes, offset = generation->state_offset;
	struct checksum_stream stream;
	int code;

	if (!left)
		return 0;
	code = checksum_begin(&stream, key, CHECKSUM_STATE);
	if (code)
		return code;
	while (left && !code) {
		size_t part = left < room ? left : room;

		code = sys_pread(fd, buffer, part, offset);
		if (code)
			break;
		cipher(key, CHECKSUM_STATE, generation->state_checksum, generation->info.number,
		       buffer, buffer, part, generation->info.state_bytes - left);
		checksum_add(&stream, buffer, part);
		offset += part;
		left -= part;
		if (copying)
			code = copying_advance(copying, part);
	}
	if (!checksum_same(checksum_end(&stream), generation->state_checksum) && !code)
		code = THAW_EDAMAGED;
	return code;
}
