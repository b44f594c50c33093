/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * image_copy.h - for tests of mirrors (thaw_mirror.h): a copy of a model's image that is made of takes alone, and whether it is, for
 * whoever has nothing else, the image at the instant of the last one. What a take calls free is overwritten in it.
 */
#ifndef TESTS_IMAGE_COPY_H
#define TESTS_IMAGE_COPY_H

#include <pthread.h>

#include "image/mirror.h"
#include "image_model.h"
#include "sys.h"

#define NUMBERS 4096u
#define say(format, ...) fprintf(stderr, "# " format "\n", ##__VA_ARGS__)

static pthread_mutex_t made_lock = PTHREAD_MUTEX_INITIALIZER;
static struct model *made[NUMBERS]; /* by generation */

__attribute__((unused)) static void made_add(const struct model *model)
{
	pthread_mutex_lock(&made_lock);
	if (model->number >= NUMBERS)
		abort();
	if (!made[model->number])
		made[model->number] = malloc(sizeof(*model));
	*made[model->number] = *model;
	pthread_mutex_unlock(&made_lock);
}

/* Told to a mirror before whoever made it could say so here. */
__attribute__((unused)) static const struct model *made_wait(uint64_t number)
{
	const struct model *model = NULL;

	while (!model) {
		pthread_mutex_lock(&made_lock);
		model = number < NUMBERS ? made[number] : NULL;
		pthread_mutex_unlock(&made_lock);
		if (!model)
			usleep(100);
	}
	return model;
}

__attribute__((unused)) static void made_clear(void)
{
	for (unsigned i = 0; i < NUMBERS; i++) {
		free(made[i]);
		made[i] = NULL;
	}
}

struct copy {
	char path[256], opened[280];
	int fd;
	struct thaw_take *take;
	size_t run;  /* what is read next: of the dirty ones */
	uint64_t at; /* block in it */
	uint8_t *
		blocks; /* all that was read, in their order: nothing is put into the copy before all is there */
	uint64_t read;
	struct model model; /* at the instant */
	struct thaw_name names[64];
	unsigned name_count;
	bool encrypted;
};

__attribute__((unused)) static void copy_begin(struct copy *copy)
{
	*copy = (struct copy){0};
	snprintf(copy->path, sizeof(copy->path), "%s/copy.thaw", model_directory);
	snprintf(copy->opened, sizeof(copy->opened), "%s/opened.thaw", model_directory);
	copy->fd = open(copy->path, O_RDWR | O_CREAT | O_TRUNC, 0600);
}

__attribute__((unused)) static int copy_take(struct copy *copy, struct thaw_mirror *mirror,
					     struct thaw_error *error)
{
	int code = thaw_mirror_take(mirror, &copy->take, error);

	copy->encrypted = mirror->image->identity.enciphered;
	copy->run = copy->at = copy->read = 0;
	copy->blocks = code ? NULL
			    : malloc(thaw_mirror_info(copy->take)->dirty_blocks * SPACE_BLOCK);
	return code;
}

/* Some of it. 1: all is read; 0: not yet; -errno. */
__attribute__((unused)) static int copy_read(struct copy *copy, uint64_t blocks)
{
	const struct thaw_take_info *info = thaw_mirror_info(copy->take);

	while (copy->run < info->dirty_count && blocks) {
		const struct thaw_mirror_run *run = &info->dirty[copy->run];
		uint64_t part = run->count - copy->at < blocks ? run->count - copy->at : blocks;
		int code = thaw_mirror_read(copy->take, (run->first + copy->at) * SPACE_BLOCK,
					    copy->blocks + copy->read * SPACE_BLOCK,
					    part * SPACE_BLOCK);

		if (code)
			return code;
		copy->read += part;
		copy->at += part;
		blocks -= part;
		if (copy->at == run->count) {
			copy->run++;
			copy->at = 0;
		}
	}
	return copy->run == info->dirty_count;
}

__attribute__((unused)) static void copy_write(struct copy *copy, const struct thaw_mirror_run *run,
					       const uint8_t *bytes)
{
	if (sys_pwrite(copy->fd, bytes, run->count * SPACE_BLOCK, run->first * SPACE_BLOCK))
		abort();
}

/* What was read goes to its places, and garbage to where the take says that nothing is. */
__attribute__((unused)) static void copy_put(struct copy *copy)
{
	const struct thaw_take_info *info = thaw_mirror_info(copy->take);
	const uint8_t *from = copy->blocks;

	for (size_t i = 0; i < info->freed_count; i++)
		for (size_t j = 0; j < info->dirty_count; j++)
			if (info->freed[i].first < info->dirty[j].first + info->dirty[j].count &&
			    info->dirty[j].first < info->freed[i].first + info->freed[i].count)
				abort();
	for (size_t i = 0; i < info->freed_count; i++) {
		uint8_t *garbage = malloc(info->freed[i].count * SPACE_BLOCK);

		memset(garbage, 0xdb, info->freed[i].count * SPACE_BLOCK);
		copy_write(copy, &info->freed[i], garbage);
		free(garbage);
	}
	for (size_t i = 0; i < info->dirty_count; i++) {
		copy_write(copy, &info->dirty[i], from);
		from += info->dirty[i].count * SPACE_BLOCK;
	}
	if (ftruncate(copy->fd, (off_t)info->file_bytes))
		abort();
}

