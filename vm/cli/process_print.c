/* SPDX-License-Identifier: MIT */
/*
 * process_print.c - thaw inspect of an image of thaw exec: the program, its address space by kinds, its files, threads
 * and descriptors, for people and as JSON. What stands in it comes from the image, and is escaped. One thread.
 */
#define _GNU_SOURCE
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "areas.h"
#include "process/identity/identity.h"

#define LINES_MOST 24u /* of files, threads, descriptors each, unless all are wanted */
#define ID_SHOWN 12
#define COLUMNS_MOST 100 /* of a long list */

struct printing {
	const struct description *description;
	const struct area_pages *pages;
	uint32_t page_bytes;
	unsigned most; /* lines of a list */
};

static uint64_t stored_bytes(const struct printing *printing, size_t area)
{
	const struct area_pages *pages = &printing->pages[area];

	return (pages->stored + pages->dirty) * printing->page_bytes;
}

/* ---- The program */

static void row(struct table *table, const char *name, const char *value)
{
	table_cell(table, name);
	table_cell(table, value);
}

__attribute__((format(printf, 3, 4))) static void row_format(struct table *table, const char *name,
							     const char *format, ...)
{
	char *text = NULL;
	va_list arguments;

	va_start(arguments, format);
	if (vasprintf(&text, format, arguments) >= 0)
		row(table, name, text);
	va_end(arguments);
	free(text);
}

/* Words with commas between them, over as many lines as they need. */
static void row_list(struct table *table, const char *name, const char *list)
{
	while (strlen(list) > COLUMNS_MOST) {
		char line[COLUMNS_MOST + 1];
		size_t bytes = COLUMNS_MOST;

		while (bytes && list[bytes] != ' ')
			bytes--;
		if (!bytes)
			break;
		snprintf(line, sizeof(line), "%.*s", (int)bytes, list);
		row(table, name, line);
		list += bytes + 1;
		name = "";
	}
	row(table, name, list);
}

static const char *build_id_of(const struct description *description, const char *path)
{
	for (size_t i = 0; path && i < description->area_count; i++)
		if (description->areas[i].build_id[0] && !strcmp(description->areas[i].name, path))
			return description->areas[i].build_id;
	return "";
}

static void row_program(struct table *table, const struct description *description)
{
	const char *build_id = build_id_of(description, description->program);

	if (!description->program)
		return;
	if (*build_id)
		row_format(table, "program", "%s, build-id %s", description->program, build_id);
	else
		row(table, "program", description->program);
}

static void row_waiting(struct table *table, const struct process_state *state)
{
	const struct kernel_facts *kernel = &state->kernel;
	unsigned pending = kernel->pending_count;

	for (unsigned i = 0; i < state->thread_count; i++)
		pending += state->threads[i].pending_count;
	if (kernel->child_count)
		row_format(table, "children", "%u, found killed after a restore",
			   kernel->child_count);
	if (pending)
		row_format(table, "signals", "%u pending", pending);
	if (kernel->posix_timer_count)
		row_format(table, "timers", "%u (timer_create)", kernel->posix_timer_count);
}

static void row_machine(struct table *table, const struct description *description)
{
	const struct identity *identity = description->state.identity;

	if (!identity)
		return;
	row_format(table, "captured on", "%s, Linux %s, %s", identity->machine, identity->kernel,
		   identity->processor.model);
	if (description->processor)
		row_list(table, "requires", description->processor);
}

static void print_program(const struct printing *printing)
{
	const struct description *description = printing->description;
	const struct process_state *state = &description->state;
	struct table table;

	table_init(&table, "ll");
	row(&table, "command", description->command);
	if (state->finished) {
		row_format(&table, "finished", "with exit code %d: --fresh starts it anew",
			   state->exit_code);
	} else {
		row_program(&table, description);
		row(&table, "directory", state->kernel.directory ? state->kernel.directory : "?");
		row_format(&table, "process",
			   "%d when it was captured: %u thread%s, %zu descriptor%s",
			   state->kernel.pid, state->thread_count,
			   state->thread_count == 1 ? "" : "s", description->descriptor_count,
			   description->descriptor_count == 1 ? "" : "s");
		row_waiting(&table, state);
		row_format(&table, "clock", "%s (monotonic), which does not go back",
			   format_duration(state->clocks.monotonic_ns).s);
		row_machine(&table, description);
	}
	row(&table, "restores", format_count(state->restores).s);
	table_print(&table, stdout);
}

/* ---- The address space */

