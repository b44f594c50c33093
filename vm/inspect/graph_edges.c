// SPDX-License-Identifier: MIT
/*
 * graph_edges.c - what refers to what in a JavaScript heap, by kind and class.
 *
 * Every reference is a step of the budget (graph_begin): objects made to share one huge table cost no
 * more than a heap full of small ones.
 */
#include "graph_heap.h"

#define CHUNK 256u /* JSValues and the like, read at once */

/*
 * Entries that are passed over are not told, and cost less; but a heap must not have us pass over the same
 * ones again and again.
 */
static bool pay_for(struct graph *graph, uint64_t entries)
{
	return graph_spend(graph, entries / 8 + 1) == entries / 8 + 1;
}

struct walk {
	struct graph *graph;
	graph_each *each;
	void *arg;
	int code; /* what `each` said */
};

/* ---- Telling */

static bool tell(struct walk *walk, const struct graph_edge *edge)
{
	if (!walk->code && graph_spend(walk->graph, 1))
		walk->code = walk->each(walk->arg, edge);
	else if (!walk->code)
		return false;
	return !walk->code;
}

static bool tell_text(struct walk *walk, const char *text, struct graph_value to)
{
	const struct graph_edge edge = {.kind = GRAPH_INTERNAL, .text = text, .to = to};

	return tell(walk, &edge);
}

static bool tell_index(struct walk *walk, enum graph_edge_kind kind, uint32_t index,
		       struct graph_value to)
{
	const struct graph_edge edge = {.kind = (uint8_t)kind, .name = index, .to = to};

	return tell(walk, &edge);
}

static bool tell_name(struct walk *walk, enum graph_edge_kind kind, uint32_t atom,
		      struct graph_value to)
{
	const struct graph_edge edge = {
		.kind = (uint8_t)kind, .name = atom, .enumerable = true, .to = to};

	return tell(walk, &edge);
}

/* A pointer that may be NULL. */
static void tell_pointer(struct walk *walk, const char *text, enum graph_kind kind,
			 uint32_t address)
{
	if (address)
		tell_text(walk, text, graph_at(walk->graph, kind, address));
}

static void tell_value(struct walk *walk, const char *text, uint64_t at)
{
	tell_text(walk, text, graph_load(walk->graph, at));
}

/* `count` JSValues that lie together. */
static void tell_values(struct walk *walk, enum graph_edge_kind kind, uint64_t at, uint64_t count)
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
			if (!tell_index(walk, kind, (uint32_t)(done + i),
					graph_decode(walk->graph, words[i])))
				return;
	}
}

/* A block of the engine's whose fields have no names here: every word that is a value of the heap. */
static void tell_block(struct walk *walk, uint32_t block)
{
	uint64_t bytes = graph_block_bytes(walk->graph, block), words[CHUNK];

	bytes = bytes > BLOCK_HEADER ? (bytes - BLOCK_HEADER) & ~7ull : 0;
	if (bytes > sizeof(words))
		bytes = sizeof(words);
	if (!graph_has(walk->graph, block, bytes) || !pay_for(walk->graph, bytes / 8))
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
		/* What was freed and left in the block may look like a string. */
		if ((value.kind == GRAPH_STRING || value.kind == GRAPH_SYMBOL) &&
		    (!graph_block_bytes(walk->graph, (uint32_t)value.bits) ||
		     !graph_string_place(walk->graph, (uint32_t)value.bits, &unused, &units,
					 &wide)))
			value.kind = GRAPH_OTHER;
		if (value.kind != GRAPH_OTHER && !tell_index(walk, GRAPH_SLOT, i, value))
			return;
	}
}

/* ---- Properties */

static bool tell_property(struct walk *walk, uint32_t atom, unsigned flags, uint64_t word)
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
		return tell(walk, &edge);
	case PROPERTY_CELL:
		edge.to = graph_at(walk->graph, GRAPH_CELL, (uint32_t)word);
		return tell(walk, &edge);
	case PROPERTY_LAZY:
		edge.to.kind = GRAPH_LAZY;
		return tell(walk, &edge);
	default:
		break;
	}
	if (getter || !setter) {
		edge.kind = GRAPH_GETTER;
		edge.to.kind = GRAPH_UNDEFINED;
		if (getter)
			edge.to = graph_at(walk->graph, GRAPH_OBJECT, getter);
		if (!tell(walk, &edge))
			return false;
	}
	if (setter) {
		edge.kind = GRAPH_SETTER;
		edge.to = graph_at(walk->graph, GRAPH_OBJECT, setter);
		return tell(walk, &edge);
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
		if (!pay_for(graph, part) || !graph_get(graph, table + done * 8, names, part * 8) ||
		    !graph_get(graph, values + done * 8, words, part * 8))
			return;
		for (uint64_t i = 0; i < part; i++) {
			uint32_t atom = (uint32_t)(names[i] >> 32);

			if (atom && !tell_property(walk, atom, (uint32_t)names[i] >> 26, words[i]))
				return;
		}
	}
	proto = word32(fields, SHAPE_PROTO);
	if (proto)
		tell_text(walk, "__proto__", graph_at(graph, GRAPH_OBJECT, proto));
	tell_text(walk, "(shape)", shape);
}

