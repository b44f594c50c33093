// SPDX-License-Identifier: MIT
/*
 * graph.c - a JavaScript heap as data: its words, its values, and whether its layout is the one
 * that this build knows. graph_edges.c has what objects refer to, graph_text.c what they are
 * called.
 *
 * Owns struct graph. The heap is one WebAssembly memory with a QuickJS runtime in it, at addresses
 * that heap_layout.h knows. Nothing of it is trusted: every address is checked before it is used,
 * nothing recurses, and every walk is paid for step by step (graph_begin).
 */
#include <errno.h>
#include <stdlib.h>

#include "base/failure.h"
#include "js/state/blob.h"
#include "graph_heap.h"
#include "js/engine/state.h"

/* ---- Memory */

bool graph_get(struct graph *graph, uint64_t at, void *to, size_t bytes)
{
	if (!graph_has(graph, at, bytes))
		graph->dropped++;
	else if (!graph->error.code &&
		 !graph->source.read(graph->source.arg, at, to, bytes, &graph->error))
		return true;
	memset(to, 0, bytes);
	return false;
}

int graph_failed(const struct graph *graph, struct thaw_error *error)
{
	if (graph->error.code && error)
		*error = graph->error;
	return graph->error.code;
}

uint64_t graph_dropped(const struct graph *graph)
{
	return graph->dropped;
}

void graph_begin(struct graph *graph)
{
	graph->budget = graph->source.bytes + 65536;
}

uint64_t graph_spend(struct graph *graph, uint64_t steps)
{
	if (steps > graph->budget) {
		steps = graph->budget;
		graph->dropped++;
	}
	graph->budget -= steps;
	return steps;
}

uint64_t graph_block_bytes(struct graph *graph, uint32_t address)
{
	uint8_t before[16];
	unsigned size;

	if (!address || address % 8 || address < 16 || address == graph->runtime + RT_NO_BYTES ||
	    !graph_has(graph, address, 0))
		return 0;
	graph_get(graph, address - 16, before, sizeof(before));
	if (word16(before, 16 + BLOCK_INDEX) == 0xffff) {
		uint64_t bytes = word32(before, 16 + BLOCK_LARGE) & ~7u;

		return graph_has(graph, address, bytes > 16 ? bytes - 16 : 0) ? bytes : 0;
	}
	size = before[16 + BLOCK_SIZE];
	if (size >= SIZE_CLASSES)
		return 0;
	return size < 15   ? 16 + 8 * size
	       : size < 23 ? 144 + 16 * (size - 15)
			   : 288 + 32 * (size - 23);
}

/* ---- Values */

/* What the heap must have at an address of each kind. */
static const struct {
	uint8_t type; /* GC_*; GC_TYPES: the collector does not track it */
	uint16_t bytes;
} kinds[] = {
	[GRAPH_OBJECT] = {GC_OBJECT, OBJ_BYTES},
	[GRAPH_STRING] = {GC_TYPES, STR_TEXT},
	[GRAPH_ROPE] = {GC_TYPES, 24},
	[GRAPH_SYMBOL] = {GC_TYPES, STR_TEXT},
	[GRAPH_BIGINT] = {GC_TYPES, BIGINT_LIMBS},
	[GRAPH_BYTECODE] = {GC_BYTECODE, 84},
	[GRAPH_CELL] = {GC_CELL, 24},
	[GRAPH_SHAPE] = {GC_SHAPE, SHAPE_TABLE},
	[GRAPH_ASYNC] = {GC_ASYNC, ASYNC_STATE},
	[GRAPH_CONTEXT] = {GC_CONTEXT, CX_BYTES},
	[GRAPH_MODULE] = {GC_TYPES, MODULE_BYTES},
};

struct graph_value graph_guess(struct graph *graph, enum graph_kind kind, uint32_t address)
{
	struct graph_value none = {GRAPH_OTHER, 0};

	/*
	 * While its function runs, a variable is in the frame, and the collector does not track its
	 * cell.
	 */
	if (kind == GRAPH_CELL && address && address % 8 == 0 &&
	    graph_has(graph, address, kinds[kind].bytes) &&
	    !load8(graph, (uint64_t)address + CELL_DETACHED) &&
	    graph_has(graph, load32(graph, (uint64_t)address + CELL_POINTER), 8))
		return (struct graph_value){kind, address};
	if (!address || address % 8 || address < 16 ||
	    !graph_has(graph, address, kinds[kind].bytes))
		return none;
	if (kinds[kind].type != GC_TYPES &&
	    (load8(graph, address + (int64_t)BLOCK_TYPE) & 0x7f) != kinds[kind].type)
		return none;
	return (struct graph_value){kind, address};
}

