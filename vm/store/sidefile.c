// SPDX-License-Identifier: MIT
/*
 * sidefile.c - IMAGE.store: written as a new file that takes the place of the old one, so that there is always a whole one.
 */
#define _GNU_SOURCE
#include "store/sidefile.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/failure.h"
#include "base/format.h"
#include "store/index.h"

#define FIRST_LINE "thaw-store 1"
#define MOST_BYTES (64u << 10)

/* Of all side files of the process: they are written seldom. */
static pthread_mutex_t changing = PTHREAD_MUTEX_INITIALIZER;

bool sidefile_has(const struct sidefile *side, const uint8_t epoch[STORE_EPOCH_BYTES])
{
	for (unsigned i = 0; i < side->epoch_count; i++)
		if (!memcmp(side->epochs[i], epoch, STORE_EPOCH_BYTES))
			return true;
	return false;
}

static char *name_of(const char *image, const char *end)
{
	char *name;

	return asprintf(&name, "%s.store%s", image, end) < 0 ? NULL : name;
}

static bool parse_id(const char *word, uint8_t id[STORE_EPOCH_BYTES])
{
	return strlen(word) == STORE_ID_TEXT - 1 && store_id_parse(word, id);
}

static bool parse_line(struct sidefile *side, char *line)
{
	char *value = strchr(line, ' ');

	if (!value)
		return false;
	*value++ = '\0';
	if (!strcmp(line, "place")) {
		snprintf(side->place, sizeof(side->place), "%s", value);
		return strlen(value) < sizeof(side->place);
	}
	if (!strcmp(line, "uuid"))
		return parse_id(value, side->uuid);
	if (!strcmp(line, "incomplete")) {
		side->incomplete = !strcmp(value, "yes");
		return side->incomplete || !strcmp(value, "no");
	}
	if (!strcmp(line, "settled"))
		return parse_number(value, &side->settled);
	if (!strcmp(line, "epoch"))
		return side->epoch_count < SIDEFILE_EPOCHS &&
		       parse_id(value, side->epochs[side->epoch_count++]);
	return true; /* of a later version */
}

static bool parse(struct sidefile *side, char *text)
{
	char *rest, *line = strtok_r(text, "\n", &rest);

	if (!line || strcmp(line, FIRST_LINE))
		return false;
	while ((line = strtok_r(NULL, "\n", &rest)))
		if (!parse_line(side, line))
			return false;
	return *side->place;
}

/* All of a small file, as text, of malloc's; or NULL and errno. */
static char *read_text(const char *name)
{
	int fd = open(name, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	size_t count = 0;
	char *text;
	ssize_t got;

	if (fd < 0)
		return NULL;
	text = malloc(MOST_BYTES + 1);
	while (text && (got = read(fd, text + count, MOST_BYTES - count)) != 0) {
		if (got < 0 && errno != EINTR) {
			free(text);
			text = NULL;
		} else if (got > 0) {
			count += (size_t)got;
		}
	}
	if (text)
		text[count] = '\0';
	close(fd);
	return text;
}

int sidefile_read(const char *image, struct sidefile *side, struct thaw_error *error)
{
	char *name = name_of(image, ""), *text;
	int code = 0;

	*side = (struct sidefile){0};
	if (!name)
		return failure(error, -ENOMEM, "no memory for the name of %s.store", image);
	text = read_text(name);
	if (!text)
		code = failure(error, -errno, "%s: %s", name, strerror(errno));
	else if (!parse(side, text))
		code = failure(error, -EINVAL,
			       "%s does not say which store has this image: was it edited?", name);
	free(text);
	free(name);
	return code;
}

static void print_id(FILE *to, const char *word, const uint8_t id[STORE_EPOCH_BYTES])
{
	char text[STORE_ID_TEXT];

	store_id_print(id, text);
	fprintf(to, "%s %s\n", word, text);
}

static int print(FILE *to, const struct sidefile *side)
{
	fprintf(to, FIRST_LINE "\nplace %s\n", side->place);
	print_id(to, "uuid", side->uuid);
	fprintf(to, "incomplete %s\nsettled %" PRIu64 "\n", side->incomplete ? "yes" : "no",
		side->settled);
	for (unsigned i = 0; i < side->epoch_count; i++)
		print_id(to, "epoch", side->epochs[i]);
	return fflush(to) || fsync(fileno(to)) ? -errno : 0;
}

int sidefile_sync_folder(const char *image)
{
	char *copy = strdup(image);
	int fd, code;

	if (!copy)
		return -ENOMEM;
	fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	free(copy);
	if (fd < 0)
		return -errno;
	code = fsync(fd) ? -errno : 0;
	close(fd);
	return code;
}

static int write_file(const char *name, const char *new_name, const struct sidefile *side)
{
	int fd, code;
	FILE *file;

	unlink(new_name); /* of one that was killed here */
	fd = open(new_name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	file = fdopen(fd, "w");
	if (!file) {
		close(fd);
		return -ENOMEM;
	}
	code = print(file, side);
	if (fclose(file) && !code)
		code = -errno;
	if (!code && rename(new_name, name))
		code = -errno;
	if (code)
		unlink(new_name);
	return code ? code : sidefile_sync_folder(name);
}

static int write_locked(const char *image, const struct sidefile *side, struct thaw_error *error)
{
	char *name = name_of(image, ""), *new_name = name_of(image, ".new");
	int code = name && new_name ? write_file(name, new_name, side) : -ENOMEM;

	if (code)
		failure(error, code, "%s.store cannot be written: %s", image, strerror(-code));
	free(name);
	free(new_name);
	return code;
}

int sidefile_write(const char *image, const struct sidefile *side, struct thaw_error *error)
{
	int code;

	pthread_mutex_lock(&changing);
	code = write_locked(image, side, error);
	pthread_mutex_unlock(&changing);
	return code;
}

int sidefile_change(const char *image, int (*change)(struct sidefile *side, void *arg), void *arg,
		    struct thaw_error *error)
{
	struct sidefile side;
	int code;

	pthread_mutex_lock(&changing);
	code = sidefile_read(image, &side, error);
	if (!code || code == -ENOENT)
		code = change(&side, arg);
	if (!code)
		code = write_locked(image, &side, error);
	pthread_mutex_unlock(&changing);
	return code;
}

static int complete(struct sidefile *side, void *arg)
{
	(void)arg;
	side->incomplete = false;
	return *side->place ? 0 : -ENOENT;
}

int sidefile_complete(const char *image, struct thaw_error *error)
{
	return sidefile_change(image, complete, NULL, error);
}

static int settle(struct sidefile *side, void *arg)
{
	side->settled = *(const uint64_t *)arg;
	return *side->place ? 0 : -ENOENT;
}

int sidefile_settle(const char *image, uint64_t generation, struct thaw_error *error)
{
	return sidefile_change(image, settle, &generation, error);
}

int sidefile_remove(const char *image, struct thaw_error *error)
{
	char *name = name_of(image, "");
	int code = 0;

	if (!name)
		return failure(error, -ENOMEM, "no memory for the name of %s.store", image);
	pthread_mutex_lock(&changing);
	if (unlink(name) && errno != ENOENT)
		code = -errno;
	else
		code = sidefile_sync_folder(name);
	pthread_mutex_unlock(&changing);
	if (code)
		failure(error, code, "%s cannot be removed: %s", name, strerror(-code));
	free(name);
	return code;
}
