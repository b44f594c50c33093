/* SPDX-License-Identifier: MIT */
/*
 * image.c - the image file: its format, and opening, creating, locking and reading it.
 *
 * Owner thread, except image_lookup() (see image.h). Commits are in commit.c, slots in header.c,
 * records in record.c, which generations stay in retention.c, the tree in index.c, free space in space.c. Never writes to a file that exists; only
 * commits do.
 *
 *
 * THE FORMAT
 *
 * One file. The unit of allocation is a block of 4096 bytes; every offset is a byte offset; every
 * integer is little endian; every checksum is XXH3-128 (low half first) with seed 0. A page (4096
 * to 65536 bytes, a power of two: that of the kernel on which the image was created, see page.h)
 * takes whole blocks, one behind the other, wherever they are free. format.h has the structures.
 *
 *	block 0		header slot 0, perhaps a note
 *	block 1		header slot 1, perhaps a note
 *	the rest	pages, nodes, state blobs and commit records, wherever there was room
 *
 *	slot 0 --.                       .--> generation 3: root --> node --> leaf --> pages
 *	          +--> commit record ---+                    `-----------.-> leaf --> pages
 *	slot 1 ..'   (the slot with the  `--> generation 4: root --> node'--> leaf --> pages
 *	              higher sequence)                 `--> state blob
 *
 * Header slot: the first 512 bytes (one sector) of its block. Behind it there may be a note; the rest
 * is zero and means nothing.
 *
 *	  0   8  magic 8f 54 68 61 77 0d 0a 1a
 *	  8   4  format version; d0000000 and above are development formats that no release reads
 *	 12   4  page bytes
 *	 16  16  uuid of the image, random
 *	 32  64  engine: who wrote it; ends in a zero byte
 *	 96   8  sequence: number of the commit that wrote it; 0 in both slots of a new image
 *	104   8  offset of the commit record; 0 while the sequence is 0
 *	112   8  length of the commit record
 *	120  16  checksum of the commit record
 *	136 360  zero
 *	496  16  checksum of bytes 0 to 495
 *
 *	A slot is valid if magic, version and checksum are right and its sequence is 0 or has the
 *	slot's parity, and is at most 2^55. Magic, version and checksum will lie there in every version, so that a
 *	newer image is told from a damaged one.
 *
 * Note of failures: bytes 512 to 1023 of a header block. The program that went on from a generation has
 * failed, so many times in a row, without making a newer one.
 *
 *	  0   8  magic "thawfail"
 *	  8   8  number of that generation
 *	 16   4  how many times, 1 to 2^30
 *	 20   4  zero
 *	 24   8  what failed, a number of the program's
 *	 32 464  zero
 *	496  16  checksum of bytes 0 to 495
 *
 *	A note that is not whole is no note, and no damage. It is written into the block of the slot that
 *	is not the newest valid one: a disk that tears a block with the note tears no slot that is needed.
 *	The next commit writes that block anew, slot and all, and so takes back a note that progress has
 *	disproved; after one that made no generation but only names, it is written again, beside the slot
 *	that is the other one now.
 *
 * Commit record: contiguous, 8-byte aligned. Each commit writes a whole new one.
 *
 *	  0   8  magic "thwrecrd"
 *	  8   8  sequence, as in the slot
 *	 16   4  how many generations, 1 to 4096
 *	 20   4  length of one of them, 160
 *	 24   4  how many names, at most 1000
 *	 28   4  length of one of them, 72
 *	 32   4  page bytes, as in the slot
 *	 36   4  zero
 *	 40   8  working set: the generation whose restore it was recorded after
 *	 48   8  offset of the working set; 0: there is none
 *	 56   8  length of the working set, at most 512 KiB
 *	 64  16  checksum of the working set
 *	 80  16  uuid, as in the slot
 *	 96  64  engine, as in the slot
 *	160      the retained generations, oldest first, numbers ascending, none above the sequence:
 *
 *		  0  96  of struct thaw_generation: number, parent, ancestor, portable, time_ns,
 *			 heap_bytes, pages_written, pages_stored, bytes_written, pause_ns,
 *			 durable_ns (8 each), reason, restores (4 each)
 *		 96   8  offset of the root node; 0: an empty heap
 *		104  16  checksum of the root node
 *		120   4  levels of the tree, 0 to 10; 0: an empty heap
 *		124   4  kind: 0 portable, 1 bound (enum thaw_kind)
 *		128   8  offset of the state blob; 0: it is empty
 *		136   8  length of the state blob, at most 320 MiB
 *		144  16  checksum of the state blob
 *
 *	then	 the names, no two the same, in no order: the generation's number, listed (8), and the
 *		 name with zeros behind it (64)
 *	then 16  checksum of all before it, so that a record can be found without a slot
 *
 *	A generation's number is the sequence of the commit that wrote it. Numbers ascend; commits
 *	that failed, or that made no generation but only names, leave gaps.
 *
 *	Its parent is the one it was made from (0: none, a fresh start), listed or not; the parent's
 *	parent and so on are its line of descent. Its ancestor is the nearest listed one in that line,
 *	0 if none is: each record says it anew. `portable` is the newest portable generation in that
 *	line, itself included: its own number exactly if it is portable, else what its parent names,
 *	which is not above the parent's number; 0: there is none. If it is listed, it is portable.
 *
 * Node: 8-byte aligned, never crosses the end of the run of blocks it was put in; never changed
 * once written.
 *
 *	  0   4  magic "Tnod"
 *	  4   1  level; 0: leaf
 *	  5   3  zero
 *	  8   8  first page below it; a multiple of 16^(level + 1)
 *	 16   8  generation that wrote it
 *	 24      16 children of 24 bytes: offset 8 (0: nothing below), checksum 16; or
 *		 in a leaf 16 entries of 32 bytes:
 *
 *		  0   6  offset of the page in units of 16 bytes
 *		  6   2  stored length; 0: a whole page (the only value yet)
 *		  8   7  birth: generation that wrote the page
 *		 15   1  encoding: 0 absent (all other fields zero), 1 zero page (no offset), 2 raw
 *		 16  16  checksum of the decoded page
 *
 * Working set: numbers of pages (8 bytes each), in the order in which they were first touched after
 * a restore; of each cluster (64 KiB of the heap) the first. Later records refer to it too, until there is another.
 *
 * A reference (slot to record, record to root, state and working set, node to child, entry to page) is valid if
 * the bytes it names lie in the file and have the checksum that stands beside it, and if they say
 * to be what they are referred to as. A reader checks that each time it reads, so nothing below a
 * valid slot can be something else than was written.
 *
 *
 * WRITING A GENERATION (commit.c)
 *
 *	1. pages, nodes (children first), state blob, record: into free blocks, mostly sequential
 *	2. fdatasync		barrier: all that the slot will name is on the disk
 *	3. the header slot that is not the newest valid one
 *	4. fdatasync		the commit point: only now is the generation durable
 *
 * Before the first commit after an open, the slot that was found is written once more as it is and
 * synced, and so is the directory: whoever wrote them may have been killed before they were on the
 * disk, and a sync that failed leaves them in the page cache alone (Rebello et al., USENIX ATC'20).
 *
 * A block is free if nothing that either slot names reaches it. So the generation that the other
 * slot names stays whole until the next commit has overwritten that slot, and a damaged newest
 * slot, record or root costs one generation, whatever is retained. What commit N drops (generations
 * beyond the retained, the record before) is reused after commit N + 1.
 *
 * Retained are the newest generations, as many as the writer was told to keep, those that its rules
 * of age want, and those that have a name (retention.c). Besides them the portable one that the
 * newest names: a program that another build has replaced finds one to go on from, however long ago
 * it last stood still.
 *
 * If 1 or 2 fails, nothing names the new blocks: they are free again and the next commit writes
 * everything anew (after a failed fdatasync the kernel may hold pages for clean that never reached
 * the disk; nothing relies on them). If 3 or 4 fails, the slot may or may not be found on the disk
 * later. The generation does not count as durable, but should it be found it must be whole: its
 * blocks stay taken until a later commit has overwritten that same slot. That commit takes a number
 * two higher, so that a number never stands for two generations.
 *
 * Free space is not stored. The first commit after an open finds it by walking the trees. Blocks that
 * stay free are punched out of the file, once a commit is durable (commit.c); of a file that has become
 * too long for what is in it, each commit moves some pages from the end to the front (relocate.c).
 *
 *
 * OPENING
 *
 * Slots (and notes with them), the newest valid slot's record, the root of the newest generation: a fixed number of small
 * reads. What is damaged on that way is passed over for the generation before (the next in the
 * record, then the other slot's record), and the caller is told. The next commit overwrites the
 * slot that was passed over, never the one that was good. A damaged slot beside one that was never
 * committed to is an error, not an empty heap.
 *
 * One writer: it has a write lock of the open file (F_OFD_SETLK) on byte 2^62 - 1, and flock(), before
 * anything is read; or one of them, if only readers keep it from the other (lock.c). They go with the process
 * however it dies, and not when some other descriptor of the same file is closed; /proc/locks names the
 * holder of the second. Readers take no part in it: see store_read(), store_retains(), and pins.c, which
 * keeps the writer from reusing what they read.
 *
 * A new image is made without a name, synced, and linked to its own without replacing anything, so
 * there is never half of one (newfile.c). An empty file (a crash of some file systems leaves one;
 * mktemp makes them) is replaced.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "handle.h"
#include "lock.h"
#include "newfile.h"
#include "relocate.h"
#include "sys.h"

#define OPEN_ATTEMPTS 10 /* when others create or replace the file at the same time */

