/* SPDX-License-Identifier: MIT */
/* handle.h - struct thaw_image, for the files that answer its questions. See handle.c. */
#ifndef UFFD_HANDLE_H
#define UFFD_HANDLE_H

#include <pthread.h>

#include "store.h"

/* Nothing of it changes after it was opened, but for what is under the lock. */
struct thaw_image {
	pthread_mutex_t lock;
	bool closed;	       /* by whoever opened it: only its readers are left */
	struct image *readers; /* image_open_listed(); linked by next_reader */
	int fd;
	char *path;
	struct slot slots[2];
	unsigned slot; /* which the record came from */
	struct record record;
	struct thaw_generation *log; /* of the record */
	struct thaw_error
		fallback; /* why it is not the newest one, or might not be; code 0: it is */
};

/* The file that is open as `fd`, whatever its name stands for by now; `path` is that, for messages. */
int handle_open_same(int fd, const char *path, struct thaw_image **image, struct thaw_error *error);

/*
 * `reader` looks at one generation of it, and keeps it until handle_leave(). What nobody reads is pinned no
 * longer, once the handle itself is closed.
 */
void handle_join(struct thaw_image *image, struct image *reader);
void handle_leave(struct thaw_image *image, struct image *reader);

/*
 * One of its generations, for lookups: like image_open(), but nothing is opened or read that the handle has.
 * The handle stays as long as the image does. `options`: path and read_only mean nothing.
 */
int image_open_listed(struct thaw_image *from, const struct image_options *options,
		      struct image **image, struct thaw_error *fallback, struct thaw_error *error);

#endif