struct graph_value graph_at(struct graph *graph, enum graph_kind kind, uint32_t address)
{
	struct graph_value value = graph_guess(graph, kind, address);

	graph->dropped += value.kind == GRAPH_OTHER;
	return value;
}

static struct graph_value number(double number)
{
	struct graph_value value = {GRAPH_NUMBER, 0};

	memcpy(&value.bits, &number, sizeof(number));
	return value;
}

struct graph_value graph_decode(struct graph *graph, uint64_t word)
{
	int32_t tag = (int32_t)(word >> 32);
	uint32_t low = (uint32_t)word;

	if ((uint32_t)tag - (uint32_t)BOX_BIGINT >= 8u - (uint32_t)BOX_BIGINT)
		return (struct graph_value){GRAPH_NUMBER, word + FLOAT_ADDEND};
	switch (tag) {
	case BOX_BIGINT:
		return graph_at(graph, GRAPH_BIGINT, low);
	case BOX_SYMBOL:
		return graph_at(graph, GRAPH_SYMBOL, low);
	case BOX_STRING:
		return graph_at(graph, GRAPH_STRING, low);
	case BOX_ROPE:
		return graph_at(graph, GRAPH_ROPE, low);
	case BOX_MODULE:
		return graph_at(graph, GRAPH_MODULE, low);
	case BOX_BYTECODE:
		return graph_at(graph, GRAPH_BYTECODE, low);
	case BOX_OBJECT:
		return graph_at(graph, GRAPH_OBJECT, low);
	case BOX_INT:
		return number((int32_t)low);
	case BOX_BOOL:
		return (struct graph_value){GRAPH_BOOL, low != 0};
	case BOX_NULL:
		return (struct graph_value){GRAPH_NULL, 0};
	case BOX_UNDEFINED:
		return (struct graph_value){GRAPH_UNDEFINED, 0};
	case BOX_UNINITIALIZED:
		return (struct graph_value){GRAPH_UNINITIALIZED, 0};
	case BOX_SHORT_BIGINT:
		return (struct graph_value){GRAPH_SHORT_BIGINT, (uint64_t)(int64_t)(int32_t)low};
	default:
		return (struct graph_value){GRAPH_OTHER, 0};
	}
}

double graph_number(struct graph_value value)
{
	double result;

	memcpy(&result, &value.bits, sizeof(result));
	return result;
}

struct graph_value graph_follow(struct graph *graph, struct graph_value value)
{
	uint8_t cell[24];

	if (value.kind != GRAPH_CELL)
		return value;
	graph_get(graph, value.bits, cell, sizeof(cell));
	if (cell[CELL_DETACHED])
		return graph_decode(graph, word64(cell, CELL_VALUE));
	return graph_load(graph, word32(cell, CELL_POINTER)); /* it is in a frame */
}

bool graph_object(struct graph *graph, struct graph_value object, uint8_t fields[OBJ_BYTES])
{
	if (object.kind == GRAPH_OBJECT)
		return graph_get(graph, object.bits, fields, OBJ_BYTES);
	memset(fields, 0, OBJ_BYTES);
	return false;
}

unsigned graph_class(struct graph *graph, struct graph_value object)
{
	unsigned class_id = object.kind == GRAPH_OBJECT ? load16(graph, object.bits + OBJ_CLASS)
							: 0;

	return class_id < graph->class_count ? class_id : 0;
}

bool graph_is_function(struct graph *graph, struct graph_value value)
{
	unsigned class_id = graph_class(graph, value);

	return (class_id >= CLASS_C_FUNCTION && class_id <= CLASS_GENERATOR_FUNCTION) ||
	       (class_id >= CLASS_PROMISE_RESOLVE && class_id <= CLASS_ASYNC_REJECT) ||
	       class_id == CLASS_ASYNC_GENERATOR_FUNCTION;
}

struct graph_value graph_global(struct graph *graph)
{
	return graph_load(graph, graph->context + CX_GLOBAL_OBJECT);
}

