/* SPDX-License-Identifier: MIT */
/*
 * map_draw.c - the picture of a heap: one SVG file, no scripts, no fonts but the viewer's, readable on
 * light and dark (it brings its own background, and follows prefers-color-scheme).
 *
 *	title, and when it was
 *	the file:   a bar: what the newest generation takes, what only older ones take, what is unused
 *	legend      with counts, which add up to the heap
 *	contents    the types that take most, and which variables hold them
 *	the heap:   rows in address order. A row has three tracks, one below the other:
 *	            contents      as high as the share of the cell's pages: stored, and above it dirty, lost
 *	            working set   where there is any; stronger: touched earlier
 *	            resident      where there is any; paler: less than half of the cell
 *
 * A track can be told by its place as well as by its colour; the colours are those of Okabe and Ito (Color
 * Universal Design, 2008). Each track of a row is one path along its outline, about six bytes for each change,
 * so the picture stays below 300 KB even if every cell differs from the next.
 */
#include <string.h>

#include "map.h"

#define GRID_WIDTH 768u
#define LEFT 96u
#define WIDTH (LEFT + GRID_WIDTH + 32u)
#define SHADES 4u /* of the working set */
#define GROUP_LINE 16u
#define DIRTY_LEAST 2u /* one would not be seen on a screen */

struct drawing {
	const struct map *map;
	FILE *to;
	unsigned columns, rows;
	unsigned cell_width, contents, track,
		gap; /* in the picture's units: pixels at its own size */
	unsigned y;  /* so far */
};

/* ---- Text ---- */

/*
 * Bytes of the UTF-8 sequence at `c`; 0: it is malformed, not allowed in XML, or controls a
 * terminal.
 */
static unsigned sequence_bytes(const unsigned char *c)
{
	unsigned bytes = *c < 0x80 ? 1 : *c >= 0xf0 ? 4 : *c >= 0xe0 ? 3 : 2;
	uint32_t code = *c & (0xff >> (bytes > 1 ? bytes + 1 : 1));

	if ((*c >= 0x80 && *c < 0xc2) || *c > 0xf4)
		return 0;
	for (unsigned i = 1; i < bytes; i++) {
		if ((c[i] & 0xc0) != 0x80)
			return 0;
		code = code << 6 | (c[i] & 0x3f);
	}
	if (code < 0x20 || (code >= 0x7f && code < 0xa0) || (code >= 0xd800 && code < 0xe000) ||
	    (code >= 0x2028 && code <= 0x202e) || (code >= 0x2066 && code <= 0x2069) ||
	    code == 0xfffe || code == 0xffff || code > 0x10ffff || (bytes == 3 && code < 0x800) ||
	    (bytes == 4 && code < 0x10000))
		return 0;
	return bytes;
}

/* A path may be any bytes. */
static void put_text(FILE *to, const char *text)
{
	const unsigned char *c = (const unsigned char *)text;

	while (*c) {
		unsigned bytes = sequence_bytes(c);

		if (!bytes)
			fputc('?', to);
		else if (*c == '<')
			fputs("&lt;", to);
		else if (*c == '>')
			fputs("&gt;", to);
		else if (*c == '&')
			fputs("&amp;", to);
		else
			fwrite(c, 1, bytes, to);
		c += bytes ? bytes : 1;
	}
}

/* Of a path that is too long, the end is shown. */
static const char *path_end(const char *path, size_t most)
{
	size_t bytes = strlen(path);

	if (bytes <= most)
		return path;
	path += bytes - most;
	while ((*path & 0xc0) == 0x80)
		path++;
	return path;
}

static void put_line(const struct drawing *drawing, unsigned x, const char *class, const char *text)
{
	fprintf(drawing->to, "<text x=\"%u\" y=\"%u\" class=\"%s\">", x, drawing->y, class);
	put_text(drawing->to, text);
	fputs("</text>\n", drawing->to);
}

static const char *plural(uint64_t count)
{
	return count == 1 ? "" : "s";
}

static struct text format_share(uint64_t part, uint64_t whole)
{
	double share = whole ? 100 * (double)part / (double)whole : 0;
	struct text text;

	snprintf(text.s, sizeof(text.s), share > 0 && share < 0.1 ? "<0.1%%" : "%.1f%%", share);
	return text;
}

/* "512 KiB", "3 MiB", "1.5 MiB"; `bytes` is a number of whole pages. */
static struct text format_offset(uint64_t bytes)
{
	struct text text = format_bytes(bytes);
	char *zero = strstr(text.s, ".0 ");

