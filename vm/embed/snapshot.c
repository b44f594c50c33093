/* SPDX-License-Identifier: MIT */
/*
 * snapshot.c - what a VM is between two calls: a frozen heap of libthaw's (thaw_frozen.h), whose state blob is the guest's; and
 * that as bytes (snapshot_codec.h). Any thread, but for thaw_vm_snapshot(): nothing here is the VM's.
 *
 * To be compressed, a frozen heap is opened as one more fork of it, which shows all pages in their places; and bytes are
 * decoded into such a heap, which is then frozen: so a delta shares what it has not changed with its base.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/failure.h"
#include "embed.h"
#include "snapshot_codec.h"

#define UNIT 65536u /* of the size of a heap */

struct thaw_vm_snapshot {
	atomic_uint references;
	struct thaw_frozen *frozen;
	pthread_mutex_t lock; /* of the next two */
	bool summed;
	uint64_t sum[2];
};

struct thaw_frozen *snapshot_frozen(struct thaw_vm_snapshot *snapshot)
{
	return snapshot->frozen;
}

/* Consumes `frozen`. NULL: no memory. */
static struct thaw_vm_snapshot *snapshot_new(struct thaw_frozen *frozen)
{
	struct thaw_vm_snapshot *snapshot = calloc(1, sizeof(*snapshot));

	if (!snapshot) {
		thaw_frozen_drop(frozen);
		return NULL;
	}
	atomic_init(&snapshot->references, 1);
	pthread_mutex_init(&snapshot->lock, NULL);
	snapshot->frozen = frozen;
	return snapshot;
}

struct thaw_vm_snapshot *thaw_vm_snapshot_hold(struct thaw_vm_snapshot *snapshot)
{
	if (snapshot)
		atomic_fetch_add(&snapshot->references, 1);
	return snapshot;
}

void thaw_vm_snapshot_drop(struct thaw_vm_snapshot *snapshot)
{
	if (!snapshot || atomic_fetch_sub(&snapshot->references, 1) != 1)
		return;
	thaw_frozen_drop(snapshot->frozen);
	pthread_mutex_destroy(&snapshot->lock);
	free(snapshot);
}

/* Freeze a heap with its state, which is freed. */
static int freeze(struct thaw *heap, void *state, size_t bytes, struct thaw_vm_snapshot **snapshot,
		  struct thaw_error *error)
{
	struct thaw_frozen *frozen;
	int code = thaw_freeze(heap, state, bytes, &frozen, error);

	free(state);
	if (code)
		return code;
	*snapshot = snapshot_new(frozen);
	return *snapshot ? 0 : failure(error, -ENOMEM, "out of memory");
}

int thaw_vm_snapshot(struct thaw_vm *vm, struct thaw_vm_snapshot **snapshot,
		     struct thaw_error *error)
{
	struct thaw_error why;
	size_t bytes;
	void *state = vm_state(vm, &bytes, &why);

	*snapshot = NULL;
	if (!state)
		return failure(error, why.code, "%s", why.text);
	return freeze(vm->heap, state, bytes, snapshot, error);
}

/* ---- As bytes ---- */

struct view { /* a snapshot in one piece */
	struct thaw *heap;
	struct snapshot_contents contents;
};

static int view_open(struct thaw_vm_snapshot *snapshot, struct view *view, struct thaw_error *error)
{
	size_t bytes = thaw_frozen_bytes(snapshot->frozen), state_bytes;
	struct thaw_options options = {.frozen = snapshot->frozen, .max_bytes = bytes};
	int code = thaw_open(&options, &view->heap, error);

	if (code) {
		view->heap = NULL;
		return code;
	}
	view->contents = (struct snapshot_contents){
		.engine = js_engine_identity,
		.heap = thaw_base(view->heap),
		.heap_bytes = bytes,
		.state = thaw_frozen_state(snapshot->frozen, &state_bytes),
	};
	view->contents.state_bytes = state_bytes;
	pthread_mutex_lock(&snapshot->lock);
	if (!snapshot->summed) {
		snapshot_sum(&view->contents);
		memcpy(snapshot->sum, view->contents.sum, sizeof(snapshot->sum));
		snapshot->summed = true;
	}
	memcpy(view->contents.sum, snapshot->sum, sizeof(snapshot->sum));
	pthread_mutex_unlock(&snapshot->lock);
	return 0;
}

