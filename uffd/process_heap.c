/* SPDX-License-Identifier: MIT */
/*
 * process_heap.c - heaps that are the memory of another process: the functions of thaw_process.h.
 *
 *	thaw_open: region_create_process -> image_open -> tracker_create -> checkpointer_start
 *	attach: process_memory_attach -> fault_service_start -> (loaded before it runs: process_memory_loaded)
 *
 * Owner thread.
 */
#include <errno.h>
#include <unistd.h>

#include "heap.h"
#include "process_memory.h"
#include "thaw_process.h"

bool thaw_process_userfaultfd(const struct thaw *heap, int *flags, uint64_t *features)
{
	return heap->region.process && probe_process_uffd(&heap->region.backends, flags, features);
}

static int no_process(const struct thaw *heap, struct thaw_error *error)
{
	const struct process_memory *memory = heap->region.process;

	if (!memory)
		return error_set(error, -EINVAL, "the heap is not the memory of a process");
	if (memory->gone)
		return error_set(error, -ESRCH, "process %d has ended", memory->process.pid);
	return 0;
}

int thaw_process_attach(struct thaw *heap, const struct thaw_process *process,
			const struct thaw_range *ranges, size_t count, struct thaw_error *error)
{
	struct region *region = &heap->region;
	int code = no_process(heap, error);

	if (!code && (region->process->attached || (!heap->opened.number && count)))
		code = error_set(
			error, -EINVAL, "process %d: %s", process->pid,
			region->process->attached
				? "the heap has a process already"
				: "nothing can be restored from an image without a generation");
	if (code) {
		if (process->userfaultfd >= 0)
			close(process->userfaultfd);
		return code;
	}
	region->uffd = process->userfaultfd;
	region->restored_bytes = heap->opened.number ? heap->opened.heap_bytes : 0;
	/* Nothing is collected before all is in place. */
	checkpointer_wait(&heap->checkpointer);
	code = process_memory_attach(region, process, ranges, count, error);
	if (!code && (region->uffd >= 0 || region->restored_bytes))
		code = heap_start_service(heap, ranges, count, error);
	if (!code && region->backends.delivery == DELIVERY_EAGER)
		code = process_memory_loaded(region, error);
	if (code) {
		thaw_process_detach(heap);
		return code;
	}
	heap->checkpointer.service = heap->service;
	return 0;
}

int thaw_process_ranges(struct thaw *heap, const struct thaw_range *ranges, size_t count,
			struct thaw_error *error)
{
	int code = no_process(heap, error);

	if (!code && !heap->region.process->attached)
		code = error_set(error, -EINVAL, "the heap has no process yet");
	if (code)
		return code;
	checkpointer_wait(&heap->checkpointer); /* its thread has the tracker until then */
	code = fault_service_settle(heap->service, error);
	return code ? code
		    : process_memory_update(&heap->region, ranges, count, &heap->tracker.put_back,
					    error);
}

void thaw_process_detach(struct thaw *heap)
{
	struct process_memory *memory = heap->region.process;

	if (!memory || memory->gone)
		return;
	process_memory_leave(memory);
	checkpointer_settle_copying(&heap->checkpointer);
	heap->checkpointer.service = NULL;
	if (!heap->service)
		return;
	heap->last_counters = fault_service_counters(heap->service);
	fault_service_stop(heap->service);
	heap->service = NULL;
}