	if (!bytes)
		snprintf(text.s, sizeof(text.s), "0");
	else if (bytes >= 1u << 20 && bytes % (1u << 20) == 0)
		snprintf(text.s, sizeof(text.s), "%llu MiB", (unsigned long long)(bytes >> 20));
	else if (zero)
		memmove(zero, zero + 2, strlen(zero + 2) + 1);
	return text;
}

/* ---- The frame ---- */

static const char style[] =
	"<style>\n"
	"text{font-family:system-ui,'Segoe UI','DejaVu Sans',sans-serif;font-size:12px;fill:#24292f}\n"
	".title{font-size:18px;font-weight:600}.note{fill:#57606a}.label{fill:#57606a;font-size:11px}\n"
	".end{text-anchor:end}.back{fill:#ffffff}.free{fill:#e4e7ea}.file{fill:#c9c1a5}.line{stroke:#8c959f}\n"
	".newest{fill:#57606a}.older{fill:#a7b0ba}.stored{fill:#0072b2}.dirty{fill:#d55e00}.lost{fill:#000000}\n"
	".set{fill:#009e73}.resident{fill:#cc79a7}\n"
	".s1{opacity:.75}.s2{opacity:.5}.s3{opacity:.3}.half{opacity:.45}\n"
	"@media(prefers-color-scheme:dark){text{fill:#e6edf3}.note,.label{fill:#9da7b3}\n"
	".back{fill:#0d1117}.free{fill:#2b323b}.file{fill:#5d573f}.line{stroke:#6e7681}.stored{fill:#3d9bdc}\n"
	".newest{fill:#aab4bf}.older{fill:#66717d}.dirty{fill:#f5813f}.lost{fill:#ffffff}.set{fill:#1ec796}\n"
	".resident{fill:#e39bc4}}\n"
	"</style>\n";

static void draw_command(struct drawing *drawing)
{
	const struct map *map = drawing->map;
	char text[400];

	snprintf(text, sizeof(text), "%.90s%s: %s mapped in %s areas, as it was %s, %s before.",
		 map->description.command, strlen(map->description.command) > 90 ? "..." : "",
		 format_bytes(map->pages * map->page_bytes).s,
		 format_count(map->description.area_count).s,
		 format_time(map->generation.time_ns).s, format_age(map->generation.time_ns).s);
	put_line(drawing, 24, "note", text);
}

static void draw_title(struct drawing *drawing)
{
	const struct map *map = drawing->map;
	const char *end = path_end(map->path, 60);
	char text[400];

	drawing->y = 36;
	snprintf(text, sizeof(text), "%s%s, generation %s%s%s%s%s", end == map->path ? "" : "...",
		 end, format_number(map->generation.number).s, *map->names ? " (" : "", map->names,
		 *map->names ? ")" : "", map->newest ? ", the newest" : "");
	/* There may be many names. */
	if (strlen(text) > 96)
		snprintf(text, sizeof(text), "%s%s, generation %s", end == map->path ? "" : "...",
			 end, format_number(map->generation.number).s);
	put_line(drawing, 24, "title", text);
	drawing->y += 22;
	if (map->process) {
		draw_command(drawing);
		return;
	}
	snprintf(text, sizeof(text),
		 "A heap of %s (%s page%s of %s), as it was %s, %s before this was drawn.",
		 format_offset(map->generation.heap_bytes).s, format_count(map->pages).s,
		 plural(map->pages), format_offset(map->page_bytes).s,
		 format_time(map->generation.time_ns).s, format_age(map->generation.time_ns).s);
	put_line(drawing, 24, "note", text);
}

/* ---- The file ---- */

static unsigned scaled(uint64_t part, uint64_t whole, unsigned width)
{
	return whole ? (unsigned)((double)part / (double)whole * width + 0.5) : 0;
}

static void draw_swatch(const struct drawing *drawing, unsigned x, const char *class)
{
	fprintf(drawing->to, "<rect x=\"%u\" y=\"%u\" width=\"12\" height=\"12\" class=\"%s\"/>\n",
		x, drawing->y - 10, class);
}

