/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * faulted_history.h - the fixed history of an image that image_faults.c runs again and again, step by step: programs that
 * create it, commit, log, fold, go back and begin afresh, and the commands. Only what a step calls of the library is
 * counted (LIB): the test's own calls are let through. What a step has attempted, and what was reported, is kept beside it.
 */
#ifndef TESTS_FAULTED_HISTORY_H
#define TESTS_FAULTED_HISTORY_H

#include "by_path.h"
#include "crash/crash.h"
#include "faults.h"
#include "image/store.h"
#include "support.h"

#define LIB(call)                             \
	({                                    \
		counting = tracking = true;   \
		__auto_type result_ = (call); \
		counting = tracking = false;  \
		result_;                      \
	})
#define LIB_VOID(call)                       \
	do {                                 \
		counting = tracking = true;  \
		call;                        \
		counting = tracking = false; \
	} while (0)

#define PAGE 4096u
#define NUMBERS 256u
#define STATE_LONG (1200u << 10) /* leaves a hole that is worth giving back */

static struct image *image;
static struct contents now, committed[NUMBERS];
static bool was_committed[NUMBERS];
/* What was to be committed since the last success: more than one may be in doubt. */
static struct contents attempts[8];
static unsigned attempt_count;
static bool longer_history = true;
static bool keyed;	/* every third history is one of an image with a key */
static bool encrypted;	/* and every third one of an encrypted image */
static bool logging;	/* what is committed goes to the log, if it can */
static uint64_t newest; /* that was reported */
static bool no_log;	/* there was no room for one, and the generation is durable all the same */
static bool again;	/* this step has failed before */
static struct listing durable;
static struct thaw_error error, fallback;
static uint8_t page[PAGE], state[STATE_LONG];
static struct dice dice;

static struct image_options image_options(void)
{
	return (struct image_options){.path = path,
				      .create = true,
				      .engine = CRASH_ENGINE,
				      .keyed = keyed,
				      .encrypted = encrypted,
				      .page_bytes = PAGE,
				      .retain = 2};
}

static int open_with(struct image_options options)
{
	int code;

	LIB_VOID(image_close(image));
	image = NULL;
	code = LIB(image_open(&options, &image, &fallback, &error));
	if (code)
		return code;
	if (fallback.code) { /* read errors look like damage: never said of a sound image without one */
		error = fallback;
		return fallback.code;
	}
	now = committed[image_opened(image)->number];
	return 0;
}

static int open_newest(void)
{
	return open_with(image_options());
}

static int open_fresh(void)
{
	struct image_options options = image_options();

	options.fresh = true;
	return open_with(options);
}

static int open_older(void)
{
	struct image_options options = image_options();

	options.generation = durable.generation[0].number;
	return open_with(options);
}

static int close_image(void)
{
	LIB_VOID(image_close(image));
	image = NULL;
	return 0;
}

static void attempt_add(const struct contents *contents)
{
	if (attempt_count == 8)
		support_die("too many attempts");
	attempts[attempt_count++] = *contents;
}

/* Only the pages that a step is about: what it costs is calls. */
static int commit_some(unsigned from, unsigned count, uint32_t state_bytes, const char *name)
{
	struct thaw_generation generation = {
		.time_ns = 1,
		.heap_bytes = 65536,
		.reason = THAW_REASON_REQUEST,
		.kind = count % 2 ? THAW_KIND_BOUND : THAW_KIND_PORTABLE,
	};
	struct contents attempt = now;
	struct commit *commit;
	int code;

	if (logging) {
		image_log_wanted(image);
		image->log.bytes = 64u << 10;
		image->log.fold_ns = UINT64_MAX;
		generation.kind = image_newest(image)->kind;
	}

	attempt.state = (uint32_t)dice_next(&dice);
	attempt.state_bytes = state_bytes;
	code = LIB(commit_begin(image, &commit, &error));
	if (code)
		return code;
	for (unsigned twice = 0; twice < 2; twice++) /* as pre-copy does */
		for (unsigned i = from; !code && i < from + count; i += 1 + twice) {
			bool stored;

			attempt.version[i] = dice_below(&dice, 6) ? (uint32_t)dice_next(&dice) : 0;
			contents_fill_page(&attempt, i, PAGE, page);
			code = LIB(commit_page(commit, heap_page(i), page, &stored, &error));
		}
	contents_fill_state(&attempt, state);
	attempt_add(&attempt);
	if (!code && name)
		code = LIB(commit_name(commit, name, &(uint64_t){COMMIT_ITSELF}, &error));
	if (!code)
		code = logging ? LIB(commit_log(commit, &generation, state, state_bytes, &error))
			       : 1;
	if (code > 0)
		code = LIB(commit_finish(commit, &generation, state, state_bytes, &error));
	if (code) {
		LIB_VOID(commit_abort(commit));
		return code;
	}
	newest = generation.number;
	no_log |= logging && !image->log.wanted;
	now = committed[generation.number] = attempt;
	was_committed[generation.number] = true;
	attempt_count = 0;
	return 0;
}

