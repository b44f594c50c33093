/* SPDX-License-Identifier: MIT */
/*
 * place.c - the life of an image that is in a store, as a file here (place.h): from its claim (place_claim.c) to the moment when nothing
 * of it is missing any more. A thread brings what nobody asks for.
 */
#define _GNU_SOURCE
#include "store/place.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/failure.h"
#include "base/format.h"
#include "base/thread.h"
#include "store/place_file.h"
#include "store/place_private.h"

#define DEADLINE_NS (300ull * 1000000000)
/* On a fresh line the first round trips of many connections bring more than those of few. */
#define CONNECTIONS 48u
#define LEASE_DROP_NS 2000000000ull

void place_tell(struct place *place, const char *format, ...)
{
	struct thaw_error line;
	char text[2 * sizeof(line.text)];
	va_list arguments;

	if (!place->tell)
		return;
	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	failure(&line, 0, "%s", text);
	place->tell(place->arg, line.text);
}

/* On the store's thread. */
static void trouble(void *arg, const struct thaw_error *reason)
{
	struct place *place = arg;

	if (reason) {
		place->failing_since_ns = clock_monotonic_ns();
		place_tell(place, "%s; it is tried again", reason->text);
	} else {
		uint64_t since = place->failing_since_ns;

		place->failing_since_ns = 0;
		place_tell(place, "%s answers again, after %s", place->url,
			   format_duration(clock_monotonic_ns() - since).s);
	}
}

/* ---- What is missing */

int place_finish(struct place *place, struct thaw_error *error)
{
	int code = fdatasync(place->fd) ? -errno : 0;

	if (code)
		return failure(error, code, "%s: cannot be made durable: %s", place->path,
			       thaw_strerror(code));
	code = sidefile_complete(place->path, error);
	if (code)
		return code;
	thaw_fill_detach(place->fill);
	place->fill = NULL;
	place->complete = true;
	return 0;
}

static const struct thaw_fill_ops fill_ops = {
	.need = fetch_need, .has = fetch_has, .writes = fetch_writes};

/* A file system that does not tell holes from data: nothing may be opened in it before all of it is there. */
static int fetch_whole(struct place *place, struct thaw_error *error)
{
	int code = fetch_fill(place->fetch, FETCH_FAST, NULL, NULL, error);

	return code ? code : place_finish(place, error);
}

int place_fetch(struct place *place, const struct store_record *record, bool held,
		struct thaw_error *error)
{
	/* What was cut off the file since, or never was in it, means nothing. */
	uint64_t bytes = held ? record->file_bytes : (uint64_t)lseek(place->fd, 0, SEEK_END);
	struct fetch_options options = {
		.s3 = place->s3,
		.fd = place->fd,
		.level = &place->level,
		.bytes = bytes,
		.patience_ns = place->patience_ns,
		.hot = place->hot_record ? &place->hot : NULL,
		.hot_record = place->hot_record,
		.held = held,
	};
	int code = index_merge(&place->index, &place->level);

	if (code)
		return failure(error, code, "%s: %s", place->url, thaw_strerror(code));
	return fetch_open(&options, &place->fetch, error);
}

int place_attach(struct place *place, struct thaw_error *error)
{
	int code;

	/* Without it everything works as long as nobody deletes what is needed here. */
	if (lease_take(place->s3, place->claim.record.number, &place->lease, NULL))
		place->lease = NULL;
	if (place->flags & PLACE_WHOLE)
		return fetch_whole(place, error);
	code = place_file_holes(place->path, (uint64_t)lseek(place->fd, 0, SEEK_END));
	if (code < 0)
		return failure(error, code, "%s: cannot tell whether it can have holes: %s",
			       place->path, thaw_strerror(code));
	if (!code) {
		place_tell(
			place,
			"%s: this file system does not tell holes from data, so all of %s is fetched first",
			place->path, place->url);
		return fetch_whole(place, error);
	}
	return thaw_fill_attach(place->path, &fill_ops, place->fetch, &place->fill, error);
}

static int ask(void *arg, uint64_t offset, uint64_t bytes)
{
	struct place *place = arg;

	fetch_ask(place->fetch, offset, bytes);
	return 0;
}

/*
 * While a node of the index is missing, whoever serves faults waits for it: so they come first. The image is not looked at for anything
 * else here, and what is wrong with it is told elsewhere.
 */
static void fill_nodes(struct place *place)
{
	struct thaw_image *image;

	if (thaw_image_open(place->path, &image, NULL))
		return;
	thaw_image_nodes(image, ask, place, NULL);
	thaw_image_close(image);
}

static void *fill(void *arg)
{
	struct place *place = arg;
	struct thaw_error error;
	int code;

	fill_nodes(place);
	code = fetch_fill(place->fetch, FETCH_POLITE, NULL, NULL, &error);

	if (!code)
		code = place_finish(place, &error);
	if (code && code != -ECANCELED)
		place_tell(place, "%s", error.text);
	if (!code) {
		lease_drop(place->lease, LEASE_DROP_NS);
		place->lease = NULL;
	}
	place->filling = false;
	return NULL;
}