static void draw_file(struct drawing *drawing)
{
	const struct thaw_image_info *info = &drawing->map->info;
	uint64_t older = info->retained_bytes - info->live_bytes;
	unsigned width = WIDTH - 48, live = scaled(info->live_bytes, info->file_bytes, width);
	unsigned retained = scaled(info->retained_bytes, info->file_bytes, width);
	const struct {
		const char *class, *what;
		uint64_t bytes;
	} parts[] = {
		{"newest", "newest generation", info->live_bytes},
		{"older", "only older ones", older},
		{"free", "unused", info->free_bytes},
	};
	char text[160];

	drawing->y += 32;
	snprintf(text, sizeof(text), "The file: %s, of which %s on disk",
		 format_bytes(info->file_bytes).s, format_bytes(info->allocated_bytes).s);
	put_line(drawing, 24, "", text);
	drawing->y += 8;
	fprintf(drawing->to,
		"<rect x=\"24\" y=\"%u\" width=\"%u\" height=\"12\" class=\"free\"/>\n", drawing->y,
		width);
	fprintf(drawing->to,
		"<rect x=\"24\" y=\"%u\" width=\"%u\" height=\"12\" class=\"older\"/>\n",
		drawing->y, retained < width ? retained : width);
	fprintf(drawing->to,
		"<rect x=\"24\" y=\"%u\" width=\"%u\" height=\"12\" class=\"newest\"/>\n",
		drawing->y, live < width ? live : width);
	drawing->y += 28;
	for (unsigned i = 0; i < 3; i++) {
		draw_swatch(drawing, 24 + i * 205, parts[i].class);
		snprintf(text, sizeof(text), "%s: %s", parts[i].what,
			 format_bytes(parts[i].bytes).s);
		put_line(drawing, 42 + i * 205, "note", text);
	}
	if (info->newest_pages) {
		snprintf(text, sizeof(text), "newest lies in %s piece%s (%.1f per MiB)",
			 format_count(info->newest_pieces).s, plural(info->newest_pieces),
			 (double)info->newest_pieces * 1048576 /
				 ((double)info->newest_pages * info->page_bytes));
		put_line(drawing, WIDTH - 24, "note end", text);
	}
}

/* ---- The legend ---- */

static void legend_row(struct drawing *drawing, const char *class, const char *what, uint64_t pages)
{
	const struct map *map = drawing->map;

	drawing->y += 19;
	draw_swatch(drawing, 24, class);
	put_line(drawing, 42, "", what);
	put_line(drawing, 650, "end", format_count(pages).s);
	put_line(drawing, 752, "end", format_bytes(pages * map->page_bytes).s);
	put_line(drawing, WIDTH - 24, "end", format_share(pages, map->pages).s);
}

static void draw_legend(struct drawing *drawing)
{
	const struct map *map = drawing->map;
	const struct map_counts *counts = &map->counts;
	char text[160];

	drawing->y += 32;
	put_line(drawing, 24, "", map->process ? "The address space" : "The heap");
	put_line(drawing, 650, "note end", "pages");
	put_line(drawing, 752, "note end", "bytes");
	put_line(drawing, WIDTH - 24, "note end", map->process ? "of all" : "of the heap");
	if (map->process)
		legend_row(drawing, "file", "of files, and not written by the program",
			   counts->file);
	legend_row(drawing, "free",
		   map->process ? "not touched yet, or zero" : "free: never stored, or zero",
		   counts->free);
	legend_row(drawing, "stored", "stored by an older generation, unchanged since",
		   counts->stored);
	snprintf(text, sizeof(text), "dirty: written by generation %s",
		 format_number(map->generation.number).s);
	legend_row(drawing, "dirty", text, counts->dirty);
	if (counts->lost)
		legend_row(drawing, "lost", "lost: the index is damaged (see thaw verify)",
			   counts->lost);
	if (map->info.working_set_clusters)
		snprintf(
			text, sizeof(text),
			"working set: touched first after generation %s was restored (stronger: earlier)",
			format_count(map->info.working_set_generation).s);
	else
		snprintf(text, sizeof(text), "working set: not recorded yet");
	legend_row(drawing, "set", text, counts->set);
	if (map->running) {
		snprintf(text, sizeof(text), "resident: in the memory of %s %llu",
			 map->process ? "what runs under process" : "process",
			 (unsigned long long)map->info.holder);
		legend_row(drawing, "resident", text, counts->resident);
		return;
	}
	drawing->y += 19;
	draw_swatch(drawing, 24, "resident");
	snprintf(text, sizeof(text), "resident: %s", map->not_resident);
	put_line(drawing, 42, "", text);
}

/* ---- What it consists of ---- */

