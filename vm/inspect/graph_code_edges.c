// SPDX-License-Identifier: MIT
/*
 * graph_code_edges.c - what the program's code refers to in a JavaScript heap: functions and the
 * variables they share, functions that run or wait in the middle, bytecode, modules. Part of
 * graph_edges.c.
 */
#include "graph_edges_state.h"

/*
 * The variables that a closure captures: their names are in its code, their cells in the function.
 */
static void closure_edges(struct walk *walk, struct graph_value code, uint32_t cells)
{
	struct graph *graph = walk->graph;
	uint64_t count = load16(graph, code.bits + BC_CLOSURE_COUNT);
	uint32_t table = load32(graph, code.bits + BC_CLOSURE);

	if (!count || !cells)
		return;
	if (!graph_has(graph, table, count * CLOSURE_BYTES) ||
	    !graph_has(graph, cells, count * 4)) {
		graph->dropped++;
		return;
	}
	if (!edge_pay(graph, count))
		return;
	for (uint64_t i = 0; i < count; i++) {
		uint64_t variable = load64(graph, table + i * CLOSURE_BYTES);
		uint32_t cell = load32(graph, cells + i * 4);
		bool import = ((unsigned)variable & 7) == CLOSURE_MODULE_IMPORT;

		if (cell &&
		    !edge_pass_name(walk, import ? GRAPH_IMPORT : GRAPH_VARIABLE,
				    (uint32_t)(variable >> 32), graph_at(graph, GRAPH_CELL, cell)))
			return;
	}
}

void function_edges(struct walk *walk, const uint8_t *object)
{
	struct graph_value code =
		graph_at(walk->graph, GRAPH_BYTECODE, word32(object, FUNC_BYTECODE));

	if (code.kind != GRAPH_BYTECODE)
		return;
	closure_edges(walk, code, word32(object, FUNC_CELLS));
	edge_pass_pointer(walk, "home_object", GRAPH_OBJECT, word32(object, FUNC_HOME));
	edge_pass_text(walk, "(code)", code);
}

/* `count` values; the first of them are the code's variables from `first` on. */
static bool frame_values(struct walk *walk, uint64_t at, uint64_t count, struct graph_value code,
			 unsigned first, unsigned named)
{
	struct graph *graph = walk->graph;
	uint32_t table = code.kind == GRAPH_BYTECODE ? load32(graph, code.bits + BC_VARIABLES) : 0;

	if (!graph_has(graph, at, count * 8)) {
		graph->dropped++;
		return true;
	}
	for (uint64_t i = 0; i < count; i++) {
		struct graph_value value = graph_load(graph, at + i * 8);
		uint32_t name = 0;

		if (i < named && table)
			name = load32(graph, table + (first + i) * VARIABLE_BYTES + VARIABLE_NAME);
		if (!(name ? edge_pass_name(walk, GRAPH_VARIABLE, name, value)
			   : edge_pass_index(walk, GRAPH_SLOT, (uint32_t)i, value)))
			return false;
	}
	return true;
}

