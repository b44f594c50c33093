// SPDX-License-Identifier: MIT
/*
 * graph_edges.c - what refers to what in a JavaScript heap: properties, the engine's own records,
 * the roots. graph_code_edges.c and graph_class_edges.c have the rest.
 *
 * Every reference is a step of the budget (graph_begin): objects made to share one huge table cost
 * no more than a heap full of small ones.
 */
#include "graph_edges_state.h"

/*
 * Entries that are read and not passed on cost less than references; but a heap must not make a
 * reader go over the same ones again and again for nothing.
 */
bool edge_pay(struct graph *graph, uint64_t entries)
{
	return graph_spend(graph, entries / 8 + 1) == entries / 8 + 1;
}

/* ---- Single references */

bool edge_pass(struct walk *walk, const struct graph_edge *edge)
{
	if (!walk->code && graph_spend(walk->graph, 1))
		walk->code = walk->each(walk->arg, edge);
	else if (!walk->code)
		return false;
	return !walk->code;
}

bool edge_pass_text(struct walk *walk, const char *text, struct graph_value to)
{
	const struct graph_edge edge = {.kind = GRAPH_INTERNAL, .text = text, .to = to};

	return edge_pass(walk, &edge);
}

bool edge_pass_index(struct walk *walk, enum graph_edge_kind kind, uint32_t index,
		     struct graph_value to)
{
	const struct graph_edge edge = {.kind = (uint8_t)kind, .name = index, .to = to};

	return edge_pass(walk, &edge);
}

bool edge_pass_name(struct walk *walk, enum graph_edge_kind kind, uint32_t atom,
		    struct graph_value to)
{
	const struct graph_edge edge = {
		.kind = (uint8_t)kind, .name = atom, .enumerable = true, .to = to};

	return edge_pass(walk, &edge);
}

void edge_pass_pointer(struct walk *walk, const char *text, enum graph_kind kind, uint32_t address)
{
	if (address)
		edge_pass_text(walk, text, graph_at(walk->graph, kind, address));
}

void edge_pass_value(struct walk *walk, const char *text, uint64_t at)
{
	edge_pass_text(walk, text, graph_load(walk->graph, at));
}

void edge_pass_values(struct walk *walk, enum graph_edge_kind kind, uint64_t at, uint64_t count)
{
	uint64_t words[CHUNK];

	if (count && !graph_has(walk->graph, at, count * 8)) {
		walk->graph->dropped++;
		return;
	}
	for (uint64_t done = 0, part; done < count; done += part) {
		part = count - done < CHUNK ? count - done : CHUNK;
		if (!graph_get(walk->graph, at + done * 8, words, part * 8))
			return;
		for (uint64_t i = 0; i < part; i++)
			if (!edge_pass_index(walk, kind, (uint32_t)(done + i),
					     graph_decode(walk->graph, words[i])))
				return;
	}
}

/* ---- Properties */

static bool property_edges(struct walk *walk, uint32_t atom, unsigned flags, uint64_t word)
{
	struct graph_edge edge = {
		.kind = GRAPH_PROPERTY,
		.name = atom,
		.enumerable = flags & PROPERTY_ENUMERABLE,
	};
	uint32_t getter = (uint32_t)word, setter = (uint32_t)(word >> 32);

	switch (flags & PROPERTY_KIND) {
	case PROPERTY_NORMAL:
		edge.to = graph_decode(walk->graph, word);
		return edge_pass(walk, &edge);
	case PROPERTY_CELL:
		edge.to = graph_at(walk->graph, GRAPH_CELL, (uint32_t)word);
		return edge_pass(walk, &edge);
	case PROPERTY_LAZY:
		edge.to.kind = GRAPH_LAZY;
		return edge_pass(walk, &edge);
	default:
		break;
	}
	if (getter || !setter) {
		edge.kind = GRAPH_GETTER;
		edge.to.kind = GRAPH_UNDEFINED;
		if (getter)
			edge.to = graph_at(walk->graph, GRAPH_OBJECT, getter);
		if (!edge_pass(walk, &edge))
			return false;
	}
	if (setter) {
		edge.kind = GRAPH_SETTER;
		edge.to = graph_at(walk->graph, GRAPH_OBJECT, setter);
		return edge_pass(walk, &edge);
	}
	return true;
}