/* ---- Creating */

static int slots_create(int fd, const struct image_options *options)
{
	struct slot slot = {.page_bytes = options->page_bytes};
	int code = 0;

	if (getrandom(slot.uuid, sizeof(slot.uuid), 0) != sizeof(slot.uuid))
		return -EIO;
	snprintf(slot.engine, sizeof(slot.engine), "%s", options->engine);
	for (unsigned i = 0; i < 2 && !code; i++)
		code = header_write(fd, i, &slot);
	return code ? code : sys_fdatasync(fd);
}

/*
 * A new image, locked. The name appears with the whole header behind it, or not at all. `empty`: it takes the
 * place of that file; -1: of none.
 */
static int file_create(const struct image_options *options, int empty, struct thaw_error *error)
{
	struct newfile file;
	int code;

	newfile_sweep(options->path);
	code = newfile_open(&file, options->path);
	if (!code) {
		code = slots_create(file.fd, options);
		if (!code) {
			code = empty < 0 ? newfile_name(&file) : newfile_replace(&file, empty);
			if (code && empty < 0)
				newfile_unmake(file.fd, options->path);
		}
		if (!code)
			return file.fd;
		newfile_drop(&file);
	}
	/* -EEXIST: another was faster. */
	return error_set(error, code, "%s: cannot create it: %s", options->path,
			 thaw_strerror(code));
}

