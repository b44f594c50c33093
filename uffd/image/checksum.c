/* SPDX-License-Identifier: MIT */
/*
 * checksum.c - the checksums of an image: all that is stored in a slot, a record, a node or an entry as the
 * checksum of something else is computed here. Any thread; no state.
 */
#include "checksum.h"

#include <errno.h>

XXH128_hash_t checksum_plain(const void *bytes, size_t count)
{
	return XXH3_128bits(bytes, count);
}

XXH128_hash_t checksum_of(const struct checksum_key *key, enum checksum_kind kind,
			  const void *bytes, size_t count)
{
	(void)key;
	(void)kind;
	return checksum_plain(bytes, count);
}

int checksum_begin(struct checksum_stream *stream, const struct checksum_key *key,
		   enum checksum_kind kind)
{
	(void)key;
	(void)kind;
	stream->state = XXH3_createState();
	if (!stream->state)
		return -ENOMEM;
	XXH3_128bits_reset(stream->state);
	return 0;
}

void checksum_add(struct checksum_stream *stream, const void *bytes, size_t count)
{
	XXH3_128bits_update(stream->state, bytes, count);
}

XXH128_hash_t checksum_end(struct checksum_stream *stream)
{
	XXH128_hash_t sum = XXH3_128bits_digest(stream->state);

	XXH3_freeState(stream->state);
	return sum;
}
