/* SPDX-License-Identifier: MIT */
/*
 * top.h - what the files of `thaw top` share: its columns, what is shown of a sample in which
 * order, and the screen. One thread.
 */
#ifndef VM_CLI_TOP_H
#define VM_CLI_TOP_H

#include "cli.h"
#include "top/sample.h"

#define TOP_CELL_BYTES 8192

/* ---- Columns (top_columns.c) ---- */

struct top_column {
	const char *name;  /* as --sort takes it */
	const char *title; /* above the column */
	char key;	   /* that sorts by it */
	bool left;	   /* aligned */
	bool ascending;	   /* the smallest first */
	unsigned width;	   /* at least, on a screen */
	unsigned leaves;   /* a narrow screen does without it, the highest number first; 0: never */
	const char *what;  /* half a line for the help */
	/* As text; `cell` has room for TOP_CELL_BYTES. Any bytes: the caller escapes it. */
	const char *(*text)(const struct sample *sample, const struct sample_row *row, char *cell);
	/* To sort by; NAN: not known. NULL: sorted by its text. */
	double (*value)(const struct sample *sample, const struct sample_row *row);
};

extern const struct top_column top_columns[];
extern const unsigned top_column_count;

/* By its name (--sort), or its key; NULL: there is none. */
const struct top_column *top_column_named(const char *name);
const struct top_column *top_column_with_key(char key);
/* Is there anything to be shown in it? */
bool top_column_is_used(const struct top_column *column, const struct sample *sample);

/* The name of a user, or the number. Valid until the next call. */
const char *top_user(uid_t user);
/* Of -1 (not known), or a share of the interval in percent. */
double top_delay_percent(const struct sample *sample, const struct sample_row *row,
			 enum delay delay);

/* ---- What is shown (top.c) ---- */

struct top_operand {
	const char *word;
	pid_t pid; /* 0: it is the path of an image */
};

struct top {
	struct sample sample;
	uint64_t interval_ns;
	const struct top_column *sort;
	bool reverse;
	const struct top_operand *operands; /* show these only; none: all */
	unsigned operand_count;
	/* Of the last sample, in order. */
	const struct sample_row **rows;
	size_t count, room;
	size_t closed; /* programs that this user may not look into */
};

/* Take a sample, and choose and sort its rows. 0, or a negative code. */
int top_refresh(struct top *top, struct thaw_error *error);
/* Sort again, after `sort` or `reverse` changed. */
void top_sort(struct top *top);
/* "3 programs, ...": the line above everything. */
void top_summary(const struct top *top, char *line, size_t room);
/* What has to be known about the figures: the n-th such line, from 0; false: there are no more. */
bool top_note(const struct top *top, unsigned n, char *line, size_t room);

/* ---- --set (top_set.c) ---- */

/* "cluster-bytes=131072,ring-entries=64". Returns an exit code. */
int top_set(const char *tunables);

/* ---- The screen (top_screen.c) ---- */

/* Can the terminal at standard output show it? */
bool top_screen_possible(void);
/* Show until somebody ends it, or `count` times (0: no end). Returns an exit code. */
int top_screen_run(struct top *top, uint64_t count);

#endif
