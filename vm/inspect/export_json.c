// SPDX-License-Identifier: MIT
/*
 * people.c - a generation as JSON for people: the globals and the variables of modules, as values.
 *
 * What JSON has is written as it is. Everything else is an object with a "$type"; a property of the
 * program's whose name begins with $ gets another in front. An object is written where it is met first,
 * and where it is met again as {"$ref": "path"}, and so is a long text; what is left out is said: "$cut",
 * "$more".
 *
 * Depth first, with a stack of its own: objects may lie as deep in one another as the heap has room for.
 * In memory: the objects on the way down with what they refer to (up to the limit each), and a record of
 * every object met, for the paths.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "failure.h"
#include "export_json_state.h"

#define DEPTH_DEFAULT 64u
#define LIMIT_DEFAULT 100000u
#define PATH_PARTS 100u
#define TEXT_REPEATED 64u /* a longer text is written once */

/* ---- Objects that were met */

static uint32_t met_find(const struct people *people, uint32_t address)
{
	return numbers_find(&people->met_numbers, address);
}

/* One that was not. */
static uint32_t met_add(struct people *people, uint32_t address, const struct met *met)
{
	uint32_t number = numbers_add(&people->met_numbers, address);

	if (number != NUMBER_NONE && number >= people->met_room) {
		size_t room = people->met_room ? people->met_room + people->met_room / 2 : 1024;
		struct met *grown = realloc(people->met, room * sizeof(*grown));

		if (grown) {
			people->met = grown;
			people->met_room = room;
		} else {
			number = NUMBER_NONE;
		}
	}
	if (number == NUMBER_NONE)
		people->failed = true;
	else
		people->met[number] = *met;
	return number;
}

static void add_step(struct people *people, const struct met *met)
{
	switch ((enum graph_edge_kind)met->kind) {
	case GRAPH_PROPERTY:
	case GRAPH_VARIABLE:
		look_add_property(&people->text, people->graph, met->name);
		break;
	case GRAPH_ELEMENT:
		look_printf(&people->text, "[%u]", met->name);
		break;
	case GRAPH_KEY:
		look_printf(&people->text, ".entries[%u][0]", met->name);
		break;
	case GRAPH_ENTRY:
		look_printf(&people->text, ".entries[%u][1]", met->name);
		break;
	case GRAPH_SLOT:
		look_printf(&people->text, ".arguments[%u]", met->name);
		break;
	default: /* "(target)": target */
		look_printf(&people->text, ".%.*s",
			    (int)strlen(met->text) - 2 * (met->text[0] == '('),
			    met->text + (met->text[0] == '('));
		break;
	}
}

static struct graph_value module_at(struct people *people, uint32_t index);

static void put_reference(struct people *people, uint32_t index)
{
	uint32_t parts[PATH_PARTS];
	unsigned count = 0;
	bool whole = false;

	while (count < PATH_PARTS && !whole) {
		parts[count++] = index;
		whole = people->met[index].from == PEOPLE_NONE;
		index = people->met[index].from;
	}
	if (!whole) {
		look_add(&people->text, "...");
	} else if (people->met[parts[count - 1]].frame != PEOPLE_NONE) {
		look_printf(&people->text, "running[%u].variables",
			    people->met[parts[count - 1]].frame);
	} else if (people->met[parts[count - 1]].module == PEOPLE_NONE) {
		look_add(&people->text, "globals");
	} else {
		const char *fallback;
		struct graph_text name = graph_text(
			people->graph,
			graph_name(people->graph,
				   module_at(people, people->met[parts[count - 1]].module),
				   &fallback),
			4096);

		look_add(&people->text, "modules[\"");
		look_add_units(&people->text, name.units, name.count);
		look_add(&people->text, "\"].variables");
		free(name.units);
	}
	while (count)
		add_step(people, &people->met[parts[--count]]);
	people_put(people, "{\"$ref\": ");
	/* The path is text by now; make it JSON's. */
	{
		char *path = people->text.s;

		people->text = (struct look_text){0};
		look_add(&people->text, "\"");
		for (const char *c = path ? path : ""; *c; c++)
			look_printf(&people->text, *c == '"' || *c == '\\' ? "\\%c" : "%c", *c);
		look_add(&people->text, "\"}");
		free(path);
		people_put_text(people);
	}
}

