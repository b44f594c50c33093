/* SPDX-License-Identifier: MIT */
/*
 * heap.c - struct thaw: one region, one image, and the threads that serve both, behind the
 * functions of thaw.h.
 *
 *	region_create -> image_open -> region_register -> tracker_create -> fault_service_start -> checkpointer_start
 *
 * and in the reverse order to close. The region first: on a kernel that cannot serve it, no image is
 * made. Of another process (process_heap.c) the memory, its tracking and the service come later, when there is one. It gets the image's page before anything is done to a page (page.h). Owner thread, except
 * thaw_explain_fault(), thaw_handle_fault() and thaw_touch(), which any thread may call, and signal handlers.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fill.h"
#include "heap.h"
#include "image/handle.h"
#include "page.h"
#include "process_memory.h"
#include "sys.h"

#define SIZE_UNIT (64u << 10)
_Static_assert(SIZE_UNIT % PAGE_BYTES_MOST == 0, "a heap is a whole number of pages");

static int open_image(struct thaw *heap, const struct thaw_options *options,
		      struct thaw_error *error)
{
	struct image_options image_options = {
		.path = options->image,
		.create = options->flags & THAW_CREATE,
		.fresh = options->flags & THAW_FRESH,
		.portable = options->flags & THAW_OPEN_PORTABLE,
		.own = options->flags & THAW_OWN,
		.keyed = options->flags & THAW_KEYED,
		.encrypted = options->flags & THAW_ENCRYPTED,
		.generation = options->generation,
		.retain = options->retain,
		.thinning = options->thinning,
		.thinning_count = options->thinning_count,
		.engine = options->engine,
		.compress = options->compress,
		.page_bytes = heap->region.page_bytes,
	};
	int code = image_open(&image_options, &heap->image, &heap->fallback, error);

	if (code) {
		heap->image = NULL;
		return code;
	}
	heap->region.page_bytes = image_page_bytes(heap->image);
	heap->region.image_fd = image_fd(heap->image);
	if (heap->region.process && heap->region.page_bytes != heap->region.kernel_page_bytes)
		return error_set(
			error, THAW_EKERNEL,
			"%s: its pages have %u bytes, and those of this kernel %u: a process goes "
			"on only where they are the same",
			options->image, heap->region.page_bytes, heap->region.kernel_page_bytes);
	heap->opened = *image_opened(heap->image);
	if (!heap->opened.number)
		return 0;
	/* The values of the image are checked before they are used. */
	if (heap->opened.heap_bytes > heap->region.max_bytes || heap->opened.heap_bytes % SIZE_UNIT)
		return error_set(error, THAW_EDAMAGED,
				 "%s: generation %llu claims a heap of %llu bytes, which cannot be",
				 options->image, (unsigned long long)heap->opened.number,
				 (unsigned long long)heap->opened.heap_bytes);
	return image_read_state(heap->image, &heap->state, &heap->state_bytes, error);
}

/*
 * The working set of earlier restores, to be prefetched, and the recording of this one, unless the
 * whole heap is loaded anyway. Both only save time: a failure is ignored.
 */
static void start_touches(struct thaw *heap, unsigned flags)
{
	uint64_t generation;
	int count = 0;

	if (!heap->opened.number)
		return;
	if (flags & THAW_PREFETCH_WORKING_SET)
		count = image_read_working_set(heap->image, &heap->working_set, &generation, NULL);
	heap->working_set_count = count > 0 ? (unsigned)count : 0;
	if (!(flags & THAW_PREFETCH))
		working_set_start(&heap->recorder, heap->opened.number, heap->opened.heap_bytes,
				  heap->region.page_bytes, heap->working_set,
				  heap->working_set_count);
}

