/* SPDX-License-Identifier: MIT */
/*
 * format.c - numbers and times as people read and write them, and tables. Pure functions, which
 * know no options, images or runtime.
 */
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "array.h"
#include "clock.h"
#include "format.h"
#include "thaw.h"

struct text format_bytes(uint64_t bytes)
{
	static const char *const units[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
	struct text text;
	double value = (double)bytes;
	int unit = -1;

	/* From 1023.95 on it would print as 1024.0: take the next unit. */
	while (value >= 1023.95 && unit < 5) {
		value /= 1024;
		unit++;
	}
	if (unit < 0)
		snprintf(text.s, sizeof(text.s), "%u B", (unsigned)bytes);
	else
		snprintf(text.s, sizeof(text.s), "%.*f %s", value < 99.95 ? 1 : 0, value,
			 units[unit]);
	return text;
}

struct text format_duration(uint64_t ns)
{
	struct text text;
	double value = (double)ns;

	if (ns == 0)
		snprintf(text.s, sizeof(text.s), "0");
	else if (value < 999.5)
		snprintf(text.s, sizeof(text.s), "%.0f ns", value);
	else if (value < 999.5e3)
		snprintf(text.s, sizeof(text.s), "%.*f us", value < 9.95e3 ? 1 : 0, value / 1e3);
	else if (value < 999.5e6)
		snprintf(text.s, sizeof(text.s), "%.*f ms", value < 99.95e6 ? 1 : 0, value / 1e6);
	else if (value < 59.995e9)
		snprintf(text.s, sizeof(text.s), "%.2f s", value / 1e9);
	else
		snprintf(text.s, sizeof(text.s), "%u min %u s",
			 (unsigned)((ns + 500000000) / 60000000000u),
			 (unsigned)((ns + 500000000) / 1000000000u % 60));
	return text;
}

struct text format_age(uint64_t time_ns)
{
	struct text text;
	uint64_t now_ns = clock_wall_ns(), seconds;

	/* The clock may have been set back since. */
	seconds = now_ns > time_ns ? (now_ns - time_ns) / 1000000000u : 0;
	if (seconds < 120)
		snprintf(text.s, sizeof(text.s), "%u s", (unsigned)seconds);
	else if (seconds < 120 * 60)
		snprintf(text.s, sizeof(text.s), "%u min", (unsigned)(seconds / 60));
	else if (seconds < 48 * 3600)
		snprintf(text.s, sizeof(text.s), "%u h", (unsigned)(seconds / 3600));
	else
		snprintf(text.s, sizeof(text.s), "%llu d", (unsigned long long)(seconds / 86400));
	return text;
}

struct text format_count(uint64_t count)
{
	char digits[32];
	struct text text;
	size_t length, out = 0;

	length = (size_t)snprintf(digits, sizeof(digits), "%llu", (unsigned long long)count);
	for (size_t i = 0; i < length; i++) {
		if (i > 0 && (length - i) % 3 == 0)
			text.s[out++] = ',';
		text.s[out++] = digits[i];
	}
	text.s[out] = '\0';
	return text;
}

struct text format_number(uint64_t number)
{
	struct text text;

	snprintf(text.s, sizeof(text.s), "%llu", (unsigned long long)number);
	return text;
}

struct text format_time(uint64_t time_ns)
{
	time_t seconds = (time_t)(time_ns / 1000000000u);
	struct text text = {""};
	struct tm local;

	if (localtime_r(&seconds, &local))
		strftime(text.s, sizeof(text.s), "%Y-%m-%d %H:%M:%S", &local);
	return text;
}

struct text format_iso_time(uint64_t time_ns)
{
	time_t seconds = (time_t)(time_ns / 1000000000u);
	unsigned thousandths = (unsigned)(time_ns / 1000000u % 1000u);
	char date[20], zone[6];
	struct text text = {""};
	struct tm local;

	/* "+0100", to which a colon is added. */
	if (localtime_r(&seconds, &local) &&
	    strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &local) == 19 &&
	    strftime(zone, sizeof(zone), "%z", &local) == 5)
		snprintf(text.s, sizeof(text.s), "%s.%03u%.3s:%.2s", date, thousandths, zone,
			 zone + 3);
	return text;
}

bool parse_duration(const char *word, uint64_t *ns)
{
	static const struct {
		const char *unit;
		double ns;
	} units[] = {{"us", 1e3},   {"ms", 1e6}, {"s", 1e9},   {"", 1e9},
		     {"min", 60e9}, {"m", 60e9}, {"h", 3600e9}};
	char *end;
	double value;

	if (!isdigit((unsigned char)word[0]))
		return false;
	errno = 0;
	value = strtod(word, &end);
	if (errno || !isfinite(value))
		return false;
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		if (strcmp(end, units[i].unit))
			continue;
		/* A bare number is seconds only if it is 0: "5" of what? */
		if (!*end && value != 0)
			return false;
		if (value * units[i].ns > 1e18)
			return false;
		*ns = (uint64_t)(value * units[i].ns);
		return true;
	}
	return false;
}

bool parse_number(const char *word, uint64_t *number)
{
	char *end;

	if (!isdigit((unsigned char)word[0]))
		return false;
	errno = 0;
	*number = strtoull(word, &end, 10);
	return !errno && !*end;
}

/* ---- Tables ---- */

void table_init(struct table *table, const char *align)
{
	*table = (struct table){.columns = (unsigned)strlen(align), .align = align};
}

/* A copy that is safe to print, whoever chose the text. */
static char *printable(const char *text)
{
	size_t room = thaw_escape(text, NULL, 0) + 1;
	char *copy = malloc(room);

	if (copy)
		thaw_escape(text, copy, room);
	return copy;
}

void table_cell(struct table *table, const char *text)
{
	char **cells = array_grow(table->cells, table->count, &table->room, sizeof(*cells));

	if (!cells)
		return;
	table->cells = cells;
	table->cells[table->count++] = printable(text);
}

void table_print(struct table *table, FILE *to)
{
	int widths[32] = {0};

	for (size_t i = 0; i < table->count; i++) {
		int width = table->cells[i] ? (int)strlen(table->cells[i]) : 0;

		if (width > widths[i % table->columns])
			widths[i % table->columns] = width;
	}
	for (size_t i = 0; i < table->count; i++) {
		unsigned column = (unsigned)(i % table->columns);
		const char *cell = table->cells[i] ? table->cells[i] : "";
		bool last = column + 1 == table->columns;

		if (table->align[column] == 'r')
			fprintf(to, "%*s", widths[column], cell);
		else if (last) /* no blanks at the end of a line */
			fputs(cell, to);
		else
			fprintf(to, "%-*s", widths[column], cell);
		fputs(last ? "\n" : "  ", to);
		free(table->cells[i]);
	}
	free(table->cells);
	*table = (struct table){0};
}
