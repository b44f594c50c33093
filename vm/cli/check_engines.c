/* SPDX-License-Identifier: MIT */
/*
 * check_engines.c - see check_engines.h. An image is gone on with by the engine that it is of: what is not here, or cannot be used,
 * is better known before it is needed. One thread.
 */
#include <string.h>

#include "check_engines.h"
#include "cli.h"
#include "engines/engines.h"

/* This build has its own twice: an object of it is for later builds. */
static bool is_own(const struct engines_found *found)
{
	return !strcmp(found->identity, javascript_guest.identity);
}

static const char *use_of(const struct engines_found *found)
{
	if (found->why.code)
		return found->why.text;
	return is_own(found) ? "for later versions of thaw" : "its images are gone on with";
}

static void add_row(void *arg, const struct engines_found *found)
{
	struct table *table = arg;
	char interface[16] = "";

	if (*found->identity)
		snprintf(interface, sizeof(interface), "%u", found->abi);
	table_cell(table, *found->identity ? found->identity : "?");
	table_cell(table, interface);
	table_cell(table, found->path);
	table_cell(table, use_of(found));
}

void engines_print(void)
{
	struct table table;
	char interface[16];

	snprintf(interface, sizeof(interface), "%u", GUEST_ABI);
	table_init(&table, "lrll");
	table_cell(&table, "engine");
	table_cell(&table, "interface");
	table_cell(&table, "where");
	table_cell(&table, "use");
	table_cell(&table, javascript_guest.identity);
	table_cell(&table, interface);
	table_cell(&table, "built in");
	table_cell(&table, "what thaw run begins with");
	engines_list(add_row, &table);
	putchar('\n');
	table_print(&table, stdout);
}

static void add_object(void *arg, const struct engines_found *found)
{
	struct json *json = arg;

	json_open(json, NULL, '{');
	json_text(json, "engine", found->identity);
	json_number(json, "interface", found->abi);
	json_text(json, "path", found->path);
	json_bool(json, "usable", !found->why.code);
	if (found->why.code)
		json_text(json, "why", found->why.text);
	json_close(json, '}');
}

void engines_json(struct json *json)
{
	json_open(json, "engines", '[');
	json_open(json, NULL, '{');
	json_text(json, "engine", javascript_guest.identity);
	json_number(json, "interface", GUEST_ABI);
	json_bool(json, "usable", true);
	json_close(json, '}');
	engines_list(add_object, json);
	json_close(json, ']');
}

static void print_line(void *arg, const struct engines_found *found)
{
	char line[sizeof(found->path) + sizeof(found->why.text)], shown[4 * sizeof(line)];

	(void)arg;
	if (is_own(found) && !found->why.code)
		return;
	if (found->why.code)
		snprintf(line, sizeof(line), "%s", found->why.text);
	else
		snprintf(line, sizeof(line), "%s: %s", found->identity, found->path);
	thaw_escape(line, shown, sizeof(shown));
	printf("  %s\n", shown);
}

void engines_version(void)
{
	engines_list(print_line, NULL);
}
