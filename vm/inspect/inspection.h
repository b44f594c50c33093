/* SPDX-License-Identifier: MIT */
/*
 * inspection.h - one generation of an image, open as a graph of objects: what export, diff and the like of
 * the command line begin with. One thread.
 */
#ifndef VM_INSPECT_INSPECTION_H
#define VM_INSPECT_INSPECTION_H

#include "graph.h"
#include "js/state/blob.h"

struct inspection {
	struct thaw_view *view;
	struct js_blob blob;
	struct graph *graph;
	const char *path; /* what messages call the image; borrowed */
	uint64_t generation;
};

/*
 * `generation` 0: the newest. Returns 0 or a negative code, and then nothing is open: THAW_EENGINE, the
 * image is another engine's. The image may be closed before the inspection.
 */
int inspection_open(struct inspection *inspection, struct thaw_image *image, const char *path,
		    uint64_t generation, struct thaw_error *error);
void inspection_close(struct inspection *inspection);

/* Is this the name of a global that every program has from its start? */
bool inspection_is_builtin(struct graph *graph, uint32_t atom);
/* False: the module is the runtime's own. */
bool inspection_is_program_module(struct graph *graph, struct graph_value module);

#endif
