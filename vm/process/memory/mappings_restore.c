// SPDX-License-Identifier: MIT
/*
 * mappings_restore.c - a guest's address space is made in the restorer: what was there goes, all mappings come, empty.
 * Whether files are those that were mapped, identity.c has found out before. Called on the owner's thread; the
 * restorer's thread makes the calls, in batches (batch.h).
 *
 * The kernel's vdso and vvar are moved out of the way first (PARK), and to where the program knows them last. The vdso
 * of another kernel lies elsewhere: the program has a copy of the old one, with jumps (vdso.h). A thread that was
 * stopped inside of the old one goes on there, over zero pages for its data, by which it asks the kernel.
 */
#define _GNU_SOURCE
#include "process/memory/address_space.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/array.h"
#include "base/failure.h"
#include "compat.h"
#include "process/remote/batch.h"
#include "process/memory/vdso.h"

#define PARK 0x620000000000ull
/* Descriptors that are needed for a moment only: above what the program has (control.h). */
#define HELD_FD 900
#define NEAR_BYTES (1ull << 30) /* a jump reaches twice as far */

#ifndef MAP_DROPPABLE /* 6.11 */
#define MAP_DROPPABLE 0x08
#endif

struct checked_file {
	const struct mapping *mapping; /* the first one of this file */
	int flags;		       /* of open(2) */
	struct stat status;
};

struct opened_file { /* in the guest */
	const struct checked_file *file;
	const struct stat *status;
};

struct restore {
	struct process *process;
	const struct mappings *mappings;
	const struct clocks *clocks;
	struct address_space *space;
	struct thaw_error *error;
	struct batch batch;
	struct checked_file *files;
	size_t file_count, file_room;
	size_t *file_of; /* of each mapping: 1 + its place in `files`; 0: it is of none */
	struct opened_file *opened;
	size_t opened_count, opened_room;
	/* The restorer's own. */
	struct seen_mapping *seen;
	size_t seen_count, seen_room;
	uint64_t vdso, vdso_bytes, vvar;
	bool foreign; /* the vdso is another kernel's */
	bool writable;
};

/* ---- Files: all are looked at before anything is changed */

static int replaced(struct restore *restore, const struct mapping *mapping, const char *how)
{
	return failure(restore->error, THAW_EENGINE,
		       "%s, which the program has mapped, %s: put the file back that was there "
		       "when the generation was taken, or start anew with --fresh",
		       mapping->name, how);
}

/* Its contents are identity.c's business; here it must be there, and be what can be mapped. */
static int compare_file(struct restore *restore, const struct mapping *mapping,
			const struct stat *status)
{
	if (!S_ISREG(status->st_mode))
		return replaced(restore, mapping, "is no file any more");
	if (mapping->kind == MAPPING_SHARED_FILE && status->st_ino != mapping->inode)
		return replaced(restore, mapping, "is another file now");
	if (mapping->kind == MAPPING_FILE && (uint64_t)status->st_size != mapping->file_bytes)
		return replaced(restore, mapping, "has another size now");
	return 0;
}

static bool is_of_file(const struct mapping *mapping)
{
	return mapping->kind == MAPPING_FILE || mapping->kind == MAPPING_SHARED_FILE;
}

/* 1 + where it is in `files`; 0: it was not checked yet. */
static size_t find_checked(const struct restore *restore, const struct mapping *mapping)
{
	for (size_t i = restore->file_count; i; i--) {
		const struct mapping *other = restore->files[i - 1].mapping;

		if (other->inode == mapping->inode && other->device == mapping->device &&
		    other->kind == mapping->kind && !strcmp(other->name, mapping->name))
			return i;
	}
	return 0;
}