/* ---- Opening */

/*
 * Never waits, as opening a FIFO does that nobody writes. Not O_NONBLOCK afterwards: io_uring takes
 * it at its word.
 */
int store_open(const char *path, int flags, struct thaw_error *error)
{
	int fd = sys_open(path, flags | O_NONBLOCK | O_NOCTTY, 0);
	struct stat stat;

	if (fd < 0)
		return error_set(error, fd, "%s: cannot open it: %s", path, thaw_strerror(fd));
	if (!fstat(fd, &stat) && S_ISREG(stat.st_mode)) {
		fcntl(fd, F_SETFL, 0);
		return fd;
	}
	close(fd);
	return error_set(error, THAW_EFOREIGN, "%s: not a regular file: name another", path);
}

/* The name may stand for another file by the time the lock is ours. */
static bool same_file(int a, int b)
{
	struct stat one, other;

	return !fstat(a, &one) && !fstat(b, &other) && one.st_ino == other.st_ino &&
	       one.st_dev == other.st_dev;
}

int file_is_at(int fd, const char *path)
{
	struct stat opened, named;

	if (fstat(fd, &opened) || stat(path, &named))
		return -errno;
	return opened.st_ino == named.st_ino && opened.st_dev == named.st_dev;
}

/*
 * Of the file that was opened, whatever its name stands for by now. Root may do as it likes anyway;
 * anybody else who owns the file can change what is in it, at any time.
 */