/* ---- Functions, frames, modules */

/* The variables that a function has from around it: names in its code, cells in itself. */
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
	if (!pay_for(graph, count))
		return;
	for (uint64_t i = 0; i < count; i++) {
		uint64_t variable = load64(graph, table + i * CLOSURE_BYTES);
		uint32_t cell = load32(graph, cells + i * 4);
		bool import = ((unsigned)variable & 7) == CLOSURE_MODULE_IMPORT;

		if (cell &&
		    !tell_name(walk, import ? GRAPH_IMPORT : GRAPH_VARIABLE,
			       (uint32_t)(variable >> 32), graph_at(graph, GRAPH_CELL, cell)))
			return;
	}
}

static void function_edges(struct walk *walk, const uint8_t *object)
{
	struct graph_value code =
		graph_at(walk->graph, GRAPH_BYTECODE, word32(object, FUNC_BYTECODE));

	if (code.kind != GRAPH_BYTECODE)
		return;
	closure_edges(walk, code, word32(object, FUNC_CELLS));
	tell_pointer(walk, "home_object", GRAPH_OBJECT, word32(object, FUNC_HOME));
	tell_text(walk, "(code)", code);
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
		if (!(name ? tell_name(walk, GRAPH_VARIABLE, name, value)
			   : tell_index(walk, GRAPH_SLOT, (uint32_t)i, value)))
			return false;
	}
	return true;
}

/* A function that runs, or waits in the middle. */
static void frame_edges(struct walk *walk, uint64_t at)
{
	struct graph *graph = walk->graph;
	uint8_t frame[FRAME_BYTES], object[OBJ_BYTES];
	struct graph_value function, code = {GRAPH_OTHER, 0};
	uint64_t arguments, variables, top, cells, count;
	unsigned argument_count = 0, local_count = 0;

	if (!graph_get(graph, at, frame, sizeof(frame)))
		return;
	function = graph_decode(graph, word64(frame, FRAME_FUNCTION));
	tell_text(walk, "(function)", function);
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
	if (!graph_has(graph, cells, count * 4) || !pay_for(graph, count))
		return;
	for (uint64_t i = 0; i < count; i++) {
		uint32_t cell = load32(graph, cells + i * 4);

		if (cell &&
		    !tell_index(walk, GRAPH_SLOT, (uint32_t)i, graph_at(graph, GRAPH_CELL, cell)))
			return;
	}
}

/* A function that waits: its `this`, then its frame. */
static void state_edges(struct walk *walk, uint64_t at)
{
	tell_value(walk, "this", at + STATE_THIS);
	frame_edges(walk, at + STATE_FRAME);
}

static void bytecode_edges(struct walk *walk, uint64_t at)
{
	struct graph *graph = walk->graph;

	tell_values(walk, GRAPH_CONSTANT, load32(graph, at + BC_CONSTANTS),
		    load32(graph, at + BC_CONSTANT_COUNT));
	tell_pointer(walk, "(context)", GRAPH_CONTEXT, load32(graph, at + BC_REALM));
}