static int check_file(struct restore *restore, const struct mapping *mapping)
{
	int flags = O_CLOEXEC | O_NOCTTY | O_NONBLOCK, rc, fd = -1;
	struct checked_file *files = array_grow(restore->files, restore->file_count,
						&restore->file_room, sizeof(*files));
	struct stat status;

	if (!files)
		return failure(restore->error, -ENOMEM, "no memory for the files of a restore");
	restore->files = files;
	if (mapping->kind == MAPPING_SHARED_FILE) {
		flags |= O_RDWR;
		fd = open(mapping->name, flags);
		if (fd < 0 && !(mapping->protection & PROT_WRITE))
			flags &= ~O_RDWR;
	}
	if (fd < 0)
		fd = open(mapping->name, flags);
	if (fd < 0 || fstat(fd, &status)) {
		rc = failure(restore->error, errno == ENOENT ? THAW_EENGINE : -errno,
			     "%s, which the program has mapped, cannot be opened: %s; put it back, "
			     "or start anew with --fresh",
			     mapping->name, strerror(errno));
		if (fd >= 0)
			close(fd);
		return rc;
	}
	rc = compare_file(restore, mapping, &status);
	close(fd);
	if (!rc)
		files[restore->file_count++] = (struct checked_file){mapping, flags, status};
	return rc;
}

static int check_files(struct restore *restore)
{
	const struct mappings *mappings = restore->mappings;
	int rc = 0;

	restore->file_of = calloc(mappings->count + 1, sizeof(*restore->file_of));
	if (!restore->file_of)
		return -ENOMEM;
	for (size_t i = 0; !rc && i < mappings->count; i++) {
		if (!is_of_file(&mappings->list[i]))
			continue;
		restore->file_of[i] = find_checked(restore, &mappings->list[i]);
		if (restore->file_of[i])
			continue;
		rc = check_file(restore, &mappings->list[i]);
		restore->file_of[i] = restore->file_count;
	}
	return rc;
}

/* ---- What the restorer has */

static bool seen_is(const struct seen_mapping *seen, const char *name)
{
	return seen->name_bytes >= strlen(name) && !memcmp(seen->name, name, strlen(name));
}

static bool seen_is_special(const struct seen_mapping *seen)
{
	return seen_is(seen, "[vdso]") || seen_is(seen, "[vvar");
}

static int read_own(struct restore *restore, const char *text)
{
	struct seen_mapping seen, *more;

	while (seen_mapping_parse(&text, &seen)) {
		more = array_grow(restore->seen, restore->seen_count, &restore->seen_room,
				  sizeof(*more));
		if (!more)
			return -ENOMEM;
		restore->seen = more;
		if (address_is_local(seen.start, seen.end) || seen_is(&seen, "[vsyscall]"))
			continue;
		more[restore->seen_count++] = seen;
		if (seen_is(&seen, "[vdso]")) {
			restore->vdso = seen.start;
			restore->vdso_bytes = seen.end - seen.start;
		} else if (seen_is(&seen, "[vvar") && !restore->vvar) {
			restore->vvar = seen.start;
		}
	}
	return 0;
}

/* Is this kernel's vdso the one that the program knows? */
static void compare_vdso(struct restore *restore)
{
	const struct mappings *old = restore->mappings;
	const struct clocks *clocks = restore->clocks;
	size_t bytes;
	const void *here = vdso_here(&bytes);

	restore->foreign =
		old->vdso_bytes != restore->vdso_bytes ||
		(old->vdso_bytes && old->vdso - old->vvar != restore->vdso - restore->vvar) ||
		(clocks && clocks->vdso && here &&
		 (clocks->vdso_bytes < bytes || memcmp(clocks->vdso, here, bytes)));
}

/* From where it is, to the same place relative to its vdso at `vdso`. */
static void move_special(struct restore *restore, uint64_t from_vdso, uint64_t vdso)
{
	for (size_t i = 0; i < restore->seen_count; i++) {
		const struct seen_mapping *seen = &restore->seen[i];
		uint64_t bytes = seen->end - seen->start;

		if (seen_is_special(seen))
			batch_add(&restore->batch, NULL, SYS_mremap,
				  seen->start - restore->vdso + from_vdso, bytes, bytes,
				  MREMAP_MAYMOVE | MREMAP_FIXED, seen->start - restore->vdso + vdso,
				  0);
	}
}

/* Its vdso when it is parked: whatever comes before it in memory has room. */
static uint64_t parked_vdso(void)
{
	return PARK + (64ull << 20);
}

