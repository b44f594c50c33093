/* SPDX-License-Identifier: MIT */
/*
 * image_use.c - everything that reads an image, and everything that goes on to write to it, on a file of which nothing is
 * known. What they return may be an error; that they return is what is tried, and that what verified still does.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>

#include "../by_path.h"
#include "image.h"

#define GENERATIONS_OPEN 3u /* of those that an image lists, at most */

static int no_progress(void *arg, uint64_t done, uint64_t total)
{
	(void)arg;
	return done > total; /* never */
}

static struct thaw_damage first_damage;

static void count_damage(void *arg, const struct thaw_damage *damage)
{
	uint64_t *told = arg;

	if (!(*told)++)
		first_damage = *damage;
}

int use_verify(const char *path)
{
	uint64_t told = 0;
	const struct thaw_verify_ops ops = {no_progress, count_damage, &told};
	struct thaw_verify_summary summary;
	struct thaw_error error;
	int code = thaw_image_verify(path, &ops, &summary, &error);

	if (told != summary.damages)
		fuzz_fail("verify told of %llu damages and counted %llu", (unsigned long long)told,
			  (unsigned long long)summary.damages);
	return code;
}

void use_listing(const char *path)
{
	struct thaw_generation *log;
	struct thaw_image_info info;
	struct thaw_name *names;
	struct thaw_error error;
	uint64_t generation;
	int count;

	path_info(path, true, &info, &error);
	count = path_log(path, &log, &error);
	if (count >= 0)
		free(log);
	count = path_names(path, &names, &error);
	for (int i = 0; i < count; i++)
		if (path_find(path, names[i].name, &generation, &error) ||
		    generation != names[i].generation)
			fuzz_fail("the name '%s' is listed and cannot be found", names[i].name);
	if (count >= 0)
		free(names);
	path_find(path, "1", &generation, &error);
	path_find(path, "no such name", &generation, &error);
}

static void image_lookups(struct image *image, uint64_t seed)
{
	struct extent extents[IMAGE_LEAF_PAGES];
	struct thaw_error error;
	uint64_t *pages, generation;
	size_t state_bytes;
	void *state;
	int count;

	for (unsigned i = 0; i < 12; i++) /* near, around the end of each level, far */
		image_lookup(image, i < 4 ? i * 16 : 1ull << (4 * (i - 3)), extents, &error);
	for (unsigned i = 0; i < 8; i++)
		image_lookup(image, fuzz_below(&seed, 1ull << fuzz_below(&seed, 60)) & ~15ull,
			     extents, &error);
	if (!image_read_state(image, &state, &state_bytes, &error))
		free(state);
	count = image_read_working_set(image, &pages, &generation, &error);
	for (int i = 0; i < count && i < 64; i++)
		image_lookup(image, pages[i] & ~15ull, extents, &error);
	if (count >= 0)
		free(pages);
}

static void image_read_one(const char *path, uint64_t generation, bool portable, uint64_t seed)
{
	const struct image_options options = {
		.path = path, .read_only = true, .generation = generation, .portable = portable};
	struct thaw_error error, fallback;
	struct image *image;

	if (image_open(&options, &image, &fallback, &error))
		return;
	image_lookups(image, seed);
	image_close(image);
}

static void image_view(const char *path, uint64_t generation, uint64_t seed, bool sound)
{
	struct thaw_error error;
	struct thaw_view *view;
	char bytes[5000];
	size_t state;
	int code = path_view(path, generation, &view, &error);

	for (uint64_t at = 0; !code && at < 1 << 18; at += 1 << 12) {
		int read = thaw_view_read(view, at, bytes, 1 << 12, &error);

		if (read == THAW_EDAMAGED && sound)
			fuzz_fail("it verified, and cannot be read: %s", error.text);
	}
	if (code) {
		if (sound && code == THAW_EDAMAGED)
			fuzz_fail("it verified, and cannot be opened: %s", error.text);
		return;
	}
	thaw_view_state(view, &state);
	for (unsigned i = 0; i < 6; i++)
		thaw_view_read(view, fuzz_below(&seed, 1ull << fuzz_below(&seed, 64)), bytes,
			       fuzz_below(&seed, sizeof(bytes)), &error);
	thaw_view_close(view);
}