int heap_start_service(struct thaw *heap, const struct thaw_range *ranges, size_t count,
		       struct thaw_error *error)
{
	struct fault_options options = {
		.region = &heap->region,
		.tracker = &heap->tracker,
		.image = heap->image,
		.working_set = heap->working_set,
		.working_set_count = heap->working_set_count,
		.recorder = heap->recorder.room ? &heap->recorder : NULL,
		.prefetch = heap->flags & THAW_PREFETCH || heap->region.backends.forks_untold,
		.ranges = ranges,
		.range_count = count,
		.fatal = heap->fatal,
		.fatal_arg = heap->fatal_arg,
	};
	struct fault_service *service = NULL;
	int code = fault_service_start(&service, &options, error);

	/*
	 * Since Linux 6.14 a ring counts again against what all processes of a user may lock together
	 * (ulimit -l), and keeps counting for a moment after it was closed.
	 */
	if (code == -ENOMEM && heap->region.backends.reader == READER_URING &&
	    !heap->region.backends.reader_forced) {
		heap->region.backends.reader = READER_THREADS;
		code = fault_service_start(&service, &options, error);
	}
	pthread_mutex_lock(&heap->counted);
	heap->service = service;
	pthread_mutex_unlock(&heap->counted);
	return code;
}

static int start_tracking(struct thaw *heap, struct thaw_error *error)
{
	int code = region_register(&heap->region, heap->opened.heap_bytes, error);

	if (!code)
		code = tracker_create(&heap->tracker, &heap->region, error);
	/* Before the service starts, since it revokes access to pages that it cannot load. */
	if (!code) {
		code = region_resize(&heap->region, heap->opened.heap_bytes);
		if (code)
			error_set(error, code, "cannot make %llu MiB of heap accessible: %s",
				  (unsigned long long)heap->opened.heap_bytes >> 20,
				  thaw_strerror(code));
	}
	if (!code && fault_service_needed(&heap->region))
		code = heap_start_service(heap, NULL, 0, error);
	return code;
}

static int start_checkpoints(struct thaw *heap, const struct thaw_options *options,
			     struct thaw_error *error)
{
	struct checkpointer *checkpointer = &heap->checkpointer;
	int code;

	checkpointer->region = &heap->region;
	checkpointer->tracker = &heap->tracker;
	checkpointer->image = heap->image;
	checkpointer->recorder = heap->recorder.room ? &heap->recorder : NULL;
	checkpointer->notify = options->notify;
	checkpointer->notify_arg = options->notify_arg;
	checkpointer->touches = options->flags & THAW_TOUCHES;
	checkpointer->at_once = options->flags & THAW_AT_ONCE;
	checkpointer->logs = options->flags & THAW_LOG;
	checkpointer->copy_bytes = options->copy_bytes;
	if (heap->opened.number) {
		checkpointer->durable = true;
		checkpointer->durable_heap_bytes = heap->opened.heap_bytes;
		checkpointer->durable_kind = heap->opened.kind;
		checkpointer->restores = heap->opened.restores + 1;
		checkpointer->durable_state = malloc(heap->state_bytes ? heap->state_bytes : 1);
		if (!checkpointer->durable_state)
			return error_set(error, -ENOMEM,
					 "no memory for the state of generation %llu",
					 (unsigned long long)heap->opened.number);
		if (heap->state_bytes)
			memcpy(checkpointer->durable_state, heap->state, heap->state_bytes);
		checkpointer->durable_state_bytes = heap->state_bytes;
	}
	code = checkpointer_start(checkpointer, error);
	/* The service's thread may note a write already. */
	heap->tracker.preserver = code ? NULL : &checkpointer->preserver;
	return code;
}

static int check_options(const struct thaw_options *options, struct thaw_error *error)
{
	if (options->frozen && (options->image || options->flags & THAW_PROCESS))
		return error_set(error, -EINVAL, "a heap over a frozen one has no image");
	if (options->flags & THAW_PROCESS)
		return options->image ? 0
				      : error_set(error, -EINVAL,
						  "the memory of a process needs an image");
	if (!options->max_bytes || options->max_bytes % SIZE_UNIT ||
	    options->guard_bytes % SIZE_UNIT)
		return error_set(error, -EINVAL, "the size of a heap must be a multiple of 64 KiB");
	if ((uintptr_t)options->address % REGION_ALIGNMENT)
		return error_set(error, -EINVAL,
				 "a heap cannot lie at address %p: name a multiple of 2 MiB",
				 options->address);
	return 0;
}

