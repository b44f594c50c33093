// SPDX-License-Identifier: MIT
/*
 * heap_diff.c - the differences between two generations, by path: the globals, the variables of
 * modules, and all that they lead to. Called by thaw diff. One thread. Must never run the program's
 * code.
 *
 * The two graphs are walked side by side. Values with the same path are compared: primitives by
 * value, objects by their contents. Each pair of objects is compared once, under the first path
 * that leads to it, so cycles end. Each pair of variables is compared once, too, so a variable that
 * functions share is reported once, under the name of its module if it belongs to one. An object
 * that is a key of a Map is identified by its address, which never changes.
 *
 * Memory is taken for the pairs that wait, the set of all pairs with a step of a path for each, and
 * for what the two objects at hand refer to.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/array.h"
#include "base/failure.h"
#include "heap_diff_state.h"

#define DEPTH_DEFAULT 64u
#define LIMIT_DEFAULT 1000u

/* A member of an object that is compared. The members of the two sides are matched by `hash`. */
struct member {
	uint64_t hash;
	struct step step;
	struct graph_value value; /* of a variable: its cell */
	bool matched;
};

struct members {
	struct member *member;
	size_t count, room;
};

/* ---- Steps */

static uint32_t step_add(struct diff *diff, const struct step *step)
{
	struct step *grown =
		array_grow(diff->steps, diff->step_count, &diff->step_room, sizeof(*grown));

	if (grown)
		diff->steps = grown;
	if (!grown || diff->step_count >= NONE - 1) {
		diff->failed = true;
		return NONE;
	}
	diff->steps[diff->step_count] = *step;
	return (uint32_t)diff->step_count++;
}

/* ---- Pairs of objects */

/* True: the pair was not met before. Addresses have 32 bits. */
static bool meet(struct diff *diff, struct graph_value older, struct graph_value newer)
{
	size_t before = diff->seen.count;

	if (number_map_add(&diff->seen, older.bits << 32 | (newer.bits & 0xffffffff)) ==
	    NUMBER_NONE)
		diff->failed = true;
	return diff->seen.count > before;
}

static void defer(struct diff *diff, const struct pair *pair)
{
	struct pair *grown =
		array_grow(diff->pairs, diff->pair_count, &diff->pair_room, sizeof(*grown));

	if (!grown) {
		diff->failed = true;
		return;
	}
	diff->pairs = grown;
	diff->pairs[diff->pair_count++] = *pair;
}

/* ---- Comparing */

/* Compare a value that both sides have. The contents of two objects are compared later. */
static void compare(struct diff *diff, uint32_t from, const struct step *last,
		    struct graph_value older, struct graph_value newer)
{
	struct step step = *last;
	struct pair pair;

	if (older.kind == GRAPH_CELL && newer.kind == GRAPH_CELL && !meet(diff, older, newer))
		return;
	older = graph_follow(diff->sides[0].graph, older);
	newer = graph_follow(diff->sides[1].graph, newer);
	if (older.kind != GRAPH_OBJECT || newer.kind != GRAPH_OBJECT) {
		if (!heap_diff_same_primitive(diff, older, newer))
			diff_print_change(diff, CHANGED, from, last, older, newer, NULL);
		return;
	}
	if (!meet(diff, older, newer))
		return;
	if (!heap_diff_same_object(diff, older, newer)) {
		diff_print_change(diff, CHANGED, from, last, older, newer, NULL);
		if (!heap_diff_alike(diff, older, newer))
			return;
	}
	step.from = from;
	step.depth = diff->steps[from].depth + 1;
	if (step.depth > diff->depth) {
		diff->cut = true;
		return;
	}
	pair = (struct pair){{older, newer}, step_add(diff, &step)};
	defer(diff, &pair);
}

/* ---- Members */

struct collect {
	struct diff *diff;
	unsigned side, class_id;
	bool global, function, dense;
	struct members *members;
};

static int member_add(struct collect *collect, const struct member *member)
{
	struct members *members = collect->members;
	struct member *grown =
		array_grow(members->member, members->count, &members->room, sizeof(*grown));

	if (!grown) {
		collect->diff->failed = true;
		return -ENOMEM;
	}
	members->member = grown;
	members->member[members->count++] = *member;
	return 0;
}

