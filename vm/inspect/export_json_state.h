/* SPDX-License-Identifier: MIT */
/* export_json_state.h - what the files of export_json.h share. */
#ifndef VM_INSPECT_EXPORT_JSON_STATE_H
#define VM_INSPECT_EXPORT_JSON_STATE_H

#include "describe.h"
#include "number_map.h"
#include "export_json.h"
#include "base/json.h"

#define EXPORT_NONE UINT32_MAX /* EXPORT_NONE + 1 is 0 */

struct edges { /* what an object refers to and shows */
	struct graph_edge *edge;
	size_t count, room;
	uint64_t more; /* beyond the limit, and left out */
};

/* An object or a long text that was written: the last step of the path to it. */
struct met {
	uint32_t from; /* index of the object that refers to it; EXPORT_NONE: it is a root */
	uint32_t name;
	const char *text; /* of GRAPH_INTERNAL */
	uint8_t kind;	  /* enum graph_edge_kind */
	uint32_t module;  /* of the root; EXPORT_NONE: it is globalThis */
	uint32_t frame;	  /* of the root: which function that runs; EXPORT_NONE: none */
};

struct level { /* an object that is being written */
	struct graph_value value;
	uint32_t met;
	struct edges edges;
	size_t next;
	char section;  /* that is open: a letter, see section_of(); 0: none */
	char close;    /* the closing bracket */
	size_t indent; /* of its members */
	bool one_line;
	bool plain; /* properties are its own members, and not in a section */
	bool pairs; /* entries have a key and a value */
};

struct exporter {
	struct inspection *inspection;
	struct graph *graph;
	struct json json;
	struct export_json_options options;
	struct met *met;
	size_t met_room;
	struct number_map met_numbers; /* addresses; the number of each is its index in `met` */
	struct level *levels;
	size_t depth, levels_room;
	uint32_t module; /* whose variables are being written; EXPORT_NONE: globals */
	uint32_t frame;	 /* the same for functions that run; EXPORT_NONE: none of them */
	bool failed;
};

/* ---- export_json_path.c */

/* EXPORT_NONE: it was not met yet. */
uint32_t export_json_find(const struct exporter *exporter, uint32_t address);
/* Remember that it is written now. Returns its index; EXPORT_NONE: no memory. */
uint32_t export_json_met(struct exporter *exporter, uint32_t address, const struct met *met);
void export_json_put_reference(struct exporter *exporter, uint32_t index);

/* ---- export_json_object.c */

/* Append an edge, or count it if the limit is reached; a value follows its key. 0 or -ENOMEM. */
int export_json_keep(struct exporter *exporter, struct edges *edges, const struct graph_edge *edge);
/* Append the edges that are shown of an object. */
void export_json_collect(struct exporter *exporter, struct graph_value value, bool global,
			 struct edges *edges);
/* A value and everything that it leads to. `edge` leads to the value. */
void export_json_put_tree(struct exporter *exporter, struct graph_value value,
			  const struct graph_edge *edge);

/* ---- export_json_value.c */

/* The name of a property. */
void export_json_put_name(struct exporter *exporter, uint32_t atom);
/* A getter or a setter is only named, and never called. */
void export_json_put_accessor(struct exporter *exporter, const char *type);
/* Any value that is not an object. */
void export_json_put_primitive(struct exporter *exporter, struct graph_value value);
/* The "$type" of an object; then what belongs to its class: a time, bytes, a state. */
void export_json_put_type(struct exporter *exporter, struct graph_value value);
void export_json_put_special(struct exporter *exporter, struct graph_value value,
			     unsigned class_id);
/* A function's name and place. */
void export_json_put_function(struct exporter *exporter, struct graph_value function);

#endif