static unsigned contents_shown(const struct map *map)
{
	size_t count = map->contents.share_count;

	return (unsigned)(count < MAP_SHARES ? count : MAP_SHARES);
}

static unsigned contents_height(const struct map *map)
{
	return contents_shown(map) ? 32 + 19 * contents_shown(map) : map->no_contents ? 32 : 0;
}

static void draw_shares(struct drawing *drawing)
{
	const struct map *map = drawing->map;
	uint64_t all = 0;
	char text[400];

	if (map->no_contents) {
		drawing->y += 32;
		snprintf(text, sizeof(text), "What it consists of: %s", map->no_contents);
		put_line(drawing, 24, "", text);
	}
	if (!contents_shown(map))
		return;
	for (size_t i = 0; i < map->contents.share_count; i++)
		all += map->contents.share[i].bytes;
	drawing->y += 32;
	put_line(drawing, 24, "", "What it consists of, and which variable holds it");
	put_line(drawing, 650, "note end", "objects");
	put_line(drawing, 752, "note end", "bytes");
	put_line(drawing, WIDTH - 24, "note end", "of all objects");
	for (unsigned i = 0; i < contents_shown(map); i++) {
		const struct heap_share *share = &map->contents.share[i];

		drawing->y += 19;
		snprintf(text, sizeof(text), "%.60s", share->type);
		put_line(drawing, 42, "", text);
		snprintf(text, sizeof(text), "%.70s", share->holder);
		put_line(drawing, 220, "note", text);
		put_line(drawing, 650, "end", format_count(share->count).s);
		put_line(drawing, 752, "end", format_bytes(share->bytes).s);
		put_line(drawing, WIDTH - 24, "end", format_share(share->bytes, all).s);
	}
}

/* Shown where the mouse points: the objects that begin in a row. */
static void put_piece(const struct drawing *drawing, uint64_t from, uint64_t bytes, size_t row)
{
	const struct heap_piece *piece = &drawing->map->contents.piece[row];

	fprintf(drawing->to, "<title>%s to %s: %s of objects", format_offset(from).s,
		format_offset(from + bytes).s, format_bytes(piece->bytes).s);
	for (unsigned i = 0; i < piece->count; i++) {
		fprintf(drawing->to, "\n%s in %s of ", format_bytes(piece->most[i].bytes).s,
			format_count(piece->most[i].count).s);
		put_text(drawing->to, piece->most[i].type);
		fputs(": ", drawing->to);
		put_text(drawing->to, piece->most[i].holder);
	}
	fputs("</title>\n", drawing->to);
}

/* ---- The heap ---- */

/* The height of each column of a track, and a 0 after the last. */
typedef uint8_t heights[MAP_COLUMNS + 1];

/* One path around the track, from the left end of its base line and back. */
static void draw_outline(const struct drawing *drawing, unsigned base, const heights high,
			 unsigned count, const char *class)
{
	unsigned first = 0, run;
	int before = 0;

	while (first < count && !high[first])
		first++;
	while (count && !high[count - 1])
		count--;
	if (first >= count)
		return;
	fprintf(drawing->to, "<path class=\"%s\" d=\"M%u %u", class,
		LEFT + first * drawing->cell_width, base);
	for (unsigned i = first; i < count; i += run) {
		for (run = 1; i + run < count && high[i + run] == high[i]; run++)
			;
		fprintf(drawing->to, "v%dh%u", before - high[i], run * drawing->cell_width);
		before = high[i];
	}
	fprintf(drawing->to, "v%dz\"/>\n", before);
}

/* At least 1 if there is any, and the full height only if it is all. */
static uint8_t height_of(uint64_t part, uint64_t whole, unsigned most)
{
	unsigned high = scaled(part, whole, most);

	if (!part)
		return 0;
	if (!high)
		return 1;
	return (uint8_t)(high == most && part < whole && most > 1 ? most - 1 : high);
}

static uint64_t all_pages(const struct map_counts *counts)
{
	return counts->free + counts->file + counts->stored + counts->dirty + counts->lost;
}