/* Which internal references of a class are compared. */
static bool compares_internal(unsigned class_id, const char *text)
{
	switch (class_id) {
	case CLASS_BOXED_NUMBER:
	case CLASS_BOXED_STRING:
	case CLASS_BOXED_BOOLEAN:
	case CLASS_BOXED_SYMBOL:
	case CLASS_BOXED_BIGINT:
		return !strcmp(text, "(value)");
	case CLASS_PROXY:
	case CLASS_WEAK_REF:
		return !strcmp(text, "(target)") || !strcmp(text, "(handler)");
	case CLASS_BOUND_FUNCTION:
		return !strcmp(text, "(target)") || !strcmp(text, "this");
	case CLASS_PROMISE:
		return !strcmp(text, "(result)");
	default:
		/* The bytes of a typed array are in its buffer. */
		return class_id >= CLASS_TYPED_FIRST && class_id <= CLASS_DATA_VIEW &&
		       !strcmp(text, "buffer");
	}
}

static int collect_member(void *arg, const struct graph_edge *edge)
{
	struct collect *collect = arg;
	struct diff *diff = collect->diff;
	struct member member = {.step = {.name = edge->name, .side = (uint8_t)collect->side},
				.value = edge->to};
	struct member *last;

	switch ((enum graph_edge_kind)edge->kind) {
	case GRAPH_PROPERTY:
	case GRAPH_GETTER:
	case GRAPH_SETTER:
		if (collect->global
			    ? inspection_is_builtin(diff->sides[collect->side].graph, edge->name)
			    : !edge->enumerable)
			return 0;
		member.step.kind = STEP_PROPERTY;
		member.hash = heap_diff_hash_atom(diff, collect->side, edge->name) +
			      (edge->kind == GRAPH_SETTER);
		break;
	case GRAPH_ELEMENT:
		if (collect->dense)
			return 0; /* compare_elements() does these */
		member.step.kind = STEP_ELEMENT;
		member.hash = heap_diff_hash(STEP_ELEMENT, edge->name);
		break;
	case GRAPH_KEY:
		member.step.kind = STEP_MEMBER;
		member.step.key = edge->to;
		member.hash = heap_diff_hash_key(diff, collect->side, edge->to);
		break;
	case GRAPH_ENTRY:
		if (!collect->members->count)
			return 0;
		last = &collect->members->member[collect->members->count - 1];
		last->step.kind = STEP_ENTRY;
		last->value = edge->to;
		return 0;
	case GRAPH_VARIABLE:
		member.step.kind = STEP_VARIABLE;
		member.hash = heap_diff_hash(STEP_VARIABLE,
					     heap_diff_hash_atom(diff, collect->side, edge->name));
		break;
	case GRAPH_SLOT:
		if (collect->class_id != CLASS_BOUND_FUNCTION)
			return 0;
		member.step.kind = STEP_ARGUMENT;
		member.hash = heap_diff_hash(STEP_ARGUMENT, edge->name);
		break;
	case GRAPH_INTERNAL:
		if (!compares_internal(collect->class_id, edge->text))
			return 0;
		member.step.kind = STEP_TEXT;
		member.step.text = edge->text;
		member.hash =
			heap_diff_hash(STEP_TEXT, XXH3_64bits(edge->text, strlen(edge->text)));
		break;
	default:
		return 0;
	}
	return member_add(collect, &member);
}

/* The variables of a module; its exports, if it has no code that names the variables. */
static int collect_variable(void *arg, const struct graph_edge *edge)
{
	struct collect *collect = arg;
	struct member member = {
		.step = {.name = edge->name, .kind = STEP_PROPERTY, .side = (uint8_t)collect->side},
		.value = edge->to};

	if (edge->kind == GRAPH_VARIABLE)
		collect->function = true;
	else if (edge->kind != GRAPH_PROPERTY || collect->function)
		return 0;
	member.hash = heap_diff_hash_atom(collect->diff, collect->side, edge->name);
	return member_add(collect, &member);
}

static int collect_module(void *arg, const struct graph_edge *edge)
{
	struct collect *collect = arg;
	struct graph *graph = collect->diff->sides[collect->side].graph;
	struct member member = {
		.step = {.kind = STEP_MODULE, .side = (uint8_t)collect->side, .key = edge->to},
		.value = edge->to};
	const char *fallback;

	if (edge->to.kind != GRAPH_MODULE || !inspection_is_program_module(graph, edge->to))
		return 0;
	member.hash = heap_diff_hash_text(
		collect->diff, graph_text(graph, graph_name(graph, edge->to, &fallback), 4096), 0);
	return member_add(collect, &member);
}

