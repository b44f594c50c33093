/* SPDX-License-Identifier: MIT */
/*
 * graph.h - the objects in a JavaScript heap, read as data: no engine runs, so no getter, no proxy
 * trap, and no program's code. See graph.c.
 *
 * A heap that is damaged, or made to do harm, costs time and memory in proportion to its size and gives
 * wrong values, no more: whatever cannot be is left out and counted (graph_dropped).
 *
 * One thread per graph. What is read never changes, so the same question has the same answer.
 */
#ifndef VM_INSPECT_GRAPH_H
#define VM_INSPECT_GRAPH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <thaw.h>

struct js_blob;

/* Where the heap's bytes come from. */
struct graph_source {
	/* Exactly `bytes` at `offset`, which lie inside the heap; 0 or a negative code, with the error set. */
	int (*read)(void *arg, uint64_t offset, void *buffer, size_t bytes,
		    struct thaw_error *error);
	void *arg;
	uint64_t bytes;	  /* of the heap */
	const char *name; /* for errors: what it is the heap of; borrowed */
};

struct graph;

/*
 * THAW_EENGINE: the heap is not laid out as this build expects. `blob` may be NULL: it only adds roots.
 * Both are copied or read here; the source's `arg` and `name` must stay.
 */
int graph_open(const struct graph_source *source, const struct js_blob *blob, struct graph **graph,
	       struct thaw_error *error);
void graph_close(struct graph *graph);
/* 0, or why a read failed since; every answer after that is worthless. */
int graph_failed(const struct graph *graph, struct thaw_error *error);
/* References that led nowhere. */
uint64_t graph_dropped(const struct graph *graph);
/* What the engine says it has allocated. */
uint64_t graph_allocated(struct graph *graph);

/*
 * Whatever the heap says, walks end: each step is paid for from a budget that a heap as the engine leaves
 * it never uses up, and graph_begin() fills it again. Call it at the start of every pass over the heap;
 * passes that do the same then find the same.
 */
void graph_begin(struct graph *graph);
/* Pay for work of the caller's that the heap asks for: how many of `steps` may be done. */
uint64_t graph_spend(struct graph *graph, uint64_t steps);

/* ---- Values */

enum graph_kind {
	/* In the value itself. */
	GRAPH_UNDEFINED,
	GRAPH_NULL,
	GRAPH_BOOL,
	GRAPH_NUMBER,
	GRAPH_SHORT_BIGINT,
	GRAPH_UNINITIALIZED, /* a variable before its declaration was reached */
	GRAPH_LAZY,	     /* a built-in property that nobody has asked for yet */
	GRAPH_OTHER,	     /* the engine's own */
	/* In the heap: `bits` is the address. */
	GRAPH_HEAP,
	GRAPH_OBJECT = GRAPH_HEAP,
	GRAPH_STRING,
	GRAPH_ROPE, /* a string that is the concatenation of two */
	GRAPH_SYMBOL,
	GRAPH_BIGINT,
	GRAPH_BYTECODE,
	GRAPH_CELL, /* a variable that functions share */
	GRAPH_SHAPE,
	GRAPH_ASYNC, /* an async function that has been called */
	GRAPH_CONTEXT,
	GRAPH_MODULE,
	GRAPH_ROOT, /* `bits` is an enum graph_root */
};

enum graph_root {
	GRAPH_ROOT_ALL, /* refers to the globals, the modules and the next one */
	GRAPH_ROOT_GC,	/* refers to the others */
	GRAPH_ROOT_MODULES,
	GRAPH_ROOT_STACK, /* the functions that run, in a generation taken in the middle of a turn */
	GRAPH_ROOT_JOBS,
	GRAPH_ROOT_HOST, /* what the runtime holds */
	GRAPH_ROOT_RUNTIME,
	GRAPH_ROOT_ATOMS,
	GRAPH_ROOT_REST, /* what the caller found to be reached by none of these */
	GRAPH_ROOTS,
};

/* "(GC roots)", "(modules)", ... Static. */
const char *graph_root_name(enum graph_root root);

