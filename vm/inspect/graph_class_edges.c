// SPDX-License-Identifier: MIT
/*
 * graph_class_edges.c - what an object in a JavaScript heap refers to besides its properties, by
 * its class: elements, the entries of collections, targets, results. Part of graph_edges.c.
 */
#include "graph_edges_state.h"

/* A block of the engine whose layout is not known here: every word that is a value in the heap. */
static void block_edges(struct walk *walk, uint32_t block)
{
	uint64_t bytes = graph_block_bytes(walk->graph, block), words[CHUNK];

	bytes = bytes > BLOCK_HEADER ? (bytes - BLOCK_HEADER) & ~7ull : 0;
	if (bytes > sizeof(words))
		bytes = sizeof(words);
	if (!graph_has(walk->graph, block, bytes) || !edge_pay(walk->graph, bytes / 8))
		return;
	graph_get(walk->graph, block, words, bytes);
	for (unsigned i = 0; i < bytes / 8; i++) {
		int32_t tag = (int32_t)(words[i] >> 32);
		enum graph_kind kind = tag == BOX_OBJECT   ? GRAPH_OBJECT
				       : tag == BOX_STRING ? GRAPH_STRING
				       : tag == BOX_ROPE   ? GRAPH_ROPE
				       : tag == BOX_SYMBOL ? GRAPH_SYMBOL
							   : GRAPH_OTHER;
		struct graph_value value = {GRAPH_OTHER, 0};
		uint64_t unused;
		uint32_t units;
		bool wide;

		if (kind != GRAPH_OTHER)
			value = graph_guess(walk->graph, kind, (uint32_t)words[i]);
		/* What was freed in the block may still look like a string. */
		if ((value.kind == GRAPH_STRING || value.kind == GRAPH_SYMBOL) &&
		    (!graph_block_bytes(walk->graph, (uint32_t)value.bits) ||
		     !graph_string_place(walk->graph, (uint32_t)value.bits, &unused, &units,
					 &wide)))
			value.kind = GRAPH_OTHER;
		if (value.kind != GRAPH_OTHER && !edge_pass_index(walk, GRAPH_SLOT, i, value))
			return;
	}
}

/* ---- Collections */

static void map_edges(struct walk *walk, unsigned class_id, uint32_t state)
{
	struct graph *graph = walk->graph;
	bool weak = class_id == CLASS_WEAK_MAP || class_id == CLASS_WEAK_SET;
	bool values = class_id == CLASS_MAP || class_id == CLASS_WEAK_MAP;
	uint64_t head = (uint64_t)state + MAP_RECORDS, at;
	uint32_t index = 0;

	if (!state || !graph_has(graph, head, LIST_BYTES))
		return;
	at = load32(graph, head + LIST_NEXT);
	while (at != head && graph_spend(graph, 1)) {
		struct graph_edge edge = {.kind = GRAPH_KEY, .name = index, .weak = weak};
		uint8_t record[RECORD_BYTES];

		if (at < RECORD_LINK || !graph_get(graph, at - RECORD_LINK, record, sizeof(record)))
			return;
		at = word32(record, RECORD_LINK + LIST_NEXT);
		if (record[RECORD_EMPTY]) /* deleted, and kept for an iterator */
			continue;
		edge.to = graph_decode(graph, word64(record, RECORD_KEY));
		if (!edge_pass(walk, &edge))
			return;
		edge.kind = GRAPH_ENTRY;
		edge.weak = false;
		if (values) {
			edge.to = graph_decode(graph, word64(record, RECORD_VALUE));
			if (!edge_pass(walk, &edge))
				return;
		}
		index++;
	}
}

/* Each record of a list begins with its link and has `values` JSValues at `offset`. */
static void list_edges(struct walk *walk, uint64_t head, unsigned offset, unsigned values,
		       unsigned weak)
{
	struct graph *graph = walk->graph;
	uint32_t at, index = 0;

	if (!graph_has(graph, head, LIST_BYTES))
		return;
	at = load32(graph, head + LIST_NEXT);
	while (at != head && graph_spend(graph, 1)) {
		for (unsigned i = 0; i < values; i++) {
			const struct graph_edge edge = {
				.kind = GRAPH_SLOT,
				.name = index++,
				.weak = weak >> i & 1,
				.to = graph_load(graph, (uint64_t)at + offset + 8 * i)};

			if (!edge_pass(walk, &edge))
				return;
		}
		if (!graph_has(graph, at, LIST_BYTES))
			return;
		at = load32(graph, at + LIST_NEXT);
	}
}

static void elements_edges(struct walk *walk, unsigned class_id, const uint8_t *object)
{
	struct graph *graph = walk->graph;
	uint64_t count = word32(object, ARRAY_COUNT), values = word32(object, ARRAY_VALUES);

	if (!(word16(object, OBJ_FLAGS) & OBJ_FAST_ARRAY) || !count)
		return;
	if (class_id != CLASS_MAPPED_ARGUMENTS) {
		edge_pass_values(walk, GRAPH_ELEMENT, values, count);
		return;
	}
	if (!graph_has(graph, values, count * 4)) {
		graph->dropped++;
		return;
	}
	for (uint64_t i = 0; i < count; i++)
		if (!edge_pass_index(walk, GRAPH_ELEMENT, (uint32_t)i,
				     graph_at(graph, GRAPH_CELL, load32(graph, values + i * 4))))
			return;
}

/* ---- Objects */

