/* SPDX-License-Identifier: MIT */
/*
 * image.c - an open image: opening and closing it, and reading what the chosen generation holds. The
 * format is described in format.h.
 *
 * The file itself is opened by file.c, the generation chosen by choose.c. Commits are in commit.c, header
 * slots in header.c, records in record.c, the tree of pages in index.c, free space in space.c, and which
 * generations stay in retention.c.
 *
 * Owner thread, except image_lookup() and image_next() (see image.h). Never writes to the file, but for
 * the note of failures (image_failed).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cipher.h"
#include "handle.h"
#include "mirror.h"
#include "newfile.h"
#include "relocate.h"
#include "sys.h"

/* ---- Opening */

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

/* Reads the slots and the record, and chooses the generation to open. */
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
	memcpy(image->slots, slots, sizeof(image->slots)); /* for log_rescue(), if none is chosen */
	image->identity = slots[image->slot];
	code = image_check_identity(options, &image->identity, error);
	return code ? code : image_choose(image, options, slots, fallback, error);
}

/* The generation is chosen. */
static void image_begin(struct image *image, const struct slot slots[2])
{
	image->next = number_next(slots, image->slot);
	image->note = slots[!image->slot].note;
	memcpy(image->slots, slots, sizeof(image->slots));
	image->slots_known[0] = image->slots_known[1] = true;
	image_note_extent(image);
	image->base = image->opened;
	index_open(&image->index, image->fd, image->path, image->identity.key,
		   image->identity.page_bytes, &image->base.root);
}

/* The note of the generation that is opened. */
static void failures_find(struct image *image)
{
	for (unsigned i = 0; i < 2; i++)
		if (image->slots[i].note.failures &&
		    image->slots[i].note.generation == image->opened.info.number)
			image->failures = image->slots[i].note;
}

/* Was the newest of all that are listed opened, for being the newest? Then the log goes on from it. */
static bool log_continues(const struct image *image, const struct image_options *options)
{
	const struct record *record = &image->record;

	return !options->generation && !options->fresh && record->count &&
	       record->generations[record->count - 1].info.number == image->opened.info.number;
}

static int image_start(struct image *image, const struct image_options *options,
		       struct thaw_error *fallback, struct thaw_error *error)
{
	struct slot slots[2];
	int code = image_find(image, options, slots, fallback, error);

	if (!code)
		image_begin(image, slots);
	if (!code && log_continues(image, options))
		code = log_replay(image, fallback, error);
	if (!code)
		failures_find(image);
	return code;
}

/* All but the file. */
static void image_clear(struct image *image)
{
	extent_scratch_free(&image->scratch);
	free(image->encoded);
	image->encoded = NULL;
	index_close(&image->index);
	space_close(&image->space);
	ranges_free(&image->garbage);
	ranges_free(&image->doubt);
	ranges_free(&image->held);
	relocate_free(&image->relocation);
	log_close(image);
	if (!image->record_lent)
		record_free(&image->record);
}

/* As it was before image_start(), but for the retention. */
static void image_restart(struct image *image, const struct retention *retention)
{
	const struct image before = *image;

	image_clear(image);
	*image = (struct image){.fd = before.fd,
				.path = before.path,
				.absolute = before.absolute,
				.held_most = before.held_most,
				.codec = before.codec,
				.retention = *retention};
}

/*
 * An older generation was opened, or none, and there are newer ones in the log, which the first commit would make
 * void: the newest of them is listed first. `found` is 0, or THAW_ENOGEN: then it may be the one asked for.
 */
static int log_rescue(struct image *image, const struct image_options *options, int found,
		      struct thaw_error *fallback, struct thaw_error *error)
{
	const struct image_options newest = {.path = options->path, .retain_all = true};
	const struct retention retention = image->retention, all = {.all = true};
	struct thaw_error ignored;
	int code;