int thaw_vm_snapshot_id(struct thaw_vm_snapshot *snapshot, uint8_t id[16], struct thaw_error *error)
{
	struct view view;
	int code = view_open(snapshot, &view, error);

	if (code)
		return code;
	snapshot_id(&view.contents, id);
	thaw_close(view.heap);
	return 0;
}

int thaw_vm_snapshot_bytes(struct thaw_vm_snapshot *snapshot, struct thaw_vm_snapshot *since,
			   void **data, size_t *bytes, struct thaw_error *error)
{
	struct view view, before = {NULL};
	int code = view_open(snapshot, &view, error);

	*data = NULL;
	if (code)
		return code;
	if (since)
		code = view_open(since, &before, error);
	if (!code)
		code = snapshot_encode(&view.contents, since ? &before.contents : NULL, 0, data,
				       bytes, error);
	thaw_close(view.heap);
	thaw_close(before.heap);
	return code;
}

/*
 * A heap of that size to decode into: zeros, or what the base has. Over the base itself where it is not larger, since a heap
 * does not shrink.
 */
static int open_room(const struct snapshot_info *info, struct thaw_vm_snapshot *base,
		     const struct view *before, struct thaw **heap, struct thaw_error *error)
{
	bool over = base && before->contents.heap_bytes <= info->heap_bytes;
	struct thaw_options options = {.frozen = over ? base->frozen : NULL,
				       .max_bytes = info->heap_bytes};
	int code = thaw_open(&options, heap, error);

	if (code) {
		*heap = NULL;
		return code;
	}
	code = thaw_resize(*heap, info->heap_bytes);
	if (code)
		return failure(error, code, "cannot make room for a snapshot of %llu MiB: %s",
			       (unsigned long long)info->heap_bytes >> 20, thaw_strerror(code));
	if (base && !over)
		memcpy(thaw_base(*heap), before->contents.heap, info->heap_bytes);
	return 0;
}

static int check_info(const struct snapshot_info *info, const struct thaw_vm_snapshot *base,
		      uint64_t max_bytes, struct thaw_error *error)
{
	if (!info->heap_bytes || info->heap_bytes % UNIT || info->heap_bytes > JS_HEAP_MAX_BYTES)
		return failure(error, THAW_EDAMAGED, "the snapshot claims a heap that cannot be");
	if (max_bytes && info->heap_bytes > max_bytes)
		return failure(error, -EFBIG, "the snapshot has a heap of %llu MiB, more than %llu",
			       (unsigned long long)info->heap_bytes >> 20,
			       (unsigned long long)max_bytes >> 20);
	if (info->delta && !base)
		return failure(error, THAW_ENOGEN,
			       "the snapshot is what changed since another one, which is needed");
	return 0;
}

int thaw_vm_snapshot_open(const void *data, size_t bytes, struct thaw_vm_snapshot *base,
			  uint64_t max_bytes, struct thaw_vm_snapshot **snapshot,
			  struct thaw_error *error)
{
	struct snapshot_contents made;
	struct view before = {NULL};
	struct thaw *heap = NULL;
	struct snapshot_info info;
	uint8_t *state = NULL;
	int code = snapshot_describe(data, bytes, &info, error);

	*snapshot = NULL;
	if (!code)
		code = check_info(&info, base, max_bytes, error);
	if (code)
		return code;
	base = info.delta ? base : NULL;
	if (base)
		code = view_open(base, &before, error);
	if (!code)
		code = open_room(&info, base, &before, &heap, error);
	state = malloc(info.state_bytes ? info.state_bytes : 1);
	if (!code && !state)
		code = failure(error, -ENOMEM, "out of memory");
	if (!code)
		code = snapshot_decode(data, bytes, js_engine_identity,
				       base ? &before.contents : NULL, thaw_base(heap), state,
				       &made, error);
	if (!code) {
		code = freeze(heap, state, info.state_bytes, snapshot, error);
		state = NULL;
	}
	if (!code) {
		memcpy((*snapshot)->sum, made.sum, sizeof(made.sum));
		(*snapshot)->summed = true;
	}
	free(state);
	thaw_close(heap);
	thaw_close(before.heap);
	return code;
}