__attribute__((unused)) static void copy_done(struct copy *copy, bool confirmed)
{
	thaw_mirror_done(copy->take, confirmed);
	free(copy->blocks);
	copy->take = NULL;
	copy->blocks = NULL;
}

__attribute__((unused)) static void copy_end(struct copy *copy)
{
	if (copy->take)
		copy_done(copy, false);
	close(copy->fd);
}

__attribute__((unused)) static int copy_file(const char *from, const char *to)
{
	char command[640];

	snprintf(command, sizeof(command), "cp --sparse=never '%s' '%s'", from, to);
	return system(command);
}

__attribute__((unused)) static bool names_same(const struct copy *copy, const struct record *record)
{
	return copy->name_count == record->name_count &&
	       (!record->name_count ||
		!memcmp(copy->names, record->names, record->name_count * sizeof(*copy->names)));
}

/* Every generation that the record lists. */
__attribute__((unused)) static bool listed_right(const char *path, struct thaw_error *error)
{
	struct model_seen seen[MODEL_PAGES] = {0};
	struct thaw_generation *log;
	int count = path_log(path, &log, error), right = 0;

	for (int i = 0; i < count; i++) {
		struct image_options options = {
			.path = path, .read_only = true, .generation = log[i].number};
		struct thaw_error fallback;
		struct image *image;

		if (image_open(&options, &image, &fallback, error))
			break;
		right += !fallback.code &&
			 model_compare_seen(image, made_wait(log[i].number), seen, error) == SAME;
		image_close(image);
	}
	if (count >= 0)
		free(log);
	return right == count;
}

/*
 * What whoever has nothing but the copy finds: all that is listed, and, once it is opened to go on from it, the newest one,
 * also if that is in the log alone.
 */
__attribute__((unused)) static bool copy_is(struct copy *copy, uint64_t newest,
					    struct thaw_error *error)
{
	struct image_options options = model_options();
	const struct thaw_verify_ops ops = {.damage = model_print_damage};
	struct thaw_verify_summary summary;
	struct thaw_error fallback;
	struct image *image;
	bool right;

	if (copy_file(copy->path, copy->opened))
		return false;
	if (newest && thaw_image_verify(copy->opened, &ops, &summary, error)) {
		say("verify: %s", error->text);
		return false;
	}
	if (!listed_right(copy->opened, error)) {
		say("a listed one is wrong: %s", error->text);
		return false;
	}
	options.path = copy->opened;
	options.create = false;
	options.encrypted = copy->encrypted;
	if (image_open(&options, &image, &fallback, error)) {
		say("open: %s", error->text);
		return false;
	}
	right = !fallback.code && image_opened(image)->number == newest &&
		(!newest || model_compare(image, made_wait(newest), error) == SAME);
	if (!right)
		say("opened %llu, wanted %llu: %s", (unsigned long long)image_opened(image)->number,
		    (unsigned long long)newest, fallback.text);
	if (right && copy->name_count != UINT32_MAX && !names_same(copy, &image->record)) {
		say("other names");
		right = false;
	}
	image_close(image);
	return right;
}

__attribute__((unused)) static void copy_names(struct copy *copy, const struct image *image)
{
	copy->name_count = image->record.name_count;
	if (copy->name_count)
		memcpy(copy->names, image->record.names, copy->name_count * sizeof(*copy->names));
}

/* Pages [first, first + count) of the model have changed; into the log if that takes them. */
__attribute__((unused)) static int commit_pages(struct image *image, struct model *model,
						unsigned first, unsigned count,
						struct thaw_error *error)
{
	struct thaw_generation generation = {.heap_bytes = 65536, .reason = THAW_REASON_REQUEST};
	static uint8_t state[9000];
	struct model next = *model;
	struct commit *commit;
	int code;

	next.state++;
	code = commit_begin(image, &commit, error);
	if (code)
		return code;
	for (unsigned i = first; !code && i < first + count; i++) {
		next.version[i] = random_below(12) ? next.version[i] + 1 : 0;
		code = next.version[i] ? model_store(commit, &next, i, error)
				       : commit_drop(commit, model_page(i), 1, error);
	}
	model_fill_state(state, next.state);
	if (!code)
		code = image->log.wanted ? commit_log(commit, &generation, state,
						      model_state_bytes(next.state), error)
					 : 1;
	if (code > 0)
		code = commit_finish(commit, &generation, state, model_state_bytes(next.state),
				     error);
	if (code) {
		commit_abort(commit);
		return code;
	}
	next.number = next.portable = generation.number;
	*model = next;
	made_add(model);
	return 0;
}

#endif
