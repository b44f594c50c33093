/* SPDX-License-Identifier: MIT */
/*
 * inspection.h - one generation of an image, open as a graph of objects: what thaw export and thaw
 * diff begin with. One thread.
 *
 * vm/inspect reads heaps as data. The command line includes this header, export_json.h,
 * heap_snapshot.h and heap_diff.h; the others are the room's own. Nothing in the room includes the
 * command line or the policy; of the guest it needs the state blob (roots), the engine's identity
 * and its note in the heap.
 */
#ifndef VM_INSPECT_INSPECTION_H
#define VM_INSPECT_INSPECTION_H

#include "graph.h"
#include "js/state/blob.h"

struct inspection {
	struct thaw_view *view; /* NULL: of no image */
	struct js_blob blob;
	struct graph *graph;
	const char *path; /* what messages call the image; borrowed */
	uint64_t generation;
	/* Of what was read of the heap (inspection_watch). */
	int (*progress)(void *arg, uint64_t done, uint64_t total);
	void *progress_arg;
	uint8_t *touched; /* a bit for each piece of the heap */
	uint64_t done, total;
};

/*
 * `generation` 0: the newest. `inspection` must not move while it is open. Returns 0 or a negative code, and then nothing is open: THAW_EENGINE,
 * the image is another engine's. The image may be closed before the inspection.
 */
int inspection_open(struct inspection *inspection, struct thaw_image *image, const char *path,
		    uint64_t generation, struct thaw_error *error);
/* The same of a heap that is elsewhere, with its state; `inspection` is as its caller has filled it: with zeros, and a name. */
int inspection_open_heap(struct inspection *inspection, const struct graph_source *source,
			 const void *state, size_t bytes, struct thaw_error *error);
void inspection_close(struct inspection *inspection);
/*
 * Call `progress` as the heap is read for the first time, piece by piece, until it is closed. Without memory for it, it is
 * not called.
 */
void inspection_watch(struct inspection *inspection,
		      int (*progress)(void *arg, uint64_t done, uint64_t total), void *arg);

/* Is this the name of a global that every program has from its start? */
bool inspection_is_builtin(struct graph *graph, uint32_t atom);
/* False: the module is the runtime's own. */
bool inspection_is_program_module(struct graph *graph, struct graph_value module);

#endif