static void clear(struct restore *restore)
{
	move_special(restore, restore->vdso, parked_vdso());
	for (size_t i = 0; i < restore->seen_count; i++) {
		const struct seen_mapping *seen = &restore->seen[i];

		if (!seen_is_special(seen))
			batch_add(&restore->batch, NULL, SYS_munmap, seen->start,
				  seen->end - seen->start, 0, 0, 0, 0);
	}
}

/* ---- Memory */

static uint64_t protection_for_now(const struct restore *restore, const struct mapping *mapping)
{
	return restore->writable && mapping->kind == MAPPING_MEMORY ? PROT_READ | PROT_WRITE
								    : mapping->protection;
}

static void advise(struct restore *restore, uint64_t start, uint64_t bytes, uint32_t flags)
{
	static const struct {
		uint32_t flag;
		int advice;
	} known[] = {{MAPPING_WIPE_ON_FORK, MADV_WIPEONFORK},
		     {MAPPING_DONT_FORK, MADV_DONTFORK},
		     {MAPPING_HUGE, MADV_HUGEPAGE},
		     {MAPPING_NO_HUGE, MADV_NOHUGEPAGE},
		     {MAPPING_DONT_DUMP, MADV_DONTDUMP}};

	for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++)
		if (flags & known[i].flag)
			batch_try(&restore->batch, SYS_madvise, start, bytes,
				  (uint64_t)known[i].advice, 0, 0);
}

/* Maps `mapping` and those after it that can be one with it; how many. */
static size_t map_memory(struct restore *restore, const struct mapping *mapping, size_t left)
{
	const uint32_t same = ~(uint32_t)(MAPPING_HEAP | MAPPING_LOCKED);
	uint64_t protection = protection_for_now(restore, mapping);
	uint64_t flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE;
	uint64_t end = mapping->end, droppable = 0;
	size_t count = 1;

	for (; count < left; count++) {
		const struct mapping *next = &mapping[count];

		if (next->kind != MAPPING_MEMORY || next->start != end ||
		    (next->flags & same) != (mapping->flags & same) ||
		    protection_for_now(restore, next) != protection)
			break;
		end = next->end;
	}
	if (mapping->flags & MAPPING_GROWS_DOWN)
		flags |= MAP_GROWSDOWN;
	/* In place of the private memory that a kernel without it leaves. */
	if (mapping->flags & MAPPING_DROPPABLE)
		droppable = (flags & ~(uint64_t)(MAP_PRIVATE | MAP_FIXED_NOREPLACE)) |
			    MAP_DROPPABLE | MAP_FIXED;
	batch_add(&restore->batch, mapping, SYS_mmap, mapping->start, end - mapping->start,
		  protection, flags, (uint64_t)-1, 0);
	if (droppable)
		batch_try(&restore->batch, SYS_mmap, mapping->start, end - mapping->start,
			  mapping->protection, droppable, (uint64_t)-1);
	advise(restore, mapping->start, end - mapping->start, mapping->flags);
	return count;
}

/* ---- Shared memory: a memfd for what is mapped more than once, or has a name */

static struct shared_object *find_object(const struct restore *restore, unsigned number)
{
	for (size_t i = 0; i < restore->space->object_count; i++)
		if (restore->space->objects[i].number == number)
			return &restore->space->objects[i];
	return NULL;
}