struct graph_value graph_global_variables(struct graph *graph)
{
	return graph_load(graph, graph->context + CX_GLOBAL_VARIABLES);
}

uint64_t graph_allocated(struct graph *graph)
{
	return load32(graph, graph->runtime + RT_MALLOC_SIZE);
}

/* ---- The collector's list */

int graph_objects(struct graph *graph, int (*each)(void *arg, struct graph_value object), void *arg)
{
	static const uint8_t kind_of[GC_TYPES] = {
		[GC_OBJECT] = GRAPH_OBJECT, [GC_BYTECODE] = GRAPH_BYTECODE,
		[GC_SHAPE] = GRAPH_SHAPE,   [GC_CELL] = GRAPH_CELL,
		[GC_ASYNC] = GRAPH_ASYNC,   [GC_CONTEXT] = GRAPH_CONTEXT,
	};
	uint32_t head = graph->runtime + RT_GC_OBJECTS, at = load32(graph, head + LIST_NEXT);
	int code = 0;

	while (!code && at != head && graph_spend(graph, 1)) {
		unsigned type = load8(graph, (uint64_t)at + BLOCK_TYPE) & 0x7f;
		struct graph_value object = {GRAPH_OTHER, 0};

		if (type < GC_TYPES)
			object = graph_at(graph, kind_of[type], at);
		if (object.kind == GRAPH_OTHER)
			break; /* the list is broken */
		code = each(arg, object);
		at = load32(graph, at + LIST_NEXT);
	}
	return code;
}

/* ---- Is this the engine we know? */

/* Are the links of a circular list consistent? At most `steps` of them are checked. */
static bool list_is_sound(struct graph *graph, uint32_t head, unsigned steps)
{
	uint32_t at = head;

	for (unsigned i = 0; i < steps; i++) {
		uint32_t next = load32(graph, (uint64_t)at + LIST_NEXT);

		if (next % 4 || !graph_has(graph, next, LIST_BYTES) ||
		    load32(graph, next + LIST_PREV) != at)
			return false;
		at = next;
		if (at == head)
			return true;
	}
	return true;
}

static bool atoms_are_known(struct graph *graph)
{
	static const char *const names[KNOWN_ATOMS] = {
		[KNOWN_CONSTRUCTOR] = "constructor", [KNOWN_NAME] = "name",
		[KNOWN_MESSAGE] = "message",	     [KNOWN_LENGTH] = "length",
		[KNOWN_GLOBAL_THIS] = "globalThis",
	};

	if (!graph_atom_is(graph, 1, "null") || !graph_atom_is(graph, 2, "false"))
		return false;
	for (unsigned i = 0; i < KNOWN_ATOMS; i++) {
		for (uint32_t atom = 1; atom < graph->atom_count && atom < 1024; atom++)
			if (graph_atom_is(graph, atom, names[i])) {
				graph->known[i] = atom;
				break;
			}
		if (!graph->known[i])
			return false;
	}
	return true;
}

static bool classes_are_known(struct graph *graph)
{
	static const struct {
		uint8_t id;
		const char *name;
	} known[] = {
		{CLASS_OBJECT, "Object"},
		{CLASS_ARRAY, "Array"},
		{CLASS_DATE, "Date"},
		{CLASS_FUNCTION, "Function"},
		{CLASS_REGEXP, "RegExp"},
		{CLASS_ARRAY_BUFFER, "ArrayBuffer"},
		{24, "Uint8Array"},
		{CLASS_TYPED_LAST, "Float64Array"},
		{CLASS_MAP, "Map"},
		{CLASS_WEAK_SET, "WeakSet"},
		{CLASS_GENERATOR, "Generator"},
		{CLASS_PROMISE, "Promise"},
		{CLASS_WEAK_REF, "WeakRef"},
		{CLASS_REGISTRY, "FinalizationRegistry"},
	};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		uint64_t at = graph->classes + (uint64_t)known[i].id * CLASS_BYTES;

		if (known[i].id >= graph->class_count || load32(graph, at) != known[i].id ||
		    !graph_atom_is(graph, load32(graph, at + CLASS_NAME), known[i].name))
			return false;
	}
	return true;
}

struct find_global {
	const struct graph *graph;
	struct graph_value global;
	bool found;
};

