/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * image_model.h - for the tests of the image: a heap of a few hundred pages kept in memory beside
 * the image, so that every retained generation of the file can be compared with what it has to be.
 *
 * A page's contents follow from its number and a version; version 0 is a zero page. Pages are
 * spread so that the tree has one level at first and six at last (model_page).
 */
#ifndef TESTS_IMAGE_MODEL_H
#define TESTS_IMAGE_MODEL_H

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "by_path.h"
#include "image/store.h"
#include "in_memory.h"

#define PAGE 4096u
#define PAGE_MOST 65536u
#define MODEL_PAGES 600u
#define MODEL_KEPT 64u
#define ENGINE "model-1"

struct model {
	uint64_t number; /* generation */
	uint32_t version[MODEL_PAGES];
	uint32_t state;	   /* version of the state blob */
	uint32_t kind;	   /* enum thaw_kind */
	uint64_t portable; /* the newest portable one it descends from, as thaw_generation has it */
};

struct history { /* what was committed, by generation */
	struct model kept[MODEL_KEPT];
	unsigned count;
};

/* Of the images that are made; tests that know no other write PAGE. */
static uint32_t model_page_bytes = PAGE;

static char model_directory[128];
static char model_path[192];

/* CLOCK_REALTIME of the commits. */
static uint64_t model_time_ns = 1;

static uint64_t random_state = 88172645463325252ull;