/* Faults in a region of this process are told, and perhaps served, in the handler of SIGSEGV. */
static int watch_faults(struct thaw *heap, struct thaw_error *error)
{
	int code;

	if (heap->region.process)
		return 0;
	heap->watched =
		(struct watched){&heap->region, &heap->tracker, &heap->checkpointer.preserver,
				 heap->service, heap->fatal,	heap->fatal_arg};
	code = segfault_watch(&heap->watched);
	return code ? error_set(error, code, "no memory to watch the faults of a heap") : 0;
}

/* Before a keyed image is made, and before one is used. */
static int check_module(const struct thaw *heap, const struct thaw_options *options,
			struct thaw_error *error)
{
	return heap->region.backends.backing != BACKING_KMOD
		       ? 0
		       : error_set(
				 error, THAW_EKERNEL,
				 "%s: the module thaw can neither authenticate nor decipher pages: "
				 "THAW_WITHOUT=kmod",
				 options->image);
}

int thaw_open(const struct thaw_options *options, struct thaw **out, struct thaw_error *error)
{
	struct thaw *heap;
	bool filled;
	int code;

	code = check_options(options, error);
	if (code)
		return code;
	heap = calloc(1, sizeof(*heap));
	if (!heap)
		return error_set(error, -ENOMEM, "no memory to open a heap");
	filled = fill_is_at(options->image);
	heap->tracker.pagemap = -1;
	pthread_mutex_init(&heap->counted, NULL);
	heap->flags = options->flags;
	heap->fatal = options->fatal;
	heap->fatal_arg = options->fatal_arg;
	if (options->flags & THAW_PROCESS)
		code = region_create_process(&heap->region, error);
	else
		code = region_create(&heap->region, options->address, options->max_bytes,
				     options->guard_bytes,
				     filled	      ? REGION_FILLED
				     : options->image ? REGION_SERVED
						      : REGION_PLAIN,
				     error);
	if (filled) /* what is missing is waited for by threads, while others go on */
		heap->region.backends.reader = READER_THREADS;
	if (!code && options->frozen)
		code = frozen_heap_open(heap, options->frozen, error);
	if (!code && options->flags & (THAW_KEYED | THAW_ENCRYPTED))
		code = check_module(heap, options, error);
	if (!code && options->image)
		code = open_image(heap, options, error);
	if (!code && heap->image && image_key(heap->image))
		code = check_module(heap, options, error);
	if (!code && options->image)
		start_touches(heap, options->flags);
	if (!code && options->image)
		code = heap->region.process ? tracker_create(&heap->tracker, &heap->region, error)
					    : start_tracking(heap, error);
	if (!code && options->image)
		code = start_checkpoints(heap, options, error);
	if (!code)
		code = watch_faults(heap, error);
	if (code) {
		thaw_discard(heap);
		return code;
	}
	*out = heap;
	return 0;
}

static void heap_close(struct thaw *heap, void (*close_image)(struct image *image))
{
	if (!heap)
		return;
	if (heap->image && heap->checkpointer.region)
		checkpointer_stop(&heap->checkpointer);
	if (heap->image && heap->checkpointer.region) /* if that fails, all is durable as it is */
		image_fold_own(heap->image);
	segfault_unwatch(&heap->watched);
	fault_service_stop(heap->service);
	if (heap->image)
		tracker_destroy(&heap->tracker);
	region_destroy(&heap->region);
	frozen_heap_close(&heap->frozen);
	close_image(heap->image);
	working_set_free(&heap->recorder);
	free(heap->working_set);
	free(heap->state);
	pthread_mutex_destroy(&heap->counted);
	free(heap);
}

