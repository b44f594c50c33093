// SPDX-License-Identifier: MIT
/*
 * mappings.c - reading a guest's address space: which of its memory is in the image, and what is mapped again from
 * files. Called on the owner's thread while all threads of the guest are parked (mappings_look: while it runs).
 *
 * A private mapping of a file is cut into pieces: pages that the process has written (or that a loader has relocated),
 * and pages between two such that are near each other, are MAPPING_MEMORY, the others MAPPING_FILE. Of a piece, all is
 * in the image, and it stays one.
 *
 * What does not change is remembered in process->space: files by device and inode, pieces, flags of /proc/PID/smaps.
 */
#define _GNU_SOURCE
#include "process/memory/address_space.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/array.h"
#include "base/clock.h"
#include "base/failure.h"

#define JOIN_BYTES (16 * PAGE)
/* Flags are read while the guest is stopped only if that takes no longer. */
#define FLAGS_STOP_NS 500000ull
#define DELETED " (deleted)"

#ifndef PR_SET_VMA /* 5.17 */
#define PR_SET_VMA 0x53564d41
#define PR_SET_VMA_ANON_NAME 0
#endif

struct capture { /* one run of mappings_capture() */
	struct process *process;
	struct address_space *space;
	struct mappings *mappings;
	struct thaw_error *error;
	struct seen_mapping *seen;
	size_t seen_count, seen_room;
	struct known_piece *pieces; /* the new space->pieces */
	size_t piece_count, piece_room;
	struct thaw_range *parts; /* scratch: what is memory of one mapping */
	size_t part_count, part_room;
};

/* Whether its own user may look into it is the program's choice; while it is stopped, it may. */
static void open_up(struct process *process)
{
	struct remote *remote = &process->remote;
	int64_t dumpable;

	if (process->space->pagemap >= 0 || process->hidden)
		return;
	dumpable = remote_call(remote, 0, SYS_prctl, PR_GET_DUMPABLE, 0, 0, 0, 0, 0);
	if (dumpable < 0 || dumpable == 1 ||
	    remote_call(remote, 0, SYS_prctl, PR_SET_DUMPABLE, 1, 0, 0, 0, 0))
		return;
	process->hidden = 1 + (uint32_t)dumpable;
	process->space->pid = 0;
	address_space_get(process);
}

void mappings_hide(struct process *process)
{
	/* 2 (suid_dumpable) can only be set by the kernel; 0 hides as well. */
	if (process->hidden)
		remote_call(&process->remote, 0, SYS_prctl, PR_SET_DUMPABLE, 0, 0, 0, 0, 0);
	process->hidden = 0;
}

static bool name_is(const struct seen_mapping *seen, const char *name)
{
	return seen->name_bytes == strlen(name) && !memcmp(seen->name, name, seen->name_bytes);
}

static bool name_begins(const struct seen_mapping *seen, const char *name)
{
	return seen->name_bytes >= strlen(name) && !memcmp(seen->name, name, strlen(name));
}

static int refused(struct capture *capture, const struct seen_mapping *seen, const char *why)
{
	return failure(capture->error, PROCESS_EREFUSED,
		       "the mapping at 0x%llx of %.*s cannot be in an image: %s; generations are "
		       "taken again once it is unmapped",
		       (unsigned long long)seen->start, (int)seen->name_bytes, seen->name, why);
}

/* Is there memory that the flags are not known of? */
static bool flags_are_missing(const struct capture *capture)
{
	for (size_t i = 0; i < capture->seen_count; i++) {
		const struct seen_mapping *seen = &capture->seen[i];
		const struct known_flags *flags;

		if (address_is_local(seen->start, seen->end) || name_is(seen, "[vsyscall]"))
			continue;
		flags = address_space_flags(capture->space, seen->start, seen->end);
		if (!flags || flags->start > seen->start || flags->end < seen->end)
			return true;
	}
	return false;
}