/* The frame of a function that runs, or that waits in an await or yield. */
void frame_edges(struct walk *walk, uint64_t at)
{
	struct graph *graph = walk->graph;
	uint8_t frame[FRAME_BYTES], object[OBJ_BYTES];
	struct graph_value function, code = {GRAPH_OTHER, 0};
	uint64_t arguments, variables, top, cells, count;
	unsigned argument_count = 0, local_count = 0;

	if (!graph_get(graph, at, frame, sizeof(frame)))
		return;
	function = graph_decode(graph, word64(frame, FRAME_FUNCTION));
	edge_pass_text(walk, "(function)", function);
	if (graph_is_function(graph, function) &&
	    graph_class(graph, function) != CLASS_C_FUNCTION &&
	    graph_object(graph, function, object))
		code = graph_guess(graph, GRAPH_BYTECODE, word32(object, FUNC_BYTECODE));
	if (code.kind == GRAPH_BYTECODE) {
		argument_count = load16(graph, code.bits + BC_ARGUMENTS);
		local_count = load16(graph, code.bits + BC_LOCALS);
	}
	arguments = word32(frame, FRAME_ARGUMENTS);
	variables = word32(frame, FRAME_VARIABLES);
	top = word32(frame,
		     FRAME_TOP); /* 0: it runs, and how much it has on its stack is not known */
	count = word16(frame, FRAME_ARGUMENT_COUNT);
	if (count < argument_count)
		count = argument_count;
	if (arguments)
		frame_values(walk, arguments, count, code, 0, argument_count);
	if (variables && code.kind == GRAPH_BYTECODE) {
		frame_values(walk, variables, local_count, code, argument_count, local_count);
		variables += local_count * 8ull;
		if (top > variables && top - variables < 8 * 65536)
			frame_values(walk, variables, (top - variables) / 8, code, 0, 0);
	}
	cells = word32(frame, FRAME_CELLS);
	count = code.kind == GRAPH_BYTECODE ? word16(frame, FRAME_CELL_COUNT) : 0;
	if (!graph_has(graph, cells, count * 4) || !edge_pay(graph, count))
		return;
	for (uint64_t i = 0; i < count; i++) {
		uint32_t cell = load32(graph, cells + i * 4);

		if (cell && !edge_pass_index(walk, GRAPH_SLOT, (uint32_t)i,
					     graph_at(graph, GRAPH_CELL, cell)))
			return;
	}
}

void state_edges(struct walk *walk, uint64_t at)
{
	edge_pass_value(walk, "this", at + STATE_THIS);
	frame_edges(walk, at + STATE_FRAME);
}

void bytecode_edges(struct walk *walk, uint64_t at)
{
	struct graph *graph = walk->graph;

	edge_pass_values(walk, GRAPH_CONSTANT, load32(graph, at + BC_CONSTANTS),
			 load32(graph, at + BC_CONSTANT_COUNT));
	edge_pass_pointer(walk, "(context)", GRAPH_CONTEXT, load32(graph, at + BC_REALM));
}

void module_edges(struct walk *walk, uint64_t at)
{
	struct graph *graph = walk->graph;
	struct graph_value function = graph_load(graph, at + MODULE_FUNCTION);
	uint64_t exports = load32(graph, at + MODULE_EXPORTS);
	uint64_t count = load32(graph, at + MODULE_EXPORT_COUNT);
	uint8_t object[OBJ_BYTES];

	if (graph_class(graph, function) == CLASS_FUNCTION &&
	    graph_object(graph, function, object)) {
		struct graph_value code =
			graph_at(graph, GRAPH_BYTECODE, word32(object, FUNC_BYTECODE));

		if (code.kind == GRAPH_BYTECODE)
			closure_edges(walk, code, word32(object, FUNC_CELLS));
	}
	if (count && !graph_has(graph, exports, count * EXPORT_BYTES)) {
		graph->dropped++;
		count = 0;
	}
	if (!edge_pay(graph, count))
		return;
	for (uint64_t i = 0; i < count; i++) {
		uint8_t entry[EXPORT_BYTES];

		if (!graph_get(graph, exports + i * EXPORT_BYTES, entry, sizeof(entry)))
			return;
		if (word32(entry, EXPORT_TYPE) || !word32(entry, EXPORT_CELL))
			continue; /* of another module, or not linked yet */
		if (!edge_pass_name(walk, GRAPH_PROPERTY, word32(entry, EXPORT_NAME),
				    graph_at(graph, GRAPH_CELL, word32(entry, EXPORT_CELL))))
			return;
	}
	edge_pass_text(walk, "(function)", function);
	edge_pass_value(walk, "(namespace)", at + MODULE_VALUES);
	edge_pass_value(walk, "(namespace)", at + MODULE_VALUES + 8);
	edge_pass_value(walk, "(promise)", at + MODULE_PROMISE);
	edge_pass_value(walk, "(resolve)", at + MODULE_PROMISE + 8);
	edge_pass_value(walk, "(reject)", at + MODULE_PROMISE + 16);
	edge_pass_value(walk, "(exception)", at + MODULE_EXCEPTION);
	edge_pass_value(walk, "import.meta", at + MODULE_META);
	edge_pass_value(walk, "(private)", at + MODULE_PRIVATE);
}