	if (log_continues(image, options) || log_pending(image) || fallback->code)
		return found;
	code = log_is_ahead(image, error);
	if (code <= 0)
		return code ? code : found;
	image_restart(image, &all);
	code = image_start(image, &newest, &ignored, error);
	if (!code)
		code = image_fold(image, error);
	image_restart(image, &retention);
	return code && !options->fresh ? code : image_start(image, options, fallback, error);
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
	code = image_check_identity(options, &opened->identity, error);
	if (!code)
		code = image_choose(opened, options, from->slots, fallback, error);
	if (code) {
		image_close(opened);
		return code;
	}
	if (!opened->record_lent) /* the one before it, which was not pinned with the others */
		pin_take(opened->fd, opened->opened.info.number);
	image_begin(opened, from->slots);
	failures_find(opened);
	*image = opened;
	return 0;
}

static int options_check(const struct image_options *options, struct thaw_error *error)
{
	uint32_t page = options->page_bytes;
	struct extent_codec codec;
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
	if (!extent_codec_of(options->compress, &codec))
		return error_set(error, -EINVAL, "%s: no such compression: %#x", options->path,
				 options->compress);
	if (options->portable && options->generation)
		return error_set(error, -EINVAL,
				 "%s: generation %" PRIu64
				 " and the newest portable one were asked for: ask for one",
				 options->path, options->generation);
	return 0;
}

/*
 * Who encrypted an image, or gave it another key, and was killed when the new file had its name already, left the old
 * one beside it (newfile.c): nobody would look for that.
 */
static void image_sweep(const struct image *image)
{
	char *path = image->identity.enciphered ? realpath(image->path, NULL) : NULL;

	if (path)
		newfile_sweep(path);
	free(path);
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
	(void)extent_codec_of(options->compress, &opened->codec);
	opened->opener = getpid();
	opened->fd = file_open_locked(options, &opened->made, error);
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
	if (!code || (code == THAW_ENOGEN && options->generation))
		code = log_rescue(opened, options, code, fallback, error);
	if (code) {
		image_discard(opened);
		return code;
	}
	image_sweep(opened);
	*image = opened;
	return 0;
}

void image_close(struct image *image)
{
	if (!image)
		return;
	image_clear(image);
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
	/*
	 * While it is locked: another process that waits for the lock opens the name again
	 * (file_open_once).
	 */
	if (image && image->made && image->absolute && image->opener == getpid())
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

void image_history(const struct image *image, struct thaw_history *history)
{
	const struct record *record = &image->record;

	memcpy(history->uuid, image->identity.uuid, sizeof(history->uuid));
	history->next = image->next;
	/* What came out of the log is newer than all that is listed. */
	history->newest = !record->count ||
			  image->opened.info.number >=
				  record->generations[record->count - 1].info.number;
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
	 * Through an open file description of its own: the kernel reports a failed write-back once
	 * to each description, and a commit that waits for its capture must not miss that report.
	 */
	fd = sys_open(image->absolute, O_WRONLY | O_NONBLOCK, 0);
	if (fd < 0)
		return fd;
	mirror_window_open(image->space.mirror, -1);
	code = file_is_same(fd, image->fd) ? note_write(fd, !image->slot, &note) : THAW_EREPLACED;
	mirror_window_close(image->space.mirror, MIRROR_NOTHING);
	close(fd);
	if (code)
		return code;
	image->note = note;
	image->said = note;
	return (int)note.failures;
}

/* A reader without a pin may find damage where the writer has reused blocks (pins.c). */
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
	if (log_pending(image) && opened->info.number == image->base.info.number) {
		*state = malloc(opened->info.state_bytes);
		if (!*state)
			return error_set(error, -ENOMEM,
					 "%s: no memory for the state of generation %" PRIu64,
					 image->path, opened->info.number);
		memcpy(*state, image->log.state.bytes, opened->info.state_bytes);
		*bytes = opened->info.state_bytes;
		return 0;
	}
	/* Nothing has checked the length: allocate no more than the file can hold. */
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
	cipher(image->identity.key, CHECKSUM_STATE, opened->state_checksum, opened->info.number,
	       blob, blob, opened->info.state_bytes, 0);
	if (checksum_is(image->identity.key, CHECKSUM_STATE, blob, opened->info.state_bytes,
			opened->state_checksum)) {
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
	int code = working_set_read(image->fd, image->identity.key, set, pages);

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

const struct checksum_key *image_key(const struct image *image)
{
	return image->identity.key;
}