/*
 * Memory that a forked child has empty (MADV_WIPEONFORK): programs keep there what two processes must not share, states
 * of random generators above all, and notice when it is empty. So it is in no image, and empty after a restore. It must
 * be certain that it is such memory, now: what was found by /proc/PID/smaps while the guest was stopped gets a name,
 * which goes when it does. (Linux 5.17; without names it is kept like any other.)
 */
static bool may_be_wiped(const struct capture *capture, const struct seen_mapping *seen)
{
	const struct known_flags *flags;

	if (seen->shared || seen->inode || seen->name_bytes)
		return false;
	flags = address_space_flags(capture->space, seen->start, seen->end);
	return flags && flags->flags & MAPPING_WIPE_ON_FORK && flags->start == seen->start &&
	       flags->end == seen->end;
}

static bool has_unmarked(const struct capture *capture)
{
	for (size_t i = 0; !capture->space->no_marks && i < capture->seen_count; i++)
		if (may_be_wiped(capture, &capture->seen[i]))
			return true;
	return false;
}

/* Flags were read in this stop. */
static void mark_wiped(struct capture *capture)
{
	struct remote *remote = &capture->process->remote;
	uint64_t name = remote_string(remote, MAPPING_WIPED_MARK);

	for (size_t i = 0; !capture->space->no_marks && i < capture->seen_count; i++) {
		struct seen_mapping *seen = &capture->seen[i];

		if (!may_be_wiped(capture, seen))
			continue;
		if (remote_call(remote, 0, SYS_prctl, PR_SET_VMA, PR_SET_VMA_ANON_NAME, seen->start,
				seen->end - seen->start, name, 0)) {
			capture->space->no_marks = true;
			break;
		}
		seen->name = MAPPING_WIPED_NAME;
		seen->name_bytes = strlen(MAPPING_WIPED_NAME);
	}
	remote_forget(remote);
}

/* What of the flags is known for certain, of memory of the program's own. */
static uint32_t certain_flags(const struct capture *capture, const struct seen_mapping *seen,
			      const struct known_flags *flags)
{
	uint32_t certain = flags ? flags->flags : 0;

	/* Memory that is new where other memory was must not be what that was. */
	if (flags && (flags->start != seen->start || flags->end != seen->end))
		certain &= ~(uint32_t)MAPPING_DONT_FORK;
	if (capture->space->flags_read_ns <= capture->process->held_until_ns)
		certain &= ~(uint32_t)MAPPING_DONT_FORK;
	if (!capture->space->no_marks)
		certain &= ~(uint32_t)MAPPING_WIPE_ON_FORK;
	if (name_is(seen, MAPPING_WIPED_NAME))
		certain |= MAPPING_WIPE_ON_FORK;
	return certain;
}

/* ---- The list */

static struct mapping *add_mapping(struct capture *capture, const struct seen_mapping *seen,
				   uint64_t start, uint64_t end, enum mapping_kind kind,
				   const struct known_file *file)
{
	const struct known_flags *flags = address_space_flags(capture->space, start, end);
	struct mappings *mappings = capture->mappings;
	struct mapping *mapping;

	mapping = array_grow(mappings->list, mappings->count, &mappings->room, sizeof(*mapping));
	if (!mapping)
		return NULL;
	mappings->list = mapping;
	mapping += mappings->count;
	*mapping = (struct mapping){
		.start = start,
		.end = end,
		.protection = seen->protection,
		.kind = kind,
		.flags = certain_flags(capture, seen, flags),
		.key = flags ? flags->key : 0,
		.offset = seen->inode ? seen->offset + (start - seen->start) : 0,
		.device = seen->device,
		.inode = seen->inode,
	};
	if (file && file->path)
		mapping->name = strdup(file->path);
	else if (seen->name_bytes)
		mapping->name = strndup(seen->name, seen->name_bytes);
	if (!mapping->name && seen->name_bytes)
		return NULL;
	if (file && file->path) {
		mapping->device = file->real_device;
		mapping->file_bytes = file->bytes;
		mapping->modified_ns = file->modified_ns;
		memcpy(mapping->build_id, file->build_id, sizeof(mapping->build_id));
	}
	mappings->count++;
	return mapping;
}

