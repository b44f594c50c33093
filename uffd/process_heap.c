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

bool thaw_process_must_not_fork(const struct thaw *heap)
{
	const struct backends *backends = &heap->region.backends;

	return heap->region.process && backends->delivery == DELIVERY_UFFD &&
	       backends->forks_untold &&
	       !(heap->service && fault_service_all_arrived(heap->service));
}

static int is_process(const struct thaw *heap, struct thaw_error *error)
{
	return heap->region.process
		       ? 0
		       : error_set(error, -EINVAL, "the heap is not the memory of a process");
}

/* After a process that has gone. */
static void forget_process(struct thaw *heap)
{
	struct region *region = &heap->region;

	if (region->uffd >= 0)
		close(region->uffd);
	region->uffd = -1;
	process_memory_renew(region->process);
	tracker_renew(&heap->tracker);
}

static int attach(struct thaw *heap, const struct thaw_process *process,
		  const struct thaw_range *ranges, size_t count, struct thaw_error *error)
{
	struct region *region = &heap->region;
	bool restored = heap->opened.number && !region->process->epoch;
	int code;

	region->restored_bytes = restored ? heap->opened.heap_bytes : 0;
	if (count && !restored)
		return error_set(error, -EINVAL, "process %d has no memory of this heap's",
				 process->pid);
	code = process_memory_attach(region, process, ranges, count, error);
	if (!code && (region->uffd >= 0 || restored))
		code = heap_start_service(heap, ranges, count, error);
	if (!code && region->backends.delivery == DELIVERY_EAGER)
		code = process_memory_loaded(region, error);
	heap->checkpointer.service = heap->service;
	return code;
}

int thaw_process_attach(struct thaw *heap, const struct thaw_process *process,
			const struct thaw_range *ranges, size_t count, struct thaw_error *error)
{
	struct region *region = &heap->region;
	int code = is_process(heap, error);

	if (!code && region->process->attached && !region->process->gone)
		code = error_set(error, -EBUSY, "the heap has a process already: %d",
				 region->process->process.pid);
	if (code) {
		if (process->userfaultfd >= 0)
			close(process->userfaultfd);
		return code;
	}
	checkpointer_wait(&heap->checkpointer); /* its thread has the tracker until then */
	if (region->process->gone)
		forget_process(heap);
	region->uffd = process->userfaultfd;
	code = attach(heap, process, ranges, count, error);
	if (code)
		thaw_process_detach(heap);
	return code;
}

int thaw_process_ranges(struct thaw *heap, const struct thaw_range *ranges, size_t count,
			struct thaw_error *error)
{
	int code = is_process(heap, error);

	if (!code && heap->region.process->gone)
		code = error_set(error, -ESRCH, "process %d has ended",
				 heap->region.process->process.pid);
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

int thaw_process_apart(struct thaw *heap, const struct thaw_range *ranges, size_t count)
{
	struct process_memory *memory = heap->region.process;

	if (!memory)
		return -EINVAL;
	checkpointer_wait(&heap->checkpointer); /* its thread searches until then */
	return process_memory_apart(memory, ranges, count);
}

bool thaw_process_copies_first(struct thaw *heap)
{
	return heap->region.process && heap->region.backends.tracker != TRACKER_HASHED &&
	       checkpointer_copy_again(&heap->checkpointer);
}

void thaw_process_detach(struct thaw *heap)
{
	struct process_memory *memory = heap->region.process;
	struct fault_service *service;

	if (!memory || memory->gone)
		return;
	process_memory_leave(memory);
	checkpointer_left(&heap->checkpointer);
	heap->checkpointer.service = NULL;
	if (!heap->service)
		return;
	heap->poison_error = (struct thaw_error){0};
	fault_service_last_poison(heap->service, &heap->poison_error);
	service = heap->service;
	pthread_mutex_lock(&heap->counted);
	heap->last_counters = fault_service_counters(service);
	heap->service = NULL;
	pthread_mutex_unlock(&heap->counted);
	fault_service_stop(service);
}