static int make_object(struct restore *restore, const struct mapping *first, size_t left)
{
	struct remote *remote = &restore->process->remote;
	struct shared_object *objects;
	uint64_t bytes = 0;
	const char *name = first->name, *end;
	char *copy;
	int64_t fd;

	objects = reallocarray(restore->space->objects, restore->space->object_count + 1,
			       sizeof(*objects));
	if (!objects)
		return -ENOMEM;
	restore->space->objects = objects;
	for (size_t i = 0; i < left; i++)
		if (first[i].flags & MAPPING_SHARED && first[i].object == first->object &&
		    first[i].offset + (first[i].end - first[i].start) > bytes)
			bytes = first[i].offset + (first[i].end - first[i].start);
	batch_run(&restore->batch);
	if (restore->batch.code)
		return restore->batch.code;
	/* Its name: of "/memfd:name (deleted)". */
	name = name && !strncmp(name, "/memfd:", 7) ? name + 7 : "shared";
	end = strstr(name, " (deleted)");
	copy = strndup(name, end ? (size_t)(end - name) : strlen(name));

	fd = copy ? remote_call(remote, 0, SYS_memfd_create, remote_string(remote, copy),
				MFD_CLOEXEC | MFD_ALLOW_SEALING, 0, 0, 0, 0)
		  : -ENOMEM;
	free(copy);
	if (fd >= 0) {
		int64_t rc = remote_call(remote, 0, SYS_ftruncate, (uint64_t)fd, bytes, 0, 0, 0, 0);
		int64_t held = remote_call(remote, 0, SYS_fcntl, (uint64_t)fd, F_DUPFD_CLOEXEC,
					   HELD_FD, 0, 0, 0);

		if (held == -EINVAL) /* the limit is low */
			held = remote_call(remote, 0, SYS_fcntl, (uint64_t)fd, F_DUPFD_CLOEXEC,
					   HELD_FD / 4, 0, 0, 0);
		remote_call(remote, 0, SYS_close, (uint64_t)fd, 0, 0, 0, 0, 0);
		fd = rc < 0 ? rc : held;
	}
	if (fd < 0)
		return failure(restore->error, (int)fd,
			       "making shared memory of %" PRIu64 " bytes in the guest: %s", bytes,
			       thaw_strerror((int)fd));
	objects[restore->space->object_count++] =
		(struct shared_object){first->device, first->inode, first->object, (int)fd};
	return 0;
}

static int map_shared(struct restore *restore, const struct mapping *mapping, size_t left)
{
	struct shared_object *object = find_object(restore, mapping->object);

	if (!object) {
		int rc = make_object(restore, mapping, left);

		if (rc)
			return rc;
		object = find_object(restore, mapping->object);
	}
	batch_add(&restore->batch, mapping, SYS_mmap, mapping->start, mapping->end - mapping->start,
		  protection_for_now(restore, mapping), MAP_SHARED | MAP_FIXED_NOREPLACE,
		  (uint64_t)object->fd, mapping->offset);
	advise(restore, mapping->start, mapping->end - mapping->start, mapping->flags);
	return 0;
}

int mappings_object(const struct process *process, uint64_t device, uint64_t inode)
{
	for (size_t i = 0; process->space && i < process->space->object_count; i++)
		if (process->space->objects[i].device == device &&
		    process->space->objects[i].inode == inode)
			return process->space->objects[i].fd;
	return -1;
}

int mappings_close_objects(struct process *process, struct thaw_error *error)
{
	struct address_space *space = process->space;
	struct batch batch;
	int rc;

	batch_begin(&batch, &process->remote, 0);
	for (size_t i = 0; space && i < space->object_count; i++)
		batch_try(&batch, SYS_close, (uint64_t)space->objects[i].fd, 0, 0, 0, 0);
	if (space)
		space->object_count = 0;
	rc = batch_run(&batch);
	return rc ? failure(error, rc, "closing shared memory in the guest: %s", thaw_strerror(rc))
		  : 0;
}

/* ---- Files */

static void close_file(struct batch *batch, const struct mapping *about, uint8_t opened)
{
	struct call *call = batch_add(batch, about, SYS_close, 0, 0, 0, 0, 0, 0);

	if (call)
		call->from[0] = opened;
}

/* Opens it in the guest, in a batch with room for a mapping and the end: which call of the batch that is, or a code. */
static int open_file(struct restore *restore, const struct checked_file *file)
{
	struct remote *remote = &restore->process->remote;
	struct opened_file *more = array_grow(restore->opened, restore->opened_count,
					      &restore->opened_room, sizeof(*more));
	struct batch *batch = &restore->batch;
	uint64_t path, there;
	struct call *call;
	void *status;
	int opened;

	if (!more)
		return -ENOMEM;
	restore->opened = more;
	path = remote_string(remote, file->mapping->name);
	there = remote_room(remote, sizeof(struct stat), &status);
	if (!path || !there)
		return -ENOSPC;
	if (batch_need(batch, 4))
		return batch->code;
	batch_add(batch, file->mapping, SYS_openat, (uint64_t)AT_FDCWD, path, (uint64_t)file->flags,
		  0, 0, 0);
	opened = (int)batch->count;
	call = batch_add(batch, file->mapping, SYS_fstat, 0, there, 0, 0, 0, 0);
	if (!call)
		return batch->code;
	call->from[0] = (uint8_t)opened;
	more[restore->opened_count++] = (struct opened_file){file, status};
	return opened;
}