static int check_owner(int fd, const char *path, struct thaw_error *error)
{
	struct passwd entry, *found = NULL;
	char buffer[4096];
	struct stat stat;

	if (fstat(fd, &stat))
		return error_set(error, -errno, "%s: cannot tell whose it is: %s", path,
				 thaw_strerror(-errno));
	if (stat.st_uid == geteuid() || !stat.st_uid)
		return 0;
	if (getpwuid_r(stat.st_uid, &entry, buffer, sizeof(buffer), &found))
		found = NULL;
	return error_set(
		error, THAW_EOWNER,
		"%s: the image belongs to %s%suid %u%s, not to you (uid %u), and its owner decides "
		"what is in it",
		path, found ? found->pw_name : "", found ? " (" : "", stat.st_uid, found ? ")" : "",
		geteuid());
}

/* One attempt: an open and locked file; -EAGAIN: it changed meanwhile. `made`: there was none. */
static int file_open_once(const struct image_options *options, bool *made, struct thaw_error *error)
{
	bool create = options->create;
	struct stat stat;
	int fd, code;

	fd = store_open(options->path, O_RDWR, error);
	if (fd == -ENOENT && create) {
		fd = file_create(options, -1, error);
		*made = fd >= 0;
		if (fd == -EEXIST && !lstat(options->path, &stat) && S_ISLNK(stat.st_mode))
			return error_set(error, -ENOENT, "%s: a symbolic link that leads nowhere",
					 options->path);
		return fd == -EEXIST ? -EAGAIN : fd;
	}
	if (fd < 0)
		return fd;
	code = options->own ? check_owner(fd, options->path, error) : 0;
	if (!code)
		code = lock_image(fd, options->path, error);
	if (!code && file_is_at(fd, options->path) != 1)
		code = -EAGAIN;
	if (!code && create && !fstat(fd, &stat) && !stat.st_size) {
		int created = file_create(options, fd, error);

		close(fd); /* only now: its lock kept others from doing the same */
		return created;
	}
	if (!code && options->fresh)
		newfile_sweep(options->path);
	if (!code)
		return fd;
	close(fd);
	return code;
}

static int file_open(const struct image_options *options, bool *made, struct thaw_error *error)
{
	for (int attempt = 0; attempt < OPEN_ATTEMPTS; attempt++) {
		int fd = file_open_once(options, made, error);

		if (fd != -EAGAIN)
			return fd;
	}
	return error_set(error, -EAGAIN, "%s: the file is replaced again and again: who does that?",
			 options->path);
}

static int identity_check(const struct image_options *options, const struct slot *slot,
			  struct thaw_error *error)
{
	if (options->page_bytes > slot->page_bytes)
		return error_set(
			error, THAW_EFORMAT,
			"%s: its pages have %u bytes, and this kernel's have %u, which is too "
			"many: run it on a kernel whose pages have at most %u (to read it, "
			"thaw export works here too)",
			options->path, slot->page_bytes, options->page_bytes, slot->page_bytes);
	if (options->engine && strcmp(options->engine, slot->engine))
		return error_set(error, THAW_EENGINE,
				 "%s: an image of engine '%s', and this is '%s': name another "
				 "image, or remove it",
				 options->path, slot->engine, options->engine);
	return 0;
}

static int root_check(int fd, const char *path, const struct generation *generation,
		      struct thaw_error *error)
{
	uint64_t node[72]; /* more than a union disk_any */
	unsigned levels = generation->root.levels;

	if (!levels)
		return 0;
	return index_read_node(fd, path, &generation->root.at, levels - 1, 0,
			       (union disk_any *)node, error);
}

