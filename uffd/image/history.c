/* SPDX-License-Identifier: MIT */
/*
 * history.c - thaw_image_tag, thaw_image_untag, thaw_image_rollback: changing which generations an
 * image holds, without a heap. Each is one commit of the image (commit.c), and as safe as any: done
 * and durable, or not done. Any thread; nothing else may have the image open.
 *
 * They keep every generation that is listed: what the image's program wants to retain, it does
 * when it commits next. (So does thaw_image_compact, which opens the image as they do.)
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include "store.h"
#include "sys.h"

int image_open_tool(const char *path, uint64_t generation, struct image **image,
		    struct thaw_error *error)
{
	const struct image_options options = {
		.path = path, .generation = generation, .retain_all = true};
	struct thaw_error fallback;
	int code = image_open(&options, image, &fallback, error);

	if (code || !fallback.code)
		return code;
	image_close(*image);
	*error = fallback;
	return fallback.code;
}

int history_open(const char *path, uint64_t generation, struct image **image,
		 struct thaw_error *error)
{
	int code = image_open_tool(path, generation, image, error);

	if (code)
		return code;
	if (!image_opened(*image)->number)
		code = error_set(error, THAW_ENOGEN, "%s: holds no generation yet", path);
	else
		code = image_fold(*image, error); /* so that the newest one is listed */
	if (code)
		image_close(*image);
	return code;
}

/* An image whose log holds nothing is not locked, nor written to. What else is wrong with it, whoever opens it tells. */
static int log_holds(const char *path, struct thaw_error *error)
{
	struct image image = {.fd = store_open(path, O_RDONLY, NULL), .path = (char *)path};
	struct thaw_error fallback, unused;
	int holds = 0;

	if (image.fd < 0)
		return 0;
	if (!store_read(image.fd, path, image.slots, &image.slot, &image.record, &fallback,
			&unused)) {
		image.identity = image.slots[image.slot];
		holds = log_is_ahead(&image, error);
	}
	record_free(&image.record);
	close(image.fd);
	return holds;
}

int thaw_image_settle(const char *path, struct thaw_error *error)
{
	struct thaw_error unused;
	struct image *image;
	int code;

	error = error ? error : &unused;
	code = log_holds(path, error);
	if (code <= 0)
		return code;
	code = image_open_tool(path, 0, &image, error);
	if (code == THAW_EINUSE)
		return 0; /* who has it open does it */
	if (code)
		return code;
	code = image_fold(image, error);
	image_close(image);
	return code;
}

static int history_begin(const char *path, uint64_t generation, struct image **image,
			 struct commit **commit, struct thaw_error *error)
{
	int code = history_open(path, generation, image, error);

	if (code)
		return code;
	code = commit_begin(*image, commit, error);
	if (code)
		image_close(*image);
	return code;
}

static int history_end(struct image *image, struct commit *commit, int code)
{
	if (code)
		commit_abort(commit);
	image_close(image);
	return code;
}

/* A commit of names alone: `code` is what came of them. */
static int names_end(struct commit *commit, int code, struct thaw_error *error)
{
	if (!code)
		code = commit_finish(commit, NULL, NULL, 0, error);
	if (code)
		commit_abort(commit);
	return code;
}

int image_tag(struct image *image, const char *name, uint64_t *generation, unsigned flags,
	      struct thaw_error *error)
{
	const struct thaw_name *named;
	struct commit *commit;
	int code = image_fold(image, error); /* so that the newest one is listed */

	if (code)
		return code;
	if (!*generation)
		*generation = image_newest(image)->number;
	if (!*generation)
		return error_set(error, THAW_ENOGEN, "%s: holds no generation yet", image->path);
	named = record_named(&image->record, name);
	if (named && named->generation == *generation) /* it is so already, and durable */
		return 0;
	if (named && !(flags & THAW_TAG_MOVE))
		return error_set(error, -EEXIST,
				 "%s: generation %" PRIu64 " is named '%s' already: move the name "
				 "with --force, or choose another",
				 image->path, named->generation, name);
	code = commit_begin(image, &commit, error);
	return code ? code : names_end(commit, commit_name(commit, name, generation, error), error);
}

int image_untag(struct image *image, const char *name, struct thaw_error *error)
{
	struct commit *commit;
	int code = commit_begin(image, &commit, error);

	return code ? code : names_end(commit, commit_name(commit, name, NULL, error), error);
}

int thaw_image_tag(const char *path, const char *name, uint64_t generation, unsigned flags,
		   struct thaw_error *error)
{
	struct thaw_error unused;
	struct image *image;
	int code;

	error = error ? error : &unused;
	code = history_open(path, generation, &image, error);
	if (code)
		return code;
	generation = image_opened(image)->number;
	code = image_tag(image, name, &generation, flags, error);
	image_close(image);
	return code;
}

int thaw_image_untag(const char *path, const char *name, struct thaw_error *error)
{
	struct thaw_error unused;
	struct image *image;
	int code;

	error = error ? error : &unused;
	code = history_open(path, 0, &image, error);
	if (code)
		return code;
	code = image_untag(image, name, error);
	image_close(image);
	return code;
}

int thaw_image_rollback(const char *path, uint64_t generation, struct thaw_generation *made,
			struct thaw_error *error)
{
	struct thaw_generation next;
	struct thaw_error unused;
	struct commit *commit;
	struct image *image;
	void *state = NULL;
	size_t state_bytes;
	int code;

	error = error ? error : &unused;
	code = history_begin(path, generation, &image, &commit, error);
	if (code)
		return code;
	next = *image_opened(image);
	next.time_ns = sys_realtime_ns();
	next.pages_written = next.pause_ns = next.durable_ns = 0;
	next.reason = THAW_REASON_ROLLBACK;
	code = image_read_state(image, &state, &state_bytes, error);
	if (!code)
		code = commit_finish(commit, &next, state, state_bytes, error);
	free(state);
	if (!code && made)
		*made = next;
	return history_end(image, commit, code);
}