/* All mappings of this file, as many as fit between an open and a close. */
static int map_file(struct restore *restore, const struct checked_file *file)
{
	const struct mappings *mappings = restore->mappings;
	const struct mapping *first = file->mapping;
	struct batch *batch = &restore->batch;
	uint64_t sharing = first->kind == MAPPING_SHARED_FILE ? MAP_SHARED : MAP_PRIVATE;
	size_t which = (size_t)(file - restore->files) + 1;
	struct call *call;
	int opened = 0;

	for (size_t i = (size_t)(first - mappings->list); i < mappings->count; i++) {
		const struct mapping *mapping = &mappings->list[i];

		if (restore->file_of[i] != which)
			continue;
		if (opened && batch->count + 2 > CONTROL_CALLS) {
			close_file(batch, first, (uint8_t)opened);
			opened = 0;
		}
		if (!opened)
			opened = open_file(restore, file);
		if (opened < 0)
			return opened;
		call = batch_add(batch, mapping, SYS_mmap, mapping->start,
				 mapping->end - mapping->start, mapping->protection,
				 sharing | MAP_FIXED_NOREPLACE, 0, mapping->offset);
		if (!call)
			return batch->code;
		call->from[4] = (uint8_t)opened;
	}
	close_file(batch, first, (uint8_t)opened);
	return batch->code;
}

/* What the guest has opened is what was checked. */
static int compare_opened(struct restore *restore)
{
	for (size_t i = 0; i < restore->opened_count; i++) {
		const struct stat *status = restore->opened[i].status;
		const struct stat *checked = &restore->opened[i].file->status;

		if (status->st_ino != checked->st_ino || status->st_dev != checked->st_dev ||
		    status->st_size != checked->st_size)
			return replaced(restore, restore->opened[i].file->mapping,
					"was replaced just now");
	}
	return 0;
}

/* ---- The vdso */

/* Room for this kernel's vdso and vvar within reach of the old vdso; 0: none. */
static uint64_t find_room(const struct restore *restore, uint64_t bytes)
{
	const struct mappings *mappings = restore->mappings;
	uint64_t before = 0, old = mappings->vdso, found = 0;

	for (size_t i = 0; i <= mappings->count; i++) {
		uint64_t next = i < mappings->count ? mappings->list[i].start : (1ull << 47) - PAGE;
		/* Not right below or above anything: stacks and heaps grow. */
		uint64_t at = next - (64 << 20) - bytes;

		if (next > before + (128 << 20) + bytes && at + NEAR_BYTES > old &&
		    at < old + NEAR_BYTES && !address_is_local(at, at + bytes))
			found = at;
		if (i < mappings->count)
			before = mappings->list[i].end;
	}
	return found;
}