static int find_itself(void *arg, const struct graph_edge *edge)
{
	struct find_global *find = arg;

	if (edge->kind != GRAPH_PROPERTY || edge->name != find->graph->known[KNOWN_GLOBAL_THIS])
		return 0;
	find->found = edge->to.kind == GRAPH_OBJECT && edge->to.bits == find->global.bits;
	return 1;
}

/* NULL, or what is not where the layout says. */
static const char *graph_check(struct graph *graph)
{
	struct find_global find = {graph, {GRAPH_OTHER, 0}, false};
	uint32_t note;

	if (!graph_has(graph, AT_RUNTIME, 8))
		return "its heap is smaller than the engine";
	graph->runtime = load32(graph, AT_RUNTIME);
	graph->context = load32(graph, AT_CONTEXT);
	if (!graph->runtime || graph->runtime % 8 || !graph_has(graph, graph->runtime, RT_BYTES) ||
	    graph_guess(graph, GRAPH_CONTEXT, graph->context).kind != GRAPH_CONTEXT)
		return "no runtime, or no context";
	if (load32(graph, graph->context + CX_RUNTIME) != graph->runtime ||
	    load32(graph, graph->runtime + RT_CONTEXT_LIST + LIST_NEXT) !=
		    graph->context + CX_LINK ||
	    graph_allocated(graph) > graph->source.bytes)
		return "runtime and context do not belong together";
	note = load32(graph, graph->runtime + RT_OPAQUE);
	if (note % 16 || !graph_has(graph, note, sizeof(struct heap_note)) ||
	    load32(graph, note) != NOTE_MAGIC)
		return "the runtime's own note";
	graph->atoms = load32(graph, graph->runtime + RT_ATOM_ARRAY);
	graph->atom_count = load32(graph, graph->runtime + RT_ATOM_SIZE);
	if (graph->atoms % 4 || !graph_has(graph, graph->atoms, (uint64_t)graph->atom_count * 4) ||
	    !atoms_are_known(graph))
		return "the names of properties";
	graph->classes = load32(graph, graph->runtime + RT_CLASS_ARRAY);
	graph->class_count = load32(graph, graph->runtime + RT_CLASS_COUNT);
	if (graph->classes % 4 ||
	    !graph_has(graph, graph->classes, (uint64_t)graph->class_count * CLASS_BYTES) ||
	    !classes_are_known(graph))
		return "the classes of objects";
	if (!list_is_sound(graph, graph->runtime + RT_GC_OBJECTS, 1000) ||
	    !list_is_sound(graph, graph->runtime + RT_JOBS, 1000) ||
	    !list_is_sound(graph, graph->context + CX_MODULES, 1000))
		return "the lists of objects, jobs and modules";
	find.global = graph_global(graph);
	graph_edges(graph, find.global, find_itself, &find);
	if (graph_class(graph, find.global) != CLASS_OBJECT || !find.found ||
	    graph_class(graph, graph_global_variables(graph)) != CLASS_OBJECT)
		return "the global object";
	return NULL;
}

int graph_open(const struct graph_source *source, const struct js_blob *blob, struct graph **graph,
	       struct thaw_error *error)
{
	struct graph *opened = calloc(1, sizeof(*opened));
	const char *problem;
	int code = 0;

	*graph = NULL;
	if (!opened)
		return failure(error, -ENOMEM, "%s: no memory to look inside", source->name);
	opened->source = *source;
	if (opened->source.bytes > 1ull << 32)
		opened->source.bytes = 1ull << 32;
	if (blob) {
		unsigned count = 0;

		opened->handles[count++] = blob->enter;
		for (unsigned i = 0; i < blob->turn.argument_count; i++)
			opened->handles[count++] = blob->turn.arguments[i];
		opened->handles[count++] = blob->turn.main_failure;
	}
	graph_begin(opened);
	problem = graph_check(opened);
	code = graph_failed(opened, error);
	if (!code && problem)
		code = failure(
			error, THAW_EENGINE,
			"%s: this engine build is unknown to thaw export and thaw diff (not as %s has it: %s)",
			source->name, js_engine_identity, problem);
	opened->dropped = 0;
	if (code) {
		graph_close(opened);
		return code;
	}
	*graph = opened;
	return 0;
}

void graph_close(struct graph *graph)
{
	free(graph);
}
