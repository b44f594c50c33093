/* SPDX-License-Identifier: MIT */
/*
 * identity.c - what must be the same for a guest to go on: the files that its mappings come from, the C library and
 * the program among them, the processor's features, and the size of a page.
 *
 * A file is the same if nothing of stat(2) has changed; else if its build-id is the same; without one, if its
 * contents are, as far as they were read: all of a small file, both ends of a large one, whose time of modification
 * must be the same as well. Files are read once, when they are first seen in a capture.
 *
 * The owner's thread.
 */
#define _GNU_SOURCE
#define XXH_INLINE_ALL
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/array.h"
#include "base/failure.h"
#include "process/memory/address_space.h"
#include "process/identity/identity.h"

#define END_BYTES (1ull << 20)
#define WHOLE_BYTES (4ull << 20)
/* Addresses above are there with page tables of five levels alone. */
#define FOUR_LEVELS_END (1ull << 47)
#define SHORT_ID 12 /* characters of a build-id that tell people enough */

/* ---- Files */

static uint64_t time_ns(struct timespec time)
{
	return (uint64_t)time.tv_sec * 1000000000ull + (uint64_t)time.tv_nsec;
}

static int hash_part(int fd, XXH3_state_t *hash, uint64_t from, uint64_t end)
{
	uint8_t piece[65536];

	while (from < end) {
		size_t most = end - from < sizeof(piece) ? (size_t)(end - from) : sizeof(piece);
		ssize_t got = pread(fd, piece, most, (off_t)from);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return got ? -errno : -ENODATA;
		XXH3_64bits_update(hash, piece, (size_t)got);
		from += (uint64_t)got;
	}
	return 0;
}

static int hash_file(int fd, uint64_t bytes, uint64_t *checksum)
{
	XXH3_state_t *hash = XXH3_createState();
	int code = hash ? 0 : -ENOMEM;

	if (!code) {
		XXH3_64bits_reset(hash);
		if (bytes <= WHOLE_BYTES) {
			code = hash_part(fd, hash, 0, bytes);
		} else {
			code = hash_part(fd, hash, 0, END_BYTES);
			code = code ? code : hash_part(fd, hash, bytes - END_BYTES, bytes);
		}
		*checksum = XXH3_64bits_digest(hash);
	}
	XXH3_freeState(hash);
	return code;
}

static void set_status(struct identity_file *file, const struct stat *status)
{
	file->device = status->st_dev;
	file->inode = status->st_ino;
	file->bytes = (uint64_t)status->st_size;
	file->modified_ns = time_ns(status->st_mtim);
	file->changed_ns = time_ns(status->st_ctim);
}

/* What the file is now; with its contents, unless `known` says all of it. -errno. */
static int look(const char *path, const struct identity_file *known, struct identity_file *now)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK), code = 0;
	struct stat status;

	memset(now, 0, sizeof(*now));
	if (fd < 0)
		return -errno;
	if (fstat(fd, &status)) {
		code = -errno;
	} else if (!S_ISREG(status.st_mode)) {
		code = -EINVAL;
	} else {
		set_status(now, &status);
		if (known && known->device == now->device && known->inode == now->inode &&
		    known->bytes == now->bytes && known->modified_ns == now->modified_ns &&
		    known->changed_ns == now->changed_ns) {
			memcpy(now->build_id, known->build_id, sizeof(now->build_id));
			now->checksum = known->checksum;
		} else {
			file_build_id(fd, now->build_id);
			if (!now->build_id[0])
				code = hash_file(fd, now->bytes, &now->checksum);
		}
	}
	close(fd);
	return code;
}

static struct identity_file *find(const struct identity *identity, const char *path)
{
	for (size_t i = 0; i < identity->count; i++)
		if (!strcmp(identity->files[i].path, path))
			return &identity->files[i];
	return NULL;
}

static int add_file(struct identity *identity, const struct mapping *mapping,
		    struct thaw_error *error)
{
	struct identity_file *file = find(identity, mapping->name), now;
	int code;