void use_reader(const char *path, const struct control *control, bool sound)
{
	struct thaw_generation *log;
	struct thaw_error error;
	int count = path_log(path, &log, &error);

	image_read_one(path, 0, false, control->seed);
	image_read_one(path, 0, true, control->seed);
	image_read_one(path, 1 + control->seed % 16, false, control->seed);
	image_view(path, 0, control->seed, sound);
	for (int i = 0; i < count && i < (int)GENERATIONS_OPEN; i++) {
		image_read_one(path, log[count - 1 - i].number, false, control->seed + i);
		image_view(path, log[count - 1 - i].number, control->seed + i, sound);
	}
	if (count >= 0)
		free(log);
}

/* Some pages, most of them near those that the image has; every third one zero. */
int use_commit(struct image *image, uint64_t *seed, unsigned pages, bool abort_it, bool log)
{
	struct thaw_generation generation = {.reason = THAW_REASON_REQUEST,
					     .heap_bytes = 1ull << 18,
					     .kind = fuzz_below(seed, 2) ? THAW_KIND_BOUND
									 : THAW_KIND_PORTABLE};
	uint32_t page_bytes = image->identity.page_bytes;
	uint64_t *page = calloc(1, page_bytes), set[2] = {16, 1 << 20};
	struct thaw_error error;
	struct commit *commit;
	bool stored;
	int code;

	if (log) {
		image_log_wanted(image);
		image->log.bytes = LOG;
		image->log.fold_ns = UINT64_MAX;
		generation.kind = image_newest(image)->kind;
		pages %= 4;
	}
	code = page ? commit_begin(image, &commit, &error) : -ENOMEM;

	for (unsigned i = 0; !code && i < pages; i++) {
		page[0] = i % 3 ? fuzz_next(seed) : 0;
		code = commit_page(commit,
				   fuzz_below(seed, 8) ? fuzz_below(seed, 48)
						       : fuzz_below(seed, INDEX_PAGES_MAX),
				   page, &stored, &error);
	}
	if (log && !code)
		code = commit_drop(commit, fuzz_below(seed, 48), fuzz_below(seed, 9), &error);
	if (page && commit && !code && !log && fuzz_below(seed, 2))
		code = commit_working_set(commit, set, 2, image_opened(image)->number, &error);
	if (page && commit && !code && !log && fuzz_below(seed, 2))
		code = commit_name(commit, "fuzz", &(uint64_t){COMMIT_ITSELF}, &error);
	if (!code && !abort_it) {
		uint64_t state_bytes = 8 * fuzz_below(seed, 200);

		code = log ? commit_log(commit, &generation, page, state_bytes, &error) : 1;
		if (code > 0)
			code = commit_finish(commit, &generation, page, state_bytes, &error);
	}
	if (page && commit && (code || abort_it))
		commit_abort(commit);
	free(page);
	return code;
}

/* 0 if all that was tried went well. */
int use_writer(const char *path, const struct control *control)
{
	static const unsigned ways[] = {THAW_COMPRESS_NONE, THAW_COMPRESS_LZ4,
					THAW_COMPRESS_ZSTD(1), THAW_COMPRESS_ZSTD(3)};
	const struct thaw_thinning thinning[] = {{3, 1000000000}, {2, 60000000000}};
	struct thaw_image_info info;
	struct image_options options = {.path = path,
					.retain = control->retain % 16,
					.compress = ways[control->retain / 16 % 4],
					.thinning = thinning,
					.thinning_count = control->retain >> 7 ? 2 : 0,
					.retain_all = control->retain == 0x7f,
					.portable = control->open == 1,
					.fresh = control->open == 2};
	struct thaw_error error, fallback;
	uint64_t seed = control->seed;
	struct thaw_generation *log;
	struct image *image;
	int code, count;

	code = path_info(path, false, &info, &error);
	if (code)
		return code;
	options.engine = info.engine;
	options.page_bytes = info.page_bytes;
	options.keyed = info.keyed;
	count = path_log(path, &log, &error);
	if (count > 0 && control->open > 2)
		options.generation = log[control->open % count].number;
	if (count >= 0)
		free(log);
	code = image_open(&options, &image, &fallback, &error);
	if (code)
		return code;
	image_lookups(image, seed);
	image_failed(image, 0);
	for (unsigned i = 0; i < 3 && !code; i++)
		code = use_commit(image, &seed, 2 + control->pages % 32, i == 1,
				  control->pages & PAGES_LOGGED);
	image_lookups(image, seed);
	image_close(image);
	if (fallback.code) /* what was damaged may still be */
		code = fallback.code;
	return code;
}

