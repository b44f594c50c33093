// SPDX-License-Identifier: MIT
/*
 * export_json_object.c - an object and all that it leads to, as JSON. Part of export_json.c. One
 * thread.
 *
 * The walk goes depth first, with a stack in the host's memory: a heap may nest objects deeper than
 * the C stack would bear.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/array.h"
#include "export_json_state.h"

#define TEXT_REPEATED 64u /* a longer text is written once, and then referred to */

/* ---- What an object shows */

struct collect {
	struct exporter *exporter;
	struct edges *edges;
	unsigned class_id;
	bool global;
};

/* Does an object of that class show what this edge leads to? */
static bool is_shown(const struct collect *collect, const struct graph_edge *edge)
{
	const struct exporter *exporter = collect->exporter;

	switch ((enum graph_edge_kind)edge->kind) {
	case GRAPH_PROPERTY:
	case GRAPH_GETTER:
	case GRAPH_SETTER:
		if (collect->global)
			return exporter->options.all ||
			       !inspection_is_builtin(exporter->graph, edge->name);
		return edge->enumerable || exporter->options.all;
	case GRAPH_ELEMENT:
	case GRAPH_KEY:
	case GRAPH_ENTRY:
		return true;
	case GRAPH_VARIABLE:
		return collect->class_id == CLASS_GENERATOR ||
		       collect->class_id == CLASS_ASYNC_GENERATOR || exporter->options.all;
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

int export_json_keep(struct exporter *exporter, struct edges *edges, const struct graph_edge *edge)
{
	const struct graph_edge *last = edges->count ? &edges->edge[edges->count - 1] : NULL;
	bool value = edge->kind == GRAPH_ENTRY;
	struct graph_edge *grown;

	if (value && !(last && last->kind == GRAPH_KEY && last->name == edge->name))
		return 0;
	if (!value && edges->count >= exporter->options.limit) {
		edges->more++;
		return 0;
	}
	grown = array_grow(edges->edge, edges->count, &edges->room, sizeof(*grown));
	if (!grown) {
		exporter->failed = true;
		return -ENOMEM;
	}
	edges->edge = grown;
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
	return export_json_keep(collect->exporter, edges, &kept);
}

void export_json_collect(struct exporter *exporter, struct graph_value value, bool global,
			 struct edges *edges)
{
	struct collect collect = {.exporter = exporter,
				  .edges = edges,
				  .class_id = graph_class(exporter->graph, value),
				  .global = global};

	graph_edges(exporter->graph, value, collect_edge, &collect);
}

/* ---- Objects */

static bool is_list(unsigned class_id)
{
	return class_id == CLASS_ARRAY || class_id == CLASS_ARGUMENTS ||
	       class_id == CLASS_MAPPED_ARGUMENTS;
}

/* Only elements, all of them: it can be a JSON array. */
static bool is_plain_array(struct exporter *exporter, struct graph_value value,
			   const struct edges *edges)
{
	if (graph_class(exporter->graph, value) != CLASS_ARRAY ||
	    !graph_is_dense(exporter->graph, value))
		return false;
	for (size_t i = 0; i < edges->count; i++)
		if (edges->edge[i].kind != GRAPH_ELEMENT)
			return false;
	return true;
}

static bool is_plain_object(struct exporter *exporter, struct graph_value value)
{
	const char *fallback;
	struct graph_value proto, name;
	struct graph_text text;
	bool plain;

	if (graph_class(exporter->graph, value) != CLASS_OBJECT)
		return false;
	proto = graph_proto(exporter->graph, value);
	if (proto.kind != GRAPH_OBJECT)
		return true;
	name = graph_name(exporter->graph, value, &fallback);
	text = graph_text(exporter->graph, name, 7);
	plain = text.total == 6 && !memcmp(text.units, u"Object", 12);
	free(text.units);
	return plain;
}

/* Few values, and none that takes several lines. */
static bool fits_one_line(const struct edges *edges)
{
	if (edges->count > 16 || edges->more)
		return false;
	for (size_t i = 0; i < edges->count; i++)
		if (graph_in_heap(edges->edge[i].to) && edges->edge[i].to.kind != GRAPH_STRING)
			return false;
	return true;
}

static bool too_deep(const struct exporter *exporter)
{
	return exporter->depth >= exporter->options.depth;
}

/* The path to what is written next: from the innermost object over this edge. */
static struct met way_to(const struct exporter *exporter, const struct graph_edge *edge)
{
	return (struct met){
		.from = exporter->depth ? exporter->levels[exporter->depth - 1].met : EXPORT_NONE,
		.name = edge->name,
		.kind = edge->kind,
		.text = edge->text,
		.module = exporter->module,
		.frame = exporter->frame,
	};
}

/* Open an object. One that was met already, or is too deep, is written whole. */
static void begin(struct exporter *exporter, struct graph_value value,
		  const struct graph_edge *edge)
{
	struct met met = way_to(exporter, edge);
	unsigned class_id = graph_class(exporter->graph, value);
	uint32_t index = export_json_find(exporter, (uint32_t)value.bits);
	struct level level = {.value = value}, *grown;
	struct json *json = &exporter->json;

	if (index != EXPORT_NONE) {
		export_json_put_reference(exporter, index);
		return;
	}
	if (too_deep(exporter)) {
		json_open(json, NULL, '{');
		json_text(json, "$cut", "depth");
		export_json_put_type(exporter, value);
		json_close(json, '}');
		return;
	}
	level.met = export_json_met(exporter, (uint32_t)value.bits, &met);
	export_json_collect(exporter, value, false, &level.edges);
	grown = array_grow(exporter->levels, exporter->depth, &exporter->levels_room,
			   sizeof(*grown));
	if (grown)
		exporter->levels = grown;
	else
		exporter->failed = true;
	if (exporter->failed) {
		free(level.edges.edge);
		return;
	}
	level.close = '}';
	level.pairs = class_id == CLASS_MAP || class_id == CLASS_WEAK_MAP;
	if (is_plain_array(exporter, value, &level.edges)) {
		json_open(json, NULL, '[');
		level.close = ']';
		level.section = 'a';
		level.one_line = fits_one_line(&level.edges);
	} else {
		json_open(json, NULL, '{');
		level.plain = class_id == CLASS_OBJECT || class_id == CLASS_NAMESPACE;
		if (!is_plain_object(exporter, value)) {
			export_json_put_type(exporter, value);
			export_json_put_special(exporter, value, class_id);
			if (is_list(class_id)) {
				struct graph_value length =
					graph_array_length(exporter->graph, value);

				json_name(json, "length");
				export_json_put_primitive(exporter, length);
			}
		}
	}
	level.indent = json->indent + 1;
	exporter->levels[exporter->depth++] = level;
}

/* The part of an object that an edge belongs to: a elements, e entries, v variables, w arguments,
 * p properties; 0: it is a member of the object itself. */
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

static void close_section(struct exporter *exporter, struct level *level)
{
	if (!level->section || level->close == ']')
		return;
	json_line(&exporter->json, level->indent);
	json_close(&exporter->json, level->section == 'v' || level->section == 'p' ? '}' : ']');
	level->section = 0;
}

static void open_section(struct exporter *exporter, struct level *level, char section)
{
	struct json *json = &exporter->json;

	json_line(json, level->indent);
	switch (section) {
	case 'a':
		json_open(json, "elements", '[');
		break;
	case 'e':
		json_open(json, level->pairs ? "entries" : "values", '[');
		break;
	case 'v':
		json_open(json, "variables", '{');
		break;
	case 'w':
		json_open(json, "arguments", '[');
		break;
	default:
		json_open(json, "properties", '{');
		break;
	}
	level->section = section;
}

static void put_value(struct exporter *exporter, struct graph_value value,
		      const struct graph_edge *edge)
{
	bool text = value.kind == GRAPH_STRING || value.kind == GRAPH_ROPE;
	struct met met;
	uint32_t index;

	if (value.kind == GRAPH_OBJECT) {
		begin(exporter, value, edge);
		return;
	}
	if (text && graph_length(exporter->graph, value) > TEXT_REPEATED) {
		index = export_json_find(exporter, (uint32_t)value.bits);
		if (index != EXPORT_NONE) {
			export_json_put_reference(exporter, index);
			return;
		}
		met = way_to(exporter, edge);
		export_json_met(exporter, (uint32_t)value.bits, &met);
	}
	export_json_put_primitive(exporter, value);
}

/* The name without its parentheses. */
static void put_internal_name(struct exporter *exporter, const char *text)
{
	bool bracketed = text[0] == '(';
	char name[64];

	snprintf(name, sizeof(name), "%.*s", (int)strlen(text) - 2 * bracketed, text + bracketed);
	json_name(&exporter->json, name);
}

/* Write the next edge of the innermost object. */
static void put_next(struct exporter *exporter)
{
	struct level *level = &exporter->levels[exporter->depth - 1];
	struct graph_edge edge = level->edges.edge[level->next++];
	struct json *json = &exporter->json;
	char section = section_of(level, &edge);

	if (section != level->section) {
		close_section(exporter, level);
		if (section)
			open_section(exporter, level, section);
	}
	/* A Map's value stands on the line of its key. */
	if (!level->one_line && edge.kind != GRAPH_ENTRY)
		json_line(json, level->indent + (level->section && level->close != ']'));
	switch ((enum graph_edge_kind)edge.kind) {
	case GRAPH_PROPERTY:
	case GRAPH_VARIABLE:
		export_json_put_name(exporter, edge.name);
		break;
	case GRAPH_GETTER:
	case GRAPH_SETTER:
		export_json_put_name(exporter, edge.name);
		export_json_put_accessor(exporter, edge.text);
		return;
	case GRAPH_INTERNAL:
		put_internal_name(exporter, edge.text);
		break;
	case GRAPH_KEY:
		if (level->pairs)
			json_open(json, NULL, '[');
		break;
	default:
		break;
	}
	put_value(exporter, graph_follow(exporter->graph, edge.to), &edge);
}

/* An entry of a Map is [key, value]: close the bracket after the value. */
static void after_value(struct exporter *exporter)
{
	const struct level *level = &exporter->levels[exporter->depth - 1];
	const struct graph_edge *edge = level->edges.edge + level->next;

	if (!level->next || level->section != 'e' || !level->pairs)
		return;
	if (edge[-1].kind == GRAPH_KEY && level->next < level->edges.count &&
	    edge->kind == GRAPH_ENTRY)
		return;
	json_close(&exporter->json, ']');
}

static void end(struct exporter *exporter)
{
	struct level level = exporter->levels[exporter->depth - 1];
	struct json *json = &exporter->json;

	close_section(exporter, &level);
	if (level.edges.more) {
		json_line(json, level.indent);
		if (level.close == ']')
			json_open(json, NULL, '{');
		json_number(json, "$more", level.edges.more);
		if (level.close == ']')
			json_close(json, '}');
	}
	exporter->depth--;
	if ((level.edges.count || level.edges.more) && !level.one_line)
		json_line(json, level.indent - 1);
	json_close(json, level.close);
	free(level.edges.edge);
}

void export_json_put_tree(struct exporter *exporter, struct graph_value value,
			  const struct graph_edge *edge)
{
	put_value(exporter, value, edge);
	while (exporter->depth && !exporter->failed && !graph_failed(exporter->graph, NULL)) {
		struct level *level = &exporter->levels[exporter->depth - 1];
		size_t depth = exporter->depth;

		if (level->next < level->edges.count) {
			put_next(exporter);
			if (exporter->depth == depth)
				after_value(exporter);
		} else {
			end(exporter);
			if (exporter->depth)
				after_value(exporter);
		}
	}
}