void thaw_close(struct thaw *heap)
{
	heap_close(heap, image_close);
}

void thaw_discard(struct thaw *heap)
{
	heap_close(heap, image_discard);
}

void *thaw_base(const struct thaw *heap)
{
	return heap->region.base;
}

size_t thaw_size(const struct thaw *heap)
{
	return heap->region.process ? process_memory_bytes(heap->region.process)
				    : heap->region.bytes;
}

int thaw_resize(struct thaw *heap, size_t bytes)
{
	return bytes % SIZE_UNIT || heap->region.process ? -EINVAL
							 : region_resize(&heap->region, bytes);
}

const void *thaw_state(const struct thaw *heap, size_t *bytes)
{
	*bytes = heap->state_bytes;
	return heap->state;
}

const struct thaw_generation *thaw_opened(const struct thaw *heap)
{
	return &heap->opened;
}

void thaw_history(const struct thaw *heap, struct thaw_history *history)
{
	*history = (struct thaw_history){0};
	if (!heap->image)
		return;
	image_history(heap->image, history);
	history->newest &= !heap->fallback.code;
}

void heap_pause(struct thaw *heap)
{
	checkpointer_wait(&heap->checkpointer);
	checkpointer_settle(&heap->checkpointer);
}

int thaw_settle(struct thaw *heap, struct thaw_error *error)
{
	int code;

	if (!heap->image || !(heap->opened.number || heap->totals.generation))
		return 0;
	heap_pause(heap);
	code = image_settle(heap->image, error);
	checkpointer_go_on(&heap->checkpointer);
	heap->settled |= !code;
	return code;
}

void thaw_status(struct thaw *heap, struct thaw_status *status)
{
	const struct backends *backends = &heap->region.backends;

	*status = heap->totals;
	status->delivery = heap->image ? delivery_name(backends->delivery) : "none";
	status->delivery_why = backends->why;
	status->tracker = heap->image ? tracker_name(backends->tracker) : "none";
	status->backing = backing_name(backends->backing);
	status->reader = heap->image ? reader_name(backends->reader) : "none";
	status->poison = heap->image ? poison_name(backends->poison) : "none";
	status->fallback = heap->fallback;
	if (heap->image) {
		/*
		 * While a commit is under way its thread owns the image's record of the newest
		 * generation.
		 */
		if (!status->generation && heap->settled) {
			status->generation = heap->opened.number;
			status->generation_time_ns = heap->opened.time_ns;
		}
		pthread_mutex_lock(&heap->checkpointer.lock);
		status->in_flight = heap->checkpointer.phase != THAW_IDLE;
		pthread_mutex_unlock(&heap->checkpointer.lock);
		status->image_bytes = image_file_bytes(heap->image);
	}
	if (heap->service || heap->region.process) {
		struct thaw_counters counters;

		if (heap->service)
			fault_service_last_poison(heap->service, &status->poison_error);
		else
			status->poison_error = heap->poison_error;
		thaw_counters(heap, &counters);
		status->faults = counters.faults;
		status->pages_restored = counters.pages_restored;
		status->pages_poisoned = counters.pages_poisoned;
		status->restore_bytes = counters.restore_bytes;
	}
}

void thaw_counters(struct thaw *heap, struct thaw_counters *counters)
{
	struct fault_counters counted;

	pthread_mutex_lock(&heap->counted);
	counted = heap->service ? fault_service_counters(heap->service) : heap->last_counters;
	pthread_mutex_unlock(&heap->counted);
	*counters = (struct thaw_counters){
		.faults = counted.faults,
		.pages_restored = counted.pages_restored,
		.pages_poisoned = counted.pages_poisoned,
		.restore_bytes = counted.restore_bytes,
	};
}

