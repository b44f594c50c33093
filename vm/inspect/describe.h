/* SPDX-License-Identifier: MIT */
/*
 * describe.h - words for the values of a heap: the name of a property as source code has it, a
 * number as JavaScript prints it, an object in a few words. All of it is appended to a text. One
 * thread.
 */
#ifndef VM_INSPECT_DESCRIBE_H
#define VM_INSPECT_DESCRIBE_H

#include "graph.h"
#include "base/text_buffer.h"

/*
 * The name of a property as source code appends it to an object: `.name`, `[3]`, `["a b"]`,
 * `[Symbol.iterator]`, `.#private`.
 */
void describe_property(struct text_buffer *text, struct graph *graph, uint32_t atom);
/*
 * The shortest decimal that reads back as the same number, as JavaScript prints it: "0.1", "-0",
 * "NaN".
 */
void describe_number(struct text_buffer *text, double number);
/* A word for the type of a value: "number", "string", "Map", the name of a class. */
void describe_type(struct text_buffer *text, struct graph *graph, struct graph_value value);
/* The file of a module, without its directory, which is the same for most modules of a program. */
void describe_module(struct text_buffer *text, struct graph *graph, struct graph_value module);
/* A value in a few words, for one line: `3`, `"text"`, `Array(3)`, `Map(2)`, `function name`. */
void describe_value(struct text_buffer *text, struct graph *graph, struct graph_value value);

#endif