/* The old one comes back as plain memory. */
static int bridge_vdso(struct restore *restore)
{
	const struct mappings *old = restore->mappings;
	const struct clocks *clocks = restore->clocks;
	struct batch *batch = &restore->batch;
	uint64_t before = restore->vdso - restore->vvar, room;
	const char *why = "the generation does not have the old one";
	uint8_t *contents = NULL;
	size_t here_bytes;
	const uint8_t *here = vdso_here(&here_bytes);
	int rc = 0;

	room = find_room(restore, before + restore->vdso_bytes);
	if (clocks && clocks->vdso && clocks->vdso_bytes == old->vdso_bytes && here && room) {
		contents = malloc(clocks->vdso_bytes);
		if (!contents)
			return -ENOMEM;
		memcpy(contents, clocks->vdso, clocks->vdso_bytes);
		why = vdso_bridge(contents, clocks->vdso_bytes, old->vdso, here, here_bytes,
				  room + before);
	}
	if (why) {
		free(contents);
		return failure(restore->error, THAW_EENGINE,
			       "this kernel has another vdso than the one that the program was "
			       "started on, and %s: boot that kernel, or start anew with --fresh",
			       why);
	}
	move_special(restore, parked_vdso(), room + before);
	batch_add(batch, NULL, SYS_mmap, old->vdso, old->vdso_bytes, PROT_READ | PROT_WRITE,
		  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, (uint64_t)-1, 0);
	if (old->vvar_bytes)
		batch_add(batch, NULL, SYS_mmap, old->vvar, old->vvar_bytes, PROT_READ,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, (uint64_t)-1, 0);
	batch_run(batch);
	if (!batch->code)
		rc = remote_write(&restore->process->remote, old->vdso, contents, old->vdso_bytes);
	free(contents);
	batch_add(batch, NULL, SYS_mprotect, old->vdso, old->vdso_bytes, PROT_READ | PROT_EXEC, 0,
		  0, 0);
	return rc;
}

static int place_vdso(struct restore *restore)
{
	if (!restore->mappings->vdso_bytes)
		return 0; /* it had none, and cannot know of this one: it stays where the restorer is */
	if (restore->foreign)
		return bridge_vdso(restore);
	move_special(restore, parked_vdso(), restore->mappings->vdso);
	return 0;
}

/* ---- All of it */

static int map_all(struct restore *restore)
{
	const struct mappings *mappings = restore->mappings;
	int rc = 0;

	for (size_t i = 0; !rc && i < mappings->count;) {
		const struct mapping *mapping = &mappings->list[i];

		if (mapping->kind != MAPPING_MEMORY) {
			i++;
		} else if (mapping->flags & MAPPING_SHARED) {
			rc = map_shared(restore, mapping, mappings->count - i);
			i++;
		} else {
			i += map_memory(restore, mapping, mappings->count - i);
			rc = restore->batch.code;
		}
	}
	for (size_t i = 0; !rc && i < restore->file_count; i++)
		rc = map_file(restore, &restore->files[i]);
	return rc;
}

/* What went wrong with a batch, in words. */
static int tell_failure(struct restore *restore, int code)
{
	const struct batch *batch = &restore->batch;
	const struct mapping *mapping = batch->failed_about;

	if (restore->error && restore->error->code)
		return restore->error->code;
	if (!batch->code || batch->failed.number < 0 || !mapping)
		return failure(restore->error, code, "making the guest's mappings: %s",
			       thaw_strerror(code));
	return failure(restore->error, code,
		       "mapping 0x%" PRIx64 " to 0x%" PRIx64 " of %s in the "
		       "guest: %s%s",
		       mapping->start, mapping->end, mapping->name ? mapping->name : "its memory",
		       thaw_strerror(code),
		       code == -ENOMEM ? "; are there limits on memory (ulimit -v, cgroups)?" : "");
}

int mappings_restore(struct process *process, const struct mappings *mappings,
		     const struct clocks *clocks, bool writable, struct thaw_error *error)
{
	struct restore restore = {.process = process,
				  .mappings = mappings,
				  .clocks = clocks,
				  .error = error,
				  .writable = writable};
	char *text = NULL;
	int rc = -ENOMEM;

	if (error)
		error->code = 0;
	restore.space = address_space_get(process);
	batch_begin(&restore.batch, &process->remote, 0);
	if (restore.space)
		rc = check_files(&restore);
	if (!rc)
		text = proc_read(process->remote.pid, "maps", NULL, &rc);
	if (text)
		rc = read_own(&restore, text);
	if (!rc) {
		restore.space->writable = writable;
		compare_vdso(&restore);
		clear(&restore);
		rc = map_all(&restore);
	}
	if (!rc)
		rc = place_vdso(&restore);
	if (!rc)
		rc = batch_run(&restore.batch);
	if (!rc)
		rc = compare_opened(&restore);
	if (rc)
		rc = tell_failure(&restore, rc);
	remote_forget(&process->remote);
	free(restore.opened);
	free(restore.file_of);
	free(restore.files);
	free(restore.seen);
	free(text);
	return rc;
}