int thaw_image_of(const struct thaw *heap, struct thaw_image **image, struct thaw_error *error)
{
	*image = NULL;
	return heap->image ? handle_open_same(image_fd(heap->image), image_path(heap->image), image,
					      error)
			   : error_set(error, -EROFS, "the heap has no image");
}

/* ---- checkpoints ---- */

int thaw_checkpoint_begin(struct thaw *heap, enum thaw_reason reason)
{
	return heap->image ? checkpointer_begin(&heap->checkpointer, reason) : -EROFS;
}

void thaw_checkpoint_stopped(struct thaw *heap)
{
	heap->checkpointer.stopped_ns = sys_monotonic_ns();
}

int thaw_checkpoint_capture(struct thaw *heap, enum thaw_kind kind, const void *state,
			    size_t state_bytes)
{
	return heap->image ? checkpointer_capture(&heap->checkpointer, kind, state, state_bytes)
			   : -EROFS;
}

int thaw_checkpoint_abandon(struct thaw *heap, int code, const char *why)
{
	return heap->image ? checkpointer_abandon(&heap->checkpointer, code, why) : -EROFS;
}

bool thaw_name_valid(const char *name)
{
	return name_is_sound(name);
}

/* From here to the next capture only this thread writes the image. */
static int names_begin(struct thaw *heap, struct thaw_error *error)
{
	bool rests;

	if (!heap->image)
		return error_set(error, -EROFS, "the heap has no image");
	pthread_mutex_lock(&heap->checkpointer.lock);
	rests = checkpointer_rests(&heap->checkpointer);
	pthread_mutex_unlock(&heap->checkpointer.lock);
	if (!rests)
		return error_set(error, -EBUSY, "%s: a checkpoint is under way",
				 image_path(heap->image));
	checkpointer_settle(&heap->checkpointer);
	return 0;
}

int thaw_list(struct thaw *heap, struct thaw_error *error)
{
	struct thaw_error unused;
	int code;

	error = error ? error : &unused;
	code = names_begin(heap, error);
	if (code)
		return code;
	code = image_fold(heap->image, error);
	checkpointer_go_on(&heap->checkpointer);
	return code;
}

int thaw_tag(struct thaw *heap, const char *name, uint64_t *generation, unsigned flags,
	     struct thaw_error *error)
{
	struct thaw_error unused;
	int code;

	error = error ? error : &unused;
	code = names_begin(heap, error);
	if (code)
		return code;
	code = image_tag(heap->image, name, generation, flags, error);
	checkpointer_go_on(&heap->checkpointer);
	return code;
}

int thaw_untag(struct thaw *heap, const char *name, struct thaw_error *error)
{
	struct thaw_error unused;
	int code;

	error = error ? error : &unused;
	code = names_begin(heap, error);
	if (code)
		return code;
	code = image_untag(heap->image, name, error);
	checkpointer_go_on(&heap->checkpointer);
	return code;
}

int thaw_checkpoint_name(struct thaw *heap, const char *name)
{
	if (!name_is_sound(name))
		return -EINVAL;
	return heap->image ? checkpointer_name(&heap->checkpointer, name, COMMIT_ITSELF) : -EROFS;
}

int thaw_checkpoint_keep(struct thaw *heap, const char *name)
{
	if (!name_is_sound(name))
		return -EINVAL;
	if (!heap->image)
		return -EROFS;
	if (!thaw_opened(heap)->number)
		return THAW_ENOGEN;
	return checkpointer_name(&heap->checkpointer, name, thaw_opened(heap)->number);
}

static void totals_add(struct thaw_status *totals, const struct thaw_result *result)
{
	const struct thaw_generation *generation = &result->generation;

	totals->checkpoint_error = result->error;
	if (result->code) {
		totals->checkpoints_failed++;
		return;
	}
	totals->generation = generation->number;
	totals->generation_time_ns = generation->time_ns;
	if (result->unchanged)
		return;
	totals->checkpoints++;
	totals->checkpoint_bytes += generation->bytes_written;
	totals->checkpoint_pages += generation->pages_stored;
	totals->pause_ns_total += generation->pause_ns;
	if (generation->pause_ns > totals->pause_ns_max)
		totals->pause_ns_max = generation->pause_ns;
}