static bool class_is_typed(unsigned class_id)
{
	return class_id >= CLASS_TYPED_FIRST && class_id <= CLASS_DATA_VIEW;
}

/* Classes whose objects point to a block of unknown layout, or to nothing. */
static bool class_has_block(unsigned class_id)
{
	return class_id == CLASS_C_CLOSURE || class_id == 18 ||
	       (class_id > 40 && class_id < CLASS_GENERATOR) || class_id == 50 || class_id == 58 ||
	       class_id == 61 || class_id == 64 || class_id == 65;
}

static void generator_edges(struct walk *walk, unsigned class_id, uint32_t data)
{
	struct graph *graph = walk->graph;
	bool async = class_id == CLASS_ASYNC_GENERATOR;
	uint32_t state;

	if (!graph_has(graph, data, async ? GENERATOR_QUEUE + LIST_BYTES : GENERATOR_QUEUE))
		return;
	state = load32(graph, data + (async ? 4 : GENERATOR_STATE));
	if (state < GENERATOR_DONE) /* an async one may also wait to return */
		state_edges(walk, (uint64_t)data + GENERATOR_FUNCTION);
	if (async)
		list_edges(walk, (uint64_t)data + GENERATOR_QUEUE, REQUEST_VALUES, 4, 0);
}

void class_edges(struct walk *walk, unsigned class_id, const uint8_t *object)
{
	struct graph *graph = walk->graph;
	uint32_t data = word32(object, OBJ_DATA);

	switch (class_id) {
	case CLASS_ARRAY:
	case CLASS_ARGUMENTS:
	case CLASS_MAPPED_ARGUMENTS:
		elements_edges(walk, class_id, object);
		break;
	case CLASS_FUNCTION:
	case CLASS_GENERATOR_FUNCTION:
	case CLASS_ASYNC_FUNCTION:
	case CLASS_ASYNC_GENERATOR_FUNCTION:
		function_edges(walk, object);
		break;
	case CLASS_C_FUNCTION:
		edge_pass_pointer(walk, "(context)", GRAPH_CONTEXT, data);
		break;
	case CLASS_BOUND_FUNCTION:
		edge_pass_value(walk, "(target)", (uint64_t)data + BOUND_FUNCTION);
		edge_pass_value(walk, "this", (uint64_t)data + BOUND_THIS);
		edge_pass_values(walk, GRAPH_SLOT, (uint64_t)data + BOUND_ARGUMENTS,
				 load32(graph, (uint64_t)data + BOUND_COUNT));
		break;
	case CLASS_C_FUNCTION_DATA:
		edge_pass_values(walk, GRAPH_SLOT, (uint64_t)data + DATA_VALUES,
				 load8(graph, (uint64_t)data + DATA_COUNT));
		break;
	case CLASS_REGEXP:
		edge_pass_pointer(walk, "(source)", GRAPH_STRING, word32(object, REGEXP_PATTERN));
		edge_pass_pointer(walk, "(code)", GRAPH_STRING, word32(object, REGEXP_CODE));
		break;
	case CLASS_MAP:
	case CLASS_SET:
	case CLASS_WEAK_MAP:
	case CLASS_WEAK_SET:
		map_edges(walk, class_id, data);
		break;
	case CLASS_GENERATOR:
	case CLASS_ASYNC_GENERATOR:
		generator_edges(walk, class_id, data);
		break;
	case CLASS_PROXY:
		edge_pass_value(walk, "(target)", (uint64_t)data + PROXY_TARGET);
		edge_pass_value(walk, "(handler)", (uint64_t)data + PROXY_HANDLER);
		break;
	case CLASS_PROMISE:
		edge_pass_value(walk, "(result)", (uint64_t)data + PROMISE_RESULT);
		for (unsigned i = 0; i < 2; i++)
			list_edges(walk, (uint64_t)data + PROMISE_REACTIONS + i * LIST_BYTES,
				   REACTION_VALUES, 3, 0);
		break;
	case CLASS_PROMISE_RESOLVE:
	case CLASS_PROMISE_REJECT:
		edge_pass_value(walk, "(promise)", data);
		break;
	case CLASS_ASYNC_RESOLVE:
	case CLASS_ASYNC_REJECT:
		edge_pass_pointer(walk, "(call)", GRAPH_ASYNC, data);
		break;
	case CLASS_WEAK_REF: {
		struct graph_edge edge = {.kind = GRAPH_INTERNAL,
					  .text = "(target)",
					  .weak = true,
					  .to = graph_load(graph, data)};

		/* A cleared one points to a word of the engine that marks it, which is no value. */
		if (edge.to.kind != GRAPH_OBJECT && edge.to.kind != GRAPH_SYMBOL)
			edge.to = (struct graph_value){GRAPH_UNDEFINED, 0};
		edge_pass(walk, &edge);
		break;
	}
	case CLASS_REGISTRY:
		edge_pass_value(walk, "(callback)", (uint64_t)data + REGISTRY_CALLBACK);
		list_edges(walk, data, ENTRY_VALUES, 3, 5); /* target and token are weak */
		break;
	default:
		if (graph_is_boxed(class_id))
			edge_pass_text(walk, class_id == CLASS_ERROR ? "(stack)" : "(value)",
				       graph_decode(graph, word64(object, OBJ_DATA)));
		else if (class_is_typed(class_id))
			edge_pass_pointer(walk, "buffer", GRAPH_OBJECT,
					  load32(graph, (uint64_t)data + TYPED_BUFFER));
		else if (class_has_block(class_id) && data)
			block_edges(walk, data);
		break;
	}
}