static void properties_edges(struct walk *walk, const uint8_t *object)
{
	struct graph *graph = walk->graph;
	struct graph_value shape = graph_at(graph, GRAPH_SHAPE, word32(object, OBJ_SHAPE));
	uint64_t names[CHUNK], words[CHUNK], table, count;
	uint32_t values = word32(object, OBJ_PROPERTIES), proto;
	uint8_t fields[SHAPE_TABLE];

	if (shape.kind != GRAPH_SHAPE || !graph_get(graph, shape.bits, fields, sizeof(fields)))
		return;
	count = word32(fields, SHAPE_COUNT);
	table = shape.bits + SHAPE_TABLE + 4 * ((uint64_t)word32(fields, SHAPE_HASH_MASK) + 1);
	if (!graph_has(graph, table, count * SHAPE_PROPERTY_BYTES) ||
	    !graph_has(graph, values, count * 8)) {
		graph->dropped++;
		count = 0;
	}
	for (uint64_t done = 0, part; done < count; done += part) {
		part = count - done < CHUNK ? count - done : CHUNK;
		if (!edge_pay(graph, part) ||
		    !graph_get(graph, table + done * 8, names, part * 8) ||
		    !graph_get(graph, values + done * 8, words, part * 8))
			return;
		for (uint64_t i = 0; i < part; i++) {
			uint32_t atom = (uint32_t)(names[i] >> 32);

			if (atom && !property_edges(walk, atom, (uint32_t)names[i] >> 26, words[i]))
				return;
		}
	}
	proto = word32(fields, SHAPE_PROTO);
	if (proto)
		edge_pass_text(walk, "__proto__", graph_at(graph, GRAPH_OBJECT, proto));
	edge_pass_text(walk, "(shape)", shape);
}

/* ---- The context */

static void context_edges(struct walk *walk, uint64_t at)
{
	struct graph *graph = walk->graph;

	edge_pass_value(walk, "(global object)", at + CX_GLOBAL_OBJECT);
	edge_pass_value(walk, "(global variables)", at + CX_GLOBAL_VARIABLES);
	edge_pass_values(walk, GRAPH_SLOT, load32(graph, at + CX_CLASS_PROTO), graph->class_count);
	edge_pass_values(walk, GRAPH_SLOT, at + CX_VALUES, (CX_GLOBAL_OBJECT - CX_VALUES) / 8);
	for (unsigned i = CX_SHAPES; i < CX_SHAPES_END; i += 4)
		edge_pass_pointer(walk, "(shape)", GRAPH_SHAPE, load32(graph, at + i));
}

/* ---- Roots */

static void modules_edges(struct walk *walk)
{
	struct graph *graph = walk->graph;
	uint32_t head = graph->context + CX_MODULES, at = load32(graph, head + LIST_NEXT);

	for (uint32_t index = 0; at != head && at >= MODULE_LINK; index++) {
		struct graph_value module = graph_at(graph, GRAPH_MODULE, at - MODULE_LINK);

		if (module.kind != GRAPH_MODULE ||
		    !edge_pass_index(walk, GRAPH_SLOT, index, module))
			return;
		at = load32(graph, at + LIST_NEXT);
	}
}

static void jobs_edges(struct walk *walk)
{
	struct graph *graph = walk->graph;
	uint32_t head = graph->runtime + RT_JOBS, at = load32(graph, head + LIST_NEXT);

	while (at != head && graph_spend(graph, 1)) {
		if (!graph_has(graph, at, JOB_VALUES))
			return;
		edge_pass_values(walk, GRAPH_SLOT, (uint64_t)at + JOB_VALUES,
				 load32(graph, (uint64_t)at + JOB_COUNT));
		at = load32(graph, at + LIST_NEXT);
	}
}

static void stack_edges(struct walk *walk)
{
	struct graph *graph = walk->graph;
	uint32_t at = load32(graph, graph->runtime + RT_STACK_FRAME);

	while (at && graph_has(graph, at, FRAME_BYTES) && graph_spend(graph, 1) && !walk->code) {
		frame_edges(walk, at);
		at = load32(graph, at + FRAME_PREVIOUS);
	}
}

static void host_edges(struct walk *walk)
{
	edge_pass_value(walk, "(exception)", walk->graph->runtime + RT_EXCEPTION);
	for (unsigned i = 0; i < HOST_HANDLES; i++)
		if (walk->graph->handles[i])
			edge_pass_value(walk, "(handle)", walk->graph->handles[i]);
}

