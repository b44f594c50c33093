/* SPDX-License-Identifier: MIT */
/*
 * graph_edges_state.h - what the files behind graph_edges() share. Each function passes the
 * references of one kind of thing to the caller's function, and stops when that has said so
 * (`code`) or the budget has ended.
 */
#ifndef VM_INSPECT_GRAPH_EDGES_STATE_H
#define VM_INSPECT_GRAPH_EDGES_STATE_H

#include "graph_heap.h"

#define CHUNK 256u /* JSValues and the like, read at once */

struct walk {
	struct graph *graph;
	graph_each *each;
	void *arg;
	int code; /* what `each` said */
};

/* ---- graph_edges.c: single references. False: the walk ends. */

bool edge_pass(struct walk *walk, const struct graph_edge *edge);
bool edge_pass_text(struct walk *walk, const char *text, struct graph_value to);
bool edge_pass_index(struct walk *walk, enum graph_edge_kind kind, uint32_t index,
		     struct graph_value to);
bool edge_pass_name(struct walk *walk, enum graph_edge_kind kind, uint32_t atom,
		    struct graph_value to);
/* A pointer that may be NULL. */
void edge_pass_pointer(struct walk *walk, const char *text, enum graph_kind kind, uint32_t address);
/* A JSValue at that address. */
void edge_pass_value(struct walk *walk, const char *text, uint64_t at);
/* `count` JSValues that lie side by side. */
void edge_pass_values(struct walk *walk, enum graph_edge_kind kind, uint64_t at, uint64_t count);
/* Pay for entries that are read and not passed on; false: the budget has ended. */
bool edge_pay(struct graph *graph, uint64_t entries);

/* ---- graph_code_edges.c: functions, those that run or wait, modules */

void function_edges(struct walk *walk, const uint8_t *object);
void frame_edges(struct walk *walk, uint64_t at);
/* A function that waits: its `this`, then its frame. */
void state_edges(struct walk *walk, uint64_t at);
void bytecode_edges(struct walk *walk, uint64_t at);
void module_edges(struct walk *walk, uint64_t at);

/* ---- graph_class_edges.c: what an object has besides properties, by its class */

void class_edges(struct walk *walk, unsigned class_id, const uint8_t *object);

#endif