static int choose_exactly(struct image *image, uint64_t number, struct thaw_error *error)
{
	const struct record *record = &image->record;
	const struct generation *found = record_find(record, number);

	if (!found)
		return error_set(
			error, THAW_ENOGEN,
			"%s: no generation %" PRIu64 ": the image holds %" PRIu64 " to %" PRIu64
			" (see thaw log)",
			image->path, number, record->count ? record->generations[0].info.number : 0,
			record->count ? record->generations[record->count - 1].info.number : 0);
	image->opened = *found;
	return root_check(image->fd, image->path, found, error);
}

/* This one, if its root is whole; the first complaint goes to `fallback`. */
static int choose_whole(struct image *image, const struct generation *generation,
			struct thaw_error *fallback, struct thaw_error *error)
{
	int code = root_check(image->fd, image->path, generation, error);

	if (!code)
		image->opened = *generation;
	if (code == THAW_EDAMAGED && !fallback->code)
		*fallback = *error;
	return code;
}

/* The newest whole generation of the record. THAW_ENOGEN, and nothing is said: it lists none. */
static int choose_newest(struct image *image, struct thaw_error *fallback, struct thaw_error *error)
{
	int code = THAW_ENOGEN;

	for (unsigned i = image->record.count; i-- > 0;) {
		code = choose_whole(image, &image->record.generations[i], fallback, error);
		if (code != THAW_EDAMAGED)
			break;
	}
	return code;
}

/*
 * The newest whole portable generation in the line of descent that ends with number `*last`; which
 * becomes the number where the record knows no further, and another one may. THAW_ENOGEN, and nothing
 * is said: the record lists none.
 */
static int choose_portable(struct image *image, uint64_t *last, struct thaw_error *fallback,
			   struct thaw_error *error)
{
	const struct generation *end, *named;
	int code = THAW_ENOGEN;

	while ((end = record_find(&image->record, *last)) &&
	       (named = record_find(&image->record, end->info.portable))) {
		code = choose_whole(image, named, fallback, error);
		if (code != THAW_EDAMAGED)
			break;
		*last = named->info.parent;
	}
	return code;
}

/* Slots and record are read: decide which generation this is. */
static int image_choose(struct image *image, const struct image_options *options,
			const struct slot slots[2], struct thaw_error *fallback,
			struct thaw_error *error)
{
	uint64_t newest, last;
	int code, older_code;

	if (options->fresh)
		return 0;
	if (options->generation)
		return choose_exactly(image, options->generation, error);
	if (!image->record.count) {
		if (!fallback->code)
			return 0; /* a new image */
		return error_set(
			error, THAW_EDAMAGED,
			"%s: header slot %u at offset %u is damaged, and no generation is left: "
			"restore the file from a backup, or start anew with --fresh",
			image->path, !image->slot, !image->slot * SPACE_BLOCK);
	}
	newest = last = image->record.generations[image->record.count - 1].info.number;
	code = options->portable ? choose_portable(image, &last, fallback, error)
				 : choose_newest(image, fallback, error);
	if (code == THAW_EDAMAGED && slots[!image->slot].state == SLOT_VALID &&
	    slots[!image->slot].sequence < slots[image->slot].sequence) {
		struct record older;

		if (record_read(image->fd, image->path, &slots[!image->slot], &older, NULL))
			return code;
		if (!image->record_lent)
			record_free(&image->record);
		image->record_lent = false;
		image->record = older;
		image->slot = !image->slot;
		older_code = options->portable ? choose_portable(image, &last, fallback, error)
					       : choose_newest(image, fallback, error);
		if (older_code != THAW_ENOGEN)
			code = older_code;
	}
	if (code == THAW_ENOGEN)
		error_set(error, code,
			  "%s: its newest generation, %" PRIu64
			  ", is bound to the build that wrote it, and so is what the image still "
			  "holds of the line it descends from: use that build, or start anew with "
			  "--fresh",
			  image->path, newest);
	return code;
}

/*
 * The next commit's: above every sequence there is or, in a damaged slot, was; of the other's
 * parity.
 */
static uint64_t number_next(const struct slot slots[2], unsigned slot)
{
	uint64_t next = slots[slot].sequence + 1;

	if (slots[!slot].state != SLOT_VALID)
		next += 2;
	else if (next <= slots[!slot].sequence)
		next += (slots[!slot].sequence - next + 2) / 2 * 2;
	if (next % 2 == slot) /* slot 0 of a new image, found as slot 1 */
		next++;
	return next;
}

