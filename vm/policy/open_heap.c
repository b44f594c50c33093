/* SPDX-License-Identifier: MIT */
/*
 * open_heap.c - opens the heap of a program, and says what to do where its image is somebody else's: another user's, of the
 * other kind of guest, of another engine, which may be here as a shared object (engines/). The owner's thread.
 */
#define _GNU_SOURCE
#include <poll.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "engines/engines.h"
#include "internal.h"
#include "thaw_process.h"

/*
 * The fault service cannot go on, so whoever touches the next page would wait for ever. Its
 * thread.
 */
void runtime_on_fatal(void *arg, const struct thaw_error *error)
{
	(void)arg;
	/* Whoever does not read this does not keep the process. */
	if (poll(&(struct pollfd){.fd = STDERR_FILENO, .events = POLLOUT}, 1, 1000) > 0)
		dprintf(STDERR_FILENO, "thaw: %s\n", error->text);
	_exit(EXIT_IO);
}

int runtime_image_info(const char *path, struct thaw_image_info *info, struct thaw_error *error)
{
	struct thaw_image *image;
	int code = thaw_image_open(path, &image, error);

	if (code)
		return code;
	code = thaw_image_info(image, false, info, error);
	thaw_image_close(image);
	return code;
}

bool runtime_is_kind(const struct guest_type *guest, const char *engine)
{
	return !strncmp(engine, guest->identity, strcspn(guest->identity, "-") + 1);
}

void runtime_tell_engine(const struct runtime *rt)
{
	if (rt->engine_from && !rt->options.quiet)
		fprintf(stderr, "thaw: the image is of engine '%s': going on with %s\n",
			rt->type->identity, rt->engine_from);
}

/* An image of the other kind of guest: say which command it is for. */
static void tell_command(const struct runtime *rt, const char *engine, struct thaw_error *error)
{
	const struct guest_type *other = rt->type->process ? &javascript_guest : &process_guest;
	const char *path = rt->options.image;

	if (!runtime_is_kind(other, engine))
		return;
	if (rt->type->process)
		failure(error, THAW_EENGINE,
			"%s: an image of thaw run, from which thaw exec cannot go on: name "
			"another image (--image)",
			path);
	else
		failure(error, THAW_EENGINE,
			"%s: an image of thaw exec, which alone goes on from it: thaw exec "
			"--image %s",
			path, path);
}

bool runtime_change_engine(struct runtime *rt, const char *engine, struct thaw_error *error)
{
	const struct guest_type *guest;
	struct thaw_error why;
	const char *from;

	/* What begins anew is not to be bound to an engine from before. */
	if (rt->type != &javascript_guest || rt->options.fresh ||
	    !runtime_is_kind(rt->type, engine))
		return false;
	if (engines_load(engine, &guest, &from, &why)) {
		failure(error, THAW_EENGINE, "%s: an image of engine '%s': %s", fork_origin(rt),
			engine, why.text);
		return false;
	}
	rt->type = guest;
	rt->engine_from = from;
	return true;
}

static int open_once(struct runtime *rt, unsigned more_flags, struct thaw_error *error)
{
	const struct runtime_options *options = &rt->options;
	const struct thaw_options heap = {
		.image = options->image,
		.flags = (options->must_exist ? 0 : THAW_CREATE) |
			 (options->fresh ? THAW_FRESH : 0) | (options->own ? THAW_OWN : 0) |
			 (rt->type->process ? THAW_PROCESS : THAW_TOUCHES) |
			 (options->encrypt ? THAW_ENCRYPTED : 0) |
			 (rt->type->bound ? THAW_KEYED : 0) | THAW_LOG | options->prefetch |
			 more_flags,
		.generation = options->generation,
		.address = rt->type->address,
		.max_bytes = rt->type->max_bytes,
		.guard_bytes = rt->type->guard_bytes,
		.retain = options->retain,
		.thinning = options->thinning,
		.thinning_count = options->thinning_count,
		.engine = rt->type->identity,
		.compress = options->compress,
		.notify = checkpoints_notify,
		.notify_arg = rt,
		.fatal = runtime_on_fatal,
	};
	int code = thaw_open(&heap, &rt->heap, error);

	/*
	 * A process that was just killed holds its lock until the kernel has taken its memory
	 * apart: 'kill -9; thaw run' must work.
	 */
	for (int tries = 0; code == THAW_EINUSE && tries < 50; tries++) {
		nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
		code = thaw_open(&heap, &rt->heap, error);
	}
	if (code == THAW_EOWNER) {
		struct thaw_error why = *error;

		failure(error, code, "%s (--trust goes on from it, --image names another)",
			why.text);
	}
	return code;
}

int runtime_open_heap(struct runtime *rt, unsigned more_flags, struct thaw_error *error)
{
	int code = open_once(rt, more_flags, error);
	struct thaw_image_info info;

	if (code != THAW_EENGINE || runtime_image_info(rt->options.image, &info, NULL))
		return code;
	tell_command(rt, info.engine, error);
	if (!runtime_change_engine(rt, info.engine, error))
		return code;
	code = open_once(rt, more_flags, error);
	if (!code)
		runtime_tell_engine(rt);
	return code;
}
