/* SPDX-License-Identifier: MIT */
/*
 * snapshot.c - what a VM is between two calls: a frozen heap of libthaw's (thaw_frozen.h), whose state blob is the guest's; and
 * that as bytes (snapshot_codec.h). Any thread, but for thaw_vm_snapshot(): nothing here is the VM's.
 *
 * The sum that ids are made of is kept once it is known: of the first one of a VM all is read for it, then it follows from what a
 * delta lists, or from what differs from the base (thaw_frozen_sum()).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/failure.h"
#include "embed.h"
#include "snapshot_codec.h"

struct thaw_vm_snapshot {
	const struct vm_table *table; /* the first, as of a VM */
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
	snapshot->table = &own_vm_table;
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

static int take(struct thaw_vm *vm, struct thaw_vm_snapshot **snapshot, struct thaw_error *error)
{
	size_t bytes;
	void *state;
	int code = vm_state(vm, &state, &bytes, error);

	if (code)
		return code;
	/* What is free costs no copy and no bytes: once, since later what is given back of a base is written. */
	if (!vm->frozen && !vm->options.snapshot)
		js_give_back_all(vm_engine(vm));
	vm->frozen = true;
	code = freeze(vm->heap, state, bytes, snapshot, error);
	if (code || !vm_trapped(vm, error))
		return code;
	thaw_vm_snapshot_drop(*snapshot); /* of an image, a page of which could not be read */
	*snapshot = NULL;
	return vm_trapped(vm, error);
}

int thaw_vm_snapshot(struct thaw_vm *vm, struct thaw_vm_snapshot **snapshot,
		     struct thaw_error *error)
{
	int code = vm_hold(vm, error);

	*snapshot = NULL;
	if (code)
		return code;
	code = take(vm, snapshot, error);
	vm_let(vm);
	return code;
}

/* ---- As bytes ---- */

#define STREAM_STEP (1u << 20)
#define STREAM_MOST (5ull << 30) /* more than any has */

static struct snapshot_contents contents_of(struct thaw_vm_snapshot *snapshot)
{
	struct snapshot_contents contents = {.engine = js_engine_identity,
					     .frozen = snapshot->frozen};

	pthread_mutex_lock(&snapshot->lock);
	contents.summed = snapshot->summed;
	memcpy(contents.sum, snapshot->sum, sizeof(contents.sum));
	pthread_mutex_unlock(&snapshot->lock);
	return contents;
}

static void keep_sum(struct thaw_vm_snapshot *snapshot, const struct snapshot_contents *contents)
{
	if (!contents->summed)
		return;
	pthread_mutex_lock(&snapshot->lock);
	memcpy(snapshot->sum, contents->sum, sizeof(snapshot->sum));
	snapshot->summed = true;
	pthread_mutex_unlock(&snapshot->lock);
	thaw_frozen_sum_is(snapshot->frozen, contents->sum);
}

int thaw_vm_snapshot_id(struct thaw_vm_snapshot *snapshot, uint8_t id[16], struct thaw_error *error)
{
	struct snapshot_contents contents = contents_of(snapshot);
	int code = snapshot_summed(&contents, error);

	if (code)
		return code;
	keep_sum(snapshot, &contents);
	snapshot_id(&contents, id);
	return 0;
}

int thaw_vm_snapshot_bytes(struct thaw_vm_snapshot *snapshot, struct thaw_vm_snapshot *since,
			   void **data, size_t *bytes, struct thaw_error *error)
{
	struct snapshot_contents contents = contents_of(snapshot), before;
	int code;

	if (since)
		before = contents_of(since);
	code = snapshot_encode(&contents, since ? &before : NULL, data, bytes, error);
	keep_sum(snapshot, &contents);
	if (since)
		keep_sum(since, &before);
	return code;
}

static int open_source(const struct snapshot_source *source, struct thaw_vm_snapshot *base,
		       uint64_t max_bytes, struct thaw_vm_snapshot **snapshot,
		       struct thaw_error *error)
{
	struct snapshot_contents before = {.engine = NULL}, made;
	size_t bytes;
	int code;

	*snapshot = NULL;
	if (base)
		before = contents_of(base);
	code = snapshot_decode(source, js_engine_identity, max_bytes, base ? &before : NULL, &made,
			       error);
	if (base)
		keep_sum(base, &before);
	if (code)
		return code;
	bytes = thaw_frozen_bytes(made.frozen);
	if (!bytes || bytes > JS_HEAP_MAX_BYTES) {
		thaw_frozen_drop(made.frozen);
		return failure(error, THAW_EDAMAGED, "the snapshot claims a heap that cannot be");
	}
	*snapshot = snapshot_new(made.frozen);
	if (!*snapshot)
		return failure(error, -ENOMEM, "out of memory");
	keep_sum(*snapshot, &made);
	return 0;
}

int thaw_vm_snapshot_open(const void *data, size_t bytes, struct thaw_vm_snapshot *base,
			  uint64_t max_bytes, struct thaw_vm_snapshot **snapshot,
			  struct thaw_error *error)
{
	const struct snapshot_source source = {.data = data ? data : "", .bytes = bytes};

	return open_source(&source, base, max_bytes, snapshot, error);
}

static int read_stream(int fd, uint8_t **data, size_t *bytes, struct thaw_error *error)
{
	size_t room = 0;
	ssize_t got = 1;

	*data = NULL;
	*bytes = 0;
	while (got) {
		if (room - *bytes < STREAM_STEP) {
			uint8_t *more;

			room += room / 2 + STREAM_STEP;
			more = room <= STREAM_MOST ? realloc(*data, room) : NULL;
			if (!more)
				return failure(error, room <= STREAM_MOST ? -ENOMEM : -EFBIG,
					       "no memory for a snapshot of %zu MiB and more",
					       *bytes >> 20);
			*data = more;
		}
		got = read(fd, *data + *bytes, room - *bytes);
		if (got < 0 && errno != EINTR)
			return failure(error, -errno, "cannot read the snapshot: %s",
				       strerror(errno));
		*bytes += got > 0 ? (size_t)got : 0;
	}
	return 0;
}

int snapshot_source_of(int fd, struct snapshot_source *source, uint8_t **stream,
		       struct thaw_error *error)
{
	struct stat status;
	size_t bytes;
	off_t at;
	int code;

	*stream = NULL;
	*source = (struct snapshot_source){.fd = fd};
	if (fstat(fd, &status))
		return failure(error, -errno, "cannot read the snapshot: %s", strerror(errno));
	at = S_ISREG(status.st_mode) ? lseek(fd, 0, SEEK_CUR) : -1;
	if (at >= 0) {
		source->offset = (uint64_t)at;
		source->bytes = at < status.st_size ? (uint64_t)(status.st_size - at) : 0;
		return 0;
	}
	code = read_stream(fd, stream, &bytes, error);
	source->data = *stream;
	source->bytes = bytes;
	return code;
}

int thaw_vm_snapshot_open_fd(int fd, struct thaw_vm_snapshot *base, uint64_t max_bytes,
			     struct thaw_vm_snapshot **snapshot, struct thaw_error *error)
{
	struct snapshot_source source;
	uint8_t *stream;
	int code = snapshot_source_of(fd, &source, &stream, error);

	*snapshot = NULL;
	if (!code)
		code = open_source(&source, base, max_bytes, snapshot, error);
	free(stream);
	return code;
}