/* ---- Private mappings of files */

static bool add_part(struct capture *capture, uint64_t start, uint64_t end)
{
	struct thaw_range *parts = array_grow(capture->parts, capture->part_count,
					      &capture->part_room, sizeof(*parts));

	if (!parts)
		return false;
	capture->parts = parts;
	parts[capture->part_count++] = (struct thaw_range){start, end};
	return true;
}

static int by_start(const void *a, const void *b)
{
	const struct thaw_range *one = a, *other = b;

	return one->start < other->start ? -1 : one->start > other->start;
}

static const struct thaw_range *first_run(const struct address_space *space, uint64_t address)
{
	size_t low = 0, high = space->run_count;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (space->runs[middle].end <= address)
			low = middle + 1;
		else
			high = middle;
	}
	return space->runs + low;
}

/* What of this mapping is memory: the pages that are the process's own, and what was memory before; joined. */
static int collect_parts(struct capture *capture, const struct seen_mapping *seen, bool whole)
{
	const struct address_space *space = capture->space;
	const struct thaw_range *run = first_run(space, seen->start);
	uint64_t from = seen->start - seen->offset;
	size_t kept = 0;

	capture->part_count = 0;
	if (whole && !add_part(capture, seen->start, seen->end))
		return -ENOMEM;
	for (; run < space->runs + space->run_count && run->start < seen->end; run++)
		if (!add_part(capture, run->start > seen->start ? run->start : seen->start,
			      run->end < seen->end ? run->end : seen->end))
			return -ENOMEM;
	for (size_t i = 0; i < space->piece_count; i++) {
		const struct known_piece *piece = &space->pieces[i];

		if (piece->end > seen->start && piece->start < seen->end && piece->from == from &&
		    piece->inode == seen->inode && piece->device == seen->device &&
		    !add_part(capture, piece->start > seen->start ? piece->start : seen->start,
			      piece->end < seen->end ? piece->end : seen->end))
			return -ENOMEM;
	}
	if (!capture->part_count)
		return 0;
	qsort(capture->parts, capture->part_count, sizeof(*capture->parts), by_start);
	for (size_t i = 1; i < capture->part_count; i++) {
		const struct thaw_range *next = &capture->parts[i];

		if (next->start <= capture->parts[kept].end + JOIN_BYTES) {
			if (next->end > capture->parts[kept].end)
				capture->parts[kept].end = next->end;
		} else {
			capture->parts[++kept] = *next;
		}
	}
	capture->part_count = kept + 1;
	return 0;
}

static int keep_piece(struct capture *capture, const struct seen_mapping *seen,
		      const struct thaw_range *part)
{
	struct known_piece *pieces;

	pieces = array_grow(capture->pieces, capture->piece_count, &capture->piece_room,
			    sizeof(*pieces));
	if (!pieces)
		return -ENOMEM;
	capture->pieces = pieces;
	pieces[capture->piece_count++] = (struct known_piece){
		part->start, part->end, seen->device, seen->inode, seen->start - seen->offset};
	return 0;
}

static int add_private_file(struct capture *capture, const struct seen_mapping *seen,
			    const struct known_file *file)
{
	uint64_t at = seen->start;
	int rc = collect_parts(capture, seen, !file->path || capture->process->self_contained);

	for (size_t i = 0; !rc && i < capture->part_count; i++) {
		const struct thaw_range *part = &capture->parts[i];

		if (part->start > at &&
		    !add_mapping(capture, seen, at, part->start, MAPPING_FILE, file))
			return -ENOMEM;
		rc = keep_piece(capture, seen, part);
		if (!rc &&
		    !add_mapping(capture, seen, part->start, part->end, MAPPING_MEMORY, file))
			rc = -ENOMEM;
		at = part->end;
	}
	if (!rc && at < seen->end && !add_mapping(capture, seen, at, seen->end, MAPPING_FILE, file))
		rc = -ENOMEM;
	return rc;
}

