// SPDX-License-Identifier: MIT
/*
 * dispatch.c - the functions of thaw_vm.h, as a program calls them: each leads into the table that its VM or snapshot has
 * (table.h). Chooses the table for what is opened: this library's, or, of an engine from before, that of the shared object.
 * Any thread, as thaw_vm.h says of each.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/failure.h"
#include "engines/engines.h"
#include "embed.h"
#include "snapshot_codec.h"
#include "table.h"
#include "thaw_image.h"

_Static_assert(sizeof(((struct thaw_image_info *)0)->engine) == 64, "it is copied");

/* Both begin with it, whoever has made them. */
static const struct vm_table *table_of(const void *vm_or_snapshot)
{
	const struct vm_table *table;

	memcpy(&table, vm_or_snapshot, sizeof(table));
	return table;
}

static int older(const struct vm_table *table, struct thaw_error *error)
{
	return failure(error, -ENOSYS,
		       "engine '%s' is from before this function: only VMs of newer ones have it",
		       table->identity);
}

#define HAS(table, name) \
	(offsetof(struct vm_table, name) + sizeof((table)->name) <= (table)->size && (table)->name)
#define OLDER(error) older(table, error)
#define CALL_BY(first, type, name, parameters, arguments, fail)         \
	type name parameters                                            \
	{                                                               \
		const struct vm_table *table = table_of(first);         \
                                                                        \
		return HAS(table, name) ? table->name arguments : fail; \
	}
#define BY_VM(...) CALL_BY(vm, __VA_ARGS__)
#define BY_SNAPSHOT(...) CALL_BY(snapshot, __VA_ARGS__)
#define BY_HAND(...)
VM_TABLE(BY_VM, BY_SNAPSHOT, BY_HAND)

/* ---- Opening ---- */

/* The engine of an image, if that is another one's; else "". */
static void other_engine(const char *path, char engine[64])
{
	struct thaw_image_info info;
	struct thaw_image *image;

	*engine = '\0';
	if (thaw_image_open(path, &image, NULL))
		return;
	if (!thaw_image_info(image, false, &info, NULL) &&
	    strcmp(info.engine, own_vm_table.identity))
		memcpy(engine, info.engine, sizeof(info.engine));
	thaw_image_close(image);
}

static int load(const char *what, const char *engine, const struct vm_table **table,
		struct thaw_error *error)
{
	struct thaw_error why;
	int code = engines_load_vm(engine, table, &why);

	return code ? failure(error, code, "%s of engine '%s': %s", what, engine, why.text) : 0;
}

/*
 * Options as one from before knows them, in `copy`, if they are not this library's. `error`: it does not know one that was
 * given.
 */
static int known_options(const struct vm_table *table, const struct thaw_vm_options **options,
			 struct thaw_vm_options *copy, struct thaw_error *error)
{
	const char *rest = (const char *)*options + table->options_bytes;

	if (table == &own_vm_table || (*options)->size <= table->options_bytes)
		return 0;
	if ((*options)->size > sizeof(*copy))
		return failure(error, -EINVAL, "options.size is not that of this library");
	for (size_t i = 0; i < (*options)->size - table->options_bytes; i++)
		if (rest[i])
			return failure(
				error, -ENOSYS,
				"engine '%s' is from before an option that was given: leave it out, or begin anew",
				table->identity);
	*copy = (struct thaw_vm_options){0};
	memcpy(copy, *options, table->options_bytes);
	copy->size = table->options_bytes;
	*options = copy;
	return 0;
}

#define GIVEN(options, field)                                                                     \
	((options)->size >= offsetof(struct thaw_vm_options, field) + sizeof((options)->field) && \
	 (options)->field)

/* Of what is to be opened, whose engine it is. */
static int table_for(const struct thaw_vm_options *options, const struct vm_table **table,
		     struct thaw_error *error)
{
	char engine[64] = "";

	*table = &own_vm_table;
	if (GIVEN(options, snapshot))
		*table = table_of(options->snapshot);
	else if (GIVEN(options, image))
		other_engine(options->image, engine);
	/* A process is refused by this library's. */
	return strncmp(engine, "js-", 3) ? 0 : load(options->image, engine, table, error);
}

int thaw_vm_open(const struct thaw_vm_options *options, struct thaw_vm **vm,
		 struct thaw_error *error)
{
	const struct vm_table *table = &own_vm_table;
	struct thaw_vm_options copy;
	int code, other;

	*vm = NULL;
	if (GIVEN(options, snapshot))
		table = table_of(options->snapshot);
	code = known_options(table, &options, &copy, error);
	if (!code)
		code = table->thaw_vm_open(options, vm, error);
	/* An image is looked at once more only where it is not this library's: it would be read twice. */
	if (code != THAW_EENGINE || GIVEN(options, snapshot) || !GIVEN(options, image))
		return code;
	/* What begins anew is not to be bound to an engine from before. */
	if (GIVEN(options, flags) && options->flags & THAW_VM_FRESH)
		return code;
	other = table_for(options, &table, error);
	if (!other && table == &own_vm_table)
		return code; /* a turn of this one's, or a process: `error` tells */
	if (!other)
		other = known_options(table, &options, &copy, error);
	if (!other && error) /* what is there after a success is a note */
		*error = (struct thaw_error){0};
	return other ? other : table->thaw_vm_open(options, vm, error);
}

