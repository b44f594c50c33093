// SPDX-License-Identifier: MIT
/*
 * export_json.c - a generation as JSON for people: the globals and the variables of modules, as values.
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

static uint32_t met_find(const struct export *export, uint32_t address)
{
	return number_map_find(&export->met_numbers, address);
}

/* One that was not. */
static uint32_t met_add(struct export *export, uint32_t address, const struct met *met)
{
	uint32_t number = number_map_add(&export->met_numbers, address);

	if (number != NUMBER_NONE && number >= export->met_room) {
		size_t room = export->met_room ? export->met_room + export->met_room / 2 : 1024;
		struct met *grown = realloc(export->met, room * sizeof(*grown));

		if (grown) {
			export->met = grown;
			export->met_room = room;
		} else {
			number = NUMBER_NONE;
		}
	}
	if (number == NUMBER_NONE)
		export->failed = true;
	else
		export->met[number] = *met;
	return number;
}

static void add_step(struct export *export, const struct met *met)
{
	switch ((enum graph_edge_kind)met->kind) {
	case GRAPH_PROPERTY:
	case GRAPH_VARIABLE:
		describe_property(&export->text, export->graph, met->name);
		break;
	case GRAPH_ELEMENT:
		text_buffer_printf(&export->text, "[%u]", met->name);
		break;
	case GRAPH_KEY:
		text_buffer_printf(&export->text, ".entries[%u][0]", met->name);
		break;
	case GRAPH_ENTRY:
		text_buffer_printf(&export->text, ".entries[%u][1]", met->name);
		break;
	case GRAPH_SLOT:
		text_buffer_printf(&export->text, ".arguments[%u]", met->name);
		break;
	default: /* "(target)": target */
		text_buffer_printf(&export->text, ".%.*s",
				   (int)strlen(met->text) - 2 * (met->text[0] == '('),
				   met->text + (met->text[0] == '('));
		break;
	}
}

static struct graph_value module_at(struct export *export, uint32_t index);

static void put_reference(struct export *export, uint32_t index)
{
	uint32_t parts[PATH_PARTS];
	unsigned count = 0;
	bool whole = false;

	while (count < PATH_PARTS && !whole) {
		parts[count++] = index;
		whole = export->met[index].from == EXPORT_NONE;
		index = export->met[index].from;
	}
	if (!whole) {
		text_buffer_add(&export->text, "...");
	} else if (export->met[parts[count - 1]].frame != EXPORT_NONE) {
		text_buffer_printf(&export->text, "running[%u].variables",
				   export->met[parts[count - 1]].frame);
	} else if (export->met[parts[count - 1]].module == EXPORT_NONE) {
		text_buffer_add(&export->text, "globals");
	} else {
		const char *fallback;
		struct graph_text name = graph_text(
			export->graph,
			graph_name(export->graph,
				   module_at(export, export->met[parts[count - 1]].module),
				   &fallback),
			4096);

		text_buffer_add(&export->text, "modules[\"");
		text_buffer_add_units(&export->text, name.units, name.count);
		text_buffer_add(&export->text, "\"].variables");
		free(name.units);
	}
	while (count)
		add_step(export, &export->met[parts[--count]]);
	export_put(export, "{\"$ref\": ");
	/* The path is text by now; make it JSON's. */
	{
		char *path = export->text.s;

		export->text = (struct text_buffer){0};
		text_buffer_add(&export->text, "\"");
		for (const char *c = path ? path : ""; *c; c++)
			text_buffer_printf(&export->text, *c == '"' || *c == '\\' ? "\\%c" : "%c",
					   *c);
		text_buffer_add(&export->text, "\"}");
		free(path);
		export_put_text(export);
	}
}

/* ---- What an object shows */

struct collect {
	struct export *export;
	struct edges *edges;
	unsigned class_id;
	bool global;
};