/* ---- Shared mappings */

/* Why memory that is shared and has no file cannot be made again; NULL: it can. */
static const char *shared_refusal(const struct seen_mapping *seen)
{
	size_t end = strlen(DELETED);

	if (name_begins(seen, "/SYSV"))
		return "it is System V shared memory";
	if (name_begins(seen, "/[aio]"))
		return "it is a ring of asynchronous I/O (io_setup)";
	if (name_begins(seen, "/secretmem"))
		return "nobody but the program can read it (memfd_secret)";
	if (name_begins(seen, "/drm mm object") || name_begins(seen, "/i915"))
		return "it is memory of a graphics device";
	if (seen->name[0] == '/' &&
	    (seen->name_bytes < end || memcmp(seen->name + seen->name_bytes - end, DELETED, end)))
		return "it is shared, and its file is not found at this path";
	return NULL;
}

static int add_shared(struct capture *capture, const struct seen_mapping *seen,
		      const struct known_file *file)
{
	struct mappings *mappings = capture->mappings;
	struct mapping *mapping;
	unsigned number = 0, last = 0;
	const char *why;

	if (file->path && !file->zero) {
		if (!add_mapping(capture, seen, seen->start, seen->end, MAPPING_SHARED_FILE, file))
			return -ENOMEM;
		return 0;
	}
	why = shared_refusal(seen);
	if (why)
		return refused(capture, seen, why);
	for (size_t i = 0; i < mappings->count; i++) {
		const struct mapping *other = &mappings->list[i];

		if (!(other->flags & MAPPING_SHARED))
			continue;
		if (other->object > last)
			last = other->object;
		if (other->inode == seen->inode && other->device == seen->device)
			number = other->object;
	}
	mapping = add_mapping(capture, seen, seen->start, seen->end, MAPPING_MEMORY, NULL);
	if (!mapping)
		return -ENOMEM;
	mapping->flags |= MAPPING_SHARED;
	mapping->object = number ? number : last + 1;
	return 0;
}

/* ---- All of it */

static bool is_private_file(const struct seen_mapping *seen)
{
	return seen->name_bytes && seen->name[0] == '/' && !seen->shared;
}

/* The pages of all private mappings of files from here on that touch each other, in one go. */
static int scan_group(struct capture *capture, size_t first, size_t *end)
{
	size_t last = first;

	while (last + 1 < capture->seen_count && is_private_file(&capture->seen[last + 1]) &&
	       capture->seen[last + 1].start == capture->seen[last].end)
		last++;
	*end = last + 1;
	return file_watch_scan(capture->process, capture->seen[first].start,
			       capture->seen[last].end);
}

static int add_special(struct capture *capture, const struct seen_mapping *seen)
{
	struct mappings *mappings = capture->mappings;

	if (name_is(seen, "[vdso]")) {
		mappings->vdso = seen->start;
		mappings->vdso_bytes = seen->end - seen->start;
	} else if (!mappings->vvar_bytes) {
		mappings->vvar = seen->start;
		mappings->vvar_bytes = seen->end - seen->start;
	} else { /* [vvar_vclock] */
		mappings->vvar_bytes = seen->end - mappings->vvar;
	}
	return add_mapping(capture, seen, seen->start, seen->end, MAPPING_SPECIAL, NULL) ? 0
											 : -ENOMEM;
}

static int add_file(struct capture *capture, const struct seen_mapping *seen)
{
	const struct known_file *file = address_space_file(capture->space, seen);

	if (!file)
		return -ENOMEM;
	if (name_begins(seen, "/anon_hugepage") || file->huge)
		return refused(capture, seen, "it is of huge pages (hugetlbfs)");
	if (file->path && !file->regular && !file->zero)
		return refused(capture, seen, "it is a device, not a file");
	if (seen->shared)
		return add_shared(capture, seen, file);
	if (file->zero)
		return add_mapping(capture, seen, seen->start, seen->end, MAPPING_MEMORY, NULL)
			       ? 0
			       : -ENOMEM;
	return add_private_file(capture, seen, file);
}

