/* SPDX-License-Identifier: MIT */
/* handle.h - struct thaw_image, for the files that answer its questions. See handle.c. */
#ifndef UFFD_HANDLE_H
#define UFFD_HANDLE_H

#include <pthread.h>

#include "store.h"

/* Constant after it was opened, except what the lock protects. */
struct thaw_image {
	pthread_mutex_t lock;
	bool closed;	       /* closed by its owner: only its readers still use it */
	struct image *readers; /* image_open_listed(); linked by next_reader */
	int fd;
	char *path;
	struct slot slots[2];
	unsigned slot; /* which the record came from */
	struct record record;
	struct thaw_generation *log; /* of the record */
	struct thaw_error
		fallback; /* why the newest generation was not used, or may be lost; code 0: neither */
};

/*
 * A handle for the file that is open as `fd`, whatever its name refers to now; `path` is used in
 * messages only.
 */
int handle_open_same(int fd, const char *path, struct thaw_image **image, struct thaw_error *error);

/*
 * `reader` reads one generation of it, and keeps that pinned until handle_leave(). When the handle
 * itself is closed, generations without a reader are unpinned.
 */
void handle_join(struct thaw_image *image, struct image *reader);
void handle_leave(struct thaw_image *image, struct image *reader);

/*
 * One of its generations, for lookups: like image_open(), but it opens and reads nothing that the
 * handle already has. The handle stays as long as the image. `options`:
 * path and read_only are ignored.
 */
int image_open_listed(struct thaw_image *from, const struct image_options *options,
		      struct image **image, struct thaw_error *fallback, struct thaw_error *error);

#endif
