// SPDX-License-Identifier: MIT
/* heap_mirror.c - the mirror of a heap's image (thaw_mirror.h): its beginning and its end, when no commit is being written. Owner thread. */
#include "heap.h"
#include "image/mirror.h"

int thaw_mirror_open(struct thaw *heap, uint64_t hold_bytes, struct thaw_mirror **mirror,
		     struct thaw_error *error)
{
	struct thaw_error unused;
	int code;

	*mirror = NULL;
	error = error ? error : &unused;
	if (!heap->image)
		return error_set(error, -EROFS, "the heap has no image");
	heap_pause(heap);
	code = mirror_open(heap->image, hold_bytes, mirror, error);
	checkpointer_go_on(&heap->checkpointer);
	if (code)
		return code;
	heap->settled |= heap->opened.number != 0;
	(*mirror)->heap = heap;
	return 0;
}

void thaw_mirror_close(struct thaw_mirror *mirror)
{
	struct thaw *heap = mirror ? mirror->heap : NULL;

	if (heap)
		heap_pause(heap);
	if (mirror)
		mirror_close(mirror);
	if (heap)
		checkpointer_go_on(&heap->checkpointer);
}
