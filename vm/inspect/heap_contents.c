// SPDX-License-Identifier: MIT
/*
 * heap_contents.c - what a heap consists of: each object counts for the variable that it is nearest to. Called by thaw map.
 * One thread. Must never run the program's code.
 *
 * Variables of the program (globals that are not built in, those of its modules) are where a walk begins, all of them at
 * once, breadth first: so what several hold belongs to the one with the shortest way to it. The walk does not enter the
 * global object, nor what the engine made before the program began; these, what timers and the runtime hold, and what no
 * root reaches are walked afterwards, in this order: what they reach belongs to none of the program's variables.
 *
 * An object's bytes are those of all blocks that belong to it alone, and count where the object begins. Memory: some 30
 * bytes for each object.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/array.h"
#include "base/failure.h"
#include "base/text_buffer.h"
#include "describe.h"
#include "heap_contents.h"
#include "inspection.h"
#include "number_map.h"

#define VARIABLES_MOST 4000u /* the rest are one holder */
#define HOLDERS_MOST (VARIABLES_MOST + 4)
#define NAME_UNITS 48u
#define WHOLE 0u /* the piece that stands for all of them */

struct sum {
	uint64_t bytes, count;
};

struct reader {
	struct graph *graph;
	struct heap_contents *contents;
	uint64_t piece_bytes;
	struct number_map nodes; /* kind and address */
	uint16_t *holder_of;	 /* of each node: which of `holder` */
	size_t holders_room, done;
	uint32_t holder[HOLDERS_MOST]; /* texts */
	unsigned holder_count, now;
	struct graph_value module; /* whose variables are found */
	struct number_map types;   /* which of `type` */
	uint32_t *type;		   /* texts */
	size_t type_count, type_room;
	struct number_map sums; /* piece, type and holder */
	struct sum *sum;
	size_t sum_room;
	bool failed; /* no memory */
};

/* ---- Texts */

static uint32_t keep_text(struct reader *reader, char *text)
{
	struct heap_contents *contents = reader->contents;
	char **grown = text ? array_grow(contents->text, contents->text_count, &contents->text_room,
					 sizeof(*grown))
			    : NULL;

	if (!grown) {
		free(text);
		reader->failed = true;
		return 0;
	}
	contents->text = grown;
	grown[contents->text_count] = text;
	return (uint32_t)contents->text_count++;
}

static void add_text(struct text_buffer *to, struct graph_text text)
{
	text_buffer_add_units(to, text.units, text.count);
	if (text.total > text.count)
		text_buffer_add(to, "...");
	free(text.units);
}

/* A new holder, which all that is found from now on belongs to. Takes the text. */
static void hold(struct reader *reader, char *text)
{
	reader->now = reader->holder_count;
	reader->holder[reader->holder_count++] = keep_text(reader, text);
}

static void hold_variable(struct reader *reader, uint32_t atom)
{
	struct text_buffer name = {0};

	if (reader->holder_count > VARIABLES_MOST) {
		reader->now = VARIABLES_MOST;
		return;
	}
	if (reader->holder_count == VARIABLES_MOST) {
		hold(reader, strdup("other variables"));
		return;
	}
	add_text(&name, graph_atom_text(reader->graph, atom, NAME_UNITS));
	if (reader->module.kind == GRAPH_MODULE) {
		text_buffer_add(&name, " (");
		describe_module(&name, reader->graph, reader->module);
		text_buffer_add(&name, ")");
	}
	hold(reader, name.s);
}

/* ---- Finding */

static void find(struct reader *reader, struct graph_value value)
{
	size_t before = reader->nodes.count;
	uint16_t *grown;

	if (!graph_in_heap(value) || value.kind == GRAPH_ROOT)
		return;
	if (number_map_add(&reader->nodes, (uint64_t)value.kind << 56 | value.bits) == NUMBER_NONE)
		reader->failed = true;
	if (reader->nodes.count == before)
		return;
	grown = array_grow(reader->holder_of, before, &reader->holders_room, sizeof(*grown));
	if (!grown) {
		reader->failed = true;
		return;
	}
	reader->holder_of = grown;
	grown[before] = (uint16_t)reader->now;
}

static struct graph_value node_value(const struct reader *reader, size_t node)
{
	uint64_t key = reader->nodes.keys[node];

	return (struct graph_value){(enum graph_kind)(key >> 56), key & (~0ull >> 8)};
}

static int find_edge(void *arg, const struct graph_edge *edge)
{
	struct reader *reader = arg;

	if (!edge->weak)
		find(reader, edge->to);
	return reader->failed;
}

/* Follow all that was found. */
static void follow(struct reader *reader)
{
	while (reader->done < reader->nodes.count && !reader->failed) {
		size_t node = reader->done++;

		reader->now = reader->holder_of[node];
		graph_edges(reader->graph, node_value(reader, node), find_edge, reader);
	}
}

/* ---- Where it begins */

static bool is_runtime(struct reader *reader, uint32_t atom)
{
	return graph_atom_is(reader->graph, atom, "thaw.internals");
}