static void draw_contents(const struct drawing *drawing, const struct map_cell *cells,
			  unsigned count)
{
	heights stored = {0}, dirty = {0}, lost = {0}, file = {0};
	unsigned base = drawing->y + drawing->contents;

	for (unsigned i = 0; i < count; i++) {
		const struct map_counts *counts = &cells[i].counts;
		uint64_t all = all_pages(counts);
		unsigned high;

		stored[i] = height_of(counts->stored, all, drawing->contents);
		/* On top of it, high enough to be seen, even if the other becomes lower. */
		high = height_of(counts->stored + counts->dirty, all, drawing->contents);
		if (counts->dirty && high < stored[i] + DIRTY_LEAST)
			high = stored[i] + DIRTY_LEAST;
		if (high > drawing->contents)
			high = drawing->contents;
		if (counts->dirty && stored[i] > high - DIRTY_LEAST)
			stored[i] = (uint8_t)(high - DIRTY_LEAST);
		dirty[i] = counts->dirty ? (uint8_t)high : 0;
		if (counts->lost)
			lost[i] = height_of(all - counts->free - counts->file, all,
					    drawing->contents);
		if (counts->file)
			file[i] = height_of(all - counts->free, all, drawing->contents);
	}
	fprintf(drawing->to,
		"<rect x=\"%u\" y=\"%u\" width=\"%u\" height=\"%u\" class=\"free\"/>\n", LEFT,
		drawing->y, count * drawing->cell_width, drawing->contents);
	draw_outline(drawing, base, file, count, "file");
	draw_outline(drawing, base, lost, count, "lost");
	draw_outline(drawing, base, dirty, count, "dirty");
	draw_outline(drawing, base, stored, count, "stored");
}

static void draw_tracks(const struct drawing *drawing, const struct map_cell *cells, unsigned count)
{
	static const char *const shades[SHADES] = {"set", "set s1", "set s2", "set s3"};
	unsigned base = drawing->y + drawing->contents + 1 + drawing->track;
	heights resident[2] = {{0}};

	for (unsigned shade = 0; shade < SHADES; shade++) {
		heights high = {0};

		for (unsigned i = 0; i < count; i++)
			if (cells[i].rank != THAW_RANK_NONE &&
			    cells[i].rank * (uint64_t)SHADES /
					    (drawing->map->info.working_set_clusters + 1) ==
				    shade)
				high[i] = (uint8_t)drawing->track;
		draw_outline(drawing, base, high, count, shades[shade]);
	}
	for (unsigned i = 0; i < count; i++) {
		const struct map_counts *counts = &cells[i].counts;
		uint64_t all = all_pages(counts);

		if (counts->resident)
			resident[counts->resident * 2 < all][i] = (uint8_t)drawing->track;
	}
	base += 1 + drawing->track;
	draw_outline(drawing, base, resident[0], count, "resident");
	draw_outline(drawing, base, resident[1], count, "resident half");
}

/* The scale above the first row: offsets within a row. */
static void draw_scale(const struct drawing *drawing)
{
	uint64_t row_bytes = drawing->columns * drawing->map->cell_pages * drawing->map->page_bytes;

	for (unsigned i = 0; i < 4; i++) {
		unsigned x = LEFT + i * GRID_WIDTH / 4;

		fprintf(drawing->to, "<path class=\"line\" d=\"M%u %uv6\"/>\n", x, drawing->y + 4);
		fprintf(drawing->to, "<text x=\"%u\" y=\"%u\" class=\"label\">+%s</text>\n", x + 4,
			drawing->y + 10, format_offset(row_bytes / 4 * i).s);
	}
}

/* Rows of cells, each with its offset on the left. */
static void draw_rows(struct drawing *drawing, const struct map_cell *cells, uint64_t cell_count)
{
	uint64_t cell_bytes = drawing->map->cell_pages * drawing->map->page_bytes;

	for (uint64_t first = 0; first < cell_count; first += drawing->columns) {
		unsigned count = cell_count - first < drawing->columns
					 ? (unsigned)(cell_count - first)
					 : drawing->columns;

		fprintf(drawing->to, "<text x=\"%u\" y=\"%u\" class=\"label end\">%s</text>\n",
			LEFT - 8, drawing->y + drawing->contents / 2 + 4,
			format_offset(first * cell_bytes).s);
		fputs("<g>", drawing->to);
		if (first / drawing->columns < drawing->map->contents.piece_count)
			put_piece(drawing, first * cell_bytes, count * cell_bytes,
				  first / drawing->columns);
		draw_contents(drawing, cells + first, count);
		draw_tracks(drawing, cells + first, count);
		fputs("</g>\n", drawing->to);
		drawing->y += drawing->contents + 2 * (drawing->track + 1) + drawing->gap;
	}
}