struct graph_value {
	enum graph_kind kind;
	uint64_t bits; /* GRAPH_NUMBER: a double; GRAPH_SHORT_BIGINT: a signed number */
};

static inline bool graph_in_heap(struct graph_value value)
{
	return value.kind >= GRAPH_HEAP;
}

double graph_number(struct graph_value value);
/* globalThis; the object whose properties are the scripts' let, const and class variables. */
struct graph_value graph_global(struct graph *graph);
struct graph_value graph_global_variables(struct graph *graph);

/* Classes of objects, by the engine's numbers; those that are handled one by one. */
enum graph_class {
	CLASS_OBJECT = 1,
	CLASS_ARRAY = 2,
	CLASS_ERROR = 3,
	CLASS_BOXED_NUMBER = 4,
	CLASS_BOXED_STRING = 5,
	CLASS_BOXED_BOOLEAN = 6,
	CLASS_BOXED_SYMBOL = 7,
	CLASS_ARGUMENTS = 8,
	CLASS_MAPPED_ARGUMENTS = 9,
	CLASS_DATE = 10,
	CLASS_NAMESPACE = 11,
	CLASS_C_FUNCTION = 12,
	CLASS_FUNCTION = 13,
	CLASS_BOUND_FUNCTION = 14,
	CLASS_C_FUNCTION_DATA = 15,
	CLASS_C_CLOSURE = 16,
	CLASS_GENERATOR_FUNCTION = 17,
	CLASS_REGEXP = 19,
	CLASS_ARRAY_BUFFER = 20,
	CLASS_SHARED_ARRAY_BUFFER = 21,
	CLASS_TYPED_FIRST = 22, /* Uint8ClampedArray */
	CLASS_TYPED_LAST = 33,	/* Float64Array */
	CLASS_DATA_VIEW = 34,
	CLASS_BOXED_BIGINT = 35,
	CLASS_MAP = 36,
	CLASS_SET = 37,
	CLASS_WEAK_MAP = 38,
	CLASS_WEAK_SET = 39,
	CLASS_GENERATOR = 49,
	CLASS_PROXY = 51,
	CLASS_PROMISE = 52,
	CLASS_PROMISE_RESOLVE = 53,
	CLASS_PROMISE_REJECT = 54,
	CLASS_ASYNC_FUNCTION = 55,
	CLASS_ASYNC_RESOLVE = 56,
	CLASS_ASYNC_REJECT = 57,
	CLASS_ASYNC_GENERATOR_FUNCTION = 59,
	CLASS_ASYNC_GENERATOR = 60,
	CLASS_WEAK_REF = 62,
	CLASS_REGISTRY = 63,
};

/* 0: not an object, or of a class that there is not. */
unsigned graph_class(struct graph *graph, struct graph_value object);
bool graph_is_function(struct graph *graph, struct graph_value value);

/* ---- References */

enum graph_edge_kind {
	GRAPH_PROPERTY, /* name: an atom; flags */
	GRAPH_GETTER,	/* the same: the function, never called */
	GRAPH_SETTER,
	GRAPH_ELEMENT,	/* index */
	GRAPH_KEY,	/* index: the how manyeth entry of a Map, Set, WeakMap or WeakSet */
	GRAPH_ENTRY,	/* its value */
	GRAPH_VARIABLE, /* name: an atom; of a closure, a frame or a module */
	GRAPH_IMPORT,	/* the same, of another module */
	GRAPH_INTERNAL, /* `text` */
	GRAPH_SLOT,	/* index; nameless values of the engine's own records */
	GRAPH_CONSTANT, /* index */
};

struct graph_edge {
	uint8_t kind; /* enum graph_edge_kind */
	bool weak;    /* does not keep its target alive */
	bool enumerable;
	uint32_t name;	  /* atom, or index */
	const char *text; /* static */
	struct graph_value to;
};

/*
 * Everything `from` refers to, in an order that follows from the heap: primitive values too. Until
 * `each` returns other than 0, which is returned.
 */