/* ---- What an object shows */

struct collect {
	struct people *people;
	struct edges *edges;
	unsigned class_id;
	bool global;
};

/* Is it shown, among what an object of that class refers to? */
static bool is_shown(const struct collect *collect, const struct graph_edge *edge)
{
	const struct people *people = collect->people;

	switch ((enum graph_edge_kind)edge->kind) {
	case GRAPH_PROPERTY:
	case GRAPH_GETTER:
	case GRAPH_SETTER:
		if (collect->global)
			return people->options.all || !look_is_builtin(people->graph, edge->name);
		return edge->enumerable || people->options.all;
	case GRAPH_ELEMENT:
	case GRAPH_KEY:
	case GRAPH_ENTRY:
		return true;
	case GRAPH_VARIABLE:
		return collect->class_id == CLASS_GENERATOR ||
		       collect->class_id == CLASS_ASYNC_GENERATOR || people->options.all;
	case GRAPH_SLOT:
		return collect->class_id == CLASS_BOUND_FUNCTION;
	case GRAPH_INTERNAL:
		switch (collect->class_id) {
		case CLASS_PROXY:
		case CLASS_WEAK_REF:
			return edge->text[0] == '(' && strcmp(edge->text, "(shape)");
		case CLASS_BOUND_FUNCTION:
			return !strcmp(edge->text, "(target)") || !strcmp(edge->text, "this");
		case CLASS_PROMISE:
			return !strcmp(edge->text, "(result)");
		case CLASS_DATA_VIEW:
			return !strcmp(edge->text, "buffer");
		case CLASS_ERROR:
			return !strcmp(edge->text, "(stack)") && edge->to.kind != GRAPH_UNDEFINED;
		case CLASS_BOXED_NUMBER:
		case CLASS_BOXED_STRING:
		case CLASS_BOXED_BOOLEAN:
		case CLASS_BOXED_SYMBOL:
		case CLASS_BOXED_BIGINT:
			return !strcmp(edge->text, "(value)");
		default:
			return false;
		}
	default:
		return false;
	}
}

/* Append it, unless there are enough; a key comes with its value or not at all. */
static int keep(struct people *people, struct edges *edges, const struct graph_edge *edge)
{
	const struct graph_edge *last = edges->count ? &edges->edge[edges->count - 1] : NULL;
	bool value = edge->kind == GRAPH_ENTRY;

	if (value && !(last && last->kind == GRAPH_KEY && last->name == edge->name))
		return 0;
	if (!value && edges->count >= people->options.limit) {
		edges->more++;
		return 0;
	}
	if (edges->count == edges->room) {
		size_t room = edges->room ? edges->room * 2 : 8;
		struct graph_edge *grown = realloc(edges->edge, room * sizeof(*grown));

		if (!grown) {
			people->failed = true;
			return -ENOMEM;
		}
		edges->edge = grown;
		edges->room = room;
	}
	edges->edge[edges->count++] = *edge;
	return 0;
}

static int collect_edge(void *arg, const struct graph_edge *edge)
{
	struct collect *collect = arg;
	struct edges *edges = collect->edges;
	struct graph_edge kept = *edge;

	if (!is_shown(collect, edge))
		return 0;
	if (edge->kind == GRAPH_SETTER && edges->count &&
	    edges->edge[edges->count - 1].kind == GRAPH_GETTER &&
	    edges->edge[edges->count - 1].name == edge->name) {
		edges->edge[edges->count - 1].text = "getter and setter";
		return 0;
	}
	if (edge->kind == GRAPH_GETTER)
		kept.text = "getter";
	else if (edge->kind == GRAPH_SETTER)
		kept.text = "setter";
	return keep(collect->people, edges, &kept);
}