/* What a process has in its image, group by group, each with a line above it. */
static void draw_groups(struct drawing *drawing)
{
	const struct map *map = drawing->map;

	for (size_t i = 0; i < map->group_count; i++) {
		const struct map_group *group = &map->group[i];
		const char *name = area_short_name(group->first);
		char text[400];

		drawing->y += GROUP_LINE - 4;
		snprintf(text, sizeof(text), "%s%s at %llx: %s, of which %s in the image",
			 path_end(name, 100),
			 group->first->kind != group->last->kind ? " with its data" : "",
			 (unsigned long long)group->first->start, format_bytes(group->bytes).s,
			 format_bytes(group->stored * map->page_bytes).s);
		put_line(drawing, LEFT, "label", text);
		drawing->y += 4;
		/* The whole name, where the mouse points. */
		fputs("<g><title>", drawing->to);
		put_text(drawing->to, *group->first->name ? group->first->name : name);
		fprintf(drawing->to,
			"\n%llx to %llx, %u mapping%s\n%s, of which %s in the image</title>\n",
			(unsigned long long)group->first->start,
			(unsigned long long)group->last->end, group->areas, plural(group->areas),
			format_bytes(group->bytes).s,
			format_bytes(group->stored * map->page_bytes).s);
		draw_rows(drawing, map->cell + group->cell, group->cells);
		fputs("</g>\n", drawing->to);
	}
}

static void draw_heap(struct drawing *drawing)
{
	const struct map *map = drawing->map;
	uint64_t cell_bytes = map->cell_pages * map->page_bytes;
	char text[200];

	drawing->y += 34;
	snprintf(text, sizeof(text),
		 "In the order of its addresses. One column: %s (%s page%s); one row: %s.%s",
		 format_offset(cell_bytes).s, format_count(map->cell_pages).s,
		 plural(map->cell_pages), format_offset(cell_bytes * drawing->columns).s,
		 map->process ? " Only what is stored, and what is near it." : "");
	put_line(drawing, 24, "", text);
	drawing->y += 18;
	put_line(
		drawing, 24, "note",
		"Of each row, above: the contents, as high as their share of the column. Below it: the "
		"working set; below that: what is resident.");
	drawing->y += 10;
	if (drawing->rows)
		draw_scale(drawing);
	drawing->y += 18;
	if (map->process)
		draw_groups(drawing);
	else
		draw_rows(drawing, map->cell, map->cells);
}

static unsigned rows_for(uint64_t cells, unsigned columns)
{
	return (unsigned)((cells + columns - 1) / columns);
}

/* Use all rows that there is room for. */
static void choose_layout(struct drawing *drawing)
{
	const struct map *map = drawing->map;

	drawing->columns = map->columns;
	drawing->rows = map->process ? 0 : rows_for(map->cells, drawing->columns);
	for (size_t i = 0; i < map->group_count; i++)
		drawing->rows += rows_for(map->group[i].cells, drawing->columns);
	drawing->cell_width = GRID_WIDTH / drawing->columns;
	drawing->contents = drawing->rows <= 6 ? 32 : drawing->rows <= 16 ? 20 : 12;
	drawing->track = drawing->rows <= 6 ? 6 : drawing->rows <= 16 ? 4 : 3;
	drawing->gap = drawing->rows <= 6 ? 14 : drawing->rows <= 16 ? 8 : 5;
}

void map_draw(const struct map *map, FILE *to)
{
	struct drawing drawing = {.map = map, .to = to};
	unsigned height;

	choose_layout(&drawing);
	height = 340 + contents_height(map) + 19 * (!!map->counts.lost + map->process) +
		 (unsigned)map->group_count * GROUP_LINE +
		 drawing.rows * (drawing.contents + 2 * (drawing.track + 1) + drawing.gap);
	fprintf(to,
		"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
		"<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%u\" height=\"%u\" "
		"viewBox=\"0 0 %u %u\" role=\"img\">\n<title>Heap of ",
		WIDTH, height, WIDTH, height);
	put_text(to, map->path);
	fprintf(to, ", generation %llu</title>\n", (unsigned long long)map->generation.number);
	fputs(style, to);
	fprintf(to, "<rect width=\"%u\" height=\"%u\" class=\"back\"/>\n", WIDTH, height);
	draw_title(&drawing);
	draw_file(&drawing);
	draw_legend(&drawing);
	draw_shares(&drawing);
	draw_heap(&drawing);
	fputs("</svg>\n", to);
}
