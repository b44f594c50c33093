/* SPDX-License-Identifier: MIT */
/*
 * fork.c - a program that begins as another one is, beside it: what is in a generation of an image goes on here, and leaves
 * that image as it is.
 *
 * Without an image of its own its heap lies over a frozen one (thaw_frozen.h): all forks of that generation share the pages
 * that they do not write, and nothing is kept. With one, that is a clone, which the command line has made, and a program like any
 * other. In both it has its own randomness, and numbers its effects in a line of its own (branch.c). The owner's thread.
 */
#include <string.h>
#include <stdio.h>

#include "internal.h"
#include "thaw_frozen.h"

/* A generation that was the newest is dropped by the program that writes more of them. */
#define TRIES 20u

const char *fork_origin(const struct runtime *rt)
{
	return rt->options.image ? rt->options.image : rt->options.fork_of;
}

int fork_take_script(struct runtime *rt, struct thaw_error *error)
{
	rt->options.script = rt->type->name(rt->guest);
	return rt->options.script
		       ? 0
		       : failure(error, THAW_EENGINE,
				 "%s: it holds no program but a shell's session, which thaw repl goes on with",
				 fork_origin(rt));
}

/* Whose it is, and which engine it needs. */
static int look(const char *path, struct thaw_image_info *info, struct thaw_error *error)
{
	int code = runtime_image_info(path, info, error);

	if (!code && runtime_is_kind(&process_guest, info->engine))
		code = failure(
			error, THAW_EENGINE,
			"%s: an image of thaw exec: only a program of thaw run is forked (thaw clone makes another image)",
			path);
	return code;
}

int runtime_check_fork(const char *image, struct thaw_error *error)
{
	struct thaw_image_info info;

	return look(image, &info, error);
}

static int open_over(struct runtime *rt, struct thaw_frozen *frozen, struct thaw_error *error)
{
	const struct thaw_options heap = {
		.frozen = frozen,
		.address = rt->type->address,
		.max_bytes = rt->type->max_bytes,
		.guard_bytes = rt->type->guard_bytes,
		.engine = rt->type->identity,
		.fatal = runtime_on_fatal,
	};

	return thaw_open(&heap, &rt->heap, error);
}

/* The generation, and whose it is: of one file, though another may be put in its place meanwhile. */
static int open_frozen(struct runtime *rt, struct thaw_frozen **frozen, struct thaw_error *alone,
		       struct thaw_error *error)
{
	const char *path = rt->options.fork_of;
	struct thaw_image_info before, after;
	char number[24] = "";
	int code;

	if (rt->options.generation)
		snprintf(number, sizeof(number), "%llu",
			 (unsigned long long)rt->options.generation);
	code = look(path, &before, error);
	if (!code)
		code = thaw_frozen_open(path, number, frozen, alone, error);
	if (code)
		return code;
	code = look(path, &after, error);
	if (!code && memcmp(before.uuid, after.uuid, sizeof(before.uuid)))
		code = failure(error, THAW_EINUSE, "%s: it was replaced just now", path);
	if (!code && strcmp(after.engine, rt->type->identity) &&
	    !runtime_change_engine(rt, after.engine, error))
		code = THAW_EENGINE;
	if (code) {
		thaw_frozen_drop(*frozen);
		*frozen = NULL;
	}
	return code;
}

int fork_open_heap(struct runtime *rt, struct thaw_error *error)
{
	struct thaw_error alone = {0};
	struct thaw_frozen *frozen = NULL;
	int code = open_frozen(rt, &frozen, &alone, error);

	for (unsigned i = 0; code == THAW_ENOGEN && !rt->options.generation && i < TRIES; i++)
		code = open_frozen(rt, &frozen, &alone, error);
	if (code)
		return code;
	code = open_over(rt, frozen, error);
	thaw_frozen_drop(frozen);
	if (!code && alone.code && !rt->options.quiet)
		fprintf(stderr, "thaw: its pages are its own: %s\n", alone.text);
	if (!code)
		runtime_tell_engine(rt);
	return code;
}

struct thaw_error fork_advice(const struct runtime *rt)
{
	const struct thaw_generation *list = NULL;
	struct thaw_error way = {0};
	unsigned long long portable = 0;
	struct thaw_image *image = NULL;
	unsigned count = 0;

	if (!thaw_image_open(rt->options.fork_of, &image, NULL))
		count = thaw_image_log(image, &list);
	for (unsigned i = 0; i < count; i++)
		if (list[i].kind == THAW_KIND_PORTABLE)
			portable = list[i].number;
	thaw_image_close(image);
	if (portable)
		snprintf(way.text, sizeof(way.text), "--at %llu is the newest between turns",
			 portable);
	else
		snprintf(way.text, sizeof(way.text), "the image has none between turns");
	return way;
}