int place_fill(struct place *place, struct thaw_error *error)
{
	int code;

	if (place->complete || place->fills || !place->fetch)
		return 0;
	place->filling = true;
	code = thread_begin(&place->filler, fill, place);
	place->fills = !code;
	if (code) {
		place->filling = false;
		return failure(error, code, "%s: the rest of it cannot be fetched: %s", place->path,
			       thaw_strerror(code));
	}
	return 0;
}

/* ---- Opening, closing */

/* An attempt that lost: all that it has read is of a record that is not the newest any more. */
void place_forget(struct place *place)
{
	if (place->fetch)
		fetch_stop(place->fetch);
	thaw_fill_detach(place->fill);
	place->fill = NULL;
	lease_drop(place->lease, LEASE_DROP_NS);
	place->lease = NULL;
	fetch_close(place->fetch);
	place->fetch = NULL;
	claim_free(&place->claim);
	index_free(&place->index);
	memset(&place->index, 0, sizeof(place->index));
	memset(&place->claim, 0, sizeof(place->claim));
	level_free(&place->level);
	level_free(&place->hot);
	place->hot_record = 0;
}

/* Whoever still writes there is as fast as this is: each attempt is one of two that may be first. */
static int claim(struct place *place, struct thaw_error *error)
{
	for (;;) {
		int code = place_claim_once(place, error);

		if (code != -EAGAIN)
			return code;
		place_forget(place);
		if (clock_monotonic_ns() >= place->deadline_ns)
			return failure(
				error, -EBUSY,
				"%s is continued again and again by somebody else: stop that first",
				place->url);
	}
}

static int begin(struct place *place, const struct place_options *options, struct thaw_error *error)
{
	struct s3_settings settings = {.requests = CONNECTIONS, .trouble = trouble, .arg = place};
	int code;

	place->url = strdup(options->place);
	place->program = strdup(options->program ? options->program : "");
	place->path = options->cache ? strdup(options->cache) : NULL;
	if (!place->url || !place->program || (options->cache && !place->path))
		return failure(error, -ENOMEM, "%s: %s", options->place, thaw_strerror(-ENOMEM));
	if (!place->path) {
		code = place_file_default(place->url, &place->path, error);
		if (code)
			return code;
	}
	code = s3_open(place->url, &settings, &place->s3, error);
	if (!code)
		s3_warm(place->s3, CONNECTIONS);
	return code;
}

int place_open(const struct place_options *options, struct place **opened, struct thaw_error *error)
{
	struct place *place = calloc(1, sizeof(*place));
	int code;

	*opened = NULL;
	if (!place)
		return failure(error, -ENOMEM, "%s: %s", options->place, thaw_strerror(-ENOMEM));
	place->fd = -1;
	place->flags = options->flags;
	place->deadline_ns = options->deadline_ns ? options->deadline_ns
						  : clock_monotonic_ns() + DEADLINE_NS;
	place->patience_ns = options->patience_ns;
	place->check = options->check;
	place->tell = options->tell;
	place->arg = options->arg;
	code = begin(place, options, error);
	if (!code)
		code = claim(place, error);
	if (!place->incomplete)
		place->complete = true;
	if (code && (code != -ENOENT || !place->s3 || place->claim.record.number)) {
		/* An empty file that nobody had before: there is nothing in it. */
		if (place->fd >= 0 && place->made && !lseek(place->fd, 0, SEEK_END))
			unlink(place->path);
		place_close(place);
		return code;
	}
	*opened = place;
	return code;
}

const char *place_path(const struct place *place)
{
	return place->path;
}

struct s3 *place_store(struct place *place)
{
	return place->s3;
}

struct store_claim *place_claim(struct place *place)
{
	return &place->claim;
}

void place_status(struct place *place, struct place_status *status)
{
	memset(status, 0, sizeof(*status));
	status->complete = place->complete;
	status->filling = place->filling;
	status->failing_since_ns = place->failing_since_ns;
	if (place->fetch)
		fetch_status(place->fetch, &status->fetch);
}

void place_interrupt(struct place *place, bool on)
{
	if (place->fetch)
		fetch_interrupt(place->fetch, on);
}

void place_close(struct place *place)
{
	if (!place)
		return;
	if (place->fetch)
		fetch_stop(place->fetch);
	if (place->fills)
		pthread_join(place->filler, NULL);
	place_forget(place);
	if (place->fd >= 0)
		close(place->fd);
	s3_close(place->s3);
	free(place->program);
	free(place->path);
	free(place->url);
	free(place);
}

int place_is_incomplete(const char *image, struct thaw_error *error)
{
	struct sidefile side;
	int code = sidefile_read(image, &side, error);

	if (code)
		return code == -ENOENT ? 0 : code;
	if (!side.incomplete)
		return 0;
	failure(error, 0,
		"%s: parts of it are still in %s only: `thaw pull %s FILE` brings all of it", image,
		side.place, side.place);
	return 1;
}