static void module_edges(struct walk *walk, uint64_t at)
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
	if (!pay_for(graph, count))
		return;
	for (uint64_t i = 0; i < count; i++) {
		uint8_t entry[EXPORT_BYTES];

		if (!graph_get(graph, exports + i * EXPORT_BYTES, entry, sizeof(entry)))
			return;
		if (word32(entry, EXPORT_TYPE) || !word32(entry, EXPORT_CELL))
			continue; /* of another module, or not linked yet */
		if (!tell_name(walk, GRAPH_PROPERTY, word32(entry, EXPORT_NAME),
			       graph_at(graph, GRAPH_CELL, word32(entry, EXPORT_CELL))))
			return;
	}
	tell_text(walk, "(function)", function);
	tell_value(walk, "(namespace)", at + MODULE_VALUES);
	tell_value(walk, "(namespace)", at + MODULE_VALUES + 8);
	tell_value(walk, "(promise)", at + MODULE_PROMISE);
	tell_value(walk, "(resolve)", at + MODULE_PROMISE + 8);
	tell_value(walk, "(reject)", at + MODULE_PROMISE + 16);
	tell_value(walk, "(exception)", at + MODULE_EXCEPTION);
	tell_value(walk, "import.meta", at + MODULE_META);
	tell_value(walk, "(private)", at + MODULE_PRIVATE);
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
		if (!tell(walk, &edge))
			return;
		edge.kind = GRAPH_ENTRY;
		edge.weak = false;
		if (values) {
			edge.to = graph_decode(graph, word64(record, RECORD_VALUE));
			if (!tell(walk, &edge))
				return;
		}
		index++;
	}
}

/* Each record of a list has so many JSValues from `offset` on; the link is its first field. */
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

			if (!tell(walk, &edge))
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
		tell_values(walk, GRAPH_ELEMENT, values, count);
		return;
	}
	if (!graph_has(graph, values, count * 4)) {
		graph->dropped++;
		return;
	}
	for (uint64_t i = 0; i < count; i++)
		if (!tell_index(walk, GRAPH_ELEMENT, (uint32_t)i,
				graph_at(graph, GRAPH_CELL, load32(graph, values + i * 4))))
			return;
}

/* ---- Objects */

static bool class_is_typed(unsigned class_id)
{
	return class_id >= CLASS_TYPED_FIRST && class_id <= CLASS_DATA_VIEW;
}

/* Those with a pointer to a block that is none of the known ones, or to none at all. */
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
	if (state < GENERATOR_DONE) /* of an async one: or waits to return */
		state_edges(walk, (uint64_t)data + GENERATOR_FUNCTION);
	if (async)
		list_edges(walk, (uint64_t)data + GENERATOR_QUEUE, REQUEST_VALUES, 4, 0);
}

static void class_edges(struct walk *walk, unsigned class_id, const uint8_t *object)
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
		tell_pointer(walk, "(context)", GRAPH_CONTEXT, data);
		break;
	case CLASS_BOUND_FUNCTION:
		tell_value(walk, "(target)", (uint64_t)data + BOUND_FUNCTION);
		tell_value(walk, "this", (uint64_t)data + BOUND_THIS);
		tell_values(walk, GRAPH_SLOT, (uint64_t)data + BOUND_ARGUMENTS,
			    load32(graph, (uint64_t)data + BOUND_COUNT));
		break;
	case CLASS_C_FUNCTION_DATA:
		tell_values(walk, GRAPH_SLOT, (uint64_t)data + DATA_VALUES,
			    load8(graph, (uint64_t)data + DATA_COUNT));
		break;
	case CLASS_REGEXP:
		tell_pointer(walk, "(source)", GRAPH_STRING, word32(object, REGEXP_PATTERN));
		tell_pointer(walk, "(code)", GRAPH_STRING, word32(object, REGEXP_CODE));
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
		tell_value(walk, "(target)", (uint64_t)data + PROXY_TARGET);
		tell_value(walk, "(handler)", (uint64_t)data + PROXY_HANDLER);
		break;
	case CLASS_PROMISE:
		tell_value(walk, "(result)", (uint64_t)data + PROMISE_RESULT);
		for (unsigned i = 0; i < 2; i++)
			list_edges(walk, (uint64_t)data + PROMISE_REACTIONS + i * LIST_BYTES,
				   REACTION_VALUES, 3, 0);
		break;
	case CLASS_PROMISE_RESOLVE:
	case CLASS_PROMISE_REJECT:
		tell_value(walk, "(promise)", data);
		break;
	case CLASS_ASYNC_RESOLVE:
	case CLASS_ASYNC_REJECT:
		tell_pointer(walk, "(call)", GRAPH_ASYNC, data);
		break;
	case CLASS_WEAK_REF: {
		struct graph_edge edge = {.kind = GRAPH_INTERNAL,
					  .text = "(target)",
					  .weak = true,
					  .to = graph_load(graph, data)};

		/* A cleared one points to the engine's own word for that, which is no value. */
		if (edge.to.kind != GRAPH_OBJECT && edge.to.kind != GRAPH_SYMBOL)
			edge.to = (struct graph_value){GRAPH_UNDEFINED, 0};
		tell(walk, &edge);
		break;
	}
	case CLASS_REGISTRY:
		tell_value(walk, "(callback)", (uint64_t)data + REGISTRY_CALLBACK);
		list_edges(walk, data, ENTRY_VALUES, 3, 5); /* target and token are weak */
		break;
	default:
		if (graph_is_boxed(class_id))
			tell_text(walk, class_id == CLASS_ERROR ? "(stack)" : "(value)",
				  graph_decode(graph, word64(object, OBJ_DATA)));
		else if (class_is_typed(class_id))
			tell_pointer(walk, "buffer", GRAPH_OBJECT,
				     load32(graph, (uint64_t)data + TYPED_BUFFER));
		else if (class_has_block(class_id) && data)
			tell_block(walk, data);
		break;
	}
}