int use_history(const char *path, const struct control *control)
{
	struct thaw_generation *log, made;
	struct thaw_error error;
	int count = path_log(path, &log, &error), code;

	if (count <= 0) {
		if (!count)
			free(log);
		return count;
	}
	code = thaw_image_rollback(path, log[control->seed % (unsigned)count].number, &made,
				   &error);
	if (!code)
		code = thaw_image_tag(path, "oldest", log[0].number, THAW_TAG_MOVE, &error);
	if (!code)
		code = thaw_image_tag(path, "fuzz", made.number, THAW_TAG_MOVE, &error);
	if (!code)
		code = thaw_image_untag(path, "oldest", &error);
	free(log);
	return code;
}

/* ---- Copies, and pictures */

struct seen {
	uint64_t next, runs;
};

static int see_run(void *arg, const struct thaw_page_run *run)
{
	struct seen *seen = arg;

	if (!run->pages || run->first != seen->next)
		fuzz_fail("run %llu of pages begins at %llu, not at %llu, and has %llu",
			  (unsigned long long)seen->runs, (unsigned long long)run->first,
			  (unsigned long long)seen->next, (unsigned long long)run->pages);
	seen->next = run->first + run->pages;
	seen->runs++;
	return 0;
}

static int see_change(void *arg, const struct thaw_page_change *change)
{
	struct seen *seen = arg;

	if (!change->pages || change->first < seen->next)
		fuzz_fail("pages %llu+%llu changed, after those up to %llu",
			  (unsigned long long)change->first, (unsigned long long)change->pages,
			  (unsigned long long)seen->next);
	seen->next = change->first + change->pages;
	return 0;
}

void use_picture(const char *path, const struct control *control)
{
	struct thaw_generation *log;
	struct thaw_error error;
	struct seen seen = {0};
	int count = path_log(path, &log, &error);

	path_pages(path, 0, see_run, &seen, &error);
	for (int i = 0; i < count && i < (int)GENERATIONS_OPEN; i++) {
		seen = (struct seen){0};
		path_pages(path, log[i].number, see_run, &seen, &error);
		seen = (struct seen){0};
		path_diff(path, log[i].number, log[control->seed % (unsigned)count].number,
			  see_change, &seen, &error);
	}
	if (count >= 0)
		free(log);
}

static void copy_check(const char *copy, const char *how, int code, bool must,
		       const struct thaw_error *error)
{
	if (code && code != -EFBIG && must)
		fuzz_fail("it verified, and %s failed: %s", how, error->text);
	if (!code && must && use_verify(copy))
		fuzz_fail("%s made an image that does not verify: %s", how, first_damage.what);
	remove(copy);
}

void use_copies(const char *path, const struct control *control, bool sound)
{
	struct thaw_error error;
	struct thaw_generation *log;
	int count = path_log(path, &log, &error), code;
	char copy[128];

	if (count >= 0)
		free(log);
	snprintf(copy, sizeof(copy), "%s", fuzz_path("copy"));
	code = thaw_image_repair(path, copy, NULL, NULL, &error);
	if (!code && use_verify(copy))
		fuzz_fail("what was repaired does not verify: %s", first_damage.what);
	copy_check(copy, "repair", code, sound && count > 0, &error);
	if (control->seed & 4) {
		code = thaw_image_clone(path, copy, 0, NULL, NULL, &error);
		copy_check(copy, "clone", code, sound && count > 0, &error);
	}
	code = thaw_image_compact(path, control->seed & 8 ? THAW_COMPACT_NEWEST : 0, NULL, NULL,
				  &error);
	if (sound && count > 0 && code && code != -EFBIG)
		fuzz_fail("it verified, and compaction failed: %s", error.text);
	if (sound && !code && use_verify(path))
		fuzz_fail("it verified, and does not when compacted: %s", first_damage.what);
}

_Noreturn void use_damaged(const char *after)
{
	fuzz_fail("it verified, and does not after %s: generation %llu, page %llu, offset %llu: %s",
		  after, (unsigned long long)first_damage.generation,
		  (unsigned long long)first_damage.first_page,
		  (unsigned long long)first_damage.offset, first_damage.what);
}
