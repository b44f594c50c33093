/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * copies.h - for the tests of cloning, compacting and repairing: an image with everything in it
 * (branches, names, both kinds, a working set, holes), and comparing two images.
 */
#ifndef TESTS_COPIES_H
#define TESTS_COPIES_H

#include "image_model.h"
#include "support.h"

static struct history history; /* every generation that was ever committed */
static struct model model;
static struct thaw_error error, fallback;

#define COPIES_FIRST_TOUCHES 12u
/* Clusters in the order in which they were touched: not the order of their numbers. */
__attribute__((unused)) static const uint64_t first_touches[COPIES_FIRST_TOUCHES] = {
	320, 16, 480, 0, 160, 64, 400, 240, 96, 432, 304, 192,
};

__attribute__((unused)) static int copies_change(struct image *image, uint32_t kind, bool touches)
{
	struct commit *commit;
	int code;

	for (unsigned changes = 5 + random_below(60); changes--;)
		model.version[random_below(MODEL_PAGES)] = random_below(9) ? (uint32_t)random_next()
									   : 0;
	model.state = (uint32_t)random_below(100000);
	model.kind = kind;
	code = commit_begin(image, &commit, &error);
	for (unsigned i = 0; !code && i < MODEL_PAGES; i++)
		code = model_store(commit, &model, i, &error);
	if (!code && touches)
		code = commit_working_set(commit, first_touches, COPIES_FIRST_TOUCHES, 3, &error);
	if (!code)
		code = model_finish(commit, &model, &error);
	if (code)
		commit_abort(commit);
	else
		history_add(&history, &model);
	return code;
}

/* Go back to that generation, or start afresh (0), and commit `count` from there. */
__attribute__((unused)) static int copies_branch(uint64_t from, unsigned count, bool touches)
{
	struct image_options options = model_options();
	const struct model *found = history_find(&history, from);
	struct image *image;
	int code;

	options.retain = 9;
	options.generation = from;
	options.fresh = !from;
	if (found)
		model = *found;
	else
		memset(&model, 0, sizeof(model));
	code = image_open(&options, &image, &fallback, &error);
	if (code)
		return code;
	while (!code && count--)
		code = copies_change(image, random_below(2) ? THAW_KIND_BOUND : THAW_KIND_PORTABLE,
				     touches && !count);
	image_close(image);
	return code;
}

/* 1..6, a branch from 4, one from nothing, one from 4 again; five names for four of them. */
__attribute__((unused)) static void copies_image(const char *name)
{
	struct image_options options = model_options();
	struct image *image;

	model_setup(name);
	memset(&model, 0, sizeof(model));
	history.count = 0;
	if (image_open(&options, &image, &fallback, &error))
		abort();
	image_close(image);
	if (copies_branch(0, 6, false) || thaw_image_tag(model_path, "first", 2, 0, &error) ||
	    thaw_image_tag(model_path, "v1.0", 4, 0, &error) ||
	    thaw_image_tag(model_path, "v1.0-final", 4, 0, &error) || copies_branch(4, 5, false) ||
	    copies_branch(0, 3, false) || copies_branch(4, 5, true) ||
	    thaw_image_tag(model_path, "last", 0, 0, &error)) {
		fprintf(stderr, "# %s\n", error.text);
		abort();
	}
}

/* Let the functions of image_model.h look at another file. */
__attribute__((unused)) static void model_at(const char *path, char before[sizeof(model_path)])
{
	memcpy(before, model_path, sizeof(model_path));
	if (strlen(path) >= sizeof(model_path))
		abort();
	memmove(model_path, path, strlen(path) + 1);
}

/* Everything that the image lists is what the model says, and verify finds nothing. How many; or -1. */
__attribute__((unused)) static int copies_check(const char *path)
{
	char before[sizeof(model_path)];
	int count;

	model_at(path, before);
	count = model_verify() ? -1 : history_compare(&history);
	memcpy(model_path, before, sizeof(model_path));
	return count;
}

/* Do both list the same, but for what only this file knows: are there `more` at the end of the second? */
__attribute__((unused)) static bool copies_same_log(const char *one, const char *other, int more)
{
	struct thaw_generation *first = NULL, *second = NULL;
	struct thaw_name *names = NULL, *other_names = NULL;
	int count = path_log(one, &first, &error);
	int other_count = path_log(other, &second, &error);
	int named = path_names(one, &names, &error);
	int other_named = path_names(other, &other_names, &error);
	bool same = count > 0 && count + more == other_count && named == other_named;

	for (int i = 0; same && i < count; i++)
		same = !memcmp(&first[i], &second[i], sizeof(*first));
	for (int i = 0; same && i < named; i++)
		same = names[i].generation == other_names[i].generation &&
		       !strcmp(names[i].name, other_names[i].name);
	free(first);
	free(second);
	free(names);
	free(other_names);
	return same;
}

__attribute__((unused)) static void *copies_read(const char *path, size_t *bytes)
{
	int fd = open(path, O_RDONLY);
	struct stat stat_;
	void *contents;

	if (fd < 0 || fstat(fd, &stat_))
		abort();
	*bytes = (size_t)stat_.st_size;
	contents = malloc(*bytes + 1);
	if (!contents || pread(fd, contents, *bytes, 0) != (ssize_t)*bytes)
		abort();
	close(fd);
	return contents;
}

/*
 * A model that follows from how many commits there were, for images that are looked at while someone
 * commits to them as fast as he can.
 */
__attribute__((unused)) static void running_model(struct model *into, uint64_t number)
{
	memset(into, 0, sizeof(*into));
	into->number = number;
	into->state = (uint32_t)number;
	for (unsigned i = 0; i < MODEL_PAGES; i++)
		for (uint64_t c = number; c; c--)
			if ((c * 7919 + i * 31) % 97 == 0) {
				into->version[i] = (uint32_t)c;
				break;
			}
}

struct runner {
	_Atomic bool stop;
	_Atomic uint64_t commits;
	_Atomic int code;
};

__attribute__((unused)) static void *runner_run(void *arg)
{
	struct runner *runner = arg;
	struct image_options options = model_options();
	struct thaw_error failure;
	struct image *image;

	options.retain = 3;
	runner->code = image_open(&options, &image, &failure, &failure);
	while (!runner->code && !runner->stop) {
		static struct model running;

		running_model(&running, runner->commits + 1);
		runner->code = model_commit(image, &running, &failure);
		runner->commits += !runner->code;
	}
	if (runner->code)
		fprintf(stderr, "# %s\n", failure.text);
	else
		image_close(image);
	return NULL;
}

/* All that a copy of such an image lists, against the model. How many; or -1. */
__attribute__((unused)) static int running_check(const char *path)
{
	struct thaw_generation *log;
	char before[sizeof(model_path)];
	int count, same = 0, verified;

	model_at(path, before);
	verified = model_verify();
	count = path_log(path, &log, &error);
	for (int i = 0; i < count; i++) {
		struct image_options options = {.path = path,
						.read_only = true,
						.page_bytes = PAGE,
						.generation = log[i].number};
		static struct model running;
		struct image *image;

		running_model(&running, log[i].number);
		if (image_open(&options, &image, &fallback, &error))
			break;
		same += model_compare(image, &running, &error) == SAME;
		image_close(image);
	}
	if (count >= 0)
		free(log);
	memcpy(model_path, before, sizeof(model_path));
	return !verified && same == count ? count : -1;
}

#endif