static void context_edges(struct walk *walk, uint64_t at)
{
	struct graph *graph = walk->graph;

	tell_value(walk, "(global object)", at + CX_GLOBAL_OBJECT);
	tell_value(walk, "(global variables)", at + CX_GLOBAL_VARIABLES);
	tell_values(walk, GRAPH_SLOT, load32(graph, at + CX_CLASS_PROTO), graph->class_count);
	tell_values(walk, GRAPH_SLOT, at + CX_VALUES, (CX_GLOBAL_OBJECT - CX_VALUES) / 8);
	for (unsigned i = CX_SHAPES; i < CX_SHAPES_END; i += 4)
		tell_pointer(walk, "(shape)", GRAPH_SHAPE, load32(graph, at + i));
}

/* ---- Roots */

static void modules_edges(struct walk *walk)
{
	struct graph *graph = walk->graph;
	uint32_t head = graph->context + CX_MODULES, at = load32(graph, head + LIST_NEXT);

	for (uint32_t index = 0; at != head && at >= MODULE_LINK; index++) {
		struct graph_value module = graph_at(graph, GRAPH_MODULE, at - MODULE_LINK);

		if (module.kind != GRAPH_MODULE || !tell_index(walk, GRAPH_SLOT, index, module))
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
		tell_values(walk, GRAPH_SLOT, (uint64_t)at + JOB_VALUES,
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
	tell_value(walk, "(exception)", walk->graph->runtime + RT_EXCEPTION);
	for (unsigned i = 0; i < HOST_HANDLES; i++)
		if (walk->graph->handles[i])
			tell_value(walk, "(handle)", walk->graph->handles[i]);
}

static void atoms_edges(struct walk *walk)
{
	for (uint32_t atom = 1; atom < walk->graph->atom_count; atom++) {
		uint32_t string = graph_atom_string(walk->graph, atom);
		enum graph_atom kind;

		if (!string)
			continue;
		kind = graph_atom_kind(walk->graph, atom);
		if (!tell_index(walk, GRAPH_SLOT, atom,
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
		tell_text(walk, "globalThis", graph_global(graph));
		tell_text(walk, "(global variables)", graph_global_variables(graph));
		modules_edges(walk);
		tell_text(walk, root_names[GRAPH_ROOT_GC],
			  (struct graph_value){GRAPH_ROOT, GRAPH_ROOT_GC});
		break;
	case GRAPH_ROOT_GC:
		for (unsigned i = GRAPH_ROOT_MODULES; i < GRAPH_ROOTS; i++)
			tell_text(walk, root_names[i], (struct graph_value){GRAPH_ROOT, i});
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
		tell_pointer(walk, "(context)", GRAPH_CONTEXT, graph->context);
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
			tell_pointer(&walk, "(parent)", GRAPH_STRING,
				     load32(graph, from.bits + STR_TEXT));
		break;
	case GRAPH_ROPE:
		tell_value(&walk, "(first)", from.bits + ROPE_LEFT);
		tell_value(&walk, "(second)", from.bits + ROPE_RIGHT);
		break;
	case GRAPH_BYTECODE:
		bytecode_edges(&walk, from.bits);
		break;
	case GRAPH_CELL:
		tell_text(&walk, "(value)", graph_follow(graph, from));
		break;
	case GRAPH_SHAPE:
		tell_pointer(&walk, "__proto__", GRAPH_OBJECT,
			     load32(graph, from.bits + SHAPE_PROTO));
		break;
	case GRAPH_ASYNC:
		tell_values(&walk, GRAPH_SLOT, from.bits + ASYNC_RESOLVERS, 2);
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
