/* SPDX-License-Identifier: MIT */
/*
 * graph_heap.h - what the files of the graph share: words of the heap, read only inside of its
 * bounds.
 */
#ifndef VM_INSPECT_GRAPH_HEAP_H
#define VM_INSPECT_GRAPH_HEAP_H

#include <string.h>

#include "graph.h"
#include "js/engine/heap_layout.h"

enum known_atom {
	KNOWN_CONSTRUCTOR,
	KNOWN_NAME,
	KNOWN_MESSAGE,
	KNOWN_LENGTH,
	KNOWN_GLOBAL_THIS,
	KNOWN_ATOMS,
};

#define NAMES_CACHED 1024u
#define HOST_HANDLES 8u

struct graph {
	struct graph_source source;
	uint32_t runtime, context;
	uint32_t atoms, atom_count, classes, class_count;
	uint32_t known[KNOWN_ATOMS];
	uint32_t handles[HOST_HANDLES]; /* addresses of JSValues that the host owns */
	uint64_t budget;		/* steps left, see graph_begin() */
	uint64_t dropped;
	struct thaw_error error; /* code 0: no read has failed */
	struct {
		uint32_t proto;
		struct graph_value name;
	} names[NAMES_CACHED]; /* of constructors, by their prototype */
};

static inline bool graph_has(const struct graph *graph, uint64_t at, uint64_t bytes)
{
	return at <= graph->source.bytes && bytes <= graph->source.bytes - at;
}

/* False, and `to` is all zeros: the place is outside of the heap, or a read failed. */
bool graph_get(struct graph *graph, uint64_t at, void *to, size_t bytes);

static inline uint64_t load64(struct graph *graph, uint64_t at)
{
	uint64_t word;

	graph_get(graph, at, &word, sizeof(word));
	return word;
}

static inline uint32_t load32(struct graph *graph, uint64_t at)
{
	uint32_t word;

	graph_get(graph, at, &word, sizeof(word));
	return word;
}

static inline uint16_t load16(struct graph *graph, uint64_t at)
{
	uint16_t word;

	graph_get(graph, at, &word, sizeof(word));
	return word;
}

static inline uint8_t load8(struct graph *graph, uint64_t at)
{
	uint8_t byte;

	graph_get(graph, at, &byte, sizeof(byte));
	return byte;
}

/* Fields of a record that was read as a whole. */
static inline uint32_t word32(const void *record, unsigned at)
{
	uint32_t word;

	memcpy(&word, (const uint8_t *)record + at, sizeof(word));
	return word;
}

static inline uint64_t word64(const void *record, unsigned at)
{
	uint64_t word;

	memcpy(&word, (const uint8_t *)record + at, sizeof(word));
	return word;
}

static inline uint16_t word16(const void *record, unsigned at)
{
	uint16_t word;

	memcpy(&word, (const uint8_t *)record + at, sizeof(word));
	return word;
}

/*
 * The value of that kind at that address. GRAPH_OTHER: there is none, and it is counted as dropped.
 */
struct graph_value graph_at(struct graph *graph, enum graph_kind kind, uint32_t address);
/* The same for an address that is only a guess: nothing is counted. */
struct graph_value graph_guess(struct graph *graph, enum graph_kind kind, uint32_t address);
/* The value that a JSValue encodes. */
struct graph_value graph_decode(struct graph *graph, uint64_t word);
static inline struct graph_value graph_load(struct graph *graph, uint64_t at)
{
	return graph_decode(graph, load64(graph, at));
}

/* Read the OBJ_BYTES of an object. False: it is none. */
bool graph_object(struct graph *graph, struct graph_value object, uint8_t fields[OBJ_BYTES]);
/* Bytes of an allocated block, with the allocator's header; 0: there is none at that address. */
uint64_t graph_block_bytes(struct graph *graph, uint32_t address);
/* Where the text of a string is. False: it would be outside of the heap. */
bool graph_string_place(struct graph *graph, uint32_t string, uint64_t *at, uint32_t *units,
			bool *wide);
/* Do objects of this class contain a JSValue of their own? */
bool graph_is_boxed(unsigned class_id);
/* The string of an atom that is not a number; 0: there is none. */
uint32_t graph_atom_string(struct graph *graph, uint32_t atom);

#endif
