// SPDX-License-Identifier: GPL-2.0-only
/*
 * line_server.h - the line server in C, which a test is itself when it is started as `TEST lines PORT`: its state is a tree, a
 * number, and a table of counters.
 */
#ifndef TESTS_LINE_SERVER_H
#define TESTS_LINE_SERVER_H

#include <search.h>
#include <stdlib.h>
#include <string.h>

#include "load/lines.h"

struct taken {
	uint64_t number;
	char id[];
};

static void *taken_ids;
static uint64_t total, counters[1 << 16];

static int compare_ids(const void *a, const void *b)
{
	return strcmp(((const struct taken *)a)->id, ((const struct taken *)b)->id);
}

static struct taken *taken_of(const char *id, bool add)
{
	struct taken *key = malloc(sizeof(*key) + strlen(id) + 1), **found;

	if (!key)
		lines_die("malloc");
	strcpy(key->id, id);
	key->number = 0;
	found = add ? tsearch(key, &taken_ids, compare_ids) : tfind(key, &taken_ids, compare_ids);
	if (add && !found)
		lines_die("malloc");
	if (!found || *found != key)
		free(key);
	return found ? *found : NULL;
}

static uint64_t line_answer(const char *request)
{
	struct taken *taken;

	if (!strncmp(request, "add ", 4)) {
		taken = taken_of(request + 4, true);
		if (!taken->number)
			taken->number = ++total;
		return taken->number;
	}
	if (!strncmp(request, "get ", 4)) {
		taken = taken_of(request + 4, false);
		return taken ? taken->number : 0;
	}
	if (!strncmp(request, "count ", 6))
		return ++counters[strtoul(request + 6, NULL, 10) %
				  (sizeof(counters) / sizeof(counters[0]))];
	return total;
}

__attribute__((constructor)) static void be_server(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "lines"))
		lines_serve(&(struct lines){.answer = line_answer}, (unsigned)atoi(argv[2]));
}

#endif