/* Is it shown, among what an object of that class refers to? */
static bool is_shown(const struct collect *collect, const struct graph_edge *edge)
{
	const struct export *export = collect->export;

	switch ((enum graph_edge_kind)edge->kind) {
	case GRAPH_PROPERTY:
	case GRAPH_GETTER:
	case GRAPH_SETTER:
		if (collect->global)
			return export->options.all ||
			       !inspection_is_builtin(export->graph, edge->name);
		return edge->enumerable || export->options.all;
	case GRAPH_ELEMENT:
	case GRAPH_KEY:
	case GRAPH_ENTRY:
		return true;
	case GRAPH_VARIABLE:
		return collect->class_id == CLASS_GENERATOR ||
		       collect->class_id == CLASS_ASYNC_GENERATOR || export->options.all;
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
static int keep(struct export *export, struct edges *edges, const struct graph_edge *edge)
{
	const struct graph_edge *last = edges->count ? &edges->edge[edges->count - 1] : NULL;
	bool value = edge->kind == GRAPH_ENTRY;

	if (value && !(last && last->kind == GRAPH_KEY && last->name == edge->name))
		return 0;
	if (!value && edges->count >= export->options.limit) {
		edges->more++;
		return 0;
	}
	if (edges->count == edges->room) {
		size_t room = edges->room ? edges->room * 2 : 8;
		struct graph_edge *grown = realloc(edges->edge, room * sizeof(*grown));

		if (!grown) {
			export->failed = true;
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
	return keep(collect->export, edges, &kept);
}

static void collect(struct export *export, struct graph_value value, bool global,
		    struct edges *edges)
{
	struct collect collect = {.export = export,
				  .edges = edges,
				  .class_id = graph_class(export->graph, value),
				  .global = global};

	graph_edges(export->graph, value, collect_edge, &collect);
}

/* ---- Objects */

static bool is_list(unsigned class_id)
{
	return class_id == CLASS_ARRAY || class_id == CLASS_ARGUMENTS ||
	       class_id == CLASS_MAPPED_ARGUMENTS;
}

/* Only elements, all of them: it can be a JSON array. */
static bool is_plain_array(struct export *export, struct graph_value value,
			   const struct edges *edges)
{
	if (graph_class(export->graph, value) != CLASS_ARRAY ||
	    !graph_is_dense(export->graph, value))
		return false;
	for (size_t i = 0; i < edges->count; i++)
		if (edges->edge[i].kind != GRAPH_ELEMENT)
			return false;
	return true;
}

static bool is_plain_object(struct export *export, struct graph_value value)
{
	const char *fallback;
	struct graph_value proto, name;
	struct graph_text text;
	bool plain;

	if (graph_class(export->graph, value) != CLASS_OBJECT)
		return false;
	proto = graph_proto(export->graph, value);
	if (proto.kind != GRAPH_OBJECT)
		return true;
	name = graph_name(export->graph, value, &fallback);
	text = graph_text(export->graph, name, 7);
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
static bool too_deep(const struct export *export)
{
	return export->depth >= export->options.depth;
}

/* How one gets to what is written next. */
static struct met way_to(const struct export *export, const struct graph_edge *edge)
{
	return (struct met){
		.from = export->depth ? export->levels[export->depth - 1].met : EXPORT_NONE,
		.name = edge->name,
		.kind = edge->kind,
		.text = edge->text,
		.module = export->module,
		.frame = export->frame,
	};
}

/* Begin an object, or write all of it if it is one that was met, or too deep. */
static void begin(struct export *export, struct graph_value value, const struct graph_edge *edge)
{
	struct met met = way_to(export, edge);
	unsigned class_id = graph_class(export->graph, value);
	uint32_t index = met_find(export, (uint32_t)value.bits);
	struct level level = {.value = value};

	if (index != EXPORT_NONE) {
		put_reference(export, index);
		return;
	}
	if (too_deep(export)) {
		export_put(export, "{\"$cut\": \"depth\", ");
		export_put_type(export, value);
		export_put(export, "}");
		return;
	}
	level.met = met_add(export, (uint32_t)value.bits, &met);
	collect(export, value, false, &level.edges);
	if (export->depth == export->levels_room) {
		size_t room = export->levels_room ? export->levels_room * 2 : 64;
		struct level *grown = realloc(export->levels, room * sizeof(*grown));

		if (!grown)
			export->failed = true;
		else
			export->levels = grown;
		export->levels_room = grown ? room : export->levels_room;
	}
	if (export->failed) {
		free(level.edges.edge);
		return;
	}
	level.close = '}';
	level.pairs = class_id == CLASS_MAP || class_id == CLASS_WEAK_MAP;
	if (is_plain_array(export, value, &level.edges)) {
		export_put(export, "[");
		level.close = ']';
		level.section = 'a';
		level.one_line = fits_one_line(&level.edges);
	} else {
		export_put(export, "{");
		level.plain = class_id == CLASS_OBJECT || class_id == CLASS_NAMESPACE;
		if (!is_plain_object(export, value)) {
			export_put_type(export, value);
			export_put_special(export, value, class_id);
			if (is_list(class_id)) {
				struct graph_value length =
					graph_array_length(export->graph, value);

				export_put(export, ", \"length\": ");
				export_put_primitive(export, length);
			}
			level.comma = true;
		}
	}
	level.indent = export->line + 1;
	export->levels[export->depth++] = level;
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

static void close_section(struct export *export, struct level *level)
{
	if (!level->section || level->close == ']')
		return;
	export_new_line(export, level->indent);
	export_put(export, level->section == 'v' || level->section == 'p' ? "}" : "]");
	level->section = 0;
	level->comma = true;
}

static void open_section(struct export *export, struct level *level, char section)
{
	export_put(export, level->comma ? "," : "");
	export_new_line(export, level->indent);
	switch (section) {
	case 'a':
		export_put(export, "\"elements\": [");
		break;
	case 'e':
		export_put(export, level->pairs ? "\"entries\": [" : "\"values\": [");
		break;
	case 'v':
		export_put(export, "\"variables\": {");
		break;
	case 'w':
		export_put(export, "\"arguments\": [");
		break;
	default:
		export_put(export, "\"properties\": {");
		break;
	}
	level->section = section;
	level->comma = false;
}

static void put_value(struct export *export, struct graph_value value,
		      const struct graph_edge *edge)
{
	bool text = value.kind == GRAPH_STRING || value.kind == GRAPH_ROPE;
	struct met met;
	uint32_t index;

	if (value.kind == GRAPH_OBJECT) {
		begin(export, value, edge);
		return;
	}
	if (text && graph_length(export->graph, value) > TEXT_REPEATED) {
		index = met_find(export, (uint32_t)value.bits);
		if (index != EXPORT_NONE) {
			put_reference(export, index);
			return;
		}
		met = way_to(export, edge);
		met_add(export, (uint32_t)value.bits, &met);
	}
	export_put_primitive(export, value);
}

/* "(target)": target. */
static void put_internal_key(struct export *export, const char *text)
{
	size_t length = strlen(text);

	if (text[0] == '(')
		fprintf(export->to, "\"%.*s\": ", (int)length - 2, text + 1);
	else
		fprintf(export->to, "\"%s\": ", text);
}

/* The next thing that the innermost object refers to. */
static void put_next(struct export *export)
{
	struct level *level = &export->levels[export->depth - 1];
	struct graph_edge edge = level->edges.edge[level->next++];
	char section = section_of(level, &edge);
	bool pair = edge.kind == GRAPH_ENTRY;

	if (section != level->section) {
		close_section(export, level);
		if (section)
			open_section(export, level, section);
	}
	if (!pair) {
		export_put(export, level->comma ? "," : "");
		if (!level->one_line)
			export_new_line(export,
					level->indent + (level->section && level->close != ']'));
		else if (level->comma)
			export_put(export, " ");
	} else {
		export_put(export, ", ");
	}
	level->comma = true;
	switch ((enum graph_edge_kind)edge.kind) {
	case GRAPH_PROPERTY:
	case GRAPH_VARIABLE:
		export_put_key(export, edge.name);
		break;
	case GRAPH_GETTER:
	case GRAPH_SETTER:
		export_put_key(export, edge.name);
		fprintf(export->to, "{\"$type\": \"%s\"}", edge.text);
		return;
	case GRAPH_INTERNAL:
		put_internal_key(export, edge.text);
		break;
	case GRAPH_KEY:
		export_put(export, level->pairs ? "[" : "");
		break;
	default:
		break;
	}
	put_value(export, graph_follow(export->graph, edge.to), &edge);
}

/* Behind a Map's key stands its value, behind that the bracket. */
static void after_value(struct export *export)
{
	const struct level *level = &export->levels[export->depth - 1];
	const struct graph_edge *edge = level->edges.edge + level->next;

	if (!level->next || level->section != 'e' || !level->pairs)
		return;
	if (edge[-1].kind == GRAPH_KEY && level->next < level->edges.count &&
	    edge->kind == GRAPH_ENTRY)
		return;
	export_put(export, "]");
}

static void end(struct export *export)
{
	struct level level = export->levels[export->depth - 1];

	close_section(export, &level);
	if (level.edges.more) {
		export_put(export, level.comma ? "," : "");
		export_new_line(export, level.indent);
		fprintf(export->to, level.close == ']' ? "{\"$more\": %llu}" : "\"$more\": %llu",
			(unsigned long long)level.edges.more);
	}
	export->depth--;
	if ((level.edges.count || level.edges.more) && !level.one_line)
		export_new_line(export, level.indent - 1);
	putc(level.close, export->to);
	free(level.edges.edge);
}

/* A value with all that is below it. */
static void put_tree(struct export *export, struct graph_value value, const struct graph_edge *edge)
{
	put_value(export, value, edge);
	while (export->depth && !export->failed && !graph_failed(export->graph, NULL)) {
		struct level *level = &export->levels[export->depth - 1];
		size_t depth = export->depth;

		if (level->next < level->edges.count) {
			put_next(export);
			if (export->depth == depth)
				after_value(export);
		} else {
			end(export);
			if (export->depth)
				after_value(export);
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

static struct graph_value module_at(struct export *export, uint32_t index)
{
	struct find_module find = {index, {GRAPH_OTHER, 0}};

	graph_edges(export->graph, (struct graph_value){GRAPH_ROOT, GRAPH_ROOT_MODULES},
		    find_module, &find);
	return find.module;
}

/* The names that `edges` has, with their values, at one more than the document's indent. */
static void put_names(struct export *export, const struct edges *edges, size_t indent)
{
	bool comma = false;

	for (size_t i = 0; i < edges->count && !export->failed; i++) {
		const struct graph_edge *edge = &edges->edge[i];

		export_put(export, comma ? "," : "");
		export_new_line(export, indent);
		comma = true;
		export_put_key(export, edge->name);
		if (edge->kind == GRAPH_GETTER || edge->kind == GRAPH_SETTER)
			fprintf(export->to, "{\"$type\": \"%s\"}", edge->text);
		else
			put_tree(export, graph_follow(export->graph, edge->to), edge);
	}
	if (edges->more) {
		export_put(export, comma ? "," : "");
		export_new_line(export, indent);
		fprintf(export->to, "\"$more\": %llu", (unsigned long long)edges->more);
	}
	if (edges->count || edges->more)
		export_new_line(export, indent - 1);
}

struct variables {
	struct export *export;
	struct edges edges;
	bool declared; /* it has variables of its own: exports are among them */
};

static int collect_variable(void *arg, const struct graph_edge *edge)
{
	struct variables *variables = arg;
	struct graph_edge variable = *edge;

	if (edge->kind == GRAPH_VARIABLE)
		variables->declared = true;
	else if (edge->kind == GRAPH_IMPORT && variables->export->options.all)
		variable.kind = GRAPH_VARIABLE;
	else if (edge->kind != GRAPH_PROPERTY || variables->declared)
		return 0;
	else
		variable.kind = GRAPH_VARIABLE;
	return keep(variables->export, &variables->edges, &variable);
}

static int put_module(void *arg, const struct graph_edge *edge)
{
	struct export *export = arg;
	struct variables variables = {.export = export};
	const char *fallback;

	if (!export->options.all && !inspection_is_program_module(export->graph, edge->to))
		return 0;
	graph_edges(export->graph, edge->to, collect_variable, &variables);
	export_put(export, export->module == EXPORT_NONE ? "" : ",");
	export->module = edge->name;
	export_new_line(export, 2);
	export_put_quoted(export, graph_text(export->graph,
					     graph_name(export->graph, edge->to, &fallback), 4096));
	export_put(export, ": {");
	export_new_line(export, 3);
	export_put(export, "\"variables\": {");
	put_names(export, &variables.edges, 4);
	export_put(export, "}");
	export_new_line(export, 2);
	export_put(export, "}");
	free(variables.edges.edge);
	return export->failed;
}

static int keep_frame(void *arg, const struct graph_edge *edge)
{
	struct variables *variables = arg;

	if (edge->kind != GRAPH_VARIABLE && edge->kind != GRAPH_INTERNAL)
		return 0;
	return keep(variables->export, &variables->edges, edge);
}

/* A generation that was taken in the middle of a turn: the functions that run, innermost first. */
static void put_running(struct export *export)
{
	struct variables variables = {.export = export};
	size_t next;

	graph_edges(export->graph, (struct graph_value){GRAPH_ROOT, GRAPH_ROOT_STACK}, keep_frame,
		    &variables);
	if (!variables.edges.count)
		return;
	export_put(export, ",\n  \"running\": [");
	for (size_t i = 0; i < variables.edges.count && !export->failed; i = next) {
		struct edges frame = {.edge = variables.edges.edge + i + 1};

		for (next = i + 1; next < variables.edges.count &&
				   variables.edges.edge[next].kind == GRAPH_VARIABLE;
		     next++)
			frame.count++;
		export_put(export, i ? "," : "");
		export_new_line(export, 2);
		export_put(export, "{\"$type\": \"call\"");
		export_put_function(export, variables.edges.edge[i].to);
		export_put(export, ", \"variables\": {");
		export->frame++; /* the first one's number is 0 */
		put_names(export, &frame, 3);
		export_put(export, "}}");
	}
	export_new_line(export, 1);
	export_put(export, "]");
	free(variables.edges.edge);
}

static void put_document(struct export *export)
{
	struct edges edges = {0};

	export_put(export, "{\n  \"image\": ");
	json_text(&(struct json){.to = export->to}, NULL, export->inspection->path);
	fprintf(export->to, ",\n  \"generation\": %llu,\n  \"globals\": {",
		(unsigned long long)export->inspection->generation);
	export->module = export->frame = EXPORT_NONE;
	collect(export, graph_global(export->graph), true, &edges);
	/* A script's let, const and class stand beside them. */
	collect(export, graph_global_variables(export->graph), true, &edges);
	put_names(export, &edges, 2);
	free(edges.edge);
	export_put(export, "},\n  \"modules\": {");
	graph_edges(export->graph, (struct graph_value){GRAPH_ROOT, GRAPH_ROOT_MODULES}, put_module,
		    export);
	if (export->module != EXPORT_NONE)
		export_new_line(export, 1);
	export_put(export, "}");
	put_running(export);
	export_put(export, "\n}\n");
}

int export_json_write(struct inspection *inspection, const struct export_json_options *options,
		      FILE *to, struct thaw_error *error)
{
	struct export export = {.inspection = inspection,
				.graph = inspection->graph,
				.to = to,
				.options = *options};
	int code;

	if (!export.options.depth)
		export.options.depth = DEPTH_DEFAULT;
	if (!export.options.limit)
		export.options.limit = LIMIT_DEFAULT;
	graph_begin(inspection->graph);
	put_document(&export);
	code = graph_failed(inspection->graph, error);
	if (!code && export.failed)
		code = failure(error, -ENOMEM, "%s: not enough memory to export it",
			       inspection->path);
	while (export.depth)
		free(export.levels[--export.depth].edges.edge);
	free(export.levels);
	free(export.met);
	number_map_free(&export.met_numbers);
	free(export.text.s);
	return code;
}
