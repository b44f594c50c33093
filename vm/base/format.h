/* SPDX-License-Identifier: MIT */
/* format.h - numbers and times as people read and write them, and tables. Any thread. */
#ifndef VM_BASE_FORMAT_H
#define VM_BASE_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct text {
	char s[32];
};
struct text format_bytes(uint64_t bytes); /* "512 B", "1.2 MiB" */
struct text format_duration(uint64_t ns); /* "850 ns", "12 us", "3.4 ms", "1.25 s", "2 min 5 s" */
struct text format_age(
	uint64_t time_ns); /* how long ago a CLOCK_REALTIME was: "3 s", "5 min", "2 d" */
struct text format_count(uint64_t count);      /* "54,560" */
struct text format_number(uint64_t number);    /* "54560", to be copied into a command */
struct text format_time(uint64_t time_ns);     /* "2025-01-31 12:00:00", local time */
struct text format_iso_time(uint64_t time_ns); /* "2025-01-31T12:00:00.250+01:00", local time */
/* "1s", "250ms", "1.5s", "2min", "0": nanoseconds. False: not a duration. */
bool parse_duration(const char *word, uint64_t *ns);
bool parse_number(const char *word, uint64_t *number);
/* A table whose columns are as wide as what is in them. */
struct table {
	unsigned columns;
	const char *align; /* one 'l' or 'r' per column */
	char **cells;
	size_t count, room;
};
void table_init(struct table *table, const char *align);
void table_cell(struct table *table, const char *text);
void table_print(struct table *table, FILE *to); /* and frees it */

#endif
