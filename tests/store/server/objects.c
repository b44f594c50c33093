// SPDX-License-Identifier: GPL-2.0-only
/*
 * objects.c - objects as files of one directory, called by a hash of their names. A file is 4096 bytes of facts, and the body. Which there
 * are is kept in memory, sorted; a new one is renamed to its place under the lock, so that one of several wins.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server.h"

#define FACTS 4096

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static const char *directory;
static struct object *objects;
static size_t object_count, object_room;

static char *copy_of(const char *text)
{
	char *copy = strdup(text);

	if (!copy)
		die("out of memory");
	return copy;
}

static void path_of(const char *name, char *path, size_t room)
{
	uint8_t sum[crypto_hash_sha256_BYTES];
	char hex[2 * sizeof(sum) + 1];

	crypto_hash_sha256(sum, (const uint8_t *)name, strlen(name));
	sodium_bin2hex(hex, sizeof(hex), sum, sizeof(sum));
	snprintf(path, room, "%s/%s", directory, hex);
}

/* Where it is, or would be. */
static size_t place_of(const char *name, bool *there)
{
	size_t low = 0, high = object_count;

	while (low < high) {
		size_t middle = (low + high) / 2;
		int order = strcmp(objects[middle].name, name);

		if (!order) {
			*there = true;
			return middle;
		}
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	*there = false;
	return low;
}

static void insert(size_t at, struct object object)
{
	if (object_count == object_room) {
		object_room = object_room ? 2 * object_room : 256;
		objects = realloc(objects, object_room * sizeof(*objects));
		if (!objects)
			die("out of memory");
	}
	memmove(objects + at + 1, objects + at, (object_count - at) * sizeof(*objects));
	objects[at] = object;
	object_count++;
}

/* "name\nbytes time etag\npairs", and zeros. */
static void write_facts(int fd, const struct object *object)
{
	char facts[FACTS] = {0};
	int length = snprintf(facts, sizeof(facts), "%s\n%llu %llu %s\n%s", object->name,
			      (unsigned long long)object->bytes,
			      (unsigned long long)object->time_ns, object->etag, object->pairs);

	if (length < 0 || (size_t)length >= sizeof(facts) || pwrite(fd, facts, FACTS, 0) != FACTS)
		die("facts of %s: %s", object->name, strerror(errno));
}

static bool read_facts(const char *path, struct object *object)
{
	char facts[FACTS + 1] = {0}, name[2200];
	unsigned long long bytes, time_ns;
	int fd = open(path, O_RDONLY | O_CLOEXEC), length = 0;
	bool good;

	if (fd < 0)
		return false;
	good = read(fd, facts, FACTS) == FACTS &&
	       sscanf(facts, "%2199[^\n]\n%llu %llu %39s%n", name, &bytes, &time_ns, object->etag,
		      &length) == 4;
	close(fd);
	if (!good || facts[length] != '\n')
		return false;
	object->name = copy_of(name);
	object->bytes = bytes;
	object->time_ns = time_ns;
	object->pairs = copy_of(facts + length + 1);
	return true;
}

void objects_load(const char *from)
{
	DIR *entries;
	struct dirent *entry;

	directory = from;
	mkdir(from, 0700);
	entries = opendir(from);
	if (!entries)
		die("%s: %s", from, strerror(errno));
	while ((entry = readdir(entries))) {
		char path[4096];
		struct object object = {0};
		bool there;
		size_t at;

		snprintf(path, sizeof(path), "%s/%s", from, entry->d_name);
		if (!strncmp(entry->d_name, "new-", 4))
			unlink(path);
		if (strlen(entry->d_name) != 64 || !read_facts(path, &object))
			continue;
		at = place_of(object.name, &there);
		insert(at, object);
	}
	closedir(entries);
}

int object_file(char *path, size_t room)
{
	int fd;

	snprintf(path, room, "%s/new-XXXXXX", directory);
	fd = mkostemp(path, O_CLOEXEC);
	if (fd < 0 || lseek(fd, FACTS, SEEK_SET) != FACTS)
		die("%s: %s", path, strerror(errno));
	return fd;
}

int object_put(const char *name, const char *path, const struct object *facts, bool only_new,
	       const char *if_match, char *etag)
{
	struct object object = *facts;
	int fd = open(path, O_RDWR | O_CLOEXEC), status = 0;
	char place[4096];
	bool there;
	size_t at;

	object.name = copy_of(name);
	object.pairs = copy_of(facts->pairs);
	write_facts(fd, &object);
	close(fd);
	path_of(name, place, sizeof(place));
	pthread_mutex_lock(&lock);
	at = place_of(name, &there);
	if (only_new && there)
		status = 412;
	else if (if_match && !there)
		status = 404;
	else if (if_match && strcmp(if_match, objects[at].etag))
		status = 412;
	else if (rename(path, place))
		die("%s: %s", place, strerror(errno));
	if (!status && there) {
		object_free(&objects[at]);
		objects[at] = object;
	} else if (!status) {
		insert(at, object);
	}
	pthread_mutex_unlock(&lock);
	strcpy(etag, object.etag);
	if (status) {
		object_free(&object);
		unlink(path);
	}
	return status;
}

int object_open(const char *name, struct object *facts)
{
	char path[4096];
	bool there;
	int fd = -1;
	size_t at;

	path_of(name, path, sizeof(path));
	pthread_mutex_lock(&lock);
	at = place_of(name, &there);
	if (there) {
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			die("%s: %s", path, strerror(errno));
		*facts = objects[at];
		facts->name = copy_of(facts->name);
		facts->pairs = copy_of(facts->pairs);
	}
	pthread_mutex_unlock(&lock);
	return fd;
}

void object_free(struct object *facts)
{
	free(facts->name);
	free(facts->pairs);
}

bool object_delete(const char *name)
{
	char path[4096];
	bool there;
	size_t at;

	path_of(name, path, sizeof(path));
	pthread_mutex_lock(&lock);
	at = place_of(name, &there);
	if (there) {
		unlink(path);
		object_free(&objects[at]);
		object_count--;
		memmove(objects + at, objects + at + 1, (object_count - at) * sizeof(*objects));
	}
	pthread_mutex_unlock(&lock);
	return there;
}

size_t objects_list(const char *prefix, const char *after, size_t most, struct object *found,
		    bool *more)
{
	size_t at, count = 0;
	bool there;

	pthread_mutex_lock(&lock);
	at = place_of(strcmp(after, prefix) > 0 ? after : prefix, &there);
	*more = false;
	for (; at < object_count && !strncmp(objects[at].name, prefix, strlen(prefix)); at++) {
		if (strcmp(objects[at].name, after) <= 0)
			continue;
		*more = count == most;
		if (*more)
			break;
		found[count] = objects[at];
		found[count].name = copy_of(objects[at].name);
		found[count++].pairs = copy_of(objects[at].pairs);
	}
	pthread_mutex_unlock(&lock);
	return count;
}