static int by_hash(const void *a, const void *b)
{
	const struct member *const *left = a, *const *right = b;

	if ((*left)->hash != (*right)->hash)
		return (*left)->hash < (*right)->hash ? -1 : 1;
	return (*left > *right) - (*left < *right);
}

/*
 * Goes over the members of the newer side, in their order: calls `both` if the older side has the
 * member too, or else reports that it appeared. Then reports what only the older side has.
 */
typedef void match_each(struct diff *diff, uint32_t from, const struct member *older,
			const struct member *newer);

static void match(struct diff *diff, uint32_t from, struct members *older, struct members *newer,
		  match_each *both)
{
	struct member **sorted = calloc(older->count + 1, sizeof(*sorted));

	if (!sorted) {
		diff->failed = true;
		return;
	}
	for (size_t i = 0; i < older->count; i++)
		sorted[i] = &older->member[i];
	qsort(sorted, older->count, sizeof(*sorted), by_hash);
	for (size_t i = 0; i < newer->count && !diff->failed; i++) {
		struct member *member = &newer->member[i];
		size_t low = 0, high = older->count;

		while (low < high) {
			size_t middle = low + (high - low) / 2;

			if (sorted[middle]->hash < member->hash)
				low = middle + 1;
			else
				high = middle;
		}
		while (low < older->count && sorted[low]->hash == member->hash &&
		       sorted[low]->matched)
			low++;
		if (low < older->count && sorted[low]->hash == member->hash) {
			sorted[low]->matched = true;
			both(diff, from, sorted[low], member);
		} else {
			diff_print_change(diff, APPEARED, from, &member->step,
					  (struct graph_value){0},
					  graph_follow(diff->sides[1].graph, member->value), NULL);
		}
	}
	for (size_t i = 0; i < older->count && !diff->failed; i++)
		if (!older->member[i].matched)
			diff_print_change(
				diff, VANISHED, from, &older->member[i].step,
				graph_follow(diff->sides[0].graph, older->member[i].value),
				(struct graph_value){0}, NULL);
	free(sorted);
}

static void match_values(struct diff *diff, uint32_t from, const struct member *older,
			 const struct member *newer)
{
	compare(diff, from, &newer->step, older->value, newer->value);
}

/* ---- Objects */

static bool is_array(struct diff *diff, unsigned side, struct graph_value value)
{
	return graph_class(diff->sides[side].graph, value) == CLASS_ARRAY &&
	       graph_is_dense(diff->sides[side].graph, value);
}

static void tell_tail(struct diff *diff, enum change change, uint32_t from, unsigned side,
		      struct graph_value array, uint32_t first, uint32_t end)
{
	struct step step = {.name = first, .kind = STEP_ELEMENT, .side = (uint8_t)side};
	struct range range = {first, end - 1};
	struct graph_value value;

	if (first >= end)
		return;
	value = graph_element(diff->sides[side].graph, array, first);
	diff_print_change(diff, change, from, range.last == first ? &step : NULL, value, value,
			  range.last == first ? NULL : &range);
}

static void compare_elements(struct diff *diff, const struct pair *pair)
{
	struct graph *graphs[2] = {diff->sides[0].graph, diff->sides[1].graph};
	uint32_t older = graph_elements(graphs[0], pair->values[0]);
	uint32_t newer = graph_elements(graphs[1], pair->values[1]);
	uint32_t both = older < newer ? older : newer;

	for (uint32_t i = 0; i < both && !diff->failed; i++) {
		struct step step = {.name = i, .kind = STEP_ELEMENT, .side = 1};

		if (!graph_spend(graphs[0], 1) || !graph_spend(graphs[1], 1))
			return;
		compare(diff, pair->step, &step, graph_element(graphs[0], pair->values[0], i),
			graph_element(graphs[1], pair->values[1], i));
	}
	tell_tail(diff, APPEARED, pair->step, 1, pair->values[1], both, newer);
	tell_tail(diff, VANISHED, pair->step, 0, pair->values[0], both, older);
}

