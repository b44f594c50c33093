/* SPDX-License-Identifier: MIT */
/*
 * graph.h - the objects in a JavaScript heap, read as data: no engine runs, so no getter, no proxy
 * trap and no other code of the program does. See graph.c.
 *
 * A heap may be damaged, or made to do harm. It then costs time and memory in proportion to its
 * size, and some values are wrong, but nothing else happens: impossible references are left out and
 * counted (graph_dropped).
 *
 * One thread per graph. The heap never changes while it is read, so the same call gives the same
 * result.
 */
#ifndef VM_INSPECT_GRAPH_H
#define VM_INSPECT_GRAPH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <thaw.h>

#include "js/engine/classes.h"

struct js_blob;

/* Where the heap's bytes come from. */
struct graph_source {
	/*
	 * Exactly `bytes` at `offset`, which lie inside the heap; 0 or a negative code, with the
	 * error set.
	 */
	int (*read)(void *arg, uint64_t offset, void *buffer, size_t bytes,
		    struct thaw_error *error);
	void *arg;
	uint64_t bytes;	  /* of the heap */
	const char *name; /* for errors: the name of the image; borrowed */
};

struct graph;

/*
 * THAW_EENGINE: this build does not know the layout of the heap. `blob` may be NULL: it only adds
 * roots. It is not needed afterwards, nor is `source`, but its `arg` and `name` must stay until
 * graph_close().
 */
int graph_open(const struct graph_source *source, const struct js_blob *blob, struct graph **graph,
	       struct thaw_error *error);
void graph_close(struct graph *graph);
/* 0, or the code of the first read that failed; no result after that can be used. */
int graph_failed(const struct graph *graph, struct thaw_error *error);
/* How many references were left out, since they led nowhere. */
uint64_t graph_dropped(const struct graph *graph);
/* What the engine says it has allocated. */
uint64_t graph_allocated(struct graph *graph);

/*
 * Every walk ends, whatever the heap contains: each step is taken from a budget, which the heap of
 * a real program never uses up. graph_begin() fills it again. Call it at the start of every pass
 * over the heap: two passes that do the same then find the same.
 */
void graph_begin(struct graph *graph);
/* Take steps from the budget for work of the caller. Returns how many of `steps` may be done. */
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
	GRAPH_LAZY,	     /* a built-in property that was never read: it has no value yet */
	GRAPH_OTHER,	     /* internal to the engine */
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
	GRAPH_ROOT_HOST, /* handles of the runtime */
	GRAPH_ROOT_RUNTIME,
	GRAPH_ROOT_ATOMS,
	GRAPH_ROOT_REST, /* for the caller: what no other root reaches */
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

/* 0: not an object, or its class does not exist. */
unsigned graph_class(struct graph *graph, struct graph_value object);
bool graph_is_function(struct graph *graph, struct graph_value value);

/* ---- References */

enum graph_edge_kind {
	GRAPH_PROPERTY, /* name: an atom; flags */
	GRAPH_GETTER,	/* the same: the function, never called */
	GRAPH_SETTER,
	GRAPH_ELEMENT,	/* index */
	GRAPH_KEY,	/* index: the position of the entry in its Map, Set, WeakMap or WeakSet */
	GRAPH_ENTRY,	/* index: the value of the entry */
	GRAPH_VARIABLE, /* name: an atom; of a closure, a frame or a module */
	GRAPH_IMPORT,	/* the same, of another module */
	GRAPH_INTERNAL, /* `text` */
	GRAPH_SLOT,	/* index; a value without a name in a record of the engine */
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
 * Calls `each` for everything that `from` refers to, primitive values too, always in the same
 * order. Stops when `each` returns something other than 0, and returns that.
 */
typedef int graph_each(void *arg, const struct graph_edge *edge);
int graph_edges(struct graph *graph, struct graph_value from, graph_each *each, void *arg);
/* The value of a variable: what its cell contains. Any other value is returned as it is. */
struct graph_value graph_follow(struct graph *graph, struct graph_value value);
/* Bytes of the blocks that belong to this value alone: its own, its tables, its text. */
uint64_t graph_size(struct graph *graph, struct graph_value value);
/* Call `each` once for every object that the engine's collector tracks. */
int graph_objects(struct graph *graph, int (*each)(void *arg, struct graph_value object),
		  void *arg);

/* ---- Text */

struct graph_text {
	uint16_t *units; /* UTF-16; malloc'ed, the caller frees it; NULL: no memory, or no text */
	size_t count;
	uint64_t total; /* units of the whole text, of which `count` are here */
};
/* The text of a string, or the description of a symbol; at most `limit` units. */
struct graph_text graph_text(struct graph *graph, struct graph_value value, size_t limit);
struct graph_text graph_atom_text(struct graph *graph, uint32_t atom, size_t limit);
uint64_t graph_length(struct graph *graph, struct graph_value string);
/* Does this string share the text of another one, as a part of it? */
bool graph_is_slice(struct graph *graph, struct graph_value string);
/* What the name of a property is. */
enum graph_atom { GRAPH_ATOM_STRING, GRAPH_ATOM_NUMBER, GRAPH_ATOM_SYMBOL, GRAPH_ATOM_PRIVATE };
enum graph_atom graph_atom_kind(struct graph *graph, uint32_t atom);
bool graph_atom_is(struct graph *graph, uint32_t atom, const char *text);
/* Does the symbol have a description (which may be empty)? */
bool graph_symbol_described(struct graph *graph, struct graph_value symbol);
/* Decimal; hexadecimal if it is very long. malloc'ed; NULL: no memory. */
char *graph_bigint_text(struct graph *graph, struct graph_value bigint);
/*
 * The name of an object's constructor, or else of its class; of a function, a module or bytecode
 * its own name. GRAPH_UNDEFINED: there is none; `fallback` is then a word for its class.
 */
struct graph_value graph_name(struct graph *graph, struct graph_value value, const char **fallback);

/* ---- What some classes hold besides references */

/* The message of an Error, if it is an own property with a value. GRAPH_OTHER: there is none. */
struct graph_value graph_message(struct graph *graph, struct graph_value object);
struct graph_value graph_proto(struct graph *graph, struct graph_value object);
/* The value of a boxed primitive, the time of a Date, the stack of an Error. */
struct graph_value graph_boxed(struct graph *graph, struct graph_value object);
/* How many elements an array, arguments or a typed array keeps in one block. */
uint32_t graph_elements(struct graph *graph, struct graph_value object);
/* The value of an array's property `length`. */
struct graph_value graph_array_length(struct graph *graph, struct graph_value array);
bool graph_is_dense(struct graph *graph, struct graph_value object);
/* Of a dense array only. */
struct graph_value graph_element(struct graph *graph, struct graph_value array, uint32_t index);
struct graph_value graph_typed_element(struct graph *graph, struct graph_value array,
				       uint32_t index);
/* Of an ArrayBuffer, a typed array or a DataView; 0: it is detached. */
uint64_t graph_byte_length(struct graph *graph, struct graph_value object);
size_t graph_buffer_read(struct graph *graph, struct graph_value buffer, uint64_t from, void *to,
			 size_t bytes);
/* Of a promise "pending", "fulfilled", "rejected"; of a generator "not started", "suspended", "running",
 * "done"; NULL: it is neither. */
const char *graph_state(struct graph *graph, struct graph_value object);
/* "/source/flags": malloc'ed units. */
struct graph_text graph_regexp_text(struct graph *graph, struct graph_value regexp);
/* Where the source of a function is. False: it is built in. */
bool graph_function_place(struct graph *graph, struct graph_value function, uint32_t *file_atom,
			  uint32_t *line);

#endif