static int find_builtin(void *arg, const struct graph_edge *edge)
{
	struct reader *reader = arg;
	bool own = edge->kind == GRAPH_PROPERTY &&
		   !inspection_is_builtin(reader->graph, edge->name);

	if (!own && (edge->kind != GRAPH_PROPERTY || !is_runtime(reader, edge->name)))
		find(reader, edge->to);
	return reader->failed;
}

static int find_variable(void *arg, const struct graph_edge *edge)
{
	struct reader *reader = arg;
	bool named = edge->kind == GRAPH_PROPERTY || edge->kind == GRAPH_VARIABLE;

	if (!named || !graph_in_heap(edge->to) ||
	    (edge->kind == GRAPH_PROPERTY && inspection_is_builtin(reader->graph, edge->name)))
		return 0;
	hold_variable(reader, edge->name);
	find(reader, edge->to);
	return reader->failed;
}

static int find_module(void *arg, const struct graph_edge *edge)
{
	struct reader *reader = arg;

	if (!inspection_is_program_module(reader->graph, edge->to))
		return 0;
	reader->module = edge->to;
	graph_edges(reader->graph, edge->to, find_variable, reader);
	return reader->failed;
}

static int find_code(void *arg, const struct graph_edge *edge)
{
	struct reader *reader = arg;

	if (inspection_is_program_module(reader->graph, edge->to))
		find(reader, edge->to);
	return reader->failed;
}

static int find_runtime(void *arg, const struct graph_edge *edge)
{
	struct reader *reader = arg;

	if (edge->kind == GRAPH_PROPERTY && is_runtime(reader, edge->name))
		find(reader, edge->to);
	return reader->failed;
}

static int find_rest(void *arg, struct graph_value object)
{
	struct reader *reader = arg;

	find(reader, object);
	follow(reader);
	return reader->failed;
}

static void find_all(struct reader *reader)
{
	const struct graph_value modules = {GRAPH_ROOT, GRAPH_ROOT_MODULES};
	struct graph *graph = reader->graph;
	struct graph_value global = graph_global(graph);
	size_t ours;

	graph_begin(graph);
	/* What is not entered: it is followed last. */
	hold(reader, strdup("the engine"));
	find(reader, global);
	find(reader, graph_global_variables(graph));
	graph_edges(graph, global, find_builtin, reader);
	graph_edges(graph, (struct graph_value){GRAPH_ROOT, GRAPH_ROOT_RUNTIME}, find_edge, reader);
	for (size_t node = 0, first = reader->nodes.count; node < first; node++)
		if (node_value(reader, node).kind == GRAPH_CONTEXT)
			graph_edges(graph, node_value(reader, node), find_edge, reader);
	ours = reader->done = reader->nodes.count;

	graph_edges(graph, graph_global_variables(graph), find_variable, reader);
	graph_edges(graph, global, find_variable, reader);
	graph_edges(graph, modules, find_module, reader);
	hold(reader, strdup("code of modules"));
	graph_edges(graph, modules, find_code, reader);
	follow(reader);

	hold(reader, strdup("timers, callbacks and calls under way"));
	graph_edges(graph, global, find_runtime, reader);
	for (unsigned root = GRAPH_ROOT_STACK; root <= GRAPH_ROOT_HOST; root++)
		graph_edges(graph, (struct graph_value){GRAPH_ROOT, root}, find_edge, reader);
	follow(reader);

	reader->now = 0;
	for (size_t node = 0; node < ours && !reader->failed; node++)
		graph_edges(graph, node_value(reader, node), find_edge, reader);
	graph_edges(graph, (struct graph_value){GRAPH_ROOT, GRAPH_ROOT_ATOMS}, find_edge, reader);
	follow(reader);
	reader->now = 0;
	graph_objects(graph, find_rest, reader);
}

/* ---- Counting */

static const char *word_of(struct reader *reader, struct graph_value value)
{
	switch (value.kind) {
	case GRAPH_OBJECT:
		return graph_is_function(reader->graph, value) ? "function" : NULL;
	case GRAPH_STRING:
	case GRAPH_ROPE:
		return "string";
	case GRAPH_SYMBOL:
		return "symbol";
	case GRAPH_BIGINT:
		return "bigint";
	case GRAPH_BYTECODE:
	case GRAPH_MODULE:
		return "code";
	case GRAPH_CELL:
		return "variable of a closure";
	case GRAPH_SHAPE:
		return "shape of objects";
	case GRAPH_ASYNC:
		return "call of an async function";
	default:
		return "engine";
	}
}

/* A type is a word, or the name of a constructor. */
static uint32_t type_of(struct reader *reader, struct graph_value value)
{
	const char *word = word_of(reader, value);
	struct graph_value name = {GRAPH_UNDEFINED, 0};
	struct text_buffer text = {0};
	uint32_t *grown, type;
	size_t before = reader->types.count;

	if (!word)
		name = graph_name(reader->graph, value, &word);
	type = number_map_add(&reader->types, name.kind == GRAPH_STRING
						      ? 1ull << 56 | name.bits
						      : 2ull << 56 | (uintptr_t)word);
	if (type == NUMBER_NONE) {
		reader->failed = true;
		return 0;
	}
	if (reader->types.count == before)
		return type;
	grown = array_grow(reader->type, reader->type_count, &reader->type_room, sizeof(*grown));
	if (!grown) {
		reader->failed = true;
		return 0;
	}
	reader->type = grown;
	if (name.kind == GRAPH_STRING)
		add_text(&text, graph_text(reader->graph, name, NAME_UNITS));
	else
		text_buffer_add(&text, word);
	reader->type[reader->type_count++] = keep_text(reader, text.s);
	return type;
}