static void print_kind(struct table *table, const struct printing *printing, enum area_kind kind)
{
	const struct description *description = printing->description;
	uint64_t bytes = 0, stored = 0;
	size_t count = 0;

	for (size_t i = 0; i < description->area_count; i++) {
		const struct area *area = &description->areas[i];

		if (area->kind != kind)
			continue;
		count++;
		bytes += area->end - area->start;
		stored += stored_bytes(printing, i);
	}
	if (!count)
		return;
	table_cell(table, area_kind_name(kind));
	table_cell(table, format_count(count).s);
	table_cell(table, format_bytes(bytes).s);
	table_cell(table, format_bytes(stored).s);
}

static void print_kinds(const struct printing *printing)
{
	const struct description *description = printing->description;
	struct table table;
	uint64_t stored = 0;

	for (size_t i = 0; i < description->area_count; i++)
		stored += stored_bytes(printing, i);
	table_init(&table, "lrrr");
	table_cell(&table, "memory");
	table_cell(&table, "areas");
	table_cell(&table, "size");
	table_cell(&table, "in the image");
	for (enum area_kind kind = 0; kind < AREA_KINDS; kind++)
		print_kind(&table, printing, kind);
	table_cell(&table, "all");
	table_cell(&table, format_count(description->area_count).s);
	table_cell(&table, format_bytes(description->bytes).s);
	table_cell(&table, format_bytes(stored).s);
	table_print(&table, stdout);
}

static void print_areas(const struct printing *printing)
{
	const struct description *description = printing->description;
	struct table table;

	table_init(&table, "llrrl");
	table_cell(&table, "area");
	table_cell(&table, "");
	table_cell(&table, "size");
	table_cell(&table, "in the image");
	table_cell(&table, "what");
	for (size_t i = 0; i < description->area_count; i++) {
		const struct area *area = &description->areas[i];
		char range[40];

		snprintf(range, sizeof(range), "%012llx-%012llx", (unsigned long long)area->start,
			 (unsigned long long)area->end);
		table_cell(&table, range);
		table_cell(&table, area_protection(area->protection).s);
		table_cell(&table, format_bytes(area->end - area->start).s);
		table_cell(&table, format_bytes(stored_bytes(printing, i)).s);
		table_cell(&table, *area->name ? area->name : area_short_name(area));
	}
	table_print(&table, stdout);
}

/* ---- Files, threads, descriptors */

static void print_more(size_t count, unsigned most)
{
	if (count > most)
		printf("and %zu more (--all)\n", count - most);
}

static void print_files(const struct printing *printing)
{
	const struct identity *identity = printing->description->state.identity;
	struct table table;

	if (!identity || !identity->count)
		return;
	table_init(&table, "lrl");
	table_cell(&table, "build-id");
	table_cell(&table, "bytes");
	table_cell(&table, "file that has to be the same");
	for (size_t i = 0; i < identity->count && i < printing->most; i++) {
		const struct identity_file *file = &identity->files[i];
		char id[ID_SHOWN + 1];

		snprintf(id, sizeof(id), "%.*s", ID_SHOWN, *file->build_id ? file->build_id : "-");
		table_cell(&table, id);
		table_cell(&table, format_bytes(file->bytes).s);
		table_cell(&table, file->path);
	}
	putchar('\n');
	table_print(&table, stdout);
	print_more(identity->count, printing->most);
}

static void print_threads(const struct printing *printing)
{
	const struct process_state *state = &printing->description->state;
	struct table table;

	table_init(&table, "rll");
	table_cell(&table, "thread");
	table_cell(&table, "name");
	table_cell(&table, "was in");
	for (unsigned i = 0; i < state->thread_count && i < printing->most; i++) {
		table_cell(&table, format_number((uint64_t)state->threads[i].remembered).s);
		table_cell(&table, state->threads[i].name);
		table_cell(&table, call_name(state->threads[i].call).s);
	}
	putchar('\n');
	table_print(&table, stdout);
	print_more(state->thread_count, printing->most);
}

static void print_descriptors(const struct printing *printing)
{
	const struct description *description = printing->description;
	struct table table;

	if (!description->descriptor_count)
		return;
	table_init(&table, "rll");
	table_cell(&table, "descriptor");
	table_cell(&table, "kind");
	table_cell(&table, "after a restore");
	for (size_t i = 0; i < description->descriptor_count && i < printing->most; i++) {
		const struct described_descriptor *descriptor = &description->descriptors[i];

		table_cell(&table, format_number((uint64_t)descriptor->number).s);
		table_cell(&table, descriptor->kind);
		table_cell(&table, descriptor->what);
	}
	putchar('\n');
	table_print(&table, stdout);
	print_more(description->descriptor_count, printing->most);
}

