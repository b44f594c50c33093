/* SPDX-License-Identifier: MIT */
/*
 * top_frame.c - see top_frame.h. A narrow screen does without some columns (top_column.leaves); of
 * a path the end is shown, of all else the beginning.
 */
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "base/unicode.h"
#include "top_frame.h"

#define GAP 1u		 /* between two columns */
#define COMMAND_SHARE 3u /* of what is left for paths and commands, at most 1/3 is for commands */

/* ---- Lines ---- */

struct output {
	FILE *to;
	bool screen;	/* else: plain lines, as long as they are */
	unsigned width; /* of a line: one less than the screen's, for the cursor stays in it */
	unsigned left;	/* lines that there is room for */
};

static struct output output_of(const struct top_frame *frame, FILE *to, bool screen)
{
	return (struct output){
		.to = to,
		.screen = screen,
		.width = frame->columns > 1 ? frame->columns - 1 : 1,
		.left = screen ? frame->lines : (unsigned)-1,
	};
}

static void end_line(struct output *output)
{
	output->left--;
	if (output->screen)
		fputs(output->left ? "\033[K\r\n" : "\033[K", output->to);
	else
		fputc('\n', output->to);
}

/* How many bytes of well-formed UTF-8 take at most so many columns. */
static size_t fitting_bytes(const char *text, size_t columns)
{
	size_t at = 0;

	while (text[at]) {
		uint32_t character;
		size_t bytes = utf8_next(text + at, &character);
		size_t width = text_width(text + at, bytes);

		if (width > columns)
			break;
		columns -= width;
		at += bytes;
	}
	return at;
}

/* The end of a text, from the first place on from which it takes at most so many columns. */
static const char *fitting_end(const char *text, size_t columns)
{
	while (text_width(text, strlen(text)) > columns) {
		uint32_t character;

		text += utf8_next(text, &character);
	}
	return text;
}

static void put_line(struct output *output, const char *text)
{
	char escaped[2048];

	if (!output->left)
		return;
	thaw_escape(text, escaped, sizeof(escaped));
	if (output->screen)
		escaped[fitting_bytes(escaped, output->width)] = '\0';
	fputs(escaped, output->to);
	end_line(output);
}

/* ---- Cells ---- */

struct grid {
	char **cells; /* row by row, of all columns; escaped; NULL: no memory */
	size_t rows;
	unsigned widths[TOP_COLUMNS_MAX]; /* as their contents need them, then as they are shown */
};

static bool is_path(unsigned column)
{
	return !strcmp(top_columns[column].name, "image");
}

static bool is_command(unsigned column)
{
	return !strcmp(top_columns[column].name, "command");
}

static char *cell_of(const struct top *top, const struct sample_row *row, unsigned column)
{
	static char cell[TOP_CELL_BYTES];
	const char *text = top_columns[column].text(&top->sample, row, cell);
	size_t room = thaw_escape(text, NULL, 0) + 1;
	char *escaped = malloc(room);

	if (escaped)
		thaw_escape(text, escaped, room);
	return escaped;
}

static void grid_free(struct grid *grid)
{
	for (size_t i = 0; i < grid->rows * top_column_count; i++)
		free(grid->cells[i]);
	free(grid->cells);
}

/* So many rows from `first` on. */
static void grid_make(struct grid *grid, const struct top *top, size_t first, size_t rows)
{
	*grid = (struct grid){0};
	for (unsigned c = 0; c < top_column_count; c++)
		grid->widths[c] = top_columns[c].width;
	grid->cells = calloc(rows * top_column_count + 1, sizeof(char *));
	if (!grid->cells)
		return;
	grid->rows = rows;
	for (size_t r = 0; r < rows; r++)
		for (unsigned c = 0; c < top_column_count; c++) {
			char *cell = cell_of(top, top->rows[first + r], c);
			size_t width = cell ? text_width(cell, strlen(cell)) : 0;

			grid->cells[r * top_column_count + c] = cell;
			if (width > grid->widths[c])
				grid->widths[c] = (unsigned)width;
		}
}

/* ---- Columns ---- */

/* What the columns that are shown take; of paths and commands, the least. */
static unsigned width_of_all(const struct top_frame *frame, const struct grid *grid)
{
	unsigned width = 0;

	for (unsigned c = 0; c < top_column_count; c++)
		if (frame->shown[c])
			width += GAP + (is_path(c) || is_command(c) ? top_columns[c].width
								    : grid->widths[c]);
	return width ? width - GAP : 0;
}

static bool drop_one(struct top_frame *frame, const struct top *top)
{
	unsigned most = 0, which = 0;

	for (unsigned c = 0; c < top_column_count; c++)
		if (frame->shown[c] && top_columns[c].leaves > most &&
		    &top_columns[c] != top->sort) {
			most = top_columns[c].leaves;
			which = c;
		}
	if (most)
		frame->shown[which] = false;
	return most;
}

/* Paths and commands share what the others leave. */
static void share_rest(const struct top_frame *frame, struct grid *grid, unsigned available)
{
	unsigned taken = width_of_all(frame, grid), rest, command = 0, path = 0;

	for (unsigned c = 0; c < top_column_count; c++) {
		if (frame->shown[c] && is_path(c))
			path = c;
		if (frame->shown[c] && is_command(c))
			command = c;
	}
	rest = available > taken ? available - taken : 0;
	rest += top_columns[path].width + (command ? top_columns[command].width : 0);
	if (command) {
		unsigned wish = grid->widths[command];
		unsigned share = rest / COMMAND_SHARE, spare;

		spare = rest > grid->widths[path] ? rest - grid->widths[path] : 0;
		share = share > spare ? share : spare;
		share = share < top_columns[command].width ? top_columns[command].width : share;
		grid->widths[command] = wish < share ? wish : share;
		rest -= grid->widths[command];
	}
	if (grid->widths[path] > rest)
		grid->widths[path] = rest;
}

