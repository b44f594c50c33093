/* SPDX-License-Identifier: MIT */
/*
 * compact.c - thaw_image_compact: a dense copy of an image takes its place. Any thread; holds the lock of
 * the old file until the new one, locked as well, has its name. So whoever opens the image meanwhile
 * finds it in use, and whoever had opened the old file before notices that it has no name any more
 * (file.c).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "copying.h"
#include "retention.h"

#define COMPRESS_GIVEN THAW_COMPACT_COMPRESS(0)

static int compact_select(const struct image *image, unsigned flags, struct record *kept)
{
	const struct record *record = &image->record;
	const struct generation *newest = &record->generations[record->count - 1];
	bool *keep = calloc(record->count, sizeof(*keep));
	int code = -ENOMEM;

	for (unsigned i = 0; keep && i < record->count; i++)
		keep[i] = !(flags & THAW_COMPACT_NEWEST) || i + 1 == record->count ||
			  record->generations[i].info.number == newest->info.portable;
	if (keep)
		code = retention_select(record, keep, kept);
	free(keep);
	return code;
}

/* The note of the newest generation, or of another that stays. */
static int compact_note(const struct image *image, const struct record *kept, struct note *note,
			struct thaw_error *error)
{
	uint64_t newest = kept->generations[kept->count - 1].info.number;
	struct slot slots[2];
	int code = header_read(image->fd, image->path, slots, error);

	memset(note, 0, sizeof(*note));
	for (unsigned i = 0; i < 2 && !code; i++)
		if (slots[i].note.failures && note->generation != newest &&
		    record_find(kept, slots[i].note.generation))
			*note = slots[i].note;
	return code;
}

/* The new file gets the owner and mode of the old one. */
static int attributes_copy(int from, struct newfile *to, struct thaw_error *error)
{
	struct stat old, new;
	int code = 0;

	if (fstat(from, &old) || fstat(to->fd, &new))
		return newfile_write_error(to, -errno, error);
	if ((old.st_uid != new.st_uid || old.st_gid != new.st_gid) &&
	    fchown(to->fd, old.st_uid, old.st_gid))
		code = -errno;
	if (!code && fchmod(to->fd, old.st_mode & 07777))
		code = -errno;
	return code ? error_set(
			      error, code,
			      "%s: a new file cannot get its owner (%u:%u) and mode: %s: run this "
			      "as its owner",
			      to->path, old.st_uid, old.st_gid, thaw_strerror(code))
		    : 0;
}

/* What the new file is written with. */
static int compact_key(const char *path, unsigned flags, struct slot *identity,
		       struct thaw_error *error)
{
	const struct key_slots old = identity->keys;
	int code;

	if (flags & THAW_COMPACT_DECRYPT && identity->enciphered) {
		identity->mark = (struct key_mark){.salt = {0}};
		identity->enciphered = false;
		identity->keys = (struct key_slots){0};
		code = flags & THAW_COMPACT_KEYED ? keys_make(path, &identity->mark, error) : 0;
		return code ? code : slot_find_key(path, identity, error);
	}
	/* Encoded anew, a page might be enciphered otherwise under the same nonce (cipher.c). */
	if (!(flags & THAW_COMPACT_ENCRYPT) && !(flags & COMPRESS_GIVEN && identity->enciphered))
		return 0;
	code = identity->enciphered ? keys_renew(path, &old, &identity->keys, error)
				    : keys_make_enciphering(path, &identity->keys, error);
	if (code)
		return code;
	identity->mark = identity->keys.mark;
	identity->enciphered = true;
	return slot_find_key(path, identity, error);
}

static int compact_replace(struct image *image, unsigned flags, const struct record *kept,
			   struct newfile *to, struct copying *copying,
			   struct thaw_copy_summary *summary, struct thaw_error *error)
{
	const struct walk_source source = {image->fd, image->path, image->identity.key,
					   image->identity.page_bytes};
	struct slot identity = image->identity;
	struct stat stat;
	struct note note;
	int code = compact_note(image, kept, &note, error);

	if (!code)
		code = attributes_copy(image->fd, to, error);
	if (!code)
		code = compact_key(image->path, flags, &identity, error);
	if (!code)
		code = pack_generations(&source, &identity, kept, note.failures ? &note : NULL, to,
					copying, &summary->pages, error);
	if (code)
		return code;
	if (!fstat(to->fd, &stat))
		summary->bytes_after = (uint64_t)stat.st_size;
	code = newfile_replace(to, image->fd);
	if (code == -EAGAIN)
		return error_set(
			error, code,
			"%s: another file was put in its place meanwhile: that one is left "
			"as it is",
			to->path);
	return code ? newfile_write_error(to, code, error) : 0;
}

static int compact_run(struct image *image, unsigned flags, struct copying *copying,
		       struct thaw_copy_summary *summary, struct thaw_error *error)
{
	struct newfile to;
	struct record kept;
	struct stat stat;
	int code;

	if (fstat(image->fd, &stat))
		return error_set(error, -errno, "%s: %s", image->path, thaw_strerror(-errno));
	summary->bytes_before = copying->total = (uint64_t)stat.st_size;
	if (stat.st_nlink > 1)
		return error_set(error, -EMLINK,
				 "%s: the file has %lu names (hard links), of which all but this "
				 "one would keep the old file: remove them, or use thaw clone",
				 image->path, (unsigned long)stat.st_nlink);
	code = compact_select(image, flags, &kept);
	if (code)
		return error_set(error, code, "%s: no memory to compact it", image->path);
	newfile_sweep(image->path);
	code = newfile_open(&to, image->path);
	to.replaces = true;
	if (code) {
		record_free(&kept);
		return newfile_write_error(&to, code, error);
	}
	code = compact_replace(image, flags, &kept, &to, copying, summary, error);
	if (code)
		newfile_drop(&to);
	else
		close(to.fd);
	summary->generations = kept.count;
	summary->newest = kept.generations[kept.count - 1].info.number;
	summary->generations_lost = image->record.count - kept.count;
	summary->names = kept.name_count;
	summary->names_lost = image->record.name_count - kept.name_count;
	record_free(&kept);
	return code;
}

int thaw_image_compact(const char *path, unsigned flags, const struct thaw_copy_ops *ops,
		       struct thaw_copy_summary *summary, struct thaw_error *error)
{
	struct thaw_copy_summary unused_summary;
	struct copying copying = {.ops = ops};
	struct thaw_error unused, why;
	struct extent_codec codec;
	struct image *image;
	char *file;
	int code;

	error = error ? error : &unused;
	summary = summary ? summary : &unused_summary;
	memset(summary, 0, sizeof(*summary));
	if (!extent_codec_of(flags >> 16, &codec))
		return error_set(error, -EINVAL, "%s: no such compression: %#x", path, flags >> 16);
	if (flags & COMPRESS_GIVEN)
		copying.codec = &codec;
	file = realpath(path, NULL); /* a symbolic link stays one */
	if (!file)
		return error_set(error, -errno, "%s: cannot open it: %s", path,
				 thaw_strerror(-errno));
	code = history_open(file, 0, &image, error);
	if (!code) {
		code = compact_run(image, flags, &copying, summary, error);
		image_close(image);
	}
	if (code == THAW_EDAMAGED) {
		why = *error;
		error_set(error, code,
			  "%.350s: nothing was changed; thaw repair makes a new image of what is "
			  "whole",
			  why.text);
	}
	free(file);
	return code;
}
