// SPDX-License-Identifier: MIT
/*
 * export_json_path.c - which objects were written already, and by which path one gets to them: what
 * is met again is written as {"$ref": "path"}. Part of export_json.c. One thread.
 */
#include <stdlib.h>
#include <string.h>

#include "base/array.h"
#include "export_json_state.h"

#define PATH_PARTS 100u

uint32_t export_json_find(const struct exporter *exporter, uint32_t address)
{
	return number_map_find(&exporter->met_numbers, address);
}

uint32_t export_json_met(struct exporter *exporter, uint32_t address, const struct met *met)
{
	uint32_t number = number_map_add(&exporter->met_numbers, address);
	struct met *grown = NULL;

	if (number != NUMBER_NONE)
		grown = array_grow(exporter->met, number, &exporter->met_room, sizeof(*grown));
	if (!grown) {
		exporter->failed = true;
		return EXPORT_NONE;
	}
	exporter->met = grown;
	exporter->met[number] = *met;
	return number;
}

static void add_step(struct exporter *exporter, struct text_buffer *path, const struct met *met)
{
	switch ((enum graph_edge_kind)met->kind) {
	case GRAPH_PROPERTY:
	case GRAPH_VARIABLE:
		describe_property(path, exporter->graph, met->name);
		break;
	case GRAPH_ELEMENT:
		text_buffer_printf(path, "[%u]", met->name);
		break;
	case GRAPH_KEY:
		text_buffer_printf(path, ".entries[%u][0]", met->name);
		break;
	case GRAPH_ENTRY:
		text_buffer_printf(path, ".entries[%u][1]", met->name);
		break;
	case GRAPH_SLOT:
		text_buffer_printf(path, ".arguments[%u]", met->name);
		break;
	default: /* the name without its parentheses */
		text_buffer_printf(path, ".%.*s",
				   (int)strlen(met->text) - 2 * (met->text[0] == '('),
				   met->text + (met->text[0] == '('));
		break;
	}
}

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

static struct graph_value module_at(struct exporter *exporter, uint32_t index)
{
	struct find_module find = {index, {GRAPH_OTHER, 0}};

	graph_edges(exporter->graph, (struct graph_value){GRAPH_ROOT, GRAPH_ROOT_MODULES},
		    find_module, &find);
	return find.module;
}

/* The start of a path: the part of the document that has the first object. */
static void add_start(struct exporter *exporter, struct text_buffer *path, const struct met *first)
{
	const char *fallback;
	struct graph_value module;
	struct graph_text name;

	if (first->frame != EXPORT_NONE) {
		text_buffer_printf(path, "running[%u].variables", first->frame);
		return;
	}
	if (first->module == EXPORT_NONE) {
		text_buffer_add(path, "globals");
		return;
	}
	module = module_at(exporter, first->module);
	name = graph_text(exporter->graph, graph_name(exporter->graph, module, &fallback), 4096);
	text_buffer_add(path, "modules[\"");
	text_buffer_add_units(path, name.units, name.count);
	text_buffer_add(path, "\"].variables");
	free(name.units);
}

void export_json_put_reference(struct exporter *exporter, uint32_t index)
{
	struct text_buffer path = {0};
	uint32_t parts[PATH_PARTS];
	unsigned count = 0;
	bool whole = false;

	while (count < PATH_PARTS && !whole) {
		parts[count++] = index;
		whole = exporter->met[index].from == EXPORT_NONE;
		index = exporter->met[index].from;
	}
	if (whole)
		add_start(exporter, &path, &exporter->met[parts[count - 1]]);
	else
		text_buffer_add(&path, "...");
	while (count)
		add_step(exporter, &path, &exporter->met[parts[--count]]);
	json_open(&exporter->json, NULL, '{');
	json_text(&exporter->json, "$ref", path.s ? path.s : "");
	json_close(&exporter->json, '}');
	exporter->failed = exporter->failed || path.failed;
	free(path.s);
}
