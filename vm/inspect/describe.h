/* SPDX-License-Identifier: MIT */
/*
 * describe.h - what the commands that look inside a generation share: opening one as a graph of objects, and
 * what they call and count as things of the program.
 */
#ifndef VM_INSPECT_DESCRIBE_H
#define VM_INSPECT_DESCRIBE_H

#include "cli/cli.h"
#include "js/state/blob.h"
#include "graph.h"

/* One generation of an image, open for reading. */
struct inspection {
	struct thaw_view *view;
	struct js_blob blob;
	struct graph *graph;
	const char *path;
	uint64_t generation;
};

/* `generation` 0: the newest. `path` is what messages call the image. On failure nothing is open. */
int inspection_open(struct inspection *inspection, struct thaw_image *image, const char *path,
		    uint64_t generation, struct thaw_error *error);
void inspection_close(struct inspection *inspection);

/* Is it a global that every program has from its start? */
bool inspection_is_builtin(struct graph *graph, uint32_t atom);
/* Is it a module of the program's, and not the runtime's own? */
bool inspection_is_program_module(struct graph *graph, struct graph_value module);

/* ---- Text, growing */

struct text_buffer {
	char *s; /* terminated, but for an empty one: NULL */
	size_t bytes, room;
	bool failed; /* no memory: what is there is not all */
};
void text_buffer_add(struct text_buffer *text, const char *more);
void text_buffer_add_units(struct text_buffer *text, const uint16_t *units, size_t count);
void text_buffer_printf(struct text_buffer *text, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
/* An atom as a property is written: `name`, `[3]`, `["a b"]`, `[Symbol.iterator]`, `#private`; with the dot. */
void describe_property(struct text_buffer *text, struct graph *graph, uint32_t atom);
/* As in JSON, with its quotes; text that is no UTF-16 keeps its units as \uXXXX. */
void text_buffer_add_quoted(struct text_buffer *text, const uint16_t *units, size_t count);
/* The shortest decimal that reads back as the same number, as JavaScript prints it: "0.1", "-0", "NaN". */
void describe_number(struct text_buffer *text, double number);
/* A word for what a value is: "number", "string", "Map", a class's name. */
void describe_type(struct text_buffer *text, struct graph *graph, struct graph_value value);
/* A value in a few words, for one line: `3`, `"text"`, `Array(3)`, `Map(2)`, `function name`. */
void describe_value(struct text_buffer *text, struct graph *graph, struct graph_value value);

#endif