static int commit_first(void)
{
	return commit_some(0, 30, 5000, NULL);
}

static int commit_few(void)
{
	return commit_some(8, 4, 100, NULL);
}

static int commit_named(void)
{
	return commit_some(20, 9, 0, "kept");
}

static int commit_far(void)
{
	return commit_some(3, 3, 8999, NULL);
}

static int commit_long(void)
{
	return commit_some(8, 30, STATE_LONG, NULL);
}

static int commit_long_named(void)
{
	return commit_some(8, 2, STATE_LONG, "long");
}

/* Until what stays free has been looked at twice. */
static int commit_often(void)
{
	int code = 0;

	for (unsigned i = 0; !code && i < 16; i++)
		code = commit_some(8, 1, 0, NULL);
	return code;
}

/* After one that is none, in the place that it has made. */
static int log_few(void)
{
	int code;

	logging = true;
	code = commit_some(8, 4, 100, NULL);
	logging = false;
	return code;
}

static int log_far(void)
{
	int code;

	logging = true;
	code = commit_some(3, 7, 8999, NULL);
	logging = false;
	return code;
}

/* Until there is no room for another, so that a larger one lists them. */
static int log_full(void)
{
	int code = 0;

	logging = true;
	for (unsigned i = 0; !code && i < 18; i++)
		code = commit_some(10, 1, 100, NULL);
	logging = false;
	return code;
}

static int fold(void)
{
	return LIB(image_fold(image, &error));
}

/* Its owner was killed: the newest is in the log alone. */
static int open_logged(void)
{
	int code;

	code = open_newest();
	if (!code && image_opened(image)->number != newest)
		return error_set(&error, 1, "generation %lu was reported, and %lu is opened",
				 newest, image_opened(image)->number);
	return code;
}

static int settle_log(void)
{
	return LIB(thaw_image_settle(path, &error));
}

static int give_up(void)
{
	struct commit *commit;
	bool stored;
	int code = LIB(commit_begin(image, &commit, &error));

	memset(page, 77, PAGE);
	for (unsigned i = 0; !code && i < 12; i++)
		code = LIB(commit_page(commit, heap_page(i), page, &stored, &error));
	if (commit)
		LIB_VOID(commit_abort(commit));
	return code;
}

static int look_up(void)
{
	struct extent extents[IMAGE_LEAF_PAGES];
	int code = 0;

	for (unsigned i = 0; !code && i < 40; i += i < 8 ? 1 : 16)
		code = LIB(image_lookup(image, heap_page(i) & ~15ull, extents, &error));
	return code;
}

static int read_state(void)
{
	size_t bytes;
	void *blob;
	int code = LIB(image_read_state(image, &blob, &bytes, &error));

	LIB_VOID(free(blob));
	return code;
}

static int note_failure(void)
{
	int code = LIB(image_failed(image, 0));

	if (code < 0) /* it has no words for it */
		error_set(&error, code, "%s", path);
	return code < 0 ? code : 0;
}

static int verify(void)
{
	return LIB(thaw_image_verify(path, NULL, NULL, &error));
}

static int list(void)
{
	struct thaw_generation *log;
	struct thaw_name *names;
	struct thaw_image_info info;
	uint64_t number;
	int code = LIB(path_log(path, &log, &error));

	if (code >= 0) {
		LIB_VOID(free(log));
		code = LIB(path_names(path, &names, &error));
	}
	if (code >= 0) {
		LIB_VOID(free(names));
		code = LIB(path_info(path, true, &info, &error));
	}
	return code < 0 ? code : LIB(path_find(path, "kept", &number, &error));
}

static int tag(void)
{
	return LIB(thaw_image_tag(path, "tagged", 0, THAW_TAG_MOVE, &error));
}

static int untag_name(const char *name)
{
	int code = LIB(thaw_image_untag(path, name, &error));

	/* One that failed in doubt may have done it; this one has made sure of that (commit_begin). */
	return code == THAW_ENOGEN && again ? 0 : code;
}

static int untag(void)
{
	return untag_name("tagged");
}

static int untag_long(void)
{
	return untag_name("long");
}

static int rollback(void)
{
	struct thaw_generation made;
	uint64_t from = durable.generation[0].number;
	int code;

	attempt_add(&committed[from]);
	code = LIB(thaw_image_rollback(path, from, &made, &error));
	if (code)
		return code;
	committed[made.number] = committed[from];
	was_committed[made.number] = true;
	return 0;
}

