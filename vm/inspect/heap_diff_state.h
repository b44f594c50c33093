/* SPDX-License-Identifier: MIT */
/*
 * heap_diff_state.h - what the files of heap_diff.h share: heap_diff.c walks the two graphs,
 * heap_diff_values.c compares values, diff_print.c prints what is different.
 */
#ifndef VM_INSPECT_HEAP_DIFF_STATE_H
#define VM_INSPECT_HEAP_DIFF_STATE_H

#include "heap_diff.h"
#include "base/json.h"
#include "describe.h"
#include "number_map.h"

#define ATOMS_CACHED 4096u
#define TEXTS_CACHED 4096u
#define NONE UINT32_MAX

enum step_kind {
	STEP_GLOBAL, /* globalThis */
	STEP_MODULE, /* `key` */
	STEP_PROPERTY,
	STEP_ELEMENT,
	STEP_ENTRY,    /* of a Map: `key` */
	STEP_MEMBER,   /* of a Set: `key` */
	STEP_VARIABLE, /* of a function or generator */
	STEP_TEXT,
	STEP_ARGUMENT,
};

struct step {		/* of a path */
	uint32_t from;	/* index of the step before; NONE: this is the first */
	uint32_t depth; /* how many objects the path has led through */
	uint32_t name;	/* atom or index */
	uint8_t kind;	/* enum step_kind */
	uint8_t side;	/* the graph that `name` and `key` are of */
	const char *text;
	struct graph_value key;
};

struct pair {
	struct graph_value values[2];
	uint32_t step;
};

enum change { APPEARED, VANISHED, CHANGED, CHANGES };

struct diff {
	struct inspection *sides; /* older, newer */
	struct step *steps;
	size_t step_count, step_room;
	struct pair *pairs; /* a stack */
	size_t pair_count, pair_room;
	struct number_map seen; /* pairs of addresses */
	struct {
		uint32_t atom;
		uint64_t hash;
	} atoms[2][ATOMS_CACHED];
	struct {
		uint64_t pair; /* of addresses */
		bool same;
	} texts[TEXTS_CACHED]; /* that were compared */
	uint64_t depth, limit, told, found[CHANGES];
	bool cut;    /* some objects are deeper than `depth` */
	bool failed; /* no memory */
	bool as_json;
	FILE *to;
	struct json json;
	const struct heap_diff_pages *pages;
};

/* The elements from `first` to `last` of an array are new, or gone. */
struct range {
	uint32_t first, last;
};

/* ---- heap_diff_values.c: `older` and `newer` are of the older and the newer generation */

uint64_t heap_diff_hash(uint64_t a, uint64_t b);
/* Frees the text. */
uint64_t heap_diff_hash_text(struct diff *diff, struct graph_text text, uint64_t kind);
uint64_t heap_diff_hash_atom(struct diff *diff, unsigned side, uint32_t atom);
/* Of a key of a Map, or a member of a Set. */
uint64_t heap_diff_hash_key(struct diff *diff, unsigned side, struct graph_value key);
bool heap_diff_same_primitive(struct diff *diff, struct graph_value older,
			      struct graph_value newer);
/*
 * Are two objects of one class and, if they are functions, of one place? Then their members can be
 * compared.
 */
bool heap_diff_alike(struct diff *diff, struct graph_value older, struct graph_value newer);
/* Are they that, and the same in what they hold besides references? */
bool heap_diff_same_object(struct diff *diff, struct graph_value older, struct graph_value newer);

/* ---- diff_print.c */

void diff_print_begin(struct diff *diff);
/*
 * Report a change at the path `from` and `last`; `range` NULL: of one value. Only those of `older`
 * and `newer` count that `change` implies.
 */
void diff_print_change(struct diff *diff, enum change change, uint32_t from,
		       const struct step *last, struct graph_value older, struct graph_value newer,
		       const struct range *range);
void diff_print_end(struct diff *diff);

#endif