int thaw_vm_missing(const struct thaw_vm_options *options, char ***names, struct thaw_error *error)
{
	const struct vm_table *table;
	struct thaw_vm_options copy;
	int code = table_for(options, &table, error);

	*names = NULL;
	if (!code)
		code = known_options(table, &options, &copy, error);
	if (!code && !HAS(table, thaw_vm_missing))
		code = older(table, error);
	return code ? code : table->thaw_vm_missing(options, names, error);
}

int thaw_vm_close(struct thaw_vm *vm)
{
	return vm ? table_of(vm)->thaw_vm_close(vm) : 0;
}

/* ---- Snapshots ---- */

struct thaw_vm_snapshot *thaw_vm_snapshot_hold(struct thaw_vm_snapshot *snapshot)
{
	return snapshot ? table_of(snapshot)->thaw_vm_snapshot_hold(snapshot) : NULL;
}

void thaw_vm_snapshot_drop(struct thaw_vm_snapshot *snapshot)
{
	if (snapshot)
		table_of(snapshot)->thaw_vm_snapshot_drop(snapshot);
}

static int two_engines(const void *one, const void *other, struct thaw_error *error)
{
	const struct vm_table *table = table_of(one), *other_table = table_of(other);

	return table == other_table
		       ? 0
		       : failure(error, THAW_EENGINE, "one is of engine '%s', the other of '%s'",
				 table->identity, other_table->identity);
}

int thaw_vm_rollback(struct thaw_vm *vm, struct thaw_vm_snapshot *snapshot,
		     struct thaw_error *error)
{
	int code = two_engines(vm, snapshot, error);

	return code ? code : table_of(vm)->thaw_vm_rollback(vm, snapshot, error);
}

int thaw_vm_snapshot_bytes(struct thaw_vm_snapshot *snapshot, struct thaw_vm_snapshot *since,
			   void **data, size_t *bytes, struct thaw_error *error)
{
	int code = since ? two_engines(snapshot, since, error) : 0;

	*data = NULL;
	return code ? code
		    : table_of(snapshot)->thaw_vm_snapshot_bytes(snapshot, since, data, bytes,
								 error);
}

int thaw_vm_snapshot_diff(struct thaw_vm_snapshot *from, struct thaw_vm_snapshot *to,
			  struct thaw_vm_difference *difference, char **json,
			  struct thaw_error *error)
{
	const struct vm_table *table = table_of(from);
	int code = two_engines(from, to, error);

	if (code)
		return code;
	return HAS(table, thaw_vm_snapshot_diff)
		       ? table->thaw_vm_snapshot_diff(from, to, difference, json, error)
		       : older(table, error);
}

/* After `code` of this library: are they of another engine, and is it here? */
static int by_other(const struct snapshot_source *source, const struct vm_table **table, int code,
		    struct thaw_error *error)
{
	struct snapshot_info info;

	if (code != THAW_EENGINE || *table != &own_vm_table ||
	    snapshot_describe(source, &info, NULL) || !strcmp(info.engine, own_vm_table.identity))
		return code;
	return load("a snapshot", info.engine, table, error);
}

int thaw_vm_snapshot_open(const void *data, size_t bytes, struct thaw_vm_snapshot *base,
			  uint64_t max_bytes, struct thaw_vm_snapshot **snapshot,
			  struct thaw_error *error)
{
	const struct snapshot_source source = {.data = data ? data : "", .bytes = bytes};
	const struct vm_table *table = base ? table_of(base) : &own_vm_table;
	int code = table->thaw_vm_snapshot_open(data, bytes, base, max_bytes, snapshot, error);

	if (!code)
		return 0;
	code = by_other(&source, &table, code, error);
	return code ? code
		    : table->thaw_vm_snapshot_open(data, bytes, base, max_bytes, snapshot, error);
}

/* A file, which can be read again. */
static int open_file(struct snapshot_source *source, struct thaw_vm_snapshot *base,
		     uint64_t max_bytes, struct thaw_vm_snapshot **snapshot,
		     struct thaw_error *error)
{
	const struct vm_table *table = base ? table_of(base) : &own_vm_table;
	int code;

	if (!HAS(table, thaw_vm_snapshot_open_fd))
		return older(table, error);
	code = table->thaw_vm_snapshot_open_fd(source->fd, base, max_bytes, snapshot, error);
	if (!code)
		return 0;
	code = by_other(source, &table, code, error);
	if (!code && !HAS(table, thaw_vm_snapshot_open_fd))
		code = older(table, error);
	return code ? code
		    : table->thaw_vm_snapshot_open_fd(source->fd, base, max_bytes, snapshot, error);
}

int thaw_vm_snapshot_open_fd(int fd, struct thaw_vm_snapshot *base, uint64_t max_bytes,
			     struct thaw_vm_snapshot **snapshot, struct thaw_error *error)
{
	struct snapshot_source source;
	uint8_t *stream;
	int code = snapshot_source_of(fd, &source, &stream, error);

	*snapshot = NULL;
	if (!code && stream)
		code = thaw_vm_snapshot_open(stream, source.bytes, base, max_bytes, snapshot,
					     error);
	else if (!code)
		code = open_file(&source, base, max_bytes, snapshot, error);
	free(stream);
	return code;
}