void process_print(const struct description *description, const struct area_pages *pages,
		   uint32_t page_bytes, bool all)
{
	const struct printing printing = {description, pages, page_bytes, all ? -1u : LINES_MOST};

	putchar('\n');
	print_program(&printing);
	if (description->state.finished)
		return;
	putchar('\n');
	print_kinds(&printing);
	if (all) {
		putchar('\n');
		print_areas(&printing);
	}
	print_files(&printing);
	print_threads(&printing);
	print_descriptors(&printing);
}

/* ---- JSON */

static void json_areas(struct json *json, const struct printing *printing)
{
	const struct description *description = printing->description;

	json_open(json, "areas", '[');
	for (size_t i = 0; i < description->area_count; i++) {
		const struct area *area = &description->areas[i];

		json_open(json, NULL, '{');
		json_number(json, "start", area->start);
		json_number(json, "end", area->end);
		json_text(json, "kind", area_kind_name(area->kind));
		json_text(json, "protection", area_protection(area->protection).s);
		json_text(json, "name", area->name);
		if (*area->build_id)
			json_text(json, "buildId", area->build_id);
		json_number(json, "memoryBytes", area->memory_bytes);
		json_number(json, "fileBytes", area->file_bytes);
		json_number(json, "storedPages", printing->pages[i].stored);
		json_number(json, "dirtyPages", printing->pages[i].dirty);
		if (printing->pages[i].lost)
			json_number(json, "lostPages", printing->pages[i].lost);
		json_close(json, '}');
	}
	json_close(json, ']');
}

static void json_files(struct json *json, const struct identity *identity)
{
	json_text(json, "machine", identity->machine);
	json_text(json, "kernel", identity->kernel);
	json_text(json, "processor", identity->processor.model);
	json_open(json, "files", '[');
	for (size_t i = 0; i < identity->count; i++) {
		json_open(json, NULL, '{');
		json_text(json, "path", identity->files[i].path);
		json_number(json, "bytes", identity->files[i].bytes);
		json_text(json, "buildId", identity->files[i].build_id);
		json_close(json, '}');
	}
	json_close(json, ']');
}

static void json_threads(struct json *json, const struct process_state *state)
{
	json_open(json, "threads", '[');
	for (unsigned i = 0; i < state->thread_count; i++) {
		json_open(json, NULL, '{');
		json_number(json, "tid", (uint64_t)state->threads[i].tid);
		json_number(json, "remembered", (uint64_t)state->threads[i].remembered);
		json_text(json, "name", state->threads[i].name);
		if (state->threads[i].call >= 0)
			json_text(json, "call", call_name(state->threads[i].call).s);
		json_close(json, '}');
	}
	json_close(json, ']');
}

static void json_descriptors(struct json *json, const struct description *description)
{
	json_open(json, "descriptors", '[');
	for (size_t i = 0; i < description->descriptor_count; i++) {
		json_open(json, NULL, '{');
		json_number(json, "number", (uint64_t)description->descriptors[i].number);
		json_text(json, "kind", description->descriptors[i].kind);
		json_text(json, "afterRestore", description->descriptors[i].what);
		json_close(json, '}');
	}
	json_close(json, ']');
}

void process_json(struct json *json, const struct description *description,
		  const struct area_pages *pages, uint32_t page_bytes)
{
	const struct printing printing = {description, pages, page_bytes, 0};
	const struct process_state *state = &description->state;

	json_open(json, "process", '{');
	json_number(json, "generation", description->generation);
	json_open(json, "command", '[');
	for (int i = 0; i < state->argument_count; i++)
		json_text(json, NULL, state->arguments[i]);
	json_close(json, ']');
	json_bool(json, "finished", state->finished);
	json_number(json, "restores", state->restores);
	if (state->finished) {
		json_number(json, "exitCode", (uint64_t)state->exit_code);
		json_close(json, '}');
		return;
	}
	if (description->program)
		json_text(json, "program", description->program);
	if (state->kernel.directory)
		json_text(json, "directory", state->kernel.directory);
	json_number(json, "pid", (uint64_t)state->kernel.pid);
	json_number(json, "children", state->kernel.child_count);
	json_number(json, "monotonicNs", state->clocks.monotonic_ns);
	if (description->processor)
		json_text(json, "requires", description->processor);
	json_number(json, "addressSpaceBytes", description->bytes);
	json_files(json, state->identity);
	json_threads(json, state);
	json_descriptors(json, description);
	json_areas(json, &printing);
	json_close(json, '}');
}
