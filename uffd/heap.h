/* SPDX-License-Identifier: MIT */
/* heap.h - struct thaw, for heap.c, and process_heap.c for heaps that are the memory of another process. */
#ifndef UFFD_HEAP_H
#define UFFD_HEAP_H

#include "checkpoint.h"
#include "fault.h"
#include "frozen.h"
#include "image/image.h"
#include "region.h"
#include "segfault.h"
#include "tracker.h"

struct thaw {
	struct region region;
	struct image *image; /* NULL: nothing persists */
	struct tracker tracker;
	struct fault_service *service; /* NULL where the kernel serves every fault itself */
	pthread_mutex_t counted;       /* for that pointer: others count while it comes and goes */
	struct checkpointer checkpointer;
	struct working_set_recorder recorder;
	uint64_t *working_set; /* to prefetch */
	unsigned working_set_count;
	struct thaw_generation opened;
	void *state;
	size_t state_bytes;
	struct thaw_error fallback;
	struct thaw_status totals; /* the counters of checkpoints */
	bool settled;		   /* the opened generation is on the disk */
	struct watched watched;
	struct heap_frozen frozen;
	unsigned flags; /* of struct thaw_options, as the next two */
	void (*fatal)(void *arg, const struct thaw_error *error);
	void *fatal_arg;
	struct thaw_error poison_error;
	struct fault_counters last_counters; /* of the service of a process that has gone */
};

/* Start the fault service, by another reader if there are too many rings. */
int heap_start_service(struct thaw *heap, const struct thaw_range *ranges, size_t count,
		       struct thaw_error *error);
/*
 * From here to checkpointer_go_on() only this thread writes the image: a checkpoint may be under way, but it waits for its
 * capture.
 */
void heap_pause(struct thaw *heap);

#endif
