/* SPDX-License-Identifier: MIT */
/*
 * settle.c - whether what counts as durable is on the disk, in the file that has the image's name, and
 * still as this process left it. A commit asks when it begins and before it is reported (commit.c), and
 * so does a program before it acknowledges anything that it found when it opened the image.
 *
 * Others can remove, rename, replace, shorten, or write into a file that is in use: a lock asks only those who
 * lock, too. Then what is synced is not what the next start will find. Cheap looks tell: the name still
 * stands for this file, the file is as long as it was, the header slots hold what was written there, and
 * so does the last block in use. Whoever shortens the file, however far, takes that block away, also if
 * a later write makes the file as long again, with a hole in it.
 *
 * Called with no commit under way, or by the thread that commits.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store.h"
#include "sys.h"

/* One look is enough for so long, where an entry of the log follows another one. */
#define CHECKED_NS 20000000ull

char *path_absolute(const char *path)
{
	char directory[PATH_MAX], *absolute;

	if (path[0] == '/' || !getcwd(directory, sizeof(directory)))
		return strdup(path);
	absolute = malloc(strlen(directory) + strlen(path) + 2);
	if (absolute)
		sprintf(absolute, "%s/%s", directory, path);
	return absolute;
}

/* What the file, which has so many bytes, holds there now: up to a block. -ENODATA: it ends before it. */
static int tail_read(const struct image *image, uint64_t bytes, uint64_t offset, struct tail *tail)
{
	uint8_t block[SPACE_BLOCK];
	int code;

	if (bytes <= offset)
		return -ENODATA;
	bytes = bytes - offset < SPACE_BLOCK ? bytes - offset : SPACE_BLOCK;
	code = sys_pread(image->fd, block, bytes, offset);
	if (!code)
		*tail = (struct tail){offset, bytes, checksum_plain(block, bytes)};
	return code;
}

void image_note_extent(struct image *image)
{
	uint64_t blocks = image->space_known ? space_blocks_used(&image->space) : 0;

	image->file_bytes = image_file_bytes(image);
	image->tail.bytes = 0; /* a disk that cannot be read leaves nothing to compare with */
	if (blocks > STORE_HEADER_BYTES / SPACE_BLOCK)
		tail_read(image, image->file_bytes, (blocks - 1) * SPACE_BLOCK, &image->tail);
}

static bool slot_same(const struct slot *a, const struct slot *b)
{
	return a->state == b->state && a->sequence == b->sequence &&
	       a->record_offset == b->record_offset && a->record_bytes == b->record_bytes &&
	       checksum_same(a->record_checksum, b->record_checksum) &&
	       !memcmp(a->uuid, b->uuid, sizeof(a->uuid)) &&
	       !memcmp(&a->mark, &b->mark, sizeof(a->mark)) && a->enciphered == b->enciphered &&
	       checksum_same(a->keys_sum, b->keys_sum);
}

static int overwritten(struct image *image, const char *how, struct thaw_error *error)
{
	image->overwritten = true; /* restoring the length does not restore the contents */
	return error_set(error, THAW_EOVERWRITTEN,
			 "%s: somebody %s the file while it was in use, so nothing can be made "
			 "durable in it any more: stop the program, and go on from a copy "
			 "(thaw repair saves what is whole of this one)",
			 image->path, how);
}

static int check_tail(struct image *image, uint64_t file_bytes, struct thaw_error *error)
{
	const struct tail *before = &image->tail;
	struct tail now;
	int code;

	if (!before->bytes)
		return 0;
	code = tail_read(image, file_bytes, before->offset, &now);
	if (code && code != -ENODATA)
		return error_set(error, code, "%s: cannot read it at offset %" PRIu64 ": %s",
				 image->path, before->offset, thaw_strerror(code));
	/* A block that the file ended in may have become longer. */
	if (code || now.bytes < before->bytes ||
	    (now.bytes == before->bytes && !checksum_same(now.checksum, before->checksum)))
		return overwritten(image, "shortened", error);
	return 0;
}