static int add_seen(struct capture *capture, const struct seen_mapping *seen)
{
	const struct known_flags *flags =
		address_space_flags(capture->space, seen->start, seen->end);
	struct mapping *mapping;

	if (address_is_local(seen->start, seen->end) || name_is(seen, "[vsyscall]") ||
	    name_is(seen, "[uprobes]"))
		return 0;
	if (flags && flags->refusal)
		return refused(capture, seen, flags->refusal);
	if (name_begins(seen, "[vvar") || name_is(seen, "[vdso]"))
		return add_special(capture, seen);
	if (seen->name_bytes && seen->name[0] == '/')
		return add_file(capture, seen);
	if (seen->shared && name_begins(seen, "[anon_shmem:"))
		return add_shared(capture, seen, &(struct known_file){0});
	if (seen->shared || (seen->name_bytes && seen->name[0] != '['))
		return refused(capture, seen, "it is memory of the kernel's, or of a device");
	mapping = add_mapping(capture, seen, seen->start, seen->end, MAPPING_MEMORY, NULL);
	if (!mapping)
		return -ENOMEM;
	if (name_is(seen, "[heap]"))
		mapping->flags |= MAPPING_HEAP;
	if (name_is(seen, "[stack]"))
		mapping->flags |= MAPPING_GROWS_DOWN;
	return 0;
}

static int parse_all(struct capture *capture, const char *text)
{
	struct seen_mapping seen, *more;

	while (seen_mapping_parse(&text, &seen)) {
		more = array_grow(capture->seen, capture->seen_count, &capture->seen_room,
				  sizeof(*more));
		if (!more)
			return -ENOMEM;
		capture->seen = more;
		more[capture->seen_count++] = seen;
	}
	return 0;
}

static int add_all(struct capture *capture)
{
	size_t group = 0;
	int rc = 0;

	for (size_t i = 0; !rc && i < capture->seen_count; i++) {
		if (i >= group && is_private_file(&capture->seen[i]))
			rc = scan_group(capture, i, &group);
		if (!rc)
			rc = add_seen(capture, &capture->seen[i]);
	}
	return rc;
}

/* ---- The same as the last time */

static void forget_last(struct address_space *space)
{
	free(space->last.text);
	space->last.text = NULL;
	mappings_free(&space->last.mappings);
	free(space->last.files);
	space->last.files = NULL;
	space->last.file_count = 0;
}

/* Flags that are to be read now, while it is stopped. */
static bool wants_flags(const struct capture *capture)
{
	const struct address_space *space = capture->space;

	return !space->flags || has_unmarked(capture) ||
	       (space->flags_cost_ns <= FLAGS_STOP_NS && flags_are_missing(capture));
}

/* `mappings` stay this capture's; those of the next one are the same, if it finds this text and nothing else new. */
static void keep_last(struct capture *capture, const char *text, size_t bytes)
{
	struct address_space *space = capture->space;

	if (wants_flags(capture))
		return;
	space->last.text = malloc(bytes + 1);
	space->last.files = malloc((capture->mappings->count + 1) * sizeof(*space->last.files));
	if (space->last.text && space->last.files)
		capture->mappings->users = malloc(sizeof(unsigned));
	if (!capture->mappings->users) {
		free(space->last.files);
		free(space->last.text);
		space->last.files = NULL;
		space->last.text = NULL;
		return;
	}
	*capture->mappings->users = 2;
	space->last.file_count = file_watch_files(capture->mappings, space->last.files);
	memcpy(space->last.text, text, bytes);
	space->last.bytes = bytes;
	space->last.flags_read_ns = space->flags_read_ns;
	space->last.held_until_ns = capture->process->held_until_ns;
	space->last.mappings = *capture->mappings;
}

