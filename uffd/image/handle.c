/* SPDX-License-Identifier: MIT */
/*
 * handle.c - struct thaw_image: an image that is opened once, for reading. It holds one descriptor
 * and one commit record, of which every generation is pinned (pins.c). So all questions to one
 * handle are answered from one commit, whatever happens to the file's name or is committed
 * meanwhile.
 *
 * Any thread: a handle never changes. No lock, nothing written; the image may be in use.
 */
#include "handle.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sys.h"

static int log_make(struct thaw_image *image)
{
	image->log = calloc(image->record.count + 1, sizeof(*image->log));
	if (!image->log)
		return -ENOMEM;
	for (unsigned i = 0; i < image->record.count; i++)
		image->log[i] = image->record.generations[i].info;
	return 0;
}

/*
 * The handle owns `fd` from here on; a negative `fd` is the code of a failure that was already
 * reported.
 */
static int handle_open(int fd, const char *path, struct thaw_image **image,
		       struct thaw_error *error)
{
	struct thaw_image *opened;
	int code = fd;

	*image = NULL;
	if (fd < 0)
		return fd;
	opened = calloc(1, sizeof(*opened));
	if (opened) {
		opened->fd = fd;
		opened->path = strdup(path);
		pthread_mutex_init(&opened->lock, NULL);
	}
	if (!opened || !opened->path) {
		free(opened);
		close(fd);
		return error_set(error, -ENOMEM, "%s: no memory", path);
	}
	code = pins_read(fd, path, opened->slots, &opened->slot, &opened->record, &opened->fallback,
			 error);
	if (!code && log_make(opened))
		code = error_set(error, -ENOMEM, "%s: no memory for its log", path);
	if (code) {
		thaw_image_close(opened);
		return code;
	}
	*image = opened;
	return 0;
}

int thaw_image_open(const char *path, struct thaw_image **image, struct thaw_error *error)
{
	struct thaw_error unused;

	error = error ? error : &unused;
	return handle_open(store_open(path, O_RDONLY, error), path, image, error);
}

int handle_open_same(int fd, const char *path, struct thaw_image **image, struct thaw_error *error)
{
	struct thaw_error unused;
	char link[32];
	int own;

	error = error ? error : &unused;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	own = sys_open(link, O_RDONLY, 0);
	if (own < 0) { /* no /proc: then by its name, if that stands for it */
		own = store_open(path, O_RDONLY, error);
		if (own >= 0 && file_is_at(fd, path) != 1) {
			close(own);
			own = error_set(error, -ENOENT, "%s: another file has its name by now",
					path);
		}
	}
	return handle_open(own, path, image, error);
}

/* Under the lock. */
static bool is_read(const struct thaw_image *image, uint64_t number)
{
	for (const struct image *at = image->readers; at; at = at->next_reader)
		if (at->opened.info.number == number)
			return true;
	return false;
}

void handle_join(struct thaw_image *image, struct image *reader)
{
	pthread_mutex_lock(&image->lock);
	reader->from = image;
	reader->next_reader = image->readers;
	image->readers = reader;
	pthread_mutex_unlock(&image->lock);
}

static void handle_free(struct thaw_image *image)
{
	if (image->fd >= 0)
		close(image->fd); /* gives up the pins */
	record_free(&image->record);
	pthread_mutex_destroy(&image->lock);
	free(image->log);
	free(image->path);
	free(image);
}

void handle_leave(struct thaw_image *image, struct image *reader)
{
	uint64_t number = reader->opened.info.number;
	bool last;

	pthread_mutex_lock(&image->lock);
	for (struct image **at = &image->readers; *at; at = &(*at)->next_reader)
		if (*at == reader) {
			*at = reader->next_reader;
			break;
		}
	last = image->closed && !image->readers;
	if (image->closed && !last && !is_read(image, number))
		pin_release(image->fd, number);
	pthread_mutex_unlock(&image->lock);
	if (last)
		handle_free(image);
}

void thaw_image_close(struct thaw_image *image)
{
	bool last;

	if (!image)
		return;
	pthread_mutex_lock(&image->lock);
	image->closed = true;
	last = !image->readers;
	for (unsigned i = 0; !last && i < image->record.count; i++)
		if (!is_read(image, image->log[i].number))
			pin_release(image->fd, image->log[i].number);
	pthread_mutex_unlock(&image->lock);
	if (last)
		handle_free(image);
}

unsigned thaw_image_log(const struct thaw_image *image, const struct thaw_generation **generations)
{
	*generations = image->log;
	return image->record.count;
}

unsigned thaw_image_names(const struct thaw_image *image, const struct thaw_name **names)
{
	*names = image->record.names;
	return image->record.name_count;
}

int thaw_image_find(const struct thaw_image *image, const char *word, uint64_t *generation,
		    struct thaw_error *error)
{
	const struct thaw_name *named = record_named(&image->record, word);
	struct thaw_error unused;
	uint64_t number;
	char *end;

	number = strtoull(word, &end, 10);
	if (named)
		*generation = named->generation;
	else if (*word >= '0' && *word <= '9' && !*end && record_find(&image->record, number))
		*generation = number;
	else
		return error_set(error ? error : &unused, THAW_ENOGEN,
				 "%s: no generation is numbered or named '%s' (see thaw log)",
				 image->path, word);
	return 0;
}
