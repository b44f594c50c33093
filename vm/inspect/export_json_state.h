/* SPDX-License-Identifier: MIT */
/* export_json_state.h - what the files of export_json.h share. */
#ifndef VM_INSPECT_EXPORT_JSON_STATE_H
#define VM_INSPECT_EXPORT_JSON_STATE_H

#include "describe.h"
#include "number_map.h"
#include "export_json.h"
#include "base/json.h"

#define EXPORT_NONE UINT32_MAX /* and one more is 0 */

struct edges { /* what an object refers to, as far as it is shown */
	struct graph_edge *edge;
	size_t count, room;
	uint64_t more; /* not kept: beyond the limit */
};

/* An object or a long text that was written: how one gets there. */
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
	bool plain; /* properties stand directly in it */
	bool pairs; /* entries have a key and a value */
};

struct exporter {
	struct inspection *inspection;
	struct graph *graph;
	struct json json;
	struct export_json_options options;
	struct met *met;
	size_t met_room;
	struct number_map met_numbers; /* addresses; the same number is the index in `met` */
	struct level *levels;
	size_t depth, levels_room;
	uint32_t module; /* whose variables are written, EXPORT_NONE: globals */
	uint32_t frame;	 /* the same of a function that runs; EXPORT_NONE: another's */
	bool failed;
};

/* ---- export_json_path.c */

/* EXPORT_NONE: it was not met yet. */
uint32_t export_json_find(const struct exporter *exporter, uint32_t address);
/* It is met now. Returns its index; EXPORT_NONE: no memory. */
uint32_t export_json_met(struct exporter *exporter, uint32_t address, const struct met *met);
void export_json_put_reference(struct exporter *exporter, uint32_t index);

/* ---- export_json_object.c */

/* Append an edge, unless there are enough; a key comes with its value or not at all. 0 or -ENOMEM. */
int export_json_keep(struct exporter *exporter, struct edges *edges, const struct graph_edge *edge);
/* Append what an object shows. */
void export_json_collect(struct exporter *exporter, struct graph_value value, bool global,
			 struct edges *edges);
/* A value with all that it leads to; `edge` led to it. */
void export_json_put_tree(struct exporter *exporter, struct graph_value value,
			  const struct graph_edge *edge);

/* ---- export_json_value.c */

/* The name of a property. */
void export_json_put_name(struct exporter *exporter, uint32_t atom);
/* What stands for a getter or a setter: it is not called. */
void export_json_put_accessor(struct exporter *exporter, const char *type);
/* Everything that is not an object. */
void export_json_put_primitive(struct exporter *exporter, struct graph_value value);
/* The "$type" of an object; then what belongs to its class: a time, bytes, a state. */
void export_json_put_type(struct exporter *exporter, struct graph_value value);
void export_json_put_special(struct exporter *exporter, struct graph_value value,
			     unsigned class_id);
/* A function's name and place. */
void export_json_put_function(struct exporter *exporter, struct graph_value function);

#endif