typedef int graph_each(void *arg, const struct graph_edge *edge);
int graph_edges(struct graph *graph, struct graph_value from, graph_each *each, void *arg);
/* What a variable holds, through its cell if that is what it is. */
struct graph_value graph_follow(struct graph *graph, struct graph_value value);
/* Bytes of the blocks that belong to it alone: itself, its tables, its text. */
uint64_t graph_size(struct graph *graph, struct graph_value value);
/* Call `each` with every object of the collector's list, at most once each. */
int graph_objects(struct graph *graph, int (*each)(void *arg, struct graph_value object),
		  void *arg);

/* ---- Text */

struct graph_text {
	uint16_t *units; /* UTF-16; malloc'ed, the caller frees it; NULL: no memory, or no text */
	size_t count;
	uint64_t total; /* of which `count` were taken */
};
/* A string's, or a symbol's description; at most `limit` units. */
struct graph_text graph_text(struct graph *graph, struct graph_value value, size_t limit);
struct graph_text graph_atom_text(struct graph *graph, uint32_t atom, size_t limit);
uint64_t graph_length(struct graph *graph, struct graph_value string);
/* Is it a part of another string, whose text it shares? */
bool graph_is_slice(struct graph *graph, struct graph_value string);
/* A symbol's key or private name, and not a string's. */
enum graph_atom { GRAPH_ATOM_STRING, GRAPH_ATOM_NUMBER, GRAPH_ATOM_SYMBOL, GRAPH_ATOM_PRIVATE };
enum graph_atom graph_atom_kind(struct graph *graph, uint32_t atom);
bool graph_atom_is(struct graph *graph, uint32_t atom, const char *text);
/* A symbol that has a description (which may be empty). */
bool graph_symbol_described(struct graph *graph, struct graph_value symbol);
/* Decimal; hexadecimal if it is very long. malloc'ed; NULL: no memory. */
char *graph_bigint_text(struct graph *graph, struct graph_value bigint);
/*
 * What people call an object: its constructor's name, or its class's. For a function, module or bytecode
 * its own name. GRAPH_UNDEFINED: none; `fallback` then is a word for its class.
 */
struct graph_value graph_name(struct graph *graph, struct graph_value value, const char **fallback);

/* ---- What some classes hold besides references */

/* The message of an Error, and the like: an own property that holds a value. GRAPH_OTHER: there is none. */
struct graph_value graph_message(struct graph *graph, struct graph_value object);
struct graph_value graph_proto(struct graph *graph, struct graph_value object);
/* A boxed primitive's value, a Date's time, an Error's stack. */
struct graph_value graph_boxed(struct graph *graph, struct graph_value object);
/* Elements of an array, arguments or typed array that are kept as such. */
uint32_t graph_elements(struct graph *graph, struct graph_value object);
/* What an array's `length` says. */
struct graph_value graph_array_length(struct graph *graph, struct graph_value array);
bool graph_is_dense(struct graph *graph, struct graph_value object);
/* Of an array that is dense. */
struct graph_value graph_element(struct graph *graph, struct graph_value array, uint32_t index);
struct graph_value graph_typed_element(struct graph *graph, struct graph_value array,
				       uint32_t index);
/* Of an ArrayBuffer, a typed array or a DataView; 0 if it is detached. */
uint64_t graph_byte_length(struct graph *graph, struct graph_value object);
size_t graph_buffer_read(struct graph *graph, struct graph_value buffer, uint64_t from, void *to,
			 size_t bytes);
/* "pending", "fulfilled", "rejected"; of a generator "suspended-start", ...; NULL: neither. */
const char *graph_state(struct graph *graph, struct graph_value object);
/* "/source/flags": malloc'ed units. */
struct graph_text graph_regexp_text(struct graph *graph, struct graph_value regexp);
/* Where a function was written. False: it is the engine's. */
bool graph_function_place(struct graph *graph, struct graph_value function, uint32_t *file_atom,
			  uint32_t *line);

#endif
