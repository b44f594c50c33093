// SPDX-License-Identifier: MIT
/*
 * heap_diff_values.c - are two values of two generations the same? Primitives by what they are,
 * objects by what they hold besides references; and hashes, by which members of two objects find
 * each other. Part of heap_diff.c. One thread.
 */
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "heap_diff_state.h"

#define TEXT_UNITS (64u << 20) /* the rest of a longer string is not compared */

uint64_t heap_diff_hash(uint64_t a, uint64_t b)
{
	const uint64_t words[2] = {a, b};

	return XXH3_64bits(words, sizeof(words));
}

uint64_t heap_diff_hash_text(struct diff *diff, struct graph_text text, uint64_t kind)
{
	uint64_t hash =
		heap_diff_hash(kind, text.total) ^
		XXH3_64bits(text.units ? text.units : (const uint16_t *)u"", text.count * 2);

	diff->failed = diff->failed || !text.units;
	free(text.units);
	return hash;
}

uint64_t heap_diff_hash_atom(struct diff *diff, unsigned side, uint32_t atom)
{
	unsigned place = atom % ATOMS_CACHED;
	struct graph *graph = diff->sides[side].graph;

	if (!diff->atoms[side][place].atom || diff->atoms[side][place].atom != atom) {
		diff->atoms[side][place].atom = atom;
		diff->atoms[side][place].hash =
			heap_diff_hash_text(diff, graph_atom_text(graph, atom, TEXT_UNITS),
					    graph_atom_kind(graph, atom));
	}
	return diff->atoms[side][place].hash;
}

static bool is_string(struct graph_value value)
{
	return value.kind == GRAPH_STRING || value.kind == GRAPH_ROPE;
}

uint64_t heap_diff_hash_key(struct diff *diff, unsigned side, struct graph_value key)
{
	struct graph *graph = diff->sides[side].graph;

	if (is_string(key))
		return heap_diff_hash_text(diff, graph_text(graph, key, TEXT_UNITS), GRAPH_STRING);
	if (key.kind == GRAPH_BIGINT || key.kind == GRAPH_SHORT_BIGINT) {
		char *digits = graph_bigint_text(graph, key);
		uint64_t hash = digits ? XXH3_64bits(digits, strlen(digits)) : 0;

		diff->failed = diff->failed || !digits;
		free(digits);
		return heap_diff_hash(GRAPH_BIGINT, hash);
	}
	return heap_diff_hash(key.kind, key.bits);
}

static bool same_text(struct diff *diff, struct graph_value older, struct graph_value newer)
{
	uint64_t pair = older.bits << 32 | (newer.bits & 0xffffffff);
	unsigned place = (unsigned)(newer.bits >> 3) % TEXTS_CACHED;
	struct graph_text a, b;
	bool same;

	if (diff->texts[place].pair == pair)
		return diff->texts[place].same;
	if (graph_length(diff->sides[0].graph, older) != graph_length(diff->sides[1].graph, newer))
		return false;
	a = graph_text(diff->sides[0].graph, older, TEXT_UNITS);
	b = graph_text(diff->sides[1].graph, newer, TEXT_UNITS);
	diff->failed = diff->failed || !a.units || !b.units;
	same = a.count == b.count && (!a.count || !memcmp(a.units, b.units, a.count * 2));
	free(a.units);
	free(b.units);
	diff->texts[place].pair = pair;
	diff->texts[place].same = same;
	return same;
}

/* Does `describe` write the same words for both? */
static bool same_words(struct diff *diff, struct graph_value older, struct graph_value newer,
		       void (*describe)(struct text_buffer *text, struct graph *graph,
					struct graph_value value))
{
	struct text_buffer a = {0}, b = {0};
	bool same;

	describe(&a, diff->sides[0].graph, older);
	describe(&b, diff->sides[1].graph, newer);
	diff->failed = diff->failed || a.failed || b.failed;
	same = a.s && b.s && !strcmp(a.s, b.s);
	free(a.s);
	free(b.s);
	return same;
}