/* What is not memory of it has no pages of the process's own. */
static bool files_are_clean(struct process *process)
{
	const struct address_space *space = process->space;

	for (size_t i = 0; i < space->last.file_count; i++)
		if (file_watch_scan(process, space->last.files[i].start,
				    space->last.files[i].end) ||
		    space->run_count)
			return false;
	return true;
}

static bool is_as_before(struct process *process, const char *text, size_t bytes)
{
	struct address_space *space = process->space;
	bool same = space->last.text && space->last.bytes == bytes &&
		    space->last.flags_read_ns == space->flags_read_ns &&
		    space->last.held_until_ns == process->held_until_ns &&
		    !memcmp(space->last.text, text, bytes) && address_space_files_stay(space);

	if (!same)
		return false;
	same = files_are_clean(process);
	if (!same) /* what was found is looked for again */
		file_watch_forget(process);
	return same;
}

static int capture_anew(struct capture *capture, const char *text, size_t bytes)
{
	struct address_space *space = capture->space;
	int rc;

	forget_last(space);
	rc = parse_all(capture, text);
	if (!rc && wants_flags(capture)) {
		/* Where it cannot be read, there are none. */
		if (!address_space_read_flags(space))
			mark_wiped(capture);
	}
	if (!rc)
		rc = add_all(capture);
	if (rc) {
		mappings_free(capture->mappings);
		file_watch_forget(capture->process);
		return rc;
	}
	free(space->pieces);
	space->pieces = capture->pieces;
	space->piece_count = capture->piece_count;
	capture->pieces = NULL;
	keep_last(capture, text, bytes);
	return 0;
}

int mappings_capture(struct process *process, struct mappings *mappings, struct thaw_error *error)
{
	struct capture capture = {.process = process, .mappings = mappings, .error = error};
	struct address_space *space = address_space_get(process);
	const char *text = NULL;
	size_t bytes = 0;
	int rc = -ENOMEM;

	*mappings = (struct mappings){0};
	if (error)
		error->code = 0;
	capture.space = space;
	if (space) {
		open_up(process);
		space->capture++;
		proc_files_of(&process->files, space->pid);
		text = proc_files_read(&process->files, PROC_MAPS, &bytes, &rc);
	}
	if (text && is_as_before(process, text, bytes)) {
		*mappings = space->last.mappings;
		++*mappings->users;
		rc = 0;
	} else if (text) {
		rc = capture_anew(&capture, text, bytes);
	} else if (space) {
		forget_last(space); /* its files were not looked at this time */
	}
	if (!rc)
		file_watch_follow(process, mappings);
	/* Another user may not be looked into, and that is why. */
	if ((rc == -EACCES || rc == -EPERM) && kernel_facts_refusal(process, error))
		rc = PROCESS_EREFUSED;
	else if (rc && (!error || !error->code))
		failure(error, rc, "reading the mappings of process %d: %s",
			(int)process->remote.pid, thaw_strerror(rc));
	free(capture.pieces);
	free(capture.parts);
	free(capture.seen);
	return rc;
}

void mappings_look(struct process *process)
{
	struct address_space *space = address_space_get(process);

	if (space && (!space->flags ||
		      clock_monotonic_ns() - space->flags_read_ns >= 100 * space->flags_cost_ns))
		address_space_read_flags(space);
}

void mappings_forget(struct process *process)
{
	struct address_space *space = process->space;

	proc_files_close(&process->files); /* of that memory, too */
	if (!space)
		return;
	for (size_t i = 0; i < space->file_count; i++) {
		free(space->files[i].name);
		free(space->files[i].path);
	}
	forget_last(space);
	file_watch_close(&space->watch);
	if (space->pagemap >= 0)
		close(space->pagemap);
	free(space->files);
	free(space->pieces);
	free(space->flags);
	free(space->runs);
	free(space->objects);
	free(space);
	process->space = NULL;
}