static void choose_columns(struct top_frame *frame, const struct top *top, struct grid *grid,
			   const struct output *output)
{
	for (unsigned c = 0; c < top_column_count; c++)
		frame->shown[c] = top_column_is_used(&top_columns[c], &top->sample);
	if (!output->screen)
		return;
	while (width_of_all(frame, grid) > output->width && drop_one(frame, top))
		;
	share_rest(frame, grid, output->width);
}

/* ---- Rows ---- */

static bool is_last(const struct top_frame *frame, unsigned column)
{
	for (column++; column < top_column_count; column++)
		if (frame->shown[column])
			return false;
	return true;
}

/* Text in a column: `left` columns of the line are there, which are less in the end. */
static void put_cell(struct output *output, const struct top_frame *frame, const char *text,
		     unsigned width, unsigned column, unsigned *left)
{
	const struct top_column *which = &top_columns[column];
	size_t bytes, taken;

	if (output->screen && width > *left)
		width = *left;
	if (text_width(text, strlen(text)) > width && is_path(column) && width > 3) {
		fputs("...", output->to);
		*left -= 3;
		width -= 3;
		text = fitting_end(text, width);
	}
	bytes = fitting_bytes(text, width);
	taken = text_width(text, bytes);
	if (!which->left)
		fprintf(output->to, "%*s", (int)(width - taken), "");
	fwrite(text, 1, bytes, output->to);
	if (which->left && !is_last(frame, column))
		fprintf(output->to, "%*s", (int)(width - taken), "");
	else if (which->left)
		width = (unsigned)taken; /* no blanks at the end of a line */
	*left -= width;
}

/* `cells` NULL: the titles. */
static void put_row(struct output *output, const struct top_frame *frame, const struct top *top,
		    const struct grid *grid, char *const *cells)
{
	unsigned left = output->width;
	bool first = true;

	if (!output->left)
		return;
	if (output->screen && !cells)
		fputs("\033[7m", output->to);
	for (unsigned c = 0; c < top_column_count && left; c++) {
		bool marked = output->screen && !cells && &top_columns[c] == top->sort;

		if (!frame->shown[c])
			continue;
		if (!first) {
			fputc(' ', output->to);
			left--;
		}
		first = false;
		fputs(marked ? "\033[27;1m" : "", output->to);
		put_cell(output, frame, cells ? cells[c] ? cells[c] : "" : top_columns[c].title,
			 grid->widths[c], c, &left);
		fputs(marked ? "\033[22;7m" : "", output->to);
	}
	if (output->screen && !cells)
		fprintf(output->to, "%*s\033[m", (int)left, "");
	end_line(output);
}

static void put_rows(struct output *output, const struct top_frame *frame, const struct top *top,
		     const struct grid *grid)
{
	put_row(output, frame, top, grid, NULL);
	for (size_t r = 0; r < grid->rows; r++)
		put_row(output, frame, top, grid, grid->cells + r * top_column_count);
}

/* ---- All of it ---- */

static void put_head(struct output *output, const struct top *top)
{
	char line[1024];

	top_summary(top, line, sizeof(line));
	put_line(output, line);
	for (unsigned n = 0; output->left > 4 && top_note(top, n, line, sizeof(line)); n++)
		put_line(output, line);
}

static void put_keys(struct output *output, const struct top *top)
{
	char line[256];
	int length = snprintf(line, sizeof(line),
			      "q quit, h help, space now, < > sort column, r reverse; sort by:");

	for (unsigned c = 0; c < top_column_count; c++)
		if (top_column_is_used(&top_columns[c], &top->sample))
			length += snprintf(line + length, sizeof(line) - (size_t)length, " %c",
					   top_columns[c].key);
	put_line(output, line);
}

void top_frame_draw(struct top_frame *frame, const struct top *top, FILE *to)
{
	struct output output = output_of(frame, to, true);
	struct grid grid;
	size_t rows;

	if (output.left > 3)
		put_head(&output, top);
	if (output.left > 4)
		put_keys(&output, top);
	frame->rows = output.left ? output.left - 1 : 0;
	if (frame->first + frame->rows > top->count)
		frame->first = top->count > frame->rows ? top->count - frame->rows : 0;
	rows = top->count - frame->first;
	grid_make(&grid, top, frame->first, rows < frame->rows ? rows : frame->rows);
	choose_columns(frame, top, &grid, &output);
	put_rows(&output, frame, top, &grid);
	if (!top->count)
		put_line(&output, "no program has an image open");
	grid_free(&grid);
}

void top_frame_print(struct top_frame *frame, const struct top *top, FILE *to)
{
	struct output output = output_of(frame, to, false);
	struct grid grid;

	put_head(&output, top);
	grid_make(&grid, top, 0, top->count);
	choose_columns(frame, top, &grid, &output);
	put_rows(&output, frame, top, &grid);
	grid_free(&grid);
}

void top_frame_help(struct top_frame *frame, FILE *to)
{
	struct output output = output_of(frame, to, true);
	char line[256];

	/* With all columns, as many lines as the smallest of usual screens has. */
	put_line(&output,
		 "q quit, space now, r reverse, < > column, arrows, home ... move; any key: back");
	put_line(&output, "Sort by (again: the other way round); a '-' is what is not known:");
	for (unsigned c = 0; c < top_column_count; c++) {
		snprintf(line, sizeof(line), "  %c  %-10s %s", top_columns[c].key,
			 top_columns[c].title, top_columns[c].what);
		put_line(&output, line);
	}
}