static void add(struct reader *reader, uint64_t piece, uint32_t type, unsigned holder,
		uint64_t bytes)
{
	size_t before = reader->sums.count;
	uint32_t number =
		number_map_add(&reader->sums, piece << 40 | (uint64_t)type << 12 | holder);
	struct sum *grown;

	if (number == NUMBER_NONE) {
		reader->failed = true;
		return;
	}
	if (reader->sums.count != before) {
		grown = array_grow(reader->sum, before, &reader->sum_room, sizeof(*grown));
		if (!grown) {
			reader->failed = true;
			return;
		}
		reader->sum = grown;
		grown[before] = (struct sum){0};
	}
	reader->sum[number].bytes += bytes;
	reader->sum[number].count++;
}

static void count_all(struct reader *reader)
{
	struct heap_contents *contents = reader->contents;

	for (size_t node = 0; node < reader->nodes.count && !reader->failed; node++) {
		struct graph_value value = node_value(reader, node);
		uint64_t bytes = graph_size(reader->graph, value);
		uint64_t piece = value.bits / reader->piece_bytes;
		uint32_t type = type_of(reader, value);

		if (piece >= contents->piece_count || reader->failed)
			continue;
		contents->piece[piece].bytes += bytes;
		add(reader, WHOLE, type, reader->holder_of[node], bytes);
		add(reader, piece + 1, type, reader->holder_of[node], bytes);
	}
}

/* ---- The result */

static int compare_shares(const void *a, const void *b)
{
	const struct heap_share *one = a, *other = b;

	if (one->bytes != other->bytes)
		return one->bytes < other->bytes ? 1 : -1;
	return one->count < other->count ? 1 : one->count > other->count ? -1 : 0;
}

static void keep_biggest(struct heap_piece *piece, const struct heap_share *share)
{
	unsigned at = piece->count < CONTENTS_MOST ? piece->count++ : CONTENTS_MOST;

	/* As long as it is bigger, those before it move. */
	for (; at && compare_shares(&piece->most[at - 1], share) > 0; at--)
		if (at < CONTENTS_MOST)
			piece->most[at] = piece->most[at - 1];
	if (at < CONTENTS_MOST)
		piece->most[at] = *share;
}

static void make_shares(struct reader *reader)
{
	struct heap_contents *contents = reader->contents;

	contents->share = calloc(reader->sums.count + 1, sizeof(*contents->share));
	if (!contents->share) {
		reader->failed = true;
		return;
	}
	for (size_t i = 0; i < reader->sums.count; i++) {
		uint64_t key = reader->sums.keys[i], piece = key >> 40;
		const struct heap_share share = {
			.type = contents->text[reader->type[key >> 12 & 0xfffffff]],
			.holder = contents->text[reader->holder[key & 0xfff]],
			.bytes = reader->sum[i].bytes,
			.count = reader->sum[i].count,
		};

		if (piece == WHOLE)
			contents->share[contents->share_count++] = share;
		else
			keep_biggest(&contents->piece[piece - 1], &share);
	}
	qsort(contents->share, contents->share_count, sizeof(*contents->share), compare_shares);
}

int heap_contents_read(struct graph *graph, uint64_t heap_bytes, uint64_t piece_bytes,
		       struct heap_contents *contents, struct thaw_error *error)
{
	struct reader *reader = calloc(1, sizeof(*reader));
	int code;

	*contents = (struct heap_contents){0};
	contents->piece_count = (heap_bytes + piece_bytes - 1) / piece_bytes;
	contents->piece = calloc(contents->piece_count + 1, sizeof(*contents->piece));
	if (!reader || !contents->piece) {
		free(reader);
		heap_contents_free(contents);
		return failure(error, -ENOMEM, "no memory for what the heap consists of");
	}
	reader->graph = graph;
	reader->contents = contents;
	reader->piece_bytes = piece_bytes;
	find_all(reader);
	graph_begin(graph);
	if (!reader->failed)
		count_all(reader);
	if (!reader->failed)
		make_shares(reader);
	code = graph_failed(graph, error);
	if (!code && reader->failed)
		code = failure(error, -ENOMEM, "no memory for what the heap consists of");
	number_map_free(&reader->nodes);
	number_map_free(&reader->types);
	number_map_free(&reader->sums);
	free(reader->holder_of);
	free(reader->type);
	free(reader->sum);
	free(reader);
	if (code)
		heap_contents_free(contents);
	return code;
}

void heap_contents_free(struct heap_contents *contents)
{
	for (size_t i = 0; i < contents->text_count; i++)
		free(contents->text[i]);
	free(contents->text);
	free(contents->share);
	free(contents->piece);
	*contents = (struct heap_contents){0};
}