enum thaw_phase thaw_checkpoint_poll(struct thaw *heap, struct thaw_result *result)
{
	struct thaw_result local;
	enum thaw_phase phase;

	if (!heap->image)
		return THAW_IDLE;
	phase = checkpointer_poll(&heap->checkpointer, &local);
	if (phase == THAW_DONE) {
		totals_add(&heap->totals, &local);
		if (result)
			*result = local;
	}
	return phase;
}

enum thaw_phase thaw_checkpoint_wait(struct thaw *heap)
{
	return heap->image ? checkpointer_wait(&heap->checkpointer) : THAW_IDLE;
}

int thaw_checkpoint(struct thaw *heap, enum thaw_reason reason, const void *state,
		    size_t state_bytes, struct thaw_result *result)
{
	struct thaw_result local;
	enum thaw_phase phase;
	int code;

	result = result ? result : &local;
	/*
	 * A checkpoint in flight is finished first; if it waits for its capture, this call captures
	 * it.
	 */
	while ((code = thaw_checkpoint_begin(heap, reason)) == -EBUSY) {
		if (thaw_checkpoint_wait(heap) == THAW_READY)
			thaw_checkpoint_capture(heap, THAW_KIND_PORTABLE, state, state_bytes);
		thaw_checkpoint_poll(heap, NULL);
	}
	if (code)
		return code;
	while ((phase = thaw_checkpoint_wait(heap)) == THAW_READY)
		thaw_checkpoint_capture(heap, THAW_KIND_PORTABLE, state, state_bytes);
	thaw_checkpoint_poll(heap, result);
	return result->code;
}

/* ---- failures ---- */

unsigned thaw_failures(const struct thaw *heap)
{
	return heap->image ? image_failures(heap->image) : 0;
}

int thaw_failed(struct thaw *heap)
{
	return thaw_failed_with(heap, 0);
}

int thaw_failed_with(struct thaw *heap, uint64_t what)
{
	int code = 0;

	if (!heap->image || !heap->opened.number)
		return 0;
	/* From here to the next capture only this thread writes the header. */
	checkpointer_settle(&heap->checkpointer);
	if (image_newest(heap->image)->number == heap->opened.number)
		code = image_failed(heap->image, what);
	checkpointer_go_on(&heap->checkpointer);
	return code;
}

bool thaw_explain_fault(const void *address, char *line, size_t line_bytes)
{
	return segfault_explain(address, line, line_bytes);
}

bool thaw_handle_fault(const void *address)
{
	return segfault_handle(address);
}

/*
 * Writes the value that is there: the exchange fails, and is repeated, if another thread changes it
 * meanwhile. An OR of 0 would do, but a compiler may remove it.
 */
static void write_nothing(unsigned char *at)
{
	unsigned char seen = __atomic_load_n(at, __ATOMIC_RELAXED);

	while (!__atomic_compare_exchange_n(at, &seen, seen, true, __ATOMIC_RELAXED,
					    __ATOMIC_RELAXED))
		;
}

int thaw_touch(const void *address, size_t bytes, bool write)
{
	const struct region *region = segfault_region(address);
	unsigned char *at = (unsigned char *)address, *end = at + bytes;
	size_t offset, size;

	if (!region)
		return -EFAULT;
	offset = (size_t)(at - (unsigned char *)region->base);
	size = region_bytes(region);
	if (offset > size || bytes > size - offset)
		return -EFAULT;
	while (at < end) {
		if (write)
			write_nothing(at);
		else
			(void)*(volatile unsigned char *)at;
		at += region->kernel_page_bytes - (uintptr_t)at % region->kernel_page_bytes;
	}
	return 0;
}