	if (file && file->inode == mapping->inode && file->bytes == mapping->file_bytes &&
	    file->modified_ns == mapping->modified_ns)
		return 0;
	code = look(mapping->name, NULL, &now);
	/* Replaced, removed or changed since it was mapped: the next capture sees that, too. */
	if (!code && (now.inode != mapping->inode || now.bytes != mapping->file_bytes ||
		      now.modified_ns != mapping->modified_ns))
		code = -ESTALE;
	if (code)
		return failure(error, PROCESS_EREFUSED,
			       "the program has mapped %s, which cannot be read now (%s): the next "
			       "generation is tried as usual",
			       mapping->name, strerror(-code));
	if (!file) {
		file = array_grow(identity->files, identity->count, &identity->room, sizeof(*file));
		now.path = file ? strdup(mapping->name) : NULL;
		if (file)
			identity->files = file;
		if (!now.path)
			return failure(error, -ENOMEM, "no memory for the list of mapped files");
		file += identity->count++;
	} else {
		now.path = file->path;
	}
	*file = now;
	return 0;
}

/* ---- Capture */

static struct identity *identity_create(void)
{
	struct identity *identity = calloc(1, sizeof(*identity));
	struct utsname name;

	if (!identity || uname(&name)) {
		free(identity);
		return NULL;
	}
	identity->machine = strdup(name.machine);
	identity->kernel = strdup(name.release);
	identity->page_bytes = (uint64_t)sysconf(_SC_PAGESIZE);
	processor_read(&identity->processor);
	if (identity->machine && identity->kernel)
		return identity;
	identity_free(identity);
	return NULL;
}

int identity_capture(struct process *process, const struct mappings *mappings,
		     struct identity **identity, struct thaw_error *error)
{
	const char *last = NULL;
	int code = 0;

	(void)process;
	if (!*identity)
		*identity = identity_create();
	if (!*identity)
		return failure(error, -ENOMEM, "no memory for what the program is");
	for (size_t i = 0; i < mappings->count && !code; i++) {
		const struct mapping *mapping = &mappings->list[i];

		if (mapping->kind != MAPPING_FILE || !mapping->name ||
		    (last && !strcmp(last, mapping->name)))
			continue;
		last = mapping->name;
		code = add_file(*identity, mapping, error);
	}
	return code;
}

void identity_free(struct identity *identity)
{
	if (!identity)
		return;
	for (size_t i = 0; i < identity->count; i++)
		free(identity->files[i].path);
	free(identity->files);
	free(identity->machine);
	free(identity->kernel);
	free(identity);
}

/* ---- Check */

static int differs(const char *path, const char *what, struct thaw_error *error)
{
	return failure(
		error, THAW_EENGINE,
		"%s, which this program runs from, %s: start anew with --fresh, or put the old "
		"file back",
		path, what);
}

static int check_file(const struct identity_file *then, struct thaw_error *error)
{
	struct identity_file now;
	char what[160];
	int code = look(then->path, then, &now);

	if (code == -ENOENT)
		return differs(then->path, "is gone", error);
	if (code) {
		snprintf(what, sizeof(what), "cannot be read (%s)", strerror(-code));
		return differs(then->path, what, error);
	}
	if (strcmp(then->build_id, now.build_id) != 0) {
		snprintf(what, sizeof(what), "was replaced (build-id %.*s then, %.*s now)",
			 SHORT_ID, then->build_id[0] ? then->build_id : "none", SHORT_ID,
			 now.build_id[0] ? now.build_id : "none");
		return differs(then->path, what, error);
	}
	if (then->bytes != now.bytes) {
		snprintf(what, sizeof(what), "was replaced (%llu bytes then, %llu now)",
			 (unsigned long long)then->bytes, (unsigned long long)now.bytes);
		return differs(then->path, what, error);
	}
	if (then->checksum != now.checksum || (!then->build_id[0] && then->bytes > WHOLE_BYTES &&
					       then->modified_ns != now.modified_ns))
		return differs(then->path, "has changed", error);
	return 0;
}

