/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * by_path.h - one question to an image by its path, for tests that ask no more: what thaw.h answers of one
 * that is open. Lists are malloc'ed, the caller frees; errors are those of thaw_image_open(), too.
 */
#ifndef TESTS_BY_PATH_H
#define TESTS_BY_PATH_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "thaw.h"

#define BY_PATH __attribute__((unused)) static

BY_PATH int list_copy(const char *path, const void *list, unsigned count, size_t each, void *to,
		      struct thaw_error *error)
{
	void *copy = calloc(count + 1, each);

	if (copy && count)
		memcpy(copy, list, count * each);
	*(void **)to = copy;
	if (!copy && error) {
		error->code = -ENOMEM;
		snprintf(error->text, sizeof(error->text), "%s: no memory for a list", path);
	}
	return copy ? (int)count : -ENOMEM;
}

BY_PATH int path_log(const char *path, struct thaw_generation **list, struct thaw_error *error)
{
	const struct thaw_generation *generations;
	struct thaw_image *image;
	int code = thaw_image_open(path, &image, error);

	*list = NULL;
	if (!code) {
		unsigned count = thaw_image_log(image, &generations);

		code = list_copy(path, generations, count, sizeof(*generations), list, error);
	}
	thaw_image_close(image);
	return code;
}

/* All zero: there is none. */
BY_PATH struct thaw_generation path_newest(const char *path)
{
	struct thaw_generation *list, newest = {0};
	int count = path_log(path, &list, NULL);

	if (count > 0)
		newest = list[count - 1];
	free(list);
	return newest;
}

BY_PATH int path_names(const char *path, struct thaw_name **list, struct thaw_error *error)
{
	const struct thaw_name *names;
	struct thaw_image *image;
	int code = thaw_image_open(path, &image, error);

	*list = NULL;
	if (!code) {
		unsigned count = thaw_image_names(image, &names);

		code = list_copy(path, names, count, sizeof(*names), list, error);
	}
	thaw_image_close(image);
	return code;
}

BY_PATH int path_find(const char *path, const char *word, uint64_t *generation,
		      struct thaw_error *error)
{
	struct thaw_image *image;
	int code = thaw_image_open(path, &image, error);

	if (!code)
		code = thaw_image_find(image, word, generation, error);
	thaw_image_close(image);
	return code;
}

BY_PATH int path_info(const char *path, bool deep, struct thaw_image_info *info,
		      struct thaw_error *error)
{
	struct thaw_image *image;
	int code = thaw_image_open(path, &image, error);

	memset(info, 0, sizeof(*info));
	if (!code)
		code = thaw_image_info(image, deep, info, error);
	thaw_image_close(image);
	return code;
}

BY_PATH int path_view(const char *path, uint64_t generation, struct thaw_view **view,
		      struct thaw_error *error)
{
	struct thaw_image *image;
	int code = thaw_image_open(path, &image, error);

	*view = NULL;
	if (!code)
		code = thaw_view_open(image, generation, view, error);
	thaw_image_close(image);
	return code;
}

BY_PATH int path_pages(const char *path, uint64_t generation,
		       int (*visit)(void *arg, const struct thaw_page_run *run), void *arg,
		       struct thaw_error *error)
{
	struct thaw_image *image;
	int code = thaw_image_open(path, &image, error);

	if (!code)
		code = thaw_image_pages(image, generation, visit, arg, error);
	thaw_image_close(image);
	return code;
}

BY_PATH int path_diff(const char *path, uint64_t from, uint64_t to,
		      int (*visit)(void *arg, const struct thaw_page_change *change), void *arg,
		      struct thaw_error *error)
{
	struct thaw_image *image;
	int code = thaw_image_open(path, &image, error);

	if (!code)
		code = thaw_image_diff(image, from, to, visit, arg, error);
	thaw_image_close(image);
	return code;
}

#endif