__attribute__((unused)) static uint64_t random_next(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

__attribute__((unused)) static unsigned random_below(unsigned limit)
{
	return (unsigned)(random_next() >> 33) % limit;
}

/* The first 500 lie together; the rest is scattered, up to 2^24. */
__attribute__((unused)) static uint64_t model_page(unsigned i)
{
	return i < 500 ? i : 500 + (uint64_t)(i - 499) * (i - 499) * 1600;
}

__attribute__((unused)) static struct extent_scratch model_scratch;

/* Three of four can be compressed. */
__attribute__((unused)) static void model_fill(void *page, uint64_t number, uint32_t version)
{
	uint64_t *words = page, mix = number * 0x9e3779b97f4a7c15ull + version;
	unsigned period = (number + version) % 4 ? 24u << mix % 4
						 : UINT32_MAX; /* else it is random */

	for (unsigned i = 0; i < model_page_bytes / 8; i++) {
		mix = (mix ^ (mix >> 29)) * 0xbf58476d1ce4e5b9ull + i;
		words[i] = !version ? 0 : i < period ? mix : words[i - period];
	}
}

/* Some are empty, some fill several blocks. */
__attribute__((unused)) static size_t model_state_bytes(uint32_t version)
{
	return version % 3 ? version * 7919u % 9000 : 0;
}

__attribute__((unused)) static void model_fill_state(uint8_t *state, uint32_t version)
{
	for (size_t i = 0; i < model_state_bytes(version); i++)
		state[i] = (uint8_t)(i * 31 + version);
}

__attribute__((unused)) static void model_setup(const char *name)
{
	/* Thousands of syncs. TMPDIR chooses a real disk. */
	const char *in = getenv("TMPDIR");

	in = in ? in : in_memory();
	snprintf(model_directory, sizeof(model_directory), "%s/thaw-image-XXXXXX", in);
	if (!mkdtemp(model_directory))
		abort();
	snprintf(model_path, sizeof(model_path), "%s/%s.thaw", model_directory, name);
}

__attribute__((unused)) static void model_teardown(void)
{
	char command[192];

	snprintf(command, sizeof(command), "rm -rf %s", model_directory);
	if (system(command))
		abort();
}

__attribute__((unused)) static struct image_options model_options(void)
{
	return (struct image_options){.path = model_path,
				      .create = true,
				      .engine = ENGINE,
				      .page_bytes = model_page_bytes,
				      .retain = 5};
}

/* Store one page of the model, whether it changed or not. */
__attribute__((unused)) static int model_store(struct commit *commit, const struct model *model,
					       unsigned i, struct thaw_error *error)
{
	uint64_t page[PAGE_MOST / 8];
	bool stored;

	model_fill(page, model_page(i), model->version[i]);
	return commit_page(commit, model_page(i), page, &stored, error);
}

/* A commit of some random pages that is given up: the image must be as before. */
__attribute__((unused)) static void model_abort_somewhere(const struct model *model,
							  struct image *image)
{
	struct thaw_error error;
	struct model other = *model;
	struct commit *commit;

	if (commit_begin(image, &commit, &error))
		return;
	for (unsigned i = random_below(MODEL_PAGES); i < MODEL_PAGES; i += 1 + random_below(20)) {
		other.version[i] = (uint32_t)random_next();
		if (model_store(commit, &other, i, &error))
			break;
	}
	commit_abort(commit);
}

__attribute__((unused)) static int model_finish(struct commit *commit, struct model *model,
						struct thaw_error *error)
{
	struct thaw_generation generation = {
		.time_ns = model_time_ns,
		.heap_bytes = 65536,
		.reason = THAW_REASON_TIMER,
		.kind = model->kind,
	};
	static uint8_t state[9000];
	int code;

	model_fill_state(state, model->state);
	code = commit_finish(commit, &generation, state, model_state_bytes(model->state), error);
	if (code)
		return code;
	model->number = generation.number;
	if (model->kind == THAW_KIND_PORTABLE)
		model->portable = model->number;
	return 0;
}

/* All pages of the model through one commit: what did not change must be found unchanged. */
__attribute__((unused)) static int model_commit(struct image *image, struct model *model,
						struct thaw_error *error)
{
	struct commit *commit;
	int code = commit_begin(image, &commit, error);

	if (code)
		return code;
	for (unsigned i = 0; !code && i < MODEL_PAGES; i++)
		code = model_store(commit, model, i, error);
	if (!code)
		code = model_finish(commit, model, error);
	if (code)
		commit_abort(commit);
	return code;
}

enum compared { SAME, REFUSED, WRONG };

/* Pages that were read and found right, by where they lie: another generation may share them. */
struct model_seen {
	uint64_t offset;
	XXH128_hash_t checksum;
	uint32_t version;
};

/* One page of the image, which has the extent, against the model. */
__attribute__((unused)) static enum compared model_compare_page(struct image *image,
								const struct extent *extent,
								uint64_t number, uint32_t version)
{
	static uint64_t page[PAGE_MOST / 8], wanted[PAGE_MOST / 8];
	uint32_t bytes = model_page_bytes;

	if (!extent_is_stored(extent))
		return version ? WRONG : SAME;
	if (extent_read(&model_scratch, image_fd(image), image_key(image), number, extent, page,
			bytes))
		return REFUSED;
	model_fill(wanted, number, version);
	return memcmp(page, wanted, bytes) ? WRONG : SAME;
}

/* `seen`: MODEL_PAGES of them, for as long as nothing is written to the image. */
__attribute__((unused)) static enum compared model_compare_pages(struct image *image,
								 const struct model *model,
								 struct model_seen *seen,
								 struct thaw_error *error)
{
	enum compared result = SAME;

	for (unsigned i = 0; i < MODEL_PAGES; i++) {
		struct extent extents[IMAGE_LEAF_PAGES],
			*extent = &extents[model_page(i) % IMAGE_LEAF_PAGES];
		uint64_t first = model_page(i) - model_page(i) % IMAGE_LEAF_PAGES;
		uint32_t version = model->version[i];
		enum compared page = REFUSED;

		if (!image_lookup(image, first, extents, error)) {
			if (extent_is_stored(extent) && seen[i].offset == extent->offset &&
			    seen[i].version == version &&
			    XXH128_isEqual(seen[i].checksum, extent->checksum))
				continue;
			page = model_compare_page(image, extent, model_page(i), version);
			if (page == SAME)
				seen[i] = (struct model_seen){extent->offset, extent->checksum,
							      version};
		}
		if (page == WRONG)
			return WRONG;
		if (page == REFUSED)
			result = REFUSED;
	}
	return result;
}

/*
 * What the image says now, against the model. REFUSED: an error was reported, and nothing wrong was
 * served.
 */
__attribute__((unused)) static enum compared model_compare_seen(struct image *image,
								const struct model *model,
								struct model_seen *seen,
								struct thaw_error *error)
{
	static uint8_t wanted_state[9000];
	enum compared result = model_compare_pages(image, model, seen, error);
	void *state;
	size_t bytes;

	if (result == WRONG || image_opened(image)->number != model->number)
		return result;
	if (image_read_state(image, &state, &bytes, error))
		return REFUSED;
	model_fill_state(wanted_state, model->state);
	if (bytes != model_state_bytes(model->state) ||
	    (bytes && memcmp(state, wanted_state, bytes)))
		result = WRONG;
	free(state);
	return result;
}

__attribute__((unused)) static enum compared model_compare(struct image *image,
							   const struct model *model,
							   struct thaw_error *error)
{
	struct model_seen seen[MODEL_PAGES] = {0};

	return model_compare_seen(image, model, seen, error);
}

__attribute__((unused)) static void history_add(struct history *history, const struct model *model)
{
	if (history->count == MODEL_KEPT)
		memmove(history->kept, history->kept + 1, --history->count * sizeof(*model));
	history->kept[history->count++] = *model;
}

__attribute__((unused)) static const struct model *history_find(const struct history *history,
								uint64_t number)
{
	for (unsigned i = 0; i < history->count; i++)
		if (history->kept[i].number == number)
			return &history->kept[i];
	return NULL;
}

/*
 * What the file has to list when the newest has just been committed: the newest `retain`, and the
 * portable one that the newest descends from, if it was listed.
 */
__attribute__((unused)) static void history_retain(struct history *history, unsigned retain)
{
	uint64_t portable = history->kept[history->count - 1].portable;
	unsigned stay = 0;

	for (unsigned i = 0; i < history->count; i++)
		if (i + retain >= history->count || history->kept[i].number == portable)
			history->kept[stay++] = history->kept[i];
	history->count = stay;
}

/* Every generation that the file lists, opened read only and compared. Returns how many, or -1. */
__attribute__((unused)) static int history_compare(const struct history *history)
{
	struct model_seen seen[MODEL_PAGES] = {0};
	struct thaw_generation *log;
	struct thaw_error error = {0}, fallback;
	int count = path_log(model_path, &log, &error), same = 0;

	for (int i = 0; i < count; i++) {
		struct image_options options = {.path = model_path,
						.read_only = true,
						.page_bytes = PAGE,
						.generation = log[i].number};
		const struct model *model = history_find(history, log[i].number);
		struct image *image;

		if (!model || image_open(&options, &image, &fallback, &error))
			break;
		same += model_compare_seen(image, model, seen, &error) == SAME;
		image_close(image);
	}
	if (count >= 0)
		free(log);
	if (same != count)
		fprintf(stderr, "# %d of %d generations are right: %s\n", same, count, error.text);
	return same == count ? count : -1;
}

__attribute__((unused)) static void model_print_damage(void *arg, const struct thaw_damage *damage)
{
	(void)arg;
	fprintf(stderr, "# generation %llu pages %llu+%llu at %llu: %s\n",
		(unsigned long long)damage->generation, (unsigned long long)damage->first_page,
		(unsigned long long)damage->pages, (unsigned long long)damage->offset,
		damage->what);
}

__attribute__((unused)) static int model_verify(void)
{
	const struct thaw_verify_ops ops = {.damage = model_print_damage};
	struct thaw_verify_summary summary;
	struct thaw_error error;

	return thaw_image_verify(model_path, &ops, &summary, &error);
}

__attribute__((unused)) static uint64_t model_file_bytes(void)
{
	struct stat stat_;

	return stat(model_path, &stat_) ? 0 : (uint64_t)stat_.st_size;
}

static uint16_t model_live_at(const struct space *space, uint64_t block)
{
	return block < space->blocks ? space->live[block] : 0;
}

/*
 * Is the free space that a long history of commits has left what a new opener finds by walking the
 * trees: to the byte, both now and after the next commit? Not while readers hold what was dropped.
 *
 * The opener has the same file, but may only read it: a commit that is given up writes nothing.
 */
__attribute__((unused)) static bool space_is_exact(struct image *image)
{
	struct image_options options = {.path = model_path, .read_only = true, .retain_all = true};
	struct thaw_error error = {0}, fallback;
	struct commit *commit;
	struct image *other;
	bool exact = true;

	if (!image->space_known)
		return true;
	if (image_open(&options, &other, &fallback, &error))
		return false;
	other->read_only = false;
	other->absolute = model_path; /* readers need none */
	other->settled = true;	      /* and syncs nothing */
	if (commit_begin(other, &commit, &error)) {
		fprintf(stderr, "# %s\n", error.text);
		image_close(other);
		return false;
	}
	commit_abort(commit);
	for (int after = 0; after < 2; after++) {
		uint64_t blocks = image->space.blocks > other->space.blocks ? image->space.blocks
									    : other->space.blocks;

		for (uint64_t block = 0; block < blocks; block++) {
			uint16_t is = model_live_at(&image->space, block);
			uint16_t should = model_live_at(&other->space, block);

			if (is != should && exact)
				fprintf(stderr, "# block %lu: %u, should be %u (%d)\n", block, is,
					should, after);
			exact &= is == should;
		}
		if (!after) {
			ranges_subtract(&image->garbage, &image->space);
			ranges_subtract(&other->garbage, &other->space);
		}
	}
	/* The image goes on as if nobody had looked. */
	for (size_t i = 0; i < image->garbage.count; i++)
		space_add(&image->space, image->garbage.items[i].offset,
			  image->garbage.items[i].bytes);
	image_close(other);
	return exact;
}

#define LOG (256u << 10)

/* As with THAW_LOG, but that entries are soon too many. */
__attribute__((unused)) static void wants_log(struct image *image)
{
	image_log_wanted(image);
	image->log.bytes = LOG;
	image->log.bytes_large = 0;
	image->log.fold_ns = UINT64_MAX;
}

#define LOWER_PAGES 300u

/* Two generations that differ in every page of the lower part, and in the state. */
__attribute__((unused)) static int two_commits(struct image *image, struct model *model,
					       struct thaw_error *error)
{
	int code = 0;

	for (unsigned round = 0; round < 2 && !code; round++) {
		for (unsigned i = 0; i < LOWER_PAGES; i++)
			model->version[i]++;
		model->state += 3;
		code = model_commit(image, model, error);
	}
	return code;
}

/*
 * The image as it is now: 0 if all of the newest generation can be read, THAW_EDAMAGED if it is refused, or an older one
 * shown, or a page or the state is. That what is read is what was committed is asserted.
 */
__attribute__((unused)) static int model_read_newest(const struct image_options *options,
						     const struct model *model,
						     struct thaw_error *error)
{
	struct thaw_error fallback;
	enum compared compared;
	struct image *image;
	int code = image_open(options, &image, &fallback, error);

	if (code)
		return code;
	if (fallback.code || image_opened(image)->number != model->number) {
		image_close(image);
		return THAW_EDAMAGED;
	}
	compared = model_compare(image, model, error);
	image_close(image);
	if (compared == WRONG)
		abort();
	return compared == SAME ? 0 : THAW_EDAMAGED;
}

#endif
