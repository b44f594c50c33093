/* SPDX-License-Identifier: MIT */
/*
 * export_json_state.h - what the files behind export.h share: export.c walks the objects, export_json_value.c writes
 * what stands for one value.
 */
#ifndef VM_INSPECT_EXPORT_JSON_STATE_H
#define VM_INSPECT_EXPORT_JSON_STATE_H

#include "describe.h"
#include "number_map.h"
#include "export_json.h"
#include "text/json.h"

#define EXPORT_NONE UINT32_MAX /* and one more is 0 */

struct edges { /* what an object refers to, as far as it is shown */
	struct graph_edge *edge;
	size_t count, room;
	uint64_t more; /* not kept: beyond the limit */
};

/* An object that was met: how one gets there. */
struct met {
	uint32_t from; /* index of the object before it, EXPORT_NONE: a root of the output */
	uint32_t name;
	const char *text; /* of GRAPH_INTERNAL */
	uint8_t kind;	  /* enum graph_edge_kind */
	uint32_t module;  /* that has it, EXPORT_NONE: globalThis */
	uint32_t frame;	  /* that has it, EXPORT_NONE: no function that runs */
};

struct level { /* an object that is being written */
	struct graph_value value;
	uint32_t met;
	struct edges edges;
	size_t next;
	char section;  /* what was opened last: a letter, see section_of(); 0: nothing */
	char close;    /* ] or } */
	size_t indent; /* of what is in it */
	bool one_line;
	bool comma;
	bool plain; /* properties stand directly in it */
	bool pairs; /* entries have a key and a value */
};

struct export
{
	struct inspection *inspection;
	struct graph *graph;
	FILE *to;
	struct export_json_options options;
	struct met *met;
	size_t met_room;
	struct number_map met_numbers; /* addresses; the same number is the index in `met` */
	struct level *levels;
	size_t depth, levels_room;
	size_t line;	 /* how far the last line is indented */
	uint32_t module; /* whose variables are written, EXPORT_NONE: globals */
	uint32_t frame;	 /* the same of a function that runs; EXPORT_NONE: another's */
	struct text_buffer text;
	bool failed;
};

/* ---- export_json_value.c */

void export_put(struct export *export, const char *text);
void export_new_line(struct export *export, size_t indent);
/* What was gathered in `text`, which is empty then. */
void export_put_text(struct export *export);
/* As a JSON string; the units are freed. */
void export_put_quoted(struct export *export, struct graph_text units);
/* A name as a key, with what comes between it and its value. */
void export_put_key(struct export *export, uint32_t atom);
/* Everything that is not an object. */
void export_put_primitive(struct export *export, struct graph_value value);
/* The "$type" of an object; and what stands behind it, before what the object refers to. */
void export_put_type(struct export *export, struct graph_value value);
void export_put_special(struct export *export, struct graph_value value, unsigned class_id);
/* A function's name and place. */
void export_put_function(struct export *export, struct graph_value function);

#endif