/* Slots, record and the generation to open: what a reader may have to do again. */
static int image_find(struct image *image, const struct image_options *options,
		      struct slot slots[2], struct thaw_error *fallback, struct thaw_error *error)
{
	int code = store_read(image->fd, image->path, slots, &image->slot, &image->record, fallback,
			      error);

	if (code == THAW_EDAMAGED && options->fresh) {
		int newest = header_newest(image->path, slots, error);

		if (newest < 0)
			return newest;
		image->slot = (unsigned)newest; /* no record can be read: nothing is retained */
		*fallback = *error;
		code = 0;
	}
	if (code)
		return code;
	image->identity = slots[image->slot];
	code = identity_check(options, &image->identity, error);
	return code ? code : image_choose(image, options, slots, fallback, error);
}

/* The generation is chosen. */
static void image_begin(struct image *image, const struct slot slots[2])
{
	image->next = number_next(slots, image->slot);
	image->note = slots[!image->slot].note;
	for (unsigned i = 0; i < 2; i++)
		if (slots[i].note.failures && slots[i].note.generation == image->opened.info.number)
			image->failures = slots[i].note;
	memcpy(image->slots, slots, sizeof(image->slots));
	image->slots_known[0] = image->slots_known[1] = true;
	image_note_extent(image);
	image->base = image->opened;
	index_open(&image->index, image->fd, image->path, image->identity.page_bytes,
		   &image->base.root);
}

static int image_start(struct image *image, const struct image_options *options,
		       struct thaw_error *fallback, struct thaw_error *error)
{
	struct slot slots[2];
	int code = image_find(image, options, slots, fallback, error);

	if (!code)
		image_begin(image, slots);
	return code;
}

int image_open_listed(struct thaw_image *from, const struct image_options *options,
		      struct image **image, struct thaw_error *fallback, struct thaw_error *error)
{
	struct image *opened = calloc(1, sizeof(*opened));
	struct thaw_error unused;
	int code;

	*image = NULL;
	fallback = fallback ? fallback : &unused;
	*fallback = from->fallback;
	if (!opened)
		return error_set(error, -ENOMEM, "%s: no memory", from->path);
	handle_join(from, opened);
	opened->fd = from->fd;
	opened->path = from->path;
	opened->read_only = true;
	opened->record = from->record;
	opened->record_lent = true;
	opened->slot = from->slot;
	opened->identity = from->slots[from->slot];
	code = identity_check(options, &opened->identity, error);
	if (!code)
		code = image_choose(opened, options, from->slots, fallback, error);
	if (code) {
		image_close(opened);
		return code;
	}
	if (!opened->record_lent) /* the one before it, which was not pinned with the others */
		pin_take(opened->fd, opened->opened.info.number);
	image_begin(opened, from->slots);
	*image = opened;
	return 0;
}

static int options_check(const struct image_options *options, struct thaw_error *error)
{
	uint32_t page = options->page_bytes;
	unsigned thinned = 0;

	if (!options->path || !*options->path)
		return error_set(error, -EINVAL, "no image was named");
	if (!options->read_only && !options->retain_all &&
	    (!options->engine || strlen(options->engine) > 63))
		return error_set(error, -EINVAL, "%s: the engine's name must have at most 63 bytes",
				 options->path);
	if ((page || !(options->read_only || options->retain_all)) && !page_bytes_possible(page))
		return error_set(error, -EINVAL, "%s: pages of %u bytes are not supported",
				 options->path, page);
	for (unsigned i = 0; i < options->thinning_count && i < THAW_THINNING_MAX; i++) {
		if (!options->thinning[i].period_ns)
			return error_set(error, -EINVAL, "%s: a rule of retention without a period",
					 options->path);
		thinned += options->thinning[i].count < STORE_THINNED_MAX
				   ? options->thinning[i].count
				   : STORE_THINNED_MAX + 1;
	}
	if (options->thinning_count > THAW_THINNING_MAX || thinned > STORE_THINNED_MAX)
		return error_set(error, -EINVAL,
				 "%s: more than %u rules of retention, or %u generations in them",
				 options->path, THAW_THINNING_MAX, STORE_THINNED_MAX);
	if (options->portable && options->generation)
		return error_set(error, -EINVAL,
				 "%s: generation %" PRIu64
				 " and the newest portable one were asked for: ask for one",
				 options->path, options->generation);
	return 0;
}