static int check_bytes(struct image *image, uint64_t file_bytes, struct thaw_error *error)
{
	struct slot slots[2];
	int code;

	if (image->overwritten)
		return overwritten(image, "shortened or overwrote", error);
	if (file_bytes < image->file_bytes)
		return overwritten(image, "shortened", error);
	code = header_read(image->fd, image->path, slots, error);
	if (code)
		return code;
	for (unsigned i = 0; i < 2; i++)
		if (image->slots_known[i] && !slot_same(&slots[i], &image->slots[i]))
			return overwritten(image, "overwrote", error);
	return check_tail(image, file_bytes, error);
}

int image_check_bytes(struct image *image, struct thaw_error *error)
{
	return check_bytes(image, image_file_bytes(image), error);
}

/* The name stands for the file, which is open since: one look tells how long it is, too. Like file_is_at(). */
static int look_at(struct image *image, uint64_t *file_bytes)
{
	struct stat opened, named;

	if (!image->inode && fstat(image->fd, &opened))
		return -errno;
	if (!image->inode) {
		image->inode = opened.st_ino;
		image->device = opened.st_dev;
	}
	if (stat(image->absolute, &named))
		return -errno;
	*file_bytes = (uint64_t)named.st_size;
	return named.st_ino == image->inode && named.st_dev == image->device;
}

/* The name still stands for this file. */
static int check_name(struct image *image, uint64_t *file_bytes, struct thaw_error *error)
{
	int code = look_at(image, file_bytes);

	if (code > 0)
		return 0;
	image->settled = false; /* the name under which it comes back may not be on the disk */
	if (!code)
		return error_set(error, THAW_EREPLACED,
				 "%s: another file was put in its place while it was in use, so "
				 "nothing can be made durable under that name: move that one away "
				 "and this one back, or save it from /proc/%d/fd/%d",
				 image->path, (int)getpid(), image->fd);
	if (code == -ENOENT || code == -ENOTDIR)
		return error_set(error, THAW_EGONE,
				 "%s: the file was removed or renamed while it was in use, so "
				 "nothing can be made durable under that name: move it back, or "
				 "save it from /proc/%d/fd/%d",
				 image->path, (int)getpid(), image->fd);
	return error_set(error, code, "%s: cannot find the file under its name any more: %s",
			 image->path, thaw_strerror(code));
}

int image_check_file(struct image *image, struct thaw_error *error)
{
	uint64_t file_bytes = 0;
	int code = check_name(image, &file_bytes, error);

	if (!code)
		code = check_bytes(image, file_bytes, error);
	image->checked_ns = code ? 0 : sys_monotonic_ns();
	return code;
}

/* It was looked at just now, when the entry before was written; if this is none, it is looked at again. */
static bool was_checked(const struct image *image)
{
	return image->settled && image->log.usable && log_pending(image) && image->checked_ns &&
	       sys_monotonic_ns() - image->checked_ns < CHECKED_NS;
}

/*
 * Makes sure that what was found at open is on the disk: once per open image, before anything is
 * overwritten or acknowledged. The process that wrote it may have been killed between a write and
 * its sync, or the sync failed. Then the generation may exist in the page cache only, while the
 * disk still has the one before, whose blocks this image considers free. The same holds for the
 * file's name and a directory that was not synced; a process that may not read the directory did
 * not create the image in it.
 */
int image_settle(struct image *image, struct thaw_error *error)
{
	char real[PATH_MAX]; /* behind symbolic links: that directory has the file's name */
	int code;

	if (image->read_only)
		return error_set(error, -EROFS, "%s: the image is open for reading only",
				 image->path);
	image->check_put_off = was_checked(image);
	code = image->check_put_off ? 0 : image_check_file(image, error);
	if (code || image->settled)
		return code;
	code = sys_fsync_directory_of(realpath(image->absolute, real) ? real : image->absolute);
	if (code == -EACCES)
		code = 0;
	if (!code)
		code = log_settle(image);
	if (!code && image->record.bytes)
		code = header_write_again(image->fd, image->slot);
	if (code)
		return error_set(error, code,
				 "%s: cannot make sure that what it holds is on the disk: %s",
				 image->path, thaw_strerror(code));
	image->settled = true;
	return 0;
}
