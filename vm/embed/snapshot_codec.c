/* SPDX-License-Identifier: MIT */
/* snapshot_codec.c - the id of a snapshot (snapshot_format.h): of what is in it, whole or not. */
#define XXH_INLINE_ALL
#include <xxhash.h>

#include <string.h>

#include "snapshot_codec.h"

int snapshot_summed(struct snapshot_contents *contents, struct thaw_error *error)
{
	int code = contents->summed ? 0 : thaw_frozen_sum(contents->frozen, contents->sum, error);

	contents->summed = !code;
	return code;
}

void snapshot_id(const struct snapshot_contents *contents, uint8_t id[16])
{
	uint64_t heap_bytes = thaw_frozen_bytes(contents->frozen), bytes;
	size_t state_bytes;
	const void *state_blob = thaw_frozen_state(contents->frozen, &state_bytes);
	XXH3_state_t state;
	XXH128_canonical_t canonical;
	char engine[64] = "";

	bytes = state_bytes;
	strncpy(engine, contents->engine, sizeof(engine) - 1);
	XXH3_128bits_reset(&state);
	XXH3_128bits_update(&state, engine, sizeof(engine));
	XXH3_128bits_update(&state, &heap_bytes, 8);
	XXH3_128bits_update(&state, &bytes, 8);
	if (bytes)
		XXH3_128bits_update(&state, state_blob, bytes);
	XXH3_128bits_update(&state, contents->sum, 16);
	XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(&state));
	memcpy(id, canonical.digest, 16);
}