static void collect(struct people *people, struct graph_value value, bool global,
		    struct edges *edges)
{
	struct collect collect = {.people = people,
				  .edges = edges,
				  .class_id = graph_class(people->graph, value),
				  .global = global};

	graph_edges(people->graph, value, collect_edge, &collect);
}

/* ---- Objects */

static bool is_list(unsigned class_id)
{
	return class_id == CLASS_ARRAY || class_id == CLASS_ARGUMENTS ||
	       class_id == CLASS_MAPPED_ARGUMENTS;
}

/* Only elements, all of them: it can be a JSON array. */
static bool is_plain_array(struct people *people, struct graph_value value,
			   const struct edges *edges)
{
	if (graph_class(people->graph, value) != CLASS_ARRAY ||
	    !graph_is_dense(people->graph, value))
		return false;
	for (size_t i = 0; i < edges->count; i++)
		if (edges->edge[i].kind != GRAPH_ELEMENT)
			return false;
	return true;
}

static bool is_plain_object(struct people *people, struct graph_value value)
{
	const char *fallback;
	struct graph_value proto, name;
	struct graph_text text;
	bool plain;

	if (graph_class(people->graph, value) != CLASS_OBJECT)
		return false;
	proto = graph_proto(people->graph, value);
	if (proto.kind != GRAPH_OBJECT)
		return true;
	name = graph_name(people->graph, value, &fallback);
	text = graph_text(people->graph, name, 7);
	plain = text.total == 6 && !memcmp(text.units, u"Object", 12);
	free(text.units);
	return plain;
}

/* Few enough, and nothing that would begin a line of its own. */
static bool fits_one_line(const struct edges *edges)
{
	if (edges->count > 16 || edges->more)
		return false;
	for (size_t i = 0; i < edges->count; i++)
		if (graph_in_heap(edges->edge[i].to) && edges->edge[i].to.kind != GRAPH_STRING)
			return false;
	return true;
}

/* How deep the objects on the way down are. */
static bool too_deep(const struct people *people)
{
	return people->depth >= people->options.depth;
}

/* How one gets to what is written next. */
static struct met way_to(const struct people *people, const struct graph_edge *edge)
{
	return (struct met){
		.from = people->depth ? people->levels[people->depth - 1].met : PEOPLE_NONE,
		.name = edge->name,
		.kind = edge->kind,
		.text = edge->text,
		.module = people->module,
		.frame = people->frame,
	};
}

/* Begin an object, or write all of it if it is one that was met, or too deep. */
static void begin(struct people *people, struct graph_value value, const struct graph_edge *edge)
{
	struct met met = way_to(people, edge);
	unsigned class_id = graph_class(people->graph, value);
	uint32_t index = met_find(people, (uint32_t)value.bits);
	struct level level = {.value = value};

	if (index != PEOPLE_NONE) {
		put_reference(people, index);
		return;
	}
	if (too_deep(people)) {
		people_put(people, "{\"$cut\": \"depth\", ");
		people_put_type(people, value);
		people_put(people, "}");
		return;
	}
	level.met = met_add(people, (uint32_t)value.bits, &met);
	collect(people, value, false, &level.edges);
	if (people->depth == people->levels_room) {
		size_t room = people->levels_room ? people->levels_room * 2 : 64;
		struct level *grown = realloc(people->levels, room * sizeof(*grown));

		if (!grown)
			people->failed = true;
		else
			people->levels = grown;
		people->levels_room = grown ? room : people->levels_room;
	}
	if (people->failed) {
		free(level.edges.edge);
		return;
	}
	level.close = '}';
	level.pairs = class_id == CLASS_MAP || class_id == CLASS_WEAK_MAP;
	if (is_plain_array(people, value, &level.edges)) {
		people_put(people, "[");
		level.close = ']';
		level.section = 'a';
		level.one_line = fits_one_line(&level.edges);
	} else {
		people_put(people, "{");
		level.plain = class_id == CLASS_OBJECT || class_id == CLASS_NAMESPACE;
		if (!is_plain_object(people, value)) {
			people_put_type(people, value);
			people_put_special(people, value, class_id);
			if (is_list(class_id)) {
				struct graph_value length =
					graph_array_length(people->graph, value);

				people_put(people, ", \"length\": ");
				people_put_primitive(people, length);
			}
			level.comma = true;
		}
	}
	level.indent = people->line + 1;
	people->levels[people->depth++] = level;
}