/* Is there an address space above that of four levels? mmap(2) gives such memory only to those who ask for it. */
static bool five_levels(void)
{
	void *high = mmap((void *)(FOUR_LEVELS_END << 2), 4096, PROT_NONE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (high == MAP_FAILED)
		return false;
	munmap(high, 4096);
	return (uint64_t)high >= FOUR_LEVELS_END;
}

static int check_machine(const struct identity *then, const struct mappings *mappings,
			 struct thaw_error *error)
{
	struct identity *now = identity_create();
	char lacks[160];
	int code = 0;

	if (!now)
		return failure(error, -ENOMEM, "no memory to compare this machine");
	if (strcmp(then->machine, now->machine) != 0)
		code = failure(
			error, THAW_EENGINE,
			"the image is of a program for %s, and this machine is %s: go on where it "
			"was, or start anew with --fresh",
			then->machine, now->machine);
	else if (then->page_bytes != now->page_bytes)
		code = failure(
			error, THAW_EENGINE,
			"the image is of a kernel whose pages have %llu bytes, here they have "
			"%llu: go on where it was, or start anew with --fresh",
			(unsigned long long)then->page_bytes, (unsigned long long)now->page_bytes);
	else if (processor_lacks(&now->processor, &then->processor, lacks, sizeof(lacks)))
		code = failure(
			error, THAW_EENGINE,
			"this processor (%s) lacks what the program started with (on %s): %s; "
			"go on where it was, or start anew with --fresh",
			now->processor.model, then->processor.model, lacks);
	else
		for (size_t i = 0; i < mappings->count && !code; i++)
			if (mappings->list[i].kind != MAPPING_SPECIAL &&
			    mappings->list[i].end > FOUR_LEVELS_END && !five_levels())
				code = failure(
					error, THAW_EENGINE,
					"the program has memory at 0x%llx, which this "
					"machine does not have (page tables of five levels): "
					"go on where it was, or start anew with --fresh",
					(unsigned long long)mappings->list[i].start);
	identity_free(now);
	return code;
}

int identity_check(const struct identity *identity, const struct mappings *mappings,
		   struct thaw_error *error)
{
	const char *last = NULL;
	int code = check_machine(identity, mappings, error);

	for (size_t i = 0; i < mappings->count && !code; i++) {
		const struct mapping *mapping = &mappings->list[i];
		const struct identity_file *file;

		if (mapping->kind != MAPPING_FILE || !mapping->name ||
		    (last && !strcmp(last, mapping->name)))
			continue;
		last = mapping->name;
		file = find(identity, mapping->name);
		code = file ? check_file(file, error)
			    : failure(error, THAW_EDAMAGED,
				      "the image maps %s and does not say what that was: go back to "
				      "an older generation with --at",
				      mapping->name);
	}
	return code;
}

/* ---- As bytes */

void identity_encode(const struct identity *identity, struct record_writer *writer)
{
	record_put_text(writer, identity->machine);
	record_put_text(writer, identity->kernel);
	record_put(writer, identity->page_bytes);
	processor_encode(&identity->processor, writer);
	record_put(writer, identity->count);
	for (size_t i = 0; i < identity->count; i++) {
		const struct identity_file *file = &identity->files[i];

		record_put_text(writer, file->path);
		record_put(writer, file->device);
		record_put(writer, file->inode);
		record_put(writer, file->bytes);
		record_put(writer, file->modified_ns);
		record_put(writer, file->changed_ns);
		record_put_text(writer, file->build_id);
		record_put(writer, file->checksum);
	}
}

static void decode_file(struct identity_file *file, struct record_reader *reader)
{
	char *build_id;

	file->path = record_take_text(reader);
	file->device = record_take(reader);
	file->inode = record_take(reader);
	file->bytes = record_take(reader);
	file->modified_ns = record_take(reader);
	file->changed_ns = record_take(reader);
	build_id = record_take_text(reader);
	if (build_id && strlen(build_id) < sizeof(file->build_id))
		strcpy(file->build_id, build_id);
	else
		reader->failed = true;
	free(build_id);
	file->checksum = record_take(reader);
}

bool identity_decode(struct identity **identity, struct record_reader *reader)
{
	struct identity *decoded = calloc(1, sizeof(*decoded));
	uint64_t count;

	*identity = NULL;
	if (!decoded) {
		reader->failed = true;
		return false;
	}
	decoded->machine = record_take_text(reader);
	decoded->kernel = record_take_text(reader);
	decoded->page_bytes = record_take(reader);
	processor_decode(&decoded->processor, reader);
	count = record_take_count(reader, 64);
	decoded->files = reader->failed ? NULL : calloc(count ? count : 1, sizeof(*decoded->files));
	reader->failed |= !decoded->files;
	decoded->room = reader->failed ? 0 : count;
	while (decoded->count < count && !reader->failed)
		decode_file(&decoded->files[decoded->count++], reader);
	if (reader->failed) {
		identity_free(decoded);
		return false;
	}
	*identity = decoded;
	return true;
}