int image_open(const struct image_options *options, struct image **image,
	       struct thaw_error *fallback, struct thaw_error *error)
{
	struct thaw_error unused, unused_error;
	struct image *opened;
	int code = options_check(options, error);

	*image = NULL;
	fallback = fallback ? fallback : &unused;
	error = error ? error : &unused_error;
	memset(fallback, 0, sizeof(*fallback));
	if (code)
		return code;
	if (options->read_only) {
		struct thaw_image *from;

		code = thaw_image_open(options->path, &from, error);
		if (!code)
			code = image_open_listed(from, options, image, fallback, error);
		thaw_image_close(from);
		return code;
	}
	opened = calloc(1, sizeof(*opened));
	if (!opened)
		return error_set(error, -ENOMEM, "%s: no memory", options->path);
	opened->fd = file_open(options, &opened->made, error);
	if (opened->fd < 0) {
		code = opened->fd;
		free(opened);
		return code;
	}
	opened->path = strdup(options->path);
	opened->absolute = path_absolute(options->path);
	opened->held_most = STORE_HELD_MOST;
	opened->retention.all = options->retain_all;
	opened->retention.newest = options->retain ? options->retain : STORE_RETAIN_DEFAULT;
	if (opened->retention.newest > STORE_RETAIN_MAX)
		opened->retention.newest = STORE_RETAIN_MAX;
	opened->retention.thinning_count = options->thinning_count;
	for (unsigned i = 0; i < options->thinning_count; i++)
		opened->retention.thinning[i] = options->thinning[i];
	code = opened->path && opened->absolute
		       ? image_start(opened, options, fallback, error)
		       : error_set(error, -ENOMEM, "%s: no memory", options->path);
	if (code) {
		image_discard(opened);
		return code;
	}
	*image = opened;
	return 0;
}

void image_close(struct image *image)
{
	if (!image)
		return;
	index_close(&image->index);
	space_close(&image->space);
	ranges_free(&image->garbage);
	ranges_free(&image->doubt);
	ranges_free(&image->held);
	relocate_free(&image->relocation);
	if (!image->record_lent)
		record_free(&image->record);
	if (image->from) {
		handle_leave(image->from, image);
	} else {
		close(image->fd); /* gives up the lock */
		free(image->path);
		free(image->absolute);
	}
	free(image);
}

void image_discard(struct image *image)
{
	/* While it is locked: who waits for that opens the name again (file_open_once). */
	if (image && image->made && image->absolute)
		newfile_unmake(image->fd, image->absolute);
	image_close(image);
}

/* ---- Reading */

int image_fd(const struct image *image)
{
	return image->fd;
}

const char *image_path(const struct image *image)
{
	return image->path;
}

uint32_t image_page_bytes(const struct image *image)
{
	return image->identity.page_bytes;
}

const struct thaw_generation *image_opened(const struct image *image)
{
	return &image->opened.info;
}

const struct thaw_generation *image_newest(const struct image *image)
{
	return &image->base.info;
}

uint64_t image_file_bytes(const struct image *image)
{
	struct stat stat;

	return fstat(image->fd, &stat) ? 0 : (uint64_t)stat.st_size;
}

unsigned image_failures(const struct image *image)
{
	const struct note *last = image->said.failures ? &image->said : &image->failures;

	return last->what ? 0 : last->failures;
}