/* Sections: a elements, e entries, v variables, w arguments, p properties, 0 directly in the object. */
static char section_of(const struct level *level, const struct graph_edge *edge)
{
	switch ((enum graph_edge_kind)edge->kind) {
	case GRAPH_ELEMENT:
		return 'a';
	case GRAPH_KEY:
	case GRAPH_ENTRY:
		return 'e';
	case GRAPH_VARIABLE:
		return 'v';
	case GRAPH_SLOT:
		return 'w';
	case GRAPH_INTERNAL:
		return 0;
	default:
		return level->plain ? 0 : 'p';
	}
}

static void close_section(struct people *people, struct level *level)
{
	if (!level->section || level->close == ']')
		return;
	people_new_line(people, level->indent);
	people_put(people, level->section == 'v' || level->section == 'p' ? "}" : "]");
	level->section = 0;
	level->comma = true;
}

static void open_section(struct people *people, struct level *level, char section)
{
	people_put(people, level->comma ? "," : "");
	people_new_line(people, level->indent);
	switch (section) {
	case 'a':
		people_put(people, "\"elements\": [");
		break;
	case 'e':
		people_put(people, level->pairs ? "\"entries\": [" : "\"values\": [");
		break;
	case 'v':
		people_put(people, "\"variables\": {");
		break;
	case 'w':
		people_put(people, "\"arguments\": [");
		break;
	default:
		people_put(people, "\"properties\": {");
		break;
	}
	level->section = section;
	level->comma = false;
}

static void put_value(struct people *people, struct graph_value value,
		      const struct graph_edge *edge)
{
	bool text = value.kind == GRAPH_STRING || value.kind == GRAPH_ROPE;
	struct met met;
	uint32_t index;

	if (value.kind == GRAPH_OBJECT) {
		begin(people, value, edge);
		return;
	}
	if (text && graph_length(people->graph, value) > TEXT_REPEATED) {
		index = met_find(people, (uint32_t)value.bits);
		if (index != PEOPLE_NONE) {
			put_reference(people, index);
			return;
		}
		met = way_to(people, edge);
		met_add(people, (uint32_t)value.bits, &met);
	}
	people_put_primitive(people, value);
}

/* "(target)": target. */
static void put_internal_key(struct people *people, const char *text)
{
	size_t length = strlen(text);

	if (text[0] == '(')
		fprintf(people->to, "\"%.*s\": ", (int)length - 2, text + 1);
	else
		fprintf(people->to, "\"%s\": ", text);
}

/* The next thing that the innermost object refers to. */
static void put_next(struct people *people)
{
	struct level *level = &people->levels[people->depth - 1];
	struct graph_edge edge = level->edges.edge[level->next++];
	char section = section_of(level, &edge);
	bool pair = edge.kind == GRAPH_ENTRY;

	if (section != level->section) {
		close_section(people, level);
		if (section)
			open_section(people, level, section);
	}
	if (!pair) {
		people_put(people, level->comma ? "," : "");
		if (!level->one_line)
			people_new_line(people,
					level->indent + (level->section && level->close != ']'));
		else if (level->comma)
			people_put(people, " ");
	} else {
		people_put(people, ", ");
	}
	level->comma = true;
	switch ((enum graph_edge_kind)edge.kind) {
	case GRAPH_PROPERTY:
	case GRAPH_VARIABLE:
		people_put_key(people, edge.name);
		break;
	case GRAPH_GETTER:
	case GRAPH_SETTER:
		people_put_key(people, edge.name);
		fprintf(people->to, "{\"$type\": \"%s\"}", edge.text);
		return;
	case GRAPH_INTERNAL:
		put_internal_key(people, edge.text);
		break;
	case GRAPH_KEY:
		people_put(people, level->pairs ? "[" : "");
		break;
	default:
		break;
	}
	put_value(people, graph_follow(people->graph, edge.to), &edge);
}