/* Compare two objects. The pairs that this finds come before those that wait already. */
static void compare_objects(struct diff *diff, const struct pair *pair, bool global)
{
	struct members members[2] = {{0}};
	bool dense = is_array(diff, 0, pair->values[0]) && is_array(diff, 1, pair->values[1]);
	size_t first = diff->pair_count;

	for (unsigned side = 0; side < 2; side++) {
		struct graph *graph = diff->sides[side].graph;
		struct collect collect = {.diff = diff,
					  .side = side,
					  .class_id = graph_class(graph, pair->values[side]),
					  .global = global,
					  .dense = dense,
					  .members = &members[side]};

		graph_edges(graph, pair->values[side], collect_member, &collect);
	}
	if (dense)
		compare_elements(diff, pair);
	match(diff, pair->step, &members[0], &members[1], match_values);
	/* The stack ends with the pair that comes next: reverse the new ones. */
	for (size_t i = global ? diff->pair_count : first, j = diff->pair_count; i + 1 < j; i++) {
		struct pair swapped = diff->pairs[--j];

		diff->pairs[j] = diff->pairs[i];
		diff->pairs[i] = swapped;
	}
	free(members[0].member);
	free(members[1].member);
}

static void match_modules(struct diff *diff, uint32_t from, const struct member *older,
			  const struct member *newer)
{
	struct step step = newer->step;
	struct members members[2] = {{0}};
	const struct graph_value modules[2] = {older->value, newer->value};

	(void)from;
	step.from = NONE;
	for (unsigned side = 0; side < 2; side++) {
		struct collect collect = {.diff = diff, .side = side, .members = &members[side]};

		graph_edges(diff->sides[side].graph, modules[side], collect_variable, &collect);
	}
	match(diff, step_add(diff, &step), &members[0], &members[1], match_values);
	free(members[0].member);
	free(members[1].member);
}

/* All roots come first, so that a variable of a module is reported under its name. */
static void compare_generations(struct diff *diff)
{
	const struct graph_value root = {GRAPH_ROOT, GRAPH_ROOT_MODULES};
	struct members modules[2] = {{0}};
	struct step step = {.from = NONE, .kind = STEP_GLOBAL};
	struct pair pair;

	for (unsigned side = 0; side < 2; side++) {
		struct collect collect = {.diff = diff, .side = side, .members = &modules[side]};

		graph_begin(diff->sides[side].graph);
		graph_edges(diff->sides[side].graph, root, collect_module, &collect);
	}
	match(diff, NONE, &modules[0], &modules[1], match_modules);
	free(modules[0].member);
	free(modules[1].member);

	pair.step = step_add(diff, &step);
	pair.values[0] = graph_global(diff->sides[0].graph);
	pair.values[1] = graph_global(diff->sides[1].graph);
	meet(diff, pair.values[0], pair.values[1]);
	compare_objects(diff, &pair, true);
	pair.values[0] = graph_global_variables(diff->sides[0].graph);
	pair.values[1] = graph_global_variables(diff->sides[1].graph);
	compare_objects(diff, &pair, true);
	for (size_t i = 0, j = diff->pair_count; i + 1 < j; i++) {
		struct pair swapped = diff->pairs[--j];

		diff->pairs[j] = diff->pairs[i];
		diff->pairs[i] = swapped;
	}
	while (diff->pair_count && !diff->failed && !graph_failed(diff->sides[0].graph, NULL) &&
	       !graph_failed(diff->sides[1].graph, NULL)) {
		pair = diff->pairs[--diff->pair_count];
		compare_objects(diff, &pair, false);
	}
}

/* ---- The whole */

int heap_diff_write(struct inspection sides[2], const struct heap_diff_options *options, FILE *to,
		    struct thaw_error *error)
{
	struct diff *diff = calloc(1, sizeof(*diff));
	int code;

	if (!diff)
		return failure(error, -ENOMEM, "%s: no memory to compare", sides[0].path);
	diff->sides = sides;
	diff->depth = options->depth ? options->depth : DEPTH_DEFAULT;
	diff->limit = options->limit ? options->limit : LIMIT_DEFAULT;
	diff->as_json = options->json;
	diff->pages = &options->pages;
	diff->to = diff->json.to = to;
	diff_print_begin(diff);
	compare_generations(diff);
	code = graph_failed(sides[0].graph, error);
	if (!code)
		code = graph_failed(sides[1].graph, error);
	if (!code && diff->failed)
		code = failure(error, -ENOMEM, "%s: not enough memory to compare them",
			       sides[0].path);
	if (!code)
		diff_print_end(diff);
	free(diff->steps);
	free(diff->pairs);
	number_map_free(&diff->seen);
	free(diff);
	return code;
}
