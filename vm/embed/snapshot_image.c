/* SPDX-License-Identifier: MIT */
/*
 * snapshot_image.c - a snapshot as an image, with one generation: what thaw_vm_open(), and the program thaw, go on from. It is
 * what opens lazily. Any thread.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/failure.h"
#include "embed.h"

struct filling {
	const struct thaw_frozen *frozen;
	struct thaw *heap;
	struct thaw_error *error;
};

static int fill(void *arg, uint64_t first, uint64_t pages)
{
	const struct filling *filling = arg;
	size_t page_bytes = thaw_frozen_page_bytes();

	return thaw_frozen_read(filling->frozen, first * page_bytes,
				(char *)thaw_base(filling->heap) + first * page_bytes,
				pages * page_bytes, filling->error);
}

static int checkpoint(struct thaw *heap, const struct thaw_frozen *frozen, struct thaw_error *error)
{
	struct thaw_result result = {0};
	size_t bytes;
	const void *state = thaw_frozen_state(frozen, &bytes);
	int code = thaw_checkpoint(heap, THAW_REASON_REQUEST, state, bytes, &result);

	return code ? failure(error, code, "%s",
			      result.error.code ? result.error.text : thaw_strerror(code))
		    : 0;
}

int thaw_vm_snapshot_write(struct thaw_vm_snapshot *snapshot, const char *image,
			   struct thaw_error *error)
{
	struct thaw_frozen *frozen = snapshot_frozen(snapshot);
	size_t bytes = thaw_frozen_bytes(frozen);
	struct thaw_options options = {.image = image,
				       .flags = THAW_CREATE | THAW_OWN,
				       .max_bytes = bytes,
				       .engine = js_engine_identity};
	struct filling filling = {.frozen = frozen, .error = error};
	struct thaw_history history;
	int code = thaw_open(&options, &filling.heap, error);

	if (code)
		return code;
	thaw_history(filling.heap, &history);
	if (history.next > 1)
		code = failure(
			error, -EEXIST,
			"%s: an image that holds generations: a snapshot is written as a new one",
			image);
	if (!code) {
		code = thaw_resize(filling.heap, bytes);
		if (code)
			failure(error, code, "no memory for a heap of %zu MiB: %s", bytes >> 20,
				thaw_strerror(code));
	}
	if (!code) {
		code = thaw_frozen_pages(frozen, fill, &filling);
		if (code && (!error || error->code != code))
			failure(error, code, "cannot read the snapshot: %s", thaw_strerror(code));
	}
	if (!code)
		code = checkpoint(filling.heap, frozen, error);
	thaw_discard(filling.heap);
	return code;
}