/* Behind a Map's key stands its value, behind that the bracket. */
static void after_value(struct people *people)
{
	const struct level *level = &people->levels[people->depth - 1];
	const struct graph_edge *edge = level->edges.edge + level->next;

	if (!level->next || level->section != 'e' || !level->pairs)
		return;
	if (edge[-1].kind == GRAPH_KEY && level->next < level->edges.count &&
	    edge->kind == GRAPH_ENTRY)
		return;
	people_put(people, "]");
}

static void end(struct people *people)
{
	struct level level = people->levels[people->depth - 1];

	close_section(people, &level);
	if (level.edges.more) {
		people_put(people, level.comma ? "," : "");
		people_new_line(people, level.indent);
		fprintf(people->to, level.close == ']' ? "{\"$more\": %llu}" : "\"$more\": %llu",
			(unsigned long long)level.edges.more);
	}
	people->depth--;
	if ((level.edges.count || level.edges.more) && !level.one_line)
		people_new_line(people, level.indent - 1);
	putc(level.close, people->to);
	free(level.edges.edge);
}

/* A value with all that is below it. */
static void put_tree(struct people *people, struct graph_value value, const struct graph_edge *edge)
{
	put_value(people, value, edge);
	while (people->depth && !people->failed && !graph_failed(people->graph, NULL)) {
		struct level *level = &people->levels[people->depth - 1];
		size_t depth = people->depth;

		if (level->next < level->edges.count) {
			put_next(people);
			if (people->depth == depth)
				after_value(people);
		} else {
			end(people);
			if (people->depth)
				after_value(people);
		}
	}
}

/* ---- The document */

struct find_module {
	uint32_t index;
	struct graph_value module;
};

static int find_module(void *arg, const struct graph_edge *edge)
{
	struct find_module *find = arg;

	if (edge->name != find->index)
		return 0;
	find->module = edge->to;
	return 1;
}

static struct graph_value module_at(struct people *people, uint32_t index)
{
	struct find_module find = {index, {GRAPH_OTHER, 0}};

	graph_edges(people->graph, (struct graph_value){GRAPH_ROOT, GRAPH_ROOT_MODULES},
		    find_module, &find);
	return find.module;
}

/* The names that `edges` has, with their values, at one more than the document's indent. */
static void put_names(struct people *people, const struct edges *edges, size_t indent)
{
	bool comma = false;

	for (size_t i = 0; i < edges->count && !people->failed; i++) {
		const struct graph_edge *edge = &edges->edge[i];

		people_put(people, comma ? "," : "");
		people_new_line(people, indent);
		comma = true;
		people_put_key(people, edge->name);
		if (edge->kind == GRAPH_GETTER || edge->kind == GRAPH_SETTER)
			fprintf(people->to, "{\"$type\": \"%s\"}", edge->text);
		else
			put_tree(people, graph_follow(people->graph, edge->to), edge);
	}
	if (edges->more) {
		people_put(people, comma ? "," : "");
		people_new_line(people, indent);
		fprintf(people->to, "\"$more\": %llu", (unsigned long long)edges->more);
	}
	if (edges->count || edges->more)
		people_new_line(people, indent - 1);
}

struct variables {
	struct people *people;
	struct edges edges;
	bool declared; /* it has variables of its own: exports are among them */
};

static int collect_variable(void *arg, const struct graph_edge *edge)
{
	struct variables *variables = arg;
	struct graph_edge variable = *edge;

	if (edge->kind == GRAPH_VARIABLE)
		variables->declared = true;
	else if (edge->kind == GRAPH_IMPORT && variables->people->options.all)
		variable.kind = GRAPH_VARIABLE;
	else if (edge->kind != GRAPH_PROPERTY || variables->declared)
		return 0;
	else
		variable.kind = GRAPH_VARIABLE;
	return keep(variables->people, &variables->edges, &variable);
}