static void atoms_edges(struct walk *walk)
{
	for (uint32_t atom = 1; atom < walk->graph->atom_count; atom++) {
		uint32_t string = graph_atom_string(walk->graph, atom);
		enum graph_atom kind;

		if (!string)
			continue;
		kind = graph_atom_kind(walk->graph, atom);
		if (!edge_pass_index(walk, GRAPH_SLOT, atom,
				     (struct graph_value){kind == GRAPH_ATOM_STRING ? GRAPH_STRING
										    : GRAPH_SYMBOL,
							  string}))
			return;
	}
}

static const char *const root_names[GRAPH_ROOTS] = {
	[GRAPH_ROOT_GC] = "(GC roots)", [GRAPH_ROOT_MODULES] = "(modules)",
	[GRAPH_ROOT_STACK] = "(stack)", [GRAPH_ROOT_JOBS] = "(jobs)",
	[GRAPH_ROOT_HOST] = "(host)",	[GRAPH_ROOT_RUNTIME] = "(runtime)",
	[GRAPH_ROOT_ATOMS] = "(names)", [GRAPH_ROOT_REST] = "(engine)",
};

const char *graph_root_name(enum graph_root root)
{
	return root < GRAPH_ROOTS && root_names[root] ? root_names[root] : "";
}

static void root_edges(struct walk *walk, enum graph_root root)
{
	struct graph *graph = walk->graph;

	switch (root) {
	case GRAPH_ROOT_ALL:
		edge_pass_text(walk, "globalThis", graph_global(graph));
		edge_pass_text(walk, "(global variables)", graph_global_variables(graph));
		modules_edges(walk);
		edge_pass_text(walk, root_names[GRAPH_ROOT_GC],
			       (struct graph_value){GRAPH_ROOT, GRAPH_ROOT_GC});
		break;
	case GRAPH_ROOT_GC:
		for (unsigned i = GRAPH_ROOT_MODULES; i < GRAPH_ROOTS; i++)
			edge_pass_text(walk, root_names[i], (struct graph_value){GRAPH_ROOT, i});
		break;
	case GRAPH_ROOT_MODULES:
		modules_edges(walk);
		break;
	case GRAPH_ROOT_STACK:
		stack_edges(walk);
		break;
	case GRAPH_ROOT_JOBS:
		jobs_edges(walk);
		break;
	case GRAPH_ROOT_HOST:
		host_edges(walk);
		break;
	case GRAPH_ROOT_RUNTIME:
		edge_pass_pointer(walk, "(context)", GRAPH_CONTEXT, graph->context);
		break;
	case GRAPH_ROOT_ATOMS:
		atoms_edges(walk);
		break;
	default:
		break;
	}
}

int graph_edges(struct graph *graph, struct graph_value from, graph_each *each, void *arg)
{
	struct walk walk = {.graph = graph, .each = each, .arg = arg};
	uint8_t object[OBJ_BYTES];

	switch (from.kind) {
	case GRAPH_OBJECT:
		if (!graph_object(graph, from, object))
			break;
		class_edges(&walk, graph_class(graph, from), object);
		if (!walk.code)
			properties_edges(&walk, object);
		break;
	case GRAPH_STRING:
		if ((load32(graph, from.bits + STR_HASH) >> 28 & 3) == STRING_SLICE)
			edge_pass_pointer(&walk, "(parent)", GRAPH_STRING,
					  load32(graph, from.bits + STR_TEXT));
		break;
	case GRAPH_ROPE:
		edge_pass_value(&walk, "(first)", from.bits + ROPE_LEFT);
		edge_pass_value(&walk, "(second)", from.bits + ROPE_RIGHT);
		break;
	case GRAPH_BYTECODE:
		bytecode_edges(&walk, from.bits);
		break;
	case GRAPH_CELL:
		edge_pass_text(&walk, "(value)", graph_follow(graph, from));
		break;
	case GRAPH_SHAPE:
		edge_pass_pointer(&walk, "__proto__", GRAPH_OBJECT,
				  load32(graph, from.bits + SHAPE_PROTO));
		break;
	case GRAPH_ASYNC:
		edge_pass_values(&walk, GRAPH_SLOT, from.bits + ASYNC_RESOLVERS, 2);
		if (load8(graph, from.bits + ASYNC_ACTIVE))
			state_edges(&walk, from.bits + ASYNC_STATE);
		break;
	case GRAPH_CONTEXT:
		context_edges(&walk, from.bits);
		break;
	case GRAPH_MODULE:
		module_edges(&walk, from.bits);
		break;
	case GRAPH_ROOT:
		root_edges(&walk, (enum graph_root)from.bits);
		break;
	default:
		break;
	}
	return walk.code;
}