/* The description has the type, the time, the state, the length in bytes. */
static bool same_description(struct diff *diff, struct graph_value older, struct graph_value newer)
{
	return same_words(diff, older, newer, describe_value);
}

static bool same_type(struct diff *diff, struct graph_value older, struct graph_value newer)
{
	return same_words(diff, older, newer, describe_type);
}

static bool same_regexp(struct diff *diff, struct graph_value older, struct graph_value newer)
{
	struct graph_text a = graph_regexp_text(diff->sides[0].graph, older);
	struct graph_text b = graph_regexp_text(diff->sides[1].graph, newer);
	bool same = a.count == b.count && !memcmp(a.units, b.units, a.count * 2);

	free(a.units);
	free(b.units);
	return same;
}

static bool same_bytes(struct diff *diff, struct graph_value older, struct graph_value newer)
{
	struct graph *graphs[2] = {diff->sides[0].graph, diff->sides[1].graph};
	uint64_t length = graph_byte_length(graphs[0], older);
	uint8_t a[4096], b[4096];

	if (length != graph_byte_length(graphs[1], newer))
		return false;
	for (uint64_t at = 0, got; at < length; at += got) {
		got = graph_buffer_read(graphs[0], older, at, a, sizeof(a));
		if (!got || graph_buffer_read(graphs[1], newer, at, b, sizeof(b)) != got ||
		    memcmp(a, b, got) != 0)
			return false;
	}
	return true;
}

/* Is the source of both at the same place of the same file? */
static bool same_function(struct diff *diff, struct graph_value older, struct graph_value newer)
{
	uint32_t files[2], lines[2];
	bool placed[2] = {graph_function_place(diff->sides[0].graph, older, &files[0], &lines[0]),
			  graph_function_place(diff->sides[1].graph, newer, &files[1], &lines[1])};

	if (placed[0] != placed[1])
		return false;
	return !placed[0] ||
	       (lines[0] == lines[1] &&
		heap_diff_hash_atom(diff, 0, files[0]) == heap_diff_hash_atom(diff, 1, files[1]));
}

bool heap_diff_alike(struct diff *diff, struct graph_value older, struct graph_value newer)
{
	unsigned class_id = graph_class(diff->sides[1].graph, newer);

	if (graph_class(diff->sides[0].graph, older) != class_id || !same_type(diff, older, newer))
		return false;
	return !graph_is_function(diff->sides[1].graph, newer) || same_function(diff, older, newer);
}

bool heap_diff_same_object(struct diff *diff, struct graph_value older, struct graph_value newer)
{
	struct graph *graph = diff->sides[1].graph;
	unsigned class_id = graph_class(graph, newer);

	if (!heap_diff_alike(diff, older, newer))
		return false;
	if (graph_is_function(graph, newer))
		return same_description(diff, older, newer);
	switch (class_id) {
	case CLASS_REGEXP:
		return same_regexp(diff, older, newer);
	case CLASS_DATE:
	case CLASS_ERROR:
	case CLASS_PROMISE:
	case CLASS_GENERATOR:
	case CLASS_ASYNC_GENERATOR:
	case CLASS_DATA_VIEW:
		return same_description(diff, older, newer);
	case CLASS_ARRAY_BUFFER:
	case CLASS_SHARED_ARRAY_BUFFER:
		return same_bytes(diff, older, newer);
	default:
		break;
	}
	return class_id < CLASS_TYPED_FIRST || class_id > CLASS_TYPED_LAST ||
	       graph_elements(diff->sides[0].graph, older) == graph_elements(graph, newer);
}

bool heap_diff_same_primitive(struct diff *diff, struct graph_value older, struct graph_value newer)
{
	if (is_string(older) && is_string(newer))
		return same_text(diff, older, newer);
	if (older.kind != newer.kind)
		return false;
	if (older.kind == GRAPH_SYMBOL)
		return same_text(diff, older, newer);
	if (older.kind == GRAPH_BIGINT)
		return heap_diff_hash_key(diff, 0, older) == heap_diff_hash_key(diff, 1, newer);
	return older.bits == newer.bits;
}