static int put_module(void *arg, const struct graph_edge *edge)
{
	struct people *people = arg;
	struct variables variables = {.people = people};
	const char *fallback;

	if (!people->options.all && !look_is_program_module(people->graph, edge->to))
		return 0;
	graph_edges(people->graph, edge->to, collect_variable, &variables);
	people_put(people, people->module == PEOPLE_NONE ? "" : ",");
	people->module = edge->name;
	people_new_line(people, 2);
	people_put_quoted(people, graph_text(people->graph,
					     graph_name(people->graph, edge->to, &fallback), 4096));
	people_put(people, ": {");
	people_new_line(people, 3);
	people_put(people, "\"variables\": {");
	put_names(people, &variables.edges, 4);
	people_put(people, "}");
	people_new_line(people, 2);
	people_put(people, "}");
	free(variables.edges.edge);
	return people->failed;
}

static int keep_frame(void *arg, const struct graph_edge *edge)
{
	struct variables *variables = arg;

	if (edge->kind != GRAPH_VARIABLE && edge->kind != GRAPH_INTERNAL)
		return 0;
	return keep(variables->people, &variables->edges, edge);
}

/* A generation that was taken in the middle of a turn: the functions that run, innermost first. */
static void put_running(struct people *people)
{
	struct variables variables = {.people = people};
	size_t next;

	graph_edges(people->graph, (struct graph_value){GRAPH_ROOT, GRAPH_ROOT_STACK}, keep_frame,
		    &variables);
	if (!variables.edges.count)
		return;
	people_put(people, ",\n  \"running\": [");
	for (size_t i = 0; i < variables.edges.count && !people->failed; i = next) {
		struct edges frame = {.edge = variables.edges.edge + i + 1};

		for (next = i + 1; next < variables.edges.count &&
				   variables.edges.edge[next].kind == GRAPH_VARIABLE;
		     next++)
			frame.count++;
		people_put(people, i ? "," : "");
		people_new_line(people, 2);
		people_put(people, "{\"$type\": \"call\"");
		people_put_function(people, variables.edges.edge[i].to);
		people_put(people, ", \"variables\": {");
		people->frame++; /* the first one's number is 0 */
		put_names(people, &frame, 3);
		people_put(people, "}}");
	}
	people_new_line(people, 1);
	people_put(people, "]");
	free(variables.edges.edge);
}

static void put_document(struct people *people)
{
	struct edges edges = {0};

	people_put(people, "{\n  \"image\": ");
	json_text(&(struct json){.to = people->to}, NULL, people->look->path);
	fprintf(people->to, ",\n  \"generation\": %llu,\n  \"globals\": {",
		(unsigned long long)people->look->generation);
	people->module = people->frame = PEOPLE_NONE;
	collect(people, graph_global(people->graph), true, &edges);
	/* A script's let, const and class stand beside them. */
	collect(people, graph_global_variables(people->graph), true, &edges);
	put_names(people, &edges, 2);
	free(edges.edge);
	people_put(people, "},\n  \"modules\": {");
	graph_edges(people->graph, (struct graph_value){GRAPH_ROOT, GRAPH_ROOT_MODULES}, put_module,
		    people);
	if (people->module != PEOPLE_NONE)
		people_new_line(people, 1);
	people_put(people, "}");
	put_running(people);
	people_put(people, "\n}\n");
}

int people_write(struct look *look, const struct people_options *options, FILE *to,
		 struct thaw_error *error)
{
	struct people people = {.look = look, .graph = look->graph, .to = to, .options = *options};
	int code;

	if (!people.options.depth)
		people.options.depth = DEPTH_DEFAULT;
	if (!people.options.limit)
		people.options.limit = LIMIT_DEFAULT;
	graph_begin(look->graph);
	put_document(&people);
	code = graph_failed(look->graph, error);
	if (!code && people.failed)
		code = failure(error, -ENOMEM, "%s: not enough memory to export it", look->path);
	while (people.depth)
		free(people.levels[--people.depth].edges.edge);
	free(people.levels);
	free(people.met);
	numbers_free(&people.met_numbers);
	free(people.text.s);
	return code;
}