static int view(void)
{
	struct thaw_view *view;
	int code = LIB(path_view(path, 0, &view, &error));

	if (code)
		return code;
	code = LIB(thaw_view_read(view, 8 * PAGE, page, PAGE, &error));
	LIB_VOID(thaw_view_close(view));
	return code;
}

static int compact(void)
{
	return LIB(thaw_image_compact(path, 0, NULL, NULL, &error));
}

/* The copy is whole, or there is none. */
static int copy_made(const char *copy, int code)
{
	struct thaw_error problem;

	if (code && !access(copy, F_OK))
		return error_set(&error, 1, "%s failed, and is there", copy);
	if (!code && thaw_image_verify(copy, NULL, NULL, &problem)) {
		error = problem;
		return 1;
	}
	unlink(copy);
	return code;
}

static int clone_image(void)
{
	char copy[300];

	snprintf(copy, sizeof(copy), "%s.clone", path);
	return copy_made(copy, LIB(thaw_image_clone(path, copy, 0, NULL, NULL, &error)));
}

static int repair_image(void)
{
	struct thaw_copy_summary summary;
	char copy[300];
	int code;

	snprintf(copy, sizeof(copy), "%s.repaired", path);
	code = LIB(thaw_image_repair(path, copy, NULL, &summary, &error));
	return copy_made(copy, code);
}

#define COMMITS 1u /* what fails may be found on the disk all the same */
#define LONGER 2u  /* only in the longer history, in which the file is shortened and gets holes */

static const struct step {
	const char *name;
	int (*run)(void);
	unsigned flags;
} steps[] = {
	{"create", open_newest, 0},
	{"first commit", commit_first, COMMITS},
	{"commit of few pages", commit_few, COMMITS},
	{"commit with a name", commit_named, COMMITS},
	{"look up", look_up, 0},
	{"commit of few pages", commit_few, COMMITS},
	{"commit of far pages", commit_far, COMMITS},
	{"note of a failure", note_failure, 0},
	{"verify in use", verify, 0},
	{"open", open_newest, 0},
	{"note of a failure", note_failure, 0},
	{"read the state", read_state, 0},
	{"look up", look_up, 0},
	{"commit of a long state", commit_long, COMMITS | LONGER},
	{"commit of another, with a name", commit_long_named, COMMITS | LONGER},
	{"commit of far pages", commit_far, COMMITS},
	{"commit with a name", commit_named, COMMITS},
	{"commits of one page", commit_often, COMMITS | LONGER},
	{"give up", give_up, 0},
	{"commit of few pages", commit_few, COMMITS},
	{"list", list, 0},
	{"commit that makes a log", log_few, COMMITS},
	{"commit to the log", log_far, COMMITS},
	{"commit to the log", log_few, COMMITS},
	{"give up", give_up, 0},
	{"commit with a name", commit_named, COMMITS},
	{"commit to the log", log_few, COMMITS},
	{"list what is in the log", fold, COMMITS},
	{"commit to the log", log_few, COMMITS},
	{"commit to the log", log_far, COMMITS},
	{"open what is in the log", open_logged, 0},
	{"read the state", read_state, 0},
	{"look up", look_up, 0},
	{"first commit after what was in the log", log_few, COMMITS},
	{"commits until the log is full", log_full, COMMITS | LONGER},
	{"commit to the log", log_few, COMMITS},
	{"verify in use", verify, 0},
	{"close", close_image, 0},
	{"list what is in the log of a closed one", settle_log, COMMITS},
	{"verify", verify, 0},
	{"open", open_newest, 0},
	{"commit that a log follows", log_few, COMMITS},
	{"commit to the log", log_few, COMMITS},
	{"open an older one", open_older, COMMITS}, /* and list what is in the log */
	{"commit on a branch", commit_first, COMMITS},
	{"commit of few pages", commit_few, COMMITS},
	{"open afresh", open_fresh, 0},
	{"commit afresh", commit_named, COMMITS},
	{"commit of few pages", commit_few, COMMITS},
	{"close", close_image, 0},
	{"take the name of the long one away", untag_long, COMMITS | LONGER},
	{"tag", tag, COMMITS},
	{"roll back", rollback, COMMITS},
	{"view", view, 0},
	{"take the name away", untag, COMMITS},
	{"compact", compact, 0},
	{"clone", clone_image, 0},
	{"repair", repair_image, 0},
	{"verify", verify, 0},
	{"list", list, 0},
	{"open", open_newest, 0},
	{"commit of few pages", commit_few, COMMITS},
	{"commit of far pages", commit_far, COMMITS},
	{"commit of few pages", commit_few, COMMITS},
	{"commit of few pages", commit_few, COMMITS},
	{"close", close_image, 0},
};
#define STEPS (sizeof(steps) / sizeof(steps[0]))

#endif