int image_failed(struct image *image, uint64_t what)
{
	const struct note *before = &image->failures;
	struct note note = {image->opened.info.number,
			    before->what == what ? before->failures + 1 : 1, what};
	int fd, code;

	if (image->read_only)
		return -EROFS;
	if (note.failures > STORE_FAILURES_MAX)
		note.failures = STORE_FAILURES_MAX;
	/*
	 * Through a description of its own: the kernel tells each description once that writing back
	 * failed, and a commit that waits for its capture must not miss that.
	 */
	fd = sys_open(image->absolute, O_WRONLY | O_NONBLOCK, 0);
	if (fd < 0)
		return fd;
	code = same_file(fd, image->fd) ? note_write(fd, !image->slot, &note) : THAW_EREPLACED;
	close(fd);
	if (code)
		return code;
	image->note = note;
	image->said = note;
	return (int)note.failures;
}

/* What a reader finds damaged may have been written over, if nothing was kept for it (pins.c). */
static bool is_gone(const struct image *image)
{
	return image->read_only &&
	       !store_retains(image->fd, image->path, image->opened.info.number);
}

static int gone(const struct image *image, struct thaw_error *error)
{
	return error_set(error, THAW_ENOGEN,
			 "%s: generation %" PRIu64
			 " was dropped by the program that writes the image",
			 image->path, image->opened.info.number);
}

int image_read_state(struct image *image, void **state, size_t *bytes, struct thaw_error *error)
{
	const struct generation *opened = &image->opened;
	const char *why = NULL;
	void *blob;
	int code;

	*state = NULL;
	*bytes = 0;
	if (!opened->info.state_bytes)
		return 0;
	/* The length is only as good as the record: no allocation beyond what the file can hold. */
	if (opened->state_offset > image_file_bytes(image) ||
	    opened->info.state_bytes > image_file_bytes(image) - opened->state_offset) {
		why = "the file ends before it";
		goto damaged;
	}
	blob = malloc(opened->info.state_bytes);
	if (!blob)
		return error_set(error, -ENOMEM,
				 "%s: no memory for the state of generation %" PRIu64, image->path,
				 opened->info.number);
	code = sys_pread(image->fd, blob, opened->info.state_bytes, opened->state_offset);
	if (code) {
		free(blob);
		return error_set(error, code,
				 "%s: cannot read the state of generation %" PRIu64
				 " at offset %" PRIu64 ": %s",
				 image->path, opened->info.number, opened->state_offset,
				 thaw_strerror(code));
	}
	if (XXH128_isEqual(XXH3_128bits(blob, opened->info.state_bytes), opened->state_checksum)) {
		*state = blob;
		*bytes = opened->info.state_bytes;
		return 0;
	}
	free(blob);
	why = "its checksum is wrong";
damaged:
	if (is_gone(image))
		return gone(image, error);
	return error_set(error, THAW_EDAMAGED,
			 "%s: the state of generation %" PRIu64 " at offset %" PRIu64
			 " is damaged (%s): open an older generation with --at",
			 image->path, opened->info.number, opened->state_offset, why);
}

int image_read_working_set(struct image *image, uint64_t **pages, uint64_t *generation,
			   struct thaw_error *error)
{
	const struct working_set *set = &image->record.working_set;
	int code = working_set_read(image->fd, set, pages);

	*generation = set->generation;
	if (code == -ENOMEM)
		return error_set(error, code, "%s: no memory for its working set", image->path);
	return code ? working_set_error(image->path, set, code, error)
		    : (int)(set->bytes / sizeof(**pages));
}

int image_lookup(struct image *image, uint64_t first_page, struct extent extents[IMAGE_LEAF_PAGES],
		 struct thaw_error *error)
{
	int code = index_lookup(&image->index, first_page, extents, error);

	return code == THAW_EDAMAGED && is_gone(image) ? gone(image, error) : code;
}

uint64_t image_next(struct image *image, uint64_t page)
{
	return index_next(&image->index, page);
}

static bool page_is_zero(const void *page, uint32_t page_bytes)
{
	const char *bytes = page;

	/* The first byte is zero and each equals the one before. */
	return !bytes[0] && !memcmp(bytes, bytes + 1, page_bytes - 1);
}

bool extent_matches(const struct extent *extent, const void *page, uint32_t page_bytes)
{
	if (extent->encoding != EXTENT_RAW)
		return page_is_zero(page, page_bytes);
	return XXH128_isEqual(XXH3_128bits(page, page_bytes), extent->checksum);
}
